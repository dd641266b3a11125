"""Workers that are killed over and over, and whole families at once: all settles, pools are usable, nothing is left.

TINE_STORM=1 makes it long. `pytest -s` shows the table of what was killed, and of what became of the tasks.
"""

import concurrent.futures
import os
import signal
import subprocess
import sys
import textwrap
import time

import functions
import pytest
from family import uses_files_in_shm

import libtine

HANG_SECONDS = 60
LONG = bool(os.environ.get("TINE_STORM"))
TASKS = 20_000 if LONG else 2_000
KILLS = 1_500 if LONG else 60  # at most; a loaded machine starts a worker no faster than they come
INTERVAL_SECONDS = 0.03


class Results:
    """What the tasks of a Pool give, as futures."""

    def __init__(self, result):
        self.done, self.result = result.ready, result.get


def storm(submit, workers):
    """Kills a worker now and then while tasks are submitted, and then every 30 ms; then lets everything settle.

    Returns the line of the table.
    """

    def kill():
        for pid in workers()[:1]:
            try:
                os.kill(pid, signal.SIGKILL)
                return 1
            except ProcessLookupError:
                pass
        return 0

    # With the first result there is a worker to kill, however soon the others are done.
    futures, kills = [submit(functions.echo, bytes(65536))], 0
    while not futures[0].done():
        time.sleep(0.001)
    for n in range(1, TASKS):
        futures.append(submit(functions.echo, bytes([n % 256]) * 65536))
        kills += kill() if n % (TASKS // 10) == 1 else 0
    while kills < KILLS and not all(future.done() for future in futures):
        kills += kill()
        time.sleep(INTERVAL_SECONDS)
    end = time.monotonic() + HANG_SECONDS * (TASKS // 2000)
    while time.monotonic() < end and not all(future.done() for future in futures):
        time.sleep(INTERVAL_SECONDS)
    counts = {"right": 0, "wrong": 0, "died": 0, "unsettled": 0}
    for n, future in enumerate(futures):
        if not future.done():
            counts["unsettled"] += 1
            continue
        try:
            counts["right" if future.result(0) == bytes([n % 256]) * 65536 else "wrong"] += 1
        except libtine.WorkerDied:
            counts["died"] += 1
    return {"tasks": TASKS, "kills": kills, **counts}


def check(name, row):
    print(f"\n{name:10}" + "".join(f"  {key} {value}" for key, value in row.items()))
    assert row["kills"] > 0
    assert row["wrong"] == row["unsettled"] == 0
    assert row["died"] <= row["kills"]  # a death costs the one task that ran in it
    assert row["right"] + row["died"] == row["tasks"]


def test_executor():
    with libtine.ProcessPoolExecutor(2) as executor:
        check("executor", storm(executor.submit, lambda: list(executor._processes)))
        assert list(executor.map(functions.add, range(100))) == list(range(100))
        pids, end = set(), time.monotonic() + HANG_SECONDS
        while len(pids) < 2 and time.monotonic() < end:
            pids.update(executor.map(functions.slow_pid, range(20)))
        assert len(pids) == 2  # all workers are there again


def test_pool():
    with libtine.Pool(2) as pool:
        row = storm(
            lambda function, *args: Results(pool.apply_async(function, args)), lambda: [p.pid for p in pool._pool]
        )
        check("pool", row)
        assert pool.map(functions.add, range(100), chunksize=7) == list(range(100))
    pool.join()


def test_retries_outlive_the_storm():
    with libtine.ProcessPoolExecutor(2, retries=1000) as executor:
        row = storm(executor.submit, lambda: list(executor._processes))
        check("retries", row)
        assert row["died"] == 0


def test_a_death_fails_its_future_at_once():
    """Told by the death, not by a look at an interval: the hang limit is not waited for."""
    with libtine.ProcessPoolExecutor(2) as executor:
        others = [executor.submit(functions.add, n) for n in range(40)]
        future = executor.submit(functions.sleep, 1000)
        while not future.running():
            time.sleep(0.001)
        doomed = executor.submit(functions.die)
        with pytest.raises(libtine.WorkerDied, match="SIGKILL") as info:
            doomed.result(HANG_SECONDS)
        assert info.value.pid != os.getpid() and info.value.signal == signal.SIGKILL
        assert [other.result(HANG_SECONDS) for other in others] == list(range(40))
        assert not future.done()
        future.cancel()


def test_a_deadline_ends_what_ignores_sigterm():
    with libtine.ProcessPoolExecutor(1, deadline=0.5, grace=0.1) as executor:
        with pytest.raises(TimeoutError):
            executor.submit(functions.sleep_whatever_comes, 1000).result(HANG_SECONDS)
        assert executor.submit_with(functions.add, (1,), deadline=HANG_SECONDS).result(HANG_SECONDS) == 1


FAMILY = """
import os, signal, sys, time
sys.path.insert(0, {tests!r})
import functions, libtine, libtine.shared_memory

executor = libtine.ProcessPoolExecutor(2)
busy = [executor.submit(functions.sleep_whatever_comes, 1000) for _ in range(2)]
process = libtine.Process(target=functions.sleep_whatever_comes, args=(1000,))
process.start()
memory = libtine.shared_memory.SharedMemory(create=True, size=1 << 20)
semaphore, queue = libtine.get_context("spawn").Semaphore(), libtine.Queue()
queue.put(bytes(1 << 20))
while not all(future.running() for future in busy):
    time.sleep(0.001)
print(*executor._processes, process.pid, flush=True)
time.sleep(1000)
"""


@pytest.mark.parametrize("whole_group", [False, True])
def test_a_killed_host_leaves_nothing(whole_group, tmp_path):
    program = tmp_path / "family.py"
    program.write_text(textwrap.dedent(FAMILY).format(tests=os.path.dirname(os.path.abspath(__file__))))
    host = subprocess.Popen(
        [sys.executable, str(program)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        pids = [int(pid) for pid in host.stdout.readline().split()]
        assert len(pids) == 3
        watches = [os.pidfd_open(pid) for pid in pids]
        assert not any(uses_files_in_shm(pid) for pid in (host.pid, *pids))
    finally:
        if whole_group:
            os.killpg(host.pid, signal.SIGKILL)
        else:
            host.kill()
        host.wait()
        host.stdout.close()
    for watch in watches:
        assert libtine.connection.wait([watch], HANG_SECONDS) == [watch], "a worker outlives its host"
        os.close(watch)
    assert os.listdir(tmp_path) == ["family.py"]


def test_every_call_that_waits_is_told():
    """as_completed and wait() of concurrent.futures, with a death among what they wait for."""
    with libtine.ProcessPoolExecutor(2) as executor:
        futures = [executor.submit(functions.die_at_seven, n) for n in range(20)]
        done = list(concurrent.futures.as_completed(futures, HANG_SECONDS))
        assert len(done) == 20
        assert [n for n, future in enumerate(futures) if future.exception()] == [7]
