"""Pools whose workers are not Python, and what a process of Python's shares with other languages.

A host of Python's calls functions of C, C++, Go or another Python by their names: `Pool`. Hosts in these languages call
functions of Python's, which `libtine.export` names: `python -m libtine.worker`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from . import _native, _payload, errors
from ._engine import START_METHODS, ns
from ._foreign_process import Exit, Process, Segment, program_of
from ._placed import (
    Barrier,
    Condition,
    Event,
    Mutex,
    Once,
    Placed,
    Queue,
    RWLock,
    Semaphore,
    failure,
)
from ._settling import Settler
from ._timeout import timeout_ns

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Buffer, Self

    from .faults import Faults

__all__ = [
    "Barrier",
    "Call",
    "Condition",
    "Event",
    "Exit",
    "Failure",
    "Mutex",
    "Once",
    "Outcome",
    "Pool",
    "Process",
    "Queue",
    "RWLock",
    "Segment",
    "Semaphore",
    "Stream",
    "memory",
]

P = TypeVar("P", bound=Placed)


def memory(address: int, length: int) -> _native.Memory:
    """Bytes at an address that another language has sent, in the heap of a pool that this process belongs to."""
    return _native.shared_memory(address, length)


class Outcome(NamedTuple):
    """What came of a call, as tine has it."""

    status: int
    output: bytes
    message: str
    delivery: int
    death: errors.Death | None
    deaths: int


class Failure(NamedTuple):
    """Of an item of a map."""

    item: int
    status: int
    message: str


class Call(Future[Any]):
    """A standard Future. Its cancel also ends a call that runs."""

    def __init__(self, pool: _native.NamedPool, name: str, kind: str) -> None:
        super().__init__()
        self._pool, self._name, self._kind = pool, name, kind
        self._task = 0
        self._outcome: Outcome | None = None

    def cancel(self) -> bool:
        cancelled = super().cancel()
        if cancelled and self._task:
            with contextlib.suppress(errors.TineError):  # it has settled, or the pool is over
                self.end()
        return cancelled

    def end(self) -> None:
        """As cancel, but only the call's end sets the future. A call that has settled is an error, TINE_EID."""
        self._pool.cancel(self._task)

    def outcome(self, timeout: float | None = None) -> Outcome:
        """What tine says of the call, once it has settled: of a cancelled one, too, which may run until then."""
        with self._condition:
            if not self._condition.wait_for(lambda: self._outcome is not None, timeout):
                raise TimeoutError
        assert self._outcome is not None
        return self._outcome

    def settle(self, *answer: Any) -> None:
        """What the pool tells of the call."""
        outcome = Outcome(*answer)
        with self._condition:
            self._outcome = outcome
            self._condition.notify_all()
        if outcome.status == errors.CANCELED:
            super().cancel()
        if not self.set_running_or_notify_cancel():
            return
        if outcome.status < 0:
            self.set_exception(errors.of_status(outcome.status, outcome.message, outcome.delivery, outcome.death))
            return
        try:
            value = _payload.decode(outcome.output, self._kind, f"the result of {self._name}")
        except BaseException as error:
            self.set_exception(error)
        else:
            self.set_result(bytes(value) if self._kind == "raw" else value)

    def fail(self, error: BaseException) -> None:
        """What the pool tells of what has gone wrong in settle."""
        with contextlib.suppress(InvalidStateError):  # it is done, or has been cancelled
            self.set_exception(error)


