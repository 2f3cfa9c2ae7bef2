"""A trace keeps samples in order of time, in bounded memory."""

from __future__ import annotations

from operator import itemgetter

from hypothesis import given
from hypothesis import strategies as st

from resilience.tune.trace import LOST, Trace

pairs = st.lists(st.tuples(st.integers(-50, 50), st.integers(-(1 << 62), 1 << 62)), max_size=80)


@given(pairs, st.integers(1, 20))
def test_samples_come_back_in_order_of_time(added: list[tuple[int, int]], chunk: int) -> None:
    """As a stable sort would give them, however small the chunks, and as often as asked."""
    with Trace(chunk) as trace:
        for at, sample in added:
            trace.add(at, sample)
        expected = sorted(added, key=itemgetter(0))
        assert list(trace) == expected
        assert list(trace) == expected
        assert trace.count == len(trace) == len(added)
        if added:
            assert (trace.first, trace.last) == (expected[0][0], expected[-1][0])


@given(st.integers(1, 7), st.integers(0, 40))
def test_two_readers_do_not_disturb_each_other(chunk: int, count: int) -> None:
    """The file behind a trace is shared, its readers are not."""
    with Trace(chunk) as trace:
        for number in range(count):
            trace.add(-number, number)
        assert list(zip(trace, trace, strict=True)) == [(pair, pair) for pair in trace]


def test_what_is_written_may_be_read_between() -> None:
    """Adding goes on after reading."""
    with Trace(2) as trace:
        trace.add(3, 1)
        assert list(trace) == [(3, 1)]
        for at in (1, 2, 0):
            trace.add(at, LOST)
        assert [at for at, _ in trace] == [0, 1, 2, 3]


def test_memory_holds_one_chunk() -> None:
    """The rest is on disk, and gone when the trace is closed."""
    trace = Trace(10)
    for number in range(95):
        trace.add(number, number)
    assert len(trace._times) == 5
    file = trace._file
    assert file is not None
    trace.close()
    assert file.closed
    trace.close()
