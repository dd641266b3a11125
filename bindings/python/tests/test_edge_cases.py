"""The same calls of multiprocessing and of libtine, with what they say to bad arguments, closed objects and no time."""

import concurrent.futures
import contextlib
import ctypes
import multiprocessing
import multiprocessing.connection
import multiprocessing.shared_memory
import pickle
import re
import threading
import types

import pytest

import libtine
import libtine.connection
import libtine.shared_memory

FORKSERVER = multiprocessing.get_context("forkserver")
THEIRS = types.SimpleNamespace(
    context=FORKSERVER, connection=multiprocessing.connection, shared_memory=multiprocessing.shared_memory
)
OURS = types.SimpleNamespace(
    context=libtine.get_context("forkserver"), connection=libtine.connection, shared_memory=libtine.shared_memory
)
for side, executor in ((THEIRS, concurrent.futures.ProcessPoolExecutor), (OURS, libtine.ProcessPoolExecutor)):
    side.executor = executor

LOCKS = ("Lock", "RLock", "Semaphore", "BoundedSemaphore")
QUEUES = ("Queue", "JoinableQueue")

cases = {}


def case(name, function):
    assert name not in cases
    cases[name] = function


def made(name, *arguments):
    return lambda side: type(getattr(side.context, name)(*arguments)).__name__


def on_lock(name, method, *arguments, **keywords):
    return lambda side: getattr(getattr(side.context, name)(), method)(*arguments, **keywords)


def held(name, *arguments, **keywords):
    def call(side):
        lock = getattr(side.context, name)()
        lock.acquire()
        return lock.acquire(*arguments, **keywords), repr(lock)

    return call


for name in LOCKS:
    for arguments in (
        (),
        (True,),
        (False,),
        (1, None),
        (True, 0),
        (True, -1),
        (None,),
        ("",),
        (1.5,),
        (2**31,),
        (2**70,),
        (True, "x"),
        (1, 2, 3),
    ):
        case(f"{name}.acquire{arguments}", on_lock(name, "acquire", *arguments))
    for keywords in ({"block": False}, {"timeout": 0.01}, {"blocking": True}, {"block": 1, "timeout": -1}):
        case(f"{name}.acquire {keywords}", on_lock(name, "acquire", **keywords))
    case(f"{name}.release", on_lock(name, "release"))
    case(f"{name}.release(1)", on_lock(name, "release", 1))
    case(f"{name} repr", on_lock(name, "__repr__"))
    case(f"{name} with", on_lock(name, "__enter__"))
for name in ("Lock", "Semaphore", "BoundedSemaphore"):
    for arguments in ((False,), (True, 0), (True, -1), (True, 0.01), (False, 5)):
        case(f"held {name}.acquire{arguments}", held(name, *arguments))
for name in ("Semaphore", "BoundedSemaphore"):
    for value in (0, 1, 3, True, 1.5, "x", None, [], 2**31 - 1):
        case(f"{name}({value!r})", lambda side, name=name, value=value: repr(getattr(side.context, name)(value)))
case("BoundedSemaphore(0).release", lambda side: side.context.BoundedSemaphore(0).release())
case("BoundedSemaphore(2).release", lambda side: side.context.BoundedSemaphore(2).release())
case("Semaphore(most).release", lambda side: side.context.Semaphore(2**31 - 1).release())

for timeout in (0, -1, 0.01, "x"):
    case(f"Event.wait({timeout!r})", on_lock("Event", "wait", timeout))
    case(f"Barrier.wait({timeout!r})", lambda side, t=timeout: side.context.Barrier(2).wait(t))


def in_condition(call):
    def run(side):
        condition = side.context.Condition()
        with condition:
            return call(condition), repr(condition)

    return run


for timeout in (0, -1, 0.01, "x"):
    case(f"Condition.wait({timeout!r})", in_condition(lambda condition, t=timeout: condition.wait(t)))
    case(f"Condition.wait_for({timeout!r})", in_condition(lambda condition, t=timeout: condition.wait_for(int, t)))
for n in (0, -1, 1, "x"):
    case(f"Condition.notify({n!r})", in_condition(lambda condition, n=n: condition.notify(n)))
for method in ("wait", "notify", "notify_all", "release"):
    case(f"Condition.{method} without the lock", on_lock("Condition", method))
case("Condition()", lambda side: repr(side.context.Condition()))
case("Condition(Lock())", lambda side: repr(side.context.Condition(side.context.Lock())))
case("Condition([])", lambda side: repr(side.context.Condition([])))


def broken(side):
    barrier = side.context.Barrier(2)
    barrier.abort()
    state = repr(barrier), barrier.broken
    barrier.reset()
    return *state, barrier.broken, barrier.parties, barrier.n_waiting, repr(barrier)


