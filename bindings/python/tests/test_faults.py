"""Faults on request: what is asked for comes where it was asked for, and nothing else."""

import contextlib

import functions
import pytest

import libtine

HANG_SECONDS = 30


def outcomes(count, **faults):
    """What came of so many calls, one after the other, by one worker."""
    with libtine.ProcessPoolExecutor(1, faults=libtine.Faults(**faults)) as executor:
        errors = [executor.submit(functions.add, i).exception(HANG_SECONDS) for i in range(count)]
    return [type(error) for error in errors]


def test_one_call_dies():
    for which in ("kill_call", "kill_return"):
        assert outcomes(4, **{which: 2}) == [type(None), libtine.WorkerDied, type(None), type(None)]


def test_a_retry_has_a_number_of_its_own():
    with libtine.ProcessPoolExecutor(1, retries=1, faults=libtine.Faults(kill_return=1)) as executor:
        assert executor.submit(functions.add, 40, 2).result(HANG_SECONDS) == 42


def test_the_same_seed_kills_the_same_calls():
    first, again = (outcomes(40, seed=7, kill_call=8) for _ in range(2))
    assert first == again and {libtine.WorkerDied, type(None)} == set(first)


def test_a_call_that_is_late():
    with libtine.ProcessPoolExecutor(1, faults=libtine.Faults(delay_call=1, delay=3600)) as executor:
        with pytest.raises(libtine.DeadlineExceeded):
            executor.submit_with(functions.add, (1,), {}, deadline=0.05).result(HANG_SECONDS)
        assert executor.submit(functions.add, 1).result(HANG_SECONDS) == 1


def test_a_start_that_is_killed_is_made_again():
    with libtine.ProcessPoolExecutor(2, faults=libtine.Faults(kill_start=1)) as executor:
        assert [executor.submit(functions.add, i).result(HANG_SECONDS) for i in range(10)] == list(range(10))


def test_memory_that_is_not_there():
    with libtine.ProcessPoolExecutor(1, faults=libtine.Faults(fail_alloc=2)) as executor:  # the first is the pool's own
        long = bytes(100_000)
        with pytest.raises(MemoryError):
            executor.submit(len, long)
        assert executor.submit(len, long).result(HANG_SECONDS) == len(long)


@pytest.mark.parametrize("number", range(2, 10))
def test_a_chunk_that_finds_no_memory_settles(number):
    """Wherever it is missing: for the rest of the chunk, too, after its worker has died."""
    faults = libtine.Faults(kill_call=1, fail_alloc=number)
    with libtine.ProcessPoolExecutor(1, faults=faults) as executor:
        try:
            results = executor.map(len, [bytes(5000)] * 20, chunksize=20, timeout=HANG_SECONDS)
        except MemoryError:
            return
        with contextlib.suppress(MemoryError, libtine.TineError, libtine.WorkerDied):  # settled, too
            assert list(results) == [5000] * 20


def test_a_map_loses_nothing_else():
    with libtine.ProcessPoolExecutor(
        2, retries=3, faults=libtine.Faults(seed=3, kill_call=20, kill_start=4)
    ) as executor:
        assert list(executor.map(functions.add, range(200), range(200), timeout=HANG_SECONDS)) == [
            2 * i for i in range(200)
        ]


@pytest.mark.parametrize("wrong", [{"kill_call": -1}, {"seed": 1 << 64}, {"delay_call": 1, "delay": -1.0}])
def test_numbers_that_cannot_be(wrong):
    with pytest.raises(ValueError, match=next(reversed(wrong))):
        libtine.ProcessPoolExecutor(1, faults=libtine.Faults(**wrong)).submit(functions.add, 1)
