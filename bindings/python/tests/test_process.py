"""Processes, and what travels to them."""

import multiprocessing
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import family
import pytest

import libtine

HANG_SECONDS = 60


@pytest.fixture(params=["forkserver", "spawn"])
def context(request):
    return libtine.get_context(request.param)


def ended(process):
    process.join(HANG_SECONDS)
    return process.exitcode


def gone(pid):
    """Waits until a process has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], HANG_SECONDS)[0])
    finally:
        os.close(fd)


def test_start_and_join(context):
    near, far = context.Pipe(duplex=False)
    process = context.Process(target=family.report, args=(far,), name="reporter")
    assert process.exitcode is None and process.pid is None and not process.is_alive()
    process.start()
    assert near.recv() == (process.pid, "reporter", os.getpid())
    assert ended(process) == 0
    assert repr(process).endswith("stopped exitcode=0>")
    process.close()
    with pytest.raises(ValueError):
        process.is_alive()


def test_exit_codes(context):
    cases = {family.exit_with: (7, 7), family.raise_error: (None, 1), family.kill_itself: (None, -signal.SIGKILL)}
    for target, (argument, code) in cases.items():
        process = context.Process(target=target, args=() if argument is None else (argument,))
        process.start()
        assert ended(process) == code


def test_pid_until_it_is_joined(context):
    """As with multiprocessing, a process that has ended and was not joined can be signalled: its pid is no other's."""
    process = context.Process(target=family.exit_with, args=(3,))
    process.start()
    assert select.select([process.sentinel], [], [], HANG_SECONDS)[0]
    assert process._popen._pair.recv(16, socket.MSG_PEEK)  # the server knows, too
    os.kill(process.pid, signal.SIGUSR1)
    assert ended(process) == 3
    end = time.monotonic() + HANG_SECONDS
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < end:
            os.kill(process.pid, 0)


