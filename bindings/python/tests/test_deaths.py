"""Processes that are killed while they hold or wait for something: nobody hangs, and who should know is told."""

import pickle
import random
import signal
import threading
import time

import family
import pytest

import libtine
from libtine import queues

HANG_SECONDS = 60


def started(target, *args):
    process = libtine.Process(target=target, args=args)
    process.start()
    return process


def kill(process):
    process.kill()
    process.join(HANG_SECONDS)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Condition", "Value"])
def test_a_holder_is_killed(kind):
    ready = libtine.Event()
    lock = libtine.Value("i") if kind == "Value" else getattr(libtine, kind)()
    process = started(family.hold_and_wait, lock, ready)
    assert ready.wait(HANG_SECONDS)
    assert not lock.acquire(False)
    outcome = []

    def wait():
        try:
            lock.acquire(timeout=HANG_SECONDS)
        except libtine.OwnerDied as error:
            outcome.append(error.pid)

    waiter = threading.Thread(target=wait)
    waiter.start()
    kill(process)
    waiter.join(HANG_SECONDS)
    assert outcome == [process.pid]
    with pytest.raises(libtine.OwnerDied, match=f"process {process.pid} died"), lock:
        pass
    with (lock.get_lock() if kind == "Value" else lock).repair():
        pass
    with lock:
        pass
    assert lock.acquire(timeout=HANG_SECONDS)
    lock.release()


def test_a_waiter_is_killed():
    for lock in (libtine.Lock(), libtine.RLock(), libtine.Semaphore(1)):
        ready = libtine.Event()
        with lock:
            process = started(family.add, _Ready(lock, ready), 1)
            assert ready.wait(HANG_SECONDS)
            time.sleep(0.01)
            kill(process)
        assert lock.acquire(timeout=HANG_SECONDS)
        lock.release()


class _Ready:
    """A lock whose taker says so before."""

    value = 0

    def __init__(self, lock, ready):
        self.lock, self.ready = lock, ready

    def __enter__(self):
        self.ready.set()
        return self.lock.__enter__()

    def __exit__(self, *error):
        return self.lock.__exit__(*error)


def test_a_party_of_a_barrier_is_killed():
    barrier, ready = libtine.Barrier(3), libtine.Event()
    process = started(family.meet, barrier, ready)
    assert ready.wait(HANG_SECONDS)
    while barrier.n_waiting == 0:
        time.sleep(0.001)
    outcome = []

    def meet():
        try:
            barrier.wait(HANG_SECONDS)
        except threading.BrokenBarrierError:
            outcome.append("broken")

    other = threading.Thread(target=meet)
    other.start()
    kill(process)
    other.join(HANG_SECONDS)
    assert outcome == ["broken"] and barrier.broken
    barrier.reset()
    assert not barrier.broken


def test_a_party_is_killed_while_the_action_of_a_barrier_runs():
    """Whoever runs it, and whether or not that one waits for it yet. The next round has all its parties again."""
    entered, go_on, runs = libtine.Event(), libtine.Event(), libtine.Value("i", 0)
    barrier = libtine.Barrier(3, family.Action(entered, go_on, runs))
    for round_number in range(6):
        entered.clear()
        go_on.clear()
        outcome = []

        def meet(outcome=outcome):
            try:
                outcome.append(barrier.wait(HANG_SECONDS))
            except threading.BrokenBarrierError:
                outcome.append("broken")

        process = started(family.meet, barrier, libtine.Event())
        threads = [threading.Thread(target=meet) for _ in range(2)]
        for thread in threads:
            thread.start()
        assert entered.wait(HANG_SECONDS)
        kill(process)
        go_on.set()
        for thread in threads:
            thread.join(HANG_SECONDS)
        assert outcome == ["broken"] * 2 and barrier.broken
        assert runs.value == 2 * round_number + 1
        barrier.reset()
        outcome.clear()
        threads = [threading.Thread(target=meet) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(HANG_SECONDS)
        assert sorted(outcome) == [0, 1, 2] and runs.value == 2 * round_number + 2


@pytest.mark.parametrize("maxsize", [0, 2])
def test_users_of_a_queue_are_killed(maxsize):
    queue = libtine.Queue(maxsize)
    for round_number in range(8):
        target = family.put_for_ever if round_number % 2 else family.get_for_ever
        process = started(target, queue)
        if target is family.get_for_ever:
            for number in range(50):
                queue.put(("host", number, b"", 0), timeout=HANG_SECONDS)
        else:
            last = -1
            for _ in range(50):
                pid, number, _data = queue.get(timeout=HANG_SECONDS)[:3]
                assert pid == "host" or number > last  # in order, none twice
                last = last if pid == "host" else number
        time.sleep(random.random() / 100)
        kill(process)
        while True:  # what is left; a message of its end may be lost with it, and none hangs
            try:
                queue.get(timeout=0.2)
            except libtine.OwnerDied as error:
                assert error.pid == process.pid
            except Exception as error:
                assert type(error).__name__ == "Empty"
                break
        queue.put("usable", timeout=HANG_SECONDS)
        assert queue.get(timeout=HANG_SECONDS) == "usable"


def test_a_long_message_of_a_killed_process():
    queue = libtine.Queue()
    process = started(family.put_and_end, queue, bytes(1_000_000))
    while queue.empty():
        time.sleep(0.001)
    kill(process)
    with pytest.raises(libtine.OwnerDied, match=f"process {process.pid}"):
        queue.get(timeout=HANG_SECONDS)
    queue.put(1)
    assert queue.get() == 1


def test_join_of_a_queue_whose_producer_was_killed():
    """What had found no room is lost with it; what is in the queue is waited for."""
    queue, ready = libtine.JoinableQueue(), libtine.Event()
    process = started(family.put_and_wait, queue, queues.UNBOUNDED_MESSAGES + 1000, ready)
    assert ready.wait(HANG_SECONDS)
    joined = threading.Event()
    joiner = threading.Thread(target=lambda: (queue.join(), joined.set()))
    joiner.start()
    kill(process)
    for number in range(queues.UNBOUNDED_MESSAGES):
        assert not joined.is_set()
        assert queue.get(timeout=HANG_SECONDS) == number
        queue.task_done()
    joiner.join(HANG_SECONDS)
    assert joined.is_set() and queue.empty()
    queue.put("usable")
    assert queue.get() == "usable"
    queue.task_done()
    queue.join()


def test_join_waits_for_what_found_no_room():
    """In another process, and in this one, in which several objects stand for the queue."""
    queue, ready = libtine.JoinableQueue(), libtine.Event()
    count = queues.UNBOUNDED_MESSAGES + 1000
    process = started(family.put_and_wait, queue, count, ready)
    assert ready.wait(HANG_SECONDS)
    other = pickle.loads(pickle.dumps(queue))
    for number in range(500):
        (queue if number % 2 else other).put(number)
    joined = threading.Event()
    joiner = threading.Thread(target=lambda: (queue.join(), joined.set()))
    joiner.start()
    got = 0
    while got < count + 500:
        queue.get(timeout=HANG_SECONDS)
        assert not joined.is_set()
        queue.task_done()
        got += 1
    joiner.join(HANG_SECONDS)
    assert joined.is_set()
    kill(process)
