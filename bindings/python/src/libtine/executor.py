"""concurrent.futures.ProcessPoolExecutor on tine: a dead worker costs the call that it was running."""

from __future__ import annotations

import itertools
import operator
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures as standard
from concurrent.futures import Executor
from concurrent.futures._base import RUNNING
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any, TypeVar

from . import _codec, _native, errors
from ._calls import Calls, Results
from ._engine import (
    Detail,
    Engine,
    Failed,
    WorkerProcess,
    engine_named,
    ns,
    pickled,
    read_answer,
    start_method,
    unwrap,
)

if TYPE_CHECKING:
    from .faults import Faults

T = TypeVar("T")


class Future(standard.Future[T]):
    """A standard Future whose cancel also ends a call that runs."""

    _engine: Engine | None = None
    _task: tuple[int, int] = (0, 0)

    def cancel(self) -> bool:
        """Cancels the call, also one that runs. False: it has completed."""
        cancelled = super().cancel()
        if cancelled and self._engine is not None:
            self._engine.cancel(self._task[0])
        return cancelled

    def running(self) -> bool:
        """Whether a worker has begun with the call."""
        engine = self._engine
        return not self.done() and engine is not None and engine.pool.has_begun(self._task[1])

    def settle(self, status: int, value: Any, odd: Any, detail: Detail, begun: int, size: int) -> None:
        """What the engine tells of the call."""
        outcome = value if odd is None and detail is None else read_answer(status, value, odd, detail)
        self._engine = None
        if status == errors.CANCELED:  # a CancelledError of the function's own is an exception as any other
            super().cancel()
        if not self.set_running_or_notify_cancel():
            return
        if type(outcome) is Failed:
            self.set_exception(outcome.error)
        else:
            self.set_result(outcome)

    def fail(self, error: BaseException) -> None:
        """What the engine tells of what has gone wrong in settle."""
        if not self.done() and (self._state == RUNNING or self.set_running_or_notify_cancel()):
            self.set_exception(error)


class _CallQueue:
    """In place of a queue with a thread behind it, which calls do not go through here."""

    def close(self) -> None:
        pass

    def join_thread(self) -> None:
        pass


