"""What can go wrong, as exceptions that programs for concurrent.futures already catch."""

from __future__ import annotations

import errno
import pickle
import signal as signals
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.pool import MaybeEncodingError  # type: ignore[attr-defined]

from . import _crash, _native


class TineError(_native.NativeError):
    """An error of tine's own: .code is its number, .name its name."""

    def __init__(self, code: int, name: str, text: str) -> None:
        super().__init__(code, name, text)
        self.code, self.name, self.text = code, name, text

    def __str__(self) -> str:
        return f"{self.text} [{self.name}]"

    @staticmethod
    def name_of(code: int) -> str:
        """The name of a code: "EINVAL", "TINE_EDIED"."""
        return _native.code_name(code)


_native.raise_as(TineError)


class WrongKind(ValueError):
    """What has come from another language is not of the kind that was to come; or what is to go there is not."""


class WorkerDied(BrokenProcessPool):
    """The process that ran a call died in it. Only this call has failed: the executor goes on.

    .pid, .signal (0 if it exited), .exitcode (-signal if one ended it, as multiprocessing's), .traceback (Python's, of
    a crash), .backtrace (lines of module and offset), .may_have_run
    """

    def __init__(
        self,
        text: str,
        pid: int = 0,
        signal: int = 0,
        exitcode: int = 0,
        backtrace: str = "",
        may_have_run: bool = True,
        traceback: str = "",
    ) -> None:
        super().__init__(text, pid, signal, exitcode, backtrace, may_have_run, traceback)
        self.traceback = traceback
        self.pid, self.signal, self.exitcode = pid, signal, -signal if signal else exitcode
        self.backtrace, self.may_have_run = backtrace, may_have_run

    def __str__(self) -> str:
        text = str(self.args[0])
        if self.signal:
            text += f" ({signals.Signals(self.signal).name})" if self.signal in signals.valid_signals() else ""
        return "\n".join(filter(None, (text, self.traceback, self.backtrace)))


class OwnerDied(RuntimeError):
    """A process has died holding what was asked for: .pid, or -1 where it could not say.

    Of a lock: nobody gets it until `with lock.repair():` has said that what it protects is whole again.
    """

    def __init__(self, text: str, pid: int = -1) -> None:
        super().__init__(text, pid)
        self.pid = pid

    def __str__(self) -> str:
        return str(self.args[0])


class DeadlineExceeded(TimeoutError):
    """A call ran past its deadline, and was ended."""


Death = tuple[int, int, str, int, int]  # pid, signal, backtrace, fault address, exit code
CANCELED = -errno.ECANCELED


class Unreadable(BrokenProcessPool):
    """A call or a result could not be unpickled at the other end; .__cause__ says why. Only this call has failed."""


class ResultNotSent(MaybeEncodingError, pickle.PicklingError):  # type: ignore[misc]
    """What a function has returned cannot be pickled; .exc and .value are as of multiprocessing's error."""

    def __init__(self, exc: object, value: object, text: str = "") -> None:
        MaybeEncodingError.__init__(self, exc, value)
        self.text = text
        self.args = (self.exc, self.value, text)

    def __str__(self) -> str:
        return self.text or super().__str__()


def text_of(error: BaseException) -> str:
    """str(error), also of one whose class makes that fail."""
    try:
        return str(error)
    except BaseException:
        return "<exception str() failed>"  # as module traceback has it


def with_note(error: BaseException, note: str) -> BaseException:
    """An exception of the same class with a note before its text, where its class lets us."""
    try:
        noted = type(error)(f"{note} ({error})")
    except Exception:
        return RuntimeError(f"{note} ({type(error).__name__}: {text_of(error)})")
    return noted


def unreadable(what: str, error: BaseException) -> Unreadable:
    failure = Unreadable(f"{what} cannot be read: {type(error).__name__}: {text_of(error)}")
    failure.__cause__ = error
    return failure


def of_status(status: int, message: str, delivery: int, death: Death | None) -> BaseException:
    """The exception for a call that was settled by tine and not by the function."""
    if status == CANCELED:
        return CancelledError()
    if status == -errno.ETIMEDOUT:
        return DeadlineExceeded(message or "the call ran past its deadline")
    if death is not None or status == _native.EDIED:
        pid, signal, backtrace, _address, code = death or (0, 0, "", 0, 0)
        traceback = _crash.take(pid) if signal else ""
        return WorkerDied(message, pid, signal, code, backtrace, delivery == _native.MAYBE_RAN, traceback)
    if status in (_native.EWORKERSTART, _native.ESHUTDOWN):
        return BrokenProcessPool(message)
    return TineError(status, _native.code_name(status), message)
