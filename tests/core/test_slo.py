"""A service level objective: what it refuses, what it shows, and when it sheds retries and hedges."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.errors import ConfigError
from resilience.policies.slo import SLO
from together import outcomes

SECOND = 1_000_000_000
HOUR = 3600


def shed(slo: SLO, seconds: Iterable[tuple[int, int]]) -> list[int]:
    """Tell of good and bad calls second by second: the seconds in which shedding began or ended."""
    moves: list[int] = []
    for second, (good, bad) in enumerate(seconds):
        now = second * SECOND
        slo.count(good, bad, now)
        if slo.burning(now) is (len(moves) % 2 == 0):
            moves.append(second)
    return moves


def steady(seconds: int, calls: int, share: float) -> list[tuple[int, int]]:
    """So many calls each second, of which this share is bad."""
    return [(calls - round(calls * share), round(calls * share))] * seconds


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_an_outage_sheds_and_its_end_resumes(share: float) -> None:
    """Shedding begins once when the hour has burnt at 14.4, and ends once when the five minutes are nearly clean."""
    slo = SLO(0.999, shed_above=14.4)
    outage = 1200
    moves = shed(slo, [*steady(HOUR, 100, 0), *steady(outage, 100, share), *steady(2 * HOUR, 100, 0)])

    after = 14.4 * 0.001 / share * HOUR
    ends = HOUR + outage + 300 * (1 - 7.2 * 0.001 / share)
    assert moves == [pytest.approx(HOUR + after, rel=0, abs=0.06 * after + 2), pytest.approx(ends, abs=8)]


def test_a_blip_sheds_nothing() -> None:
    """Half a minute in which every call is bad is above 14.4 over five minutes, but not over an hour."""
    slo = SLO(0.999, shed_above=14.4)
    assert shed(slo, [*steady(HOUR, 100, 0), *steady(30, 100, 1.0), *steady(HOUR, 100, 0)]) == []
    assert slo.reading(2 * HOUR * SECOND).bad == 3000


def chance(rate: float, calls: int, seconds: int, seed: int) -> list[tuple[int, int]]:
    """So many calls a second, bad by chance, with this burn rate on average."""
    rng = random.Random(seed)
    bad = [sum(rng.random() < rate * 0.001 for _ in range(calls)) for _ in range(seconds)]
    return [(calls - count, count) for count in bad]


@pytest.mark.parametrize(("calls", "most"), [(20, 1), (7, 4)])
@pytest.mark.parametrize("rate", [10.0, 13.0, 14.4, 16.0])
def test_a_constant_burn_near_the_threshold_does_not_flap(rate: float, calls: int, most: int) -> None:
    """Six hours at the threshold begin one shedding, or two with the least traffic; without hysteresis dozens."""
    seconds = chance(rate, calls, 6 * HOUR, seed=5)
    assert len(shed(SLO(0.999, shed_above=14.4), seconds)) <= most
    if rate == 14.4:
        assert len(shed(SLO(0.999, shed_above=14.4, resume_below=14.39), seconds)) > 24


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 29)), max_size=30))
def test_few_bad_calls_shed_nothing(seconds: list[tuple[int, int]]) -> None:
    """Below the minimum in the short span, no share of bad calls is enough."""
    slo = SLO(0.999, shed_above=1.0, spans=[(3600.0, 300.0, 1.0)])
    for index, (good, bad) in enumerate(seconds):
        now = 310 * index * SECOND
        slo.count(good, bad, now)

        assert not slo.burning(now)
        assert not slo.reading(now).alarm


CALLS = st.lists(
    st.tuples(st.one_of(st.integers(-10, 10), st.integers(-400, 4_000)), st.integers(0, 200), st.integers(0, 20)),
    max_size=60,
)


@given(CALLS, st.floats(0.1, 90.0), st.floats(0.1, 0.99), st.integers(1, 50))
def test_shedding_is_the_rule_at_every_reading(
    calls: list[tuple[int, int, int]], above: float, part: float, minimum: int
) -> None:
    """It begins above the one rate over both spans, ends below the other over one, and else stays, on any clock."""
    slo = SLO(0.99, shed_above=above, resume_below=above * part, minimum_bad=minimum)
    now, shedding = 0, False
    recent: list[tuple[int, int]] = []
    latest = calls[0][0] * SECOND if calls else 0
    for step, good, bad in calls:
        now += step * SECOND
        latest = max(latest, now)
        slo.count(good, bad, now)
        recent.append((latest, bad))
        reading = slo.reading(now)
        burn = min(reading.burn[300.0], reading.burn[3600.0])
        enough = sum(bad for when, bad in recent if when > latest - 280 * SECOND) >= minimum
        too_few = sum(bad for when, bad in recent if when > latest - 330 * SECOND) < minimum
        if shedding:
            assert reading.shedding is (burn >= above * part)
        elif burn <= above or too_few:
            assert not reading.shedding
        elif enough:
            assert reading.shedding
        shedding = reading.shedding
        assert slo.burning(now) is shedding


def test_it_is_decided_once_a_second() -> None:
    """Between two decisions the last one holds; a reading decides at once, and so does a clock that stepped back."""
    slo = SLO(0.999, shed_above=14.4)
    assert not slo.burning(0)
    slo.count(0, 100, 1)

    assert not slo.burning(SECOND - 1)
    assert slo.burning(SECOND)

    back = SLO(0.999, shed_above=14.4)
    assert not back.burning(10 * SECOND)
    back.count(0, 100, 10 * SECOND + 1)
    assert back.burning(0)

    other = SLO(0.999, shed_above=14.4)
    assert not other.burning(0)
    other.count(0, 100, 1)
    assert other.reading(1).shedding
    assert other.burning(2)


def test_without_a_rate_it_never_sheds() -> None:
    """It is a measurement first: what it switches off has to be asked for."""
    slo = SLO(0.999)
    assert shed(slo, steady(600, 100, 1.0)) == []
    assert slo.reading(600 * SECOND).alarm


def test_a_reading_shows_all_there_is() -> None:
    """Counts, budget, burn rates by span, alarm and shedding, as of one moment."""
    slo = SLO(0.99, window=86_400.0, shed_above=20.0, spans=[(3600, 300, 14.4), (21_600, 300, 6)])
    slo.count(9_000, 0, 0)
    slo.count(600, 400, 2 * HOUR * SECOND)

    reading = slo.reading(2 * HOUR * SECOND)
    assert (reading.objective, reading.good, reading.bad) == (0.99, 9_600, 400)
    assert reading.left == pytest.approx(-3.0)
    assert reading.burn == pytest.approx({300.0: 40.0, 3600.0: 40.0, 21_600.0: 4.0})
    assert reading.alarm and reading.shedding
    empty = SLO(0.999).reading(0)
    assert (empty.good, empty.bad, empty.left, set(empty.burn.values())) == (0, 0, 1.0, {0.0})
    assert not empty.alarm and not empty.shedding


def test_an_alarm_is_that_of_any_row_over_both_its_spans() -> None:
    """A blip does not ring, a slow burn does by the slow row alone, and that ends before the long span has passed."""
    slo = SLO(0.999)
    clock = itertools.count(step=SECOND)
    rang: list[bool] = []
    for phase in (
        steady(6 * HOUR, 1000, 0),
        steady(40, 1000, 1.0),  # above both rates over the short spans
        steady(6 * HOUR, 1000, 0),
        steady(6 * HOUR, 1000, 0.01),
        steady(2000, 1000, 0.001),  # above 6 over six hours for long
    ):
        for good, bad in phase:
            slo.count(good, bad, now := next(clock))
        rang.append(slo.reading(now).alarm)
    assert rang == [False, False, False, True, False]


@pytest.mark.usefixtures("switch_often")
def test_threads_lose_no_count() -> None:
    """What many threads count at once, and others read meanwhile, is all there."""
    slo = SLO(0.999, shed_above=14.4)
    clock = itertools.count(step=SECOND // 100)

    def work(index: int) -> None:
        for _ in range(300):
            now = next(clock)
            slo.count(index, 1, now)
            slo.burning(now)
            if index % 4 == 0:
                assert slo.reading(now).bad > 0

    _, errors = outcomes(work, 16)
    assert errors == []
    reading = slo.reading(next(clock))
    assert (reading.good, reading.bad) == (300 * sum(range(16)), 300 * 16)


def test_it_is_shown_as_it_was_made() -> None:
    """The repr can be pasted back; replace() gives one with a state of its own."""
    slo = SLO(0.999, within=0.3, shed_above=14.4, spans=[[3600, 300, 14.4]])  # type: ignore[list-item]
    slo.count(1, 1, 0)

    assert repr(SLO(0.999)) == "SLO(0.999)"
    assert repr(slo) == "SLO(0.999, within=0.3, shed_above=14.4, spans=((3600.0, 300.0, 14.4),))"
    assert repr(eval(repr(slo))) == repr(slo)
    other = slo.replace(within=None)
    assert other.within_ns is None and slo.within_ns == 300_000_000
    assert other.reading(0).good == 0


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    *(({"objective": value}, ConfigError, "objective must be a ratio") for value in (0, 1, -0.5, 1.5, math.nan)),
    *(({"objective": value}, TypeError, "objective must be a ratio") for value in (None, True, "0.9")),
    *(({"within": value}, ConfigError, "within must be") for value in (0, -1, math.inf, math.nan, 1e-10)),
    *(({"window": value}, ConfigError, "window must be") for value in (0, -1, math.inf, math.nan)),
    *(({"shed_above": value}, ConfigError, "shed_above must be") for value in (0, -1, math.inf, 1000.0, 5000.0)),
    ({"shed_above": "fast"}, TypeError, "shed_above must be"),
    ({"resume_below": 7.0}, ConfigError, "resume_below needs shed_above"),
    *(({"shed_above": 2, "resume_below": value}, ConfigError, "resume_below must be") for value in (2, 3, 0, -1)),
    *(({"minimum_bad": value}, ConfigError, "minimum_bad must be") for value in (0, -1)),
    *(({"minimum_bad": value}, TypeError, "minimum_bad must be") for value in (1.5, None, True)),
    ({"spans": ()}, ConfigError, "spans must have at least one row"),
    *(({"spans": value}, TypeError, "spans must be rows") for value in (None, 3600.0, "3600")),
    *(({"spans": [value]}, TypeError, r"spans\[0\] must be a long span") for value in (3600.0, (3600.0, 300.0), "abc")),
    *(
        ({"spans": [(60, 5, 2), value]}, ConfigError, r"spans\[1\]")
        for value in ((300, 3600, 14.4), (300, 300, 14.4), (0, -1, 1), (3600, 300, 0), (31 * 86400, 300, 1))
    ),
    ({"window": 3600.0}, ConfigError, r"spans\[1\] must hold the longer span first, and none longer than window"),
]


@pytest.mark.parametrize(("settings", "kind", "words"), REFUSED)
def test_bad_settings_are_refused(settings: dict[str, Any], kind: type[Exception], words: str) -> None:
    """What cannot be meant is said at construction, by name."""
    with pytest.raises(kind, match=words):
        SLO(**{"objective": 0.999, **settings})
