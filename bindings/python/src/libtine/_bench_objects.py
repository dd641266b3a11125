"""The rows of `python -m libtine.bench` for processes, locks and queues, beside multiprocessing's."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

import libtine

Row = Callable[[str, int, str, dict[str, Callable[[], object]], dict[str, float], int], None]


def _nothing() -> None:
    pass


def _lock_pairs(lock: Any, count: int) -> None:
    acquire, release = lock.acquire, lock.release
    for _ in range(count):
        acquire()
        release()


def _put_and_get(queue: Any, count: int) -> None:
    for number in range(count):
        queue.put(number)
        queue.get()


def _start_and_join(context: Any, count: int) -> None:
    for _ in range(count):
        process = context.Process(target=_nothing)
        process.start()
        process.join()


def _echo(source: Any, target: Any) -> None:
    while (item := source.get()) is not None:
        target.put(item)


class _Echo:
    """A process that sends back what it gets."""

    def __init__(self, context: Any) -> None:
        self.there, self.back = context.Queue(), context.Queue()
        self.process = context.Process(target=_echo, args=(self.there, self.back))
        self.process.start()

    def pipelined(self, count: int) -> None:
        for number in range(count):
            self.there.put(number)
        for _ in range(count):
            self.back.get()

    def end(self) -> None:
        self.there.put(None)
        self.process.join()


def rows(row: Row, rounds: int, short: bool) -> None:
    own, other = libtine.get_context("forkserver"), multiprocessing.get_context("forkserver")
    count = 2_000 if short else 50_000
    own_lock, other_lock = own.Lock(), other.Lock()
    row(
        "a lock's acquire and release",
        count,
        "us",
        {
            "libtine": lambda: _lock_pairs(own_lock, count),
            "multiprocessing": lambda: _lock_pairs(other_lock, count),
        },
        {"multiprocessing": 1},
        rounds,
    )
    own_queue, other_queue = own.Queue(), other.Queue()
    row(
        "a queue's put and get, in one process",
        count,
        "us",
        {
            "libtine": lambda: _put_and_get(own_queue, count),
            "multiprocessing": lambda: _put_and_get(other_queue, count),
        },
        {"multiprocessing": 10},
        rounds,
    )
    own_echo, other_echo = _Echo(own), _Echo(other)
    row(
        "objects through two queues, there and back",
        count,
        "us",
        {
            "libtine": lambda: own_echo.pipelined(count),
            "multiprocessing": lambda: other_echo.pipelined(count),
        },
        {"multiprocessing": 10},
        rounds,
    )
    own_echo.end()
    other_echo.end()
    starts = 5 if short else 50
    row(
        "a process's start and join, forkserver",
        starts,
        "ms",
        {
            "libtine": lambda: _start_and_join(own, starts),
            "multiprocessing": lambda: _start_and_join(other, starts),
        },
        {"multiprocessing": 1},
        rounds,
    )
