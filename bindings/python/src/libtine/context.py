"""multiprocessing.context on tine: the same names, for a start method."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from multiprocessing import context as standard
from multiprocessing import reduction as reducer
from typing import Any, NoReturn, cast

from . import _server, connection, pool, queues, sharedctypes, synchronize
from .process import ForkServerProcess, SpawnProcess

__all__ = [
    "AuthenticationError",
    "BaseContext",
    "BufferTooShort",
    "Manager",
    "ProcessError",
    "TimeoutError",
    "allow_connection_pickling",
    "cpu_count",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_logger",
    "get_start_method",
    "log_to_stderr",
    "reducer",
    "set_executable",
    "set_forkserver_preload",
    "set_start_method",
]

BufferTooShort, ProcessError, TimeoutError = standard.BufferTooShort, standard.ProcessError, standard.TimeoutError
AuthenticationError, BaseContext = standard.AuthenticationError, standard.BaseContext


class Context(standard.BaseContext):
    """What multiprocessing's contexts have. There is no start method that is set for all: this one is the context's."""

    Process: type[ForkServerProcess] | type[SpawnProcess]
    _name: str

    Value = staticmethod(sharedctypes.Value)
    Array = staticmethod(sharedctypes.Array)
    RawValue = staticmethod(sharedctypes.RawValue)
    RawArray = staticmethod(sharedctypes.RawArray)

    def Lock(self) -> synchronize.Lock:  # type: ignore[override]
        return cast(synchronize.Lock, synchronize.Lock())

    def RLock(self) -> synchronize.RLock:  # type: ignore[override]
        return cast(synchronize.RLock, synchronize.RLock())

    def Semaphore(self, value: int = 1) -> synchronize.Semaphore:  # type: ignore[override]
        return cast(synchronize.Semaphore, synchronize.Semaphore(value))

    def BoundedSemaphore(self, value: int = 1) -> synchronize.BoundedSemaphore:  # type: ignore[override]
        return cast(synchronize.BoundedSemaphore, synchronize.BoundedSemaphore(value))

    def Condition(self, lock: Any = None) -> synchronize.Condition:  # type: ignore[override]
        return synchronize.Condition(lock)

    def Event(self) -> synchronize.Event:  # type: ignore[override]
        return cast(synchronize.Event, synchronize.Event())

    def Barrier(self, parties: int, action: Any = None, timeout: float | None = None) -> synchronize.Barrier:  # type: ignore[override]
        return synchronize.Barrier(parties, action, timeout)

    def Queue(self, maxsize: int = 0) -> queues.Queue:  # type: ignore[override]
        return queues.Queue(maxsize)

    def JoinableQueue(self, maxsize: int = 0) -> queues.JoinableQueue:  # type: ignore[override]
        return queues.JoinableQueue(maxsize)

    def SimpleQueue(self) -> queues.SimpleQueue:  # type: ignore[override]
        return queues.SimpleQueue()

    def Pipe(self, duplex: bool = True) -> tuple[connection.Connection, connection.Connection]:  # type: ignore[override]
        return connection.Pipe(duplex)

    def Pool(  # type: ignore[override]
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
    ) -> pool.Pool:
        return pool.Pool(processes, initializer, initargs, maxtasksperchild, self)

    def Manager(self) -> NoReturn:
        raise NotImplementedError(
            "libtine has no managers yet; multiprocessing.Manager() works beside it, and its proxies travel"
        )

    def cpu_count(self) -> int:
        """The processors that this process may use."""
        return len(os.sched_getaffinity(0))

    def get_context(self, method: str | None = None) -> Any:
        return self if method is None else get_context(method)

    def get_start_method(self, allow_none: bool = False) -> str:
        return self._name

    def set_start_method(self, method: str | None, force: bool = False) -> None:
        raise ValueError(f"libtine sets no start method for all; use libtine.get_context({method!r})")

    def set_forkserver_preload(self, module_names: Sequence[str]) -> None:
        """Modules that are imported once, before processes are forked; to be called before the first one is started."""
        if not all(isinstance(name, str) for name in module_names):
            raise TypeError("module_names must be a list of strings")
        _server.set_preload(module_names)

    def _check_available(self) -> None:
        pass


class ForkServerContext(Context):
    _name = "forkserver"
    Process = ForkServerProcess


class SpawnContext(Context):
    _name = "spawn"
    Process = SpawnProcess


_contexts: dict[str, Context] = {"forkserver": ForkServerContext(), "spawn": SpawnContext()}


def get_all_start_methods() -> list[str]:
    """The start methods, the default one first."""
    return list(_contexts)


def get_context(method: str | None = None) -> Any:
    """The names of multiprocessing for a start method: "forkserver", which is the default, or "spawn"."""
    if method == "fork":
        threads = threading.active_count()
        reason = f"this one has {threads} threads" if threads > 1 else "and tine's own thread is one"
        raise ValueError(
            "start method 'fork' is refused: a forked interpreter has the locks of threads that it has not, "
            f"{reason}; use 'forkserver'"
        )
    if method is not None and method not in _contexts:
        raise ValueError(f"cannot find context for {method!r}")
    return _contexts[method or "forkserver"]


_default = _contexts["forkserver"]
Manager, cpu_count, get_start_method = _default.Manager, _default.cpu_count, _default.get_start_method
set_forkserver_preload, set_start_method = _default.set_forkserver_preload, _default.set_start_method
allow_connection_pickling, freeze_support = _default.allow_connection_pickling, _default.freeze_support
get_logger, log_to_stderr, set_executable = _default.get_logger, _default.log_to_stderr, _default.set_executable
