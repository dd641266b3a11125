"""CPython's own tests of multiprocessing, with libtine's classes in the place of multiprocessing's.

What test._test_multiprocessing calls `multiprocessing` is a module of the same names here: those of libtine's context,
and the rest as it was. Processes that the tests start import this module, and so do the same.
"""

import multiprocessing
import multiprocessing.connection
import multiprocessing.managers
import multiprocessing.pool
import multiprocessing.process
import multiprocessing.queues
import multiprocessing.synchronize
import types
import unittest

from test import _test_multiprocessing as tests

import libtine.connection
import libtine.context
import libtine.queues
import libtine.shared_memory
import libtine.sharedctypes
import libtine.synchronize

context = libtine.context.get_context("forkserver")
context.set_forkserver_preload([__name__])  # functions of the tests' own module are not found by way of this one

# What context, process, synchronize, queues, connection, sharedctypes and shared_memory are tested by.
CLASSES = [
    "_TestProcess",
    "_TestSubclassingProcess",
    "_TestQueue",
    "_TestLock",
    "_TestSemaphore",
    "_TestCondition",
    "_TestEvent",
    "_TestBarrier",
    "_TestValue",
    "_TestArray",
    "_TestConnection",
    "_TestPoll",
    "_TestPicklingConnections",
    "_TestSharedCTypes",
    "_TestSharedMemory",
    "_TestPollEintr",
    "TestSimpleQueue",
    "TestWait",
    "TestTimeouts",
    "TestIgnoreEINTR",
    "TestCloseFds",
    "TestForkAwareThreadLock",
    "OtherTest",
    "TestInvalidHandle",
]

LOCKS = ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Barrier"]
VALUES = ["Value", "Array", "RawValue", "RawArray"]
CALLED = [*LOCKS, *VALUES, "Queue", "JoinableQueue", "SimpleQueue", "Pipe"]
NAMES = ["Process", *CALLED, "cpu_count", "get_start_method"]


def _swapped() -> types.ModuleType:
    module = types.ModuleType("multiprocessing")
    module.__dict__.update(multiprocessing.__dict__)
    for name in NAMES:
        setattr(module, name, getattr(context, name))
    module.get_context = lambda method=None: libtine.context.get_context(method)
    for name in ("queues", "connection", "synchronize", "sharedctypes"):
        swapped = types.ModuleType(f"multiprocessing.{name}")
        swapped.__dict__.update(getattr(multiprocessing, name).__dict__)
        swapped.__dict__.update({key: value for key, value in vars(getattr(libtine, name)).items() if key[0] != "_"})
        setattr(module, name, swapped)
    return module


tests.multiprocessing = swapped = _swapped()
tests.Value, tests.copy = libtine.sharedctypes.Value, libtine.sharedctypes.copy
tests.shared_memory = libtine.shared_memory


class _Names(tests.BaseMixin):
    TYPE = "processes"
    Process = context.Process
    connection = swapped.connection
    current_process = staticmethod(multiprocessing.current_process)
    parent_process = staticmethod(multiprocessing.parent_process)
    active_children = staticmethod(multiprocessing.active_children)
    set_executable = staticmethod(multiprocessing.set_executable)
    for _name in CALLED:
        locals()[_name] = staticmethod(getattr(context, _name))
    del _name


for _name in CLASSES:
    _base = getattr(tests, _name)
    if issubclass(_base, unittest.TestCase):
        _case = type(_name, (_base,), {})
    else:
        _case = type(_name, (_base, _Names, unittest.TestCase), {})
    _case.__module__ = __name__
    globals()[_name] = _case
del _base, _case, _name
