"""A pool, and the thread that hands out what comes of its calls. What executors and Pool have in common."""

from __future__ import annotations

import contextlib
import os
import queue
import signal as signals
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, TimeoutError
from multiprocessing import spawn
from typing import TYPE_CHECKING, Any, Optional, Protocol

from . import _codec, _native, _travel, _worker, errors
from ._timeout import FOREVER_NS, finite

if TYPE_CHECKING:
    from .faults import Faults

START_METHODS = {"forkserver": _native.FORKSERVER, "spawn": _native.SPAWN}

ENGINES = {"local": _native.ENGINE_LOCAL, "mpi": _native.ENGINE_MPI, "mpi-or-local": _native.ENGINE_MPI_OR_LOCAL}

Detail = Optional[tuple[str, int, Optional[errors.Death]]]


def ns(seconds: float | None) -> int:
    """0 says that there is no limit."""
    limit = finite(seconds, "time limit")
    return 0 if limit is None else max(int(limit * 1e9), 1)


def pickled(value: object) -> list[_codec.Part]:
    """The message of a call. Who submits it next in this thread keeps the shared memory in it until it has settled."""
    with _travel.keeping():
        return _codec.dumps(value)


class Failed:
    """In place of a value: why there is none."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Token(Protocol):
    """What goes with a call, and is told what came of it."""

    def settle(self, status: int, value: Any, odd: Any, detail: Detail, begun: int) -> None: ...

    def fail(self, error: BaseException) -> None:
        """settle has raised the error: whatever it has not settled has failed with it."""


def start_method(context: Any) -> str:
    """The start method that a context of multiprocessing's, libtine's, or a string asks for."""
    method = context if context is None or isinstance(context, str) else context.get_start_method()
    if method == "fork":
        raise ValueError(
            "start method fork: a forked interpreter has locks of threads that it has not; use forkserver, with preload"
        )
    if method is not None and method not in START_METHODS:
        raise ValueError(f"start method {method!r}: it is forkserver or spawn")
    return method or "forkserver"


def engine_named(name: str | None) -> str:
    """Where the workers are to be: as it is said, else as the environment says."""
    name = name or os.environ.get("TINE_ENGINE") or "local"
    if name not in ENGINES:
        raise ValueError(f"engine {name!r}: it is local, mpi or mpi-or-local")
    return name


_starting_nodes = threading.Lock()


def _start_nodes(engine: str) -> None:
    """Becomes rank 0 of the MPI job, if there is one, or a node, which never comes back from here.

    tine loads its library for MPI where the environment asks for that. Other pools are to find there what the user has
    said.
    """
    with _starting_nodes:
        said = os.environ.get("TINE_ENGINE")
        os.environ["TINE_ENGINE"] = engine
        try:
            _native.start_nodes()
        finally:
            if said is None:
                del os.environ["TINE_ENGINE"]
            else:
                os.environ["TINE_ENGINE"] = said


class WorkerProcess:
    """A worker, as multiprocessing shows its processes."""

    def __init__(self, pid: int, method: str) -> None:
        self.pid = pid
        self.name = f"{method.capitalize()}PoolWorker-{pid}"
        self.daemon = True
        try:
            self._fd = os.pidfd_open(pid)
        except OSError:
            self._fd = -1

    @property
    def ident(self) -> int:
        return self.pid

    @property
    def sentinel(self) -> int:
        return self._fd

    def is_alive(self) -> bool:
        return self._fd >= 0 and not _readable(self._fd, 0)

    def join(self, timeout: float | None = None) -> None:
        if self._fd >= 0:
            _readable(self._fd, timeout)

    def _kill(self, number: int) -> None:
        if self._fd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signals.pidfd_send_signal(self._fd, number)

    def terminate(self) -> None:
        self._kill(signals.SIGTERM)

    def kill(self) -> None:
        self._kill(signals.SIGKILL)

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def __repr__(self) -> str:
        state = "started" if self.is_alive() else "stopped"
        return f"<{type(self).__name__} name={self.name!r} pid={self.pid} parent={os.getpid()} {state} daemon>"


def _readable(fd: int, timeout: float | None) -> bool:
    import select

    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if timeout is None else max(timeout, 0) * 1000))


class Engine:
    """A pool and its thread. Whoever started it may go away: it ends when it was told to and all has settled."""

    def __init__(
        self,
        workers: int,
        method: str,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: Sequence[Any] = (),
        min_workers: int = 0,
        max_tasks: int = 0,
        deadline: float | None = None,
        grace: float | None = None,
        retries: int = 0,
        preload: Sequence[str] = (),
        faults: Faults | None = None,
        name: str = "libtine",
        engine: str | None = None,
    ) -> None:
        if _worker.importing_main:
            raise RuntimeError(
                "a pool is started while a worker imports the main module: what starts it belongs under "
                '`if __name__ == "__main__":`, or the functions that it calls into a module of their own'
            )
        flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        self.method = method
        self.retries = retries
        engine = engine_named(engine)
        if engine != "local":
            _start_nodes(engine)
        # Then each call of a chunk is a task of its own. What a chunk has come to is in memory that only this machine
        # has.
        self.single = bool(retries or deadline) or engine != "local"
        self.over = False
        self.no_more = False  # what has not begun never does, whatever its chunk has come to
        self._idle = False
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._kept: dict[Token, list[Any]] = {}  # shared memory that is in a call's arguments
        with _travel.keeping():
            initializer_input = _worker.initializer_data(initializer, initargs)
        self._kept_for_workers = _travel.take_kept()  # which may start as long as the engine is there
        self._processes: dict[int, WorkerProcess] = {}
        self.pool = _native.Pool(
            workers,
            START_METHODS[method],
            os.fsencode(spawn.get_executable()),
            [*flags, "-c", _worker.COMMAND, _worker.preparation_data(preload)],
            initializer_input=initializer_input,
            max_tasks_per_worker=max_tasks,
            grace_ns=ns(grace),
            deadline_ns=ns(deadline),
            min_workers=min_workers,
            faults=faults.native() if faults else None,
            engine=ENGINES[engine],
        )
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        try:
            self.thread.start()
        except BaseException:
            self.pool.close()
            raise
        _engines.add(self)

    # ---- What is asked of it ----

    def submit(
        self, message: Sequence[_codec.Part], token: Token, deadline_ns: int = 0, count: int = 0
    ) -> tuple[int, int]:
        return self.submit_with(message, token, deadline_ns, self.retries, count)

    def submit_with(
        self, message: Sequence[_codec.Part], token: Token, deadline_ns: int, retries: int, count: int = 0
    ) -> tuple[int, int]:
        blocks = _travel.take_kept()
        if blocks is not None:
            self._kept[token] = blocks
        try:
            task = self.pool.submit(message, token, deadline_ns, retries, FOREVER_NS, count)
        except BaseException:
            self._kept.pop(token, None)
            raise
        if self._idle:
            self._idle = False
            self._wake.put(None)
        return task

    def finish(self) -> None:
        """Ends the pool when everything has settled."""
        self.over = True
        self._wake.put(None)

    def cancel(self, task: int) -> None:
        with contextlib.suppress(_native.NativeError):  # it has settled, or the pool is over
            self.pool.cancel(task)

    def cancel_queued(self) -> None:
        self.no_more = True
        with contextlib.suppress(_native.NativeError):
            self.pool.cancel_queued()

    def cancel_all(self) -> None:
        self.no_more = True
        with contextlib.suppress(_native.NativeError):
            self.pool.cancel_all()

    def processes(self) -> dict[int, WorkerProcess]:
        known = self._processes
        living = {pid: known.get(pid) or WorkerProcess(pid, self.method) for pid in self.pool.pids()}
        self._processes = living
        return living

    def join(self, timeout: float | None = None) -> None:
        if self.thread is not threading.current_thread():
            self.thread.join(timeout)

    # ---- Its thread ----

    def _run(self) -> None:
        results = self.pool.results
        while True:
            answers = results(FOREVER_NS)
            if answers:
                self._settle(answers)
                continue
            # Nothing is outstanding, or a signal came. Whoever submits from here on wakes this thread.
            self._idle = True
            answers = results(0)
            if not answers and not self.pool.outstanding():
                if self.over:
                    break
                self._wake.get()
            self._idle = False
            self._settle(answers)
        while not self.pool.shutdown(FOREVER_NS):
            pass
        self.pool.close()

    def _settle(self, answers: list[_native.Answer]) -> None:
        """Hands out what has come, and keeps nothing of it."""
        answers.reverse()
        while answers:
            token, *answer = answers.pop()
            try:
                token.settle(*answer)
            except BaseException as error:  # of a callback of the user's, say: this thread goes on
                report_in_thread()
                try:
                    token.fail(error)
                except BaseException:
                    report_in_thread()
            if self._kept:
                self._kept.pop(token, None)
            del token, answer


def report_in_thread() -> None:
    """Tells of the exception that is being handled, as of one that ends a thread."""
    threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


def _finish_all() -> None:
    """At the interpreter's end: what has been submitted still settles, as with concurrent.futures."""
    engines = list(_engines)
    for engine in engines:
        engine.finish()
    for engine in engines:
        engine.join()


