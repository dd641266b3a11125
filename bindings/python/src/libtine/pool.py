"""multiprocessing.Pool on tine: a dead worker costs the call that it was running, and nothing hangs."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures.process import BrokenProcessPool, _RemoteTraceback
from multiprocessing import TimeoutError
from multiprocessing.pool import RemoteTraceback, ThreadPool  # type: ignore[attr-defined]
from typing import Any, Generic, NoReturn, TypeVar

from . import _codec, _native, errors
from ._calls import Calls
from ._engine import (
    Detail,
    Engine,
    Failed,
    WorkerProcess,
    pickled,
    read_answer,
    start_method,
    unwrap,
)
from ._imap import Drawing, Imaps
from ._worker import cause_of, set_cause

__all__ = ["ApplyResult", "AsyncResult", "IMapIterator", "IMapUnorderedIterator", "MapResult", "Pool", "ThreadPool"]

T = TypeVar("T")
Callback = Callable[[Any], object]

RUN = "RUN"
CLOSE = "CLOSE"
TERMINATE = "TERMINATE"


def _with_pool_traceback(failure: Failed) -> Failed:
    """The cause of what came from a worker is of the class that multiprocessing's pools have for it."""
    cause = cause_of(failure.error)
    if isinstance(cause, _RemoteTraceback):
        set_cause(failure.error, RemoteTraceback(cause.tb))
    return failure


