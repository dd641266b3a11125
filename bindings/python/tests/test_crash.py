"""What is known of a crash: Python's traceback, tine's, and the address at fault."""

import os
import signal
import subprocess
import sys

import functions
import pytest

import libtine


@pytest.fixture(scope="module")
def executor():
    with libtine.ProcessPoolExecutor(2) as executor:
        yield executor


def death_of(executor, function):
    with pytest.raises(libtine.WorkerDied) as info:
        executor.submit(function).result(60)
    return info.value


def test_a_crash_has_both_tracebacks(executor):
    for _ in range(3):
        died = death_of(executor, functions.crash)
        assert died.signal == signal.SIGSEGV and died.may_have_run
        assert "Segmentation fault" in died.traceback and "in crash" in died.traceback
        assert "string_at" in died.traceback and died.traceback in str(died)
        assert died.backtrace


def test_abort_has_them_too(executor):
    died = death_of(executor, functions.abort)
    assert died.signal == signal.SIGABRT and "in abort" in died.traceback


def test_a_kill_has_none(executor):
    died = death_of(executor, functions.die)
    assert died.signal == signal.SIGKILL and died.traceback == ""


def test_a_function_that_disables_faulthandler_still_crashes(executor):
    died = death_of(executor, functions.crash_without_faulthandler)
    assert died.signal == signal.SIGSEGV and died.traceback == "" and died.backtrace


def test_faulthandler_of_the_program():
    program = (
        "import libtine, functions\n"
        "with libtine.ProcessPoolExecutor(1) as executor:\n"
        "    died = executor.submit(functions.crash).exception(60)\n"
        "    assert 'in crash' in died.traceback and died.backtrace, died\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-X", "faulthandler", "-c", program], env=environment, check=True, timeout=120)
