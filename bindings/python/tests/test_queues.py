"""Queues and pipes, within one process and between several."""

import gc
import os
import pickle
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
from queue import Empty, Full

import family
import numpy
import preloaded
import pytest

import libtine
from libtine import _codec, connection, queues

HANG_SECONDS = 60


def ended(process):
    process.join(HANG_SECONDS)
    return process.exitcode


def test_put_and_get():
    queue = libtine.Queue(3)
    for item in (1, "two", [3.0]):
        queue.put(item)
    assert queue.full() and queue.qsize() == 3 and not queue.empty()
    for wait in ({"block": False}, {"timeout": 0.01}, {"timeout": 0}, {"timeout": -1}):
        with pytest.raises(Full):
            queue.put(4, **wait)
    with pytest.raises(Full):
        queue.put_nowait(4)
    assert [queue.get(), queue.get(False), queue.get(True, HANG_SECONDS)] == [1, "two", [3.0]]
    for wait in ({"block": False}, {"timeout": 0.01}, {"timeout": 0}, {"timeout": -1}):
        with pytest.raises(Empty):
            queue.get(**wait)
    with pytest.raises(Empty):
        queue.get_nowait()
    assert queue.empty() and queue.qsize() == 0


@pytest.mark.parametrize("forever", [float("inf"), 1e300, 1e10])
def test_timeouts_that_never_run_out(forever):
    """They are the same for everything that takes a timeout, and the same as None."""
    queue, bounded, (near, far) = libtine.Queue(), libtine.Queue(1), libtine.Pipe()
    lock, event, condition = libtine.Lock(), libtine.Event(), libtine.Condition()
    queue.put(1, timeout=forever)
    bounded.put(1, timeout=forever)
    near.send(1)
    event.set()
    assert queue.get(timeout=forever) == bounded.get(timeout=forever) == 1
    assert far.poll(forever) and event.wait(forever) and lock.acquire(timeout=forever)
    assert libtine.Semaphore(1).acquire(timeout=forever) and libtine.Barrier(1).wait(forever) == 0
    with condition:
        assert condition.wait_for(lambda: True, forever)
    queue.put(2)
    assert queue._reader.poll(forever)
    with libtine.ProcessPoolExecutor(1, deadline=forever) as executor:
        assert executor.submit_with(abs, (-2,), deadline=forever).result(HANG_SECONDS) == 2


def test_timeouts_that_are_no_numbers():
    nan = float("nan")
    queue, (near, _far), condition = libtine.Queue(1), libtine.Pipe(), libtine.Condition()
    queue.put(1)
    with condition, pytest.raises(ValueError, match="NaN"):
        condition.wait(nan)
    for wait in (lambda: queue.put(2, timeout=nan), lambda: near.poll(nan), lambda: libtine.Barrier(2).wait(nan)):
        with pytest.raises(ValueError, match="timeout is not a number"):
            wait()
    with libtine.ProcessPoolExecutor(1) as executor, pytest.raises(ValueError, match="time limit is not a number"):
        executor.submit_with(abs, (-2,), deadline=nan)


class _Text(str):
    pass


@pytest.mark.parametrize("kind", [libtine.Queue, libtine.JoinableQueue, libtine.SimpleQueue])
def test_what_is_put_comes_out_as_it_was(kind):
    queue = kind()
    deep = ()
    for _ in range(20):
        deep = (deep,)
    objects = [
        None,
        True,
        False,
        0,
        -1,
        2**63 - 1,
        -(2**63),
        2**63,
        2**70,
        1.5,
        float("inf"),
        "",
        "\0",
        "\ud800",
        "ä" * 5000,
    ]
    objects += [
        b"",
        b"\x03",
        b"x" * 4096,
        b"x" * 4097,
        bytearray(b"x"),
        (),
        (1, ("a", None)),
        deep,
        tuple("x" * 4096 for _ in range(9)),
    ]
    objects += [[1], {"a": (1, 2)}, _Text("text"), signal.SIGTERM, {1, 2}, 1j, range(3), Ellipsis]
    for item in objects:
        queue.put(item)
        got = queue.get()
        assert got == item and type(got) is type(item), item
    nan = float("nan")
    queue.put((nan, [nan]))
    got = queue.get()
    assert got[0] != got[0] and got[1][0] != got[1][0]
    shared = [1]
    queue.put((shared, shared))
    one, other = queue.get()
    assert one is other  # as in any pickle


