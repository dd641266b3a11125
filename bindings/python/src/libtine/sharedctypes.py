"""multiprocessing.sharedctypes in tine's memory: ctypes objects that processes share, with tine's locks."""

from __future__ import annotations

import copyreg
import ctypes
from collections.abc import Sized
from multiprocessing import sharedctypes as standard
from multiprocessing.reduction import ForkingPickler
from typing import Any

from . import _shared
from .synchronize import RLock

__all__ = ["Array", "RawArray", "RawValue", "Value", "copy", "synchronized"]


def _type_of(typecode_or_type: Any) -> Any:
    return standard.typecode_to_type.get(typecode_or_type, typecode_or_type)  # type: ignore[attr-defined]


def _new(type_: Any) -> Any:
    return _rebuild(type_, _shared.allocate(max(ctypes.sizeof(type_), 1)), None)


def _rebuild(type_: Any, block: _shared.Block, length: int | None) -> Any:
    if length is not None:
        type_ = type_ * length
    copyreg.pickle(type_, _reduce)
    value = type_.from_buffer(block.view())
    value._wrapper = block
    return value


_reduce_standard: Any = standard.reduce_ctype  # type: ignore[attr-defined]


def _reduce(value: Any) -> Any:
    block = getattr(value, "_wrapper", None)
    if block is None:  # an object of such a type that is not shared
        return value.__reduce_ex__(4)
    if not isinstance(block, _shared.Block):
        return _reduce_standard(value)
    if isinstance(value, ctypes.Array):
        return _rebuild, (value._type_, block, value._length_)
    return _rebuild, (type(value), block, None)


# A type has one reducer, and multiprocessing's own values may be of the same types: this one knows both kinds.
standard.reduce_ctype = _reduce  # type: ignore[attr-defined]
_reducers: dict[type[Any], Any] = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
for _type in [_type for _type, _reducer in _reducers.items() if _reducer is _reduce_standard]:
    ForkingPickler.register(_type, _reduce)


def RawValue(typecode_or_type: Any, *args: Any) -> Any:
    """A ctypes object in shared memory."""
    value = _new(_type_of(typecode_or_type))
    value.__init__(*args)
    return value


def RawArray(typecode_or_type: Any, size_or_initializer: Any) -> Any:
    """A ctypes array in shared memory: of so many zeros, or with these values."""
    type_ = _type_of(typecode_or_type)
    if isinstance(size_or_initializer, int):
        return _new(type_ * size_or_initializer)
    if not isinstance(size_or_initializer, Sized):
        size_or_initializer = list(size_or_initializer)
    array = _new(type_ * len(size_or_initializer))
    array.__init__(*size_or_initializer)
    return array


def Value(typecode_or_type: Any, *args: Any, lock: Any = True, ctx: Any = None) -> Any:
    """A RawValue with a lock: a new one, the one given, or none where lock is False."""
    return _with_lock(RawValue(typecode_or_type, *args), lock)


def Array(typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True, ctx: Any = None) -> Any:
    """A RawArray with a lock: a new one, the one given, or none where lock is False."""
    return _with_lock(RawArray(typecode_or_type, size_or_initializer), lock)


def _with_lock(value: Any, lock: Any) -> Any:
    if lock is False:
        return value
    if lock in (True, None):
        lock = RLock()
    if not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire'")
    return synchronized(value, lock)


def copy(value: Any) -> Any:
    """A copy, in shared memory."""
    new = _new(type(value))
    ctypes.pointer(new)[0] = value
    return new


class _Synchronized:
    _obj: Any
    _lock: Any

    def __reduce__(self) -> Any:
        return synchronized, (self._obj, self._lock)


class Synchronized(_Synchronized, standard.Synchronized):  # type: ignore[type-arg]
    """A value with a lock."""


class SynchronizedArray(_Synchronized, standard.SynchronizedArray):  # type: ignore[type-arg]
    """An array with a lock."""


class SynchronizedString(_Synchronized, standard.SynchronizedString):
    """An array of characters with a lock."""


_of_structures: dict[type[Any], Any] = {}


def synchronized(value: Any, lock: Any = None, ctx: Any = None) -> Any:
    """The value with a lock. Its attributes are read and written with the lock held."""
    assert not isinstance(value, standard.SynchronizedBase), "object already synchronized"
    if lock is None:
        lock = RLock()
    if isinstance(value, ctypes._SimpleCData):
        return Synchronized(value, lock)
    if isinstance(value, ctypes.Array):
        return (SynchronizedString if value._type_ is ctypes.c_char else SynchronizedArray)(value, lock)
    cls = type(value)
    if cls not in _of_structures:
        properties = {field[0]: standard.make_property(field[0]) for field in cls._fields_}  # type: ignore[attr-defined]
        _of_structures[cls] = type(
            f"Synchronized{cls.__name__}", (_Synchronized, standard.SynchronizedBase), properties
        )
    return _of_structures[cls](value, lock)
