"""Arrays of numpy's in shared memory: in arguments, results and queues they travel as an address, and are not copied.

    frame = libtine.array((1080, 1920, 3), "uint8")
    executor.map(blur, [(frame, row) for row in range(0, 1080, 90)])

An array and its views keep their memory, in every process that has one; it goes with the last of them. A result that
its worker has made itself is copied, once: who made it may be gone before the host looks at it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _native, _shared, _travel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import DTypeLike, NDArray


def array(shape: int | tuple[int, ...], dtype: DTypeLike = float) -> NDArray[Any]:
    """A new array in shared memory, all of it zero."""
    numpy = _numpy()
    kind = numpy.dtype(dtype)
    if kind.hasobject:
        raise TypeError(f"dtype {kind}: pointers to Python's objects mean nothing to other processes")
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    count = 1
    for length in shape:
        count *= length
    block = _shared.allocate(max(count * kind.itemsize, 1))
    made = _of_block(block, 0, shape, None, kind.str if kind.names is None else kind)
    made._call = 0  # a worker has not been handed it, and may be gone before the host looks at it
    array: NDArray[Any] = made
    return array


def empty_like(prototype: Any, dtype: DTypeLike | None = None) -> NDArray[Any]:
    """A new array in shared memory, of the shape and dtype of another one."""
    like = _numpy().asanyarray(prototype)
    return array(like.shape, like.dtype if dtype is None else dtype)


def _numpy() -> Any:
    try:
        import numpy
    except ImportError as error:
        raise ImportError("libtine.array needs numpy, which is not installed") from error
    return numpy


def _of_block(block: _shared.Block, offset: int, shape: Any, strides: Any, dtype: Any) -> Any:
    kind = _array_type()
    made = kind(shape, dtype, buffer=block.view(), offset=offset, strides=strides)
    made._block = block
    made._call = _native.calls()
    return made


_class: Any = None


def _array_type() -> Any:
    """SharedArray, which is made when numpy has been asked for."""
    global _class
    if _class is not None:
        return _class
    import numpy

    class SharedArray(numpy.ndarray):
        """An array in shared memory, or a view of one; what is computed of it is an array as any other."""

        _block: _shared.Block | None = None
        _call = 0

        def __array_wrap__(self, made: Any, context: Any = None, return_scalar: bool = False) -> Any:
            return made[()] if return_scalar else made.view(numpy.ndarray)

        def __reduce_ex__(self, protocol: Any) -> Any:
            root: Any = self
            while isinstance(root.base, numpy.ndarray):
                root = root.base
            block = getattr(root, "_block", None)
            # A worker hands back by its address only what it has been handed for this call: that the host still has.
            if block is None or (_native.calls() and root._call != _native.calls() and not _travel.is_sending()):
                return self.view(numpy.ndarray).__reduce_ex__(protocol)
            offset = self.__array_interface__["data"][0] - root.__array_interface__["data"][0]
            offset += root.__array_interface__["data"][0] - _address(block)
            dtype = self.dtype.str if self.dtype.names is None else self.dtype
            return _of_block, (block, offset, self.shape, self.strides, dtype)

    SharedArray.__module__, SharedArray.__qualname__ = __name__, "SharedArray"
    _class = SharedArray
    return _class


def _address(block: _shared.Block) -> int:
    view: np.ndarray[Any, Any] = _numpy().frombuffer(block.view(), dtype="uint8")
    address: int = view.__array_interface__["data"][0]
    return address
