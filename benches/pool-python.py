"""Python's pools, for benches/pool.c: NAME of a peer below; prints nanoseconds per task. Two workers, warm, tasks that do nothing."""

import sys
import time


def nothing(x):
    return None


def executor(tasks):
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(2) as pool:
        return submitted(pool.submit, tasks)


def loky(tasks):
    from loky import get_reusable_executor

    return submitted(get_reusable_executor(max_workers=2).submit, tasks)


def mpi4py(tasks):
    from mpi4py.futures import MPIPoolExecutor

    with MPIPoolExecutor(2) as pool:
        return submitted(pool.submit, tasks)


def pebble(tasks):
    from pebble import ProcessPool

    with ProcessPool(max_workers=2) as pool:
        return submitted(lambda fn, x: pool.submit(fn, None, x), tasks)


def joblib(tasks):
    from joblib import Parallel, delayed

    with Parallel(n_jobs=2, batch_size=1) as pool:
        return timed(lambda count: pool(delayed(nothing)(i) for i in range(count)), tasks)


def pool_map(tasks):
    from multiprocessing import Pool

    with Pool(2) as pool:
        return timed(lambda count: pool.map(nothing, range(count), 1), tasks)


def submitted(submit, tasks):
    """Each task on its own."""

    def run(count):
        for future in [submit(nothing, i) for i in range(count)]:
            future.result()

    return timed(run, tasks)


def timed(run, tasks):
    run(10)
    began = time.perf_counter_ns()
    run(tasks)
    return (time.perf_counter_ns() - began) / tasks


PEERS = {executor: 3000, pool_map: 20000, loky: 2000, joblib: 2000, pebble: 1000, mpi4py: 3000}

if __name__ == "__main__":
    for peer, tasks in PEERS.items():
        if peer.__name__ == sys.argv[1]:
            print(peer(tasks))
