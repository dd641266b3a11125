"""The end of an executor, beside whatever else happens."""

import operator
import subprocess
import sys
import textwrap
import threading

import pytest

import libtine


def test_an_executor_that_has_been_dropped_is_waited_for_at_the_end(tmp_path):
    (tmp_path / "armed.py").write_text(
        "import time, multiprocessing.util\n"
        "def late(path):\n    time.sleep(0.5)\n    open(path, 'w').close()\n"
        "def arm(path):\n    multiprocessing.util.Finalize(None, late, (path,), exitpriority=1)\n"
    )
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
        import armed, libtine, os
        late = os.path.join(os.path.dirname(__file__), "late")
        call = libtine.ProcessPoolExecutor(1).submit(armed.arm, late)
        call.result()
        del call
    """)
    )
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "late").exists()


class Ending:
    """Has an executor shut down by another thread when it is pickled."""

    def __init__(self, thread):
        self.thread = thread

    def __reduce__(self):
        self.thread.start()
        return int, ()


def test_an_interrupt_beside_a_shutdown_leaves_nobody_waiting():
    executor = libtine.ProcessPoolExecutor(1)
    executor.submit(int).result()
    ending = threading.Thread(target=executor.shutdown, daemon=True)

    def interrupt(frame, event, _argument):
        if frame.f_code.co_name == "submitted":
            raise KeyboardInterrupt

    sys.settrace(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            executor.submit(operator.is_, Ending(ending), bytes(200 << 20))
    finally:
        sys.settrace(None)
    ending.join(30)
    assert not ending.is_alive()
