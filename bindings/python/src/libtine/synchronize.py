"""multiprocessing.synchronize on tine's locks: what a dead process held is told of, and never waited for."""

from __future__ import annotations

import operator
import os
import threading
import time
from collections.abc import Callable
from multiprocessing import process
from types import TracebackType
from typing import Any, NoReturn

from . import _native, _shared
from ._slots import Slots
from ._timeout import finite
from .errors import OwnerDied

__all__ = ["Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"]

SEM_VALUE_MAX = 2**31 - 1

_native.use_exceptions(OwnerDied, threading.BrokenBarrierError)


class _Repair:
    """What repair() gives: the lock is held until its end, and whole from then on unless an exception ends it."""

    def __init__(self, lock: _Mutex) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        self._lock._take_dead()

    def __exit__(self, error: type[BaseException] | None, _value: object, _trace: TracebackType | None) -> None:
        if error is None:
            self._lock._repaired()
        self._lock.release()


class _Mutex(_native.Mutex):
    _recursive = False

    def __new__(cls, *, ctx: Any = None) -> Any:
        block = _shared.allocate(_native.MUTEX_BYTES)
        return super().__new__(cls, block, block.segment, block.offset, cls._recursive, True)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (_native.Mutex, type(self), self._block, self._recursive, False)

    def repair(self) -> _Repair:
        """For a lock whose holder has died: `with lock.repair():` holds it, and what it protects is whole after it."""
        return _Repair(self)

    def locked(self) -> bool:
        """Whether somebody holds it at this moment."""
        return self._state()[0] != 0

    def _owner(self) -> tuple[str, bool]:
        """Who holds it, as multiprocessing says it, and whether that is this thread."""
        pid, *_ = self._state()
        if not pid:
            return "None", False
        if pid != os.getpid():
            return "SomeOtherProcess", False
        if not self._is_mine():
            return "SomeOtherThread", False
        name = process.current_process().name
        if threading.current_thread().name != "MainThread":
            name += "|" + threading.current_thread().name
        return name, True


def _rebuild(base: Any, cls: type[Any], block: _shared.Block, *args: Any) -> Any:
    return base.__new__(cls, block, block.segment, block.offset, *args)


class Lock(_Mutex):
    """A lock that its process releases: any thread of it."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(owner={self._owner()[0]})>"


class RLock(_Mutex):
    """A lock that its thread may take several times."""

    _recursive = True

    def __repr__(self) -> str:
        name, mine = self._owner()
        count = self._state()[2] if mine else 0 if name == "None" else "nonzero"
        return f"<{type(self).__name__}({name}, {count})>"


class Semaphore(_native.Semaphore):
    """Units that are taken and given back, by anybody."""

    def __new__(cls, value: int = 1, *, ctx: Any = None) -> Any:
        return cls._create(value, SEM_VALUE_MAX)

    @classmethod
    def _create(cls, value: int, most: int) -> Any:
        if not 0 <= operator.index(value) <= SEM_VALUE_MAX:
            raise ValueError(f"semaphore initial value must be from 0 to {SEM_VALUE_MAX}, not {value}")
        block = _shared.allocate(_native.SEMAPHORE_BYTES)
        return _native.Semaphore.__new__(cls, block, block.segment, block.offset, value, most, True)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (_native.Semaphore, type(self), self._block, 0, 0, False)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(value={self.get_value()})>"


def _release_of_none() -> NoReturn:
    raise ValueError("semaphore or lock released too many times")


class BoundedSemaphore(Semaphore):
    """A semaphore that never has more units than at first."""

    _most: int

    def __new__(cls, value: int = 1, *, ctx: Any = None) -> Any:
        most = int(operator.index(value))
        self = cls._create(most, max(most, 1))
        self.__setstate__(most)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (*super().__reduce__(), self._most)

    def __setstate__(self, most: int) -> None:
        self._most = most
        if most == 0:  # of which tine has none
            self.release = _release_of_none  # type: ignore[method-assign]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(value={self.get_value()}, maxvalue={self._most})>"


class _Count:
    """A number of the moment, under the name by which tools written for multiprocessing ask for it."""

    def __init__(self, get_value: Callable[[], int]) -> None:
        self.get_value = get_value


class Condition:
    """As threading.Condition. A wait raises OwnerDied, with the lock held, where a holder of it has died meanwhile."""

    def __init__(self, lock: _Mutex | None = None, *, ctx: Any = None) -> None:
        block = _shared.allocate(_native.CONDITION_BYTES)
        self._set(lock or RLock(), block, True)

    def _set(self, lock: _Mutex, block: _shared.Block, init: bool) -> None:
        if not isinstance(lock, _Mutex):
            raise TypeError(f"the lock of a condition is a Lock or an RLock of libtine's, not {lock!r}")
        self._lock = lock
        self._condition = _native.Condition(block, block.segment, block.offset, init)
        self.acquire, self.release = lock.acquire, lock.release

    def __getstate__(self) -> tuple[Any, ...]:
        return self._lock, self._condition._block

    def __setstate__(self, state: tuple[_Mutex, _shared.Block]) -> None:
        self._set(*state, False)

    def __enter__(self) -> bool:
        return self._lock.__enter__()

    def __exit__(self, *error: object) -> None:
        return self._lock.__exit__(*error)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}({self._lock}, {self._condition.waiting()})>"

    def repair(self) -> _Repair:
        """As Lock.repair, of its lock."""
        return self._lock.repair()

    def wait(self, timeout: float | None = None) -> bool:
        """Lets go of the lock until it is notified, for timeout seconds at most; returns whether it was."""
        return self._condition.wait(self._lock, timeout)

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Waits until predicate() is true, for timeout seconds at most; returns what predicate gave last."""
        end = None if timeout is None else time.monotonic() + timeout
        while not (result := predicate()):
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
        return result

    def notify(self, n: int = 1) -> None:
        """Wakes up to n of those that wait. For who holds the lock."""
        self._condition.notify(self._lock, n)

    def notify_all(self) -> None:
        """Wakes all that wait. For who holds the lock."""
        self.notify(2**32 - 1)

    @property
    def _sleeping_count(self) -> _Count:
        return _Count(self._condition.waiting)

    @property
    def _woken_count(self) -> _Count:
        return _Count(int)

    _wait_semaphore = _woken_count


