"""multiprocessing.shared_memory without files: a name ends with the process that made it, memory with its last user.

The maker of a block binds a unix socket to an abstract address that says where the block is: name, pid, descriptor and
cookie. The system has a list of these addresses, and forgets one when its process ends, however that comes about. Who
looks for a name opens /proc/PID/fd of the maker and compares the cookie.

A second address is bound while a block is made, so that of two makers of one name one is told that it exists. unlink()
writes a mark into the block, which whoever looks for the name sees.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import threading
import types
from collections.abc import Iterator
from multiprocessing import shared_memory as standard
from typing import Any, cast

from . import _fork, _native, _shared

__all__ = ["ShareableList", "SharedMemory"]

_SHM_NAME_PREFIX: str = standard._SHM_NAME_PREFIX  # type: ignore[attr-defined]
_USE_POSIX = True
_O_CREX = os.O_CREAT | os.O_EXCL

_PREFIX = "tine-shm/"
_ADDRESSES = "/proc/self/net/unix"
_DATA_AT = 4096
_SIZE_AT = _shared.HEADER_BYTES  # two words of 8 bytes: how many bytes the block has, and whether it is unlinked


class _Made:
    """A block that this process has made, and nobody has unlinked."""

    def __init__(self, segment: _shared.Segment, address: socket.socket) -> None:
        self.segment, self.address = segment, address


_made: dict[str, _Made] = {}
_lock = _fork.free_in_children(threading.RLock())


def _words(segment: _shared.Segment) -> memoryview:
    return memoryview(segment)[_SIZE_AT : _SIZE_AT + 16].cast("Q")


def _key(name: str) -> str:
    return _PREFIX + hashlib.blake2b(name.lstrip("/").encode(), digest_size=16).hexdigest()


def _bind(address: str) -> socket.socket:
    one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        one.bind("\0" + address)
    except BaseException:
        one.close()
        raise
    return one


def _places(key: str) -> Iterator[tuple[int, int, bytes]]:
    """Where blocks of a name are said to be."""
    wanted = f"@{key}/".encode()
    with open(_ADDRESSES, "rb") as file:
        lines = [line for line in file.read().split(b"\n") if wanted in line]
    for line in lines:
        try:
            pid, fd, cookie = line.partition(wanted)[2].split(b"/")
            yield int(pid), int(fd), bytes.fromhex(cookie.decode())
        except ValueError:
            continue  # somebody else's


def _find(name: str) -> _shared.Segment | None:
    for pid, fd, cookie in _places(_key(name)):
        try:
            segment = _shared.known(cookie)
            if segment is None:
                descriptor = _shared.open_descriptor(pid, fd)
                try:
                    segment = _shared.Segment.of_descriptor(descriptor, cookie)
                finally:
                    os.close(descriptor)
        except (OSError, _native.NativeError):
            continue  # its maker has ended meanwhile, or is another user's
        size, unlinked = _words(segment)
        if not unlinked and size <= len(memoryview(segment)) - _DATA_AT:
            return segment
    return None


def _forget_unlinked() -> None:
    for name, made in list(_made.items()):
        if _words(made.segment)[1]:
            made.address.close()
            del _made[name]


def _make(name: str, size: int) -> _shared.Segment:
    key = _key(name)
    try:
        turn = _bind(key)
    except OSError:
        raise FileExistsError(17, os.strerror(17), name) from None
    with turn:
        if _find(name) is not None:
            raise FileExistsError(17, os.strerror(17), name)
        try:
            segment = _shared.Segment.create(_DATA_AT - _shared.HEADER_BYTES + size)
        except MemoryError:
            raise OSError(12, os.strerror(12), name) from None
        _words(segment)[0] = size
        address = _bind(f"{key}/{os.getpid()}/{segment.fd()}/{segment.cookie.hex()}")
        _made[name] = _Made(segment, address)
        return segment


class SharedMemory:
    """A block of shared memory with a name; .buf is its bytes.

    As multiprocessing.shared_memory.SharedMemory, but that the name is gone when the process that has made the block
    is, and that nothing is ever left behind. track has no effect.
    """

    _flags = os.O_RDWR
    _buf: memoryview | None = None
    _segment: _shared.Segment | None = None

    def __init__(self, name: str | None = None, create: bool = False, size: int = 0, *, track: bool = True) -> None:
        if not size >= 0:
            raise ValueError("'size' must be a positive integer")
        if create:
            self._flags = _O_CREX | os.O_RDWR
            if size == 0:
                raise ValueError("'size' must be a positive number different from zero")
        if name is None and not self._flags & os.O_EXCL:
            raise ValueError("'name' can only be None if create=True")
        with _lock:
            _forget_unlinked()
            self._segment = self._open(name, size)
        self._size = _words(self._segment)[0]
        self._buf = memoryview(self._segment)[_DATA_AT : _DATA_AT + self._size]

    def _open(self, name: str | None, size: int) -> _shared.Segment:
        if name is None:
            while True:
                self._name: str = standard._make_filename()  # type: ignore[attr-defined]
                try:
                    return _make(self._name, size)
                except FileExistsError:
                    continue
        if "\0" in name:
            raise ValueError("embedded null character")
        self._name = "/" + name.lstrip("/")
        if self._name == "/" or "/" in self._name[1:] or len(os.fsencode(self._name)) > 256:
            raise OSError(22, os.strerror(22), self._name)  # as the system says of a file's name
        if self._flags & os.O_EXCL:
            return _make(self._name, size)
        segment = _find(self._name)
        if segment is not None:
            return segment
        if self._flags & os.O_CREAT:
            return _make(self._name, size)
        raise FileNotFoundError(2, os.strerror(2), self._name)

    def __del__(self) -> None:
        with contextlib.suppress(BufferError):  # somebody has a view of it, which keeps the memory
            self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return self.__class__, (self.name, False, self.size)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.name!r}, size={self.size})"

    @property
    def buf(self) -> memoryview | None:
        """The bytes; None after close()."""
        return self._buf

    @property
    def name(self) -> str:
        return self._name.lstrip("/")

    @property
    def size(self) -> int:
        return self._size

    def close(self) -> None:
        """Lets go of the memory here; arrays on top of it keep it, as long as they are there. The name stays."""
        if self._buf is not None:
            self._buf.release()
            self._buf = None
        self._segment = None

    def unlink(self) -> None:
        """Ends the name. The memory goes when nobody has it any more."""
        with _lock:
            if "\0" in self._name:
                raise ValueError("embedded null character")
            segment = _find(self._name)
            if segment is None:
                raise FileNotFoundError(2, os.strerror(2), self._name)
            _words(segment)[1] = 1
            _forget_unlinked()


class ShareableList(standard.ShareableList):  # type: ignore[type-arg]
    """A list in shared memory: the standard library's, whose memory comes from this module."""

    # Its __init__ makes the memory by a name of its module. This is the same function with this module's in that place.
    __init__ = cast(
        Any,
        types.FunctionType(
            standard.ShareableList.__init__.__code__,
            {**vars(standard), "SharedMemory": SharedMemory},
            "__init__",
            standard.ShareableList.__init__.__defaults__,
        ),
    )


ShareableList.__init__.__kwdefaults__ = standard.ShareableList.__init__.__kwdefaults__