def test_default_timeout_of_sockets(context):
    """It is for the program's own sockets: with the shortest, processes start, are joined, and get what is sent."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(1e-6)
    try:
        near, far = context.Pipe()
        process = context.Process(target=family.receive_and_unlock, args=(far,))
        process.start()
        third, fourth = context.Pipe()
        near.send((context.Lock(), fourth))
        assert third.recv() == "held"
        assert ended(process) == 0
    finally:
        socket.setdefaulttimeout(before)


def test_terminate_and_kill(context):
    for end, code in (("terminate", -signal.SIGTERM), ("kill", -signal.SIGKILL)):
        process = context.Process(target=time.sleep, args=(1000,))
        process.start()
        assert process.is_alive() and process in libtine.active_children()
        with pytest.raises(ValueError, match="still running"):
            process.close()
        process.join(0.01)
        assert process.exitcode is None
        assert not select.select([process.sentinel], [], [], 0)[0]
        getattr(process, end)()
        assert select.select([process.sentinel], [], [], HANG_SECONDS)[0]
        assert ended(process) == code
        assert process not in libtine.active_children()
        process.terminate()  # of one that has ended: nothing


def test_locks_and_values_are_shared(context):
    value = context.Value("i", 0)
    processes = [context.Process(target=family.add, args=(value, 500)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        assert ended(process) == 0
    assert value.value == 1500


def test_subclass():
    value = libtine.Value("i", 21)
    process = family.Doubler(value)
    process.start()
    assert process.name == "doubler" and ended(process) == 0
    assert value.value == 42


def test_threads_of_a_process_end_before_it():
    event = libtine.Event()
    process = libtine.Process(target=family.leave_thread, args=(event,))
    process.start()
    assert ended(process) == 0 and event.is_set()


def test_the_host_has_no_child():
    host = run_program(
        """
        import libtine, os, time
        process = libtine.Process(target=time.sleep, args=(1000,), daemon=True)
        process.start()
        try:
            print(os.waitpid(-1, os.WNOHANG))
        except ChildProcessError:
            print(process.is_alive())
        """
    )
    assert host.communicate(timeout=HANG_SECONDS)[0] == "True\n"


def test_what_cannot_be_sent():
    with pytest.raises((TypeError, AttributeError)):
        libtine.Process(target=lambda: None).start()
    with pytest.raises(AssertionError, match="group"):
        libtine.Process(group=1)
    process = libtine.Process(target=family.exit_with, args=(0,))
    with pytest.raises(AssertionError, match="started"):
        process.join()
    process.start()
    with pytest.raises(AssertionError, match="twice"):
        process.start()
    assert ended(process) == 0


def test_contexts():
    assert libtine.get_all_start_methods() == ["forkserver", "spawn"]
    assert libtine.get_context() is libtine.get_context("forkserver")
    assert libtine.get_context("spawn").get_start_method() == "spawn"
    with pytest.raises(ValueError, match="refused: a forked interpreter"):
        libtine.get_context("fork")
    with pytest.raises(ValueError, match="cannot find context for 'other'"):
        libtine.get_context("other")
    with pytest.raises(ValueError, match="get_context"):
        libtine.set_start_method("spawn")
    with pytest.raises(NotImplementedError, match="managers"):
        libtine.Manager()
    assert libtine.cpu_count() == len(os.sched_getaffinity(0))
    assert isinstance(libtine.get_context(), multiprocessing.context.BaseContext)


def test_the_server_is_killed():
    """Processes go on without it, though nobody knows how they end; the next one has another."""
    from libtine import _server

    first = libtine.Process(target=time.sleep, args=(1000,))
    first.start()
    os.kill(_server._family.servers[-1].pid(), signal.SIGKILL)
    second = libtine.Process(target=family.exit_with, args=(3,))
    second.start()
    assert ended(second) == 3
    assert first.is_alive()
    first.kill()
    assert ended(first) == 255


def in_forked_child(function):
    """What a function of a child forked by hand comes to: 0 if it returns."""
    child = os.fork()
    if not child:
        code = 1
        try:
            signal.alarm(HANG_SECONDS)
            function()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_child_takes_no_exit_code():
    """Of a process of the parent's that has ended, and whose end the parent has not asked for yet."""
    process = libtine.Process(target=family.exit_with, args=(3,))
    process.start()
    assert select.select([process._popen._pair], [], [], HANG_SECONDS)[0]  # the server has said how

    def start_one():
        assert process.exitcode is None
        own = libtine.Process(target=family.exit_with, args=(4,))
        own.start()
        assert ended(own) == 4

    assert in_forked_child(start_one) == 0
    assert ended(process) == 3


def test_a_forked_child_lets_go_of_a_process():
    """Which the parent still has, and hears the end of."""
    process = libtine.Process(target=time.sleep, args=(1000,))
    process.start()

    def let_go():
        process._popen = None

    assert in_forked_child(let_go) == 0
    assert process.is_alive()
    process.kill()
    assert ended(process) == -signal.SIGKILL


def test_the_server_is_stopped():
    """It alone knows how a process has ended. Who asks with a timeout waits neither for it nor for who waits for it."""
    from libtine import _server

    process = libtine.Process(target=time.sleep, args=(1000,))
    process.start()
    server = _server._family.servers[-1].pid()
    os.kill(server, signal.SIGSTOP)
    try:
        waiting = threading.Thread(target=process.join)
        waiting.start()
        process.kill()
        assert select.select([process.sentinel], [], [], HANG_SECONDS)[0]
        said = []
        for ask in (lambda: process.join(0.01), process.is_alive, lambda: process.exitcode):
            thread = threading.Thread(target=lambda ask=ask: said.append(ask()))
            thread.start()
            thread.join(HANG_SECONDS)
        assert said == [None, True, None]
    finally:
        os.kill(server, signal.SIGCONT)
    waiting.join(HANG_SECONDS)
    assert ended(process) == -signal.SIGKILL


def test_join_with_timeouts_at_the_ends():
    process = libtine.Process(target=family.exit_with, args=(0,))
    process.start()
    process.join(float("inf"))
    assert process.exitcode == 0
    with pytest.raises(ValueError, match="NaN"):
        other = libtine.Process(target=family.exit_with, args=(0,))
        other.start()
        other.join(float("nan"))
    assert ended(other) == 0


