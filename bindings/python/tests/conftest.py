"""What several files of tests use: a library of C++ functions, and pools whose workers have it."""

import os
import subprocess
from pathlib import Path

import pytest

from libtine import foreign

HERE = Path(__file__).parent / "foreign"


def flags(*what):
    return subprocess.run(["pkg-config", *what, "tine"], check=True, capture_output=True, text=True).stdout.split()


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """C++ functions that workers load. They find tine in whatever loads them."""
    path = tmp_path_factory.mktemp("foreign") / "functions.so"
    compiler = [os.environ.get("CXX", "g++"), "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
    subprocess.run([*compiler, *flags("--cflags"), str(HERE / "functions.cc"), "-o", str(path)], check=True)
    return str(path)


@pytest.fixture(scope="module", params=["forkserver", "spawn"])
def native(request, library):
    with foreign.Pool(2, [library], start=request.param) as pool:
        yield pool
