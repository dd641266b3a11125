"""What the tests have called in workers: functions of a module, as programs have them."""

import dataclasses
import os
import signal
import sys
import threading
import time

initialized_with = None


def initialize(value):
    global initialized_with
    initialized_with = value


def fail_to_initialize():
    raise RuntimeError("it was not to be")


def get_initialized():
    return initialized_with


def add(a, b=0):
    return a + b


def pid():
    return os.getpid()


def die(number=signal.SIGKILL):
    os.kill(os.getpid(), number)
    time.sleep(60)


def leave(code):
    os._exit(code)


def sleep(seconds):
    time.sleep(seconds)
    return seconds


def leave_file_and_sleep(where):
    directory, n = where
    open(os.path.join(directory, str(n)), "x").close()
    time.sleep(60)


def sleep_whatever_comes(seconds):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)


def raise_error(error):
    raise error


class Unreadable(Exception):
    def __init__(self, a, b):
        super().__init__(a)


def raise_unreadable():
    raise Unreadable(1, 2)


class Rebuilt(Exception):
    """Its pickle is that of something that is no exception: here, or in the host alone."""

    def __init__(self, where):
        super().__init__(where)

    def __reduce__(self):
        return _rebuilt, (self.args[0], os.getpid())


def _rebuilt(where, pid):
    return "not an exception" if where == "everywhere" or os.getpid() != pid else Rebuilt(where)


def raise_rebuilt(where):
    raise Rebuilt(where)


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    number: int

    def __reduce__(self):
        return Frozen, (self.number,)


def raise_frozen(number):
    raise Frozen(number)


class Causeless(Exception):
    """Says nothing of its cause."""

    @property
    def __cause__(self):
        raise KeyError("no cause")


def raise_causeless(_):
    raise Causeless


class Silent(Exception):
    """It has no text."""

    def __str__(self):
        raise OSError("no text")


def _raise_silent(pid):
    if pid != os.getpid():
        raise Silent
    return 1


class NotToBeReadAndSilent:
    def __reduce__(self):
        return _raise_silent, (os.getpid(),)


def give_silent(_n=0):
    return NotToBeReadAndSilent()


def raise_silent(_n=0):
    raise Silent(NotToBeReadAndSilent())


def die_at_one(n):
    if n == 1:
        die()
    return n


def give_twice(large):
    """Whether the two are one, and in themselves, is to be seen at the other end."""
    one = {"large": bytes(10_000)} if large else {}
    one["me"] = one
    both = (bytes(10_000), 1) if large else (1, 2)
    return one, one, {"both": both}, {"both": both}


class Nameless:
    def __repr__(self):
        raise OSError("no name")

    def __reduce__(self):
        raise RuntimeError("not to be sent")


def give_nameless():
    return {Nameless(): 1}


def give_lambda():
    return {"callback": lambda: 0}


def echo(value):
    return value


def imported(name):
    return name in sys.modules


def authkey():
    import multiprocessing

    return bytes(multiprocessing.current_process().authkey)


def say_hello_through_a_socket():
    import socket

    one, other = socket.socketpair()
    one.sendall(b"hello")
    kept.append(one)
    return other


kept = []


def keep(array):
    kept.append(array)
    return len(kept)


def keep_until(array, path):
    kept.append(array)
    with open(f"{path}.begun", "w"):
        pass
    while not os.path.exists(path):
        time.sleep(0.001)


def keep_and_return_another(array):
    kept.append(array)
    return array + 1


def keep_and_return(array):
    kept.append(array)
    return array, array.ctypes.data


def parts_of(array):
    """What is part of the input, new, or both, with where each is."""
    parts = [array, array[: len(array) // 2], array[:1000], array + 1, array[::2], array.reshape(2, -1).T]
    return [(part, part.ctypes.data) for part in parts]


def view_of(data):
    return memoryview(data)


def sums_of_kept():
    return [int(array.sum()) for array in kept]


def count_threads():
    return threading.active_count()


def die_at_seven(n):
    if n == 7:
        die()
    return n


def reciprocal(n):
    return 1 / n


def kind(value):
    return type(value)


def first_byte(data):
    return data[0]


def put_locked(n):
    lock, queue = initialized_with
    with lock:
        queue.put(n)


def refuse():
    raise ValueError("not to be read")


class NotToBeRead:
    def __reduce__(self):
        return refuse, ()


def refuse_elsewhere(pid):
    if os.getpid() != pid:
        raise ValueError("not to be read")


class NotToBeReadByTheHost:
    def __reduce__(self):
        return refuse_elsewhere, (os.getpid(),)


class KillsWhoReads:
    def __reduce__(self):
        return die, ()


def make(name):
    return globals()[name]()


def fill(array, value):
    array[...] = value


def fill_and_give_back(array, value):
    array[...] = value
    return array


def make_array(value):
    import libtine

    made = libtine.array(100_000, "int64")
    made[:] = value
    return made


def sum_of(array):
    return int(array.sum())


def crash():
    import ctypes

    return ctypes.string_at(0x10)


def crash_without_faulthandler():
    import faulthandler

    faulthandler.disable()
    return crash()


def abort():
    os.abort()


def put_and_fail(queue):
    queue.put("put")
    raise ValueError("after it has put")


def put_many(count, size):
    for number in range(count):
        initialized_with.put((number, bytes(size)))


def say(text):
    print(text)


def slow_pid(_n):
    time.sleep(0.01)
    return os.getpid()


class NotToBeSent:
    def __reduce__(self):
        raise RuntimeError("not to be sent")


def environment(name):
    return os.environ.get(name)


def put_and_count_mapped(queue, array):
    """Sends an array on, and says how many segments this process has."""
    queue.put(array)
    with open("/proc/self/maps") as maps:
        return sum("memfd" in line for line in maps)


def large(what):
    """Of this kind and so many bytes."""
    kind, size = what
    text = "x" * size if kind is not bytes else bytes(size)
    return {bytes: text, str: text, list: [text], dict: {"text": text}}[kind]
