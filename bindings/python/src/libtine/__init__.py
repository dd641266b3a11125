"""tine for Python: process pools that copy nothing and never hang.

`ProcessPoolExecutor` stands in for concurrent.futures' class of this name.
"""

from ._native import version
from .errors import DeadlineExceeded, OwnerDied, TineError, WorkerDied
from .executor import ProcessPoolExecutor

__all__ = ["DeadlineExceeded", "OwnerDied", "ProcessPoolExecutor", "TineError", "WorkerDied", "version"]
