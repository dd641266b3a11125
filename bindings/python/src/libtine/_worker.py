"""The worker's side: what the interpreter does that a pool has started.

A pool starts no faster than this module is imported. What only a failure needs is imported when there is one, and of
what the standard library has in C and in Python, the part in C.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence

from . import _codec, _crash, _native

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pickle
    import signal
    from typing import Any
else:
    import _pickle as pickle
    import _signal as signal

COMMAND = "from libtine import _worker; _worker.main()"

# While the host's main module is being run here: who starts a pool in it has no `if __name__ == "__main__"`.
importing_main = False
is_worker = False
_main_can_be_run = True


def rebuild(error: BaseException, text: str, cause: BaseException | None) -> BaseException:
    """In the host: an exception with what goes with it."""
    from concurrent.futures.process import _RemoteTraceback

    set_cause(error, cause if cause is not None else _RemoteTraceback(text))  # type: ignore[arg-type]
    return error


def set_cause(error: BaseException, cause: BaseException) -> None:
    """error.__cause__ = cause, which the error's own class cannot refuse; a TypeError where it is no exception."""
    BaseException.__dict__["__cause__"].__set__(error, cause)


def cause_of(error: BaseException) -> BaseException | None:
    """error.__cause__, for which the error's own class may have something else."""
    cause: BaseException | None = BaseException.__dict__["__cause__"].__get__(error)
    return cause


def dump(result: Any) -> Sequence[_codec.Part]:
    """A result that has to be pickled."""
    try:
        return _codec.dumps(result, _native.place_in_input)
    except Exception as error:
        from .errors import ResultNotSent

        where = _codec.find_unpicklable(result, "result")
        raise ResultNotSent(error, result, f"the result cannot be sent: {where}") from error


def _message(error: BaseException, cause: BaseException | None = None) -> Sequence[_codec.Part]:
    import traceback

    try:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except Exception:  # of what the error's class has in place of its cause, say
        text = "".join(traceback.format_tb(error.__traceback__)) + type(error).__name__
    BaseException.with_traceback(error, None)  # whatever the error's own class allows
    text = f'\n"""\n{text}"""'
    try:
        parts = _codec.dumps((error, text, cause))
        # One that cannot be read here could not be read there.
        read, _text, _cause = _codec.loads(b"".join(bytes(part) for part in parts))
        if not isinstance(read, BaseException):
            raise TypeError(f"its pickle is that of a {type(read).__name__}")
    except Exception as reason:
        from .errors import text_of

        why = f"{type(reason).__name__}: {text_of(reason)}"
        plain = RuntimeError(f"{type(error).__name__}: {text_of(error)} (it cannot be sent: {why})")
        parts = _codec.dumps((plain, text, None))
    return parts


def failed(error: BaseException) -> Sequence[_codec.Part]:
    """The exception of a call, with the text of its traceback here."""
    return _message(error)


def unreadable(error: BaseException) -> Sequence[_codec.Part]:
    """An exception that came of reading a call."""
    from .errors import Unreadable, text_of

    text = f"{type(error).__name__}: {text_of(error)}"
    if isinstance(error, AttributeError) and "__main__" in text and not _main_can_be_run:
        text += (
            " (the main module of the host has no file that a worker could run: it was typed in, or given by -c; "
            "install cloudpickle, which sends its functions by value, or put them into a module)"
        )
    return _message(Unreadable(f"the call cannot be read: {text}"), error)


class _AuthkeyFinder:
    """Gives multiprocessing the host's key when it is imported, which it is in few workers."""

    def __init__(self, authkey: bytes) -> None:
        self.authkey = authkey

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "multiprocessing.process":
            return None
        sys.meta_path.remove(self)
        from importlib.machinery import PathFinder

        spec: Any = PathFinder.find_spec(name, path, target)
        if spec is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            module.current_process().authkey = self.authkey

        spec.loader.exec_module = exec_module
        return spec


