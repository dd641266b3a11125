"""A pool, and the thread that hands out what comes of its calls. What executors and Pool have in common."""

from __future__ import annotations

import contextlib
import os
import signal as signals
import subprocess
import threading
import weakref
from collections.abc import Callable, Sequence
from multiprocessing import spawn
from typing import TYPE_CHECKING, Any, Optional, Protocol

from . import _codec, _native, _travel, _worker, errors
from ._settling import Settler
from ._timeout import finite

if TYPE_CHECKING:
    from .faults import Faults

START_METHODS = {"forkserver": _native.FORKSERVER, "spawn": _native.SPAWN}

ENGINES = {"local": _native.ENGINE_LOCAL, "mpi": _native.ENGINE_MPI, "mpi-or-local": _native.ENGINE_MPI_OR_LOCAL}

Detail = Optional[tuple[str, int, Optional[errors.Death]]]


def ns(seconds: float | None) -> int:
    """0 says that there is no limit."""
    limit = finite(seconds, "time limit")
    return 0 if limit is None else max(int(limit * 1e9), 1)


def pickled(value: object) -> list[_codec.Part]:
    """The message of a call. Who submits it next in this thread keeps the shared memory in it until it has settled."""
    with _travel.keeping():
        return _codec.dumps(value)


class Failed:
    """In place of a value: why there is none."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Token(Protocol):
    """What goes with a call, and is told what came of it."""

    def settle(self, status: int, value: Any, odd: Any, detail: Detail, begun: int, size: int) -> None:
        """As _native.Pool.results has it: size is how many bytes there were to say what the call has given."""

    def fail(self, error: BaseException) -> None:
        """settle has raised the error: whatever it has not settled has failed with it."""


def start_method(context: Any) -> str:
    """The start method that a context of multiprocessing's, libtine's, or a string asks for."""
    method = context if context is None or isinstance(context, str) else context.get_start_method()
    if method == "fork":
        raise ValueError(
            "start method fork: a forked interpreter has locks of threads that it has not; use forkserver, with preload"
        )
    if method is not None and method not in START_METHODS:
        raise ValueError(f"start method {method!r}: it is forkserver or spawn")
    return method or "forkserver"


def engine_named(name: str | None) -> str:
    """Where the workers are to be: as it is said, else as the environment says."""
    name = name or os.environ.get("TINE_ENGINE") or "local"
    if name not in ENGINES:
        raise ValueError(f"engine {name!r}: it is local, mpi or mpi-or-local")
    return name


_starting_nodes = threading.Lock()


def _start_nodes(engine: str) -> None:
    """Becomes rank 0 of the MPI job, if there is one, or a node, which never comes back from here.

    tine loads its library for MPI where the environment asks for that. Other pools are to find there what the user has
    said.
    """
    with _starting_nodes:
        said = os.environ.get("TINE_ENGINE")
        os.environ["TINE_ENGINE"] = engine
        try:
            _native.start_nodes()
        finally:
            if said is None:
                del os.environ["TINE_ENGINE"]
            else:
                os.environ["TINE_ENGINE"] = said


class WorkerProcess:
    """A worker, as multiprocessing shows its processes."""

    def __init__(self, pid: int, method: str) -> None:
        self.pid = pid
        self.name = f"{method.capitalize()}PoolWorker-{pid}"
        self.daemon = True
        try:
            self._fd = os.pidfd_open(pid)
        except OSError:
            self._fd = -1

    @property
    def ident(self) -> int:
        return self.pid

    @property
    def sentinel(self) -> int:
        return self._fd

    def is_alive(self) -> bool:
        return self._fd >= 0 and not _readable(self._fd, 0)

    def join(self, timeout: float | None = None) -> None:
        if self._fd >= 0:
            _readable(self._fd, timeout)

    def _kill(self, number: int) -> None:
        if self._fd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signals.pidfd_send_signal(self._fd, number)

    def terminate(self) -> None:
        self._kill(signals.SIGTERM)

    def kill(self) -> None:
        self._kill(signals.SIGKILL)

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def __repr__(self) -> str:
        state = "started" if self.is_alive() else "stopped"
        return f"<{type(self).__name__} name={self.name!r} pid={self.pid} parent={os.getpid()} {state} daemon>"


def _readable(fd: int, timeout: float | None) -> bool:
    import select

    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if timeout is None else max(timeout, 0) * 1000))


class Engine:
    """A pool and its thread. Whoever started it may go away: it ends when it was told to and all has settled."""

    def __init__(
        self,
        workers: int,
        method: str,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: Sequence[Any] = (),
        min_workers: int = 0,
        max_tasks: int = 0,
        deadline: float | None = None,
        grace: float | None = None,
        retries: int = 0,
        preload: Sequence[str] = (),
        faults: Faults | None = None,
        name: str = "libtine",
        engine: str | None = None,
    ) -> None:
        if _worker.importing_main:
            raise RuntimeError(
                "a pool is started while a worker imports the main module: what starts it belongs under "
                '`if __name__ == "__main__":`, or the functions that it calls into a module of their own'
            )
        flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        self.method = method
        self.retries = retries
        engine = engine_named(engine)
        if engine != "local":
            _start_nodes(engine)
        # Then each call of a chunk is a task of its own. What a chunk has come to is in memory that only this machine
        # has.
        self.single = bool(retries or deadline) or engine != "local"
        self.over = False
        self.no_more = False  # what has not begun never does, whatever its chunk has come to
        self.ends_all = False  # nor does what has begun end by itself
        self._kept: dict[Token, list[Any]] = {}  # shared memory that is in a call's arguments
        with _travel.keeping():
            initializer_input = _worker.initializer_data(initializer, initargs)
        self._kept_for_workers = _travel.take_kept()  # which may start as long as the engine is there
        self._processes: dict[int, WorkerProcess] = {}
        self.pool = _native.Pool(
            workers,
            START_METHODS[method],
            os.fsencode(spawn.get_executable()),
            [*flags, "-c", _worker.COMMAND, _worker.preparation_data(preload)],
            initializer_input=initializer_input,
            max_tasks_per_worker=max_tasks,
            grace_ns=ns(grace),
            deadline_ns=ns(deadline),
            min_workers=min_workers,
            faults=faults.native() if faults else None,
            engine=ENGINES[engine],
        )
        self._settler = Settler(self.pool, name, self._kept, self)
        self.thread = self._settler.thread
        try:
            self.thread.start()
        except BaseException:
            self.pool.close()
            raise
        _engines.add(self)

    # ---- What is asked of it ----

    def submit(
        self, message: Sequence[_codec.Part], token: Token, deadline_ns: int = 0, count: int = 0
    ) -> tuple[int, int]:
        return self.submit_with(message, token, deadline_ns, self.retries, count)

    def submit_with(
        self, message: Sequence[_codec.Part], token: Token, deadline_ns: int, retries: int, count: int = 0
    ) -> tuple[int, int]:
        blocks = _travel.take_kept()
        if blocks is not None:
            self._kept[token] = blocks
        try:
            task = self.pool.submit(message, token, deadline_ns, retries, count)
        except BaseException:
            self._kept.pop(token, None)
            raise
        finally:
            self._settler.submitted()
        if self.no_more:  # which has been said meanwhile
            self.cancel_all() if self.ends_all else self.cancel_queued()
        return task

    def finish(self) -> None:
        """Ends the pool when everything has settled."""
        self.over = True
        self._settler.finish()

    def cancel(self, task: int) -> None:
        with contextlib.suppress(_native.NativeError):  # it has settled, or the pool is over
            self.pool.cancel(task)

    def cancel_queued(self) -> None:
        self.no_more = True
        with contextlib.suppress(_native.NativeError):
            self.pool.cancel_queued()

    def cancel_all(self) -> None:
        self.no_more = self.ends_all = True
        with contextlib.suppress(_native.NativeError):
            self.pool.cancel_all()

    def processes(self) -> dict[int, WorkerProcess]:
        known = self._processes
        living = {pid: known.get(pid) or WorkerProcess(pid, self.method) for pid in self.pool.pids()}
        self._processes = living
        return living

    def join(self, timeout: float | None = None) -> None:
        if self.thread is not threading.current_thread():
            self.thread.join(timeout)


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


def _finish_all() -> None:
    """At the interpreter's end: what has been submitted still settles, as with concurrent.futures."""
    engines = list(_engines)
    for engine in engines:
        engine.finish()
    for engine in engines:
        engine.join()


threading._register_atexit(_finish_all)  # type: ignore[attr-defined]


def unwrap(outcome: Any) -> Any:
    """The value, or raises why there is none."""
    if type(outcome) is not Failed:
        return outcome
    try:
        raise outcome.error
    finally:
        del outcome  # the error's traceback has this frame


def read(raised: bool, message: Any) -> Any:
    """What a message, or a message and its input, holds: a value, or Failed."""
    try:
        value = _codec.loads(message[0], 0, message[1]) if type(message) is tuple else _codec.loads(message)
        return Failed(_worker.rebuild(*value)) if raised else value
    except BaseException as error:
        return Failed(errors.unreadable("the result", error))


def read_answer(status: int, value: Any, odd: Any, detail: Detail) -> Any:
    """What came of a single call: its value, or Failed."""
    if detail is None:
        return value if odd is None else read(odd, value)
    return Failed(errors.of_status(status, *detail))