def test_order_of_what_is_pickled_and_what_is_not():
    queue = libtine.Queue()
    objects = [number if number % 2 else [number] for number in range(40_000)]  # more than find room at once
    for item in objects:
        queue.put(item)
    assert [queue.get() for _ in objects] == objects


@pytest.mark.parametrize(
    "item", ["x" * 4000, b"x" * 4000, b"x" * 5000, bytearray(5000)], ids=["str", "bytes", "long", "array"]
)
def test_what_stands_in_a_tuple_many_times_is_sent_once(item):
    many = (item,) * 1000
    queue = libtine.Queue()
    with libtine.ProcessPoolExecutor(1) as executor:
        assert executor.submit(len, "ab").result(HANG_SECONDS) == 2
        tracemalloc.start()
        try:
            queue.put(many)
            assert queue.get(timeout=HANG_SECONDS) == many
            assert executor.submit(len, many).result(HANG_SECONDS) == 1000
            assert list(executor.map(len, [item] * 1000, chunksize=1000)) == [len(item)] * 1000
            assert sum(memoryview(part).nbytes for part in _codec.dumps(many)) < 100_000
            _now, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert most < 3 << 20


def test_closed():
    queue = libtine.Queue()
    with pytest.raises(AssertionError, match="not closed"):
        queue.join_thread()
    queue.close()
    for call in (queue.get, lambda: queue.put(1)):
        with pytest.raises(ValueError, match="is closed"):
            call()
    queue.join_thread()
    simple = libtine.get_context().SimpleQueue()
    simple.put(1)
    assert not simple.empty() and simple.get() == 1
    simple.close()
    simple.close()
    assert simple._reader.closed and simple._writer.closed


def test_put_says_what_cannot_be_pickled():
    queue = libtine.Queue()
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
        queue.put(lambda: None)
    queue.put(1)
    assert queue.get() == 1


def test_put_never_waits_without_a_maxsize():
    queue = libtine.Queue()
    count = queues.UNBOUNDED_MESSAGES + 1000
    for number in range(count):
        queue.put(number)
    assert queue.qsize() == count
    assert [queue.get() for _ in range(count)] == list(range(count))


@pytest.mark.parametrize("length, count", [(10_000, 40), (4000, 100)])  # more than fits into its memory
def test_bytes_are_not_what_limits(length, count):
    for maxsize in (0, count):
        queue = libtine.Queue(maxsize)
        items = [bytes([number]) * length for number in range(count)]
        for item in items:
            queue.put(item, timeout=HANG_SECONDS)
        assert [queue.get() for _ in items] == items


def test_many_long_messages():
    queue = libtine.Queue()
    count = queues.MOST_LONG + 20
    for number in range(count):
        queue.put(bytes([number]) * 100_000)
    for number in range(count):
        assert queue.get() == bytes([number]) * 100_000
    gc.collect()


def test_arrays():
    queue = libtine.Queue()
    for shape in ((3,), (1000, 1000)):
        queue.put({"a": numpy.full(shape, 7.0), "b": "text"})
        item = queue.get()
        assert item["b"] == "text" and item["a"].shape == shape and (item["a"] == 7).all()
        item["a"][0] = 8  # it is the receiver's


def test_between_processes():
    there, back = libtine.Queue(), libtine.JoinableQueue(1)
    process = libtine.Process(target=family.echo, args=(there, back))
    process.start()
    items = [*range(200), "x" * 50_000, bytes(3_000_000), {"k": [1, 2]}]
    for item in items:
        there.put(item)
    assert [back.get(timeout=HANG_SECONDS) for _ in items] == items
    there.put(None)
    assert ended(process) == 0


def test_a_long_message_is_taken_before_its_process_ends():
    queue = libtine.Queue()
    process = libtine.Process(target=family.put_and_end, args=(queue, "y" * 200_000))
    process.start()
    process.join(0.3)
    assert queue.get(timeout=HANG_SECONDS) == "y" * 200_000
    assert ended(process) == 0