def _set_authkey(authkey: bytes) -> None:
    process: Any = sys.modules.get("multiprocessing.process")
    if process is None:
        sys.meta_path.insert(0, _AuthkeyFinder(authkey))
    else:
        process.current_process().authkey = authkey


def initialize(data: bytes) -> None:
    """Once in each worker, before its first call."""
    authkey, crashes, call = pickle.loads(data)
    if crashes:
        _crash.prepare(crashes)
    _set_authkey(authkey)
    # Who interrupts the host at a terminal interrupts its workers, too; it is the host who decides what that means.
    signal.signal(signal.SIGINT, lambda *_: None)
    if call is None:
        return
    function, args = _codec.loads(call)
    try:
        function(*args)
    except Exception:
        import logging

        logging.getLogger("concurrent.futures").critical("Exception in initializer:", exc_info=True)
        finalize()
        raise


def set_environment(variables: dict[str, str], initializer: bytes | None) -> None:
    """An initializer: what libraries read when they are loaded, as another initializer may have them."""
    os.environ.update(variables)
    if initializer is not None:
        function, args = pickle.loads(initializer)
        function(*args)


def finalize() -> None:
    """In a worker that leaves in good order: multiprocessing's finalizers run, and what has been printed goes out."""
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:
        util._exit_function()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # it is None, or closed
            stream.flush()


class _Spawning:
    """Lets locks and queues of multiprocessing's be arguments of an initializer, as with its own pools."""

    def duplicate_for_child(self, fd: int) -> int:
        return fd

    def DupFd(self, fd: int) -> _Inherited:
        return _Inherited(fd)


class _Inherited:
    """A descriptor of the host's; each worker opens it for itself. Pipes can be opened so, sockets cannot."""

    def __init__(self, fd: int) -> None:
        import fcntl

        self.path = f"/proc/{os.getpid()}/fd/{fd}"
        self.flags = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE

    def detach(self) -> int:
        return os.open(self.path, self.flags | os.O_CLOEXEC)


def initializer_data(function: Callable[..., object] | None, args: Sequence[Any]) -> bytes:
    """What initialize() needs to know."""
    from multiprocessing import context, process

    call = None
    if function is not None:
        context.set_spawning_popen(_Spawning())  # type: ignore[arg-type]
        try:
            call = b"".join(bytes(part) for part in _codec.dumps((function, tuple(args))))
        finally:
            context.set_spawning_popen(None)
    return pickle.dumps((bytes(process.current_process().authkey), _crash.path(), call))


def _lend_main(prepare: Callable[[], None]) -> None:
    """Runs the host's main module here, but only when something of it is asked for."""
    own = sys.modules["__main__"]

    def attribute(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        global importing_main
        del own.__dict__["__getattr__"]
        importing_main = True
        try:
            prepare()
        finally:
            importing_main = False
        return getattr(sys.modules["__main__"], name)

    own.__dict__["__getattr__"] = attribute


def main() -> None:
    """What `python -c COMMAND DATA` runs."""
    global is_worker, _main_can_be_run
    is_worker = True
    data = pickle.loads(bytes.fromhex(sys.argv[1]))
    sys.argv = data.pop("sys_argv", sys.argv)
    sys.path[:] = data.pop("sys_path")
    os.chdir(data.pop("dir", "."))
    for module in data.pop("preload"):
        __import__(module)
    _main_can_be_run = "init_main_from_name" in data or "init_main_from_path" in data
    _codec.host_main_is_lost = not _main_can_be_run

    def prepare() -> None:
        from multiprocessing import spawn

        spawn.prepare(data)

    _lend_main(prepare)
    _native.serve(_codec.loads, dump, _codec.repeated, failed, unreadable, initialize, finalize)


def preparation_data(preload: Sequence[str]) -> str:
    """What main() needs to know, as one argument."""
    from multiprocessing import spawn

    data: dict[str, Any] = spawn.get_preparation_data("libtine")
    data.pop("authkey", None)
    data["preload"] = list(preload)
    if _codec.main_is_lost():
        data.pop("init_main_from_path", None)
    return pickle.dumps(data).hex()
