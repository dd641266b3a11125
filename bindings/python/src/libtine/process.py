"""multiprocessing.process on tine: processes that are none of the host's children, and that end when it does."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from multiprocessing import context as standard
from multiprocessing import process, spawn
from multiprocessing.connection import wait
from typing import Any, ClassVar, cast

from . import _server, _travel
from ._timeout import finite

__all__ = [
    *("BaseProcess", "ForkServerProcess", "Process", "SpawnProcess"),
    *("active_children", "current_process", "parent_process"),
]

BaseProcess = process.BaseProcess
active_children, current_process = process.active_children, process.current_process
parent_process = process.parent_process


# How long who does not want to wait waits for word of how a process ended that has.
TOLD_SECONDS = 0.1

_MAIN_KEYS = ("init_main_from_name", "init_main_from_path")


class DupFd:
    """A descriptor that travels to a process which starts, as multiprocessing.reduction wants it."""

    def __init__(self, number: int) -> None:
        self._number = number

    def detach(self) -> int:
        return os.dup(_travel.received(self._number))


def _preparation(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a process has to know before it reads anything, and what of it is about the main module."""
    default = cast(Any, standard._default_context)
    before = default._actual_context
    try:
        data: dict[str, Any] = spawn.get_preparation_data(name)
    finally:
        default._actual_context = before  # asking for it has chosen a start method
    data.pop("start_method")
    data["authkey"] = bytes(data["authkey"])
    main: dict[str, Any] = {key: data.pop(key) for key in _MAIN_KEYS if key in data}
    return data, main


class Popen:
    """A process that has been started."""

    method = "forkserver"
    DupFd = DupFd

    def __init__(self, process_obj: process.BaseProcess, method: str) -> None:
        self.method = method
        self.sentinel = -1
        self._lock = threading.Lock()
        self._owner_pid = os.getpid()
        self.returncode: int | None = None
        self._pair: socket.socket
        preparation, main = _preparation(process_obj.name)
        sentinel = os.pidfd_open(os.getpid())
        try:
            with _travel.sending() as fds:
                standard.set_spawning_popen(cast(Any, self))
                try:
                    pickled = _travel.dumps_registered(process_obj)
                finally:
                    standard.set_spawning_popen(None)
                needs_main = b"__main__" in pickled or b"__mp_main__" in pickled
                payload = pickle.dumps((preparation, main, needs_main, pickled))
                description = {
                    "method": method,
                    "main": {"sys_path": preparation["sys_path"], "sys_argv": sys.argv, **main}
                    if needs_main and main
                    else None,
                    "executable": os.fsdecode(spawn.get_executable()),
                    "flags": subprocess._args_from_interpreter_flags(),  # type: ignore[attr-defined]
                    "environment": dict(os.environ) if method == "spawn" else None,
                }
                self._pair, self.pid, self.sentinel = _server.request(description)
                _server.send_start(self._pair, payload, [sentinel, *fds])
        finally:
            os.close(sentinel)

    @staticmethod
    def duplicate_for_child(fd: int) -> int:
        number = _travel.carry(fd)
        assert number is not None
        return number

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        return self.wait(0 if flag == os.WNOHANG else None)

    def wait(self, timeout: float | None = None) -> int | None:
        if self.returncode is not None or os.getpid() != self._owner_pid:  # whose child's it is, is said to nobody else
            return self.returncode
        timeout = finite(timeout)
        end = None if timeout is None else time.monotonic() + timeout
        if wait([self.sentinel], timeout):
            left = -1 if end is None else max(end - time.monotonic(), TOLD_SECONDS)
            if self._lock.acquire(timeout=left):  # it is said once
                try:
                    self._hear(end)
                finally:
                    self._lock.release()
        return self.returncode

    def _hear(self, end: float | None) -> None:
        """How it ended, which the server says. A server that is stopped says nothing: None as long as that."""
        if self.returncode is not None:
            return
        left = None if end is None else max(end - time.monotonic(), TOLD_SECONDS)
        code = _server.exit_code(self._pair, left)
        if code is not None:
            self.returncode = code
            self._let_go()

    def _send(self, number: int) -> None:
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.sentinel, number)

    def interrupt(self) -> None:
        self._send(signal.SIGINT)

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _let_go(self) -> None:
        """From here on the process's pid may be another's; not so in a child forked by hand, which has only copies."""
        if os.getpid() == self._owner_pid:
            with contextlib.suppress(OSError):  # it is closed, or the server was killed
                self._pair.shutdown(socket.SHUT_RDWR)  # for the copies too
        self._pair.close()

    def close(self) -> None:
        if self.sentinel >= 0:
            self._let_go()
            os.close(self.sentinel)
            self.sentinel = -1

    def __del__(self) -> None:
        self.close()


class Process(process.BaseProcess):
    """As multiprocessing.Process, by the default start method, which is forkserver."""

    _start_method: ClassVar[None] = None  # which multiprocessing's default context is not told of

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Popen:
        return Popen(process_obj, "forkserver")


class ForkServerProcess(process.BaseProcess):
    """A process forked from an interpreter that has the main module, but no threads."""

    _start_method: ClassVar[None] = None

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Popen:
        return Popen(process_obj, "forkserver")


class SpawnProcess(process.BaseProcess):
    """A process that is a new interpreter."""

    _start_method: ClassVar[None] = None

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Popen:
        return Popen(process_obj, "spawn")
