"""How calls and results travel: pickles, with the buffers of large objects beside them, so that they are copied once.

A message is a tag and a pickle (PICKLE), or a tag, the lengths, the pickle and the buffers, each at a multiple of
ALIGNMENT (PARTS). A result that has views of its call's input in it (GIVEN) says where in the input they are: after the
lengths follow so many places, 0 for a buffer that is in the message. Behind the tag of both stands whether there are
two pickles: the first one has large bytes, which the second one refers to. The compiled layer has further kinds, for
what needs no pickle: native/native.h.
"""

from __future__ import annotations

import copyreg
import functools
import io
import os
import struct
import sys
import types
from collections import ChainMap
from collections.abc import Callable, Iterator, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pickle
    from typing import Any, Union

    Part = Union[bytes, memoryview, pickle.PickleBuffer]
else:
    import _pickle as pickle  # without what its part in Python imports

PICKLE = b"\0"
PARTS = b"\1"
GIVEN = b"\6"
ONCE = b"\5"  # a pickle of a function that is not known by its name: it is read anew for each call
ALIGNMENT = 64
SMALL_BYTES = 4096  # a buffer up to this length stays in the pickle

_reducers: ChainMap[Any, Any] | None = None


def _all_reducers() -> Any:
    """What multiprocessing can send (connections, sockets, what programs have registered), and all other reducers.

    Importing it takes a quarter of a worker's start, and most workers send nothing of that kind.
    """
    global _reducers
    if _reducers is None:
        reduction: Any = sys.modules.get("multiprocessing.reduction")
        if not hasattr(reduction, "ForkingPickler"):
            return copyreg.dispatch_table
        _reducers = ChainMap(reduction.ForkingPickler._extra_reducers, copyreg.dispatch_table)
    return _reducers


class _Pickler(pickle.Pickler):
    dispatch_table: Any = property(lambda self: _all_reducers())


class _ViewPickler(_Pickler):
    """A second try: memoryviews are not pickled otherwise."""

    def reducer_override(self, value: Any) -> Any:
        return (memoryview, (pickle.PickleBuffer(value),)) if type(value) is memoryview else NotImplemented


class _Large:
    """bytes and bytearrays, which pickle would copy more than once."""

    def __init__(self, value: bytes | bytearray) -> None:
        self.value = value

    def __reduce__(self) -> tuple[type, tuple[pickle.PickleBuffer]]:
        return type(self.value), (pickle.PickleBuffer(self.value),)


def _find_large(value: Any, found: dict[int, _Large], depth: int = 2) -> None:
    """Large bytes and bytearrays of a value, and of what it has in tuples and dictionaries, by their ids."""
    kind = type(value)
    if kind is bytes or kind is bytearray:
        if len(value) > SMALL_BYTES:
            found.setdefault(id(value), _Large(value))
    elif depth and (kind is tuple or kind is dict):
        for item in value if kind is tuple else value.values():
            _find_large(item, found, depth - 1)


def _dump_large(pickler: Any, large: list[_Large]) -> None:
    """A pickle of its own with large objects, in which the pickler then finds them wherever they stand in a value."""
    pickler.dump(large)
    memo = pickler.memo.copy()
    for each in large:
        number, _ = memo.pop(id(each))
        memo[id(each.value)] = number, each.value
    pickler.memo = memo


def _cloud_pickler() -> Any:
    try:
        import cloudpickle
    except ImportError:
        return None
    return cloudpickle.Pickler


host_main_is_lost: bool | None = None  # what a worker is told


def main_is_lost() -> bool:
    """Whether workers cannot run the host's main module: it is typed in, a notebook, or given by -c."""
    if host_main_is_lost is not None:
        return host_main_is_lost
    main = sys.modules.get("__main__")
    if main is None or getattr(main, "__spec__", None) is not None:
        return False
    return not _is_file(getattr(main, "__file__", None))


@functools.lru_cache(maxsize=8)
def _is_file(path: str | None) -> bool:
    return path is not None and os.path.isfile(path)


def _picklers() -> Iterator[Any]:
    """What may be able to pickle a value, the cheapest first. cloudpickle sends by value what the main module has."""
    lost = main_is_lost()
    cloud = _cloud_pickler() if lost else None
    if cloud:
        yield cloud
    yield _Pickler
    if "multiprocessing.reduction" not in sys.modules:
        import multiprocessing.reduction  # what cannot be pickled may be a socket  # noqa: F401

        yield _Pickler
    yield _ViewPickler
    if not lost and (cloud := _cloud_pickler()):
        yield cloud


def _dump(value: object, buffers: list[pickle.PickleBuffer], large: Sequence[_Large] = ()) -> bytes:
    def outside(buffer: pickle.PickleBuffer) -> bool:
        if buffer.raw().nbytes <= SMALL_BYTES:
            return True
        buffers.append(buffer)
        return False

    failure: BaseException | None = None
    try:
        for make in _picklers():
            file = io.BytesIO()
            try:
                pickler = make(file, protocol=5, buffer_callback=outside)
                if large:
                    _dump_large(pickler, list(large))
                pickler.dump(value)
                return file.getvalue()
            except (pickle.PicklingError, AttributeError, TypeError) as error:
                buffers.clear()
                failure = failure or error
        assert failure is not None
        raise failure
    finally:
        failure = None  # which has this frame in its traceback: the cycle would keep the value, and its memory


