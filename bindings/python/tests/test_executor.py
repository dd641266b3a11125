"""The executor: what concurrent.futures promises, and what it does not."""

import asyncio
import concurrent.futures
import gc
import multiprocessing
import multiprocessing.pool
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures.process import BrokenProcessPool

import functions
import pytest

import libtine
from libtine import _calls, _engine, _settling, _timeout

HANG_SECONDS = 30


@pytest.fixture
def executor():
    with libtine.ProcessPoolExecutor(2) as executor:
        yield executor


def result(future):
    return future.result(timeout=HANG_SECONDS)


def error_of(future):
    return future.exception(timeout=HANG_SECONDS)


def test_submit(executor):
    future = executor.submit(functions.add, 2, b=3)
    assert isinstance(future, concurrent.futures.Future)
    assert result(future) == 5
    assert future.done() and not future.cancelled()


def test_calls_run_in_other_processes(executor):
    pids = {result(executor.submit(functions.pid)) for _ in range(20)}
    assert os.getpid() not in pids and len(pids) <= 2


def test_map(executor):
    assert list(executor.map(functions.add, range(100), range(100))) == [2 * i for i in range(100)]
    assert list(executor.map(functions.add, range(100), chunksize=7)) == list(range(100))
    assert list(executor.map(functions.add, range(100), buffersize=3)) == list(range(100))
    assert list(executor.map(functions.add, [])) == []


def test_map_draws_no_more_than_its_buffer(executor):
    drawn = []

    def draw():
        for i in range(100):
            drawn.append(i)
            yield i

    results = executor.map(functions.add, draw(), buffersize=4)
    assert next(results) == 0
    assert len(drawn) <= 5
    assert list(results) == list(range(1, 100))


@pytest.mark.parametrize("chunksize", [1, 3])
def test_map_whose_buffer_is_filled_after_shutdown_says_so(chunksize):
    with libtine.ProcessPoolExecutor(1) as executor:
        results = executor.map(abs, range(100), buffersize=2, chunksize=chunksize)
        complete = executor.map(abs, range(2 * chunksize), buffersize=2, chunksize=chunksize)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        list(results)
    assert list(complete) == list(range(2 * chunksize))  # nothing of it was left to be sent


def test_map_draws_while_another_thread_shuts_down():
    executor = libtine.ProcessPoolExecutor(1)

    def items():
        yield 1
        executor.shutdown(wait=False)
        yield 2

    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.map(abs, items())


def test_map_timeout(tmp_path):
    """A call that has begun runs on, and whoever ends the executor waits for it."""
    with libtine.ProcessPoolExecutor(2) as executor:
        results = executor.map(functions.keep_until, [0, 1], [str(tmp_path / "go")] * 2, timeout=0.2)
        with pytest.raises(concurrent.futures.TimeoutError):
            next(results)
        (tmp_path / "go").touch()


def test_bad_arguments(executor):
    for bad in (0, -1):
        with pytest.raises(ValueError):
            libtine.ProcessPoolExecutor(bad)
        with pytest.raises(ValueError):
            executor.map(functions.add, [1], chunksize=bad)
    with pytest.raises(TypeError):
        libtine.ProcessPoolExecutor(1, initializer=1)
    with pytest.raises(ValueError, match="fork"):
        libtine.ProcessPoolExecutor(1, mp_context="fork")


def test_exception_has_remote_traceback(executor):
    error = error_of(executor.submit(functions.raise_error, ValueError("seven")))
    assert isinstance(error, ValueError) and error.args == ("seven",)
    assert "in raise_error" in str(error.__cause__)


def test_exception_that_cannot_be_read_fails_its_own_call(executor):
    error = error_of(executor.submit(functions.raise_unreadable))
    assert "Unreadable" in str(error) and "cannot be sent" in str(error)
    assert result(executor.submit(functions.add, 1)) == 1


@pytest.mark.parametrize("where", ["everywhere", "in the host"])
def test_an_exception_that_is_read_as_something_else_fails_its_own_call(executor, where):
    for error in [error_of(executor.submit(functions.raise_rebuilt, where)), *errors_of_chunk(where)]:
        assert re.search("cannot be (sent|read): TypeError", str(error))
    assert result(executor.submit(functions.add, 1)) == 1


