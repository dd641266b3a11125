"""concurrent.futures.ProcessPoolExecutor on tine: a dead worker costs the call that it was running."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from . import _codec, _native, _worker, errors

T = TypeVar("T")

FOREVER_NS = 2**63 - 1
_START = {"forkserver": _native.FORKSERVER, "spawn": _native.SPAWN, None: _native.FORKSERVER}


def _ns(seconds: float | None) -> int:
    return 0 if seconds is None else min(max(int(seconds * 1e9), 1), FOREVER_NS - 1)


def _call_chunk(function: Callable[..., T], chunk: Sequence[tuple[Any, ...]]) -> list[T]:
    return [function(*args) for args in chunk]


class TineFuture(Future[T]):
    """A standard Future whose cancel also ends a call that runs."""

    _cancel_task: Callable[[], None] | None = None

    def cancel(self) -> bool:
        cancelled = super().cancel()
        if cancelled and self._cancel_task is not None:
            self._cancel_task()
        return cancelled


class _Collector:
    """One pool, and the thread that gives its results to their futures. The executor may go away meanwhile."""

    def __init__(self, pool: _native.Pool) -> None:
        self.pool = pool
        self.in_flight = 0
        self.over = False
        self.changed = threading.Condition(threading.Lock())
        self.thread = threading.Thread(target=self._run, name="libtine", daemon=True)
        _collectors.add(self)
        self.thread.start()

    def began(self) -> None:
        with self.changed:
            self.in_flight += 1
            if self.in_flight == 1:
                self.changed.notify()

    def settled(self, count: int) -> None:
        with self.changed:
            self.in_flight -= count

    def finish(self) -> None:
        """Ends the pool when everything has settled."""
        with self.changed:
            self.over = True
            self.changed.notify()

    def cancel(self, task: int) -> None:
        with contextlib.suppress(_native.NativeError):  # it has settled, or the pool is over
            self.pool.cancel(task)

    def _run(self) -> None:
        while True:
            with self.changed:
                while self.in_flight == 0 and not self.over:
                    self.changed.wait()
                if self.in_flight == 0:
                    break
            answers = self.pool.results(FOREVER_NS)
            for answer in answers:
                _settle(*answer)
            self.settled(len(answers))
            del answers
        self.pool.shutdown(FOREVER_NS)
        self.pool.close()


_collectors: weakref.WeakSet[_Collector] = weakref.WeakSet()


def _finish_all() -> None:
    """At the interpreter's end: what has been submitted still settles, as with concurrent.futures."""
    for collector in list(_collectors):
        collector.finish()
        collector.thread.join()


threading._register_atexit(_finish_all)  # type: ignore[attr-defined]