def run_program(text, **keywords):
    program = textwrap.dedent(text)
    return subprocess.Popen(
        [sys.executable, "-c", program], cwd=os.path.dirname(__file__), stdout=subprocess.PIPE, text=True, **keywords
    )


def test_nothing_outlives_the_host():
    host = run_program(
        """
        import family, libtine, time
        near, far = libtine.Pipe()
        queue, lock, value = libtine.Queue(), libtine.Lock(), libtine.Value("i", 1)
        process = libtine.Process(target=family.start_another, args=(far,))
        process.start()
        print(*near.recv(), flush=True)
        time.sleep(1000)
        """
    )
    pids = [int(pid) for pid in host.stdout.readline().split()]
    assert len(pids) == 2
    assert not any(family.uses_files_in_shm(pid) for pid in (host.pid, *pids))
    host.kill()
    host.wait()
    assert all(gone(pid) for pid in pids)


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_busy_workers_end_with_their_host(method):
    """What multiprocessing's and concurrent.futures' workers do not: those that work never look."""
    host = run_program(
        f"""
        import functions, libtine, time
        executor = libtine.ProcessPoolExecutor(2, {method!r})
        calls = [executor.submit(functions.sleep_whatever_comes, 1000) for _ in range(2)]
        while not all(call.running() for call in calls):
            time.sleep(0.01)
        print(*executor._processes, flush=True)
        time.sleep(1000)
        """
    )
    pids = [int(pid) for pid in host.stdout.readline().split()]
    assert len(pids) == 2
    assert not any(family.uses_files_in_shm(pid) for pid in (host.pid, *pids))
    host.kill()
    host.wait()
    assert all(gone(pid) for pid in pids)


def test_interrupt_ends_waits_at_once():
    host = run_program(
        """
        import family, libtine, signal, time

        armed = False

        def interrupt(*_):
            global armed
            if armed:
                armed = False
                raise KeyboardInterrupt

        signal.signal(signal.SIGINT, interrupt)
        queue, ends = libtine.Queue(), libtine.Pipe()
        process = libtine.Process(target=time.sleep, args=(1000,), daemon=True)
        process.start()
        for wait in [queue.get, process.join, libtine.Semaphore(0).acquire, libtine.Event().wait, ends[0].recv]:
            print("waiting", flush=True)
            try:
                armed = True
                wait()
            except KeyboardInterrupt:
                print("interrupted", flush=True)
        queue.put("usable")
        print(queue.get(), flush=True)
        """
    )
    for _ in range(5):
        assert host.stdout.readline() == "waiting\n"
        while not select.select([host.stdout], [], [], 0.05)[0]:  # again, should one come between two looks
            host.send_signal(signal.SIGINT)
        assert host.stdout.readline() == "interrupted\n"
    assert host.stdout.readline() == "usable\n"
    assert host.wait(HANG_SECONDS) == 0


def test_too_few_descriptors():
    """Where a process cannot be started for want of descriptors, that is an error, and later ones start."""
    process = libtine.Process(target=family.exit_with, args=(0,))
    process.start()
    assert ended(process) == 0
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    for free in range(0, 12):
        highest = max(int(fd) for fd in os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + free, before[1]))
        process = libtine.Process(target=family.exit_with, args=(5,))
        try:
            process.start()
        except OSError:
            pass
        else:
            assert ended(process) == 5
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
    process = libtine.Process(target=family.exit_with, args=(6,))
    process.start()
    assert ended(process) == 6


def test_several_threads_join():
    process = libtine.Process(target=family.exit_with, args=(9,))
    process.start()
    codes = []
    threads = [threading.Thread(target=lambda: codes.append(ended(process))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_SECONDS)
    assert codes == [9] * 4


def test_pools_of_a_context(context):
    with context.Pool(1) as pool:
        assert pool.apply(abs, (-3,)) == 3
    with libtine.ProcessPoolExecutor(1, mp_context=context) as executor:
        assert executor.submit(abs, -4).result(HANG_SECONDS) == 4
