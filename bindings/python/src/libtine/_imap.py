"""What an imap draws from its iterable, and the imaps of a pool."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from . import _native
from ._calls import Calls, Results
from ._engine import Engine, Failed

# How many calls of an imap are under way, or done and not taken, at a time; and while how many bytes are in use.
WINDOW = 1024
WINDOW_BYTES = 64 << 20


class Drawing(Results):
    """What an imap draws from its iterable, on its own thread, and the results. It keeps neither pool nor iterator.

    It draws ahead of the results that are taken: so far that each worker has a chunk and another one waits for it; up
    to WINDOW calls while the heap and results have less than WINDOW_BYTES in use, and no further than twice of what has
    come, since what the results take is not known before.
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
        self._room = threading.Condition(self._lock)
        self._drawn, self._come = 0, 0  # how many calls there are, and results
        self._bytes = 0  # in results outside of the heap that have come and have not been taken
        self._full = False  # whether the thread waits for room
        self._over = False  # whether nothing more will be drawn
        self._unlimited = False
        self.thread = threading.Thread(target=self._run, name="libtine.imap", daemon=True)

    def take(self, start: int, values: Sequence[Any], failed: bool) -> None:
        super().take(start, values, failed)
        with self._changed:
            self._come += len(values)
            self._bytes += _bytes_of(values)
            self._look_for_room()

    def next(self, end: float | None) -> Any:
        """As of Results; StopIteration after the last."""
        with self._changed:
            while not self._ready:
                if self._over and self.taken == self._drawn:
                    raise StopIteration
                self._wait_once(end)
            outcome = self._ready.popleft()
            self.taken += 1
            self._bytes -= _bytes_of((outcome,))
            self._look_for_room()
            return outcome

    def join(self) -> None:
        """Has all drawn, whether or not anybody takes the results, and waits for that, or for stop()."""
        with self._changed:
            self._unlimited = True
            self._room.notify()
            self._changed.wait_for(lambda: self._over)

    def stop(self) -> None:
        """Draws no more. The results end with a failure, unless they were all to come anyway."""
        with self._changed:
            if self._over:
                return
            self._over = True
            last, self._drawn = self._drawn, self._drawn + 1
            self._room.notify()
            self._changed.notify_all()
        self._fail(last, BrokenProcessPool("the pool is over"))

    def _fail(self, number: int, error: BaseException) -> None:
        self.take(number, [Failed(error)], True)

    def _look_for_room(self) -> None:
        ahead = self._drawn - self.taken
        if self._full and (ahead < self._least or ahead <= WINDOW // 2):
            self._room.notify()

    def _has_room(self) -> bool:
        ahead = self._drawn - self.taken
        if self._over or self._unlimited or ahead < self._least:
            return True
        if ahead + self._chunksize > WINDOW or self._drawn - self._come >= self._least + self._come:
            return False
        try:
            return self._bytes + self._imaps.engine.pool.stats()["heap_allocated_bytes"] < WINDOW_BYTES
        except _native.NativeError:
            return True  # the pool is over, as the next call will be told

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            items = iter(self._iterable)
            while True:
                with self._changed:
                    self._full = True
                    self._room.wait_for(self._has_room)
                    self._full = False
                chunk = list(itertools.islice(items, self._chunksize))
                if not chunk:
                    break
                with self._changed:
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
        with self._changed:
            last, was_over = self._drawn, self._over
            self._over = True
            if error is not None and not was_over:
                self._drawn += 1
            self._changed.notify_all()
        if error is not None and not was_over:
            self._fail(last, error)
        self._imaps.discard(self)


def _bytes_of(values: Iterable[Any]) -> int:
    """Of strings of bytes, alone or in tuples; arrays leave theirs in the heap."""
    total = 0
    for value in values:
        if type(value) is bytes or type(value) is bytearray:
            total += len(value)
        elif type(value) is tuple:
            total += sum(len(item) for item in value if type(item) is bytes or type(item) is bytearray)
    return total


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
