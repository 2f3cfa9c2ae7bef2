"""How the learned timeout meets change: slower, faster, hanging, failing; with a few attempts watched, and without.

Seeds are fixed, time is virtual, 100 calls a second unless said otherwise, one in a hundred may be cut off.
"""

from __future__ import annotations

import csv
import math
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regimes import MS, SECOND, World, make
from resilience.machines.survival import never_ends, product_limit
from traffic import NEVER, internet, lognormal, pareto

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilience.machines.estimator import TimeoutEstimator

TESTS = Path(__file__).parent.parent
SERVICES = {"tight": (0.05, 0.05), "medium": (0.02, 0.5), "wide": (0.02, 1.0)}
"""Median in seconds, and sigma of the logarithm."""
FALL = -math.log(0.95)
"""The timeout falls by that in each second, as a logarithm."""


def q99(median: float, sigma: float) -> float:
    return median * math.exp(2.3263 * sigma)


def settled(name: str, seed: int = 1, **more: object) -> tuple[World[TimeoutEstimator], int]:
    """A service that has been called for two minutes, and the timeout after them."""
    world = World(make(**more))  # type: ignore[arg-type]
    world.run(120, lognormal(seed, *SERVICES[name]))
    return world, world.estimator.ns


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize("factor", [1.3, 3.0, 10.0])
def test_it_follows_a_slow_down_within_two_seconds_and_comes_back(name: str, factor: float) -> None:
    """After two seconds and 200 calls no more than the target is cut off, by a timeout that fits; then back down.

    Down it has a window to forget, the time that the fall takes, and ten seconds more.
    """
    median, sigma = SERVICES[name]
    world, before = settled(name)
    slow = lognormal(2, median * factor, sigma)
    world.run(2, slow)
    seen = world.run(58, slow)
    assert seen.rate <= 0.02  # of a single minute; the target is for all times
    seen = world.run(120, slow)
    assert seen.rate <= 0.01
    assert 1.0 <= world.estimator.ns / SECOND / q99(median * factor, sigma) <= 2.0
    top = world.estimator.ns
    usual = lognormal(3, median, sigma)
    world.run(60 + max(0.0, math.log(top / (1.3 * before))) / FALL + 10, usual)
    assert world.estimator.ns <= 1.3 * before


@pytest.mark.parametrize("name", SERVICES)
def test_a_deploy_that_makes_it_faster_is_noticed_within_a_window(name: str) -> None:
    """Half the latency: after a window, and the time the fall takes, the timeout is that of the new latency."""
    median, sigma = SERVICES[name]
    world, _ = settled(name)
    world.run(60 + math.log(2) / FALL + 10, lognormal(4, median / 2, sigma))
    ratio = world.estimator.ns / SECOND / q99(median / 2, sigma)
    assert 1.0 <= ratio <= 2.0


@pytest.mark.parametrize("linger", [0, 2])
@pytest.mark.parametrize("name", SERVICES)
def test_a_total_hang_of_a_minute_does_not_triple_it(name: str, linger: int) -> None:
    """It is an outage, and no reason to be patient. Soon after it is what it was."""
    world, before = settled(name)
    world.linger = linger
    seen = world.run(60, lambda _: NEVER)
    assert seen.longest <= 3 * before
    usual = lognormal(9, *SERVICES[name])
    world.run(20, usual)
    assert world.estimator.explain(round(world.now * SECOND)).drift <= 1.6  # an outage is no wandering level
    world.run(100, usual)
    assert world.estimator.ns <= 1.5 * before
    assert world.run(120, usual).rate <= 0.01


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize("seed", [6, 7])
def test_five_percent_that_hang_for_ever_do_not_move_it_to_the_ceiling(name: str, seed: int) -> None:
    """From the start, or beginning later: they are told from slow ones, and the others keep their timeout."""
    median, sigma = SERVICES[name]
    rng = random.Random(seed)
    usual = lognormal(seed, median, sigma)

    def latency(at: float) -> float:
        return NEVER if rng.random() < 0.05 else usual(at)

    later, _ = settled(name, seed)
    for world in (World(make()), later):
        world.run(120, latency)
        seen = world.run(240, latency)
        assert seen.longest <= 30 * SECOND / 10
        assert world.estimator.ns / SECOND <= 4 * q99(median, sigma)
        assert seen.rate <= 0.01
        assert 0.03 <= seen.hung / seen.calls <= 0.07
        never = world.estimator.explain(round(world.now * SECOND)).never_answered
        assert never == pytest.approx(0.05, abs=0.015)


def test_minutes_of_silence_raise_it_further_only_where_nobody_is_watched() -> None:
    """Those watched say that it is death; without them the service might have become slower for good."""
    for linger, steps in ((2, 1), (0, 5)):
        world, before = settled("tight")
        world.linger = linger
        assert world.run(290, lambda _: NEVER).longest == pytest.approx(before * 2**steps, rel=0.1)


def test_it_follows_at_a_thousand_calls_a_second_too() -> None:
    """Hundreds time out between two late answers, and count as slow all the same."""
    world = World(make(), rate=1000.0)
    world.run(30, lognormal(1, 0.05, 0.05))
    slow = lognormal(2, 0.5, 0.05)
    world.run(2, slow)
    assert world.run(8, slow).rate <= 0.02


