"""Good and bad calls over any span, against a slow count of every call that was ever added."""

from __future__ import annotations

import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resilience.errors import ConfigError
from resilience.machines.service_level import ServiceLevel

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
MONTH = 30 * DAY

Call = tuple[int, int, int]

# Within a slice, over a few, and far beyond the window; some go back, and some meet the beginning of a slice.
STEPS = st.one_of(
    st.integers(-SECOND, SECOND),
    st.integers(-3600 * SECOND, 3600 * SECOND),
    st.integers(-DAY, 40 * DAY),
    st.integers(-3, 70).map(SECOND.__mul__),
)
ADDED = st.lists(st.tuples(STEPS, st.integers(0, 10**6), st.integers(0, 10**6)), max_size=60)
STARTS = st.one_of(st.just(0), st.integers(0, 10**18))
WHOLE = st.sampled_from([60 * SECOND, 360 * SECOND, 2160 * SECOND])  # their finest slice is a second
WINDOWS = st.one_of(st.integers(1, 1_000), st.integers(1, 400 * DAY), st.just(MONTH), WHOLE)


class Slow:
    """Remembers everything; of a clock that steps back the latest reading counts."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.now = -(1 << 63)

    def add(self, good: int, bad: int, now: int) -> None:
        self.now = max(self.now, now)
        self.calls.append((self.now, good, bad))

    def since(self, time: int) -> tuple[int, int]:
        """Good and bad calls at this moment or later."""
        return (
            sum(good for when, good, _ in self.calls if when >= time),
            sum(bad for when, _, bad in self.calls if when >= time),
        )


def fed(window: int, start: int, added: list[Call]) -> tuple[ServiceLevel, Slow]:
    """The same calls told to both; *added* says how much later than the one before each is."""
    level, slow = ServiceLevel(0.999, window), Slow()
    now = start
    for step, good, bad in added:
        now += step
        level.add(good, bad, now)
        slow.add(good, bad, now)
    return level, slow


@given(ADDED, WINDOWS, STARTS, st.one_of(st.just(0), st.integers(0, 40 * DAY)), st.data())
def test_a_span_is_counted_whole_and_at_most_a_slice_more(
    added: list[Call], window: int, start: int, later: int, data: st.DataObject
) -> None:
    """The count is exact from the beginning of a slice that lies less than a slice before the span."""
    level, slow = fed(window, start, added)
    reach = [span for span in (60 * level.slice_ns(1) * 6**ring for ring in range(8)) if span < window]
    edge = st.sampled_from([*reach, window]).flatmap(lambda span: st.integers(span, min(span + span // 60, window)))
    span = data.draw(st.one_of(st.integers(1, window), edge))
    now = max(slow.now, start) + later

    counted = level.counted(span, now)

    assert level.slice_ns(span) <= max(span // 10, SECOND)
    begin = now - span
    assert counted == slow.since(begin - begin % level.slice_ns(span))


@given(ADDED, WINDOWS, STARTS, st.one_of(st.just(0), st.integers(0, 40 * DAY)))
def test_the_window_is_counted_to_a_sixtieth(added: list[Call], window: int, start: int, later: int) -> None:
    """Over the whole window, what is counted too much is not older than a sixtieth of it, or a moment."""
    level, slow = fed(window, start, added)
    now = max(slow.now, start) + later

    assert level.slice_ns(window) <= window // 60 + SECOND
    good, bad = level.counted(window, now)
    assert slow.since(now - window) <= (good, bad) <= slow.since(now - window - window // 60 - SECOND)


@given(ADDED, WINDOWS, STARTS)
def test_the_totals_are_exact(added: list[Call], window: int, start: int) -> None:
    """Whatever the clock does, and however long ago it was, no call is lost."""
    level, _ = fed(window, start, added)

    assert level.good == sum(good for _, good, _ in added)
    assert level.bad == sum(bad for _, _, bad in added)


@given(ADDED, STARTS, st.integers(0, 40 * DAY), st.integers(0, 100 * DAY), st.integers(1, MONTH))
@example([(0, 5, 5)], 0, 2 * DAY, DAY, DAY)
def test_a_clock_that_steps_back_changes_nothing(
    added: list[Call], start: int, later: int, back: int, span: int
) -> None:
    """Looking at an earlier time shows what was just shown, and calls added there count as the newest."""
    level, slow = fed(MONTH, start, added)
    now = max(slow.now, start) + later
    good, bad = level.counted(span, now)

    assert level.counted(span, now - back) == (good, bad)
    level.add(3, 4, now - back)
    assert level.counted(span, now) == (good + 3, bad + 4)


@given(ADDED, STARTS, st.integers(1, MONTH), st.floats(0.001, 0.9999))
def test_the_burn_rate_is_the_bad_share_over_the_allowed_one(
    added: list[Call], start: int, span: int, objective: float
) -> None:
    """Burn rate and budget left are the workbook's formulas of what is counted, and defined where there is no call."""
    level = ServiceLevel(objective, MONTH)
    now = start
    for step, good, bad in added:
        now += abs(step)
        level.add(good, bad, now)

    good, bad = level.counted(span, now)
    assert level.burn(span, now) == pytest.approx(bad / max(good + bad, 1) / (1 - objective))
    good, bad = level.counted(MONTH, now)
    assert level.left(now) == pytest.approx(1 - bad / ((1 - objective) * max(good + bad, 1)))
    assert level.burn(span, now) >= 0 and level.left(now) <= 1


