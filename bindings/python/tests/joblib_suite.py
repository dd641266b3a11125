"""joblib's own tests of Parallel, from its wheel, with libtine's backend in place of its default one.

    python joblib_suite.py [--long]

Without --long it takes a sample. It says of each test that does not pass why not.
"""

from __future__ import annotations

import os
import sys
from multiprocessing.context import BaseContext
from typing import Any

import joblib
import joblib.parallel
import pytest

import libtine.joblib

OWN_CLASS = "asks for joblib's own class"
NO_MEMMAP = "asks for numpy's memmap in a folder: arrays come through the pool's heap"
# By the test, or by one of its cases.
DIFFERENT: dict[str, str] = {
    "test_nested_loop[back_compat_backend-tine]": "a worker of joblib's own has not imported libtine.joblib",
    "test_backend_context_manager[parallel_backend-loky]": OWN_CLASS,
    "test_backend_context_manager[parallel_config-loky]": OWN_CLASS,
    "test_backend_hinting_and_constraints": OWN_CLASS,
    "test_nested_parallelism_limit": OWN_CLASS,
    "test_auto_memmap_on_arrays_from_generator": NO_MEMMAP,
    "test_memmapping_leaks": NO_MEMMAP,
    "test_initializer_reused": "asks for the workers of the call before: each call has workers of its own",
    "test_multiple_generator_call_separated_gc": "asks for an error: joblib's calls share workers, these do not",
}
SAMPLE = "test_parallel_pickling or test_error_capture or test_batching_auto or test_mutate_input"


class NONE:
    params: dict[str, Any] = {}  # noqa: RUF012


def is_other(value: Any) -> bool:
    if isinstance(value, joblib.parallel.ParallelBackendBase):
        return not isinstance(value, libtine.joblib.TineBackend)
    if isinstance(value, type) and issubclass(value, joblib.parallel.ParallelBackendBase):
        return not issubclass(value, libtine.joblib.TineBackend)
    if isinstance(value, BaseContext):  # a pool of multiprocessing's own
        return True
    return value in ("multiprocessing", "threading", "sequential") if isinstance(value, str) else False


class Report:
    def __init__(self) -> None:
        self.passed = 0
        self.failed: list[str] = []
        self.skipped = 0

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Leaves out what is about joblib's other backends."""
        items[:] = [item for item in items if not any(map(is_other, getattr(item, "callspec", NONE).params.values()))]

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.failed.append(report.nodeid.split("::")[-1])
        elif report.when == "call" and report.passed:
            self.passed += 1
        elif report.skipped:
            self.skipped += 1


def main() -> None:
    joblib.parallel.BACKENDS["loky"] = libtine.joblib.TineBackend
    path = os.path.join(os.path.dirname(joblib.__file__), "test", "test_parallel.py")
    report = Report()
    choice = [] if "--long" in sys.argv else ["-k", SAMPLE]
    pytest.main([path, "-q", "-p", "no:cacheprovider", "--tb=short", *choice], plugins=[report])
    unexpected = []
    for name in report.failed:
        reason = DIFFERENT.get(name) or DIFFERENT.get(name.split("[")[0])
        print(f"joblib: {name}: {reason or 'FAILED'}")
        if reason is None:
            unexpected.append(name)
    total = report.passed + len(report.failed)
    print(f"joblib: {report.passed} of {total} passed, {report.skipped} skipped by joblib")
    print(f"{report.passed} passed, {len(unexpected)} failed")
    sys.exit(bool(unexpected) or not report.passed)


if __name__ == "__main__":
    main()
