"""libtine.ProcessPoolExecutor on the nodes of an MPI job: only rank 0 comes to the end of this file. ci/check-mpi.sh PYTHON runs it."""

import os
import signal

import libtine


def square(number):
    return number * number


def die(number):
    os.kill(os.getpid(), number)


def refuse(text):
    raise ValueError(text)


def parent_of(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[1])


def node():
    """A worker's parent is the supervisor, whose parent is the keeper, whose parent is the node."""
    return parent_of(parent_of(os.getppid()))


def begin(text):
    os.environ["BEGUN"] = text


def begun():
    return os.environ["BEGUN"]


kept = []


def keep(number, view):
    """Whether all views that this worker has been given are still what they were."""
    kept.append((number, view))
    return all(bytes(each) == bytes([number]) * len(each) for number, each in kept)


def main():
    os.environ["TINE_ENGINE"] = "local"  # what a pool asks for counts
    with libtine.ProcessPoolExecutor(2, initializer=begin, initargs=("here",), engine="mpi") as pool:
        assert list(pool.map(square, range(1000), chunksize=10)) == [i * i for i in range(1000)]
        assert list(pool.map(square, range(10))) == [i * i for i in range(10)]
        big = bytes(range(256)) * 4096
        assert pool.submit(bytes.__add__, big, b"end").result() == big + b"end"
        assert {pool.submit(begun).result() for _ in range(20)} == {"here"}
        assert all(pool.submit(keep, i, memoryview(bytes([i]) * 50000)).result() for i in range(60))
        view = memoryview(big)
        assert all(bytes(pool.submit(memoryview, view).result()) == big for _ in range(20))
        nodes = {future.result() for future in [pool.submit(node) for _ in range(60)]}
        assert len(nodes) > 1 and os.getpid() not in nodes, nodes
        try:
            pool.submit(refuse, "no").result()
            raise AssertionError("it was not refused")
        except ValueError as error:
            assert error.args == ("no",)
        try:
            pool.submit(die, signal.SIGKILL).result()
            raise AssertionError("it did not die")
        except libtine.WorkerDied as error:
            assert error.signal == signal.SIGKILL
        assert pool.submit(square, 12).result() == 144
    with libtine.ProcessPoolExecutor(1, engine="mpi") as pool:
        assert pool.submit(square, 13).result() == 169
    assert os.environ["TINE_ENGINE"] == "local"
    with libtine.ProcessPoolExecutor(1) as pool:
        assert pool.submit(node).result() == os.getpid()
    try:
        libtine.ProcessPoolExecutor(engine="slurm")
    except ValueError as error:
        assert str(error) == "engine 'slurm': it is local, mpi or mpi-or-local"
    print("python: done")


if __name__ == "__main__":
    main()
