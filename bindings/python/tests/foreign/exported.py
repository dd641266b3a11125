"""Python functions for hosts of C and Go, and of Python."""

import os
import signal
import struct

import libtine
from libtine import foreign


@libtine.export("shout")
def shout(text):
    return bytes(text).upper()


@libtine.export("total", takes="msgpack")
def total(numbers):
    return sum(numbers)


@libtine.export("summary", takes="pickle", gives="raw")
def summary(values):
    return repr(values).encode()


@libtine.export("boom")
def boom(text):
    raise KeyError(bytes(text))


@libtine.export("missing")
def missing(path):
    os.stat(bytes(path))


@libtine.export("die")
def die(_):
    os.kill(os.getpid(), signal.SIGKILL)


@libtine.export("leave")
def leave(_):
    raise SystemExit("no more")


@libtine.export("add 2")
def add_2(addresses):
    """To each of the integers in an array that the host shares, with the host's lock held."""
    mutex, numbers, count = struct.unpack("=QQQ", addresses)
    with foreign.Mutex.at(mutex):
        view = memoryview(foreign.memory(numbers, 8 * count)).cast("q")
        for at in range(count):
            view[at] += 2


kept = []


@libtine.export("keep")
def keep(view):
    kept.append(view)


@libtine.export("no bytes")
def no_bytes(_):
    return 7
