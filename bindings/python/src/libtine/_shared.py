"""Shared memory of Python objects: segments, and the blocks in them.

A segment starts with a header that identifies it: a cookie. A process has each segment once; `attach` finds it by its
cookie, by a descriptor that came along, or in the process that sent it (/proc/PID/fd).

Small objects are blocks of a segment that their maker shares out; a large one has a segment of its own. Only the
process that has made a segment gives blocks of it out, so there is nothing in shared memory that a death could tear. A
block that never left its process is used again. One that did is not, since nobody can know who has it: its segment goes
as a whole, when all objects in it have gone, in this process, and then in each other one.
"""

from __future__ import annotations

import os
import stat
import struct
import threading
import weakref
from typing import Any

from . import _fork, _native, _travel

HEADER_BYTES = 64
COOKIE_BYTES = 16
SHARED_OUT_BYTES = 64 << 10  # a segment that small objects are shared out of
SMALL_BYTES = 8 << 10
_HEADER = struct.Struct("=8s16s")
_MAGIC = b"tine.py1"


class Segment(_native.Segment):
    """A segment with a cookie. Its bytes from HEADER_BYTES on are for use."""

    cookie: bytes

    @classmethod
    def create(cls, size: int, *, any_address: bool = True) -> Segment:
        self = cls(size + HEADER_BYTES, any_address=any_address)
        self.cookie = os.urandom(COOKIE_BYTES)
        _HEADER.pack_into(self, 0, _MAGIC, self.cookie)
        with _lock:
            _known[self.cookie] = self
        return self

    @classmethod
    def of_descriptor(cls, fd: int, cookie: bytes, *, any_address: bool = True) -> Segment:
        """The segment behind a descriptor, which stays the caller's. It has to have this cookie."""
        with _lock:
            known = _known.get(cookie)
            if known is None:
                self = cls(fd=fd, any_address=any_address)
                view = memoryview(self)
                if len(view) < HEADER_BYTES or _HEADER.unpack_from(view) != (_MAGIC, cookie):
                    raise FileNotFoundError("the descriptor is of other shared memory than it was said to be")
                self.cookie = cookie
                known = _known[cookie] = self
            return known


_known: weakref.WeakValueDictionary[bytes, Segment] = weakref.WeakValueDictionary()
_lock = _fork.free_in_children(threading.RLock())


def known(cookie: bytes) -> Segment | None:
    """The segment of this cookie, if this process has it."""
    with _lock:
        return _known.get(cookie)


def open_descriptor(pid: int, fd: int) -> int:
    """A descriptor of the shared memory behind another process's descriptor; FileNotFoundError for anything else."""
    path = os.open(f"/proc/{pid}/fd/{fd}", os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(path).st_mode):
            raise FileNotFoundError(f"descriptor {fd} of process {pid} is no shared memory")
        return os.open(f"/proc/self/fd/{path}", os.O_RDWR | os.O_CLOEXEC)
    finally:
        os.close(path)


def attach(cookie: bytes, place: _travel.Place, any_address: bool = True) -> Segment:
    """The segment that another process has sent."""
    segment = known(cookie)
    if segment is not None:
        return segment
    if place.number is not None:
        fd = _travel.received(place.number)
        return Segment.of_descriptor(fd, cookie, any_address=any_address)
    try:
        fd = open_descriptor(place.pid, place.fd)
    except (FileNotFoundError, ProcessLookupError):
        raise FileNotFoundError(
            f"shared memory of process {place.pid} is gone: the process has ended, or does not use it any more"
        ) from None
    try:
        return Segment.of_descriptor(fd, cookie, any_address=any_address)
    except _native.NativeError:
        raise FileNotFoundError(
            f"descriptor {place.fd} of process {place.pid} is no shared memory of libtine"
        ) from None
    finally:
        os.close(fd)


class _SharedOut:
    """A segment that blocks are given out of, one after the other."""

    def __init__(self) -> None:
        self.segment = Segment.create(SHARED_OUT_BYTES - HEADER_BYTES)
        self.used = HEADER_BYTES
        self.pid = os.getpid()
        self.free: dict[int, list[int]] = {}

    def take(self, size: int) -> int | None:
        if free := self.free.get(size):
            return free.pop()
        if size > SHARED_OUT_BYTES - self.used:
            return None
        offset = self.used
        self.used += size
        return offset


_current: _SharedOut | None = None


class Block:
    """Bytes of a segment, all zero at first, at a multiple of 64."""

    __slots__ = ("__weakref__", "_source", "offset", "segment", "shared", "size")

    def __init__(self, segment: Segment, offset: int, size: int, source: _SharedOut | None = None) -> None:
        self.segment, self.offset, self.size, self._source = segment, offset, size, source
        self.shared = source is None

    def view(self) -> memoryview:
        return memoryview(self.segment)[self.offset : self.offset + self.size]

    create_memoryview = view  # its name in multiprocessing.sharedctypes, which rebuilds some of what has been pickled

    def __reduce__(self) -> tuple[Any, ...]:
        self.shared = True
        _travel.keep(self)
        return _rebuild, (self.segment.cookie, _travel.place_of(self.segment.fd()), self.offset, self.size)

    def __del__(self) -> None:
        source = self._source
        if source is not None and not self.shared and source.pid == os.getpid():
            rounded = -(-self.size // 64) * 64
            memoryview(self.segment)[self.offset : self.offset + rounded] = bytes(rounded)
            source.free.setdefault(rounded, []).append(self.offset)


def _rebuild(cookie: bytes, place: _travel.Place, offset: int, size: int) -> Block:
    return Block(attach(cookie, place), offset, size)


def allocate(size: int) -> Block:
    """A block of this process's own."""
    global _current
    if size > SMALL_BYTES:
        segment = Segment.create(size)
        return Block(segment, HEADER_BYTES, size)
    rounded = max(-(-size // 64) * 64, 64)
    with _lock:
        while True:
            source = _current
            if (
                source is None or source.pid != os.getpid()
            ):  # a forked child has the parent's, which the parent gives out of
                source = _current = _SharedOut()
            offset = source.take(rounded)
            if offset is not None:
                return Block(source.segment, offset, size, source)
            _current = None
