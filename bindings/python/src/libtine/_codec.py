"""How calls and results travel: pickles, with the buffers of large objects beside them, so that they are copied once.

A message is a tag and a pickle (PLAIN), or a tag, the lengths, the pickle and the buffers, each at a multiple of
ALIGNMENT (PARTS).
"""

from __future__ import annotations

import pickle
import struct
import types
from collections.abc import Sequence
from typing import Any, Union

PLAIN = b"\0"
PARTS = b"\1"
ALIGNMENT = 64
SMALL_BYTES = 4096  # a buffer up to this length stays in the pickle

Part = Union[bytes, memoryview, pickle.PickleBuffer]


def _dump(value: object, buffers: list[pickle.PickleBuffer]) -> bytes:
    def outside(buffer: pickle.PickleBuffer) -> bool:
        if buffer.raw().nbytes <= SMALL_BYTES:
            return True
        buffers.append(buffer)
        return False

    try:
        return pickle.dumps(value, protocol=5, buffer_callback=outside)
    except (pickle.PicklingError, AttributeError, TypeError):
        buffers.clear()
        try:
            import cloudpickle
        except ImportError:
            raise
        data: bytes = cloudpickle.dumps(value, protocol=5, buffer_callback=outside)
        return data


def dumps(value: object) -> list[Part]:
    """The parts of a message, to be put one after the other."""
    buffers: list[pickle.PickleBuffer] = []
    data = _dump(value, buffers)
    if not buffers:
        return [PLAIN + data]
    views = [buffer.raw() for buffer in buffers]
    lengths = [len(data), *(view.nbytes for view in views)]
    header = PARTS + bytes(7) + struct.pack(f"<Q{len(lengths)}Q", len(lengths), *lengths)
    parts: list[Part] = [header, data]
    at = len(header) + len(data)
    for view in views:
        padding = -at % ALIGNMENT
        parts += [bytes(padding), view]
        at += padding + view.nbytes
    return parts


def loads(message: Any) -> Any:
    """The value of a message. Its buffers are read-only views of the message, which they keep."""
    view = memoryview(message)
    if view[:1] == PLAIN:
        return pickle.loads(view[1:])
    (count,) = struct.unpack_from("<Q", view, 8)
    lengths = struct.unpack_from(f"<{count}Q", view, 16)
    at = 16 + 8 * count
    data = view[at : at + lengths[0]]
    at += lengths[0]
    buffers = []
    for length in lengths[1:]:
        at += -at % ALIGNMENT
        buffers.append(view[at : at + length])
        at += length
    return pickle.loads(data, buffers=buffers)


def find_unpicklable(value: object, path: str, depth: int = 8) -> str | None:
    """Where in a value the first thing is that cannot be pickled, and what it is: "args[0]['callback']: a lambda"."""
    try:
        _dump(value, [])
        return None
    except Exception as error:
        reason = str(error)
    parts: Sequence[tuple[object, str]] = ()
    if isinstance(value, dict):
        parts = [(item, f"{path}[{key!r}]") for key, item in value.items()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts = [(item, f"{path}[{index}]") for index, item in enumerate(value)]
    elif hasattr(value, "__dict__") and not isinstance(value, (type, types.FunctionType, types.ModuleType)):
        parts = [(item, f"{path}.{name}") for name, item in vars(value).items()]
    for part, where in parts if depth else ():
        found = find_unpicklable(part, where, depth - 1)
        if found:
            return found
    if isinstance(value, types.FunctionType):
        what = "a lambda" if value.__name__ == "<lambda>" else f"the local function {value.__qualname__}"
        return f"{path}: {what}"
    return f"{path}: {type(value).__name__} ({reason})"
