"""What is around the pools: progress, joblib's backend, and the programs of `python -m`."""

import io
import pickle
import subprocess
import sys

import functions
import joblib
import pytest
from test_start import PATH, os

import libtine
import libtine.joblib
from libtine import bench


def test_progress_yields_everything_and_ends_with_a_line():
    out = io.StringIO()
    assert list(libtine.progress(range(8), label="work", file=out)) == list(range(8))
    lines = out.getvalue().splitlines()
    assert len(lines) == 4 and lines[-1].startswith("work: 8/8, ")
    out = io.StringIO()
    assert list(libtine.progress(iter("ab"), file=out)) == ["a", "b"] and out.getvalue().startswith("2, ")


def test_progress_over_a_pool():
    out = io.StringIO()
    with libtine.Pool(2) as pool:
        results = list(libtine.progress(pool.imap(functions.add, range(10)), 10, file=out))
    assert results == list(range(10)) and "10/10" in out.getvalue()


def test_tqdm_over_imap():
    import tqdm

    with libtine.Pool(2) as pool:
        results = list(tqdm.tqdm(pool.imap(functions.add, range(10)), total=10, file=io.StringIO()))
    assert results == list(range(10))


def test_joblib():
    with joblib.parallel_config(backend="tine", n_jobs=2):
        assert joblib.Parallel()(joblib.delayed(functions.add)(n, 1) for n in range(20)) == list(range(1, 21))
        assert joblib.Parallel()(joblib.delayed(lambda n: 2 * n)(n) for n in range(4)) == [0, 2, 4, 6]
        with pytest.raises(ZeroDivisionError):
            joblib.Parallel()(joblib.delayed(functions.reciprocal)(n) for n in (1, 0))
        with pytest.raises(libtine.WorkerDied):
            joblib.Parallel()(joblib.delayed(functions.die)() for _ in range(1))
        with pytest.raises(pickle.PicklingError, match="the task to send") as info:
            joblib.Parallel()(joblib.delayed(id)(functions.NotToBeSent()) for _ in range(10))
        assert isinstance(info.value.__cause__, RuntimeError)
        generator = joblib.Parallel(return_as="generator")(joblib.delayed(functions.add)(n) for n in range(5))
        assert list(generator) == list(range(5))


def test_joblib_has_the_options_of_the_executor():
    options = {"initializer": functions.initialize, "initargs": ("begun",)}
    with joblib.parallel_config(backend="tine", n_jobs=2, **options):
        assert joblib.Parallel()(joblib.delayed(functions.get_initialized)() for _ in range(4)) == ["begun"] * 4
    with joblib.parallel_config(backend="tine", n_jobs=2, deadline=0.2), pytest.raises(TimeoutError):
        joblib.Parallel()(joblib.delayed(functions.sleep)(1000) for _ in range(1))
    results = joblib.Parallel(2, backend="tine", initializer=functions.initialize, initargs=("again",))(
        joblib.delayed(functions.get_initialized)() for _ in range(4)
    )
    assert results == ["again"] * 4


def test_joblib_shares_the_processors_out_among_threads_of_libraries():
    for limit in (None, 3):
        with joblib.parallel_config(backend="tine", n_jobs=2, inner_max_num_threads=limit):
            found = joblib.Parallel()(joblib.delayed(functions.environment)("OMP_NUM_THREADS") for _ in range(2))
        expected = limit or os.environ.get("OMP_NUM_THREADS") or max(joblib.cpu_count() // 2, 1)
        assert found == [str(expected)] * 2


def run(*arguments):
    environment = {**os.environ, "PYTHONPATH": PATH}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=240, check=True
    ).stdout


def test_what_it_says_of_this_machine():
    said = run("-m", "libtine")
    assert f"library  {'':14}{libtine.version()}".split() == said.splitlines()[1].split()
    assert "start methods" in said and "works" in said


def test_the_benchmark_runs():
    rows = run("-m", "libtine.bench", "--short").splitlines()
    assert len(rows) == 12
    for row in rows:
        ours, *peers, verdict = row.split(";")
        assert "libtine" in ours and peers, row
        assert verdict.strip().startswith(("reached (aim: ", "missed (aim: ")), row


def test_verdicts_of_the_benchmark():
    ratios = {"libtine": 1.0, "Pool": 2.96, "Executor": 12.0}
    assert bench.verdict(ratios, {"Pool": 3, "Executor": 10}) == "reached (aim: 3x Pool, 10x Executor)"
    assert bench.verdict(ratios, {"Pool": 3.1, "Executor": 10}).startswith("missed (aim: 3.1x")


def test_thumbnails(tmp_path):
    from PIL import Image

    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "b.png", "crash.jpg", "broken.jpg"):
        Image.new("RGB", (600, 300), "red").save(tmp_path / "in" / name)
    data = (tmp_path / "in" / "broken.jpg").read_bytes()
    (tmp_path / "in" / "broken.jpg").write_bytes(data[: len(data) // 2])
    program = os.path.join(os.path.dirname(__file__), "..", "examples", "thumbnails.py")
    done = subprocess.run(
        [sys.executable, program, "--crash-on", "crash.jpg", str(tmp_path / "in"), str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": PATH}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "thumbnails: 4/4" in done.stderr
    assert done.stdout.startswith("2 thumbnails of ") and "2 of 4 files failed:" in done.stdout
    assert "crash.jpg" in done.stdout and "died: signal 11" in done.stdout and "broken.jpg" in done.stdout
    assert Image.open(tmp_path / "out" / "a.jpg").size == (256, 128)
