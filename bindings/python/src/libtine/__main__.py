"""`python -m libtine`: versions, start methods, and what this machine allows."""

from __future__ import annotations

import os
import platform
import resource
import sys

from . import ProcessPoolExecutor, __version__, version
from ._engine import START_METHODS


def _limit(name: int) -> str:
    soft, hard = resource.getrlimit(name)
    return " of ".join("unlimited" if value == resource.RLIM_INFINITY else str(value) for value in (soft, hard))


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return "unknown"


def main() -> None:
    rows = [
        ("libtine", __version__),
        ("library", version()),
        ("Python", f"{platform.python_version()}, {sys.executable}"),
        ("kernel", f"{platform.system()} {platform.release()}, {platform.machine()}"),
        ("start methods", f"{', '.join(START_METHODS)}; {next(iter(START_METHODS))} is the default"),
        ("processors", f"{len(os.sched_getaffinity(0))} of {os.cpu_count()}, which is how many workers a pool has"),
        ("cgroup's processor quota", _read("/sys/fs/cgroup/cpu.max")),
        ("cgroup's memory limit", _read("/sys/fs/cgroup/memory.max")),
        ("descriptors", _limit(resource.RLIMIT_NOFILE)),
        ("processes", _limit(resource.RLIMIT_NPROC)),
        ("address space", _limit(resource.RLIMIT_AS)),
    ]
    for name in ("numpy", "cloudpickle", "joblib", "tqdm"):
        try:
            rows.append((name, __import__(name).__version__))
        except ImportError:
            rows.append((name, "not installed"))
    with ProcessPoolExecutor(1) as executor:
        rows.append(("a pool", "works" if executor.submit(abs, -1).result() == 1 else "does not work"))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:{width}}  {value}")


if __name__ == "__main__":
    main()