def dumps(value: object, place: Callable[[memoryview], int] | None = None) -> list[Part]:
    """The parts of a message, to be put one after the other. place: native.place_in_input, for a call's result."""
    buffers: list[pickle.PickleBuffer] = []
    large: dict[int, _Large] = {}
    _find_large(value, large)
    data = _dump(value, buffers, list(large.values()))
    if not buffers:
        return [PICKLE + data]
    views = [buffer.raw() for buffer in buffers]
    places = [place(view) for view in views] if place else []
    for at, where in enumerate(places):
        if where < 0:  # a view of the input that is copied after all, and must not be what keeps it
            views[at], places[at] = memoryview(bytes(views[at])), 0
    return _assemble(data, views, places, bool(large))


def _assemble(data: bytes | memoryview, views: list[memoryview], places: list[int], two: bool) -> list[Part]:
    lengths = [len(data), *(view.nbytes for view in views)]
    header = struct.pack(f"<Q{len(lengths)}Q", len(lengths), *lengths)
    if any(places):
        header = GIVEN + bytes((two,)) + bytes(6) + header + struct.pack(f"<{len(lengths)}Q", 0, *places)
    else:
        header, places = PARTS + bytes((two,)) + bytes(6) + header, [0] * len(views)
    parts: list[Part] = [header, data]
    at = len(header) + len(data)
    for view in (view for view, place in zip(views, places) if not place):
        padding = -at % ALIGNMENT
        parts += [bytes(padding), view]
        at += padding + view.nbytes
    return parts


def _take_apart(view: memoryview, given: Any) -> tuple[memoryview, list[memoryview]]:
    (count,) = struct.unpack_from("<Q", view, 8)
    lengths = struct.unpack_from(f"<{count}Q", view, 16)
    at = 16 + 8 * count
    places: Sequence[int] = (0,) * count
    if view[:1] == GIVEN:
        places = struct.unpack_from(f"<{count}Q", view, at)
        at += 8 * count
    data = view[at : at + lengths[0]]
    at += lengths[0]
    buffers = []
    for length, place in zip(lengths[1:], places[1:]):
        if place:
            buffers.append(memoryview(given)[place - 1 : place - 1 + length])
            continue
        at += -at % ALIGNMENT
        buffers.append(view[at : at + length])
        at += length
    return data, buffers


def loads(message: Any, offset: int = 0, given: Any = None) -> Any:
    """The value of a message. Its buffers are read-only views of the message, or of `given`, the input, and keep it."""
    view = memoryview(message)[offset:]
    if view[:1] not in (PARTS, GIVEN):
        return pickle.loads(view[1:])
    data, buffers = _take_apart(view, given)
    if not view[1]:
        return pickle.loads(data, buffers=buffers)
    unpickler = pickle.Unpickler(io.BytesIO(data), buffers=buffers)
    unpickler.load()
    return unpickler.load()


def repeated(parts: Sequence[Any], given: Any) -> list[Part]:
    """A message that says where in its input something is, as one in which that stands."""
    message = memoryview(b"".join(parts))
    data, buffers = _take_apart(message, given)
    return _assemble(data, buffers, [], bool(message[1]))


_MOST_REFERENCES = 256
_references: dict[Any, bytes] = {}


def reference(function: Callable[..., Any]) -> bytes | None:
    """The message for a function alone, where it is short. Of one that is known by its name it is made once."""
    main = getattr(function, "__module__", None) == "__main__" and main_is_lost()
    by_name = not main and (
        type(function) in (types.FunctionType, type)
        or (type(function) is types.BuiltinFunctionType and isinstance(function.__self__, types.ModuleType))
    )
    if by_name:
        known = _references.get(function)
        if known:
            return known
        try:
            data = PICKLE + pickle.dumps(function, protocol=5)
        except (pickle.PicklingError, AttributeError, TypeError):
            pass
        else:
            if len(_references) >= _MOST_REFERENCES:
                _references.clear()
            _references[function] = data
            return data
    buffers: list[pickle.PickleBuffer] = []
    data = ONCE + _dump(function, buffers)
    return None if buffers else data


def _shown(show: Callable[[object], str], value: object) -> str:
    """show(value), also where that raises."""
    try:
        return show(value)
    except Exception as error:
        return f"<{type(value).__name__}, whose {show.__name__} raises {type(error).__name__}>"


def find_unpicklable(value: object, path: str, depth: int = 8) -> str | None:
    """Where in a value the first thing is that cannot be pickled, and what it is: "args[0]['callback']: a lambda"."""
    try:
        _dump(value, [])
        return None
    except Exception as error:
        reason = _shown(str, error)
    parts: Sequence[tuple[object, str]] = ()
    if isinstance(value, dict):
        parts = [(key, f"{path}: the key {_shown(repr, key)}") for key in value]
        parts += [(item, f"{path}[{_shown(repr, key)}]") for key, item in value.items()]
    elif isinstance(value, (list, tuple)):
        parts = [(item, f"{path}[{index}]") for index, item in enumerate(value)]
    elif isinstance(value, (set, frozenset)):
        parts = [(item, f"{path}{{{_shown(repr, item)}}}") for item in value]
    elif isinstance(value, types.MethodType):
        parts = [(value.__self__, f"{path}.__self__")]
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
