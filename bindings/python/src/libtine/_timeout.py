"""Timeouts, which are the same everywhere: None and infinity wait for ever, 0 and less do not wait."""

from __future__ import annotations

FOREVER_NS = 2**63 - 1
_MOST_SECONDS = 9e9  # 285 years; threading.TIMEOUT_MAX is a little more


def finite(timeout: float | None, what: str = "timeout") -> float | None:
    """A timeout that select, poll and threading take; None: for ever."""
    if timeout is None or timeout >= _MOST_SECONDS:
        return None
    if timeout != timeout:
        raise ValueError(f"the {what} is not a number (NaN)")
    return timeout


def timeout_ns(timeout: float | None) -> int:
    """A timeout as the native calls take it."""
    seconds = finite(timeout)
    return FOREVER_NS if seconds is None else max(int(seconds * 1e9), 0)