def errors_of_chunk(where):
    with libtine.Pool(1) as pool:
        results = pool.imap(functions.raise_rebuilt, [where] * 5, 5)
        for _ in range(5):
            with pytest.raises(Exception) as caught:
                results.next(HANG_SECONDS)
            yield caught.value


def test_an_exception_that_cannot_be_changed_arrives(executor):
    error = error_of(executor.submit(functions.raise_frozen, 5))
    assert error == functions.Frozen(5) and "in raise_frozen" in str(error.__cause__)
    with libtine.Pool(1) as pool:
        for each in (pool.apply_async(functions.raise_frozen, (6,)), pool.map_async(functions.raise_frozen, [6, 7], 2)):
            each.wait(HANG_SECONDS)
            error = each._outcome.error
            assert error == functions.Frozen(6)
            assert isinstance(error.__cause__, multiprocessing.pool.RemoteTraceback)


@pytest.mark.parametrize("function", [functions.give_silent, functions.raise_silent])
def test_an_exception_without_a_text_fails_its_own_call(executor, function):
    assert "<exception str() failed>" in str(error_of(executor.submit(function)))
    for chunksize in (1, 4):
        with pytest.raises(Exception, match=r"<exception str\(\) failed>"):
            next(executor.map(function, range(4), chunksize=chunksize, timeout=HANG_SECONDS))
    unread = executor.submit(functions.echo, functions.NotToBeReadAndSilent())
    assert "<exception str() failed>" in str(error_of(unread))


def test_what_goes_wrong_in_the_engine_settles_the_call(executor, monkeypatch):
    def fail(*_):
        raise MemoryError("in the engine")

    result(executor.submit(functions.add, 1))
    for module in (_engine, _calls):
        monkeypatch.setattr(module, "read", fail)
    monkeypatch.setattr(_engine.errors, "of_status", fail)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    assert "in the engine" in str(error_of(executor.submit(functions.raise_error, KeyError(1))))
    assert "in the engine" in str(error_of(executor.submit(functions.die)))
    for chunksize in (1, 10):
        for function in (functions.die_at_one, functions.reciprocal):
            with pytest.raises(MemoryError, match="in the engine"):
                list(executor.map(function, range(10), chunksize=chunksize, timeout=HANG_SECONDS))


def test_what_cannot_be_pickled_is_named(executor):
    error = error_of(executor.submit(functions.echo, {"a": [1, (i for i in ())]}))
    assert "args[0]['a'][1]: generator" in str(error)
    assert result(executor.submit(functions.add, 1)) == 1


def test_what_cannot_be_pickled_and_has_no_repr_fails_its_own_call(executor):
    for value in ({functions.Nameless(): 1}, {functions.Nameless()}):
        error = error_of(executor.submit(functions.echo, value))
        assert "Nameless" in str(error) and "not to be sent" in str(error)
    assert isinstance(error_of(executor.submit(functions.give_nameless)), Exception)
    assert result(executor.submit(functions.add, 1)) == 1


@pytest.mark.parametrize("large", [False, True])
def test_what_is_one_object_stays_one(executor, large):
    one, again, first, second = result(executor.submit(functions.give_twice, large))
    assert one is again and one["me"] is one
    assert first["both"] is second["both"]
    assert result(executor.submit(functions.echo, (first, second))) == (first, second)


@pytest.mark.parametrize("kind", [bytes, bytearray])
@pytest.mark.parametrize("chunksize", [1, 2])
def test_a_large_object_stays_one_wherever_it_stands(executor, kind, chunksize):
    one, other = kind(5000), kind(b"x" * 5000)
    values = [(one, [one], other), {"a": one, "b": [{"c": one}]}, ([one], one, {one} if kind is bytes else [one])]
    first, second, third = executor.map(functions.echo, values, chunksize=chunksize, timeout=HANG_SECONDS)
    assert (first, second, third) == tuple(values)
    assert first[0] is first[1][0] and first[2] is not first[0] and type(first[0]) is kind
    assert second["a"] is second["b"][0]["c"]
    assert third[0][0] is third[1] is next(iter(third[2]))


def test_closures_travel_where_cloudpickle_is(executor):
    pytest.importorskip("cloudpickle")
    offset = 3
    assert result(executor.submit(lambda x: x + offset, 4)) == 7
    assert result(executor.submit(functions.give_lambda))["callback"]() == 0