class ProcessPoolExecutor(Executor):
    """An Executor whose workers are interpreters in processes of their own.

    As concurrent.futures' class of this name, and in addition:

    deadline: how long a call may run, in seconds; it is ended then, whatever it does, and raises DeadlineExceeded.
    grace: how long a call that is to end may still take, in seconds.
    retries: how often a call is run again when its process has died with it.
    preload: names of modules that are imported once, before the workers are forked.

    A worker that dies fails the call that it was running with WorkerDied, and is replaced.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        deadline: float | None = None,
        grace: float | None = None,
        retries: int = 0,
        preload: Sequence[str] = (),
    ) -> None:
        if max_workers is None:
            max_workers = len(os.sched_getaffinity(0))
        elif max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
        method = mp_context if mp_context is None or isinstance(mp_context, str) else mp_context.get_start_method()
        if method == "fork":
            raise ValueError(
                "start method fork: a forked interpreter has locks of threads that it has not; "
                "use forkserver, with preload"
            )
        if method not in _START:
            raise ValueError(f"start method {method!r}: it is forkserver or spawn")
        self._max_workers = max_workers
        self._start = _START[method]
        self._initializer, self._initargs = initializer, initargs
        self._max_tasks = max_tasks_per_child or 0
        self._deadline_ns, self._grace_ns, self._retries = _ns(deadline), _ns(grace), retries
        self._preload = preload
        self._collector: _Collector | None = None
        self._broken: BaseException | None = None
        self._lock = threading.Lock()
        self._shut = False

    def _open(self) -> _Collector:
        """Starts the pool, with the first call."""
        if _worker.importing_main:
            raise RuntimeError(
                "an executor is started while a worker imports the main module: what starts it belongs under "
                '`if __name__ == "__main__":`, or the functions that it calls into a module of their own'
            )
        initializer = None
        if self._initializer is not None:
            initializer = b"".join(bytes(part) for part in _codec.dumps((self._initializer, self._initargs)))
        flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        arguments = [*flags, "-c", _worker.COMMAND, _worker.preparation_data(self._preload)]
        try:
            pool = _native.Pool(
                self._max_workers,
                self._start,
                os.fsencode(sys.executable),
                arguments,
                initializer_input=initializer,
                max_tasks_per_worker=self._max_tasks,
                grace_ns=self._grace_ns,
                deadline_ns=self._deadline_ns,
            )
        except _native.NativeError as error:
            raise BrokenProcessPool(f"the workers could not be started: {error.args[2]}") from None
        collector = _Collector(pool)
        weakref.finalize(self, collector.finish).atexit = False
        return collector

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        return self.submit_with(fn, args, kwargs)

    def submit_with(
        self,
        fn: Callable[..., T],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        deadline: float | None = None,
        retries: int | None = None,
    ) -> Future[T]:
        """As submit, with a deadline in seconds and retries of this call's own."""
        future: TineFuture[T] = TineFuture()
        try:
            parts = _codec.dumps((fn, tuple(args), kwargs or {}))
        except Exception as error:
            where = (
                _codec.find_unpicklable(fn, "fn")
                or _codec.find_unpicklable(args, "args")
                or _codec.find_unpicklable(kwargs or {}, "kwargs")
            )
            future.set_running_or_notify_cancel()
            future.set_exception(_with_note(error, f"the call cannot be sent: {where}"))
            return future
        with self._lock:
            if self._shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self._broken is not None:
                raise BrokenProcessPool(str(self._broken))
            if self._collector is None:
                try:
                    self._collector = self._open()
                except BrokenProcessPool as error:
                    self._broken = error
                    raise
            collector = self._collector
            collector.began()
        try:
            task = collector.pool.submit(
                parts, future, _ns(deadline), self._retries if retries is None else retries, FOREVER_NS
            )
        except BaseException as error:
            collector.settled(1)
            if isinstance(error, _native.NativeError):
                raise BrokenProcessPool(str(error.args[2])) from None
            raise
        future._cancel_task = functools.partial(collector.cancel, task)
        return future

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        end = None if timeout is None else time.monotonic() + timeout
        calls = zip(*iterables)
        chunks = iter(lambda: tuple(itertools.islice(calls, chunksize)), ())

        def start(chunk: tuple[tuple[Any, ...], ...]) -> Future[list[T]]:
            return self.submit(_call_chunk, fn, chunk)

        first = chunks if buffersize is None else itertools.islice(chunks, buffersize)
        futures = [start(chunk) for chunk in first]
        futures.reverse()

        def results() -> Iterator[T]:
            try:
                while futures:
                    if buffersize is not None and (chunk := next(chunks, ())):
                        futures.insert(0, start(chunk))
                    left = None if end is None else end - time.monotonic()
                    yield from futures.pop().result(left)
            finally:
                for future in futures:
                    future.cancel()

        return results()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        with self._lock:
            self._shut = True
            collector = self._collector
        if collector is None:
            return
        collector.finish()
        if cancel_futures:
            with contextlib.suppress(_native.NativeError):
                collector.pool.cancel_queued()
        if wait and collector.thread is not threading.current_thread():
            collector.thread.join()

    def stats(self) -> dict[str, int]:
        """Counters of the pool; empty before the first call, and when it is over."""
        with contextlib.suppress(_native.NativeError):
            if self._collector is not None:
                return self._collector.pool.stats()
        return {}


def _with_note(error: BaseException, note: str) -> BaseException:
    try:
        return type(error)(f"{note} ({error})")
    except Exception:
        return RuntimeError(f"{note} ({error})")


def _settle(
    future: Future[Any], status: int, data: Any, message: str, delivery: int, death: errors.Death | None
) -> None:
    if not future.set_running_or_notify_cancel():
        return
    if status == errors.CANCELED:
        future.set_exception(CancelledError())
        return
    if status < 0:
        future.set_exception(errors.of_status(status, message, delivery, death))
        return
    try:
        value = _codec.loads(data)
    except BaseException as error:
        future.set_exception(_with_note(error, "the result cannot be read"))
        return
    if status & _native.RAISED:
        future.set_exception(value)
    else:
        future.set_result(value)
