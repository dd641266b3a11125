"""The thread that tells what came of a pool's calls. What pools of Python's workers and of others' have in common."""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
from typing import TYPE_CHECKING, Any, Union

from ._timeout import FOREVER_NS

if TYPE_CHECKING:
    from . import _native

    Native = Union[_native.Pool, _native.NamedPool]


#: How long the thread sleeps at most while somebody submits, in seconds.
LOOK = 0.05


class Settler:
    """Tells the token of each call what came of it: token.settle(*answer), and token.fail(error) where that has raised.

    While calls are under way its thread waits in the pool, otherwise for somebody to wake it. How many there are counts
    the compiled layer, since in Python an interruption may end a submission at any place. Told to finish, it ends when
    everything has settled, and the pool with it.

    kept: what is to stay until a call has settled, by its token. owner: what is to stay until the thread has ended.
    """

    def __init__(self, pool: Native, name: str, kept: dict[Any, Any], owner: object = None) -> None:
        self._pool, self._kept, self._owner = pool, kept, owner
        self._over = False
        self._idle = False
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)

    def submitted(self) -> None:
        """After each submission, also one that has failed. Only the thread says that it is idle no more: who is
        interrupted before the wake-up leaves it to the next one, or to the thread, which looks round meanwhile."""
        if self._idle:
            self._wake.put(None)

    def finish(self) -> None:
        self._over = True
        self._wake.put(None)

    def _run(self) -> None:
        self._settle_all()
        while not self._pool.shutdown(FOREVER_NS):
            pass
        self._settle_all()  # calls that came before the pool took no more
        self._pool.close()
        self._owner = None

    def _settle_all(self) -> None:
        """Until it is to finish, and nothing is under way or on its way."""
        pool = self._pool
        while True:
            if pool.outstanding():
                self._settle(pool.results(FOREVER_NS))
                continue
            self._idle = True
            if not pool.outstanding():
                if self._over and not pool.coming():
                    return
                # Whoever submits just now may be interrupted before the wake-up.
                with contextlib.suppress(queue.Empty):
                    self._wake.get(timeout=LOOK if pool.coming() else None)
                while not self._wake.empty():  # of many that have come at once, which all are seen now
                    self._wake.get()
            self._idle = False

    def _settle(self, answers: list[Any]) -> None:
        """Hands out what has come, and keeps nothing of it."""
        answers.reverse()
        while answers:
            token, *answer = answers.pop()
            try:
                token.settle(*answer)
            except BaseException as error:  # of a callback of the user's, say: this thread goes on
                report_in_thread()
                try:
                    token.fail(error)
                except BaseException:
                    report_in_thread()
            if self._kept:
                self._kept.pop(token, None)
            del token, answer


def report_in_thread() -> None:
    """Tells of the exception that is being handled, as of one that ends a thread."""
    with contextlib.suppress(BaseException):  # of a hook of the user's, or where nobody reads standard error any more
        threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