def test_dead_worker_costs_its_call(executor):
    others = [executor.submit(functions.sleep, 0.05) for _ in range(20)]
    error = error_of(executor.submit(functions.die))
    assert isinstance(error, libtine.WorkerDied) and isinstance(error, BrokenProcessPool)
    assert error.signal == signal.SIGKILL and error.pid > 0 and error.may_have_run
    assert [result(other) for other in others] == [0.05] * 20
    error = error_of(executor.submit(functions.leave, 7))
    assert isinstance(error, libtine.WorkerDied) and error.exitcode == 7 and error.signal == 0
    assert result(executor.submit(functions.add, 1)) == 1


def test_crash_has_backtrace(executor):
    error = error_of(executor.submit(functions.die, signal.SIGSEGV))
    assert error.signal == signal.SIGSEGV and error.exitcode == -signal.SIGSEGV and error.backtrace


def test_retries():
    with libtine.ProcessPoolExecutor(1, retries=2) as executor:
        error = error_of(executor.submit(functions.die))
        assert isinstance(error, libtine.WorkerDied)
        assert executor.stats()["worker_deaths"] == 3
        assert 'tine_worker_deaths_total{pool="mail \\"box\\""} 3' in executor.stats_text('mail "box"')


def test_deadline():
    with libtine.ProcessPoolExecutor(1, deadline=0.2, grace=0.1) as executor:
        late = executor.submit(functions.sleep_whatever_comes, 60)
        assert isinstance(error_of(late), libtine.DeadlineExceeded)
        assert result(executor.submit_with(functions.sleep, (0.4,), deadline=HANG_SECONDS)) == 0.4


def test_cancel(executor):
    running = [executor.submit(functions.sleep, 60) for _ in range(2)]
    queued = executor.submit(functions.sleep, 60)
    assert queued.cancel() and queued.cancelled()
    for future in running:
        future.cancel()
    assert result(executor.submit(functions.add, 1)) == 1


def test_a_function_may_raise_what_cancelling_raises(executor):
    future = executor.submit(functions.raise_error, concurrent.futures.CancelledError("of the function"))
    assert "of the function" in str(error_of(future))
    assert not future.cancelled()


def test_initializer():
    with libtine.ProcessPoolExecutor(2, initializer=functions.initialize, initargs=("x",)) as executor:
        assert {result(executor.submit(functions.get_initialized)) for _ in range(10)} == {"x"}


def test_failing_initializer_breaks_the_executor():
    with libtine.ProcessPoolExecutor(1, initializer=functions.fail_to_initialize) as executor:
        first = executor.submit(functions.add, 1)
        with pytest.raises(BrokenProcessPool, match="it was not to be"):
            result(first)
        with pytest.raises(BrokenProcessPool):
            executor.submit(functions.add, 1)


@pytest.mark.parametrize("context", [multiprocessing.get_context("spawn"), libtine.get_context()])
def test_what_a_failing_initializer_has_put_arrives(context):
    queue = context.Queue()
    with libtine.ProcessPoolExecutor(1, initializer=functions.put_and_fail, initargs=(queue,)) as executor:
        assert isinstance(error_of(executor.submit(functions.add, 1)), BrokenProcessPool)
        assert queue.get_nowait() == "put"  # by then it is there, as concurrent.futures' own tests ask


@pytest.mark.parametrize(("count", "size"), [(16_500, 1), (20, 100_000)])
@pytest.mark.parametrize("limit", [None, 1])
def test_what_a_leaving_worker_has_put_arrives(count, size, limit):
    """Beyond what the queue holds, and what is too long for it."""
    queue = libtine.Queue()
    executor = libtine.ProcessPoolExecutor(
        1, initializer=functions.initialize, initargs=(queue,), max_tasks_per_child=limit
    )
    future = executor.submit(functions.put_many, count, size)
    executor.shutdown(wait=False)
    assert result(future) is None
    assert [queue.get(timeout=HANG_SECONDS)[0] for _ in range(count)] == list(range(count))


def test_max_tasks_per_child():
    with libtine.ProcessPoolExecutor(1, max_tasks_per_child=1) as executor:
        pids = [result(executor.submit(functions.pid)) for _ in range(4)]
        assert len(set(pids)) == 4


def test_shutdown(executor):
    future = executor.submit(functions.sleep, 0.2)
    executor.shutdown()
    assert future.done() and result(future) == 0.2
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(functions.add, 1)


