"""Whose memory an argument or a result is: what stays in the heap, who keeps it, and when it goes."""

import concurrent.futures
import gc
import os
import time

import functions
import pytest

import libtine

HANG_SECONDS = 30


def result(future):
    return future.result(timeout=HANG_SECONDS)


def test_large_arrays_stay_where_they_are():
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(3_000_000)
    with libtine.ProcessPoolExecutor(2) as executor:
        back = result(executor.submit(functions.echo, array))
        assert (back == array).all()
        assert not back.flags.owndata and not back.flags.writeable
        assert executor.stats()["heap_allocated_bytes"] >= array.nbytes
        del back
        gc.collect()
        assert result(executor.submit(functions.add, 1)) == 1
        assert executor.stats()["heap_allocated_bytes"] < array.nbytes


def test_an_argument_is_not_kept():
    data = bytearray(100_000)
    gc.disable()
    try:
        with libtine.ProcessPoolExecutor(1) as executor:
            assert result(executor.submit(len, memoryview(data))) == 100_000
            assert isinstance(result(executor.submit(functions.view_of, memoryview(data))), memoryview)
        data.append(1)  # an error while anybody has a view of it
    finally:
        gc.enable()


def test_what_a_call_gives_back_of_its_input_is_not_copied():
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(100_000)
    with libtine.ProcessPoolExecutor(1) as executor:
        parts = result(executor.submit(functions.parts_of, array))
        found = [part for part, _address in parts]
        wanted = [array, array[:50_000], array[:1000], array + 1, array[::2], array.reshape(2, -1).T]
        assert all((one == other).all() for one, other in zip(found, wanted))
        same = [part.ctypes.data == address for part, address in parts]
        assert same == [True, True, False, False, False, True]  # a small part would keep all of it
        assert [part.flags.writeable for part in found] == [
            False,
            False,
            False,
            False,
            True,
            False,
        ]  # [::2] has no buffer
        data = numpy.frombuffer(result(executor.submit(functions.view_of, memoryview(array))), array.dtype)
        assert (data == array).all()
        del parts, found
        assert result(executor.submit(functions.add, 1)) == 1
        used = executor.stats()["heap_allocated_bytes"]
        del data
        assert executor.stats()["heap_allocated_bytes"] <= used - array.nbytes
        for kept in (False, True, True):  # each kind of result, and what the worker keeps, stays as it is
            function = functions.keep_and_return if kept else functions.parts_of
            for number in range(20):
                back = result(executor.submit(function, numpy.full(50_000, number)))
                first, address = back if kept else back[0]
                assert (first == number).all() and (first.ctypes.data == address) == (not kept)
        assert result(executor.submit(functions.sums_of_kept)) == [50_000 * number for number in range(20)] * 2
    assert (first == 19).all()


def test_result_outlives_its_executor():
    numpy = pytest.importorskip("numpy")
    with libtine.ProcessPoolExecutor(1) as executor:
        back = result(executor.submit(numpy.ones, 1_000_000))
    assert back.sum() == 1_000_000


@pytest.mark.parametrize("engine", ["local", "mpi-or-local"])
def test_worker_may_keep_its_input(engine):
    numpy = pytest.importorskip("numpy")
    with libtine.ProcessPoolExecutor(1, engine=engine) as executor:
        for i in range(5):
            assert result(executor.submit(functions.keep, numpy.full(100_000, i))) == i + 1
            assert bytes(result(executor.submit(functions.view_of, memoryview(b"x" * 800_000)))) == b"x" * 800_000
        assert result(executor.submit(functions.sums_of_kept)) == [100_000 * i for i in range(5)]


def test_worker_may_keep_the_input_of_a_call_that_is_cancelled(tmp_path):
    numpy = pytest.importorskip("numpy")
    path = tmp_path / "go"
    with libtine.ProcessPoolExecutor(1, grace=HANG_SECONDS) as executor:
        future = executor.submit(functions.keep_until, numpy.full(100_000, 1), str(path))
        while not os.path.exists(f"{path}.begun"):
            time.sleep(0.001)
        assert future.cancel()
        path.touch()
        assert result(executor.submit(functions.add, 1)) == 1  # so the other one has settled
        assert result(executor.submit(len, numpy.full(100_000, 2))) == 100_000
        assert result(executor.submit(functions.sums_of_kept)) == [100_000]


@pytest.mark.parametrize("number", [3, 5])
def test_worker_may_keep_its_input_where_there_is_no_memory_for_the_result(number):
    numpy = pytest.importorskip("numpy")
    with libtine.ProcessPoolExecutor(1, faults=libtine.Faults(fail_alloc=number)) as executor:
        futures = [executor.submit(functions.keep_and_return_another, numpy.full(100_000, 1))]
        concurrent.futures.wait(futures, HANG_SECONDS)
        futures.append(executor.submit(functions.keep_and_return_another, numpy.full(100_000, 2)))
        concurrent.futures.wait(futures, HANG_SECONDS)
        assert "no memory for a result" in " ".join(str(future.exception(HANG_SECONDS)) for future in futures)
        assert result(executor.submit(len, numpy.full(100_000, 3))) == 100_000
        assert result(executor.submit(functions.sums_of_kept)) == [100_000, 200_000]
