"""Faults on request: what is to go wrong in a pool, so that a test sees what its program makes of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Faults:
    """What is to go wrong: faults= of ProcessPoolExecutor and of foreign.Pool. docs/testing.md is the guide.

    Each kind of fault has numbers of its own, counted from 1 over all processes of the pool; 0 is none. With seed 0 it
    comes once, at the number given. With another seed it comes at one number in so many; the seed decides which.

    kill_start: workers that start: one is killed before its initializer runs.
    kill_call, kill_return: calls (a chunk of a map counts as one, a retry as one more): the worker is killed before the
    function runs, or when it has returned and nothing of its result is left.
    delay_call, delay: calls that begin so many seconds late.
    fail_alloc: allocations in the pool's heap that fail with MemoryError: of long arguments and results, say.
    """

    seed: int = 0
    kill_start: int = 0
    kill_call: int = 0
    kill_return: int = 0
    delay_call: int = 0
    delay: float = 0.0
    fail_alloc: int = 0

    def native(self) -> tuple[int, int, int, int, int, int, int]:
        """As the extension takes it. Raises ValueError for a number that cannot be one."""
        for name in ("seed", "kill_start", "kill_call", "kill_return", "delay_call", "fail_alloc"):
            value = getattr(self, name)
            if not 0 <= value < 1 << 64:
                raise ValueError(f"{name} is {value}; it can be from 0 to 2**64 - 1")
        if not 0 <= self.delay < 1 << 33:
            raise ValueError(f"delay is {self.delay} seconds; it can be from 0 to 2**33")
        delay_ns = int(self.delay * 1e9)
        return (
            self.seed,
            self.kill_start,
            self.kill_call,
            self.kill_return,
            self.delay_call,
            delay_ns,
            self.fail_alloc,
        )
