"""What goes between languages: bytes, and of what kind they are.

A payload of a kind other than raw has a head of eight bytes: HEAD, the kind's number, and two zeros. 0xC1 begins no
MessagePack and no pickle. Bytes without a head are raw, so that a function that knows nothing of kinds gets what it
expects.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .errors import WrongKind

if TYPE_CHECKING:
    from typing_extensions import Buffer

KINDS = ("raw", "msgpack", "pickle")
HEAD = b"\xc1TINE"
HEAD_BYTES = 8


def check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r}: it is one of {', '.join(KINDS)}")
    if kind == "msgpack":
        _msgpack()


def _msgpack() -> Any:
    try:
        import msgpack
    except ImportError:
        raise ImportError("kind 'msgpack' needs the package msgpack: pip install 'libtine[msgpack]'") from None
    return msgpack


def encode(kind: str, value: Any, what: str) -> Sequence[Buffer]:
    """The parts of a payload."""
    if kind == "raw":
        if value is None:
            return []
        try:
            memoryview(value)
        except TypeError:
            raise WrongKind(f"{what} is to be raw, that is bytes or a buffer, and is {type(value).__name__}") from None
        return [value]
    head = HEAD + bytes((KINDS.index(kind), 0, 0))
    return [head, pickle.dumps(value, protocol=5) if kind == "pickle" else _msgpack().packb(value)]


def decode(payload: Buffer, wanted: str, what: str) -> Any:
    """The value of a payload, which is to be of the kind wanted. Of a raw one that is a view."""
    view = memoryview(payload)
    kind = "raw"
    if view[: len(HEAD)] == HEAD:
        head = bytes(view[:HEAD_BYTES])
        if len(head) < HEAD_BYTES or head[5] >= len(KINDS) or head[6:] != b"\0\0":
            raise WrongKind(f"{what} has a head that says no known kind: {head!r}")
        kind = KINDS[head[5]]
        view = view[HEAD_BYTES:]
    if kind != wanted:
        raise WrongKind(f"{what} is to be {wanted}, and is {kind}: {len(view)} bytes, {bytes(view[:12])!r} first")
    if kind == "raw":
        return view
    try:
        return pickle.loads(view) if kind == "pickle" else _msgpack().unpackb(view, strict_map_key=False)
    except Exception as error:
        raise WrongKind(f"{what} is no {kind}: {type(error).__name__}: {error}") from error
