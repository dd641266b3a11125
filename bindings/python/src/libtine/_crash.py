"""Python's tracebacks of crashes: faulthandler writes them, in the worker, into memory of the host's.

The host has one file in memory for all its workers. Each writes at a place of its own, by its process number.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
from _thread import allocate_lock

from . import _fork, _native

PLACE_BYTES = 16 << 10

_lock = _fork.free_in_children(allocate_lock())
_fd = -1
_pid = 0


def path() -> str:
    """In the host: where workers are to write. Empty where there is no descriptor for it."""
    global _fd, _pid
    with _lock:
        if _pid != os.getpid():
            try:
                _fd = os.memfd_create("libtine-crashes", os.MFD_CLOEXEC)
            except OSError:
                return ""
            _pid = os.getpid()
        return f"/proc/{_pid}/fd/{_fd}"


def take(pid: int) -> str:
    """In the host: what a worker has written when it crashed."""
    if _pid != os.getpid():
        return ""
    return _native.take_text(_fd, pid * PLACE_BYTES, PLACE_BYTES)


def prepare(path: str) -> None:
    """In a worker: has faulthandler write there."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        os.lseek(fd, os.getpid() * PLACE_BYTES, os.SEEK_SET)
        _native.handle_crashes(0)
        faulthandler.disable()
        _native.handle_crashes(1)
        faulthandler.enable(fd)
        _native.handle_crashes(2)
