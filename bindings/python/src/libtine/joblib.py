"""joblib's parallel backend "tine": importing this module registers it.

import joblib, libtine.joblib

with joblib.parallel_config(backend="tine", n_jobs=4):
    joblib.Parallel()(joblib.delayed(work)(item) for item in items)
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from types import MappingProxyType
from typing import Any

from joblib import register_parallel_backend
from joblib._parallel_backends import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)

from . import _worker
from .executor import ProcessPoolExecutor

try:
    import cloudpickle
except ImportError:  # joblib up to 1.5 has its own
    from joblib.externals import cloudpickle


def _run(data: bytes, buffers: list[Any]) -> Any:
    return pickle.loads(data, buffers=buffers)()


class TineBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Batches of calls in the workers of a libtine.ProcessPoolExecutor.

    Functions of the main module and closures travel by value, as with joblib's own processes. Further arguments of
    parallel_config go to the executor: deadline, grace, retries, preload, initializer, initargs.
    """

    supports_retrieve_callback = True
    supports_return_generator = True
    supports_inner_max_num_threads = True
    uses_threads = False
    supports_sharedmem = False

    _workers: ProcessPoolExecutor | None = None  # the name by which tools look for it
    _options: Mapping[str, Any] = MappingProxyType({})

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None or _worker.is_worker:
            return 1
        if n_jobs < 0:
            return max(len(os.sched_getaffinity(0)) + 1 + n_jobs, 1)
        return n_jobs

    def configure(
        self, n_jobs: int = 1, parallel: Any = None, prefer: Any = None, require: Any = None, **options: Any
    ) -> int:
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        options = {**getattr(self, "backend_kwargs", {}), **options}  # parallel_config's own, from joblib 1.5 on
        names = ("deadline", "grace", "retries", "preload", "initializer", "initargs")
        self._options = {name: options[name] for name in names if name in options}
        options = dict(self._options)
        function, args = options.pop("initializer", None), options.pop("initargs", ())
        initializer = None if function is None else cloudpickle.dumps((function, args))
        # Each worker's share of the processors, for the threads of libraries of numerics.
        environment = self._prepare_worker_env(n_jobs)
        self._workers = ProcessPoolExecutor(
            n_jobs, initializer=_worker.set_environment, initargs=(environment, initializer), **options
        )
        self.parallel = parallel
        return n_jobs

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], object] | None = None) -> Future[Any]:
        assert self._workers is not None
        buffers: list[Any] = []
        try:
            data = cloudpickle.dumps(func, protocol=5, buffer_callback=buffers.append)
        except Exception as error:
            future: Future[Any] = Future()
            unsendable = pickle.PicklingError("Could not pickle the task to send to the workers.")
            unsendable.__cause__ = error
            future.set_exception(unsendable)
        else:
            future = self._workers.submit(_run, data, buffers)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, future: Future[Any]) -> Any:
        return future.result()

    def terminate(self) -> None:
        if self._workers is not None:
            self._workers.shutdown()
            self._workers = None
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        if self._workers is not None:
            self._workers.kill_workers()
            self._workers = None
        if ensure_ready:
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel, **self._options)


register_parallel_backend("tine", TineBackend)
