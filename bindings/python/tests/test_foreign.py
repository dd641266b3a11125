"""Several languages in one pool: who calls whom, what goes between them, and what they share."""

import os
import signal
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import pytest
from conftest import flags

import libtine
from libtine import foreign

HERE = Path(__file__).parent / "foreign"
ROOT = Path(__file__).parents[3]
EXPORTED = str(HERE / "exported.py")


@pytest.fixture(scope="module")
def python():
    with foreign.Pool(2, worker=[sys.executable, "-m", "libtine.worker", EXPORTED]) as pool:
        yield pool


def word(*numbers):
    return struct.pack(f"={len(numbers)}Q", *numbers)


# ---- A host in Python, functions in C++ ----


def test_a_function_by_its_name(native):
    calls = [native.submit("tripled", struct.pack("i", n)) for n in range(1, 10)]
    assert [struct.unpack("i", call.result())[0] for call in calls] == list(range(3, 30, 3))


def test_a_failure_has_code_and_text(native):
    with pytest.raises(libtine.TineError, match="an input of 3 bytes") as caught:
        native.submit("tripled", b"abc").result()
    assert caught.value.name == "EINVAL"
    with pytest.raises(libtine.TineError, match="nobody"):
        native.submit("nobody")


def test_a_death_costs_its_call(native):
    calls = [native.submit("tripled", struct.pack("i", n)) for n in range(9, 12)]
    with pytest.raises(libtine.WorkerDied) as caught:
        calls[1].result()
    assert caught.value.signal == signal.SIGKILL
    assert [struct.unpack("i", calls[at].result())[0] for at in (0, 2)] == [27, 33]


def test_a_callback_that_ends_its_thread_costs_nothing_else(library, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda _: None)

    def leave(_call):
        raise SystemExit

    class Leaving(foreign.Call):  # its callback is there before it can settle
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.add_done_callback(leave)

    with foreign.Pool(1, [library]) as pool:
        with monkeypatch.context() as patch:
            patch.setattr(foreign, "Call", Leaving)
            for _ in range(3):
                assert pool.submit("tripled", struct.pack("i", 1)).outcome(30).status == 0
        assert struct.unpack("i", pool.submit("tripled", struct.pack("i", 2)).result(30)) == (6,)


def test_a_call_that_is_submitted_while_the_pool_is_closed_settles(library):
    pool = foreign.Pool(1, [library])
    native, closing = pool._pool, []

    class Submitting:
        def __getattr__(self, name):
            return getattr(native, name)

        def submit(self, *arguments):
            task = native.submit(*arguments)
            closing.append(threading.Thread(target=pool.close, daemon=True))
            closing[0].start()
            while not pool._settler._over:
                time.sleep(0.001)
            time.sleep(0.05)  # in which the thread that hands out results must not end
            return task

    pool._pool = Submitting()
    call = pool.submit("tripled", struct.pack("i", 1))
    assert call.outcome(30) is not None
    closing[0].join(30)
    assert not closing[0].is_alive()


def interrupt_at(number, files):
    """Raises KeyboardInterrupt, as Ctrl-C would, at this instruction of what the thread does in these files."""
    left = number

    def trace(frame, event, _argument):
        nonlocal left
        if not frame.f_code.co_filename.endswith(files):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)


def test_an_interrupt_at_any_place_of_a_submission_leaves_the_pool_usable(library):
    number = interrupts = 0
    with foreign.Pool(1, [library]) as pool:
        while interrupts == number:
            number += 1
            interrupt_at(number, ("foreign.py", "_settling.py"))
            try:
                pool.submit("tripled", struct.pack("i", 1))
            except KeyboardInterrupt:
                interrupts += 1
            finally:
                sys.settrace(None)
            assert struct.unpack("i", pool.submit("tripled", struct.pack("i", 2)).result(30)) == (6,)
    assert interrupts > 50


def test_messagepack_goes_and_comes(native):
    assert native.submit("length_of", "twelve bytes", kind="msgpack").result() == 12


