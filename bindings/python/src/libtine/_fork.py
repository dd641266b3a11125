"""What a forked child of a process with threads finds."""

from __future__ import annotations

import os
from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")


def free_in_children(lock: T) -> T:
    """A lock of a module. A thread that holds it at a fork is not there to release it in the child. What such a lock
    protects is whole after each step, or the parent's alone.
    """
    reinit: Callable[[], None] = lock._at_fork_reinit  # type: ignore[attr-defined]
    os.register_at_fork(after_in_child=reinit)
    return lock
