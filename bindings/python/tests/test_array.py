"""Arrays in shared memory: what one process writes the others see, and memory goes with the last array."""

import gc
import os
import pickle
import signal
import threading

import functions
import numpy as np
import pytest

import libtine


@pytest.fixture(scope="module")
def executor():
    with libtine.ProcessPoolExecutor(2) as executor:
        yield executor


def mapped():
    with open("/proc/self/maps") as maps:
        return sum("memfd" in line for line in maps)


@pytest.mark.parametrize("shape", [10, (3, 4), (1000, 1000), ()])
@pytest.mark.parametrize("dtype", ["float64", ">u2", "S3", [("a", "i4"), ("b", "f8")]])
def test_new_arrays_are_zero(shape, dtype):
    made = libtine.array(shape, dtype)
    assert made.shape == np.zeros(shape).shape and made.dtype == np.dtype(dtype)
    assert (made == np.zeros(shape, dtype)).all()
    like = libtine.empty_like(made)
    assert like.shape == made.shape and like.dtype == made.dtype


def test_what_a_worker_writes_the_host_sees(executor):
    for size in (10, 1_000_000):
        shared = libtine.array((size, 2), "int64")
        executor.submit(functions.fill, shared, 7).result(60)
        assert (shared == 7).all()
        executor.submit(functions.fill, shared[1::2, 1:], 8).result(60)
        assert (shared[1::2, 1] == 8).all() and (shared[0::2] == 7).all() and (shared[:, 0] == 7).all()


def test_results_are_the_same_memory(executor):
    shared = libtine.array(1_000_000, "uint8")
    came = executor.submit(functions.fill_and_give_back, shared, 3).result(60)
    came[5] = 9
    assert shared[5] == 9 and shared[4] == 3


def test_results_that_a_worker_has_made(executor):
    came = executor.submit(functions.make_array, 4).result(60)
    assert type(came) is np.ndarray and (came == np.full(100_000, 4)).all()  # a copy: the worker's may be gone


def test_arrays_that_a_worker_has_given_back_go_there_too():
    """And none stays in a worker that only sends them on."""
    queue = libtine.Queue()
    with libtine.ProcessPoolExecutor(1) as one:
        counts = []
        for _ in range(30):
            shared = libtine.array(100_000)
            assert (one.submit(functions.fill_and_give_back, shared, 3).result(60) == 3).all()
            counts.append(one.submit(functions.put_and_count_mapped, queue, shared).result(60))
            assert queue.get(timeout=60)[0] == 3
        assert max(counts) <= counts[0] + 1


@pytest.mark.parametrize("way", ["pickle", "queue", "connection", "process", "failed"])
def test_arrays_that_were_sent_go_with_the_last_reference(way):
    queue, (near, far) = libtine.Queue(), libtine.Pipe()

    def send():
        shared = libtine.array(100_000)
        if way == "pickle":
            pickle.dumps(shared)
        elif way == "queue":
            queue.put(shared)
            queue.get()
        elif way == "connection":
            near.send(shared)
            far.recv()
        elif way == "process":
            process = libtine.Process(target=functions.sum_of, args=(shared,))
            process.start()
            process.join()
            assert process.exitcode == 0
        else:
            with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
                queue.put((shared, threading.Lock()))

    send()
    gc.collect()
    before = mapped()
    for _ in range(5):
        send()
    gc.collect()
    assert mapped() <= before


def test_arrays_of_calls_that_were_not_sent_go(executor):
    before = mapped()
    for _ in range(5):
        failed = executor.submit(functions.sum_of, libtine.array(100_000), threading.Lock())
        assert failed.exception(60) is not None
        del failed
    with libtine.ProcessPoolExecutor(1) as over:
        over.submit(functions.sum_of, libtine.array(4)).result(60)
        over._engine.pool.shutdown(0)
        for _ in range(5):
            with pytest.raises((RuntimeError, OSError)):
                over.submit(functions.sum_of, libtine.array(100_000))
    gc.collect()
    assert mapped() <= before + 1


def test_arrays_of_an_initializer_stay_for_later_workers():
    with libtine.ProcessPoolExecutor(1, initializer=functions.sum_of, initargs=(libtine.array(100_000),)) as one:
        for _ in range(2):
            assert one.submit(abs, -1).result(60) == 1
        with pytest.raises(libtine.WorkerDied):
            one.submit(os.kill, next(iter(one._processes)), signal.SIGKILL).result(60)
        assert one.submit(abs, -2).result(60) == 2


def test_an_array_may_be_dropped_while_it_travels(executor):
    before = mapped()
    futures = [executor.submit(functions.sum_of, libtine.array(100_000, "int64") + 0) for _ in range(10)]
    futures += [executor.submit(functions.sum_of, libtine.array(100_000, "int64")) for _ in range(10)]
    assert [future.result(60) for future in futures] == [0] * 20
    del futures
    assert mapped() <= before + 1


def test_what_is_computed_is_an_array_as_any_other():
    shared = libtine.array(10)
    assert type(shared + 1) is np.ndarray and type(shared.sum()) is np.float64


def test_descriptors_go_with_arrays():
    before = len(os.listdir("/proc/self/fd"))
    arrays = [libtine.array(100_000) for _ in range(5)]
    assert len(os.listdir("/proc/self/fd")) >= before + 5
    del arrays
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_bad_arguments():
    with pytest.raises(TypeError, match="dtype object"):
        libtine.array(3, object)
    with pytest.raises(ValueError, match="negative"):
        libtine.array(-3)
