"""The worker's side: what the interpreter does that a pool has started."""

from __future__ import annotations

import base64
import os
import pickle
import sys
import traceback
import types
from collections.abc import Callable, Sequence
from typing import Any

from . import _codec, _native

COMMAND = "from libtine import _worker; _worker.main()"

# While the host's main module is being run here: who starts a pool in it has no `if __name__ == "__main__"`.
importing_main = False


class RemoteTraceback(Exception):
    """The cause of an exception that came from a worker: its traceback there, as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return self.text


def _rebuild(error: BaseException, text: str) -> BaseException:
    error.__cause__ = RemoteTraceback(text)
    return error


class _Raised:
    """An exception on its way to the host, with the text of its traceback here."""

    def __init__(self, error: BaseException, text: str) -> None:
        self.error, self.text = error, text

    def __reduce__(self) -> tuple[Callable[..., BaseException], tuple[BaseException, str]]:
        return _rebuild, (self.error, f'\n"""\n{self.text}"""')


def _raised(error: BaseException) -> tuple[bool, Sequence[_codec.Part]]:
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    error.__traceback__ = None
    try:
        parts = _codec.dumps(_Raised(error, text))
        _codec.loads(b"".join(bytes(part) for part in parts))  # one that cannot be read here could not be read there
    except Exception as reason:
        plain = RuntimeError(f"{type(error).__name__}: {error} (it cannot be sent: {type(reason).__name__}: {reason})")
        parts = _codec.dumps(_Raised(plain, text))
    return True, parts


def run(message: Any) -> tuple[bool, Sequence[_codec.Part]]:
    """One call: whether it raised, and its result or exception."""
    try:
        function, args, kwargs = _codec.loads(message)
        result = function(*args, **kwargs)
        del args, kwargs
        try:
            return False, _codec.dumps(result)
        except Exception as error:
            where = _codec.find_unpicklable(result, "result")
            raise type(error)(f"the result cannot be sent: {where}") from error
    except SystemExit:
        raise
    except BaseException as error:
        return _raised(error)


def initialize(data: bytes) -> None:
    """Once in each worker, before its first call."""
    function, args = _codec.loads(data)
    function(*args)


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
    data = pickle.loads(base64.b64decode(sys.argv[1]))
    sys.argv = data.pop("sys_argv", sys.argv)
    sys.path[:] = data.pop("sys_path")
    os.chdir(data.pop("dir", "."))
    for module in data.pop("preload"):
        __import__(module)
    from multiprocessing import spawn

    _lend_main(lambda: spawn.prepare(data))
    _native.serve(run, initialize)


def preparation_data(preload: Sequence[str]) -> str:
    """What main() needs to know, as one argument."""
    from multiprocessing import spawn

    data: dict[str, Any] = spawn.get_preparation_data("libtine")
    data.pop("authkey", None)
    data["preload"] = list(preload)
    module = sys.modules.get("__main__")
    if isinstance(module, types.ModuleType) and not hasattr(module, "__file__"):
        data.pop("init_main_from_path", None)
    return base64.b64encode(pickle.dumps(data)).decode()
