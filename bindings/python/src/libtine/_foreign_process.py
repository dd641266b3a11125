"""Single processes of other programs, and memory for any processes: foreign.Process and foreign.Segment."""

from __future__ import annotations

import errno
import os
import signal as signals
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _native, _payload, errors
from ._engine import START_METHODS, ns
from ._timeout import timeout_ns

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from .connection import Connection


def program_of(worker: Sequence[str] | None, preload: Sequence[str], start: str) -> tuple[bytes, list[str], str | None]:
    """The program that workers run, its arguments, and its libraries as C has them."""
    if start not in START_METHODS:
        raise ValueError(f"start method {start!r}: it is forkserver or spawn")
    if any(":" in path for path in preload):
        raise ValueError(f"preload {list(preload)!r}: a library's path has no colon in it")
    program = os.fsencode(worker[0]) if worker else _native.worker_path()
    if program is None:
        raise FileNotFoundError("tine-worker is not where tine has been installed; name a program: worker=[...]")
    libraries = ":".join(os.path.abspath(path) for path in preload) or None
    return program, list(worker[1:]) if worker else [], libraries


class Segment(_native.Segment):
    """Shared memory of a fixed size, all zero at first: a writable buffer.

    Workers (Pool.share) and processes (Process) have it at the same .address. It is unmapped here when nobody has it
    or looks at it any more, and gone when no process has it.
    """

    def __new__(cls, size: int) -> Self:
        if size < 0:
            raise ValueError(f"a segment of {size} bytes")
        return super().__new__(cls, size, any_address=False)

    @classmethod
    def attach(cls, fd: int, anywhere: bool = False) -> Self:
        """Another process's, by a descriptor that stays the caller's; anywhere: at whatever address is free."""
        if fd < 0:
            raise ValueError(f"descriptor {fd}")
        return super().__new__(cls, fd=fd, any_address=anywhere)


class Exit(NamedTuple):
    """How a process has ended."""

    status: int  # what its function has returned, or tine's code of why it has not
    output: bytes
    message: str
    death: errors.Death


class Process:
    """A process of another program, which calls one function by its name and ends when that returns.

    preload, worker, start: as of Pool. kind, returns, value: as of its submit. deadline: how long it may live, in
    seconds; then it gets SIGTERM, and after grace (0.2) SIGKILL. channel: an end of a Pipe for the function, which is
    closed here. segments: memory that the function finds at its .address.
    """

    def __init__(
        self,
        name: str,
        value: Any = None,
        preload: Sequence[str] = (),
        worker: Sequence[str] | None = None,
        *,
        start: str = "forkserver",
        kind: str = "raw",
        returns: str | None = None,
        deadline: float | None = None,
        grace: float | None = None,
        channel: Connection | None = None,
        segments: Sequence[Segment] = (),
    ) -> None:
        self.name = name
        self._kind = kind if returns is None else returns
        _payload.check_kind(kind)
        _payload.check_kind(self._kind)
        program, arguments, libraries = program_of(worker, preload, start)
        self._process = _native.NamedProcess(
            os.fsencode(name),
            _payload.encode(kind, value, f"the value for {name}"),
            START_METHODS[start],
            program,
            arguments,
            libraries,
            ns(deadline),
            ns(grace),
            None if channel is None else channel._channel,
            tuple(segments),
        )
        self.pid = self._process.pid()
        if channel is not None:
            channel.close()

    def exit(self, timeout: float | None = None) -> Exit:
        """Waits until it has ended, and says how. TimeoutError: it has not."""
        end = self._process.wait(timeout_ns(timeout))
        if end is None:
            raise TimeoutError(f"{self.name} has not ended")
        return Exit(*end)

    def result(self, timeout: float | None = None) -> Any:
        """Waits, and gives what the function has returned, or raises why it has not: as a call's result."""
        end = self.exit(timeout)
        if end.status < 0:
            died = end.status == _native.EDIED
            delivery = _native.MAYBE_RAN if died else _native.RAN
            raise errors.of_status(end.status, end.message, delivery, end.death if died else None)
        value = _payload.decode(end.output, self._kind, f"the result of {self.name}")
        return bytes(value) if self._kind == "raw" else value

    def alive(self) -> bool:
        return self._process.alive()

    def kill(self, signal: int = signals.SIGKILL, tree: bool = False) -> None:
        """Sends it a signal; with tree, all that it has started, too. ProcessLookupError: it has ended."""
        try:
            self._process.kill(signal, tree)
        except errors.TineError as error:
            if error.name == "ESRCH":
                raise ProcessLookupError(errno.ESRCH, error.text) from None
            raise

    def close(self) -> None:
        """Kills it with all that it has started. It does so, too, when nobody has the Process any more."""
        self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
