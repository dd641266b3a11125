"""`python -m libtine.bench [--short]`: concurrent.futures and multiprocessing beside it, interleaved.

Each row is done by all in turn, seven times. The medians are shown, how many times libtine's each is, and whether that
is what libtine aims at.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import libtine

from . import _bench_objects

ROUNDS = 7
WORKERS = 2


def nothing(item: Any) -> None:
    return None


def echo(value: Any) -> Any:
    return value


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def verdict(ratios: dict[str, float], aims: dict[str, float]) -> str:
    """Whether each is so many times libtine's as is aimed at, to the digit that is shown."""
    missed = any(round(ratios[who], 1) < aim for who, aim in aims.items())
    text = ", ".join(f"{aim:g}x {who}" for who, aim in aims.items())
    return f"{'missed' if missed else 'reached'} (aim: {text})"


def show(name: str, unit: str, medians: dict[str, float], judge: Callable[[dict[str, float]], str]) -> None:
    own = next(iter(medians.values()))
    ratios = {who: median / own for who, median in medians.items()}
    shown = [f"{who} {median:.2f} {unit} ({ratios[who]:.1f}x)" for who, median in medians.items()]
    print(f"{name:42} {';  '.join(shown)};  {judge(ratios)}", flush=True)


def row(
    name: str,
    count: int,
    unit: str,
    contenders: dict[str, Callable[[], object]],
    aims: dict[str, float],
    rounds: int,
) -> None:
    """One line: the medians of rounds in which each contender has its turn, the first one being libtine's."""
    times: dict[str, list[float]] = {who: [] for who in contenders}
    for _ in range(rounds):
        for who, work in contenders.items():
            times[who].append(seconds(work))
    scale = {"us": 1e6, "ms": 1e3}[unit] / count
    show(
        name,
        unit,
        {who: statistics.median(values) * scale for who, values in times.items()},
        lambda ratios: verdict(ratios, aims),
    )


# The memory that a process shares with no other one. As an expression, so that a worker imports nothing for it.
OWN_KIB = "sum(int(line.split()[1]) for line in open('/proc/self/smaps_rollup') if line.startswith('Private_'))"


def memory() -> None:
    context = multiprocessing.get_context("forkserver")
    bare = subprocess.run([sys.executable, "-c", f"print({OWN_KIB})"], check=True, capture_output=True, text=True)
    with (
        libtine.ProcessPoolExecutor(1) as executor,
        concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as standard,
    ):
        own = executor.submit(eval, OWN_KIB).result()
        other = standard.submit(eval, OWN_KIB).result()
    reached = "reached" if own - int(bare.stdout) < 1024 else "missed"
    show(
        "memory of a worker's own",
        "KiB",
        {"libtine": own, "Executor": other, "an interpreter alone": int(bare.stdout)},
        lambda _ratios: f"{reached} (aim: 1024 KiB beyond an interpreter alone)",
    )


def start_and_stop(make: Callable[[], Any]) -> None:
    with make() as pool:
        pool.submit(abs, 1).result()


FIRST = """\
import {module}
if __name__ == "__main__":
    with {make} as executor:
        executor.submit(abs, 1).result()
"""


def run_program(module: str, make: str) -> None:
    subprocess.run([sys.executable, "-c", FIRST.format(module=module, make=make)], check=True)


def calls(libtine_pools: tuple[Any, Any], standard_pools: tuple[Any, Any], short: bool, rounds: int) -> None:
    """Empty calls, by executors and by pools: libtine's and the standard library's."""
    (executor, pool), (standard, standard_pool) = libtine_pools, standard_pools
    count = 2_000 if short else 100_000
    items = range(count)
    best = max(count // (4 * WORKERS), 1)
    row(
        f"{count} empty calls, one by one: executor",
        count,
        "us",
        {
            "libtine": lambda: list(executor.map(nothing, items)),
            "Executor": lambda: list(standard.map(nothing, items)),
        },
        {"Executor": 10},
        rounds,
    )
    row(
        f"{count} empty calls, one by one: Pool.map",
        count,
        "us",
        {"libtine": lambda: pool.map(nothing, items, 1), "Pool": lambda: standard_pool.map(nothing, items, 1)},
        {"Pool": 3},
        rounds,
    )
    row(
        f"{count} empty calls, Pool.map's own chunks",
        count,
        "us",
        {"libtine": lambda: pool.map(nothing, items, best), "Pool": lambda: standard_pool.map(nothing, items, best)},
        {"Pool": 1},
        rounds,
    )
    trips = 100 if short else 1000
    row(
        "one call there and back",
        trips,
        "us",
        {
            "libtine": lambda: [executor.submit(nothing, 1).result() for _ in range(trips)],
            "Executor": lambda: [standard.submit(nothing, 1).result() for _ in range(trips)],
        },
        {"Executor": 1},
        rounds,
    )


def large_values(executor: Any, standard: Any, standard_pool: Any, rounds: int) -> None:
    data: Any = bytes(6 << 20)
    name = "6 MiB of bytes there and back"
    try:
        import numpy

        data, name = numpy.zeros(6 << 20, "uint8"), "an array of 6 MiB there and back"
    except ImportError:
        pass
    row(
        name,
        10,
        "ms",
        {
            "libtine": lambda: [executor.submit(echo, data).result() for _ in range(10)],
            "Executor": lambda: [standard.submit(echo, data).result() for _ in range(10)],
            "Pool": lambda: [standard_pool.apply(echo, (data,)) for _ in range(10)],
        },
        {"Pool": 10},
        rounds,
    )


def starts(rounds: int) -> None:
    row(
        "a further executor's start, call and end",
        1,
        "ms",
        {
            "libtine": lambda: start_and_stop(lambda: libtine.ProcessPoolExecutor(1)),
            "Executor": lambda: start_and_stop(
                lambda: concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("forkserver"))
            ),
        },
        {"Executor": 1},
        rounds,
    )
    forkserver = "multiprocessing.get_context('forkserver')"
    standard_make = f"concurrent.futures.ProcessPoolExecutor(1, mp_context={forkserver})"
    row(
        "a program with one executor and one call",
        1,
        "ms",
        {
            "libtine": lambda: run_program("libtine", "libtine.ProcessPoolExecutor(1)"),
            "Executor": lambda: run_program("concurrent.futures, multiprocessing", standard_make),
        },
        {"Executor": 1},
        rounds,
    )


def main() -> None:
    short = "--short" in sys.argv[1:]
    rounds = 3 if short else ROUNDS
    context = multiprocessing.get_context("forkserver")
    with (
        libtine.ProcessPoolExecutor(WORKERS) as executor,
        concurrent.futures.ProcessPoolExecutor(WORKERS, mp_context=context) as standard,
        libtine.Pool(WORKERS) as pool,
        context.Pool(WORKERS) as standard_pool,
    ):
        for each in (executor, standard, pool, standard_pool):
            list(each.map(nothing, range(100)))
        calls((executor, pool), (standard, standard_pool), short, rounds)
        large_values(executor, standard, standard_pool, rounds)
    memory()
    starts(rounds)
    _bench_objects.rows(row, rounds, short)


if __name__ == "__main__":
    main()
