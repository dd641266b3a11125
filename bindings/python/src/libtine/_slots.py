"""Places in shared memory that processes hold, each one of its own, so that the others hear of a death.

A place is a lock of a process's. It is free, held by a process that lives, or was held by one that has died, and only
who takes it can tell the last two from each other without waiting.
"""

from __future__ import annotations

from typing import Any

from . import _native, _shared


class Slots:
    """A fixed number of places, with a byte beside each, which is 0 at first."""

    def __init__(self, block: _shared.Block, count: int, init: bool = False) -> None:
        self._block, self.count = block, count
        self.marks = block.view()[count * _native.MUTEX_BYTES :]
        self._locks: dict[int, _native.Mutex] = {}
        if init:
            for index in range(count):
                self._lock(index, True)

    @classmethod
    def create(cls, count: int) -> Slots:
        return cls(_shared.allocate(count * (_native.MUTEX_BYTES + 1)), count, True)

    def __reduce__(self) -> tuple[Any, ...]:
        return Slots, (self._block, self.count)

    def _lock(self, index: int, init: bool = False) -> _native.Mutex:
        lock = self._locks.get(index)
        if lock is None:
            block = self._block
            lock = _native.Mutex(block, block.segment, block.offset + index * _native.MUTEX_BYTES, False, init)
            self._locks[index] = lock
        return lock

    def take(self, index: int, timeout: float | None = 0) -> bool:
        """Takes a place, whoever died holding it; whether it was free in time."""
        return self._lock(index)._take_dead(True, timeout)

    def holder_died(self, index: int) -> bool:
        """For who has just taken it: whether the one before has died. It is said once."""
        lock = self._lock(index)
        died = lock._state()[3] != 0
        if died:
            lock._repaired()
        return died

    def release(self, index: int) -> None:
        self._lock(index).release()