def test_a_wrong_kind_says_which_it_is(native):
    with pytest.raises(libtine.TineError, match="wants a payload of the kind msgpack"):
        native.submit("length_of", b"twelve bytes").result()
    with pytest.raises(
        libtine.WrongKind, match=r"the result of tripled is to be msgpack, and is raw: 4 bytes, b'\\x03"
    ):
        native.submit("tripled", struct.pack("i", 1), returns="msgpack").result()
    with pytest.raises(
        libtine.WrongKind, match="the value for tripled is to be raw, that is bytes or a buffer, and is int"
    ):
        native.submit("tripled", 1)
    with pytest.raises(ValueError, match="kind 'json': it is one of raw, msgpack, pickle"):
        native.submit("tripled", 1, kind="json")


def test_without_the_package_msgpack_the_error_says_so(native, monkeypatch):
    monkeypatch.setitem(sys.modules, "msgpack", None)
    with pytest.raises(ImportError, match=r"pip install 'libtine\[msgpack\]'"):
        native.submit("length_of", "x", kind="msgpack")


def test_a_call_that_runs_can_be_cancelled(library):
    with foreign.Pool(1, [library], grace=0.05) as pool:
        call = pool.submit("never_return")
        assert call.cancel()
        with pytest.raises(CancelledError):
            call.result()
        assert libtine.TineError.name_of(call.outcome().status) == "ECANCELED"
        assert struct.unpack("i", pool.submit("tripled", struct.pack("i", 7)).result()) == (21,)
        with pytest.raises(libtine.TineError):
            call.end()


def test_python_and_cpp_share_a_queue_a_lock_and_an_array(native):
    queue, mutex, block = native.queue(), native.mutex(), native.alloc(8 * 1000)
    array = memoryview(block).cast("d")
    call = native.submit("add_all", word(queue.address, mutex.address, block.address, 1000))
    for number in range(100):
        queue.put(struct.pack("d", number))
        with mutex:
            first = array[0]
            assert all(each == first for each in array)
    queue.close()
    assert call.result() == b""
    assert array[0] == array[999] == 4950


def test_the_death_of_a_holder_is_told(native):
    mutex = native.mutex()
    with pytest.raises(libtine.WorkerDied):
        native.submit("die_holding", word(mutex.address)).result()
    with pytest.raises(libtine.OwnerDied):
        mutex.acquire()
    mutex.repair()
    mutex.release()
    with pytest.raises(libtine.WorkerDied):
        native.submit("die_holding", word(mutex.address)).result()
    with pytest.raises(libtine.OwnerDied), mutex:
        pass
    with pytest.raises(libtine.TineError) as caught:
        mutex.acquire()
    assert caught.value.name == "ENOTRECOVERABLE"


def test_memory_stays_as_long_as_it_is_looked_at(library):
    pool = foreign.Pool(1, [library])
    view, mutex = memoryview(pool.alloc(1 << 20)), pool.mutex()
    view[:5] = b"stays"
    pool.close()
    assert bytes(view[:5]) == b"stays"
    assert mutex.acquire(0)
    with pytest.raises(libtine.TineError, match="closed"):
        pool.alloc(1)
    pool.close()


def test_memory_found_by_its_address_keeps_its_pool(library):
    pool = foreign.Pool(1, [library])
    block, mutex, queue = pool.alloc(64), pool.mutex(), pool.queue(4)
    block_again = foreign.memory(block.address, 64)
    mutex_again, queue_again = foreign.Mutex.at(mutex.address), foreign.Queue.at(queue.address)
    address = block.address
    del block, mutex, queue
    pool.close()
    memoryview(block_again)[:5] = b"stays"
    assert bytes(block_again)[:5] == b"stays"
    assert mutex_again.acquire(0) and queue_again.put(b"stays") and queue_again.get() == b"stays"
    del block_again, mutex_again
    assert bytes(foreign.memory(address, 64))[:5] == b"stays"  # as long as the queue is there
    del queue_again
    with pytest.raises(ValueError, match="no heap of this process has them"):
        foreign.memory(address, 64)