def test_joinable():
    queue = libtine.JoinableQueue()
    count = queues.UNBOUNDED_MESSAGES + 100
    processes = [libtine.Process(target=family.take_work, args=(queue,)) for _ in range(2)]
    for number in range(count):
        queue.put(number)
    for process in processes:
        process.start()
    for _ in processes:
        queue.put(None)
    queue.join()
    assert queue.empty()
    with pytest.raises(ValueError, match="too many times"):
        queue.task_done()
    assert [ended(process) for process in processes] == [0, 0]


def test_locks_and_queues_travel_through_queues():
    queue, inner, lock = libtine.Queue(), libtine.Queue(), libtine.Lock()
    queue.put((inner, lock))
    other, same = queue.get()
    other.put(5)
    assert inner.get() == 5
    with same:
        assert lock.locked()


def test_waiting_for_many():
    queue, (near, far) = libtine.Queue(), libtine.Pipe()
    reader = queue._reader
    assert connection.wait([reader, near], 0) == []
    far.send(1)
    assert connection.wait([reader, near], HANG_SECONDS) == [near]
    near.recv()
    queue.put(2)
    assert connection.wait([reader, near], HANG_SECONDS) == [reader]
    assert queue.get() == 2


def test_a_forked_child_has_the_queue():
    queue = libtine.Queue()
    child = os.fork()
    if not child:
        try:
            queue.put("from the child")
        finally:
            os._exit(0)
    assert queue.get(timeout=HANG_SECONDS) == "from the child"
    os.waitpid(child, 0)


def test_pipe():
    near, far = libtine.Pipe()
    assert not near.poll() and not near.poll(0.01)
    near.send({"a": 1})
    assert far.poll(HANG_SECONDS) and far.recv() == {"a": 1}
    far.send_bytes(b"abcdef", 1, 3)
    assert near.recv_bytes() == b"bcd"
    far.send_bytes(b"")
    assert near.recv_bytes() == b""
    buffer = bytearray(8)
    far.send_bytes(b"xyz")
    assert near.recv_bytes_into(buffer, 2) == 3 and buffer == b"\0\0xyz\0\0\0"
    far.send_bytes(b"longer than that")
    with pytest.raises(libtine.BufferTooShort) as info:
        near.recv_bytes_into(buffer)
    assert info.value.args == (b"longer than that",)
    large = os.urandom(5_000_000)
    thread = threading.Thread(target=far.send, args=(large,))
    thread.start()
    assert near.recv() == large
    thread.join()
    far.send_bytes(b"12345")
    with pytest.raises(OSError, match="bad message length"):
        near.recv_bytes(4)
    far.close()
    with pytest.raises(OSError, match="closed"):
        far.send(1)


def test_pipe_of_one_way():
    reader, writer = libtine.Pipe(duplex=False)
    assert reader.readable and not reader.writable and writer.writable and not writer.readable
    with pytest.raises(OSError, match="read-only"):
        reader.send(1)
    with pytest.raises(OSError, match="write-only"):
        writer.recv()
    with writer:
        writer.send(1)
    assert writer.closed and reader.recv() == 1
    with pytest.raises(EOFError):
        reader.recv()


def test_broken_pipe():
    near, far = libtine.Pipe()
    far.close()
    with pytest.raises(BrokenPipeError):
        near.send(1)


def test_connections_travel_through_connections():
    near, far = libtine.Pipe()
    process = libtine.Process(target=family.receive_and_unlock, args=(far,))
    process.start()
    lock, (here, there) = libtine.Lock(), libtine.Pipe()
    lock.acquire()
    near.send((lock, there))
    assert not here.poll(0.05)
    lock.release()
    assert here.recv() == "held"
    assert ended(process) == 0
    with pytest.raises(TypeError, match="travels as"):
        pickle.dumps(here)


def test_a_connection_that_another_thread_closes():
    near, far = libtine.Pipe()
    raised = []

    def receive():
        try:
            near.recv()
        except (EOFError, OSError) as error:
            raised.append(error)

    thread = threading.Thread(target=receive)
    thread.start()
    time.sleep(0.05)
    near.close()
    far.close()
    thread.join(HANG_SECONDS)
    assert raised