class ProcessPoolExecutor(Executor):
    """An Executor whose workers are interpreters in processes of their own.

    As concurrent.futures' class of this name, and in addition:

    deadline: how long a call may run, in seconds; it is ended then, whatever it does, and raises DeadlineExceeded.
    grace: how long a call that is to end may still take, in seconds.
    retries: how often a call is run again when its process has died with it.
    preload: names of modules that are imported once, before the workers are forked.
    faults: what is to go wrong, for tests: libtine.Faults.
    engine: where the workers are. "mpi": on the nodes of the MPI job that mpirun has started; only rank 0 comes back
    from the first pool, and the others serve it. "mpi-or-local": here where there is no such job. "local": here. None:
    what TINE_ENGINE says, else here.

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
        faults: Faults | None = None,
        engine: str | None = None,
    ) -> None:
        self._where = engine_named(engine)
        if max_workers is None:
            # 0: each node has one for each of its processors.
            max_workers = len(os.sched_getaffinity(0)) if self._where == "local" else 0
        elif max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        max_workers = operator.index(max_workers)
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
        self._max_workers = max_workers
        self._mp_context = mp_context
        self._method = start_method(mp_context)
        self._initializer, self._initargs = initializer, initargs
        self._max_tasks = max_tasks_per_child or 0
        self._deadline, self._grace, self._retries = deadline, grace, retries
        self._preload = preload
        self._faults = faults
        self._engine: Engine | None = None
        self._broken: str | None = None
        self._lock = threading.Lock()
        self._shut = False

    def _start(self) -> Engine:
        """The pool, which starts with the first call. Raises what concurrent.futures raises where none is to be had."""
        with self._lock:
            if self._broken is not None:
                raise BrokenProcessPool(self._broken)
            if self._shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self._engine is None:
                try:
                    self._engine = Engine(
                        self._max_workers,
                        self._method,
                        initializer=self._initializer,
                        initargs=self._initargs,
                        min_workers=1,
                        max_tasks=self._max_tasks,
                        deadline=self._deadline,
                        grace=self._grace,
                        retries=self._retries,
                        preload=self._preload,
                        faults=self._faults,
                        engine=self._where,
                    )
                except _native.NativeError as error:
                    self._broken = f"the workers could not be started: {error.args[2]}"
                    raise BrokenProcessPool(self._broken) from None
                weakref.finalize(self, self._engine.finish).atexit = False
            if self._engine.over:
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            return self._engine

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        return self.submit_with(fn, args, kwargs)

    submit.__doc__ = Executor.submit.__doc__

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
        future: Future[T] = Future()
        was_broken = self._broken is not None
        try:
            engine = self._engine
            if engine is None or engine.over or self._shut:
                engine = self._start()
        except BrokenProcessPool as error:
            if was_broken:
                raise
            future.set_running_or_notify_cancel()
            future.set_exception(error)
            return future
        message: list[_codec.Part]
        try:
            reference = None if kwargs else _codec.reference(fn)
            plain = None if reference is None else _native.encode_call(reference, tuple(args))
            message = [plain] if plain is not None else pickled((fn, tuple(args), kwargs or {}))
        except Exception as error:
            where = (
                _codec.find_unpicklable(fn, "fn")
                or _codec.find_unpicklable(tuple(args), "args")
                or _codec.find_unpicklable(kwargs or {}, "kwargs")
            )
            future.set_running_or_notify_cancel()
            future.set_exception(errors.with_note(error, f"the call cannot be sent: {where}"))
            return future
        future._engine = engine
        try:
            future._task = engine.submit_with(
                message, future, ns(deadline), self._retries if retries is None else retries
            )
        except _native.NativeError as error:
            if error.args[0] == _native.ESHUTDOWN:
                raise RuntimeError("cannot schedule new futures after shutdown") from None
            raise BrokenProcessPool(str(error.args[2])) from None
        return future

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """As Executor.map; with buffersize, so many chunks are under way or wait for their results to be taken."""
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        end = None if timeout is None else time.monotonic() + timeout
        results = Results(ordered=True)
        items = zip(*iterables)
        first = list(itertools.islice(items, 1))
        calls = Calls(self._start(), fn, True, results) if first else None
        arguments = itertools.chain(first, items)
        sent = 0

        def send(executor: ProcessPoolExecutor) -> bool:  # not self: when nobody has it any more, it ends
            nonlocal sent
            chunk = list(itertools.islice(arguments, chunksize))
            if not chunk:
                return False
            assert calls is not None
            if executor._shut or calls.engine.over:
                executor._start()  # which says that it is over
            try:
                calls.submit(sent, chunk)
            except _native.NativeError as error:
                if error.args[0] == _native.ESHUTDOWN:
                    raise RuntimeError("cannot schedule new futures after shutdown") from None
                raise BrokenProcessPool(str(error.args[2])) from None
            sent += len(chunk)
            return True

        more = True
        if buffersize is None:
            while send(self):
                pass
            more = False
        else:
            for _ in range(buffersize):
                if not (more := send(self)):
                    break

        def take() -> Iterator[T]:
            nonlocal more
            taken = 0
            try:
                while taken < sent:
                    if more and (chunksize == 1 or taken % chunksize == 0):
                        executor = reference()
                        if executor is not None:
                            more = send(executor)
                        del executor
                    taken += 1
                    yield unwrap(results.next(end))
            finally:
                if calls is not None and taken < sent:
                    calls.cancel()

        reference = weakref.ref(self)
        return take()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        with self._lock:
            self._shut = True
            engine = self._engine
        if engine is None:
            return
        if cancel_futures:
            engine.cancel_queued()
        engine.finish()
        if wait:
            engine.join()

    shutdown.__doc__ = Executor.shutdown.__doc__

    def terminate_workers(self) -> None:
        """Sends SIGTERM to the workers, and shuts the executor down: calls that run fail with WorkerDied."""
        self._end_workers(WorkerProcess.terminate)

    def kill_workers(self) -> None:
        """Sends SIGKILL to the workers, and shuts the executor down: calls that run fail with WorkerDied."""
        self._end_workers(WorkerProcess.kill)

    def _end_workers(self, end: Callable[[WorkerProcess], None]) -> None:
        processes = list(self._processes.values())
        self.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            end(process)

    @property
    def _processes(self) -> dict[int, WorkerProcess]:
        """The workers that live, by their numbers."""
        return {} if self._engine is None else self._engine.processes()

    @property
    def _call_queue(self) -> _CallQueue:
        return _CallQueue()

    @property
    def _executor_manager_thread(self) -> threading.Thread | None:
        return None if self._engine is None else self._engine.thread

    def stats(self) -> dict[str, int]:
        """Counters of the pool; empty before the first call, and when it is over."""
        try:
            return {} if self._engine is None else self._engine.pool.stats()
        except _native.NativeError:
            return {}

    def stats_text(self, name: str = "pool") -> str:
        """The same as text for Prometheus, with the label pool; empty as above."""
        try:
            return "" if self._engine is None else self._engine.pool.stats_text(name)
        except _native.NativeError:
            return ""
