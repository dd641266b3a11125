"""The conformance suite's driver for Python: README.md says what it does."""

from __future__ import annotations

import errno
import sys
import threading
from array import array
from typing import Any, Callable

import libtine
from libtine import OwnerDied, TineError, foreign

# What the case has made so far, by name. In Python a call can be asked for its outcome again and again; what the table says
# of tasks whose results have been taken is therefore the driver's own doing: it forgets them.
things: dict[str, Any] = {}
pool: Any = None
words: list[str] = []
start, library, worker = "", "", None


def confused(what: str) -> Any:
    sys.exit(f"conformance driver: {' '.join(words)}: {what}")


# ---- Words ----


def setting(name: str, otherwise: str) -> str:
    return next((word[len(name) + 1 :] for word in words if word.startswith(name + "=")), otherwise)


def number(name: str) -> int:
    return int(setting(name, "0"))


def seconds(name: str) -> float | None:
    return number(name) / 1000 or None


def limit(otherwise: float | None = None) -> float | None:
    text = setting("timeout_ms", "")
    return int(text) / 1000 if text else otherwise


def parse(word: str) -> bytes:
    kind, _, rest = word.partition(":")
    if kind == "none":
        return b""
    if kind == "text":
        return rest.encode()
    if kind == "bytes":
        ramp, length = bytes(range(256)) * 2, int(rest)  # piece n, of 251, begins with n * 252
        return b"".join(ramp[n * 252 % 256 :][:251] for n in range(length // 251 + 1))[:length]
    if kind not in ("ints", "words"):
        confused(f"no bytes: {word}")
    values = [things[item[1:]].address if item[0] == "@" else int(item) for item in rest.split(",")]
    return array("i" if kind == "ints" else "q", values).tobytes()


# ---- Results ----


def show(data: bytes) -> str:
    if not data:
        return "none"
    if len(data) <= 64 and all(0x20 <= byte <= 0x7E for byte in data):
        return "text:" + data.decode()
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"bytes:{len(data)}:{value:016x}"


def ran_out() -> str:
    return "EAGAIN" if limit(0) == 0 else "ETIMEDOUT"


def name(call: Callable[[], Any]) -> str:
    """What a call comes to that gives nothing, or whether it was done in time."""
    return "OK" if (done := call()) is None or done is True else ran_out() if done is False else str(done)


def keep(thing: Any) -> None:
    things[words[1]] = thing


# ---- Pools ----


def create() -> None:
    global pool
    pool = foreign.Pool(
        number("workers"), [library], [worker] if worker else None, start=start,
        deadline=seconds("deadline_ms"), grace=seconds("grace_ms"), window_tasks=number("window_tasks"),
        window_bytes=number("window_bytes"), heap_bytes=number("heap_bytes"),
    )  # fmt: skip


def submit() -> bool:
    try:
        call = pool.submit(
            words[2], parse(words[3]), deadline=seconds("deadline_ms"), queue_deadline=seconds("queue_deadline_ms"),
            retries=number("retries"), idempotent=number("idempotent") == 1, timeout=limit(0),
        )  # fmt: skip
    except TimeoutError:
        return False
    keep(Told(call) if number("callback") else call)
    return True


class Told:
    """What the callback of a call has been called with."""

    def __init__(self, call: foreign.Call) -> None:
        self.changed = threading.Condition()
        self.outcomes: list[foreign.Outcome] = []
        self.end = call.end
        call.add_done_callback(self.settled)

    def settled(self, call: Any) -> None:
        with self.changed:
            self.outcomes.append(call.outcome(0))
            self.changed.notify_all()

    def wait(self) -> str:
        with self.changed:
            there = self.changed.wait_for(lambda: self.outcomes, limit())
        return told(self.outcomes[0]) if there else ran_out()


def wait() -> str:
    if things[words[1]] is None:
        return "TINE_EID"
    try:
        outcome = things[words[1]].outcome(limit())
    except TimeoutError:
        return ran_out()
    things[words[1]] = None
    return told(outcome)


def told(outcome: foreign.Outcome) -> str:
    text = f"{outcome.status} {show(outcome.output)}"
    if outcome.status < 0:
        text = f"{TineError.name_of(outcome.status)} {('ran', 'not_started', 'maybe_ran')[outcome.delivery]}"
        if outcome.death:
            text += ending(outcome.death)
        if "show=message" in words:
            text += f" {outcome.message}"
    return text + (f" deaths {outcome.deaths}" if "show=deaths" in words else "")


def ending(death: libtine.errors.Death) -> str:
    _pid, signal, _backtrace, _address, code = death
    return f" signal {signal}" if signal else f" exit {code}"


def map_items() -> str:
    first, count = int(words[2]), int(words[3])
    items, results = array("i", range(first, first + count)), array("i", bytes(4 * count))
    failed: list[foreign.Failure] = []
    result = "OK"
    try:
        failed = pool.map(
            words[1], items, results, count, context=parse(setting("context", "none")), chunk=number("chunk"),
            deadline=seconds("item_deadline_ms"), retries=number("retries"), idempotent=number("idempotent") == 1,
        )  # fmt: skip
    except TineError as error:
        result = error.name
    text = f"{'TINE_EITEMS' if failed else result} sum {sum(results)}"
    for item, status, message in failed:
        text += f" {item}:{TineError.name_of(status)}" + (f":{message}" if "show=message" in words else "")
    return text


# ---- Streams, processes and segments ----


class Numbered:
    """A stream whose results have their numbers with them."""

    def __init__(self, stream: foreign.Stream) -> None:
        self.stream, self.taken = stream, 0

    def next(self) -> str:
        try:
            outcome = self.stream.next(limit()).outcome()
        except TimeoutError:
            return ran_out()
        except EOFError:
            return "TINE_EEMPTY"
        self.taken += 1
        return f"{self.taken - 1}: {told(outcome)}"


def stream() -> None:
    made = pool.stream(
        words[2], window=number("window_tasks"), deadline=seconds("item_deadline_ms"), retries=number("retries"),
        idempotent=number("idempotent") == 1,
    )  # fmt: skip
    keep(Numbered(made))


def start_process() -> None:
    channel, segment = setting("channel", ""), setting("segment", "")
    made = foreign.Process(
        words[2], parse(words[3]), [library], [worker] if worker else None, start=start,
        deadline=seconds("deadline_ms"), grace=seconds("grace_ms"), channel=things[channel] if channel else None,
        segments=[things[segment]] if segment else [],
    )  # fmt: skip
    keep(made)


def wait_for_process() -> str:
    try:
        end = things[words[1]].exit(limit())
    except TimeoutError:
        return ran_out()
    text = f"{end.status} {show(end.output)}" if end.status >= 0 else TineError.name_of(end.status)
    return text + ending(end.death) + (f" {end.message}" if "show=message" in words else "")


# ---- Memory, locks and queues ----


def fill() -> None:
    data = parse(words[2])
    memoryview(things[words[1]])[: len(data)] = data


def get() -> str:
    buffer = bytearray(int(setting("capacity", "4096")))
    length = things[words[1]].get_into(buffer, limit())
    return ran_out() if length is None else show(bytes(buffer[:length]))


def pipe() -> None:
    things[words[1]], things[words[2]] = libtine.Pipe()


def receive() -> str:
    if not things[words[1]].poll(limit()):
        return ran_out()
    return show(things[words[1]].recv_bytes())


def once() -> str:
    ran: list[None] = []
    things[words[1]].call(lambda: ran.append(None))
    return "ran" if ran else "done"


OPERATIONS: dict[str, Callable[[], Any]] = {
    "pool.create": create,
    "pool.shutdown": lambda: pool.shutdown(limit()),
    "pool.submit": submit,
    "pool.wait": wait,
    "pool.told": lambda: things[words[1]].wait(),
    "pool.cancel": lambda: things[words[1]].end() if things[words[1]] else "TINE_EID",
    "pool.map": map_items,
    "heap.alloc": lambda: keep(pool.alloc(int(words[2]))),
    "heap.free": lambda: pool.free(things[words[1]]),
    "heap.fill": fill,
    "heap.show": lambda: show(bytes(memoryview(things[words[1]])[: int(words[2])])),
    "heap.used": lambda: pool.stats()["heap_blocks"],
    "mutex.create": lambda: keep(pool.mutex(process_owned=number("process_owned") == 1)),
    "mutex.lock": lambda: things[words[1]].acquire(limit()),
    "mutex.unlock": lambda: things[words[1]].release(),
    "mutex.repair": lambda: things[words[1]].repair(),
    "rwlock.create": lambda: keep(pool.rwlock()),
    "rwlock.read_lock": lambda: things[words[1]].read(limit()),
    "rwlock.write_lock": lambda: things[words[1]].write(limit()),
    "rwlock.unlock": lambda: things[words[1]].release(),
    "rwlock.repair": lambda: things[words[1]].repair(),
    "semaphore.create": lambda: keep(pool.semaphore(int(words[2]), number("max"))),
    "semaphore.acquire": lambda: things[words[1]].acquire(limit()),
    "semaphore.release": lambda: things[words[1]].release(int(words[2])),
    "semaphore.value": lambda: str(things[words[1]].value),
    "event.create": lambda: keep(pool.event(auto_reset=number("auto_reset") == 1)),
    "event.wait": lambda: things[words[1]].wait(limit()),
    "event.set": lambda: things[words[1]].set(),
    "event.clear": lambda: things[words[1]].clear(),
    "event.is_set": lambda: "yes" if things[words[1]].is_set() else "no",
    "barrier.create": lambda: keep(pool.barrier(int(words[2]))),
    "barrier.wait": lambda: things[words[1]].wait(limit()),
    "barrier.reset": lambda: things[words[1]].reset(),
    "barrier.abort": lambda: things[words[1]].abort(),
    "condition.create": lambda: keep(pool.condition()),
    "condition.wait": lambda: things[words[1]].wait(things[words[2]], limit()),
    "once.create": lambda: keep(pool.once()),
    "once.call": once,
    "queue.create": lambda: keep(pool.queue(number("messages"), number("bytes"))),
    "queue.put": lambda: things[words[1]].put(parse(words[2]), limit()),
    "queue.get": get,
    "queue.close": lambda: things[words[1]].close(),
    "queue.task_done": lambda: things[words[1]].task_done(),
    "queue.join": lambda: things[words[1]].join(limit()),
    "queue.count": lambda: str(len(things[words[1]])),
    "stream.create": stream,
    "stream.put": lambda: things[words[1]].stream.put(parse(words[2]), limit()),
    "stream.end": lambda: things[words[1]].stream.end(),
    "stream.next": lambda: things[words[1]].next(),
    "process.start": start_process,
    "process.wait": wait_for_process,
    "process.kill": lambda: things[words[1]].kill(int(words[2])),
    "process.alive": lambda: "yes" if things[words[1]].alive() else "no",
    "process.close": lambda: things[words[1]].close(),
    "segment.create": lambda: keep(foreign.Segment(int(words[2]))),
    "segment.attach": lambda: keep(foreign.Segment.attach(things[words[2]].fd(), anywhere=True)),
    "segment.size": lambda: str(len(memoryview(things[words[1]]))),
    "segment.fill": fill,
    "segment.show": lambda: show(bytes(memoryview(things[words[1]])[: int(words[2])])),
    "segment.close": lambda: things.pop(words[1]) and None,
    "pool.share": lambda: pool.share(things[words[1]], limit()),
    "channel.create": pipe,
    "channel.send": lambda: things[words[1]].send_bytes(parse(words[2])),
    "channel.receive": receive,
    # Python copies in any case.
    "channel.commit": lambda: things[words[1]].send_bytes(parse(words[2])),
    "channel.peek": receive,
    "channel.close": lambda: things[words[1]].close(),
}


def perform() -> str:
    operation = OPERATIONS.get(words[0]) or confused("no such operation")
    try:
        return name(operation)
    except TineError as error:
        return error.name
    except OwnerDied:
        return "EOWNERDEAD"
    except EOFError:
        return "EPIPE"
    except ValueError:  # of task_done, as in Python's own queues
        return "EINVAL"
    except (MemoryError, OSError) as error:
        return errno.errorcode[getattr(error, "errno", None) or errno.ENOMEM]


def end_case() -> None:
    callbacks = {name: thing for name, thing in things.items() if isinstance(thing, Told)}
    things.clear()
    if pool is not None:
        pool.close()
    for name, thing in callbacks.items():
        if len(thing.outcomes) != 1:
            confused(f"told {len(thing.outcomes)} times of {name}")


def main() -> None:
    global start, library, worker
    if len(sys.argv) < 3 or sys.argv[1] not in ("forkserver", "spawn"):
        confused("usage: driver START LIBRARY [WORKER] <cases.tsv")
    start, library, *rest = sys.argv[1:]
    worker = rest[0] if rest else None
    current = None
    for line in sys.stdin:
        if line[0] in "#\n":
            continue
        case, operation, arguments, _result = line.rstrip("\n").split("\t")
        if case != current:
            end_case()
        current = case
        words[:] = [operation, *arguments.split()]
        print(case, operation, arguments, perform(), sep="\t", flush=True)
    end_case()


if __name__ == "__main__":
    main()
