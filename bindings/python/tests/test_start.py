"""How programs start pools: from files, -c, standard input, modules, archives; and what an interrupt does."""

import os
import signal
import subprocess
import sys
import textwrap
import time
import zipapp

import pytest

PATH = os.pathsep.join(sys.path)


def run(*arguments, **options):
    environment = {**os.environ, "PYTHONPATH": PATH}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=120, **options
    )


PROGRAM = """
import libtine

def double(n):
    return 2 * n

if __name__ == "__main__":
    with libtine.ProcessPoolExecutor(2) as executor:
        print(list(executor.map(double, range(4))))
"""


def test_a_file(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    assert run(str(tmp_path / "program.py")).stdout == "[0, 2, 4, 6]\n"


def test_a_module(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    assert run("-m", "program", cwd=tmp_path).stdout == "[0, 2, 4, 6]\n"


def test_an_archive(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "__main__.py").write_text("import program\nprogram.main()\n")
    (tmp_path / "source" / "program.py").write_text(PROGRAM.replace('if __name__ == "__main__":', "def main():"))
    zipapp.create_archive(tmp_path / "source", tmp_path / "program.pyz")
    assert run(str(tmp_path / "program.pyz")).stdout == "[0, 2, 4, 6]\n"


@pytest.mark.parametrize("way", ["-c", "-"])
def test_what_is_typed_in(way):
    result = run("-c", PROGRAM) if way == "-c" else run("-", input=PROGRAM)
    assert result.stdout == "[0, 2, 4, 6]\n", result.stderr


def test_what_is_typed_in_without_cloudpickle():
    program = "import sys; sys.modules['cloudpickle'] = None\n" + PROGRAM
    result = run("-c", program)
    assert result.returncode and "install cloudpickle" in result.stderr


def test_no_guard_is_needed_for_functions_of_modules(tmp_path):
    (tmp_path / "program.py").write_text(
        "import libtine\nwith libtine.Pool(2) as pool:\n    print(pool.map(abs, [-1, 2]))\n"
    )
    assert run(str(tmp_path / "program.py")).stdout == "[1, 2]\n"


def test_a_missing_guard_is_named(tmp_path):
    program = PROGRAM.replace('if __name__ == "__main__":', "if True:")
    (tmp_path / "program.py").write_text(program)
    result = run(str(tmp_path / "program.py"))
    assert result.returncode and '`if __name__ == "__main__":`' in result.stderr


INTERRUPTED = """
    import signal, sys, time
    import libtine

    with libtine.{kind}(1) as pool:
        pool.{call}(time.sleep, {zero}){get}
        print("waiting", flush=True)
        try:
            pool.{call}(time.sleep, {long}){get}
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        print(sum(pool.map(abs, range(-3, 1))), flush=True)
"""


@pytest.mark.parametrize("kind", ["ProcessPoolExecutor", "Pool"])
def test_an_interrupt_ends_waiting_and_leaves_a_usable_pool(kind):
    executor = kind == "ProcessPoolExecutor"
    program = textwrap.dedent(INTERRUPTED).format(
        kind=kind,
        call="submit" if executor else "apply_async",
        zero="0" if executor else "(0,)",
        long="3" if executor else "(3,)",
        get=".result()" if executor else ".get()",
    )
    environment = {**os.environ, "PYTHONPATH": PATH}
    # A session of its own, as a terminal's foreground job: the workers get the signal, too.
    process = subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout.readline() == "waiting\n"
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=60)[0] == "interrupted\n6\n"
    assert process.returncode == 0
