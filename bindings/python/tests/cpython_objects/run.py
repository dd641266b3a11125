"""Runs CPython's own tests against libtine: how many of each class pass, and why the others do not.

    python run.py [--long] [class ...]

Each class has a process of its own, which is ended when it takes too long. What is known to fail is in expected.py with
its reason; a failure that is not there fails the run, and so does a pass of what is.
"""

import importlib.util
import os
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
LIMIT_SECONDS = 300
# What a smoke leaves out, since it takes long.
LONG = (
    "_TestSharedMemory",
    "_TestProcess",
    "_TestCondition",
    "_TestBarrier",
    "TestWait",
    "_TestQueue",
    "TestIgnoreEINTR",
)


class _Report(unittest.TextTestResult):
    def _say(self, test, outcome, detail=""):
        print(f"RESULT {test.id().rpartition('.')[2]} {outcome} {detail}", flush=True)

    def startTest(self, test):
        super().startTest(test)
        self._say(test, "began")

    def addSuccess(self, test):
        self._say(test, "passed")

    def addSkip(self, test, reason):
        self._say(test, "skipped", reason)

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self._say(test, "failed", f"{error[0].__name__}: {str(error[1])[:200]}".replace("\n", " "))

    addError = addFailure

    def addSubTest(self, test, subtest, error):
        if error is not None:
            self.addFailure(test, error)


def run_class(name):
    import multiprocessing_swapped as module

    suite = unittest.defaultTestLoader.loadTestsFromTestCase(getattr(module, name))
    unittest.TextTestRunner(resultclass=_Report, verbosity=0).run(suite)


def outcomes_of(name, show):
    command = [sys.executable, "-W", "ignore", os.path.abspath(__file__), "--class", name]
    child = subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        output, errors = child.communicate(timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        output, errors = child.communicate()
    if show:
        print(errors)
    outcomes = {}
    for line in output.splitlines():
        if line.startswith("RESULT "):
            _word, test, outcome, detail = (line + " ").split(" ", 3)
            if outcome == "passed" and outcomes.get(test, ("began",))[0] != "began":
                continue  # a part of it has failed
            outcomes[test] = (outcome, detail.strip())
    return {test: ("hung", "") if outcome[0] == "began" else outcome for test, outcome in outcomes.items()}


def main():
    arguments = sys.argv[1:]
    if arguments[:1] == ["--class"]:
        run_class(arguments[1])
        return 0
    if importlib.util.find_spec("test._test_multiprocessing") is None:
        print(f"{sys.executable} was installed without its tests: 0 of 0 passed")
        return 0
    import multiprocessing_swapped as module
    from expected import EXPECTED

    whole = "--long" in arguments
    names = [name for name in arguments if not name.startswith("-")]
    names = names or [name for name in module.CLASSES if whole or name not in LONG]
    wrong = 0
    total = passed_in_all = 0
    for name in names:
        outcomes = outcomes_of(name, "--errors" in arguments)
        counted = {test: outcome for test, outcome in outcomes.items() if outcome[0] != "skipped"}
        passed = [test for test, outcome in counted.items() if outcome[0] == "passed"]
        print(f"{name}: {len(passed)} of {len(counted)} passed, {len(outcomes) - len(counted)} skipped", flush=True)
        total += len(counted)
        passed_in_all += len(passed)
        if not outcomes:
            print("  nothing ran")
            wrong += 1
        for test, (outcome, detail) in counted.items():
            reason = EXPECTED.get(f"{name}.{test}")
            if outcome != "passed":
                print(f"  {outcome}: {test}: {reason or 'UNEXPECTED: ' + detail}")
            elif reason:
                print(f"  passed, though expected to fail: {test}")
            wrong += (outcome != "passed") != (reason is not None)
    print(f"CPython's tests: {passed_in_all} of {total} passed, {wrong} not as expected")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