def test_memory_of_python_alone_is_not_found_by_its_address():
    """It goes with the objects that have it, whoever looks at it."""
    queue = libtine.Queue()
    with pytest.raises(ValueError, match="no heap of this process has them"):
        foreign.memory(queue._queue.address(), 8)


def test_once_tells_what_its_function_raises(native):
    once = native.once()
    with pytest.raises(ZeroDivisionError):
        once.call(lambda: 1 / 0)
    ran = []
    assert once.call(lambda: ran.append(1)) and once.call(lambda: ran.append(2))
    assert ran == [1]


def test_what_is_no_address_is_refused():
    for address in (0, 8, 1 << 40, 2**64 - 1):
        with pytest.raises(ValueError, match="no heap of this process has them"):
            foreign.Mutex.at(address)


def test_bad_options_are_named(library):
    for arguments, text in [
        (dict(workers=-1), "workers"),
        (dict(workers=1, start="fork"), "'fork'"),
        (dict(workers=1, preload=["a:b"]), "a:b"),
        (dict(workers=1, preload=["/nowhere/x.so"]), "x.so"),
        (dict(workers=1, worker=["/nowhere/program"]), "/nowhere/program"),
    ]:
        with pytest.raises((ValueError, libtine.TineError), match=text):
            foreign.Pool(**arguments)


# ---- A host in Python, C or Go, functions in Python ----


def test_pickles_go_between_pythons(python):
    assert python.submit("summary", {"a": (1, 2)}, kind="pickle", returns="raw").result() == b"{'a': (1, 2)}"
    assert python.submit("total", [1, 2, 3], kind="msgpack").result() == 6


def test_an_exported_function_fails_its_call_alone(python):
    for name, value, code, text in [
        ("boom", b"x", "EREMOTEIO", r"KeyError: b'x' \(exported.py:\d+\)"),
        ("missing", b"/no/file", "ENOENT", "FileNotFoundError"),
        ("leave", None, "EREMOTEIO", "SystemExit: no more"),
        ("keep", b"x", "EBUSY", "keep has kept a view of its input"),
        ("no bytes", None, "EBADMSG", "the result of no bytes is to be raw, that is bytes or a buffer, and is int"),
        ("summary", b"x", "EBADMSG", "the input of summary is to be pickle, and is raw: 1 bytes, b'x' first"),
    ]:
        with pytest.raises(libtine.TineError, match=text) as caught:
            python.submit(name, value).result()
        assert caught.value.name == code
        assert python.submit("shout", name.encode()).result() == name.upper().encode()


HOST_SAYS = """\
shout: HELLO
total: msgpack 6
total: EBADMSG WrongKind: the input of total is to be msgpack, and is raw: 5 bytes, b'hello' first
total: EBADMSG WrongKind: the input of total has a head that says no known kind: b'\\xc1TINE\\x07\\x00\\x00'
boom: EREMOTEIO KeyError: b'x' (exported.py:LINE)
die: TINE_EDIED\x20
shout: AGAIN
nobody: TINE_ENAME
add 2:\x20
2 2 42
"""


