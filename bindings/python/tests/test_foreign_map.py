"""Maps over items that lie one behind the other, by functions of another language, and what signals do to them."""

import signal
import struct

import pytest

import libtine


def test_a_map(native):
    items, results = struct.pack("6i", *range(8, 14)), bytearray(24)
    failed = native.map("tripled", items, results, 6, chunk=2)
    assert [(each.item, libtine.TineError.name_of(each.status)) for each in failed] == [(2, "TINE_EDIED")]
    assert struct.unpack("6i", results) == (24, 27, 0, 33, 36, 39)
    with pytest.raises(ValueError, match="7 items in 24 bytes"):
        native.map("tripled", items, results, 7)


@pytest.fixture
def alarms():
    """Has a handler called every 20 ms, in the middle of whatever the main thread waits for."""
    handled = []

    def begin(handler):
        def handle(*_):
            handled.append(1)
            handler()

        signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        return handled

    before = signal.getsignal(signal.SIGALRM)
    yield begin
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("chunk", [0, 1, 7])
def test_a_map_goes_on_after_a_signal(native, alarms, chunk):
    items, results = struct.pack("400i", *range(400)), bytearray(1600)
    handled = alarms(lambda: None)
    assert native.map("tripled_slowly", items, results, 400, chunk=chunk) == []
    assert handled and struct.unpack("400i", results) == tuple(range(0, 1200, 3))


def test_a_map_ends_with_what_a_signals_handler_raises(native, alarms):
    def fail():
        signal.setitimer(signal.ITIMER_REAL, 0)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        alarms(fail)
        native.map("tripled_slowly", bytes(4000), bytearray(4000), 1000)


def test_a_map_that_a_signals_handler_cancels_ends(native, alarms):
    items, results = struct.pack("1000i", *range(1, 1001)), bytearray(4000)
    alarms(native._pool.cancel_all)
    failed = native.map("tripled_slowly", items, results, 1000)
    assert failed and {libtine.TineError.name_of(each.status) for each in failed} == {"ECANCELED"}
    undone = {each.item for each in failed}
    assert struct.unpack("1000i", results) == tuple(0 if n in undone else 3 * (n + 1) for n in range(1000))


@pytest.mark.parametrize("signals", range(2, 8))
@pytest.mark.parametrize("chunk", [0, 1, 7])
def test_a_map_that_is_cancelled_after_signals_ends(native, alarms, chunk, signals):
    """They have left several ranges of items that are to go again; none of them does."""
    items, results, done = struct.pack("1000i", *range(1, 1001)), bytearray(4000), []
    seen = 0

    def handle():
        nonlocal seen
        seen += any(results)  # while the map runs
        if seen == signals and not done:
            native._pool.cancel_all()
            done.append(1000 - struct.unpack("1000i", results).count(0))

    alarms(handle)
    failed = native.map("tripled_slowly", items, results, 1000, chunk=chunk)
    assert {libtine.TineError.name_of(each.status) for each in failed} == {"ECANCELED"}
    assert len(failed) == 1000 - done[0]
