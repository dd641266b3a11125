"""How objects of shared memory travel to another process.

To a process that starts, and through a connection, descriptors travel along (`sending`). Elsewhere, through queues and
as arguments of tasks, an object says where its memory is: which descriptor of which process, there to be opened while
that process has it. The receiver checks a cookie, so that a number which means something else by then is an error.
"""

from __future__ import annotations

import copyreg
import os
import pickle
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple


class Place(NamedTuple):
    """Where a descriptor is to be had: the number of one that travels along, or that of a process."""

    number: int | None
    pid: int
    fd: int


class _Carriage(threading.local):
    outgoing: list[int] | None = None
    incoming: Sequence[int] | None = None


_carriage = _Carriage()


class _Kept(threading.local):
    blocks: list[Any] | None = None  # None: nobody collects them
    collected: list[Any] | None = None


_kept = _Kept()


def is_sending() -> bool:
    """Whether descriptors can travel along with what is pickled."""
    return _carriage.outgoing is not None


def keep(block: object) -> None:
    """Says that a block is in what is pickled, to who has to keep it until the receiver has it."""
    if _kept.blocks is not None:
        _kept.blocks.append(block)


@contextmanager
def keeping() -> Iterator[None]:
    """While a call is pickled: collects the blocks in it for take_kept(). In other ways the sender has to keep them."""
    before, _kept.blocks = _kept.blocks, []
    _kept.collected = None
    try:
        yield
        _kept.collected = _kept.blocks or None
    finally:
        _kept.blocks = before


def take_kept() -> list[Any] | None:
    """What the last keeping() of this thread has collected, unless it has been taken."""
    blocks, _kept.collected = _kept.collected, None
    return blocks


@contextmanager
def sending() -> Iterator[list[int]]:
    """While objects are pickled: collects the descriptors that are to travel with them."""
    before, _carriage.outgoing = _carriage.outgoing, []
    try:
        yield _carriage.outgoing
    finally:
        _carriage.outgoing = before


@contextmanager
def receiving(fds: Sequence[int]) -> Iterator[None]:
    """While objects are unpickled: the descriptors that travelled with them, which stay the caller's."""
    before, _carriage.incoming = _carriage.incoming, fds
    try:
        yield
    finally:
        _carriage.incoming = before


def carry(fd: int) -> int | None:
    """Has a descriptor travel along; its number for received(), or None where none can."""
    fds = _carriage.outgoing
    if fds is None:
        return None
    if fd in fds:
        return fds.index(fd)
    fds.append(fd)
    return len(fds) - 1


def place_of(fd: int) -> Place:
    """Where the receiver finds a descriptor."""
    return Place(carry(fd), os.getpid(), fd)


def received(number: int) -> int:
    """A descriptor that travelled along."""
    fds = _carriage.incoming
    if fds is None or number >= len(fds):
        raise ValueError("the descriptors of what is read are lost: it was sent in another way than it is received")
    return fds[number]


_reducers: dict[type[Any], Any] = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
_HARMLESS = {
    "multiprocessing.reduction",
    "multiprocessing.connection",
    "multiprocessing.managers",
    "multiprocessing.heap",
    "libtine.sharedctypes",
}
_looked_at, _plain_will_do = 0, True


def _look_at_reducers() -> None:
    """Finds out whether a plain pickler does as well as multiprocessing.reduction's."""
    global _looked_at, _plain_will_do
    for cls, reducer in _reducers.items():
        if cls.__module__ == "multiprocessing.connection":  # which a plain pickler would take for an ordinary object
            copyreg.pickle(cls, reducer)
    _plain_will_do = {reducer.__module__ for reducer in _reducers.values()} <= _HARMLESS
    _looked_at = len(_reducers)


def dumps(value: object, buffers: Any = None) -> bytes:
    """A pickle, with what multiprocessing.reduction registers. buffers: as pickle.dumps' buffer_callback."""
    if len(_reducers) != _looked_at:
        _look_at_reducers()
    if _plain_will_do:
        try:
            return pickle.dumps(value, 5, buffer_callback=buffers)
        except (TypeError, AttributeError, pickle.PicklingError):
            pass  # a socket, say
    return dumps_registered(value)


def dumps_registered(value: object) -> bytes:
    """A pickle by all that multiprocessing.reduction registers."""
    return bytes(ForkingPickler.dumps(value, 5))
