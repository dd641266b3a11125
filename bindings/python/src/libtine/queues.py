"""multiprocessing.queues on tine's queues: what put() has put is there, and a killed process blocks nobody.

A message is a pickle, or what needs none, as native/codec.c has it. A long one is a segment of its own (_long.py).

A queue without maxsize holds a number of messages. What is put when it is full goes, in order, to a thread that puts it
as there is room, so that put() never waits.
"""

from __future__ import annotations

import errno
import operator
import os
import pickle
import sys
import threading
import time
import types
import weakref
from collections import deque
from multiprocessing import util
from queue import Empty, Full
from typing import Any

from . import _fork, _native, _shared, _travel
from ._long import LONG_BYTES, MOST_LONG, Long, Outstanding, Taker, forget_taken
from ._slots import Slots
from ._timeout import FOREVER_NS, finite, timeout_ns

__all__ = ["JoinableQueue", "Queue", "SimpleQueue"]

UNBOUNDED_MESSAGES = 16384
MOST_MESSAGES = 1 << 20  # a maxsize of more is none: it is memory that bounds such a queue
RING_BYTES = 256 << 10
MOMENT_NS = 1_000_000


def _ns(block: bool, timeout: float | None) -> int:
    return timeout_ns(timeout) if block else 0


# The process that runs this, asked for after forks only.
_pid = os.getpid()


def _ask_pid() -> None:
    global _pid
    _pid = os.getpid()


os.register_at_fork(after_in_child=_ask_pid)

# ---- Queues


_lock = _fork.free_in_children(threading.Lock())


class _Handle:
    """What all objects of this process for one queue share."""

    __slots__ = ("__weakref__", "identity", "memory", "queue", "taker")

    def __init__(self, memory: _native.Segment, queue: _native.Queue) -> None:
        self.memory, self.queue, self.taker = memory, queue, Taker()
        self.identity = _identity(memory.fd())


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


_handles: weakref.WeakValueDictionary[tuple[int, int], _Handle] = weakref.WeakValueDictionary()


def _create(messages: int) -> _Handle:
    index = 16 << max(messages - 1, 1).bit_length()
    memory = _native.Segment(2 * RING_BYTES + index + (256 << 10), any_address=False)
    handle = _Handle(memory, _native.Queue(memory, messages, RING_BYTES))
    with _lock:
        _handles[handle.identity] = handle
    return handle


def _attach(place: _travel.Place, identity: tuple[int, int], address: int) -> _Handle:
    with _lock:
        handle = _handles.get(identity)
        if handle is not None:
            return handle
        gone = FileNotFoundError(f"the queue's memory in process {place.pid} is gone: the process has ended")
        if place.number is not None:
            fd = os.dup(_travel.received(place.number))
        else:
            try:
                fd = _shared.open_descriptor(place.pid, place.fd)
            except (FileNotFoundError, ProcessLookupError):
                raise gone from None
        try:
            if _identity(fd) != identity:
                raise gone
            memory = _native.Segment(fd=fd, any_address=False)
        finally:
            os.close(fd)
        handle = _handles[identity] = _Handle(memory, _native.Queue(memory, address=address))
        return handle


class _Reader:
    """What waits for a queue among other things: multiprocessing.connection.wait, select, asyncio."""

    def __init__(self, queue: _Base) -> None:
        self._queue = queue

    @property
    def closed(self) -> bool:
        return self._queue._closed

    def fileno(self) -> int:
        return self._queue._open().fd()

    def close(self) -> None:
        self._queue.close()

    def poll(self, timeout: float | None = 0.0) -> bool:
        from .connection import wait

        return not self._queue.empty() or bool(wait([self.fileno()], finite(timeout)))


