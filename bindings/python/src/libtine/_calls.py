"""Several calls of one function, in chunks or one by one, and who collects what comes of them."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, TimeoutError
from typing import Any, Protocol

from . import _codec, _native, errors
from ._engine import Detail, Engine, Failed, pickled, read, read_answer


class Job(Protocol):
    """Whoever collects the results of calls; they are numbered from 0."""

    def take(self, start: int, values: Sequence[Any], failed: bool, size: int = 0) -> None:
        """Values of calls from start on; with failed, some may be Failed. On the engine's thread, or the caller's.

        size: how many bytes the messages had that say so.
        """


class Calls:
    """How a function is called for items: one by one, or a chunk at a time."""

    def __init__(self, engine: Engine, function: Callable[..., Any], star: bool, job: Job) -> None:
        self.engine, self.function, self.star, self.job = engine, function, star, job
        self.reference: bytes | None = None
        self.broken: BaseException | None = None
        self.under_way: set[_One | _Chunk] = set()
        try:
            self.reference = _codec.reference(function)
        except Exception as error:
            self.broken = errors.with_note(
                error, f"the call cannot be sent: {_codec.find_unpicklable(function, 'fn') or error}"
            )

    def submit(self, start: int, items: list[Any]) -> None:
        """Sends calls, as one task if it can be. What cannot be sent has failed when this returns."""
        message = self._message_of_chunk(items)
        if message is not None:
            self._submit(message, _Chunk(self, start, items), len(items))
            return
        for index, item in enumerate(items, start):
            failure = self._submit_one(index, item)
            if failure is not None:
                self.job.take(index, [failure], True)

    def send(self, start: int, items: list[Any]) -> bool:
        """As submit, but it raises nothing: calls that the pool does not take have failed, too. Whether it took all."""
        try:
            message = self._message_of_chunk(items)
            if message is not None:
                self._submit(message, _Chunk(self, start, items), len(items))
                return True
        except BaseException as error:
            self.job.take(start, [_not_taken(error)] * len(items), True)
            return False
        taken = True
        for index, item in enumerate(items, start):
            try:
                failure = self._submit_one(index, item)
            except BaseException as error:
                failure, taken = _not_taken(error), False
            if failure is not None:
                self.job.take(index, [failure], True)
        return taken

    def send_again(self, start: int, items: list[Any]) -> None:
        """As send, of what has not begun though it was under way."""
        if self.engine.no_more:
            self.job.take(start, [Failed(CancelledError())] * len(items), True)
        else:
            self.send(start, items)

    def cancel(self) -> None:
        """Those that have not begun never do."""
        pool = self.engine.pool
        for token in list(self.under_way):
            task = token.task
            if task is not None and not pool.has_begun(task[1]):
                self.engine.cancel(task[0])

    def _submit(self, message: list[_codec.Part], token: _One | _Chunk, count: int) -> None:
        self.under_way.add(token)  # before it can settle, which takes it out
        try:
            token.task = self.engine.submit(message, token, count=count)
        except BaseException:
            self.under_way.discard(token)
            raise

    def _message_of_chunk(self, items: list[Any]) -> list[_codec.Part] | None:
        """None: one by one."""
        if len(items) == 1 or self.engine.single or self.reference is None:
            return None
        plain = _native.encode_chunk(self.reference, items, self.star, True)
        if plain is not None:
            return [plain]
        try:
            body = pickled(items)
        except Exception:
            return None  # which one it is, each of them says for itself
        head = _native.encode_chunk(self.reference, items, self.star, False)
        assert head is not None
        return [head, *body]

    def _submit_one(self, index: int, item: Any) -> Failed | None:
        """Why the call cannot be sent, if it cannot. Raises what the pool says."""
        if self.broken is not None:
            return Failed(self.broken)
        message: list[_codec.Part]
        try:
            args = tuple(item) if self.star else (item,)
            plain = None if self.reference is None else _native.encode_call(self.reference, args)
            message = [plain] if plain is not None else pickled((self.function, args, {}))
        except Exception as error:
            where = None if self.star and not isinstance(item, tuple) else _codec.find_unpicklable(args, "args")
            return Failed(errors.with_note(error, f"the call cannot be sent: {where}") if where else error)
        self._submit(message, _One(self, index), 0)
        return None


def _not_taken(error: BaseException) -> Failed:
    """By the pool, which has raised the error."""
    if isinstance(error, _native.NativeError):
        return Failed(errors.of_status(error.args[0], str(error.args[2]), 0, None))
    return Failed(error)


class _One:
    """The token of one call of several."""

    __slots__ = ("calls", "index", "task", "told")

    task: tuple[int, int] | None

    def __init__(self, calls: Calls, index: int) -> None:
        self.calls, self.index, self.told, self.task = calls, index, False, None

    def settle(self, status: int, value: Any, odd: Any, detail: Detail, begun: int, size: int) -> None:
        self.calls.under_way.discard(self)
        outcome = value if odd is None and detail is None else read_answer(status, value, odd, detail)
        self._tell(outcome, size)

    def fail(self, error: BaseException) -> None:
        if not self.told:
            self._tell(Failed(error))

    def _tell(self, outcome: Any, size: int = 0) -> None:
        self.calls.job.take(self.index, (outcome,), type(outcome) is Failed, size)
        self.told = True


class _Chunk:
    """The token of a chunk. When its worker has died, the call that it died in has failed; those behind go again."""

    __slots__ = ("calls", "items", "start", "task", "told")

    task: tuple[int, int] | None

    def __init__(self, calls: Calls, start: int, items: list[Any]) -> None:
        self.calls, self.start, self.items, self.task = calls, start, items, None
        self.told = 0  # of how many of them it is decided what becomes of them

    def settle(self, status: int, values: Any, odd: Any, detail: Detail, begun: int, size: int) -> None:
        self.calls.under_way.discard(self)
        failed = bool(odd)
        for index, raised, message in odd:
            values[index] = read(raised, message)
        done, count = len(values), len(self.items)
        again: list[list[Any]] = []
        if done < count:
            failed = True
            error: BaseException
            if detail is None:
                error = errors.TineError(_native.EDIED, "TINE_EDIED", "the worker has overwritten its results")
            else:
                error = errors.of_status(status, *detail)
            if not isinstance(error, errors.WorkerDied):
                values += [Failed(error)] * (count - done)
            elif begun > done or count == 1:
                values.append(Failed(error))
                again = [self.items[done + 1 :]]
            else:  # it died between two calls, or while it read them: one by one, whoever kills is found
                again = [[item] for item in self.items[done:]]
        if values:
            self._tell(values, failed, size)
        for items in again:
            if items:
                at, self.told = self.told, self.told + len(items)
                self.calls.send_again(self.start + at, items)

    def fail(self, error: BaseException) -> None:
        left = len(self.items) - self.told
        if left > 0:
            self._tell([Failed(error)] * left, True)

    def _tell(self, values: Sequence[Any], failed: bool, size: int = 0) -> None:
        self.calls.job.take(self.start + self.told, values, failed, size)
        self.told += len(values)


class Results:
    """Collects results of calls for somebody who takes them in order, or as they come.

    Who waits for one puts himself down, looks once more, and then takes a wake-up from a queue. So one that comes after
    the look is not lost, even where a signal's handler, or garbage collection, ends the pool at that very place. There
    may be more wake-ups than threads that wait, but never fewer.
    """

    def __init__(self, ordered: bool) -> None:
        self.ordered = ordered
        self.taken = 0  # how many have been taken
        self._early: dict[int, Sequence[Any]] = {}  # what has come before its turn, by its start
        self._ready: deque[Any] = deque()  # what is to be taken next
        self._next = 0  # the number of the first result that is in neither
        self._waiting = 0  # how many threads are to be woken
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        # Of the kind that may be entered again. A `with` of its own, not a condition's: between a condition's code in
        # Python and the block an interruption would leave it taken for ever.
        self._lock = threading.RLock()

    def take(self, start: int, values: Sequence[Any], failed: bool, size: int = 0) -> None:
        with self._lock:
            if self.ordered and start != self._next:
                self._early[start] = values
                return
            self._ready.extend(values)
            if self.ordered:
                self._next += len(values)
                while (more := self._early.pop(self._next, None)) is not None:
                    self._ready.extend(more)
                    self._next += len(more)
            self._wake_all()

    def next(self, end: float | None) -> Any:
        """The next result: a value or Failed. Raises TimeoutError when time.monotonic() reaches end."""
        ready = self._ready
        while True:
            try:
                value = ready.popleft()
            except IndexError:
                self._wait(end)
            else:
                self.taken += 1
                return value

    def _wake_all(self) -> None:
        """With the lock. An interruption between the two leaves a wake-up too many."""
        while self._waiting > 0:
            self._wake.put(None)
            self._waiting -= 1

    def _is_worth_a_look(self) -> bool:
        return bool(self._ready)

    def _wait(self, end: float | None) -> None:
        """Until there may be something for next(). Raises TimeoutError as that does."""
        left = None if end is None else end - time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError
        with self._lock:
            self._waiting += 1
        if not self._is_worth_a_look():
            try:
                self._wake.get(timeout=left)
                return
            except queue.Empty:
                pass
        with self._lock:
            if self._waiting:
                self._waiting -= 1
            else:  # there is a wake-up for this thread
                with contextlib.suppress(queue.Empty):
                    self._wake.get_nowait()