class Pool:
    """Processes of another program, whose functions are called by name.

    workers: how many; None: one for each processor.
    preload: libraries that they load first, whose constructors register functions (tine_register).
    worker: the program and its arguments; None: tine-worker, which has the functions of the libraries of preload.
    deadline, grace: in seconds, as of ProcessPoolExecutor.
    window_tasks, window_bytes, heap_bytes: limits, as of tine_pool_options; 0: tine's own.
    faults: what is to go wrong, for tests: libtine.Faults.
    """

    def __init__(
        self,
        workers: int | None = None,
        preload: Sequence[str] = (),
        worker: Sequence[str] | None = None,
        *,
        start: str = "forkserver",
        deadline: float | None = None,
        grace: float | None = None,
        window_tasks: int = 0,
        window_bytes: int = 0,
        heap_bytes: int = 0,
        faults: Faults | None = None,
    ) -> None:
        program, arguments, libraries = program_of(worker, preload, start)
        self._pool = _native.NamedPool(
            workers if workers is not None else len(os.sched_getaffinity(0)),
            START_METHODS[start],
            program,
            arguments,
            libraries,
            ns(deadline),
            ns(grace),
            window_tasks,
            window_bytes,
            heap_bytes,
            faults=faults.native() if faults else None,
        )
        self._settler = Settler(self._pool, "libtine.foreign", {})
        self._end = weakref.finalize(self, _end, self._pool, self._settler)
        self._settler.thread.start()

    # ---- Calls ----

    def submit(
        self,
        name: str,
        value: Any = None,
        *,
        kind: str = "raw",
        returns: str | None = None,
        deadline: float | None = None,
        queue_deadline: float | None = None,
        retries: int = 0,
        idempotent: bool | None = None,
        timeout: float | None = None,
    ) -> Call:
        """A call of the function of this name, with one value.

        kind: what the value goes as: raw (bytes and buffers, as they are), msgpack or pickle. returns: what the result
        has to be; None: of the same kind. retries: how often it may run again after its process has died with it, if
        that does no harm (idempotent; None: where there are retries). timeout: how long to wait for room in the window.
        """
        returns = kind if returns is None else returns
        _payload.check_kind(kind)
        _payload.check_kind(returns)
        call = Call(self._pool, name, returns)
        parts = _payload.encode(kind, value, f"the value for {name}")
        try:
            call._task = self._pool.submit(
                os.fsencode(name),
                parts,
                call,
                ns(deadline),
                ns(queue_deadline),
                retries,
                bool(retries) if idempotent is None else idempotent,
                timeout_ns(timeout),
            )
        except errors.TineError as error:
            if error.name == "ETIMEDOUT":
                raise TimeoutError(f"{name}: the pool's window is full") from None
            raise
        finally:
            self._settler.submitted()
        if call.cancelled():  # before it had a number
            call.cancel()
        return call

    def map(
        self,
        name: str,
        items: Buffer,
        results: Buffer,
        count: int,
        *,
        context: Buffer = b"",
        chunk: int = 0,
        deadline: float | None = None,
        retries: int = 0,
        idempotent: bool | None = None,
    ) -> list[Failure]:
        """Calls the function for each of count items, that lie one behind the other, and waits for all.

        Their results go into a buffer of as many, which stays as it is where an item fails. Returns those that did.
        """
        again = bool(retries) if idempotent is None else idempotent
        failed = self._pool.map(os.fsencode(name), items, results, count, context, chunk, ns(deadline), retries, again)
        return sorted(Failure(*each) for each in failed)

    def stream(
        self,
        name: str,
        *,
        window: int = 0,
        kind: str = "raw",
        returns: str | None = None,
        deadline: float | None = None,
        retries: int = 0,
        idempotent: bool | None = None,
    ) -> Stream:
        """Calls of one function for items that come one after the other, with results in the same order.

        window: how many may have gone in whose results have not been taken; 0: 16 for each worker.
        """
        if window < 0:
            raise ValueError(f"a window of {window} items")

        def submit(value: Any, timeout: float | None) -> Call:
            return self.submit(
                name,
                value,
                kind=kind,
                returns=returns,
                deadline=deadline,
                retries=retries,
                idempotent=idempotent,
                timeout=timeout,
            )

        return Stream(submit, name, window or 16 * max(self.stats()["workers"], 1))

    # ---- What it shares with its workers ----

    def share(self, segment: Segment, timeout: float | None = None) -> bool:
        """Has a segment mapped in all workers, later ones too, at its .address. Whether they have it in time."""
        return self._pool.share(segment, timeout_ns(timeout))

    def alloc(self, size: int) -> _native.Memory:
        """A block of zeros in the pool's heap: a writable buffer with an .address, until free() or the pool's end."""
        return self._pool.alloc(size)

    def free(self, block: _native.Memory) -> None:
        """Nobody may use the block any more, in this process or another."""
        self._pool.free(block)

    def _make(self, kind: type[P], *operands: int) -> P:
        made = kind(self.alloc(kind.SIZE))
        made._do("init", 0, *operands)
        return made

    def mutex(self, process_owned: bool = False) -> Mutex:
        return self._make(Mutex, _native.INTERRUPTIBLE | (_native.PROCESS_OWNED if process_owned else 0))

    def rwlock(self) -> RWLock:
        return self._make(RWLock, _native.INTERRUPTIBLE)

    def semaphore(self, value: int, most: int = 0) -> Semaphore:
        return self._make(Semaphore, value, most)

    def event(self, auto_reset: bool = False) -> Event:
        return self._make(Event, _native.INTERRUPTIBLE | (_native.AUTO_RESET if auto_reset else 0))

    def barrier(self, parties: int) -> Barrier:
        return self._make(Barrier, parties)

    def condition(self) -> Condition:
        return self._make(Condition, _native.INTERRUPTIBLE)

    def once(self) -> Once:
        return Once(self.alloc(Once.SIZE))

    def queue(self, messages: int = 0, bytes: int = 0) -> Queue:
        return Queue(self._pool.queue(messages, bytes))

    # ---- Its end ----

    def stats(self) -> dict[str, int]:
        return self._pool.stats()

    def shutdown(self, timeout: float | None = None) -> bool:
        """Takes no more calls. Whether all have settled in time; its memory stays until close()."""
        return self._pool.shutdown(timeout_ns(timeout))

    def close(self) -> None:
        """Ends the pool, and what still runs there. Its memory stays as long as somebody looks at it."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.shutdown()
        self.close()


class Stream:
    """Items go in by put, and results come out in the same order: by next, or by a loop. Pool.stream makes one.

    Any threads may put and take. One that does both must not wait to put while the window is full of results that it
    has not taken.
    """

    def __init__(self, submit: Callable[[Any, float | None], Call], name: str, window: int) -> None:
        self._submit, self._name, self._window = submit, name, window
        self._changed = threading.Condition()
        self._calls: deque[Call] = deque()
        self._coming = 0  # calls that have a place, and are being submitted
        self._over = False

    def put(self, value: Any = None, timeout: float | None = None) -> bool:
        """Whether there was room in time. After end() it is an error, EPIPE."""
        until = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            if not self._changed.wait_for(self._has_room, timeout):
                return False
            if self._over:
                raise failure(-errno.EPIPE, f"the stream of {self._name} has ended")
            self._coming += 1
        call = None
        try:
            call = self._submit(value, None if until is None else max(until - time.monotonic(), 0))
        except TimeoutError:
            return False
        finally:
            with self._changed:
                self._coming -= 1
                if call is not None:
                    self._calls.append(call)
                self._changed.notify_all()
        call.add_done_callback(self._settled)
        return True

    def end(self) -> None:
        """No more items will come."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def next(self, timeout: float | None = None) -> Call:
        """The next call, which has settled. TimeoutError: it has not; EOFError: there are no more."""
        with self._changed:
            if not self._changed.wait_for(self._has_next, timeout):
                raise TimeoutError(f"the next item of {self._name} has not settled")
            if not self._calls:
                raise EOFError(f"the stream of {self._name} has ended")
            call = self._calls.popleft()
            self._changed.notify_all()
            return call

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        """The next result, or what its call raises: the loop may be gone on with after that."""
        try:
            call = self.next()
        except EOFError:
            raise StopIteration from None
        return call.result()

    def _has_room(self) -> bool:
        return self._over or len(self._calls) + self._coming < self._window

    def _has_next(self) -> bool:
        return self._calls[0].done() if self._calls else self._over and not self._coming

    def _settled(self, _call: Future[Any]) -> None:
        with self._changed:
            self._changed.notify_all()


def _end(pool: _native.NamedPool, settler: Settler) -> None:
    with contextlib.suppress(errors.TineError):  # it is over already
        pool.shutdown(0)
        pool.cancel_all()
    settler.finish()
    if settler.thread is not threading.current_thread():
        settler.thread.join()


# ---- Python functions for other languages ----


class Export(NamedTuple):
    function: Callable[[Any], Any]
    takes: str
    gives: str


exports: dict[str, Export] = {}


def export(
    name: str, takes: str = "raw", gives: str | None = None
) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """Lets hosts in other languages call the function by this name, in workers that `python -m libtine.worker` runs.

    It has one argument and one result. takes and gives are their kinds: raw, msgpack or pickle. A raw argument is a
    view of the host's memory, which ends with the call.
    """
    gives = takes if gives is None else gives
    for kind in (takes, gives):
        _payload.check_kind(kind)
    if not 1 <= len(os.fsencode(name)) <= 255 or "\0" in name:
        raise ValueError(f"name {name!r}: it has 1 to 255 bytes")

    def add(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        if name in exports:
            raise ValueError(f"name {name!r}: {exports[name].function!r} has it already")
        exports[name] = Export(function, takes, gives)
        return function

    return add