class _Base:
    __class_getitem__: Any = classmethod(types.GenericAlias)

    def __init__(self, messages: int) -> None:
        self._set(_create(messages), True)

    def _set(self, handle: _Handle, made_here: bool) -> None:
        self._handle, self._pid = handle, _pid
        self._queue = handle.queue
        self._closed = False
        self._long = Outstanding(handle.queue.count)
        self._flushed = threading.Event()
        self._flushed.set()
        self._wait_at_exit = not made_here
        self._finalizer: Any = None

    def __getstate__(self) -> tuple[Any, ...]:
        memory = self._handle.memory
        return _travel.place_of(memory.fd()), self._handle.identity, self._queue.address()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._set(_attach(*state), False)

    def _open(self) -> _native.Queue:
        if self._pid != _pid:  # a forked child opens for itself
            old = self._handle
            with _lock:
                known = _handles.get(old.identity)
                if known is None or known is old:
                    queue = _native.Queue(old.memory, address=old.queue.address())
                    known = _handles[old.identity] = _Handle(old.memory, queue)
            self._set(known, False)
        return self._queue

    @property
    def _reader(self) -> _Reader:
        return _Reader(self)

    _writer = _reader

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"Queue {self!r} is closed")

    def _get(self, timeout_ns: int) -> Any:
        queue = self._queue if self._pid == _pid else self._open()
        taker = self._handle.taker
        if taker.unread and (again := taker.read_again()) is not None:
            return again[0]
        return queue.get_object(timeout_ns, pickle.loads, Empty, taker)

    def _message(self, obj: Any) -> bytes | Long:
        plain = _native.encode_value(obj)
        if plain is not None and len(plain) <= LONG_BYTES:
            return plain
        buffers: list[pickle.PickleBuffer] = []
        data = _travel.dumps(obj, buffers.append)
        if not buffers:
            return data if len(data) <= LONG_BYTES else Long(data, buffers)
        if len(data) + sum(buffer.raw().nbytes for buffer in buffers) > LONG_BYTES:
            return Long(data, buffers)
        return _travel.dumps(obj)

    def _put(self, message: bytes | Long, timeout_ns: int) -> bool:
        """Whether there was room in time."""
        queue = self._open()
        if isinstance(message, bytes):
            # Without room, another is in the middle of a put, or the queue is full: of messages, or of bytes only.
            if queue.put(message) or (timeout_ns and queue.put(message, min(timeout_ns, MOMENT_NS))):
                return True
            if queue.is_full():
                return timeout_ns > 0 and queue.put(message, timeout_ns)
            short = message
            try:
                message = Long(short, [])
            except (OSError, MemoryError):  # then it waits until others' bytes have been got
                return timeout_ns > 0 and queue.put(short, timeout_ns)
        return self._put_long(queue, message, timeout_ns)

    def _put_long(self, queue: _native.Queue, message: Long, timeout_ns: int) -> bool:
        end_ns = None if timeout_ns == FOREVER_NS else time.monotonic_ns() + timeout_ns
        forget_taken()
        if not self._long.wait(MOST_LONG - 1, None if end_ns is None else end_ns / 1e9):
            return False
        left = FOREVER_NS if end_ns is None else max(end_ns - time.monotonic_ns(), 0)
        if not self._long.put(message, lambda record: queue.put(record, left)):
            return False
        self._finish_at_exit()
        return True

    def _finish_at_exit(self) -> None:
        """What this process has put, but holds still, is waited for at its end, unless it has made the queue."""
        if self._wait_at_exit and self._finalizer is None:
            self._finalizer = util.Finalize(None, _finish, [self._long, self._flushed], exitpriority=-5)

    def empty(self) -> bool:
        """Whether nothing is in it at this moment."""
        return self._open().count() == 0 and not self._handle.taker.unread

    def close(self) -> None:
        """This process puts and gets no more."""
        self._closed = True


def _finish(long: Outstanding, flushed: threading.Event) -> None:
    flushed.wait()
    long.wait(0, None)


class SimpleQueue(_Base):
    """Puts and gets, and no more."""

    def __init__(self, *, ctx: Any = None) -> None:
        super().__init__(UNBOUNDED_MESSAGES)

    def _check_open(self) -> None:
        if self._closed:
            raise OSError("handle is closed")

    def put(self, obj: Any) -> None:
        """Puts an object."""
        self._check_open()
        if not self._open().put_value(obj):
            self._put(self._message(obj), FOREVER_NS)

    def get(self) -> Any:
        """Gets an object, when there is one."""
        self._check_open()
        return self._get(FOREVER_NS)

    def empty(self) -> bool:
        """Whether nothing is in it at this moment."""
        self._check_open()
        return super().empty()


