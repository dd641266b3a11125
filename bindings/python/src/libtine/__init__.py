"""tine for Python: process pools that copy nothing and never hang.

`ProcessPoolExecutor` stands in for concurrent.futures' class of this name, `Pool` for multiprocessing's.
"""

from ._array import array, empty_like
from ._native import version
from ._progress import progress
from .errors import DeadlineExceeded, OwnerDied, TineError, Unreadable, WorkerDied
from .executor import ProcessPoolExecutor
from .pool import Pool

__version__ = "0.1.0"

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
    "progress",
    "version",
]
