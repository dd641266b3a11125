"""What an imap draws from its iterable, and the imaps of a pool."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from ._calls import Calls, Results
from ._engine import Engine, Failed

# How many calls of an imap are under way, or done and not taken, at a time; and of how many bytes. Results of up to
# SMALL_BYTES are not counted: so many of them do not matter.
WINDOW = 1024
WINDOW_BYTES = 64 << 20
SMALL_BYTES = 4096


class _Large:
    """A result, and its part of what is limited by WINDOW_BYTES."""

    __slots__ = ("size", "value")

    def __init__(self, value: Any, size: int) -> None:
        self.value, self.size = value, size


class Drawing(Results):
    """What an imap draws from its iterable, on its own thread, and the results. It keeps neither pool nor iterator.

    It draws ahead of the results that are taken: so far that each worker has a chunk and another one waits for it; up
    to WINDOW calls while the pool's calls and the results have less than WINDOW_BYTES, as their messages have them; and
    no further than twice of what has come, since what results take that are still to come is taken from that.
    """

    def __init__(
        self,
        imaps: Imaps,
        workers: int,
        function: Callable[..., Any],
        ordered: bool,
        iterable: Iterable[Any],
        chunksize: int,
    ) -> None:
        super().__init__(ordered)
        self._imaps, self._iterable, self._chunksize = imaps, iterable, chunksize
        self._calls = Calls(imaps.engine, function, False, self)
        self._least = 2 * workers * chunksize
        self._room: queue.SimpleQueue[None] = queue.SimpleQueue()  # wakes the thread that draws
        self._ended: queue.SimpleQueue[None] = queue.SimpleQueue()  # and those that wait for its end
        self._drawn, self._come = 0, 0  # how many calls there are, and results
        self._bytes = 0  # of large results that have come and have not been taken
        self._all_bytes = 0  # of all large ones that have come
        self._full = False  # whether the thread waits for room
        self._over = False  # whether nothing more will be drawn
        self._unlimited = False
        self.thread = threading.Thread(target=self._run, name="libtine.imap", daemon=True)

    def take(self, start: int, values: Sequence[Any], failed: bool, size: int = 0) -> None:
        with self._lock:
            if size > SMALL_BYTES * len(values):
                each = size // len(values)
                values = [_Large(value, each) for value in values]
                self._bytes += each * len(values)
                self._all_bytes += each * len(values)
            self._come += len(values)
            super().take(start, values, failed)
            if self._full:
                self._look_for_room()

    def next(self, end: float | None) -> Any:
        """As of Results; StopIteration after the last."""
        while True:
            with self._lock:
                if self._ready:
                    outcome = self._ready.popleft()
                    self.taken += 1
                    if type(outcome) is _Large:
                        self._bytes -= outcome.size
                        outcome = outcome.value
                    if self._full:
                        self._look_for_room()
                    return outcome
                if self._is_at_its_end():
                    raise StopIteration
            self._wait(end)

    def _is_worth_a_look(self) -> bool:
        return bool(self._ready) or self._is_at_its_end()

    def _is_at_its_end(self) -> bool:
        return self._over and self.taken == self._drawn

    def join(self) -> None:
        """Has all drawn, whether or not anybody takes the results, and waits for that, or for stop()."""
        self._unlimited = True
        self._room.put(None)
        while not self._over:
            try:
                self._ended.get()
            finally:
                if self._over:
                    self._ended.put(None)  # for others who wait

    def stop(self) -> None:
        """Draws no more. The results end with a failure, unless they were all to come anyway."""
        with self._lock:
            was_over, last = self._over, self._drawn
            self._over = True
            if not was_over:
                self._drawn += 1
            self._tell_of_the_end()
        if not was_over:
            self._fail(last, BrokenProcessPool("the pool is over"))

    def _tell_of_the_end(self) -> None:
        self._room.put(None)
        self._ended.put(None)
        self._wake_all()

    def _fail(self, number: int, error: BaseException) -> None:
        self.take(number, [Failed(error)], True)

    def _look_for_room(self) -> None:
        """With the lock, while the thread waits for room: wakes it where there is some, but not for each single one."""
        ahead = self._drawn - self.taken
        if (ahead < self._least or ahead <= WINDOW // 2) and self._has_room():
            self._room.put(None)
            self._full = False

    def _has_room(self) -> bool:
        ahead = self._drawn - self.taken
        if self._over or self._unlimited or ahead < self._least:
            return True
        if ahead + self._chunksize > WINDOW or self._drawn - self._come >= self._least + self._come:
            return False
        coming = self._all_bytes * (self._drawn - self._come) // max(self._come, 1)
        return self._bytes + coming + self._imaps.engine.pool.input_bytes() < WINDOW_BYTES

    def _wait_for_room(self) -> None:
        while True:
            with self._lock:
                self._full = True  # before the look, since garbage collection may end the pool after it
                if self._has_room():
                    self._full = False
                    return
            self._room.get()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            items = iter(self._iterable)
            while True:
                self._wait_for_room()
                chunk = list(itertools.islice(items, self._chunksize))
                if not chunk:
                    break
                with self._lock:
                    if self._over:
                        return
                    start, self._drawn = self._drawn, self._drawn + len(chunk)
                if not self._calls.send(start, chunk) and not self._imaps.engine.thread.is_alive():
                    break
        except BaseException as raised:  # of the iterable, or of a shortage here
            error = raised
        finally:
            self._end(error)

    def _end(self, error: BaseException | None) -> None:
        with self._lock:
            last, was_over = self._drawn, self._over
            self._over = True
            if error is not None and not was_over:
                self._drawn += 1
            self._tell_of_the_end()
        if error is not None and not was_over:
            self._fail(last, error)
        self._imaps.discard(self)


class Imaps:
    """Those of a pool that still draw. The pool ends when it was closed and they have drawn all."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._drawing: set[Drawing] = set()
        self._closed = False
        self._lock = threading.RLock()

    def start(self, drawing: Drawing) -> None:
        with self._lock:
            self._drawing.add(drawing)
        try:
            drawing.thread.start()
        except BaseException:
            self.discard(drawing)
            raise

    def discard(self, drawing: Drawing) -> None:
        with self._lock:
            self._drawing.discard(drawing)
            self._finish_if_over()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._finish_if_over()

    def _finish_if_over(self) -> None:
        if self._closed and not self._drawing:
            self.engine.finish()

    def stop(self) -> None:
        for drawing in self._all():
            drawing.stop()

    def join(self) -> None:
        """Waits until all is drawn; not for one that was stopped, which may wait in its iterable for ever."""
        for drawing in self._all():
            drawing.join()

    def _all(self) -> list[Drawing]:
        with self._lock:
            return list(self._drawing)
