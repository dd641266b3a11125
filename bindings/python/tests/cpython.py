"""CPython's own tests of its pools, with the classes swapped for libtine's.

    python cpython.py [--long]

Without --long it takes a sample. It counts what passed, and says of each test that does not pass why not: only those on
the list of what differs on purpose may fail. Some CPythons are installed without some of their tests.
"""

# mypy: ignore-errors

from __future__ import annotations

import importlib
import sys
import unittest
from typing import Any

import libtine
import libtine.pool

FORK = "start method fork is refused"
GOES_ON = "expects the death of one worker to break the executor"
DIFFERENT = {
    "test_concurrent_futures": {
        "test_max_tasks_per_child_defaults_to_spawn_context": "max_tasks_per_child does not change the start method",
        "test_python_finalization_error": "mocks a thread that libtine does not start",
        "test_killed_child": GOES_ON + ": a call that had not begun runs in another worker",
        "test_saturation": "counts workers for calls that cannot be pickled",
        "test_processes_terminate": "counts workers for calls that cannot be pickled",
        "test_cancel_futures": "expects one call to have begun; all that no worker has begun are cancelled",
    },
    "_test_multiprocessing": {
        "test_unpickleable_result": "cloudpickle is installed, with which the result can be pickled",
    },
}
SAMPLE = {
    "test_concurrent_futures": [
        "test_submit",
        "test_map",
        "test_map_exception",
        "test_traceback",
        "test_free_reference",
    ],
    "_test_multiprocessing": [
        *("test_apply", "test_map", "test_starmap", "test_imap", "test_imap_unordered", "test_map_async_callbacks"),
        *("test_enter", "test_context", "test_traceback", "test_map_unplicklable", "test_resource_warning"),
        *("test_pool_maxtasksperchild_invalid", "test_unpickleable_result", "test_release_task_refs"),
    ],
}


def swap() -> None:
    import concurrent.futures
    import concurrent.futures.process

    for module in (concurrent.futures, concurrent.futures.process):
        module.ProcessPoolExecutor = libtine.ProcessPoolExecutor


def swap_pool() -> None:
    import multiprocessing.context
    import multiprocessing.pool

    def make_pool(
        _context: Any, processes: Any = None, initializer: Any = None, initargs: Any = (), maxtasksperchild: Any = None
    ) -> libtine.Pool:
        return libtine.Pool(processes, initializer, initargs, maxtasksperchild)

    multiprocessing.context.BaseContext.Pool = make_pool
    multiprocessing.pool.Pool = libtine.Pool


def executor_tests() -> list[type[unittest.TestCase]]:
    package = importlib.import_module("test.test_concurrent_futures")
    if hasattr(package, "__path__"):
        names = ["process_pool", "shutdown", "init", "wait", "as_completed", "deadlock"]
        modules = [importlib.import_module(f"{package.__name__}.test_{name}") for name in names]
    else:
        modules = [package]
    return [
        case
        for module in modules
        for name, case in vars(module).items()
        if isinstance(case, type) and issubclass(case, unittest.TestCase) and name.startswith(("ProcessPool", "Fork"))
        if "Fork" not in name or "Forkserver" in name
    ]


# Made here, since workers look for these classes in this module.
try:
    from test import _test_multiprocessing as pool_module

    class Pools(pool_module._TestPool, pool_module.ProcessesMixin, unittest.TestCase):
        pass

    class PoolErrors(pool_module._TestPoolWorkerErrors, pool_module.ProcessesMixin, unittest.TestCase):
        pass

    class PoolLifetimes(pool_module._TestPoolWorkerLifetime, pool_module.ProcessesMixin, unittest.TestCase):
        pass
except ModuleNotFoundError:
    pass


def pool_tests() -> list[type[unittest.TestCase]]:
    import multiprocessing

    importlib.import_module("test._test_multiprocessing")
    swap_pool()
    multiprocessing.set_start_method("spawn", force=True)
    multiprocessing.Pool = multiprocessing.get_context().Pool
    Pools.Pool = staticmethod(multiprocessing.get_context().Pool)
    return [Pools, PoolErrors, PoolLifetimes]


def suite(cases: list[type[unittest.TestCase]], module: str, long: bool) -> unittest.TestSuite:
    tests = unittest.TestSuite()
    for case in cases:
        for name in unittest.defaultTestLoader.getTestCaseNames(case):
            if long or name in SAMPLE[module]:
                tests.addTest(case(name))
    return tests


def run(module: str, cases: list[type[unittest.TestCase]], long: bool) -> tuple[int, int]:
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite(cases, module, long))
    known = DIFFERENT[module]
    bad = {getattr(case, "_testMethodName", str(case)): text for case, text in [*result.failures, *result.errors]}
    skipped = len(result.skipped)
    passed = result.testsRun - skipped - len(result.failures) - len(result.errors)
    for name in bad:
        print(f"{module}: {name}: {known.get(name, 'FAILED')}")
    unexpected = [name for name in bad if name not in known]
    ran = result.testsRun - skipped
    print(f"{module}: {passed} of {ran} passed, {skipped} skipped by CPython; of {len(bad)} names not all")
    return passed, len(unexpected)


def main() -> None:
    long = "--long" in sys.argv
    swap()
    from test import support

    support.use_resources = ["walltime", "cpu"]
    passed = failed = 0
    for module, cases in (("test_concurrent_futures", executor_tests), ("_test_multiprocessing", pool_tests)):
        try:
            found = cases()
        except ModuleNotFoundError as error:
            print(f"not tested: {module}: this CPython has no {error.name}")
            continue
        more = run(module, found, long)
        passed, failed = passed + more[0], failed + more[1]
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
