"""libtine.Pool: what multiprocessing.Pool has, and what becomes of it when workers die."""

import concurrent.futures
import gc
import itertools
import multiprocessing
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import types
from concurrent.futures.process import BrokenProcessPool

import functions
import numpy as np
import preloaded
import pytest

import libtine
from libtine._calls import Results
from libtine._imap import WINDOW, Drawing
from libtine.pool import MapResult


@pytest.fixture(scope="module")
def pool():
    with libtine.Pool(2) as pool:
        yield pool
    pool.join()


def test_calls(pool):
    assert pool.apply(functions.add, (1,), {"b": 2}) == 3
    assert pool.apply_async(functions.add, (1, 2)).get(60) == 3
    for chunksize in (None, 1, 2, 100):
        assert pool.map(functions.add, range(10), chunksize) == list(range(10))
        assert pool.starmap(functions.add, [(n, n) for n in range(10)], chunksize) == list(range(0, 20, 2))
    assert pool.map(functions.add, []) == []
    for chunksize in (1, 3):
        assert list(pool.imap(functions.add, range(10), chunksize)) == list(range(10))
        assert sorted(pool.imap_unordered(functions.add, range(10), chunksize)) == list(range(10))


@pytest.mark.parametrize(
    "value",
    [None, True, -(2**63), 2**63, 10**40, 1.5, "", "\udc80", "ß" * 9000, b"", b"\0" * 9000, bytearray(9000),
     (), ((1,), "a"), [1, "b"], {"c": (None,)}, {1, 2}, 1j, ValueError("x").args, functions.add, int],
)  # fmt: skip
def test_values_of_all_kinds_travel(pool, value):
    for result in (pool.apply(functions.echo, (value,)), *pool.map(functions.echo, [value] * 3, 3)):
        assert result == value and type(result) is type(value)


def test_deep_tuples_travel(pool):
    value = ()
    for _ in range(50):
        value = (value, 1)
    assert pool.apply(functions.echo, (value,)) == value


def test_arrays_travel_in_chunks(pool):
    arrays = [np.full(100_000, n) for n in range(8)]
    for sent, came in zip(arrays, pool.map(functions.echo, arrays, 4)):
        assert (sent == came).all()


def test_a_dead_worker_costs_its_item_whatever_the_chunk(pool):
    for chunksize in (1, 3, 10):
        iterator = pool.imap(functions.die_at_seven, range(10), chunksize)
        results = []
        for _ in range(10):
            try:
                results.append(next(iterator))
            except libtine.WorkerDied as died:
                assert died.signal == signal.SIGKILL and died.pid
                results.append("died")
        assert results == [0, 1, 2, 3, 4, 5, 6, "died", 8, 9]
    with pytest.raises(libtine.WorkerDied):
        pool.map(functions.die_at_seven, range(10), 10)


def test_each_item_has_its_own_error(pool):
    for chunksize in (1, 4):
        iterator = pool.imap(functions.reciprocal, [1, 0, 2, 0, 4], chunksize)
        assert next(iterator) == 1
        for expected in (0.5, 0.25):
            with pytest.raises(ZeroDivisionError) as info:
                next(iterator)
            assert isinstance(info.value.__cause__, multiprocessing.pool.RemoteTraceback)
            assert "reciprocal" in str(info.value.__cause__)
            assert next(iterator) == expected
        with pytest.raises(StopIteration):
            next(iterator)


def test_what_cannot_be_pickled_fails_its_own_item(pool):
    items = [1, threading.Lock(), 3]
    iterator = pool.imap(functions.echo, items, 3)
    assert next(iterator) == 1
    with pytest.raises(TypeError, match=r"args\[0\]: lock"):
        next(iterator)
    assert next(iterator) == 3
    with pytest.raises(TypeError, match=r"args\[0\]\['key'\]\[1\]: lock"):
        pool.apply(functions.echo, ({"key": [0, threading.Lock()]},))


def test_what_cannot_be_read_fails_its_own_item(pool):
    for chunksize in (1, 3):
        with pytest.raises(libtine.Unreadable, match="not to be read"):
            pool.map(functions.echo, [1, functions.NotToBeRead(), 3], chunksize)
    with pytest.raises(libtine.Unreadable, match="not to be read"):
        pool.apply(functions.make, ("NotToBeReadByTheHost",))
    assert pool.apply(functions.add, (1,)) == 1


def test_who_kills_while_a_chunk_is_read_is_found(pool):
    iterator = pool.imap(functions.kind, [1, functions.KillsWhoReads(), 3], 3)
    assert next(iterator) is int
    with pytest.raises(libtine.WorkerDied):
        next(iterator)
    assert next(iterator) is int


