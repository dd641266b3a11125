"""tine for Python: process pools that copy nothing and never hang.

`ProcessPoolExecutor` stands in for concurrent.futures' class of this name, and the names of multiprocessing for those
of that module, by the start method forkserver; `get_context` has them for each.
"""

from __future__ import annotations

from ._native import check_interpreter, version

check_interpreter()  # one that imports what another has loaded already gets a copy, without a call of the module's

TYPE_CHECKING = False  # checkers know the name; typing takes a tenth of a worker's start
if TYPE_CHECKING:
    from typing import Any

    from ._array import array, empty_like
    from ._progress import progress
    from .connection import Connection, Pipe
    from .context import (
        AuthenticationError,
        BufferTooShort,
        Manager,
        ProcessError,
        TimeoutError,
        allow_connection_pickling,
        cpu_count,
        freeze_support,
        get_all_start_methods,
        get_context,
        get_logger,
        get_start_method,
        log_to_stderr,
        reducer,
        set_executable,
        set_forkserver_preload,
        set_start_method,
    )
    from .errors import DeadlineExceeded, OwnerDied, TineError, Unreadable, WorkerDied, WrongKind
    from .executor import ProcessPoolExecutor
    from .faults import Faults
    from .foreign import export
    from .pool import Pool
    from .process import Process, active_children, current_process, parent_process
    from .queues import JoinableQueue, Queue, SimpleQueue
    from .sharedctypes import Array, RawArray, RawValue, Value
    from .synchronize import Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore

__version__ = "0.1.0"

__all__ = [
    "Array",
    "AuthenticationError",
    "Barrier",
    "BoundedSemaphore",
    "BufferTooShort",
    "Condition",
    "Connection",
    "DeadlineExceeded",
    "Event",
    "Faults",
    "JoinableQueue",
    "Lock",
    "Manager",
    "OwnerDied",
    "Pipe",
    "Pool",
    "Process",
    "ProcessError",
    "ProcessPoolExecutor",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "Semaphore",
    "SimpleQueue",
    "TimeoutError",
    "TineError",
    "Unreadable",
    "Value",
    "WorkerDied",
    "WrongKind",
    "active_children",
    "allow_connection_pickling",
    "array",
    "cpu_count",
    "current_process",
    "empty_like",
    "export",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_logger",
    "get_start_method",
    "log_to_stderr",
    "parent_process",
    "progress",
    "reducer",
    "set_executable",
    "set_forkserver_preload",
    "set_start_method",
    "version",
]


# Where the names are, in the order in which they are looked for.
_MODULES = (
    *("executor", "pool", "errors", "faults", "_array", "_progress"),
    *("context", "process", "synchronize", "queues", "connection", "sharedctypes", "foreign"),
)
_AT_ONCE = {"export": "foreign"}  # modules of other languages' workers need none of the others


def __getattr__(name: str) -> Any:
    """Names are imported when they are asked for: workers and most programs need few of them."""
    if name not in __all__ and name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    for each in (_AT_ONCE[name],) if name in _AT_ONCE else _MODULES:
        module = importlib.import_module(f"{__name__}.{each}")
        if hasattr(module, name):
            globals()[name] = value = getattr(module, name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
