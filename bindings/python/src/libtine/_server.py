"""The process that starts all others of a program: an interpreter that forks itself, or executes new ones.

The host starts it by tine with the first process, so whatever it starts ends with the host. A request is an end of a
socket pair, with a description, sent through a socket of which every process of the family has an end. On the pair:

    server -> host     STARTED pid, with a pidfd; or FAILED errno
    host -> process    the pickle and the descriptors, in messages of at most MOST_FDS. Not before the host knows of
                       STARTED: a process of which it never learns gets an end of file, and does nothing
    server -> host     ENDED exitcode; an end of file: the server died, and nobody knows

The server has one thread. Before each fork it looks whether a library has started another: then it executes a new
interpreter instead.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import math
import os
import pickle
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from multiprocessing import process, spawn, util
from typing import Any

from . import _native, _travel, _worker

SERVER_COMMAND = "from libtine import _server; _server.main()"
SPAWNED_COMMAND = "from libtine import _server; _server.spawned()"
MOST_FDS = 200
_ANSWER = struct.Struct("=cq")
STARTED, FAILED, ENDED = b"s", b"f", b"e"

# Later versions leave multiprocessing's own clean-up, and atexit's, to who forks.
_BOOTSTRAP_EXITS = "_exit_function" in process.BaseProcess._bootstrap.__code__.co_names  # type: ignore[attr-defined]


class _Family:
    """What a process knows of its family's server."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.requests: socket.socket | None = None
        self.servers: list[_native.Process] = []  # former ones too: what they have started ends with their handles
        self.preload: list[str] = []


_family = _Family()


def _own_family() -> _Family:
    global _family
    if _family.pid != os.getpid():  # forked by hand: it has to start its own
        preload = _family.preload
        _family = _Family()
        _family.preload = preload
    return _family


def set_preload(modules: Sequence[str]) -> None:
    """Modules that the server imports when it starts."""
    _own_family().preload = list(modules)


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends that block. socket.setdefaulttimeout is for the program's own sockets: it would make a descriptor
    non-blocking, and it stays so in the process to which it is sent."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.setblocking(True)
    far.setblocking(True)
    return near, far


def socket_of(fd: int) -> socket.socket:
    """A descriptor as a socket that blocks."""
    one = socket.socket(fileno=fd)
    one.setblocking(True)
    return one


def _open(family: _Family) -> socket.socket:
    if family.requests is None:
        near, far = socket_pair()
        flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        description = pickle.dumps((sys.path, family.preload)).hex()
        with far:
            family.servers.append(
                _native.Process(
                    os.fsencode(spawn.get_executable()),
                    [*flags, "-c", SERVER_COMMAND, description],
                    (far.fileno(), near.fileno()),
                )
            )
        family.requests = near
    return family.requests


def request(description: dict[str, Any]) -> tuple[socket.socket, int, int]:
    """Has a process started: the host's end of the pair, its pid, and its pidfd."""
    family = _own_family()
    with family.lock:
        while True:
            new = family.requests is None
            requests = _open(family)
            try:
                return _ask(requests, description)
            except (EOFError, BrokenPipeError, ConnectionResetError):
                # The server was killed. Nothing has been started that would run.
                requests.close()
                family.requests = None
                if new:
                    raise RuntimeError("the process that starts others ended as soon as it was started") from None


def _ask(requests: socket.socket, description: dict[str, Any]) -> tuple[socket.socket, int, int]:
    near, far = socket_pair()
    try:
        memory = memory_of(pickle.dumps(description))
        try:
            with far:
                socket.send_fds(requests, [b"r"], [far.fileno(), memory])
        finally:
            os.close(memory)
        message, fds, _flags, _address = socket.recv_fds(near, _ANSWER.size, 1)
        if not message:
            raise EOFError
        kind, number = _ANSWER.unpack(message)
        if kind == FAILED:
            raise OSError(number, os.strerror(number))
        return near, number, fds[0]
    except BaseException:
        near.close()
        raise