class ApplyResult(Generic[T]):
    """The result of apply_async."""

    def __init__(self, pool: Pool, callback: Callback | None, error_callback: Callback | None) -> None:
        self._pool = pool
        self._event = threading.Event()
        self._callback = callback
        self._error_callback = error_callback
        self._outcome: Any = None

    def ready(self) -> bool:
        """Whether the call has completed."""
        return self._event.is_set()

    def successful(self) -> bool:
        """Whether the call completed without raising an exception. Raises ValueError if the result is not ready."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return type(self._outcome) is not Failed

    def wait(self, timeout: float | None = None) -> None:
        """Waits until the result is available or until timeout seconds pass."""
        self._event.wait(timeout)

    def get(self, timeout: float | None = None) -> T:
        """The result when it arrives. Raises multiprocessing.TimeoutError after timeout seconds without it."""
        self.wait(timeout)
        if not self.ready():
            raise TimeoutError
        value: T = unwrap(self._outcome)
        return value

    def settle(self, status: int, value: Any, odd: Any, detail: Detail, begun: int, size: int) -> None:
        """What the engine tells of the call."""
        self._set(value if odd is None and detail is None else read_answer(status, value, odd, detail))

    def fail(self, error: BaseException) -> None:
        if not self.ready():
            self._set(Failed(error))

    def _set(self, outcome: Any) -> None:
        self._outcome = outcome
        try:
            callback, self._callback = self._callback, None
            if type(outcome) is Failed:
                callback, outcome = self._error_callback, _with_pool_traceback(outcome).error
            self._error_callback = None
            if callback is not None:
                callback(outcome)
        finally:
            self._event.set()
            del self._pool


AsyncResult = ApplyResult


class MapResult(ApplyResult[list[T]]):
    """The result of map_async and starmap_async: of all calls, or the first failure."""

    def __init__(self, pool: Pool, count: int, callback: Callback | None, error_callback: Callback | None) -> None:
        super().__init__(pool, callback, error_callback)
        self._values: list[Any] = [None] * count
        self._left = count
        self._lock = threading.Lock()  # what cannot be sent is told by the caller's thread, the rest by the engine's
        self._failure: tuple[int, Failed] | None = None
        if not count:
            self._callback = None  # as with multiprocessing's
            self._set([])

    def take(self, start: int, values: Sequence[Any], failed: bool, size: int = 0) -> None:
        outcome: Any
        try:
            with self._lock:
                outcome = self._add(start, values, failed)
        except BaseException as error:  # there is no memory for what has come, say: nobody else will tell who waits
            outcome = Failed(error)
        if outcome is not None and not self.ready():
            self._set(outcome)

    def _add(self, start: int, values: Sequence[Any], failed: bool) -> Any:
        """What the map has come to, once it has."""
        if failed:
            for index, value in enumerate(values, start):
                if type(value) is Failed and (self._failure is None or index < self._failure[0]):
                    self._failure = index, value
        self._values[start : start + len(values)] = values
        self._left -= len(values)
        if self._left:
            return None
        all_values, self._values = self._values, []
        return all_values if self._failure is None else self._failure[1]


class IMapIterator(Generic[T]):
    """The results of imap. The iterable is read as far as a window allows: what is under way, or done and not taken."""

    _ordered = True

    def __init__(self, pool: Pool, function: Callable[..., T], iterable: Iterable[Any], chunksize: int) -> None:
        self._pool = pool  # which is not to end before
        self._results = Drawing(pool._imaps, pool._processes, function, self._ordered, iterable, chunksize)
        pool._imaps.start(self._results)

    def __iter__(self) -> IMapIterator[T]:
        return self

    def next(self, timeout: float | None = None) -> T:
        """The next result. Raises multiprocessing.TimeoutError if it has not arrived within timeout seconds."""
        try:
            outcome = self._results.next(None if timeout is None else time.monotonic() + timeout)
        except concurrent.futures.TimeoutError:
            raise TimeoutError from None
        if type(outcome) is Failed:
            _with_pool_traceback(outcome)
        value: T = unwrap(outcome)
        return value

    __next__ = next


class IMapUnorderedIterator(IMapIterator[T]):
    """The results of imap_unordered, as they come."""

    _ordered = False


class Pool:
    """A process pool which supports applying functions to arguments: multiprocessing.Pool's interface.

    In addition to its arguments:

    deadline: how long a call may run, in seconds; it is ended then, whatever it does, and raises DeadlineExceeded.
    grace: how long a call that is to end may still take, in seconds.
    retries: how often a call is run again when its process has died with it.
    preload: names of modules that are imported once, before the workers are forked.
    """

    _state = TERMINATE  # of one whose making failed

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
        *,
        deadline: float | None = None,
        grace: float | None = None,
        retries: int = 0,
        preload: Sequence[str] = (),
    ) -> None:
        if processes is None:
            processes = len(os.sched_getaffinity(0))
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and (not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._processes = processes
        self._ctx = context
        try:
            self._engine = Engine(
                processes,
                start_method(context),
                initializer=initializer,
                initargs=tuple(initargs),
                max_tasks=maxtasksperchild or 0,
                deadline=deadline,
                grace=grace,
                retries=retries,
                preload=preload,
            )
        except _native.NativeError as error:
            raise BrokenProcessPool(f"the workers could not be started: {error.args[2]}") from None
        self._imaps = Imaps(self._engine)
        self._end = weakref.finalize(self, _end, self._engine, self._imaps)
        self._state = RUN
        _pools.add(self)

    def __del__(self) -> None:
        if self._state == RUN:
            warnings.warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self, stacklevel=2)

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__qualname__} state={self._state} pool_size={len(self._pool)}>"

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError("Pool not running")

    @property
    def _pool(self) -> list[WorkerProcess]:
        return list(self._engine.processes().values())

    def _repopulate_pool(self) -> None:
        """Nothing is to be done: workers are replaced as they end."""

    def apply(self, func: Callable[..., T], args: Iterable[Any] = (), kwds: dict[str, Any] | None = None) -> T:
        """Equivalent of `func(*args, **kwds)`."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: dict[str, Any] | None = None,
        callback: Callback | None = None,
        error_callback: Callback | None = None,
    ) -> ApplyResult[T]:
        """Asynchronous version of apply()."""
        self._check_running()
        result: ApplyResult[T] = ApplyResult(self, callback, error_callback)
        args = tuple(args)
        message: list[_codec.Part]
        try:
            reference = None if kwds else _codec.reference(func)
            plain = None if reference is None else _native.encode_call(reference, args)
            message = [plain] if plain is not None else pickled((func, args, kwds or {}))
        except Exception as error:
            where = (
                _codec.find_unpicklable(func, "func")
                or _codec.find_unpicklable(args, "args")
                or _codec.find_unpicklable(kwds or {}, "kwds")
            )
            result._set(Failed(errors.with_note(error, f"the call cannot be sent: {where}")))
            return result
        try:
            self._engine.submit(message, result)
        except _native.NativeError as error:
            raise BrokenProcessPool(str(error.args[2])) from None
        return result

    def map(self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int | None = None) -> list[T]:
        """Applies func to each element in iterable, collecting the results in a list that is returned."""
        return self._map_async(func, iterable, False, chunksize, None, None).get()

    def map_async(
        self,
        func: Callable[[Any], T],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callback | None = None,
        error_callback: Callback | None = None,
    ) -> MapResult[T]:
        """Asynchronous version of map()."""
        return self._map_async(func, iterable, False, chunksize, callback, error_callback)

    def starmap(
        self, func: Callable[..., T], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[T]:
        """Like map(), but the elements of the iterable are iterables that are unpacked as arguments."""
        return self._map_async(func, iterable, True, chunksize, None, None).get()

    def starmap_async(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callback | None = None,
        error_callback: Callback | None = None,
    ) -> MapResult[T]:
        """Asynchronous version of starmap()."""
        return self._map_async(func, iterable, True, chunksize, callback, error_callback)

    def _map_async(
        self,
        func: Callable[..., T],
        iterable: Iterable[Any],
        star: bool,
        chunksize: int | None,
        callback: Callback | None,
        error_callback: Callback | None,
    ) -> MapResult[T]:
        self._check_running()
        items = list(iterable)
        if chunksize is None:
            chunksize, extra = divmod(len(items), self._processes * 4)
            chunksize += bool(extra)
        if items and chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        result: MapResult[T] = MapResult(self, len(items), callback, error_callback)
        calls = Calls(self._engine, func, star, result)
        try:
            for start in range(0, len(items), chunksize or 1):
                calls.submit(start, items[start : start + chunksize])
        except _native.NativeError as error:
            raise BrokenProcessPool(str(error.args[2])) from None
        return result

    def imap(self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int = 1) -> IMapIterator[T]:
        """Equivalent of map(), but lazy: results come in order, one at a time."""
        self._check_running()
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        return IMapIterator(self, func, iterable, chunksize)

    def imap_unordered(self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int = 1) -> IMapIterator[T]:
        """Like imap(), but results come in whatever order."""
        self._check_running()
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize!r}")
        return IMapUnorderedIterator(self, func, iterable, chunksize)

    def close(self) -> None:
        """Takes no more calls; the workers end when all that there are have been carried out."""
        if self._state == RUN:
            self._state = CLOSE
            self._imaps.close()

    def terminate(self) -> None:
        """Ends the workers at once, without completing outstanding work."""
        self._state = TERMINATE
        self._end()

    def join(self) -> None:
        """Waits for the workers to end. close() or terminate() comes first."""
        if self._state == RUN:
            raise ValueError("Pool is still running")
        self._imaps.join()
        self._engine.finish()
        self._engine.join()

    def __enter__(self) -> Pool:
        self._check_running()
        return self

    def __exit__(self, *exception: object) -> None:
        self.terminate()

    def __reduce__(self) -> NoReturn:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def stats(self) -> dict[str, int]:
        """Counters of the pool; empty when it is over."""
        with contextlib.suppress(_native.NativeError):
            return self._engine.pool.stats()
        return {}

    def stats_text(self, name: str = "pool") -> str:
        """The same as text for Prometheus, with the label pool; empty when it is over."""
        with contextlib.suppress(_native.NativeError):
            return self._engine.pool.stats_text(name)
        return ""


def _end(engine: Engine, imaps: Imaps) -> None:
    imaps.stop()
    engine.cancel_all()
    engine.finish()


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


def _terminate_all() -> None:
    """At the interpreter's end: as multiprocessing, which does not wait for what a pool is doing."""
    for pool in list(_pools):
        if pool._state != CLOSE:
            pool.terminate()
        else:
            pool._end()


threading._register_atexit(_terminate_all)  # type: ignore[attr-defined]
