"""Messages too long for a queue: they are taken where there is a descriptor for them, or their sender goes on."""

import os
import resource
import threading
import time
from queue import Full

import family
import pytest

import libtine
from libtine import _long, _shared, queues

HANG_SECONDS = 60
LONG = b"y" * 100_000


@pytest.fixture
def few_descriptors():
    """Calls that leave this process no free descriptor, and all that there were."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def use_up():
        with open(os.devnull) as free:
            lowest = free.fileno()
        filling = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 64, before[1]))
        try:
            while True:
                filling.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            return filling

    taken = []

    def free():
        while taken:
            os.close(taken.pop())
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

    yield lambda: taken.extend(use_up()), free
    free()


def wait_for(queue, count):
    while queue._open().count() < count:
        time.sleep(0.001)


def sender_of(queue, item=LONG):
    process = libtine.Process(target=family.put_and_end, args=(queue, item))
    process.start()
    wait_for(queue, 1)
    return process


@pytest.mark.parametrize("kind", [libtine.Queue, libtine.SimpleQueue])
def test_get_without_a_descriptor(kind, few_descriptors):
    """What could not be opened comes with the next get, and its sender waits for that."""
    use_up, free = few_descriptors
    queue = kind()
    process = sender_of(queue)
    use_up()
    for _ in range(2):
        with pytest.raises(OSError, match="Too many open files"):
            queue.get()
        assert not queue.empty()
    free()
    assert queue.get() == LONG
    process.join(HANG_SECONDS)
    assert process.exitcode == 0 and queue.empty()


def test_get_is_interrupted_before_it_has_opened(monkeypatch):
    queue = libtine.Queue()
    process = sender_of(queue)
    once = iter([KeyboardInterrupt, MemoryError])
    opened = _shared.open_descriptor

    def interrupted(pid, fd):
        for error in once:
            raise error
        return opened(pid, fd)

    monkeypatch.setattr(_shared, "open_descriptor", interrupted)
    for error in (KeyboardInterrupt, MemoryError):
        with pytest.raises(error):
            queue.get()
        assert queue.qsize() == 1
    assert queue.get() == LONG
    process.join(HANG_SECONDS)
    assert process.exitcode == 0


@pytest.mark.parametrize("code", [13, 2])
def test_what_can_never_be_opened_is_said_once(monkeypatch, code):
    queue = libtine.Queue()
    process = sender_of(queue)
    queue.put("behind it")

    def refuse(pid, fd):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(_shared, "open_descriptor", refuse)
    with pytest.raises(PermissionError if code == 13 else libtine.OwnerDied) as info:
        queue.get()
    assert code == 13 or info.value.pid == process.pid
    assert queue.get() == "behind it"
    process.join(HANG_SECONDS)
    assert process.exitcode == 0


@pytest.mark.parametrize("behind", [[], [LONG]])
def test_a_sender_ends_when_its_receiver_was_killed(behind):
    """Between taking what is in the queue and opening what it says."""
    queue = libtine.Queue()
    process = libtine.Process(target=family.put_all_and_end, args=(queue, [LONG, *behind]))
    process.start()
    wait_for(queue, 1 + len(behind))
    assert queue._open().get(0)[0] == 0xFF  # as one that is killed now
    assert [queue.get() for _ in behind] == behind
    process.join(HANG_SECONDS)
    assert process.exitcode == 0


def test_a_sender_waits_for_what_is_in_the_queue(monkeypatch):
    """However long nobody takes it."""
    monkeypatch.setattr(_long, "LOST_SECONDS", 0.0)
    queue = libtine.Queue()
    for number in range(queues.MOST_LONG):
        queue.put(bytes([number]) * 100_000)
    assert not queue._long.wait(0, time.monotonic() + 0.1)
    assert [queue.get()[0] for _ in range(queues.MOST_LONG)] == list(range(queues.MOST_LONG))
    assert queue._long.wait(0, 0.0)


@pytest.mark.parametrize("lost", [1, queues.MOST_LONG])
def test_put_does_not_wait_for_what_is_lost(monkeypatch, lost):
    """Any message that is taken makes room; and those that a killed receiver had, when they are known to be lost."""
    monkeypatch.setattr(_long, "LOST_SECONDS", 0.05 if lost == queues.MOST_LONG else 2 * HANG_SECONDS)
    queue = libtine.Queue(1000)
    for _ in range(queues.MOST_LONG):
        queue.put(LONG)
    for _ in range(lost):
        assert queue._open().get(0)[0] == 0xFF
    done = []
    thread = threading.Thread(target=lambda: (queue.put(LONG), done.append(True)), daemon=True)
    thread.start()
    if lost == 1:
        thread.join(0.1)
        assert not done
        assert queue.get() == LONG
    thread.join(HANG_SECONDS)
    assert done
    left = queue.qsize()
    assert left == queues.MOST_LONG - lost + (lost != 1)
    assert [queue.get() for _ in range(left)] == [LONG] * left


def test_messages_wait_for_room_without_a_descriptor(few_descriptors):
    """Those of a queue without maxsize find room one after the other where none can be a segment of its own."""
    use_up, free = few_descriptors
    queue = libtine.Queue()
    items = [bytes([number]) * 10_000 for number in range(100)]
    use_up()
    for item in items:
        queue.put(item)
    wait_for(queue, 20)
    assert [queue.get(timeout=HANG_SECONDS) for _ in items[:50]] == items[:50]
    free()
    assert [queue.get(timeout=HANG_SECONDS) for _ in items[50:]] == items[50:]
    queue.close()
    queue.join_thread()


def test_a_bounded_queue_without_a_descriptor(few_descriptors):
    use_up, _free = few_descriptors
    queue = libtine.Queue(1000)
    use_up()
    put = 0
    with pytest.raises(Full):
        while True:
            queue.put(bytes(10_000), timeout=0.01)
            put += 1
    assert put and [queue.get(timeout=HANG_SECONDS) for _ in range(put)] == [bytes(10_000)] * put
    with pytest.raises(OSError, match="Too many open files"):
        queue.put(LONG)


def test_no_thread_can_be_started(monkeypatch):
    """Then put() says so, and later messages find their way."""
    queue = libtine.Queue()
    start, refused = threading.Thread.start, iter([RuntimeError])

    def refuse(thread):
        for error in refused:
            raise error("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    count = queues.UNBOUNDED_MESSAGES
    for number in range(count):
        queue.put(number)
    with pytest.raises(RuntimeError, match="start new thread"):
        queue.put("refused")
    queue.put("behind")
    assert [queue.get(timeout=HANG_SECONDS) for _ in range(count + 1)] == [*range(count), "behind"]
    queue.close()
    queue.join_thread()


def test_what_one_message_fails_of_is_said(monkeypatch):
    """And those behind it are put."""
    queue, said = libtine.Queue(), []
    monkeypatch.setattr(threading, "excepthook", lambda args: said.append(args.exc_type))
    count = queues.UNBOUNDED_MESSAGES
    for number in range(count):
        queue.put(number)
    put = queue._put

    def fail(message, timeout_ns):
        if message == failing:
            raise ZeroDivisionError
        return put(message, timeout_ns)

    failing = queue._message(["failing"])
    monkeypatch.setattr(queue, "_put", fail)
    queue.put(["failing"])
    queue.put("behind")
    assert [queue.get(timeout=HANG_SECONDS) for _ in range(count + 1)] == [*range(count), "behind"]
    assert said == [ZeroDivisionError]