class Event(_native.Event):
    """As threading.Event."""

    def __new__(cls, *, ctx: Any = None) -> Any:
        block = _shared.allocate(_native.EVENT_BYTES)
        return super().__new__(cls, block, block.segment, block.offset, True)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (_native.Event, type(self), self._block, False)

    def __repr__(self) -> str:
        return f"<{type(self).__qualname__} at {id(self):#x} {'set' if self.is_set() else 'unset'}>"


def _left(end: float | None) -> float | None:
    return None if end is None else end - time.monotonic()


# How long who came too early for a round waits before it looks again at all places.
EARLY_SECONDS = 0.01


class Barrier:
    """As threading.Barrier, for up to 128 parties. One that dies while it waits breaks it."""

    def __init__(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        ctx: Any = None,
    ) -> None:
        if not 1 <= operator.index(parties) <= _native.BARRIER_PARTIES:
            raise ValueError(f"parties must be from 1 to {_native.BARRIER_PARTIES}, not {parties}")
        barrier = _shared.allocate(_native.BARRIER_BYTES)
        turn = None if action is None else (Lock(), Slots.create(parties))
        self._set(parties, action, timeout, barrier, turn, True)

    def _set(
        self,
        parties: int,
        action: Callable[[], object] | None,
        timeout: float | None,
        barrier: _shared.Block,
        turn: tuple[Lock, Slots] | None,
        init: bool,
    ) -> None:
        self._parties, self._action, self._timeout = parties, action, timeout
        self._barrier = _native.Barrier(barrier, barrier.segment, barrier.offset, parties if init else 0)
        self._turn = turn

    def __getstate__(self) -> tuple[Any, ...]:
        return self._parties, self._action, self._timeout, self._barrier._block, self._turn

    def __setstate__(self, state: tuple[Any, Any, Any, Any, Any]) -> None:
        self._set(*state, False)

    def __repr__(self) -> str:
        name = f"{type(self).__module__}.{type(self).__qualname__} at {id(self):#x}"
        return f"<{name}: broken>" if self.broken else f"<{name}: waiters={self.n_waiting}/{self.parties}>"

    def wait(self, timeout: float | None = None) -> int:
        """Waits until all parties have come. Each gets another number from 0 to parties - 1."""
        timeout = finite(self._timeout if timeout is None else timeout)
        if self._turn is None:
            return self._barrier.wait(timeout)
        lock, places = self._turn
        end = None if timeout is None else time.monotonic() + timeout
        place = self._sit_down(places, end)
        try:
            number = self._barrier.wait(_left(end))
            self._act(lock, places, place, end)
            return number
        finally:
            places.release(place)

    def _sit_down(self, places: Slots, end: float | None) -> int:
        """Takes a place, of which there are as many as parties: who comes too early for the next round waits."""
        first = -1
        while True:
            for index in range(places.count):
                if places.take(index, EARLY_SECONDS if index == first else 0):
                    if places.holder_died(index):
                        self.abort()  # a party of the round that is on, or one that had not left yet
                    places.marks[index] = 0
                    return index
            first = (first + 1) % places.count
            if (left := _left(end)) is not None and left <= 0:
                self.abort()
            if self.broken:
                raise threading.BrokenBarrierError

    def _act(self, lock: Lock, places: Slots, place: int, end: float | None) -> None:
        """The first of a round to come here runs the action, and the others wait for the lock meanwhile."""
        try:
            if not lock.acquire(True, _left(end)):
                if places.marks[place]:
                    return
                raise threading.BrokenBarrierError
        except BaseException as error:
            self.abort()
            if isinstance(error, OwnerDied):
                raise threading.BrokenBarrierError from None
            raise
        try:
            if places.marks[place]:
                return
            if self.broken:
                raise threading.BrokenBarrierError
            assert self._action is not None
            self._action()
            self._check_parties(places, place)
            for index in range(places.count):
                places.marks[index] = 1  # all of them are this round's
        except BaseException:
            self.abort()
            raise
        finally:
            lock.release()

    def _check_parties(self, places: Slots, own: int) -> None:
        """Whether one has died, or lost its patience, since they met."""
        died = False
        for index in range(places.count):
            if index != own and places.take(index):
                died |= places.holder_died(index)
                places.release(index)
        if died or self.broken:
            raise threading.BrokenBarrierError

    def reset(self) -> None:
        """Makes it as new; who waits gets BrokenBarrierError."""
        if self._turn is not None:
            lock, places = self._turn
            with lock.repair():
                for index in range(places.count):
                    if places.take(index):
                        places.holder_died(index)
                        places.release(index)
        self._barrier.reset()

    def abort(self) -> None:
        """Breaks it: who waits, or comes, gets BrokenBarrierError."""
        self._barrier.abort()

    @property
    def parties(self) -> int:
        """How many have to come."""
        return self._parties

    @property
    def n_waiting(self) -> int:
        """How many have come, and wait."""
        return self._barrier.state()[1]

    @property
    def broken(self) -> bool:
        """Whether it is broken."""
        return self._barrier.state()[2] == 1
