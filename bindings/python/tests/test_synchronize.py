"""Locks, and what processes share of ctypes: within one process. test_deaths.py has the rest."""

import ctypes
import os
import pickle
import select
import signal
import threading
import time

import pytest

import libtine
from libtine import sharedctypes, synchronize

HANG_SECONDS = 30


def in_thread(function, *args):
    """What a function gives in another thread."""
    result = []
    thread = threading.Thread(target=lambda: result.append(function(*args)))
    thread.start()
    thread.join(HANG_SECONDS)
    return result[0]


def again(value):
    """The same shared object, as it comes out of a pickle."""
    return pickle.loads(pickle.dumps(value))


@pytest.mark.parametrize("kind", [synchronize.Lock, synchronize.RLock])
def test_lock(kind):
    lock = kind()
    assert lock.acquire() is True
    assert lock.locked()
    assert in_thread(lock.acquire, False) is False
    assert in_thread(lock.acquire, True, 0.01) is False
    assert in_thread(again(lock).acquire, True, -1) is False
    assert lock.release() is None
    assert not lock.locked()
    with again(lock):
        assert lock.locked()
    with pytest.raises(ValueError if kind is synchronize.Lock else AssertionError):
        lock.release()


def test_lock_is_released_by_any_thread_of_its_process():
    lock = synchronize.Lock()
    lock.acquire()
    in_thread(lock.release)
    assert lock.acquire(False)


def test_lock_taken_twice_waits():
    lock = synchronize.Lock()
    lock.acquire()
    assert lock.acquire(False) is False
    assert lock.acquire(timeout=0.01) is False
    threading.Timer(0.05, lock.release).start()
    assert lock.acquire(timeout=HANG_SECONDS) is True


def test_rlock_counts():
    lock = synchronize.RLock()
    for _ in range(3):
        lock.acquire()
    assert repr(lock) == "<RLock(MainProcess, 3)>"
    for _ in range(3):
        assert in_thread(lock.acquire, False) is False
        lock.release()
    assert repr(lock) == "<RLock(None, 0)>"
    assert in_thread(lock.acquire, False)


def test_reprs():
    lock = synchronize.Lock()
    assert repr(lock) == "<Lock(owner=None)>"
    with lock:
        assert repr(lock) == "<Lock(owner=MainProcess)>"
        assert in_thread(repr, lock) == "<Lock(owner=SomeOtherThread)>"
    assert repr(synchronize.Semaphore(3)) == "<Semaphore(value=3)>"
    assert repr(synchronize.BoundedSemaphore(2)) == "<BoundedSemaphore(value=2, maxvalue=2)>"
    assert repr(again(synchronize.BoundedSemaphore(2))) == "<BoundedSemaphore(value=2, maxvalue=2)>"
    assert repr(synchronize.Condition()) == "<Condition(<RLock(None, 0)>, 0)>"
    assert repr(synchronize.Event()).endswith("unset>")


def test_bad_arguments():
    lock = synchronize.Lock()
    for arguments in [(1, 2, 3), (True, "soon"), (True, float("nan"))]:
        with pytest.raises((TypeError, ValueError)):
            lock.acquire(*arguments)
    for keywords in [{"blocking": True}, {"Timeout": 1}]:
        with pytest.raises(TypeError):
            lock.acquire(**keywords)
    with pytest.raises(TypeError):
        lock.acquire(True, block=True)
    for bad in (-1, 2**31):
        with pytest.raises(ValueError):
            synchronize.Semaphore(bad)
    for bad in (0, 129):
        with pytest.raises(ValueError):
            synchronize.Barrier(bad)
    with pytest.raises(TypeError):
        synchronize.Condition(threading.Lock())
    assert lock.acquire(timeout=1e300)


def test_semaphore():
    semaphore = synchronize.Semaphore(2)
    assert semaphore.acquire() and semaphore.acquire(False) and not semaphore.acquire(False)
    assert again(semaphore).get_value() == 0
    assert semaphore.acquire(timeout=0.01) is False
    semaphore.release()
    with semaphore:
        assert semaphore.get_value() == 0
    bounded = synchronize.BoundedSemaphore(1)
    with pytest.raises(ValueError, match="released too many times"):
        bounded.release()
    zero = synchronize.BoundedSemaphore(0)
    assert not zero.acquire(False)