def test_while_some_are_watched_it_waits_for_what_they_tell() -> None:
    """Timeouts that hide the quantile take it to twice the last measured value and no further; else it grows on."""
    longest = []
    for watched in (2, 0):
        estimator = make()
        estimator.absorb([20 * MS] * 1000, 0)
        estimator.refresh(0)
        before = estimator.ns
        estimator.watched = watched
        for second in range(1, 26):
            estimator.absorb(([20 * MS] * 19 + [-estimator.ns]) * 5, second * SECOND)
            estimator.refresh(second * SECOND)
        longest.append(estimator.ns / before)
    assert longest[0] <= 2.0
    assert longest[1] > 4.0


def test_with_few_samples_a_lost_one_explains_the_timeouts() -> None:
    """Too few for the quantile, and some cut off far above it: if one is known to be lost, it need not grow."""
    for lost, basis in ((0, "growing"), (1, "extrapolated")):
        estimator = make(0.999)
        estimator.absorb([10 * MS] * 100 + [-SECOND] * 3 + [10 * MS], 0)
        for _ in range(lost):
            estimator.lost(0)
        estimator.refresh(0)
        assert estimator.explain(0).basis == basis


def test_without_watching_hangs_and_slowness_look_alike() -> None:
    """Why attempts are watched at all: else 5 % hangs run it up, or a tenfold slow-down is taken for an outage."""
    rng = random.Random(8)
    usual = lognormal(8, 0.05, 0.05)
    world = World(make(), linger=0)
    world.run(300, lambda at: NEVER if rng.random() < 0.05 else usual(at))
    assert world.estimator.ns == 30 * SECOND
    world, _ = settled("tight")
    world.linger = 0
    assert world.run(60, lognormal(9, 0.5, 0.05)).rate == 1.0


@pytest.mark.parametrize("name", SERVICES)
def test_half_of_the_calls_failing_at_once_do_not_pull_it_down(name: str) -> None:
    """A refusal is quick, and is no sample."""
    world, before = settled(name)
    rng, usual = random.Random(10), lognormal(10, *SERVICES[name])
    seen = world.run(300, lambda at: -1.0 if rng.random() < 0.5 else usual(at))
    assert seen.rate <= 0.01
    assert before / 1.4 <= world.estimator.ns <= 1.4 * before


def test_a_standstill_that_ends_in_answers_is_no_slow_service() -> None:
    """Half a minute of silence, then everything is answered, late: what timed out meanwhile is left out."""
    world, before = settled("tight")
    start = world.now
    world.run(25, lambda at: start + 25.0 - at)
    world.run(30, lognormal(11, *SERVICES["tight"]))
    assert world.estimator.ns <= 3 * before


def bimodal(seed: int) -> Callable[[float], float]:
    rng, fast = random.Random(seed), lognormal(seed, 0.02, 0.3)
    return lambda at: rng.gauss(0.4, 0.02) if rng.random() < 0.02 else fast(at)


STEADY: dict[str, Callable[[int], Callable[[float], float]]] = {
    "tight": lambda seed: lognormal(seed, 0.05, 0.05),
    "log-normal": lambda seed: lognormal(seed, 0.02, 1.0),
    "two modes": bimodal,
    "Pareto": pareto,
    "autocorrelated": internet,
}


@pytest.mark.parametrize("kind", STEADY)
@pytest.mark.parametrize("p", [0.95, 0.99, 0.999])
def test_in_a_steady_state_the_target_is_kept_and_the_timeout_not_merely_huge(kind: str, p: float) -> None:
    """At most the accepted share is cut off; at 1 % the timeout is at most 2.5 times the true quantile on average."""
    world = World(make(p))
    latency = STEADY[kind](12)
    world.run(300, latency)
    calls = false = 0
    timeouts = []
    for _ in range(30):
        seen = world.run(10, latency)
        calls, false = calls + seen.calls, false + seen.false
        timeouts.append(world.estimator.ns / SECOND)
    assert false / calls <= 1 - p
    if p == 0.99:
        another = STEADY[kind](13)
        sample = sorted(another(0.0) for _ in range(100_000))
        assert sum(timeouts) / len(timeouts) <= 2.5 * sample[98_999]


# -- on recorded latencies ---------------------------------------------------------------------------------------------


def columns(path: str) -> list[list[float]]:
    with (TESTS / path).open() as file:
        rows = list(csv.reader(file))[1:]
    return [[float(row[i]) for row in rows] for i in range(1, len(rows[0]))]


