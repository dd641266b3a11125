"""RLock, whose words say which thread has it: ends of processes and threads, forks, and signals at each point."""

import contextlib
import gc
import os
import pickle
import random
import signal
import struct
import threading
import time
import traceback

import pytest

import libtine
from libtine import _native, synchronize

HANG_SECONDS = 60
LONG = bool(os.environ.get("TINE_STORM"))
WORDS = struct.Struct("=iIQ")  # dead, depth, holder


def poke(lock, dead, depth, holder):
    WORDS.pack_into(lock._block.view(), _native.MUTEX_SIZE, dead, depth, holder)


def words(lock):
    return WORDS.unpack_from(lock._block.view(), _native.MUTEX_SIZE)


def again(value):
    return pickle.loads(pickle.dumps(value))


def in_thread(function, *args):
    result = []
    thread = threading.Thread(target=lambda: result.append(function(*args)))
    thread.start()
    thread.join(HANG_SECONDS)
    return result[0]


def forked(function):
    """The pid of a forked child that runs the function, and ends with 0 unless it raises or returns something false."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if function() else 2
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def end_of(pid):
    end = time.monotonic() + HANG_SECONDS
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hung"


def kill_itself():
    os.kill(os.getpid(), signal.SIGKILL)


# What the words can be when a holder is killed: between the mutex and its words, held, after the words and before the
# mutex, and having learned of another's death.
@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("holder", [0, 1, None])
@pytest.mark.parametrize("dead", [0, 7])
def test_killed_at_each_point(dead, depth, holder):
    lock = libtine.RLock()

    def die():
        lock.acquire()
        poke(lock, dead, depth, words(lock)[2] if holder is None else holder)
        kill_itself()

    pid = forked(die)
    assert end_of(pid) == -signal.SIGKILL
    for _ in range(2):
        with pytest.raises(libtine.OwnerDied) as info:
            lock.acquire(timeout=HANG_SECONDS)
        assert info.value.pid == pid
        assert words(lock)[1:] == (0, 0)
    with lock.repair(), lock:
        assert repr(lock) == "<RLock(MainProcess, 2)>"
        assert in_thread(lock.acquire, False) is False
    assert words(lock) == (0, 0, 0)
    assert in_thread(lock.acquire, False) is True


def test_fork_while_held():
    lock = libtine.RLock()
    with lock:
        assert (
            end_of(forked(lambda: not lock.acquire(False) and not lock.acquire(timeout=0.01) and not lock._is_mine()))
            == 0
        )

        def release():
            with pytest.raises(AssertionError):
                lock.release()
            return True

        assert end_of(forked(release)) == 0
        assert lock._is_mine() and in_thread(lock.acquire, False) is False
    assert end_of(forked(lambda: lock.acquire(False) and lock.acquire(False))) == 0  # it ends holding it
    with pytest.raises(libtine.OwnerDied):
        lock.acquire(timeout=HANG_SECONDS)


def test_forks_while_threads_begin_and_end_with_locks():
    done = threading.Event()
    kept = [libtine.RLock() for _ in range(50)]

    def take():
        libtine.RLock().acquire()
        for lock in kept[:3]:
            with contextlib.suppress(libtine.OwnerDied):
                lock.acquire(False)

    def churn():
        while not done.is_set():
            thread = threading.Thread(target=take)
            thread.start()
            thread.join()
            for lock in kept[:3]:
                with contextlib.suppress(libtine.OwnerDied), lock.repair():
                    pass

    def use():
        lock = libtine.RLock()
        in_thread(lock.acquire)
        with pytest.raises(libtine.OwnerDied):
            lock.acquire(timeout=HANG_SECONDS)
        return True

    threads = [threading.Thread(target=churn) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        ends = [end_of(forked(use)) for _ in range(500 if LONG else 40)]
    finally:
        done.set()
        for thread in threads:
            thread.join(HANG_SECONDS)
    assert set(ends) == {0}


def test_a_thread_ends_whose_object_is_gone():
    kept = [libtine.RLock()]  # the only reference in this process, and in the child
    taken, may_end = libtine.Event(), libtine.Event()

    def take_and_drop():
        lock = kept.pop()
        lock.acquire()
        del lock
        gc.collect()
        taken.set()
        may_end.wait(HANG_SECONDS)

    def child():
        in_thread(take_and_drop)
        time.sleep(2 * HANG_SECONDS)

    pid = forked(child)
    assert taken.wait(HANG_SECONDS)
    assert kept[0].acquire(False) is False
    may_end.set()
    with pytest.raises(libtine.OwnerDied) as info:
        kept[0].acquire(timeout=HANG_SECONDS)
    assert info.value.pid == pid
    os.kill(pid, signal.SIGKILL)
    assert end_of(pid) == -signal.SIGKILL


def test_an_object_goes_while_another_thread_waits():
    kept = [libtine.RLock()]
    other = again(kept[0])
    other.acquire()
    waits = threading.Thread(target=lambda lock: lock.acquire(timeout=HANG_SECONDS), args=(kept.pop(),))
    waits.start()
    gc.collect()
    time.sleep(0.01)
    other.release()
    waits.join(HANG_SECONDS)
    assert not waits.is_alive()
    with pytest.raises(libtine.OwnerDied) as info:  # the thread that got it has ended with it
        other.acquire(timeout=HANG_SECONDS)
    assert info.value.pid == os.getpid()


def test_a_signal_handler_takes_it_in_a_wait():
    condition = libtine.Condition()
    handled = []

    def handle(_number, _frame):
        assert condition._lock._is_mine()
        with condition, condition:
            handled.append(repr(condition._lock))
            condition.notify()

    before = signal.signal(signal.SIGALRM, handle)
    try:
        with condition, condition:
            signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
            while len(handled) < 4:
                condition.wait(0.1)
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert repr(condition._lock) == "<RLock(MainProcess, 2)>"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert set(handled) == {"<RLock(MainProcess, 4)>"}
    assert condition.acquire(False)


def test_taken_too_often():
    lock = libtine.RLock()
    lock.acquire()
    dead, _depth, holder = words(lock)
    poke(lock, dead, 2**32 - 1, holder)
    with pytest.raises(libtine.TineError, match="EOVERFLOW"):
        lock.acquire()
    poke(lock, dead, 1, holder)
    lock.release()
    assert not lock.locked()


def test_holders_are_killed_at_any_moment():
    """Two words that every holder makes the same: who finds them different has been told of a death."""
    lock, words = libtine.RLock(), libtine.RawArray("Q", 2)

    def work():
        with contextlib.suppress(libtine.OwnerDied):
            while True:
                with lock, lock:
                    words[0] += 1
                    with lock:
                        words[1] += 1
        time.sleep(2 * HANG_SECONDS)  # the other one was killed first

    told = torn = 0
    rounds = 2000 if LONG else 60
    for _ in range(rounds):
        children = [forked(work) for _ in range(2)]
        time.sleep(random.random() / 200)
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        assert [end_of(pid) for pid in children] == [-signal.SIGKILL] * 2
        try:
            with lock:
                assert words[0] == words[1]
        except libtine.OwnerDied as error:
            assert error.pid in (*children, -1)  # -1: killed before it had signed for the lock
            told += 1
            with lock.repair(), lock:
                torn += words[0] != words[1]
                words[0] = words[1]
        assert lock._state()[0] == 0 and not lock.locked()
    print(f"{rounds} rounds, {told} told of a death, {torn} torn")
    assert told  # or no holder was ever hit


def test_threads_of_two_processes():
    lock, count = libtine.RLock(), libtine.RawValue("Q", 0)
    times = 3000 if LONG else 300

    def add():
        for _ in range(times):
            with lock:
                before = count.value
                with lock:
                    count.value = before + 1

    def add_in_threads():
        threads = [threading.Thread(target=add) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(HANG_SECONDS)
        return not any(thread.is_alive() for thread in threads)

    children = [forked(add_in_threads) for _ in range(2)]
    assert add_in_threads()
    assert [end_of(pid) for pid in children] == [0, 0]
    assert count.value == 6 * times


def test_fork_while_messages_wait_for_room():
    queue = libtine.Queue()
    total = 16_384 + 10
    for number in range(total):
        queue.put(number)

    def put():
        queue.put("child")
        queue.close()
        queue.join_thread()
        return True

    pid = forked(put)
    got = [queue.get(timeout=HANG_SECONDS) for _ in range(total + 1)]
    assert end_of(pid) == 0
    got.remove("child")
    assert got == list(range(total))


def test_repr_of_a_lock_of_another_thread():
    lock = synchronize.RLock()
    with lock:
        assert in_thread(repr, lock) == "<RLock(SomeOtherThread, nonzero)>"