def test_a_call_that_comes_while_the_executor_ends_settles():
    """After the look whether there are any, and before the pool takes no more."""
    executor = libtine.ProcessPoolExecutor(1)
    assert result(executor.submit(functions.add, 1)) == 1
    engine, native, settled = executor._engine, executor._engine.pool, threading.Event()

    class Late:
        def settle(self, *_):
            settled.set()

    class Ending:
        def __getattr__(self, name):
            return getattr(native, name)

        def shutdown(self, timeout_ns):
            engine.submit(_engine.pickled((functions.add, (2,), {})), Late())
            return native.shutdown(timeout_ns)

    engine._settler._pool = Ending()
    executor.shutdown()
    assert settled.is_set()


def test_shutdown_cancels_futures():
    """Those that wait, and no more: what runs is waited for."""
    executor = libtine.ProcessPoolExecutor(1)
    first = executor.submit(functions.sleep, 0.5)
    rest = [executor.submit(functions.sleep, 60) for _ in range(100)]
    while not first.running():
        time.sleep(0.001)
    executor.shutdown(cancel_futures=True)
    assert first.done() and result(first) == 0.5
    assert all(future.cancelled() for future in rest)


def test_shutdown_does_not_cancel_a_call_that_has_begun_before_it_is_known():
    executor = libtine.ProcessPoolExecutor(1)
    assert result(executor.submit(functions.add, 1)) == 1
    native = executor._engine.pool

    class Slow:
        def __getattr__(self, name):
            return getattr(native, name)

        def submit(self, *arguments):
            task = native.submit(*arguments)
            while not native.has_begun(task[1]):
                time.sleep(0.001)
            executor.shutdown(wait=False, cancel_futures=True)
            return task

    executor._engine.pool = Slow()
    assert result(executor.submit(functions.sleep, 0.2)) == 0.2
    executor.shutdown()


@pytest.mark.parametrize("method", ["kill_workers", "terminate_workers"])
def test_workers_that_are_ended_end_a_chunk(method, tmp_path):
    executor = libtine.ProcessPoolExecutor(1)
    results = executor.map(functions.leave_file_and_sleep, [(str(tmp_path), n) for n in range(10)], chunksize=10)
    while not os.listdir(tmp_path):
        time.sleep(0.001)
    getattr(executor, method)()
    with pytest.raises(libtine.WorkerDied):
        next(results)
    executor._engine.thread.join(HANG_SECONDS)
    assert not executor._engine.thread.is_alive()
    assert os.listdir(tmp_path) == ["0"]


def test_a_pool_that_is_terminated_ends_a_chunk_whose_worker_dies(tmp_path):
    pool = libtine.Pool(1)
    result = pool.map_async(functions.leave_file_and_sleep, [(str(tmp_path), n) for n in range(10)], 10)
    while not os.listdir(tmp_path):
        time.sleep(0.001)
    pool._engine.no_more = True  # as terminate does, before the death is seen
    pool._pool[0].kill()
    with pytest.raises(libtine.WorkerDied):
        result.get(HANG_SECONDS)
    pool.terminate()
    pool.join()
    assert os.listdir(tmp_path) == ["0"]


def test_forgotten_executor_ends():
    executor = libtine.ProcessPoolExecutor(1)
    future = executor.submit(functions.pid)
    pid = result(future)
    thread = executor._engine.thread
    del executor
    gc.collect()
    thread.join(HANG_SECONDS)
    assert not thread.is_alive()
    assert not os.path.exists(f"/proc/{pid}")


def test_asyncio(executor):
    async def go():
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(executor, functions.add, i) for i in range(20)))

    assert asyncio.run(go()) == list(range(20))


def test_multiprocessing_is_imported_when_it_is_asked_for():
    with libtine.ProcessPoolExecutor(1) as executor:
        assert not result(executor.submit(functions.imported, "multiprocessing"))
        with result(executor.submit(functions.say_hello_through_a_socket)) as end:
            assert end.recv(5) == b"hello"
        assert result(executor.submit(functions.imported, "multiprocessing"))
    with libtine.ProcessPoolExecutor(1) as executor:
        assert result(executor.submit(functions.authkey)) == multiprocessing.current_process().authkey


def test_results_do_not_keep_their_executor():
    executor = libtine.ProcessPoolExecutor(1)
    for keywords in ({}, {"buffersize": 1}):
        results = executor.map(abs, range(-5, 5), **keywords)
        assert next(results) == 5
    thread, processes = executor._executor_manager_thread, executor._processes
    del executor
    gc.collect()
    thread.join(HANG_SECONDS)
    for process in processes.values():
        process.join(HANG_SECONDS)
    assert not thread.is_alive() and not any(process.is_alive() for process in processes.values())
    assert next(results) == 4