def _sleeps(thread):
    with open(f"/proc/self/task/{thread.native_id}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "S"


def test_a_forked_child_closes_an_end_that_a_thread_reads_from():
    """The child has no such thread: the end is closed there at once. The other end is told with the last copy."""
    near, far = libtine.Pipe()
    began, (told, tell), (stay, let_go) = threading.Event(), os.pipe(), os.pipe()
    thread = threading.Thread(target=lambda: (began.set(), near.recv()))
    thread.start()
    assert began.wait(HANG_SECONDS)
    while not _sleeps(thread):
        time.sleep(0.001)
    child = os.fork()
    if not child:
        try:
            near.close()
            far.close()
            os.write(tell, b"c")
            os.close(let_go)
            os.read(stay, 1)
        finally:
            os._exit(0)
    try:
        assert os.read(told, 1) == b"c"
        far.send("go on")
        thread.join(HANG_SECONDS)
        near.close()
        assert far.poll(HANG_SECONDS)
        with pytest.raises(EOFError):
            far.recv()
    finally:
        for fd in (told, tell, stay, let_go):
            os.close(fd)
        os.waitpid(child, 0)


def test_a_forked_child_has_nothing_to_flush():
    """What the parent's thread is to put when there is room is none of the child's."""
    queue = libtine.Queue()
    for number in range(queues.UNBOUNDED_MESSAGES + 10):
        queue.put(number)
    child = os.fork()
    if not child:
        try:
            signal.alarm(HANG_SECONDS)
            queue.close()
            queue.join_thread()
            os._exit(7)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert [queue.get() for _ in range(queues.UNBOUNDED_MESSAGES + 10)][-1] == queues.UNBOUNDED_MESSAGES + 9


def test_descriptors_are_given_back():
    def count():
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    def use():
        queue, (near, far) = libtine.Queue(), libtine.Pipe()
        queue.put(bytes(100_000))
        near.send(libtine.Lock())
        far.recv()
        assert queue.get() == bytes(100_000)
        select.select([near], [], [], 0)

    use()
    before = count()
    for _ in range(20):
        use()
    assert count() <= before + 1


def put_long_into_a_queue_of_nobody():
    queue = libtine.Queue()
    process = libtine.Process(target=family.get_and_send_length, args=(queue, far := libtine.Pipe()))
    process.start()
    queue.put(bytes(300_000))
    return process, far[0]


def test_a_long_message_outlives_the_queue_of_its_sender():
    process, near = put_long_into_a_queue_of_nobody()
    gc.collect()
    near.send("go on")
    assert near.recv() == 300_000
    assert ended(process) == 0


@pytest.mark.parametrize("first", ["libtine", "multiprocessing"])
def test_values_beside_those_of_multiprocessing(first):
    """Both are of the same types of ctypes', and each is sent as its kind is."""
    program = f"""
        import {first}, multiprocessing, sys
        {first}.get_context("forkserver").Value("i", 0)
        import libtine, family
        theirs, ours = multiprocessing.get_context("forkserver").Value("i", 1), libtine.Value("i", 2)
        queue = libtine.Queue()
        queue.put(ours)
        assert queue.get().value == 2
        with libtine.ProcessPoolExecutor(1) as executor:
            assert executor.submit(family.add, ours, 5).result() is None and ours.value == 7
        for context, value in ((libtine, ours), (multiprocessing.get_context("spawn"), theirs)):
            process = context.Process(target=family.add, args=(value, 3))
            process.start()
            process.join()
            assert process.exitcode == 0
        print(ours.value, theirs.value)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, cwd=os.path.dirname(__file__), capture_output=True, text=True, timeout=120)
    assert done.stdout == "10 4\n", done.stderr


def test_objects_in_tasks_of_an_executor():
    queue, value = libtine.Queue(), libtine.Value("i", 1)
    with libtine.ProcessPoolExecutor(1) as executor:
        executor.submit(family.add_and_put, value, queue).result(HANG_SECONDS)
    assert value.value == 2 and queue.get(timeout=HANG_SECONDS) == "added"


def test_a_get_waits_no_longer_for_messages_that_others_take(tmp_path):
    program = """
        import os
        import queue
        import libtine

        messages = libtine.Queue()
        messages.put(1)
        while messages.empty():
            pass
        os.environ["ALL_IS_TAKEN"] = "1"
        try:
            messages.get(timeout=0.1)
        except queue.Empty:
            print("empty")
        """
    assert preloaded.run(program, tmp_path) == "empty\n"