def test_results(pool):
    result = pool.apply_async(functions.sleep, (0.2,))
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(0.001)
    assert result.get() == 0.2 and result.ready() and result.successful()
    result = pool.apply_async(functions.raise_error, (KeyError("k"),))
    result.wait()
    assert result.ready() and not result.successful()


def test_callbacks(pool):
    got = []
    pool.apply_async(functions.add, (1,), callback=got.append, error_callback=got.append).wait()
    pool.map_async(functions.add, [1, 2], callback=got.append, error_callback=got.append).wait()
    pool.apply_async(functions.raise_error, (KeyError("k"),), callback=got.append, error_callback=got.append).wait()
    assert got[:2] == [1, [1, 2]] and isinstance(got[2], KeyError)


def test_a_callback_may_submit(pool):
    done = threading.Event()
    pool.apply_async(
        functions.add, (1,), callback=lambda _: pool.apply_async(functions.add, (2,), callback=lambda _: done.set())
    )
    assert done.wait(60)


class _Slowly(int):
    """A count, during each subtraction from which other threads run."""

    def __sub__(self, other):
        time.sleep(0.001)
        return _Slowly(int(self) - other)


def test_a_maps_results_may_come_on_several_threads():
    """The engine's, and the caller's for what cannot be sent."""
    result = MapResult(None, 40, None, None)
    result._left = _Slowly(result._left)
    threads = [threading.Thread(target=result.take, args=(n, (n,), False)) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert result.get(0) == list(range(40))


def test_an_exception_that_has_no_cause_to_show_settles_its_map(pool):
    for chunksize in (1, 3):
        with pytest.raises(functions.Causeless):
            pool.map_async(functions.raise_causeless, range(6), chunksize).get(60)


@pytest.mark.parametrize("place", ["_left", "_failure", "_error_callback"])
def test_a_map_that_cannot_keep_what_has_come_settles(pool, monkeypatch, place):
    """As where there is no memory for it."""

    class Full(MapResult):
        def __setattr__(self, name, value):
            if name == place and "_pool" in vars(self) and name in vars(self):
                raise MemoryError("no room")
            super().__setattr__(name, value)

    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    monkeypatch.setattr(libtine.pool, "MapResult", Full)
    for chunksize in (1, 3):
        with pytest.raises((MemoryError, ZeroDivisionError)):
            pool.map_async(functions.reciprocal, range(6), chunksize).get(60)


def test_a_map_of_much_that_cannot_be_sent_settles(pool):
    items = [n if n % 2 else threading.Lock() for n in range(400)]
    for chunksize in (1, 10):
        with pytest.raises(TypeError, match="lock"):
            pool.map_async(functions.echo, items, chunksize).get(60)


def test_one_thread_that_gives_up_does_not_silence_another():
    results = Results(ordered=True)
    got = []
    waiting = threading.Thread(target=lambda: got.append(results.next(None)), daemon=True)
    waiting.start()
    while not results._waiting:
        time.sleep(0.001)
    with pytest.raises(concurrent.futures.TimeoutError):
        results.next(time.monotonic() + 0.01)
    results.take(0, (1,), False)
    waiting.join(10)
    assert got == [1]


@pytest.mark.parametrize("chunksize", [1, 100])
def test_imap_reads_no_further_than_its_window(pool, chunksize):
    drawn = 0

    def forever():
        nonlocal drawn
        while True:
            drawn += 1
            yield drawn

    iterator = pool.imap(functions.echo, forever(), chunksize)
    for taken in range(1, 3 * WINDOW):
        assert next(iterator) == taken
        assert drawn - taken <= WINDOW


def test_imap_does_not_wait_for_its_iterable(pool):
    """Which may go on only when the results so far have been seen."""
    for chunksize in (1, 3):
        for method in (pool.imap, pool.imap_unordered):
            seen = threading.Event()

            def items(seen=seen, chunksize=chunksize):
                yield from range(chunksize)
                assert seen.wait(60)
                yield chunksize

            iterator = method(functions.echo, items(), chunksize)
            assert sorted(next(iterator) for _ in range(chunksize)) == list(range(chunksize))
            with pytest.raises(multiprocessing.TimeoutError):
                iterator.next(timeout=0.01)
            seen.set()
            assert list(iterator) == [chunksize]


def test_imap_ends_with_its_pool_whatever_its_iterable_does():
    go = threading.Event()

    def items():
        yield 1
        go.wait(60)
        yield 2

    with libtine.Pool(1) as pool:
        iterator = pool.imap(functions.echo, items())
        assert next(iterator) == 1
    with pytest.raises(BrokenProcessPool):
        iterator.next(60)
    with pytest.raises(StopIteration):
        iterator.next(60)
    pool.join()
    go.set()


def test_a_pool_that_is_forgotten_ends_in_spite_of_an_imap():
    pool = libtine.Pool(1)
    iterator = pool.imap(functions.echo, itertools.count())
    assert next(iterator) == 0
    thread = pool._engine.thread
    pool._state = "TERMINATE"  # it warns otherwise
    del pool, iterator
    gc.collect()
    thread.join(60)
    assert not thread.is_alive()


def test_imap_takes_no_more_memory_than_it_needs(pool):
    """Ahead of what is taken are as many large items as the workers need, and not as many as the heap holds."""
    drawn = 0

    def frames():
        nonlocal drawn
        for drawn in range(1, 101):  # noqa: B007
            yield bytes(6 << 20)

    iterator = pool.imap(functions.echo, frames())
    for taken in range(1, 101):
        assert len(next(iterator)) == 6 << 20
        assert drawn - taken <= 20


@pytest.mark.parametrize(("kind", "chunksize"), [(str, 1), (list, 1), (dict, 2)])
def test_imap_counts_what_results_take_whatever_they_are(pool, kind, chunksize):
    """Of small inputs, too. How large results are is not known before: it is taken from those before them."""
    drawn = 0

    def numbers():
        nonlocal drawn
        for drawn in range(1, 61):  # noqa: B007
            yield kind, 6 << 20

    iterator = pool.imap(functions.large, numbers(), chunksize)
    most = 0
    for taken in range(1, 61):
        next(iterator)
        most = max(most, drawn - taken)
        while len(iterator._results._early) + len(iterator._results._ready) < min(8, 60 - taken):
            time.sleep(0.001)  # it does draw ahead
    assert most <= 30


def test_imap_draws_without_a_walk_over_the_heap(pool, monkeypatch):
    native = pool._engine.pool

    class Counted:
        def __getattr__(self, name):
            assert name != "stats"
            return getattr(native, name)

    monkeypatch.setattr(pool._engine, "pool", Counted())
    assert list(pool.imap(functions.echo, range(100))) == list(range(100))


class _Waits(Exception):
    pass


class _WakeUps(queue.SimpleQueue):
    """Raises where its user would wait."""

    def get(self, block=True, timeout=None):
        if self.empty():
            sys.settrace(None)
            raise _Waits
        return super().get(block, timeout)


@pytest.mark.parametrize("wait", [lambda drawing: drawing.next(time.monotonic() + 5), lambda drawing: drawing.join()])
def test_a_signals_handler_may_end_an_imap_at_any_place_of_a_wait(wait):
    """The handler is called after each instruction in turn, on the thread that it interrupts."""
    imaps = types.SimpleNamespace(engine=None, discard=lambda _: None)
    ended = number = 0

    def trace(frame, event, _argument):
        nonlocal left, ended
        if not frame.f_code.co_filename.endswith(("_imap.py", "_calls.py")):
            return None
        frame.f_trace_opcodes = True
        left -= event == "opcode"
        if event == "opcode" and left == 0:
            drawing.stop()
            ended += 1
        return trace

    while ended == number:
        number += 1
        left, drawing = number, Drawing(imaps, 1, functions.echo, True, [], 1)
        drawing._wake, drawing._ended = _WakeUps(), _WakeUps()
        sys.settrace(trace)
        try:
            outcome = wait(drawing)
            assert outcome is None or isinstance(outcome.error, BrokenProcessPool)
        except _Waits:
            assert ended < number
        finally:
            sys.settrace(None)
    assert ended > 10


def test_an_imap_whose_iterable_raises_ends_there(pool):
    """With the chunks before, as multiprocessing has it."""

    def items():
        yield from range(7)
        raise KeyError("the eighth")

    for method in (pool.imap, pool.imap_unordered):
        for chunksize in (1, 3, 10):
            iterator = method(functions.echo, items(), chunksize)
            whole = 7 // chunksize * chunksize
            got = []
            failures = 0
            for _ in range(whole + 1):
                try:
                    got.append(next(iterator))
                except KeyError:
                    failures += 1
            assert failures == 1 and (got if method == pool.imap else sorted(got)) == list(range(whole))
            with pytest.raises(StopIteration):
                next(iterator)


def test_an_imap_keeps_nothing_of_calls_that_are_over(pool):
    for chunksize in (1, 2):
        iterator = pool.imap(functions.echo, range(3 * WINDOW), chunksize)
        for expected in range(3 * WINDOW):
            assert next(iterator) == expected
            assert len(iterator._results._calls.under_way) <= WINDOW
        assert not iterator._results._calls.under_way


def test_imap_by_several_threads_ends_for_each(pool):
    iterator = pool.imap(functions.echo, range(500))
    got = []
    threads = [threading.Thread(target=lambda: got.extend(iterator), daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert sorted(got) == list(range(500))


def test_close_lets_everything_finish():
    pool = libtine.Pool(2)
    results = [pool.apply_async(functions.sleep, (0.01,)) for _ in range(10)]
    iterator = pool.imap(functions.echo, range(2 * WINDOW))
    pool.close()
    with pytest.raises(ValueError, match="Pool not running"):
        pool.apply(functions.add, (1,))
    pool.join()
    assert all(result.ready() for result in results)
    assert list(iterator) == list(range(2 * WINDOW))


def test_terminate_ends_what_runs():
    pool = libtine.Pool(2)
    result = pool.map_async(functions.sleep, [600] * 100, 1)
    pids = [process.pid for process in pool._pool]
    pool.terminate()
    pool.join()
    assert result.ready() and not result.successful()
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_a_call_that_comes_while_its_pool_is_terminated_ends():
    pool = libtine.Pool(1)
    pool._engine.no_more = pool._engine.ends_all = True  # as terminate does
    results = [pool.apply_async(functions.sleep, (600,)), pool.map_async(functions.sleep, [600] * 4, 2)]
    for result in results:
        with pytest.raises(concurrent.futures.CancelledError):
            result.get(60)
    pool.terminate()
    pool.join()


def test_a_signals_handler_may_end_the_pool_at_any_place():
    pool = libtine.Pool(1)
    iterator = pool.imap(functions.echo, itertools.count())
    assert next(iterator) == 0

    def interrupted():
        with iterator._results._lock:
            pool.terminate()

    thread = threading.Thread(target=interrupted, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    pool.join()


def test_states():
    pool = libtine.Pool(1)
    assert repr(pool) == "<libtine.pool.Pool state=RUN pool_size=1>"
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    with pytest.raises(NotImplementedError, match="cannot be passed"):
        pool.apply(functions.echo, (pool,))
    with pool:
        pass
    assert repr(pool).startswith("<libtine.pool.Pool state=TERMINATE")
    with pytest.raises(ValueError, match="Pool not running"), pool:
        pass
    pool.join()


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        ({"processes": 0}, ValueError, "Number of processes must be at least 1"),
        ({"maxtasksperchild": 0.5}, ValueError, "maxtasksperchild must be a positive int or None"),
        ({"initializer": 1}, TypeError, "initializer must be a callable"),
        ({"context": "fork"}, ValueError, "fork"),
    ],
)
def test_bad_arguments(arguments, error, text):
    with pytest.raises(error, match=text):
        libtine.Pool(**arguments)


def test_a_call_for_which_no_thread_can_be_started_says_so(tmp_path):
    program = """
        import os
        import libtine
        from libtine import foreign

        def refused(submit, *arguments, **options):
            os.environ["NO_THREADS"] = "1"
            try:
                submit(*arguments, **options)
            except RuntimeError as error:
                assert type(error) is RuntimeError and "can't start new thread" in str(error), error
            else:
                raise AssertionError("it was not refused")
            finally:
                del os.environ["NO_THREADS"]

        pool = libtine.Pool(1)
        others = foreign.Pool(1)
        refused(pool.apply_async, abs, (-1,))
        refused(pool.apply_async, len, (bytes(10_000),))
        refused(pool.map_async, abs, range(4), 2)
        for options in ({}, {"timeout": 0}, {"timeout": 1}):
            refused(others.submit, "nobody", **options)
        print(pool.apply(abs, (-1,)), pool.map(abs, range(4), 2))
        pool.terminate()
        pool.join()
        others.close()
        """
    assert preloaded.run(program, tmp_path) == "1 [0, 1, 2, 3]\n"


def test_bad_chunksizes(pool):
    for call in (pool.map, pool.imap, pool.imap_unordered):
        with pytest.raises(ValueError, match=r"Chunksize must be 1\+, not 0"):
            call(functions.add, [1], 0)


def test_initializer_with_locks_and_queues_of_multiprocessing():
    context = multiprocessing.get_context("spawn")
    lock, queue = context.Lock(), context.Queue()
    with libtine.Pool(2, functions.initialize, ((lock, queue),)) as pool:
        pool.map(functions.put_locked, range(4), 1)
        assert sorted(queue.get(timeout=60) for _ in range(4)) == [0, 1, 2, 3]
    pool.join()


def test_failing_initializer_is_an_error():
    """multiprocessing's pool would start workers for ever."""
    with pytest.raises(BrokenProcessPool, match="it was not to be"):
        libtine.Pool(2, functions.fail_to_initialize)


def test_maxtasksperchild():
    with libtine.Pool(1, maxtasksperchild=2) as pool:
        pids = [pool.apply(functions.pid) for _ in range(6)]
        assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [2, 2, 2]
    pool.join()


def test_what_a_worker_has_printed_goes_out_at_its_end():
    program = (
        "import libtine, functions\n"
        "pool = libtine.Pool(1)\n"
        "pool.apply(functions.say, ('a line',))\n"
        "pool.close(); pool.join()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout == "a line\n", done.stderr