threading._register_atexit(_finish_all)  # type: ignore[attr-defined]


def unwrap(outcome: Any) -> Any:
    """The value, or raises why there is none."""
    if type(outcome) is not Failed:
        return outcome
    try:
        raise outcome.error
    finally:
        del outcome  # the error's traceback has this frame


def read(raised: bool, message: Any) -> Any:
    """What a message, or a message and its input, holds: a value, or Failed."""
    try:
        value = _codec.loads(message[0], 0, message[1]) if type(message) is tuple else _codec.loads(message)
        return Failed(_worker.rebuild(*value)) if raised else value
    except BaseException as error:
        return Failed(errors.unreadable("the result", error))


def read_answer(status: int, value: Any, odd: Any, detail: Detail) -> Any:
    """What came of a single call: its value, or Failed."""
    if detail is None:
        return value if odd is None else read(odd, value)
    return Failed(errors.of_status(status, *detail))


# ---- Several calls of one function ----


class Job(Protocol):
    """Whoever collects the results of calls; they are numbered from 0."""

    def take(self, start: int, values: Sequence[Any], failed: bool) -> None:
        """Values of calls from start on; with failed, some may be Failed. On the engine's thread, or the caller's."""


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
        engine = self.engine
        if engine.no_more:
            self.job.take(start, [Failed(CancelledError())] * len(items), True)
            return
        self.send(start, items)
        if engine.no_more:  # since when? What was queued by then may have been cancelled before this was.
            engine.cancel_queued()

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

    def settle(self, status: int, value: Any, odd: Any, detail: Detail, begun: int) -> None:
        self.calls.under_way.discard(self)
        outcome = value if odd is None and detail is None else read_answer(status, value, odd, detail)
        self._tell(outcome)

    def fail(self, error: BaseException) -> None:
        if not self.told:
            self._tell(Failed(error))

    def _tell(self, outcome: Any) -> None:
        self.told = True
        self.calls.job.take(self.index, (outcome,), type(outcome) is Failed)


