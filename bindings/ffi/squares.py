#!/usr/bin/env python3
"""A pool whose workers are Python too, by ctypes alone. docs/ffi.md says what is done here and why."""
import ctypes
import os
import signal
import struct
import sys

tine = ctypes.CDLL("libtine.so.0.1")
FUNCTION = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
for name, result, *parameters in [
    ("tine_register", ctypes.c_int, ctypes.c_char_p, FUNCTION),
    ("tine_input", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p),
    ("tine_output", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t),
    ("tine_init", ctypes.c_int, ctypes.c_int, ctypes.c_void_p),
    ("tine_errname", ctypes.c_char_p, ctypes.c_int),
    ("tine_pool_create", ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p),
    ("tine_pool_destroy", None, ctypes.c_void_p),
    ("tine_submit", ctypes.c_int, *[ctypes.c_void_p] * 3, ctypes.c_size_t, *[ctypes.c_void_p] * 2),
    ("tine_wait", ctypes.c_int, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int64, ctypes.c_void_p),
    ("tine_result_release", None, ctypes.c_void_p, ctypes.c_void_p),
]:
    getattr(tine, name).restype = result
    getattr(tine, name).argtypes = parameters


@FUNCTION
def square(task):
    (number,) = struct.unpack("q", ctypes.string_at(tine.tine_input(task, None), 8))
    place = tine.tine_output(task, 16)
    if not place:
        return -12  # -ENOMEM
    ctypes.memmove(place, struct.pack("qq", number * number, os.getpid()), 16)
    return 0


@FUNCTION
def crash(task):
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def check(rc):
    if rc < 0:
        sys.exit(tine.tine_errname(rc).decode())


check(tine.tine_register(b"square", square))
check(tine.tine_register(b"crash", crash))
check(tine.tine_init(0, None))  # a worker stays in here

arguments = (ctypes.c_char_p * 2)(os.path.abspath(__file__).encode(), None)
path = ctypes.create_string_buffer(sys.executable.encode())
options = ctypes.create_string_buffer(112)  # .size .workers .worker_path .worker_arguments
for offset, value in [(0, 112), (16, 2), (96, ctypes.addressof(path)), (104, ctypes.addressof(arguments))]:
    struct.pack_into("Q", options, offset, value)
pool = ctypes.c_void_p()
check(tine.tine_pool_create(options, ctypes.byref(pool)))


def submit(function, number):
    name = ctypes.create_string_buffer(function)
    options = ctypes.create_string_buffer(struct.pack("QQQ", 24, 0, ctypes.addressof(name)), 24)  # .size .error .name
    task = ctypes.c_uint64()
    check(tine.tine_submit(pool, None, struct.pack("q", number), 8, options, ctypes.byref(task)))
    return task


def wait(task):
    result = ctypes.create_string_buffer(struct.pack("Q", 48), 48)  # .size .id .status .delivery .message .data .length
    check(tine.tine_wait(pool, task, 2**63 - 1, result))
    status, _, _, data, length = struct.unpack_from("iiQQQ", result, 16)
    output = ctypes.string_at(data, length) if data else b""
    tine.tine_result_release(pool, result)
    return status, output


tasks = [submit(b"square", number) for number in range(1, 5)]
squares = []
for task in tasks:
    status, output = wait(task)
    check(status)
    number, process = struct.unpack("qq", output)
    assert process != os.getpid()
    squares.append(str(number))
status, _ = wait(submit(b"crash", 0))
print(*squares, tine.tine_errname(status).decode())
tine.tine_pool_destroy(pool)