def memory_of(data: bytes) -> int:
    """A descriptor of memory that holds data."""
    fd = os.memfd_create("libtine", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
    except BaseException:
        os.close(fd)
        raise
    return fd


def content_of(fd: int) -> bytes:
    with open(fd, "rb") as file:
        file.seek(0)
        return file.read()


def send_start(pair: socket.socket, payload: bytes, fds: Sequence[int]) -> None:
    """The host's part: what the process is to run."""
    memory = memory_of(payload)
    try:
        every = [memory, *fds]
        for at in range(0, len(every), MOST_FDS):
            socket.send_fds(pair, [struct.pack("=q", len(every))], every[at : at + MOST_FDS])
    finally:
        os.close(memory)


def receive_start(pair: socket.socket) -> list[int]:
    """The descriptors that send_start has sent, the payload's first; none where the sender is gone."""
    fds: list[int] = []
    count = 1
    while len(fds) < count:
        message, some, flags, _address = socket.recv_fds(pair, 8, MOST_FDS)
        fds += some
        if not message or flags & socket.MSG_CTRUNC:
            for fd in fds:
                os.close(fd)
            if message:
                raise OSError(errno.EMFILE, "too few descriptors are free for what was sent")
            return []
        (count,) = struct.unpack("=q", message)
    return fds


def readable(fd: int, timeout: float) -> bool:
    """Whether there is something to read within timeout seconds."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(math.ceil(max(timeout, 0) * 1000)))


def exit_code(pair: socket.socket, timeout: float | None) -> int | None:
    """How a process ended; 255 where nobody knows, as with multiprocessing. None: it was not said in time."""
    end = None if timeout is None else time.monotonic() + timeout
    while True:
        if end is not None and not readable(pair.fileno(), end - time.monotonic()):
            return None
        try:
            message = pair.recv(_ANSWER.size)
        except ConnectionResetError:
            continue  # said once, before what is there: the process has not read all that was sent
        if not message:
            return 255
        kind, number = _ANSWER.unpack(message)
        if kind == ENDED:
            return int(number)


# ---- The server


class _Server:
    def __init__(self, requests: socket.socket, to_requests: socket.socket) -> None:
        self.requests, self.to_requests = requests, to_requests
        self.selector = selectors.DefaultSelector()
        self.selector.register(requests, selectors.EVENT_READ)
        self.children: dict[int, tuple[int, socket.socket]] = {}  # by pidfd
        self.ended: dict[socket.socket, int] = {}  # pids of those whose end nobody has heard of yet
        self.main_failed = False

    def run(self) -> None:
        while True:
            for key, _events in self.selector.select():
                if key.fileobj is self.requests:
                    self.start()
                elif key.fd in self.children:
                    self.tell(key.fd)
                else:
                    self.reap(key.fileobj)  # type: ignore[arg-type]

    def tell(self, pidfd: int) -> None:
        """A process has ended. Its pid stays its own until the host has joined it, or is gone."""
        pid, pair = self.children.pop(pidfd)
        self.selector.unregister(pidfd)
        os.close(pidfd)
        end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert end is not None
        code = end.si_status if end.si_code == os.CLD_EXITED else -end.si_status
        with contextlib.suppress(OSError):  # nobody asks any more
            pair.send(_ANSWER.pack(ENDED, code))
        self.ended[pair] = pid
        self.selector.register(pair, selectors.EVENT_READ)

    def reap(self, pair: socket.socket) -> None:
        """The host has let go of its end."""
        self.selector.unregister(pair)
        os.waitpid(self.ended.pop(pair), 0)
        pair.close()

    def start(self) -> None:
        message, fds, _flags, _address = socket.recv_fds(self.requests, 1, 2)
        if not message:
            os._exit(0)  # nobody is left who could ask
        if not fds:
            return  # no descriptor is free; whoever asks gets an end of file
        pair = socket_of(fds[0])
        pid = 0
        try:
            if len(fds) < 2:
                raise OSError(errno.EMFILE, "too few descriptors are free")
            description = pickle.loads(content_of(fds[1]))
            forked = description["method"] == "forkserver" and self.may_fork(description["main"])
            pid = self.fork(pair) if forked else self.spawn(pair, description)
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            with pair, contextlib.suppress(OSError):
                pair.send(_ANSWER.pack(FAILED, error.errno or errno.EIO))
            if pid:  # it has begun nothing, and does not know yet that it never will
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            return
        self.children[pidfd] = (pid, pair)
        self.selector.register(pidfd, selectors.EVENT_READ)
        with contextlib.suppress(OSError):  # it has given up waiting, and the process will, too
            socket.send_fds(pair, [_ANSWER.pack(STARTED, pid)], [pidfd])

    def may_fork(self, main: dict[str, Any] | None) -> bool:
        """Imports the program's main module, if something of it is asked for, once for all."""
        if main is not None and not self.main_failed and "__mp_main__" not in sys.modules:
            _worker.importing_main = True
            process.current_process()._inheriting = True  # type: ignore[attr-defined]
            try:
                spawn.prepare(main)
            except BaseException:
                self.main_failed = True  # the process will say why, when it tries
            finally:
                _worker.importing_main = False
                del process.current_process()._inheriting  # type: ignore[attr-defined]
        return len(os.listdir("/proc/self/task")) == 1

    def fork(self, pair: socket.socket) -> int:
        pid = os.fork()
        if pid:
            with contextlib.suppress(OSError):  # it may have ended
                os.setpgid(pid, pid)  # the server's group ends with the server
            return pid
        code = 1
        try:
            self.selector.close()
            self.requests.close()
            for pidfd, (_pid, other) in self.children.items():
                os.close(pidfd)
                other.close()
            for other in self.ended:
                other.close()
            os.setpgid(0, 0)  # whichever of the two comes first
            signal.signal(signal.SIGINT, signal.default_int_handler)
            atexit._clear()  # what the server's modules have registered is not for its processes
            atexit.register(util._exit_function)  # type: ignore[attr-defined]
            code = _run(pair, self.to_requests)
            if not _BOOTSTRAP_EXITS:
                atexit._run_exitfuncs()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def spawn(self, pair: socket.socket, description: dict[str, Any]) -> int:
        ends = (pair.fileno(), self.to_requests.fileno())
        arguments = [description["executable"], *description["flags"], "-c", SPAWNED_COMMAND, *map(str, ends)]
        for end in ends:
            os.set_inheritable(end, True)
        try:
            return os.posix_spawn(
                description["executable"], arguments, description["environment"], setpgroup=0, setsigdef=[signal.SIGINT]
            )
        finally:
            for end in ends:
                os.set_inheritable(end, False)


def main() -> None:
    """What the server's interpreter runs."""
    sys.path[:], preload = pickle.loads(bytes.fromhex(sys.argv[1]))
    for module in preload:
        with contextlib.suppress(ImportError):
            __import__(module)
    _native.serve_processes(_serve)


def _serve(requests: int, to_requests: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _Server(socket_of(requests), socket_of(to_requests)).run()


# ---- The process


def spawned() -> None:
    """What the interpreter of a spawned process runs."""
    pair, to_requests = (socket_of(int(fd)) for fd in sys.argv[1:3])
    pair.set_inheritable(False)
    to_requests.set_inheritable(False)
    sys.exit(_run(pair, to_requests))


def _run(pair: socket.socket, to_requests: socket.socket) -> int:
    global _family
    _family = _Family()
    _family.requests = to_requests
    with pair:
        fds = receive_start(pair)
    if not fds:
        return 1  # whoever asked for this process does not know of it
    data, sentinel, *travelled = fds
    preparation, main, needs_main, pickled = pickle.loads(content_of(data))
    process.current_process()._inheriting = True  # type: ignore[attr-defined]
    try:
        spawn.prepare(preparation)
        if needs_main:
            spawn.prepare(main)
        elif "__mp_main__" not in sys.modules:
            _worker._lend_main(lambda: spawn.prepare(main))
        with _travel.receiving(travelled):
            child = pickle.loads(pickled)
    finally:
        del process.current_process()._inheriting  # type: ignore[attr-defined]
        for fd in travelled:
            os.close(fd)
    code: int = child._bootstrap(sentinel)
    return code