@pytest.mark.parametrize(
    ("share", "burn", "detected"),
    [(1.0, 1000.0, {14.4: 51.84, 6.0: 129.6}), (0.1, 100.0, {14.4: 518.4, 6.0: 1296.0}), (0.01, 10.0, {6.0: 12_960.0})],
)
def test_trouble_is_seen_as_soon_as_the_workbook_says(share: float, burn: float, detected: dict[float, float]) -> None:
    """An outage is above a rate, 14.4 over 1 h or 6 over 6 h, after (1 - SLO) / share of bad calls * rate * span."""
    level = ServiceLevel(0.999, MONTH)
    for second in range(8 * 3600):
        level.add(1000, 0, second * SECOND)
    seen: dict[float, int] = {}
    for second in range(6 * 3600):
        now = (8 * 3600 + second) * SECOND
        level.add(round(1000 * (1 - share)), round(1000 * share), now)
        for rate, span in ((14.4, 3600), (6.0, 21_600)):
            if level.burn(span * SECOND, now) > rate:
                seen.setdefault(rate, second + 1)

    assert level.burn(300 * SECOND, now) == pytest.approx(burn)
    assert seen == {rate: pytest.approx(time, rel=0.06, abs=2) for rate, time in detected.items()}


def test_a_budget_lasts_a_month_at_a_burn_rate_of_one() -> None:
    """One bad call in a thousand, all month, leaves nothing; none leaves all; ten leave a debt of nine budgets."""
    for bad, left in ((1, 0.0), (0, 1.0), (10, -9.0)):
        level = ServiceLevel(0.999, MONTH)
        for hour in range(720):
            level.add(1000 - bad, bad, hour * 3600 * SECOND)
        now = 720 * 3600 * SECOND

        assert level.left(now) == pytest.approx(left)
        assert level.left(now + 31 * DAY) == 1.0


def test_memory_does_not_grow_with_traffic() -> None:
    """After a month of calls every second minute it is as large as after one call, and less than 10 kB."""

    def size(level: ServiceLevel) -> int:
        rings = level._rings
        return sys.getsizeof(rings) + sum(
            map(sys.getsizeof, [part for ring in rings for part in (ring.good, ring.bad)])
        )

    few, many = ServiceLevel(0.999, MONTH), ServiceLevel(0.999, MONTH)
    few.add(1, 0, 0)
    for minute in range(0, 43_200, 2):
        many.add(10**9, 10**6, minute * 60 * SECOND)

    assert size(few) == size(many) < 10_000
    assert len(many._rings) == 7


def test_a_slice_is_begun_in_no_more_steps_than_the_rings_have() -> None:
    """A silence of a century is one turn of each ring, not one step for each slice that passed."""
    level = ServiceLevel(0.999, MONTH)
    level.add(1, 1, 0)
    level.add(1, 1, 100 * 365 * DAY)

    assert level.counted(MONTH, 100 * 365 * DAY) == (1, 1)


@pytest.mark.parametrize("span", [0, -1, MONTH + 1])
def test_a_span_beyond_the_window_is_refused(span: int) -> None:
    """What is not kept is not answered."""
    with pytest.raises(ConfigError, match="span_ns must be between 1 and"):
        ServiceLevel(0.999, MONTH).counted(span, 0)


@pytest.mark.parametrize("objective", [0.0, 1.0, -0.1, 99.9, float("nan")])
def test_an_objective_is_a_share_below_all(objective: float) -> None:
    """A promise of everything has no budget, and one of nothing is none."""
    with pytest.raises(ConfigError, match="objective must be a ratio"):
        ServiceLevel(objective, MONTH)