class _Chunk:
    """The token of a chunk. When its worker has died, the call that it died in has failed; those behind go again."""

    __slots__ = ("calls", "items", "start", "task", "told")

    task: tuple[int, int] | None

    def __init__(self, calls: Calls, start: int, items: list[Any]) -> None:
        self.calls, self.start, self.items, self.task = calls, start, items, None
        self.told = 0  # of how many of them it is decided what becomes of them

    def settle(self, status: int, values: Any, odd: Any, detail: Detail, begun: int) -> None:
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
            self._tell(values, failed)
        for items in again:
            if items:
                at, self.told = self.told, self.told + len(items)
                self.calls.send_again(self.start + at, items)

    def fail(self, error: BaseException) -> None:
        left = len(self.items) - self.told
        if left > 0:
            self._tell([Failed(error)] * left, True)

    def _tell(self, values: Sequence[Any], failed: bool) -> None:
        at, self.told = self.told, self.told + len(values)
        self.calls.job.take(self.start + at, values, failed)


class Results:
    """Collects results of calls for somebody who takes them in order, or as they come."""

    def __init__(self, ordered: bool) -> None:
        self.ordered = ordered
        self.taken = 0  # how many have been taken
        self._early: dict[int, Sequence[Any]] = {}  # what has come before its turn, by its start
        self._ready: deque[Any] = deque()  # what is to be taken next
        self._next = 0  # the number of the first result that is in neither
        self._waiting = 0  # how many threads
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)

    def take(self, start: int, values: Sequence[Any], failed: bool) -> None:
        with self._changed:
            if self.ordered and start != self._next:
                self._early[start] = values
                return
            self._ready.extend(values)
            if self.ordered:
                self._next += len(values)
                while (more := self._early.pop(self._next, None)) is not None:
                    self._ready.extend(more)
                    self._next += len(more)
            if self._waiting:
                self._changed.notify_all()

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

    def _wait(self, end: float | None) -> None:
        with self._changed:
            while not self._ready:
                self._wait_once(end)

    def _wait_once(self, end: float | None) -> None:
        left = None if end is None else end - time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError
        self._waiting += 1
        try:
            self._changed.wait(left)
        finally:
            self._waiting -= 1
