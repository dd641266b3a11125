from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

from typing_extensions import Buffer

_Death = tuple[int, int, str, int, int]
_Answer = tuple[Any, int, bytes | Memory, str, int, _Death | None]

class NativeError(Exception): ...

class Memory:
    def __buffer__(self, flags: int, /) -> memoryview: ...

class Pool:
    def __new__(
        cls,
        workers: int,
        start: int,
        worker_path: bytes,
        worker_arguments: Sequence[str],
        initializer_input: bytes | None = ...,
        max_tasks_per_worker: int = ...,
        grace_ns: int = ...,
        start_timeout_ns: int = ...,
        deadline_ns: int = ...,
    ) -> Pool: ...
    def submit(
        self, parts: Sequence[Buffer], token: Any, deadline_ns: int, retries: int, timeout_ns: int, /
    ) -> int: ...
    def results(self, timeout_ns: int, /) -> list[_Answer]: ...
    def cancel(self, id: int, /) -> None: ...
    def cancel_all(self) -> None: ...
    def cancel_queued(self) -> None: ...
    def shutdown(self, timeout_ns: int, /) -> bool: ...
    def close(self) -> None: ...
    def stats(self) -> dict[str, int]: ...

def serve(
    run: Callable[[bytes | Memory], tuple[bool, Sequence[Buffer]]], initialize: Callable[[bytes], None], /
) -> NoReturn: ...
def version() -> str: ...

RAISED: Final[int]
KEPT: Final[int]
EDIED: Final[int]
EEMPTY: Final[int]
EID: Final[int]
EMEMORY: Final[int]
ESHUTDOWN: Final[int]
EWORKERSTART: Final[int]
FORKSERVER: Final[int]
SPAWN: Final[int]
RAN: Final[int]
NOT_STARTED: Final[int]
MAYBE_RAN: Final[int]
