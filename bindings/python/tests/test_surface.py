"""The names of multiprocessing and concurrent.futures, what they take, and what they say of themselves."""

import concurrent.futures
import inspect
import multiprocessing
import multiprocessing.connection
import multiprocessing.pool
import multiprocessing.queues
import multiprocessing.shared_memory
import multiprocessing.sharedctypes
import multiprocessing.synchronize
import subprocess
import sys
import textwrap

import pytest

import libtine
import libtine.executor
import libtine.shared_memory

FORKSERVER = multiprocessing.get_context("forkserver")

PAIRS = [
    (concurrent.futures.ProcessPoolExecutor, libtine.ProcessPoolExecutor),
    (concurrent.futures.Future, libtine.executor.Future),
    (type(FORKSERVER), type(libtine.get_context("forkserver"))),
    (FORKSERVER.Process, libtine.Process),
    (multiprocessing.connection.Connection, libtine.Connection),
    *((getattr(multiprocessing.pool, name), getattr(libtine.pool, name)) for name in ("Pool", "AsyncResult")),
    *(
        (getattr(multiprocessing.synchronize, name), getattr(libtine, name))
        for name in multiprocessing.synchronize.__all__
    ),
    *((getattr(multiprocessing.queues, name), getattr(libtine, name)) for name in multiprocessing.queues.__all__),
    *(
        (getattr(multiprocessing.shared_memory, name), getattr(libtine.shared_memory, name))
        for name in multiprocessing.shared_memory.__all__
    ),
]


def parameters(function):
    """Names, kinds and defaults; ctx is between multiprocessing's own classes."""
    found = inspect.signature(function).parameters.values()
    return [(each.name, each.kind, each.default) for each in found if each.name != "ctx"]


def same(ours, theirs):
    """What is libtine's own is asked for by name. Defaults may be said in another way: kwds={} is kwds=None."""
    names = {each[0] for each in theirs}
    ours = [each for each in ours if each[0] in names or each[1] is not inspect.Parameter.KEYWORD_ONLY]
    return len(ours) == len(theirs) and all(
        one[:2] == other[:2] and (one[2] == other[2] or not (one[2] or other[2])) for one, other in zip(ours, theirs)
    )


@pytest.mark.parametrize("theirs, ours", PAIRS, ids=lambda cls: cls.__qualname__)
def test_members_take_the_same(theirs, ours):
    assert inspect.getdoc(ours)
    if "Future" not in ours.__name__ and ours.__name__ != "AsyncResult":
        assert same(parameters(ours), parameters(theirs)), (inspect.signature(ours), inspect.signature(theirs))
    names = {name for name in dir(theirs) if not name.startswith("_")} | {"__enter__", "__exit__", "__class_getitem__"}
    names -= {"Process"}  # of Pool, by which multiprocessing's makes its workers
    for name in sorted(names & set(dir(theirs))):
        one, other = getattr(ours, name), getattr(theirs, name)
        if isinstance(one, property):
            assert isinstance(other, property), name
        elif callable(other) and name[0] != "_" and not isinstance(other, type):
            assert inspect.getdoc(one) or not inspect.getdoc(other), name
            assert same(
                [each for each in parameters(one) if each[0] != "self"],
                [each for each in parameters(other) if each[0] != "self"],
            ), (name, inspect.signature(one), inspect.signature(other))


def test_modules_have_the_same_names():
    assert not [name for name in multiprocessing.__all__ if not hasattr(libtine, name)]
    for name in ("synchronize", "queues", "connection", "sharedctypes", "shared_memory", "pool", "process"):
        theirs, ours = getattr(multiprocessing, name), getattr(libtine, name)
        assert not [each for each in theirs.__all__ if not hasattr(ours, each)], name


def run(program):
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done
    return done.stdout


def test_native_types_without_arguments():
    """Each says what is wrong, and no object comes about that was not made."""
    said = run(
        """
        import libtine.foreign
        from libtine import _native
        for name, one in vars(_native).items():
            if isinstance(one, type) and not issubclass(one, BaseException):
                for make in (one, lambda: one.__new__(one), lambda: object.__new__(one)):
                    try:
                        print(name, make())
                    except (TypeError, libtine.TineError):
                        print(name)
        """
    ).split()
    assert {"Memory", "Channel", "Segment", "Mutex", "Queue", "Pool", "NamedPool", "Process"} <= set(said)
    assert len(said) == 3 * len(set(said))
    for kind in (type(libtine._native.channel_pair()[0]), libtine._native.Memory):
        with pytest.raises(TypeError, match=f"{kind.__name__}'> cannot be made by calling it"):
            kind()


@pytest.mark.parametrize("first", ["", "import libtine"])
def test_subinterpreters_are_refused(first):
    """Whether the main interpreter has libtine already, or not."""
    inner = "try:\n    import libtine\nexcept ImportError as error:\n    print(error, flush=True)\n"
    said = run(
        f"""
        {first}
        try:
            import _interpreters
        except ImportError:
            import _xxsubinterpreters as _interpreters
        try:
            one = _interpreters.create("legacy")
        except TypeError:
            one = _interpreters.create(isolated=False)
        _interpreters.run_string(one, {inner!r})
        import libtine
        print(libtine.Lock().acquire())
        """
    )
    assert said == "libtine works in the main interpreter only, and this is subinterpreter 1\nTrue\n"
