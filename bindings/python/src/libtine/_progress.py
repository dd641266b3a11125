"""A line on standard error that says how far a loop over results has come."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar

T = TypeVar("T")

DRAWN_EVERY = 0.1
WIDTH = 24


def progress(
    iterable: Iterable[T], total: int | None = None, label: str = "", file: TextIO | None = None
) -> Iterator[T]:
    """Yields the items, and shows how many there have been, of how many, how fast, and how long it still takes.

    total is len(iterable) where there is one. On a terminal it is a line with a bar, drawn ten times a second at most;
    elsewhere a plain line for each quarter. It may be around executor.map, Pool.imap, as_completed or any other loop.
    """
    out = sys.stderr if file is None else file
    if total is None:
        try:
            total = len(iterable)  # type: ignore[arg-type]
        except TypeError:
            total = None
    return _progress(iterable, total, label, out)


def _progress(iterable: Iterable[T], total: int | None, label: str, out: TextIO) -> Iterator[T]:
    terminal = out.isatty()
    began = drawn = time.monotonic()
    done = quarter = 0
    try:
        for item in iterable:
            yield item
            done += 1
            if terminal:
                now = time.monotonic()
                if now - drawn >= DRAWN_EVERY:
                    drawn = now
                    out.write("\r" + _line(label, done, total, now - began, bar=True) + "\x1b[K")
                    out.flush()
            elif total and done * 4 // total > quarter:
                quarter = done * 4 // total
                out.write(_line(label, done, total, time.monotonic() - began, bar=False) + "\n")
                out.flush()
    finally:
        if terminal or (not total or done < total):
            end = _line(label, done, total, time.monotonic() - began, bar=terminal)
            out.write(f"\r{end}\x1b[K\n" if terminal else end + "\n")
            out.flush()


def _line(label: str, done: int, total: int | None, seconds: float, bar: bool) -> str:
    rate = done / seconds if seconds > 0 else 0.0
    text = f"{label}: " if label else ""
    if total is None:
        return f"{text}{done}, {rate:.1f}/s"
    if bar:
        filled = WIDTH * min(done, total) // max(total, 1)
        text += f"[{'#' * filled}{'-' * (WIDTH - filled)}] "
    text += f"{done}/{total}, {rate:.1f}/s"
    if 0 < done < total and rate:
        text += f", {(total - done) / rate:.0f} s left"
    return text