@pytest.mark.parametrize(
    ("path", "unit", "p", "most", "wide"),
    [
        # Of the target; and the timeout, of the true quantile.
        ("tune/data/ec2-request-latency.csv", 0.001, 0.99, 0.10, 1.5),
        ("tune/data/ec2-request-latency.csv", 0.001, 0.999, 0.30, 2.3),
        ("data/seattle-rtt-10-paths.csv", 1.0, 0.99, 0.75, 2.5),
        ("data/seattle-rtt-10-paths.csv", 1.0, 0.95, 1.0, 2.5),
    ],
)
def test_on_recorded_latencies_the_target_is_kept(path: str, unit: float, p: float, most: float, wide: float) -> None:
    """Drawn from a production system, tight, and from paths over the internet, which are not."""
    pool = sorted(value * unit for column in columns(path) for value in column if value)
    rng = random.Random(14)
    world = World(make(p))
    world.run(300, lambda _: rng.choice(pool))
    seen = world.run(600, lambda _: rng.choice(pool))
    assert seen.rate <= most * (1 - p)
    assert world.estimator.ns / SECOND <= wide * pool[int(p * len(pool)) - 1]


def test_single_paths_as_they_were_recorded() -> None:
    """One call a second, in the order of the record, with its drift and its gaps: one in twenty may be cut off."""
    calls = false = 0
    for path in columns("data/seattle-rtt-10-paths.csv"):
        world = World(make(0.95), rate=1.0)
        record = iter(path)
        world.run(100, lambda _: next(record) or NEVER)  # noqa: B023 - used at once
        seen = world.run(len(path) - 100, lambda _: next(record) or NEVER)  # noqa: B023 - used at once
        calls, false = calls + seen.calls, false + seen.false
    assert false / calls <= 0.7 * 0.05


# -- what holds whatever comes -----------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["answer", "cut", "late", "lost", "watched"]),
        st.integers(1, 40 * SECOND),
        st.sampled_from([0, MS, SECOND, 70 * SECOND]),
    ),
    max_size=80,
)


@given(STEPS, st.floats(0.5, 0.9999))
def test_it_stays_between_floor_and_ceiling_whatever_is_watched(steps: list[tuple[str, int, int]], p: float) -> None:
    """Also when late and lost come without any timeouts, in any order; and it can always explain itself."""
    estimator = make(p, floor=10 * MS, ceiling=20 * SECOND, minimum=5)
    now = 0
    for what, size, gap in steps:
        now += gap
        if what == "watched":
            estimator.watched = size % 3
        elif what == "late":
            estimator.late(size, now)
        elif what == "lost":
            estimator.lost(now)
        else:
            estimator.absorb([size if what == "answer" else -size] * 7, now)
        estimator.refresh(now)
        assert 10 * MS <= estimator.ns <= 20 * SECOND
        why = estimator.explain(now, timed_out=5)
        assert 0 <= why.never_answered <= 1
        assert 0 <= why.censored <= 1
        assert str(why)
    again = make(p, floor=10 * MS, ceiling=20 * SECOND, minimum=5)
    again.load(estimator.dump(now), 5)
    assert 10 * MS <= again.ns <= 20 * SECOND


COUNTS = st.dictionaries(st.integers(0, 30), st.integers(1, 9), max_size=12)


@given(st.dictionaries(st.integers(0, 30), st.integers(1, 9), min_size=1, max_size=12), COUNTS, st.integers(0, 20))
def test_the_share_that_never_ends_is_what_the_textbook_leaves(
    done: dict[int, int], cut: dict[int, int], lost: int
) -> None:
    """The lost are cut off beyond all others; what the estimator leaves there, value by value, is their share."""
    events = sorted(
        [(b, 0) for b, c in done.items() for _ in range(c)] + [(b, 1) for b, c in cut.items() for _ in range(c)]
    )
    n = len(events) + lost
    survival = 1.0
    for i, (_, censored) in enumerate(events):
        if not censored:
            survival *= 1 - 1 / (n - i)
    assert never_ends(done, cut, lost) == pytest.approx(survival if lost else 0.0, abs=1e-9)


@given(st.dictionaries(st.integers(0, 30), st.integers(1, 9), min_size=1, max_size=12), COUNTS, st.integers(1, 20))
def test_with_some_lost_every_rank_is_that_of_an_answer(done: dict[int, int], cut: dict[int, int], lost: int) -> None:
    """The quantile is that of what is answered, so it always exists, and does not fall with the rank."""
    n = sum(done.values()) + sum(cut.values()) + lost
    found = [product_limit(done, cut, k, lost) for k in range(1, n + 1)]
    assert None not in found
    assert found == sorted(found)  # type: ignore[type-var]
    assert set(found) <= set(done)


@settings(max_examples=50)
@given(st.lists(st.integers(MS, 10 * SECOND), min_size=40, max_size=200), st.integers(1, 60))
def test_the_share_that_is_lost_leaves_the_quantile_alone(latencies: list[int], lost: int) -> None:
    """With nothing else cut off, the quantile of the answers is what it is without the lost ones, within rounding."""
    plain, other = (make(0.9, confidence=None) for _ in range(2))
    for estimator in (plain, other):
        estimator.absorb(latencies, 0)
    for _ in range(lost):
        other.lost(0)
    n = len(latencies)
    exact = sorted(latencies)
    found = other.quantile(0.9)
    assert found is not None
    # The rank is a whole number of n + lost values: up to one rank higher among the n.
    assert exact[math.ceil(0.9 * n - 1e-9) - 1] <= found <= 1.0203 * exact[min(n - 1, math.ceil(0.9 * n + 1))] + 1
