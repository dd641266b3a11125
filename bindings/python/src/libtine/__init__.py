"""tine for Python: process pools that copy nothing and never hang.

`ProcessPoolExecutor` stands in for concurrent.futures' class of this name, `Pool` for multiprocessing's.
"""

from ._native import version
from .array import array, empty_like
from .errors import DeadlineExceeded, OwnerDied, TineError, Unreadable, WorkerDied
from .executor import ProcessPoolExecutor
from .pool import Pool

__all__ = [
    "DeadlineExceeded",
    "OwnerDied",
    "Pool",
    "ProcessPoolExecutor",
    "TineError",
    "Unreadable",
    "WorkerDied",
    "array",
    "empty_like",
    "version",
]