case("Barrier.abort", broken)
case("Barrier(1).wait", lambda side: side.context.Barrier(1).wait())

for name in QUEUES:
    for maxsize in (-1, 0, 1, True, "x", None, 1.5, 2**31 - 1):
        case(f"{name}({maxsize!r})", made(name, maxsize))
    for arguments in ((), (False,), (True, 0), (True, -1), (True, 0.01)):
        if arguments:
            case(f"{name}.get{arguments}", on_lock(name, "get", *arguments))

        def full(side, name=name, arguments=arguments):
            queue = getattr(side.context, name)(1)
            queue.put(1, *arguments)
            return queue.full(), queue.put(2, *(arguments or (False,)))

        case(f"full {name}.put{arguments}", full)
    for method in ("put", "get", "put_nowait", "get_nowait", "qsize", "empty", "full", "join_thread", "close"):

        def closed(side, name=name, method=method):
            queue = getattr(side.context, name)()
            queue.close()
            return getattr(queue, method)(*([1] if "put" in method else []))

        case(f"closed {name}.{method}", closed)
    case(f"{name}.join_thread", on_lock(name, "join_thread"))
case("JoinableQueue.task_done", on_lock("JoinableQueue", "task_done"))
for method in ("put", "get", "empty", "close"):

    def closed_simple(side, method=method):
        queue = side.context.SimpleQueue()
        queue.close()
        return getattr(queue, method)(*([1] if method == "put" else []))

    case(f"closed SimpleQueue.{method}", closed_simple)


def piped(call, duplex=True):
    return lambda side: call(*side.context.Pipe(duplex))


case("Pipe(False)", piped(lambda a, b: [(c.readable, c.writable, c.closed) for c in (a, b)], False))
for timeout in (0, -1, 0.01, "x"):
    case(f"Connection.poll({timeout!r})", piped(lambda a, b, t=timeout: a.poll(t)))
for arguments in (
    (b"abcd",),
    (b"abcd", 1),
    (b"abcd", 1, 2),
    (b"abcd", 4),
    (b"abcd", 5),
    (b"abcd", -1),
    (b"abcd", 1, -1),
):
    case(f"send_bytes{arguments}", piped(lambda a, b, args=arguments: (a.send_bytes(*args), b.recv_bytes())))
for arguments in ((b"abcd", 1, 4), ("x",), (5,), (b"",), (b"abcd", "x"), (b"abcd", 0, "x")):
    case(f"bad send_bytes{arguments}", piped(lambda a, b, args=arguments: (a.send_bytes(*args), b.recv_bytes())))
for most in (-1, 0, 3, 4, 10, "x", None):
    case(f"recv_bytes({most!r})", piped(lambda a, b, most=most: (a.send_bytes(b"abcd"), b.recv_bytes(most))))
for size, offset in ((3, 0), (4, 0), (6, 2), (6, 3), (6, -1), (6, 7), (6, "x")):
    case(
        f"recv_bytes_into({size}, {offset!r})",
        piped(lambda a, b, n=size, at=offset: (a.send_bytes(b"abcd"), b.recv_bytes_into(bytearray(n), at))),
    )
SENT = {"send": [1], "send_bytes": [b"x"], "recv_bytes_into": [bytearray(2)]}
for method in ("send", "recv", "send_bytes", "recv_bytes", "recv_bytes_into", "poll", "fileno", "close", "__enter__"):
    arguments = SENT.get(method, [])
    case(f"closed {method}", piped(lambda a, b, m=method, args=arguments: (a.close(), getattr(a, m)(*args))))
    if method not in ("fileno", "__enter__"):
        case(f"{method} alone", piped(lambda a, b, m=method, args=arguments: (b.close(), getattr(a, m)(*args))))
        case(
            f"{method} of the reader",
            piped(lambda a, b, m=method, args=arguments: (b.send_bytes(pickle.dumps(1)), getattr(a, m)(*args)), False),
        )
        if "recv" in method or method == "poll":
            case(f"{method} of the writer", piped(lambda a, b, m=method, args=arguments: getattr(b, m)(*args), False))
case("Connection(-1)", lambda side: side.connection.Connection(-1))
case("wait([], 0)", lambda side: side.connection.wait([], 0))

for typecode in ("i", "d", "c", "?", "ii", "", 5, None, ctypes.c_int):
    case(f"Value({typecode!r})", lambda side, t=typecode: side.context.Value(t).value)
    case(f"RawArray({typecode!r})", lambda side, t=typecode: list(side.context.RawArray(t, 2)))
