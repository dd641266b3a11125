"""What tasks.c measures, with mpi4py.futures: mpirun -n 2 python -m mpi4py.futures futures.py ROW COUNT prints one number."""

import sys
import time

from mpi4py.futures import MPIPoolExecutor

MEGABYTE = bytes(1 << 20)


def add(number):
    return number + 1


def first_byte(data):
    return data[0]


def round_trip(pool, count):
    took = []
    for i in range(count):
        began = time.perf_counter_ns()
        pool.submit(add, i).result()
        took.append(time.perf_counter_ns() - began)
    return sorted(took)[count // 2]


def whole(pool, count, calls):
    began = time.perf_counter_ns()
    calls(pool, count)
    return (time.perf_counter_ns() - began) / count


def tasks(pool, count):
    for future in [pool.submit(add, i) for i in range(count)]:
        future.result()


def items(pool, count):
    for _ in pool.map(add, range(count), chunksize=max(count // 100, 1)):
        pass


def megabytes(pool, count):
    for future in [pool.submit(first_byte, MEGABYTE) for _ in range(count)]:
        future.result()


def main():
    row, count = sys.argv[1], int(sys.argv[2])
    with MPIPoolExecutor() as pool:
        if row == "round-trip":
            measure = round_trip
        else:
            calls = {"tasks": tasks, "items": items, "megabytes": megabytes}[row]

            def measure(pool, count):
                return whole(pool, count, calls)

        measure(pool, count // 10 + 1)
        print(round(measure(pool, count)))


if __name__ == "__main__":
    main()
