"""Messages too long for a queue's own memory: each is a segment of its own, and what is in the queue says where.

The sender keeps the segment until the receiver has set the event in it. A receiver takes what is in the queue before it
can open the segment. If it cannot for want of descriptors or memory, the message stays this process's, for its next
get(). If it is killed in between, nobody can tell the sender. So the sender looks whether the message has left the
queue: that is so when the queue has been empty since, or when something that it put later has been taken. Where that
has been so for LOST_SECONDS, the message counts as lost wherever the sender would have to wait for it.
"""

from __future__ import annotations

import errno
import os
import pickle
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from . import _fork, _native, _shared
from .errors import OwnerDied

LONG_BYTES = 16 << 10  # a message of more has a segment of its own
MOST_LONG = 64  # that wait in one process to be taken
LOST_SECONDS = 5.0
LONGEST_PAUSE = 0.05

_LONG = struct.Struct("=8s16sQ")  # magic, cookie, how many lengths follow the event
_MAGIC = b"tine.msg"
_EVENT_AT = 64
_LENGTHS_AT = _EVENT_AT + 64
_FIRST = 0xFF  # native/native.h has it too; no pickle begins with it
_VALUE = b"\3"  # nor with what begins a message that is none


def _segment(size: int = 0, fd: int = -1) -> _native.Segment:
    """A segment; OSError says of what there is too little, as it does of files."""
    try:
        return _native.Segment(size, fd)
    except _native.NativeError as error:
        code = -int(error.args[0])
        if code in (errno.EMFILE, errno.ENFILE, errno.EAGAIN):
            raise OSError(code, os.strerror(code)) from None
        raise


class Long:
    """A long message that this process has put, until somebody has taken it."""

    def __init__(self, data: bytes, buffers: list[pickle.PickleBuffer]) -> None:
        parts = [memoryview(data), *(buffer.raw() for buffer in buffers)]
        at = _LENGTHS_AT + 8 * len(parts)
        places = []
        for part in parts:
            at = -(-at // 64) * 64
            places.append(at)
            at += part.nbytes
        self.segment = _segment(size=at)
        view = memoryview(self.segment)
        cookie = os.urandom(16)
        _LONG.pack_into(view, 0, _MAGIC, cookie, len(parts))
        struct.pack_into(f"={len(parts)}Q", view, _LENGTHS_AT, *(part.nbytes for part in parts))
        for place, part in zip(places, parts):
            view[place : place + part.nbytes] = part.cast("B") if part.nbytes else part
        self.taken = _native.Event(None, self.segment, _EVENT_AT, True)
        fd = self.segment.fd()
        if fd >= 1 << 16:
            raise OSError(errno.EMFILE, f"descriptor {fd} is too large a number for a message in a queue")
        self.record = bytes([_FIRST]) + os.getpid().to_bytes(3, "little") + fd.to_bytes(2, "little") + cookie[:2]
        self.put_from = 0  # when it was not in the queue yet, by time.monotonic_ns()
        self.put_until: int | None = None  # when it was; None: not yet
        self.left_at: float | None = None  # since when it is known to be in the queue no more


# Those of each queue, which outlive its object.
_held: list[Outstanding] = []
_held_lock = _fork.free_in_children(threading.RLock())


class Outstanding:
    """The long messages that this process has put into a queue, and that nobody has taken yet."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count
        self._messages: deque[Long] = deque()
        self._left_until = 0  # what was in the queue by then has left it

    def put(self, message: Long, put: Callable[[bytes], bool]) -> bool:
        """Puts a message's record; whether there was room."""
        with _held_lock:
            message.put_from = time.monotonic_ns()
            self._messages.append(message)
            if not any(each is self for each in _held):
                _held.append(self)
        done = False
        try:
            done = put(message.record)
        finally:
            with _held_lock:
                if done:
                    message.put_until = time.monotonic_ns()
                elif message in self._messages:
                    self._messages.remove(message)
        return done

    def wait(self, most: int, end: float | None) -> bool:
        """Waits until at most so many are left that are neither taken nor lost; whether that was so in time."""
        pause = 0.001
        while True:
            self.forget(True)
            try:
                oldest = self._messages[0] if len(self._messages) > most else None
            except IndexError:
                oldest = None  # another thread has seen that they are taken
            if oldest is None:
                return True
            left = pause if end is None else min(pause, end - time.monotonic())
            if left <= 0:
                return False
            oldest.taken.wait(left)  # each of them may be taken: so it is not waited for alone
            pause = min(2 * pause, LONGEST_PAUSE)

    def forget(self, lost: bool) -> None:
        """Forgets what has been taken, and, if asked to, what is lost."""
        now = time.monotonic()
        with _held_lock:
            asked = time.monotonic_ns()
            if self._messages and self._count() == 0:
                self._left_until = asked
            taken = [message for message in self._messages if message.taken.is_set()]
            for message in taken:
                self._left_until = max(self._left_until, message.put_from)
                self._messages.remove(message)
            for message in list(self._messages):
                if message.put_until is None or message.put_until >= self._left_until:
                    continue
                if message.left_at is None:
                    message.left_at = now
                elif lost and now - message.left_at >= LOST_SECONDS:
                    self._messages.remove(message)
            if not self._messages and any(each is self for each in _held):
                _held.remove(self)


def forget_taken() -> None:
    """Frees what has been taken, of all queues."""
    with _held_lock:
        for each in list(_held):
            each.forget(False)


def _gone(pid: int) -> OwnerDied:
    return OwnerDied(f"process {pid}, which had put a long message into a queue, has ended or given it up", pid)


class Taker:
    """Takes long messages out of one queue."""

    def __init__(self) -> None:
        self.unread: list[bytes] = []  # records that this process has taken, and could not open yet
        self._lock = threading.Lock()

    def open(self, record: bytes) -> list[memoryview]:
        """The parts of a message, from here on taken. OwnerDied and PermissionError: nobody gets it any more."""
        pid, fd = int.from_bytes(record[1:4], "little"), int.from_bytes(record[4:6], "little")
        try:
            descriptor = _shared.open_descriptor(pid, fd)
        except (FileNotFoundError, ProcessLookupError):
            raise _gone(pid) from None
        try:
            segment = _segment(fd=descriptor)
        except _native.NativeError:
            raise _gone(pid) from None
        finally:
            os.close(descriptor)
        view = memoryview(segment)
        magic, cookie, count = _LONG.unpack_from(view)
        if magic != _MAGIC or cookie[:2] != record[6:8]:
            raise _gone(pid)
        parts, at = [], _LENGTHS_AT + 8 * count
        for length in struct.unpack_from(f"={count}Q", view, _LENGTHS_AT):
            at = -(-at // 64) * 64
            parts.append(view[at : at + length])
            at += length
        _native.Event(None, segment, _EVENT_AT, False).set()
        return parts

    def read(self, parts: list[memoryview]) -> Any:
        """The object that a message's parts are."""
        if parts[0][:1] == _VALUE:
            return _native.decode_value(parts[0])
        return pickle.loads(parts[0], buffers=parts[1:])

    def keep(self, record: bytes) -> None:
        """For a record that could not be opened: the next get() of this process tries again."""
        self.unread.append(record)

    def read_again(self) -> tuple[Any] | None:
        """An object that could not be read before, if there is one."""
        with self._lock:
            if not self.unread:
                return None
            try:
                parts = self.open(self.unread[0])
            except (OwnerDied, PermissionError):
                del self.unread[0]
                raise
            del self.unread[0]
        return (self.read(parts),)