for initial in (-1, 0, 1.5, "x", None, [1, 2], range(3), b"abc", [1.5], [[]], 2**70):
    case(f"Array('i', {initial!r})", lambda side, v=initial: list(side.context.Array("i", v)))
for lock in (True, False, None, "x", 5):
    case(f"Value(lock={lock!r})", lambda side, lock=lock: type(side.context.Value("i", 1, lock=lock)).__name__)
case("Value repr", lambda side: repr(side.context.Value("i", 5)))
case("Array repr", lambda side: repr(side.context.Array("i", 5)))
case("Array too far", lambda side: side.context.Array("i", 3)[5])


def in_block(call):
    def run(side):
        block = side.shared_memory.SharedMemory(create=True, size=100)
        try:
            return call(side, block)
        finally:
            block.close()
            with contextlib.suppress(FileNotFoundError):
                block.unlink()

    return run


for size in (0, -1, 1.5, "x", None, 2**62):
    case(
        f"SharedMemory(size={size!r})", lambda side, size=size: side.shared_memory.SharedMemory(create=True, size=size)
    )
for name in (None, "", "tine-no-such-block", 5, "a/b", "x" * 300):
    case(f"SharedMemory({name!r})", lambda side, name=name: side.shared_memory.SharedMemory(name))
for name in ("", "a/b", "x" * 300):
    case(f"new SharedMemory({name!r})", lambda side, name=name: side.shared_memory.SharedMemory(name, True, 10))
case("SharedMemory twice", in_block(lambda side, block: side.shared_memory.SharedMemory(block.name, True, 10)))
case("SharedMemory.unlink twice", in_block(lambda side, block: (block.unlink(), block.unlink())))
case("SharedMemory closed", in_block(lambda side, block: (block.close(), block.close(), block.buf, block.size)))
case("SharedMemory.buf", in_block(lambda side, block: (block.buf.format, block.buf.readonly, len(block.buf) >= 100)))


def process(side, **keywords):
    return side.context.Process(**keywords)


for method in ("is_alive", "join", "terminate", "kill", "close", "run", "__repr__"):
    case(f"Process.{method} before start", lambda side, m=method: getattr(process(side, name="n"), m)())
for method in ("start", "is_alive", "join", "terminate", "kill", "close"):
    case(f"closed Process.{method}", lambda side, m=method: (lambda p: (p.close(), getattr(p, m)()))(process(side)))
for attribute in ("pid", "ident", "exitcode", "sentinel", "daemon", "name"):
    case(f"Process.{attribute} before start", lambda side, a=attribute: getattr(process(side, name="n"), a))
for keywords in ({"group": 1}, {"args": 5}, {"kwargs": 5}, {"name": 5}, {"daemon": True}, {"unknown": 1}):
    case(f"Process({keywords})", lambda side, keywords=keywords: process(side, **keywords).name and None)

for workers in (0, -1, "x", 1.5):
    case(f"Pool({workers!r})", lambda side, n=workers: side.context.Pool(n).terminate())
    case(f"executor({workers!r})", lambda side, n=workers: side.executor(n) and None)
    if workers != 1.5:
        case(f"Pool(maxtasksperchild={workers!r})", lambda side, n=workers: side.context.Pool(1, maxtasksperchild=n))
        case(
            f"executor(max_tasks_per_child={workers!r})",
            lambda side, n=workers: side.executor(1, max_tasks_per_child=n),
        )
case("Pool(initializer=5)", lambda side: side.context.Pool(1, 5))
case("executor(initializer=5)", lambda side: side.executor(1, initializer=5))
case("executor.submit()", lambda side: side.executor(1).submit())
case("executor.submit after shutdown", lambda side: (lambda e: (e.shutdown(), e.submit(abs, 1)))(side.executor(1)))
case("executor.map after shutdown", lambda side: (lambda e: (e.shutdown(), e.map(abs, [1])))(side.executor(1)))
case(
    "executor.map of nothing after shutdown",
    lambda side: (lambda e: (e.shutdown(), list(e.map(abs, []))))(side.executor(1)),
)
case("executor.map chunksize 0", lambda side: side.executor(1).map(abs, [1], chunksize=0))
for method in ("x", None, "spawn"):
    case(f"get_context({method!r})", lambda side, m=method: type(side.context.get_context(m)).__name__)


def outcome(call, side):
    """The class of the exception, or the result, without what is another one each time."""
    try:
        result = call(side)
    except (Exception, threading.BrokenBarrierError) as error:
        return type(error).__name__
    return re.sub(r"0x[0-9a-f]+|(libtine|multiprocessing)\.\w+", "", repr(result))


@pytest.mark.parametrize("name", cases)
def test_it_is_as_with_multiprocessing(name):
    assert outcome(cases[name], OURS) == outcome(cases[name], THEIRS)
