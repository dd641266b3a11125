"""tine's locks, events and queues as they are in C, in memory that several languages share, found by their address."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from . import _native
from ._timeout import timeout_ns
from .errors import OwnerDied, TineError

if TYPE_CHECKING:
    from typing_extensions import Buffer, Self


def failure(code: int, what: str) -> TineError:
    name = _native.code_name(code)
    return TineError(code, name, what if name.startswith("TINE_") else f"{what}: {os.strerror(-code)}")


class Placed:
    """An object at an address: what a pool has made, or `at(address)`, where another language has."""

    SIZE: ClassVar[int]
    NAME: ClassVar[str]

    def __init__(self, memory: _native.Memory) -> None:
        self._memory = memory

    @classmethod
    def at(cls, address: int) -> Self:
        """The one that lies there, in the heap of a pool that this process belongs to."""
        return cls(_native.shared_memory(address, cls.SIZE))

    @property
    def address(self) -> int:
        return self._memory.address

    def _do(self, operation: str, timeout: float | None = 0, *operands: Any) -> int:
        """The code of an operation that has been carried out, or has run out of time; others are raised."""
        code = _native.operate(f"{self.NAME}_{operation}", self._memory, timeout_ns(timeout), *operands)
        if code >= 0 or code in (-errno.EAGAIN, -errno.ETIMEDOUT):
            return code
        if code == -errno.EOWNERDEAD:
            raise OwnerDied(
                f"a process died holding the {self.NAME}, which this thread has now: repair() it, or release it"
            )
        raise failure(code, f"{self.NAME} at {self.address:#x}, {operation}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self.address:#x}>"


class Mutex(Placed):
    """A lock of the thread that takes it. When its holder has died, the next one gets OwnerDied, and has the lock."""

    SIZE, NAME = _native.MUTEX_SIZE, "mutex"

    def acquire(self, timeout: float | None = None) -> bool:
        return self._do("lock", timeout) == 0

    def release(self) -> None:
        self._do("unlock")

    def repair(self) -> None:
        """For the holder that got OwnerDied: what the lock protects is whole again."""
        self._do("repair")

    def __enter__(self) -> Self:
        try:
            self.acquire()
        except OwnerDied:
            self.release()  # for good: nobody is there who would repair it
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


class RWLock(Placed):
    """Many read, or one writes."""

    SIZE, NAME = _native.RWLOCK_SIZE, "rwlock"

    def read(self, timeout: float | None = None) -> bool:
        return self._do("read_lock", timeout) == 0

    def write(self, timeout: float | None = None) -> bool:
        return self._do("write_lock", timeout) == 0

    def release(self) -> None:
        self._do("unlock")

    def repair(self) -> None:
        self._do("repair")


class Semaphore(Placed):
    SIZE, NAME = _native.SEMAPHORE_SIZE, "semaphore"

    def acquire(self, timeout: float | None = None) -> bool:
        return self._do("acquire", timeout) == 0

    def release(self, n: int = 1) -> None:
        self._do("release", 0, n)

    @property
    def value(self) -> int:
        return self._do("value")


class Event(Placed):
    SIZE, NAME = _native.EVENT_SIZE, "event"

    def set(self) -> None:
        self._do("set")

    def clear(self) -> None:
        self._do("clear")

    def is_set(self) -> bool:
        return self._do("is_set") > 0

    def wait(self, timeout: float | None = None) -> bool:
        return self._do("wait", timeout) >= 0


class Barrier(Placed):
    SIZE, NAME = _native.BARRIER_SIZE, "barrier"

    def wait(self, timeout: float | None = None) -> bool:
        """False: not all came in time, and the barrier is broken; of a try, nothing has changed."""
        return self._do("wait", timeout) >= 0

    def reset(self) -> None:
        self._do("reset")

    def abort(self) -> None:
        self._do("abort")


class Condition(Placed):
    SIZE, NAME = _native.CONDITION_SIZE, "condition"

    def wait(self, mutex: Mutex, timeout: float | None = None) -> bool:
        """With the mutex held. As with any condition it may return without having been notified."""
        code = _native.operate("condition_wait", self._memory, timeout_ns(timeout), 0, 0, mutex._memory)
        if code == -errno.EOWNERDEAD:
            raise OwnerDied("a process died holding the condition's mutex, which is now this thread's")
        if code < 0 and code not in (-errno.EAGAIN, -errno.ETIMEDOUT, -errno.EINTR):
            raise failure(code, f"condition at {self.address:#x}, wait")
        return code in (0, -errno.EINTR)

    def notify(self, n: int = 1) -> None:
        self._do("notify", 0, n)

    def notify_all(self) -> None:
        self._do("notify", 0, 2**31 - 1)


class Once(Placed):
    SIZE, NAME = _native.ONCE_SIZE, "once"

    def call(self, function: Callable[[], object], timeout: float | None = None) -> bool:
        """Has function called, unless some process has done it; whoever comes meanwhile waits. Whether all is done."""
        raised: list[BaseException] = []

        def guarded() -> bool:
            try:
                function()
            except BaseException as error:
                raised.append(error)
            return not raised

        code = _native.operate("once_call", self._memory, timeout_ns(timeout), 0, 0, guarded)
        if raised:
            raise raised[0]
        if code < 0 and code not in (-errno.EAGAIN, -errno.ETIMEDOUT):
            raise failure(code, f"once at {self.address:#x}, call")
        return code == 0


class Queue(Placed):
    """Messages that are bytes."""

    SIZE, NAME = 0, "queue"

    def __init__(self, memory: _native.Memory) -> None:
        super().__init__(memory)
        self._queue = _native.Queue(memory)

    def put(self, message: Buffer, timeout: float | None = None) -> bool:
        return self._queue.put(message, timeout_ns(timeout))

    def get(self, timeout: float | None = None) -> bytes | None:
        """None: no message has come in time."""
        return self._queue.get(timeout_ns(timeout))

    def get_into(self, buffer: Buffer, timeout: float | None = None) -> int | None:
        """A message's length. One that is longer than the buffer stays, and is an error, EMSGSIZE."""
        return self._queue.get_into(buffer, timeout_ns(timeout))

    def close(self) -> None:
        """Nothing more can be put; what is in it can be got, and then get is an error, EPIPE."""
        self._queue.close()

    def task_done(self) -> None:
        self._queue.task_done()

    def join(self, timeout: float | None = None) -> bool:
        return self._queue.join(timeout_ns(timeout))

    def __len__(self) -> int:
        return self._queue.count()