class Queue(_Base):
    """As queue.Queue: for up to maxsize objects, or any number."""

    def __init__(self, maxsize: int = 0, *, ctx: Any = None) -> None:
        self._maxsize = 0 if maxsize <= 0 or operator.index(maxsize) > MOST_MESSAGES else maxsize
        super().__init__(self._maxsize or UNBOUNDED_MESSAGES)

    def _set(self, handle: _Handle, made_here: bool) -> None:
        super()._set(handle, made_here)
        self._used = False  # by a put here; until then close() does nothing
        self._later: deque[bytes | Long] = deque()
        self._feeder: threading.Thread | None = None
        self._feeding = threading.Lock()

    def __getstate__(self) -> tuple[Any, ...]:
        return super().__getstate__(), self._maxsize

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        base, self._maxsize = state
        super().__setstate__(base)

    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
        """Puts an object; Full after timeout seconds without room, or, unless block, at once."""
        if self._closed:
            self._check_open()
        self._used = True
        queue = self._queue if self._pid == _pid else self._open()
        if not self._later and queue.put_value(obj):
            return
        message = self._message(obj)
        if not self._later and isinstance(message, bytes) and queue.put(message):
            return
        if self._maxsize:
            if not self._put(message, _ns(block, timeout)):
                raise Full
        elif self._later or not self._put_now(message):
            self._put_later(message)

    def _put_now(self, message: bytes | Long) -> bool:
        queue = self._open()
        if isinstance(message, bytes):
            return not queue.is_full() and queue.put(message, MOMENT_NS)
        return self._put_long(queue, message, MOMENT_NS)

    def _begin_outside(self) -> None:
        """For those who ask whether messages wait in this process for room."""

    def _end_outside(self) -> None:
        """Now none does."""

    def _put_later(self, message: bytes | Long) -> None:
        with self._feeding:
            if self._feeder is None:
                self._start_feeder(message)
            else:
                self._later.append(message)
        self._finish_at_exit()

    def _start_feeder(self, message: bytes | Long) -> None:
        feeder = threading.Thread(target=self._feed, name="QueueFeederThread", daemon=True)
        self._begin_outside()
        self._later.append(message)
        self._flushed.clear()
        self._feeder = feeder  # before it runs: an interruption of start() does not end it
        try:
            feeder.start()
        except Exception:  # nobody would ever put it
            self._feeder = None
            self._later.pop()
            self._flushed.set()
            self._end_outside()
            raise

    def _feed(self) -> None:
        later, put = self._later, self._open().put
        while True:
            message = later[0]
            try:
                if not (isinstance(message, bytes) and put(message)):
                    self._put(message, FOREVER_NS)
            except Exception:  # which nobody can be told of any more; those behind it go on
                threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
            later.popleft()  # not before it is in the queue: others would put theirs past it
            if later:
                continue
            with self._feeding:
                if not later:
                    self._feeder = None
                    self._end_outside()
                    self._flushed.set()
                    return

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Gets an object; Empty after timeout seconds without any, or, unless block, at once."""
        if self._closed:
            self._check_open()
        return self._get(FOREVER_NS if block and timeout is None else _ns(block, timeout))

    def put_nowait(self, obj: Any) -> None:
        """put(obj, False)"""
        self.put(obj, False)

    def get_nowait(self) -> Any:
        """get(False)"""
        return self.get(False)

    def qsize(self) -> int:
        """How many objects are in it; those that only this process has yet are counted here alone."""
        return self._open().count() + len(self._handle.taker.unread) + len(self._later)

    def empty(self) -> bool:
        """Whether nothing is in it at this moment."""
        if self._closed and self._used:
            raise OSError("handle is closed")
        return self.qsize() == 0

    def full(self) -> bool:
        """Whether it holds maxsize objects at this moment."""
        return self._maxsize > 0 and self._open().is_full()

    def join_thread(self) -> None:
        """Waits until all that was put has found room. Only after close()."""
        assert self._closed, f"Queue {self!r} not closed"
        if self._pid == _pid:  # a forked child has nothing of its own in the parent's queue
            self._flushed.wait()

    def cancel_join_thread(self) -> None:
        """The end of the process does not wait for what has found no room, or has not been taken: it is lost."""
        self._wait_at_exit = False
        if self._finalizer is not None:
            self._finalizer.cancel()


class _Outside:
    """Which processes have a thread with messages of a queue that found no room: those the queue does not count yet.

    Each of them holds a place meanwhile. What a killed one had is lost with it, and nobody waits for that.
    """

    PROCESSES = 252  # as many as can have a queue open

    def __init__(self, slots: Slots) -> None:
        self._slots = slots

    def begin(self) -> int:
        """Takes a place; its number."""
        slots = self._slots
        for index in range(slots.count):
            slots.marks[index] = 1  # it has been used: the others are not looked at
            if slots.take(index):
                slots.holder_died(index)
                return index
        raise OSError(errno.ENOLCK, f"more than {slots.count} processes have messages that find no room in the queue")

    def end(self, index: int) -> None:
        self._slots.release(index)

    def wait(self, timeout: float | None) -> bool:
        """Waits until each place has been free; with a timeout of 0, whether all are."""
        slots = self._slots
        for index in range(slots.count):
            if slots.marks[index]:
                if not slots.take(index, timeout):
                    return False
                slots.holder_died(index)
                slots.release(index)
        return True


class JoinableQueue(Queue):
    """A queue that knows whether all that was put has been dealt with."""

    def __init__(self, maxsize: int = 0, *, ctx: Any = None) -> None:
        super().__init__(maxsize)
        self._slots = None if self._maxsize else Slots.create(_Outside.PROCESSES)

    def _set(self, handle: _Handle, made_here: bool) -> None:
        super()._set(handle, made_here)
        self._place = -1

    def __getstate__(self) -> tuple[Any, ...]:
        return super().__getstate__(), self._slots

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        base, self._slots = state
        super().__setstate__(base)

    def _begin_outside(self) -> None:
        if self._slots is not None:
            self._place = _Outside(self._slots).begin()

    def _end_outside(self) -> None:
        if self._slots is not None:
            _Outside(self._slots).end(self._place)

    def task_done(self) -> None:
        """Says that an object which was got has been dealt with."""
        self._open().task_done()

    def join(self) -> None:
        """Waits until task_done() was called for all that was put."""
        outside = None if self._slots is None else _Outside(self._slots)
        while True:
            if outside is not None:
                outside.wait(None)
            self._open().join(FOREVER_NS)
            if outside is None or outside.wait(0):
                return
