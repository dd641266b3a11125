"""multiprocessing.connection's Pipe and Connection on tine's channels: a message arrives whole, or it was not sent."""

from __future__ import annotations

import io
import os
import pickle
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import connection as standard
from multiprocessing.connection import Client, Listener, wait
from typing import TYPE_CHECKING, Any

from . import _native, _server, _travel
from ._timeout import finite

__all__ = ["Client", "Connection", "Listener", "Pipe", "wait"]

# A message that descriptors travel with is a descriptor itself: one end of a socket pair, in which all of it lies.
_COUNT = struct.Struct("=q")


if TYPE_CHECKING:
    _Base = standard._ConnectionBase[Any, Any]
else:
    _Base = standard._ConnectionBase


class Connection(_Base):
    """An end of a pipe. Several threads may use it."""

    _handle: int

    def __init__(self, handle: _native.Channel | int, readable: bool = True, writable: bool = True) -> None:
        """handle: an end of a channel, or a descriptor of one, which is the Connection's from here on."""
        self._own: _native.Channel | None = handle if isinstance(handle, _native.Channel) else None
        super().__init__(handle if isinstance(handle, int) else handle.fileno(), readable, writable)

    @property
    def _channel(self) -> _native.Channel:
        # Not before it is used: who only wants the descriptor may send through it what is no message of a channel.
        if self._own is None:
            self._own = _native.channel_attach(self._handle)
        return self._own

    def _close(self) -> None:
        if self._own is None or self._own.fileno() != self._handle:
            os.close(self._handle)
        if self._own is not None:
            self._own.close()

    def _send_bytes(self, data: Any) -> None:
        self._channel.send(data)

    def _recv_bytes(self, maxsize: int | None = None) -> io.BytesIO | None:
        message = self._channel.receive(-1 if maxsize is None else maxsize)
        if isinstance(message, int):
            with _bundle(message) as (data, _fds):
                message = data
        if message is None:
            return None
        result = io.BytesIO()
        result.write(message)
        return result

    def _poll(self, timeout: float | None) -> bool:
        return bool(wait([self], finite(timeout)))

    def send(self, obj: Any) -> None:
        """Sends an object, and the descriptors of what in it has such: connections, locks, shared memory."""
        self._check_closed()  # type: ignore[attr-defined]
        self._check_writable()  # type: ignore[attr-defined]
        with _travel.sending() as fds:
            data = _travel.dumps(obj)
            if not fds:
                self._channel.send(data)
                return
            near, far = _server.socket_pair()
            with near, far:
                _server.send_start(near, data, fds)
                self._channel.send_fd(far.fileno())

    def recv(self) -> Any:
        """Receives what send() has sent; EOFError where nothing is left and the other end is closed."""
        self._check_closed()  # type: ignore[attr-defined]
        self._check_readable()  # type: ignore[attr-defined]
        message = self._channel.receive(-1)
        if not isinstance(message, int):
            assert message is not None
            return pickle.loads(message)
        with _bundle(message) as (data, fds), _travel.receiving(fds):
            return pickle.loads(data)

    def __reduce__(self) -> tuple[Any, ...]:
        number = _travel.carry(self.fileno())
        if number is None:
            raise TypeError(
                "a Connection travels as an argument of a Process or through a Connection, and not in other ways"
            )
        return _rebuild, (number, self.readable, self.writable)


def _rebuild(number: int, readable: bool, writable: bool) -> Connection:
    return Connection(os.dup(_travel.received(number)), readable, writable)


@contextmanager
def _bundle(fd: int) -> Iterator[tuple[bytes, list[int]]]:
    """What lies in a socket pair: a message and the descriptors that belong to it, which are closed at the end."""
    with _server.socket_of(fd) as pair:
        fds = _server.receive_start(pair)
    if not fds:
        raise EOFError("a message was not all there")
    memory, *travelled = fds
    try:
        yield _server.content_of(memory), travelled
    finally:
        for one in travelled:
            os.close(one)


def Pipe(duplex: bool = True) -> tuple[Connection, Connection]:
    """Two ends. Unless duplex, the first one only receives, and the second one only sends."""
    first, second = _native.channel_pair()
    return Connection(first, writable=duplex), Connection(second, readable=duplex)
