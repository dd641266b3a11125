"""Named memory: found by its name while its maker lives, kept by whoever has it, and never left behind."""

import os
import pickle
import subprocess
import sys

import family
import numpy
import pytest

from libtine.shared_memory import ShareableList, SharedMemory

NAME = f"tine-test-{os.getpid()}"


def test_names():
    block = SharedMemory(NAME, create=True, size=1000)
    assert block.name == NAME and block.size == 1000 and len(block.buf) == 1000
    assert repr(block) == f"SharedMemory({NAME!r}, size=1000)"
    with pytest.raises(FileExistsError):
        SharedMemory(NAME, create=True, size=1)
    other = SharedMemory(NAME)
    other.buf[:3] = b"abc"
    assert bytes(block.buf[:3]) == b"abc" and other.size == 1000
    block.close()
    assert block.buf is None
    third = SharedMemory(name=NAME)  # the name stays
    assert bytes(third.buf[:3]) == b"abc"
    other.unlink()
    assert bytes(other.buf[:3]) == b"abc"
    for call in (block.unlink, lambda: SharedMemory(NAME)):
        with pytest.raises(FileNotFoundError):
            call()
    again = SharedMemory(NAME, create=True, size=5)
    assert bytes(again.buf) == bytes(5)
    again.unlink()


def test_bad_arguments():
    for arguments in ({"size": -1, "create": True}, {"create": True}, {}, {"name": "a\0b"}):
        with pytest.raises(ValueError):
            SharedMemory(**arguments)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        SharedMemory("nowhere")


def test_views_keep_the_memory():
    block = SharedMemory(create=True, size=8 * 1000)
    array = numpy.frombuffer(block.buf, dtype="q")
    block.close()
    block.unlink()
    array[999] = 7
    del block
    assert array[999] == 7


def run(text, *arguments):
    program = subprocess.Popen(
        [sys.executable, "-c", text, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    return program


MAKE = """
import sys
from libtine.shared_memory import SharedMemory
block = SharedMemory(sys.argv[1], create=True, size=10)
block.buf[:2] = b"hi"
print(block.name, flush=True)
sys.stdin.read()
"""


def test_the_name_ends_with_its_maker_and_the_memory_with_its_last_user():
    maker = run(MAKE, NAME + "-other")
    assert maker.stdout.readline() == f"{NAME}-other\n"
    block = SharedMemory(NAME + "-other")
    assert not family.uses_files_in_shm(maker.pid)
    assert bytes(block.buf[:2]) == b"hi"
    copy = pickle.loads(pickle.dumps(block))
    maker.kill()
    maker.wait()
    with pytest.raises(FileNotFoundError):
        SharedMemory(NAME + "-other")
    assert bytes(copy.buf[:2]) == b"hi"
    own = SharedMemory(NAME + "-other", create=True, size=1)  # the name is free
    own.unlink()


def test_only_one_maker_of_a_name():
    makers = [run(MAKE, NAME + "-race") for _ in range(4)]
    said = [maker.communicate("")[0] if maker.stdout.readline() == "" else "made" for maker in makers]
    for maker in makers:
        maker.stdin.close()
        maker.wait()
    assert said.count("made") == 1


def test_list():
    items = ["text", b"bytes", -1.5, 100, None, True]
    shared = ShareableList(items)
    same = ShareableList(name=shared.shm.name)
    assert list(same) == items and len(same) == 6 and same.index(100) == 3
    same[3] = 42
    assert shared[3] == 42 and pickle.loads(pickle.dumps(shared))[3] == 42
    assert "ShareableList" in repr(shared)
    with pytest.raises(ValueError, match="exceeds"):
        shared[0] = "far too long for it"
    shared.shm.unlink()
    with pytest.raises(FileNotFoundError):
        ShareableList(name=shared.shm.name)
