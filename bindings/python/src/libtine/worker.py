"""`python -m libtine.worker MODULE...`: the worker program for hosts in other languages.

A host names it as .worker_path and .worker_arguments; it imports the modules, each by its name or as a file, and serves
what `libtine.export` has named in them. Nobody but a host can start it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import _native, _payload, errors, foreign

if TYPE_CHECKING:
    from typing_extensions import Buffer

_prepared = 0


def _prepare() -> None:
    """Once in each worker, before its first call: who interrupts the host decides what that means."""
    global _prepared
    _prepared = os.getpid()
    signal.signal(signal.SIGINT, lambda *_: None)


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f" ({os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno})"


def _code(error: BaseException) -> int:
    if isinstance(error, errors.WrongKind):
        return _native.EPAYLOAD
    if isinstance(error, MemoryError):
        return _native.ENOMEM
    if isinstance(error, OSError) and error.errno and 0 < error.errno < 4096:
        return -error.errno
    return _native.EFAILED


def call(name: str, memory: _native.Memory) -> tuple[int, Sequence[Buffer] | str]:
    """What a task is: (0, the output's parts), or (code, text) of a failure."""
    if _prepared != os.getpid():
        _prepare()
    function, takes, gives = foreign.exports[name]
    try:
        value = _payload.decode(memory, takes, f"the input of {name}")
        value = function(value)
        return 0, _payload.encode(gives, value, f"the result of {name}")
    except BaseException as error:
        where = "" if isinstance(error, errors.WrongKind) else _where(error)
        return _code(error), f"{type(error).__name__}: {error}{where}"
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()


def _load(module: str) -> None:
    if not module.endswith(".py"):
        importlib.import_module(module)
        return
    name = os.path.basename(module)[:-3]
    spec = importlib.util.spec_from_file_location(name, module)
    assert spec is not None and spec.loader is not None
    sys.modules[name] = loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)


def main(modules: Sequence[str]) -> None:
    if not modules:
        sys.exit("usage: python -m libtine.worker MODULE...: a host's worker program; the modules use libtine.export")
    for module in modules:
        _load(module)
    if not foreign.exports:
        sys.exit(f"libtine.worker: {', '.join(modules)}: nothing is exported there; libtine.export does that")
    try:
        _native.serve_exports(list(foreign.exports), call)
    except RuntimeError as error:
        sys.exit(f"libtine.worker: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
