"""The windows against a recount of everything that was ever recorded."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.machines.windows import CallWindow, TimeWindow

Call = tuple[int, bool, bool]

# Small steps stay within a cell or two, large ones leave the window behind; some go back.
STEPS = st.one_of(st.integers(-30, 30), st.integers(-2_000, 2_000), st.just(0))
CALLS = st.lists(st.tuples(STEPS, st.booleans(), st.booleans()), max_size=120)


def feed(window: CallWindow | TimeWindow, now: int, failed: bool, slow: bool) -> None:
    """Record as a circuit does: the short form for a good call, and that inlined now and then."""
    if failed or slow:
        window.record(now, failed, slow)
    elif now % 2:
        window.success(now)
    else:
        if now >= window.edge:
            window.rotate(now)
        window.n += 1


def tally(calls: list[Call]) -> tuple[int, int, int]:
    """Count by hand."""
    return len(calls), sum(failed for _, failed, _ in calls), sum(slow for _, _, slow in calls)


@given(CALLS, st.integers(1, 40))
def test_the_last_calls_are_counted_exactly(calls: list[Call], size: int) -> None:
    """At every moment a call window shows the last N calls and nothing else."""
    window = CallWindow(size)
    seen: list[Call] = []
    now = 0
    for step, failed, slow in calls:
        now += step
        feed(window, now, failed, slow)
        seen.append((now, failed, slow))

        assert tally(seen[-size:]) == window.counts(now)


@given(CALLS, st.integers(1, 40))
def test_counts_need_not_be_asked_for(calls: list[Call], size: int) -> None:
    """A window that was never looked at in between shows the same in the end."""
    window = CallWindow(size)
    for _, failed, slow in calls:
        feed(window, 0, failed, slow)

    assert tally(calls[-size:]) == window.counts(0)


@given(CALLS, st.integers(1, 12), st.integers(1, 60), st.booleans())
def test_the_last_cells_are_counted_exactly(calls: list[Call], cells: int, width: int, look: bool) -> None:
    """A time window shows the calls of the newest cell and of those before it that it holds."""
    window = TimeWindow(cells * width, cells)
    seen: list[Call] = []
    now = newest = 0
    for step, failed, slow in calls:
        now += step
        newest = max(newest, now)
        feed(window, now, failed, slow)
        seen.append((newest, failed, slow))
        if look or len(seen) == len(calls):
            inside = [call for call in seen if call[0] // width > newest // width - cells]

            assert tally(inside) == window.counts(now)


@given(CALLS, st.integers(10, 2_000), st.integers(0, 1_000_000))
def test_the_span_is_kept_to_within_a_cell(calls: list[Call], span: int, later: int) -> None:
    """No call older than the span is counted, and none younger than nine tenths of it is missed."""
    window = TimeWindow(span)
    width = -(-span // 10)
    times: list[int] = []
    now = 0
    for step, _, _ in calls:
        now += abs(step)
        window.success(now)
        times.append(now)
    now += later % (2 * span)
    total, _, _ = window.counts(now)

    assert total <= sum(now - time < 10 * width for time in times)
    assert total >= sum(now - time <= 9 * width for time in times)


@given(CALLS, st.integers(1, 50), st.integers(1, 5_000), st.integers(0, 5_000))
def test_a_clock_that_steps_back_changes_nothing(calls: list[Call], cells: int, span: int, back: int) -> None:
    """Looking at an earlier time shows what was just shown."""
    window = TimeWindow(max(span, cells), cells)
    now = 0
    for step, failed, slow in calls:
        now += abs(step)
        feed(window, now, failed, slow)
    before = window.counts(now)

    assert before == window.counts(now - back)
    assert before == window.counts(now)


@pytest.mark.parametrize("make", [lambda: CallWindow(5), lambda: TimeWindow(100)])
@given(before=CALLS, after=CALLS)
def test_clear_forgets_every_call(
    make: Callable[[], CallWindow | TimeWindow], before: list[Call], after: list[Call]
) -> None:
    """After clear() a window counts as a new one does that was made at the same time."""
    cleared, new = make(), make()
    now = newest = 0
    for step, failed, slow in before:
        now += step
        newest = max(newest, now)
        feed(cleared, now, failed, slow)
    cleared.clear()
    new.counts(newest)

    assert cleared.counts(newest) == (0, 0, 0)
    for step, failed, slow in after:
        now += step
        for window in (cleared, new):
            feed(window, now, failed, slow)
        assert cleared.counts(now) == new.counts(now)


def test_a_call_may_fail_slowly() -> None:
    """One call counts as a failure and as slow, and as one call."""
    for window in (CallWindow(3), TimeWindow(10)):
        window.record(0, True, True)

        assert window.counts(0) == (1, 1, 1)


def test_an_idle_window_empties() -> None:
    """Time alone takes calls out of a time window, and takes none out of a call window."""
    by_time, by_calls = TimeWindow(100), CallWindow(100)
    for window in (by_time, by_calls):
        window.record(5, True, False)

    assert by_time.counts(99) == (1, 1, 0)
    assert by_time.counts(100) == (0, 0, 0)
    assert by_calls.counts(10**12) == (1, 1, 0)


def test_successes_take_no_memory() -> None:
    """A window of a hundred thousand good calls is as small as one of ten."""
    few, many = CallWindow(100_000), CallWindow(100_000)
    for _ in range(10):
        few.success(0)
    for _ in range(100_000):
        many.success(0)

    assert sys.getsizeof(few._bad) == sys.getsizeof(many._bad)


def test_bad_calls_are_forgotten_in_time() -> None:
    """However long an outage lasts, a call window holds no more than its size."""
    window = CallWindow(7)
    for _ in range(1_000):
        window.record(0, True, False)

    assert len(window._bad) == 7


def test_a_large_step_costs_no_more_than_the_window() -> None:
    """A jump of a century is one turn of the ring, not one turn for each cell that passed."""
    window = TimeWindow(10)
    window.record(0, True, False)

    assert window.counts(10**18) == (0, 0, 0)