def c_host(where):
    compiler = [os.environ.get("CC", "cc"), "-std=c11", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    found = [*flags("--cflags", "--libs"), f"-Wl,-rpath,{flags('--variable=libdir')[0]}"]
    subprocess.run([*compiler, str(HERE / "host.c"), "-o", str(where / "host"), *found], check=True)


def go_host(where):
    subprocess.run([ROOT / "ci/go-module.sh", "python-host", HERE / "host.go"], check=True)
    subprocess.run(
        [ROOT / "ci/go.sh", "-C", ROOT / "build/go/python-host", "build", "-o", where / "host", "."], check=True
    )


@pytest.mark.parametrize("build", [c_host, go_host])
def test_a_host_of_another_language(build, tmp_path):
    build(tmp_path)
    line = Path(EXPORTED).read_text().split("\n").index("    raise KeyError(bytes(text))") + 1
    for start in ("forkserver", "spawn"):
        command = [str(tmp_path / "host"), start, sys.executable, EXPORTED]
        host = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert (host.stdout, host.stderr) == (HOST_SAYS.replace("LINE", str(line)), "")


def run_worker(*arguments):
    command = [sys.executable, "-m", "libtine.worker", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_who_starts_the_worker_program_is_told_what_it_is(tmp_path):
    assert "usage" in run_worker().stderr
    assert "nobody has started this process" in run_worker(EXPORTED).stderr
    (tmp_path / "empty.py").write_text("")
    assert "nothing is exported there" in run_worker(str(tmp_path / "empty.py")).stderr


def test_what_cannot_be_exported():
    @libtine.export("test_foreign.one")
    def one(_):
        pass

    with pytest.raises(ValueError, match="has it already"):
        libtine.export("test_foreign.one")(one)
    for name in ("", "x" * 256, "a\0b"):
        with pytest.raises(ValueError, match="1 to 255 bytes"):
            libtine.export(name)
    with pytest.raises(ValueError, match="kind 'text'"):
        libtine.export("other", takes="text")


def test_an_interrupt_ends_what_waits(native):
    mutex, event = native.mutex(), native.event()
    for wait in (event.wait, lambda: native.queue().get(), lambda: native.barrier(2).wait()):
        previous = signal.signal(signal.SIGALRM, lambda *_: 1 / 0)
        signal.setitimer(
            signal.ITIMER_REAL, 0.12, 0.12
        )  # more than one: a signal between two system calls ends neither
        try:
            with pytest.raises(ZeroDivisionError):
                wait()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
    assert mutex.acquire(0)
    mutex.release()


# ---- Streams, processes and segments ----


def ints(*numbers):
    return struct.pack(f"{len(numbers)}i", *numbers)


def test_a_stream_is_in_order_and_bounded(native):
    stream = native.stream("tripled", window=3)
    with pytest.raises(TimeoutError):
        stream.next(0)
    for number in (9, 10, 11):
        assert stream.put(ints(number))
    assert not stream.put(ints(12), 0)
    assert stream.next().result() == ints(27)
    assert stream.put(ints(12))
    stream.end()
    with pytest.raises(libtine.WorkerDied):
        next(stream)
    assert list(stream) == [ints(33), ints(36)]
    with pytest.raises(EOFError):
        stream.next()
    with pytest.raises(libtine.TineError) as caught:
        stream.put(ints(1))
    assert caught.value.name == "EPIPE"
    with pytest.raises(ValueError, match="-1"):
        native.stream("tripled", window=-1)


def whole(number):
    """Whether tripled lives through it."""
    return number % 10 != 0


def test_many_threads_feed_a_stream(native):
    stream = native.stream("tripled", window=4)

    def feed(first):
        for number in filter(whole, range(first, first + 50)):
            stream.put(ints(number))

    threads = [threading.Thread(target=feed, args=(100 * n,)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    results = [struct.unpack("i", next(stream))[0] for _ in range(4 * 45)]
    for thread in threads:
        thread.join()
    stream.end()
    assert list(stream) == []
    wanted = [3 * (100 * n + at) for n in range(1, 5) for at in filter(whole, range(50))]
    assert sorted(results) == wanted
    for n in range(1, 5):  # what one thread has put stays in order
        mine = [each for each in results if 300 * n <= each < 300 * n + 150]
        assert mine == sorted(mine)


def test_a_thread_that_waits_to_put_is_told_of_the_end(native):
    stream = native.stream("tripled", window=1)
    stream.put(ints(1))
    told = []

    def put():
        with pytest.raises(libtine.TineError) as caught:
            stream.put(ints(2))
        told.append(caught.value.name)

    thread = threading.Thread(target=put)
    thread.start()
    stream.end()
    thread.join()
    assert told == ["EPIPE"]
    assert list(stream) == [ints(3)]


@pytest.mark.parametrize("start", ["forkserver", "spawn"])
def test_a_process_calls_one_function(library, start):
    with foreign.Process("tripled", ints(14), [library], start=start) as process:
        assert process.result() == ints(42)
        assert process.exit().status == 0
        assert not process.alive()
        with pytest.raises(ProcessLookupError):
            process.kill()
    process = foreign.Process("tripled", b"abc", [library], start=start)
    with process, pytest.raises(libtine.TineError, match="an input of 3 bytes"):
        process.result()
    with pytest.raises(libtine.TineError) as caught:
        foreign.Process("nobody", preload=[library], start=start)
    assert caught.value.name == "TINE_ENAME"


def test_a_process_that_is_closed_ends_who_waits_for_it(library):
    process = foreign.Process("never_return", preload=[library])
    with pytest.raises(TimeoutError):
        process.exit(0.01)
    ends = []
    thread = threading.Thread(target=lambda: ends.append(process.exit()))
    thread.start()
    while not thread_waits(thread):
        time.sleep(0.001)
    process.close()
    thread.join()
    assert ends[0].death[1] == signal.SIGKILL
    process.close()
    with pytest.raises(libtine.TineError) as caught:
        process.exit()
    assert caught.value.name == "TINE_ESHUTDOWN"


def thread_waits(thread):
    """Whether it sleeps in the kernel: it has gone into the call by then."""
    with open(f"/proc/self/task/{thread.native_id}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "S"


def test_a_deadline_ends_a_process(library):
    process = foreign.Process("never_return", preload=[library], deadline=0.05, grace=0.05)
    with process, pytest.raises(libtine.DeadlineExceeded):
        process.result()


def test_a_process_has_an_end_of_a_pipe(library):
    here, there = libtine.Pipe()
    with foreign.Process("shout_back", preload=[library], channel=there) as process:
        assert there.closed
        here.send_bytes(b"hello")
        assert here.recv_bytes() == b"HELLO"
        here.close()
        assert process.result() == b""
    here, there = libtine.Pipe()
    with pytest.raises(libtine.TineError):
        foreign.Process("nobody", preload=[library], channel=there)
    here.send_bytes(b"still ours")
    assert there.recv_bytes() == b"still ours"


def test_a_segment_is_at_one_address_everywhere(native, library):
    segment = foreign.Segment(8 * 100)
    array = memoryview(segment).cast("d")
    assert native.share(segment)
    with pytest.raises(libtine.TineError) as caught:
        native.share(segment)
    assert caught.value.name == "EALREADY"
    native.submit("fill", word(segment.address, 100)).result()
    assert array[0] == array[99] == 1.5
    array[99] = 0
    with foreign.Process("fill", word(segment.address, 100), [library], segments=[segment]) as process:
        process.result()
    assert array[99] == 1.5
    again = foreign.Segment.attach(segment.fd(), anywhere=True)
    assert again.address != segment.address and bytes(again) == bytes(segment)
    for wrong in (0, -1):
        with pytest.raises((libtine.TineError, ValueError)):
            foreign.Segment(wrong)
    with pytest.raises(TypeError, match="not a segment"):
        foreign.Process("fill", preload=[library], segments=[b"bytes"])


def test_a_pool_that_is_closed_in_the_middle_of_calls(library):
    for _ in range(10):
        pool = foreign.Pool(1, [library], grace=0.05, window_tasks=1)
        pool.submit("never_return")
        ends = []

        def submit(pool=pool, ends=ends):
            try:
                pool.submit("tripled", ints(1), timeout=30)
            except (libtine.TineError, TimeoutError) as error:
                ends.append(error)

        threads = [threading.Thread(target=submit) for _ in range(3)]
        for thread in threads:
            thread.start()
        pool.close()
        for thread in threads:
            thread.join()
        assert len(ends) == 3 and {each.name for each in ends} == {"TINE_ESHUTDOWN"}