@pytest.mark.parametrize("said", [None, "local"])
def test_engine_is_the_executors_own(said, monkeypatch):
    if said is None:
        monkeypatch.delenv("TINE_ENGINE", raising=False)
    else:
        monkeypatch.setenv("TINE_ENGINE", said)
    with libtine.ProcessPoolExecutor(1, engine="mpi-or-local") as executor:
        assert result(executor.submit(functions.environment, "TINE_ENGINE")) == said
    assert os.environ.get("TINE_ENGINE") == said


def test_engine_here_after_there_was_no_mpi(monkeypatch):
    monkeypatch.setenv("TINE_MPI_LIBRARY", "/nowhere/libtine-mpi.so")
    for _ in range(2):
        with pytest.raises(BrokenProcessPool, match="could not be started"):
            result(libtine.ProcessPoolExecutor(1, engine="mpi").submit(functions.add, 3))
        with libtine.ProcessPoolExecutor(1, engine="mpi-or-local") as executor:
            assert result(executor.submit(functions.add, 3)) == 3


def run_program(text, *arguments):
    return subprocess.run(
        [sys.executable, *arguments, "-c", textwrap.dedent(text)] if not arguments else [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )


def test_functions_of_main(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
        import libtine
        def square(x):
            return x * x
        if __name__ == "__main__":
            with libtine.ProcessPoolExecutor(2) as executor:
                print(list(executor.map(square, range(5))))
    """)
    )
    done = run_program("", str(program))
    assert done.stdout == "[0, 1, 4, 9, 16]\n", done.stderr


def test_main_without_guard(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
        import libtine, os
        with libtine.ProcessPoolExecutor(1) as executor:
            print(executor.submit(os.path.basename, "a/b").result())   # a module's function needs no guard
            def own(x):
                return x
            print(executor.submit(own, 1).exception())
    """)
    )
    done = run_program("", str(program))
    first, *rest = done.stdout.splitlines()
    assert first == "b", done.stderr
    assert "__main__" in "\n".join(rest)


def test_python_c():
    done = run_program("""
        import libtine
        with libtine.ProcessPoolExecutor(1) as executor:
            print(executor.submit(pow, 2, 10).result())
    """)
    assert done.stdout == "1024\n", done.stderr


def test_interpreter_waits_for_what_was_submitted(tmp_path):
    done = run_program(f"""
        import libtine, sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        import functions
        executor = libtine.ProcessPoolExecutor(1)
        executor.submit(functions.sleep, 0.2).add_done_callback(lambda future: print(future.result()))
    """)
    assert done.stdout == "0.2\n", done.stderr


def test_interrupt_leaves_a_usable_executor(tmp_path):
    done = run_program(f"""
        import libtine, os, signal, sys, threading
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        import functions
        with libtine.ProcessPoolExecutor(1) as executor:
            executor.submit(functions.add, 1).result()
            future = executor.submit(functions.sleep, 1)
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
            try:
                future.result()
            except KeyboardInterrupt:
                print("interrupted", not future.done())
            print(executor.submit(functions.add, 1).result())
    """)
    assert done.stdout == "interrupted True\n1\n", done.stderr


@pytest.mark.parametrize("name", ["shutdown", "results"])
def test_a_native_pool_that_is_closed_stays_for_a_call_on_it(monkeypatch, name):
    monkeypatch.setattr(_settling.Settler, "_run", lambda self: None)  # which takes the results and closes it
    ends = []
    with libtine.ProcessPoolExecutor(1) as executor:
        executor.submit(time.sleep, 0.5)
        pool = executor._engine.pool
        thread = threading.Thread(target=lambda: ends.append(getattr(pool, name)(_timeout.FOREVER_NS)))
        thread.start()
        time.sleep(0.2)
        pool.close()
        for call in (lambda: pool.cancel(1), pool.cancel_all, pool.cancel_queued, lambda: pool.shutdown(0)):
            with pytest.raises(libtine.TineError, match="closed"):
                call()
        thread.join(HANG_SECONDS)
    if name == "shutdown":
        assert ends == [True]
    else:
        assert [status for [(_, status, *_)] in ends] == [0]