def test_condition():
    condition = synchronize.Condition()
    with pytest.raises(AssertionError, match="must acquire"):
        condition.wait()
    with pytest.raises(AssertionError, match="not owned"):
        condition.notify()
    ready = []

    def wait_twice(condition):
        with condition, condition:  # released however often it was taken
            return condition.wait_for(lambda: ready, HANG_SECONDS)

    threads = [threading.Thread(target=wait_twice, args=(again(condition),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    while condition._sleeping_count.get_value() < 3:
        time.sleep(0.001)
    with condition:
        assert condition.wait(0.01) is False
        assert condition.wait(0) is False
        ready.append(True)
        condition.notify_all()
    for thread in threads:
        thread.join(HANG_SECONDS)
        assert not thread.is_alive()
    with condition:
        assert condition.wait_for(lambda: False, timeout=0.01) is False


def test_condition_with_a_plain_lock():
    lock = synchronize.Lock()
    condition = synchronize.Condition(lock)
    with condition:
        threading.Timer(0.01, in_thread, (notify, condition)).start()
        assert condition.wait(HANG_SECONDS)
        assert lock.locked()
    assert not lock.locked()


def notify(condition):
    with condition:
        condition.notify()


class _Interrupted:
    """Handles SIGUSR1 in the main thread, and shows another thread when that has been interrupted, and sleeps again."""

    def __enter__(self):
        self.reader, self.writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.before = signal.set_wakeup_fd(self.writer), signal.signal(signal.SIGUSR1, lambda *_: None)
        return self

    def __exit__(self, *_error):
        signal.set_wakeup_fd(self.before[0])
        signal.signal(signal.SIGUSR1, self.before[1])
        os.close(self.reader)
        os.close(self.writer)

    def once(self):
        """For another thread. The main thread waits, or is about to; before it sleeps nothing would interrupt it."""
        self.wait_until_asleep()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
        assert select.select([self.reader], [], [], HANG_SECONDS)[0]  # the system's handler has run
        os.read(self.reader, 1)
        self.wait_until_asleep()

    @staticmethod
    def wait_until_asleep():
        state = ""
        while state != "S":
            time.sleep(0.001)
            with open(f"/proc/self/task/{threading.main_thread().native_id}/stat") as stat:
                state = stat.read().rpartition(")")[2].split()[0]


@pytest.mark.parametrize("kind", [synchronize.Lock, synchronize.RLock])
def test_condition_is_notified_while_a_signal_is_handled(kind):
    """A waiter whom a signal has woken has to take the lock before its handler runs. It is notified meanwhile."""
    condition = synchronize.Condition(kind())

    def interrupt_and_notify():
        with condition:
            interrupted.once()
            condition.notify_all()

    with _Interrupted() as interrupted:
        other = threading.Thread(target=interrupt_and_notify)
        with condition:
            other.start()
            assert condition.wait(HANG_SECONDS) is True
        other.join(HANG_SECONDS)


def test_condition_is_notified_by_a_signal_handler():
    condition = synchronize.Condition()

    def handler(*_):
        with condition:
            condition.notify()

    def interrupt():
        with condition:
            pass  # the main thread waits
        interrupted.once()

    with _Interrupted() as interrupted:
        signal.signal(signal.SIGUSR1, handler)
        other = threading.Thread(target=interrupt)
        with condition:
            other.start()
            assert condition.wait(HANG_SECONDS) is True
        other.join(HANG_SECONDS)


def test_condition_waits_on_after_a_signal():
    condition = synchronize.Condition()
    with _Interrupted() as interrupted:
        other = threading.Thread(target=interrupted.once)
        with condition:
            condition.notify_all()  # nobody waits: not for who comes later
            other.start()
            assert condition.wait(0.5) is False
        other.join(HANG_SECONDS)


def test_event():
    event = synchronize.Event()
    assert not event.is_set() and not event.wait(0) and not event.wait(timeout=0.01)
    threading.Timer(0.01, again(event).set).start()
    assert event.wait() is True
    event.clear()
    assert not event.is_set()


def test_barrier():
    ran, numbers = [], []
    barrier = synchronize.Barrier(3, lambda: ran.append(len(numbers)))

    def meet(barrier):
        for _ in range(5):
            numbers.append(barrier.wait(HANG_SECONDS))

    # An action does not travel through a pickle where it is a lambda, so these share one object.
    threads = [threading.Thread(target=meet, args=(barrier,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_SECONDS)
    assert len(ran) == 5 and sorted(numbers) == [0] * 5 + [1] * 5 + [2] * 5
    assert barrier.n_waiting == 0 and barrier.parties == 3 and not barrier.broken
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(0.01)
    assert barrier.broken
    barrier.reset()
    assert not barrier.broken


def test_barrier_without_action():
    barrier = synchronize.Barrier(2, timeout=HANG_SECONDS)
    other = []
    thread = threading.Thread(target=lambda: other.append(again(barrier).wait()))
    thread.start()
    assert {barrier.wait(), *(thread.join() or other)} == {0, 1}
    barrier.abort()
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()


def test_barrier_whose_action_fails():
    def fail():
        raise ZeroDivisionError

    barrier = synchronize.Barrier(1, fail)
    with pytest.raises(ZeroDivisionError):
        barrier.wait()
    assert barrier.broken


def meet(barrier, outcome, timeout=HANG_SECONDS):
    try:
        outcome.append(barrier.wait(timeout))
    except Exception as error:
        outcome.append(type(error).__name__)


def started(count, target, *args):
    threads = [threading.Thread(target=target, args=args, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def joined(threads):
    for thread in threads:
        thread.join(HANG_SECONDS)
    return not any(thread.is_alive() for thread in threads)


def test_barrier_whose_action_fails_for_several_parties():
    """As of threading's, the action runs once, and its exception is that of the party that ran it."""
    for kind in (threading.Barrier, synchronize.Barrier):
        runs, outcome = [], []
        barrier = kind(3, lambda runs=runs: runs.append(1) or 1 // (len(runs) - 1))
        assert joined(started(3, meet, barrier, outcome))
        assert len(runs) == 1 and barrier.broken
        assert sorted(outcome) == ["BrokenBarrierError", "BrokenBarrierError", "ZeroDivisionError"]
        barrier.reset()
        outcome.clear()
        assert joined(started(3, meet, barrier, outcome))
        assert sorted(outcome) == [0, 1, 2] and len(runs) == 2


def test_barrier_whose_action_takes_too_long():
    """A timeout holds while another party runs the action, too."""
    entered, go_on, outcome = threading.Event(), threading.Event(), []
    barrier = synchronize.Barrier(3, lambda: entered.set() or go_on.wait(HANG_SECONDS))
    impatient = started(2, meet, barrier, outcome, 0.2)
    patient = started(1, meet, barrier, outcome)
    while len(outcome) < 1:
        time.sleep(0.001)
    go_on.set()
    assert joined([*impatient, *patient]) and barrier.broken
    assert outcome == ["BrokenBarrierError"] * 3
    barrier.reset()
    outcome.clear()
    assert joined(started(3, meet, barrier, outcome)) and sorted(outcome) == [0, 1, 2]


def test_barrier_with_more_threads_than_parties():
    """Each round has its own action, and nobody goes on before it has run."""
    runs, passed = [], []

    def meet_again():
        while True:
            try:
                barrier.wait()
            except threading.BrokenBarrierError:
                return
            passed.append(len(runs))

    barrier = synchronize.Barrier(3, lambda: runs.append(len(passed)))
    threads = started(7, meet_again)
    while len(runs) < 100:
        time.sleep(0.001)
    barrier.abort()
    assert joined(threads)
    assert len(passed) in (3 * len(runs), 3 * len(runs) - 3)
    assert all(before <= 3 * round_number for round_number, before in enumerate(runs))


def test_signals_end_waits():
    def handle(_number, _frame):
        raise InterruptedError

    lock, condition, semaphore = synchronize.Lock(), synchronize.Condition(), synchronize.Semaphore(0)
    event, barrier = synchronize.Event(), synchronize.Barrier(2)
    lock.acquire()
    before = signal.signal(signal.SIGALRM, handle)
    try:
        with condition:
            for wait in (lock.acquire, semaphore.acquire, event.wait, condition.wait, barrier.wait):
                signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)  # again, should the first come before the wait
                with pytest.raises(InterruptedError):
                    wait(timeout=HANG_SECONDS)
                signal.setitimer(signal.ITIMER_REAL, 0)
            assert condition._lock._is_mine()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_holder_that_ended_is_told_of():
    lock = synchronize.RLock()  # held by a thread
    in_thread(lock.acquire)
    for _ in range(2):
        with pytest.raises(libtine.OwnerDied) as info, lock:
            pass
        assert info.value.pid == os.getpid()
    with pytest.raises(ZeroDivisionError), lock.repair():
        raise ZeroDivisionError
    with pytest.raises(libtine.OwnerDied):
        lock.acquire(timeout=1)
    with lock.repair():
        pass
    with lock:
        pass


def test_memory_is_used_again_but_not_of_a_lock_that_is_held():
    places = {synchronize.Lock()._block.offset for _ in range(100)}
    assert len(places) == 1
    held = set()
    for _ in range(100):
        lock = synchronize.RLock()
        assert not lock.locked()
        lock.acquire()
        held.add((lock._block.segment.cookie, lock._block.offset))
    assert len(held) == 100
    shared = set()
    for _ in range(100):
        lock = synchronize.Lock()
        again(lock)
        shared.add((lock._block.segment.cookie, lock._block.offset))
    assert len(shared) == 100


def test_values():
    value = sharedctypes.Value("i", 7)
    with value:
        again(value).value += 1
    assert value.value == 8 and value.get_obj().value == 8
    assert repr(value) == f"<Synchronized wrapper for {value.get_obj()}>"
    raw = sharedctypes.RawValue(ctypes.c_double, 1.5)
    again(raw).value = 2.5
    assert raw.value == 2.5
    lone = ctypes.c_double(3.5)
    assert again(lone) is not lone and again(lone).value == 3.5
    array = sharedctypes.Array("d", range(4))
    again(array)[1:3] = [8, 9]
    assert array[:] == [0, 8, 9, 3] and len(array) == 4
    text = sharedctypes.Array("c", 10)
    text.value = b"abc"
    assert again(text).value == b"abc" and text.raw == b"abc" + bytes(7)
    large = sharedctypes.RawArray("q", 10_000)
    again(large)[9_999] = -1
    assert large[9_999] == -1 and sharedctypes.copy(large)[9_999] == -1
    with pytest.raises(AttributeError, match="acquire"):
        sharedctypes.Value("i", 1, lock="none")


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]


def test_structures():
    point = sharedctypes.Value(Point, 1, 2.5)
    again(point).x = 5
    assert (point.x, point.y) == (5, 2.5)
    points = sharedctypes.RawArray(Point, [(1, 1.0), (2, 2.0)])
    again(points)[1].y = 7.0
    assert points[1].y == 7.0


def test_shared_memory_that_is_gone():
    lock = synchronize.Lock()
    rebuild, (_cookie, place, offset, size) = lock._block.__reduce__()
    with pytest.raises(FileNotFoundError, match="is gone"):
        rebuild(bytes(16), place._replace(pid=2**22 - 1), offset, size)
    with open(os.devnull) as other, pytest.raises(FileNotFoundError, match="is gone"):
        rebuild(bytes(16), place._replace(fd=other.fileno()), offset, size)
    with pytest.raises(FileNotFoundError, match="other shared memory"):
        rebuild(bytes(16), place, offset, size)
