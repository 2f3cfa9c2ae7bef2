"""One bucket, :mod:`resilience.machines.lane`: exact to the nanosecond, case by case."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilience.errors import ConfigError
from resilience.machines.lane import Lane, Rate

if TYPE_CHECKING:
    from collections.abc import Callable

SECOND = 1_000_000_000
TENS = Rate(1, per=1e-8, burst=2)  # a token each 10 ns: small numbers for examples

# From one in three hours to ten a nanosecond; most do not divide a second.
RATES = st.one_of(
    st.sampled_from([3, 7, 100, 333.33, 0.1, Fraction(1, 3), Fraction(1, 10800), 3e8, 7e8, 999_999_999, 1e10]),
    st.integers(1, 2_000_000_000),
    st.fractions(Fraction(1, 100), 10**9, max_denominator=1000),
    st.floats(0.01, 1e9),
)


def per_ns(rate: Rate) -> Fraction:
    """Tokens a nanosecond, worked out here and not taken from the code under test."""
    return Fraction(str(rate.rate)) / Fraction(str(rate.per)) / SECOND


class LevelBucket:
    """The obvious token bucket: a level that refills, in fractions."""

    def __init__(self, rate: Fraction, burst: int, now: int) -> None:
        self.rate = rate
        self.burst = self.level = Fraction(burst)
        self.now = now

    def refill(self, now: int) -> None:
        self.level = min(self.burst, self.level + (now - self.now) * self.rate)
        self.now = now

    def take(self, n: int, now: int) -> bool:
        self.refill(now)
        if self.level + self.rate < n:  # a nanosecond of refill is lent
            return False
        self.level -= n
        return True

    def wait(self, n: int, now: int) -> int:
        self.refill(now)
        if self.level + self.rate >= n:
            return 0
        return math.floor((n - self.level) / self.rate)

    def available(self, now: int) -> int:
        self.refill(now)
        return max(0, math.floor(min(self.burst, self.level + self.rate)))


STEPS = st.tuples(st.integers(1, 5), st.integers(0, 12), st.integers(0, 2))


@settings(max_examples=300, deadline=None)
@given(RATES, st.integers(1, 5), st.lists(STEPS, min_size=1, max_size=60))
def test_it_is_the_obvious_token_bucket(rate: float | Fraction, burst: int, steps: list[tuple[int, int, int]]) -> None:
    """Answers, waits and levels are those of a bucket whose level is an exact fraction."""
    spec = Rate(rate, burst=burst)
    exact = per_ns(spec)
    lane, reference, now = Lane(spec), LevelBucket(exact, burst, 7), 7
    for want, quarters, ns in steps:
        now += math.floor(quarters / (4 * exact)) + ns
        n = min(want, burst)
        assert reference.available(now) == lane.available(now)
        assert reference.wait(n, now) == lane.wait(n, now)
        assert reference.take(n, now) == lane.take(n, now)


PACERS: dict[str, Callable[[int, float], int]] = {
    "float, floor": lambda k, rate: math.floor(k / rate * 1e9),
    "float step, floor": lambda k, rate: math.floor(k * (1 / rate) * 1e9),
    "float, round": lambda k, rate: round(k / rate * 1e9),
    "exact, floor": lambda k, rate: math.floor(k * SECOND / Fraction(str(rate))),
    "exact, round": lambda k, rate: round(k * SECOND / Fraction(str(rate))),
    "exact, ceiling": lambda k, rate: math.ceil(k * SECOND / Fraction(str(rate))),
}


@pytest.mark.parametrize("epoch", [0, 1_700_000_000_000_000_000])
@pytest.mark.parametrize("pacer", PACERS)
@pytest.mark.parametrize("rate", [3, 7, 100, 1 / 3, 0.1, 333.33, 4096.5, 2e9, 6.7e8])
def test_an_exactly_paced_caller_is_never_refused(rate: float, pacer: str, epoch: int) -> None:
    """Who asks at k / rate seconds gets every token, however it rounds, for thousands of calls."""
    lane, when = Lane(Rate(rate)), PACERS[pacer]
    calls = 3000

    assert calls == sum(lane.take(1, epoch + when(k, rate)) for k in range(calls))


@settings(deadline=None)
@given(RATES, st.lists(st.booleans(), min_size=1, max_size=200))
def test_a_caller_up_to_a_nanosecond_early_is_never_refused(rate: float | Fraction, early: list[bool]) -> None:
    """Any reading from one nanosecond before the exact moment up to it will do, in any order."""
    spec = Rate(rate)
    lane, exact = Lane(spec), per_ns(spec)
    for k, ahead in enumerate(early):
        due = k / exact
        assert lane.take(1, math.ceil(due - 1) if ahead else math.floor(due))


@pytest.mark.parametrize("rate", [3, 7, 100, 0.1, 333.33])
def test_a_caller_who_adds_up_floats_is_served_while_within_a_nanosecond(rate: float) -> None:
    """Adding 1/rate in a loop drifts; it is refused only when over a nanosecond early by then."""
    lane, at, exact = Lane(Rate(rate)), 0.0, Fraction(str(rate)) / SECOND
    refused_at = []
    for k in range(5000):
        reading = math.floor(at * 1e9)
        if not lane.take(1, reading):
            refused_at.append(k / exact - reading)
        at += 1 / rate

    assert len(refused_at) <= 1
    assert all(ahead > 1 for ahead in refused_at)


@given(RATES, st.integers(1, 100), st.integers(2, 10))
def test_the_tolerance_does_not_add_up(rate: float | Fraction, burst: int, times: int) -> None:
    """Who is early by the tolerated nanosecond each time gains that one nanosecond in all."""
    spec = Rate(rate, burst=burst)
    lane, exact, got, now = Lane(spec), per_ns(spec), 0, 0
    for _ in range(times):
        while lane.available(now):
            got += lane.take(1, now)
        now += lane.wait(1, now)
    assert got <= burst + exact * (lane.last + 1)


@given(st.integers(1, 5), st.lists(st.integers(1, 5), min_size=1, max_size=20))
def test_a_refusal_leaves_no_trace(burst: int, wants: list[int]) -> None:
    """What is refused or only asked about changes nothing."""
    lane = Lane(Rate(3, burst=burst))
    for n in (min(n, burst) for n in wants):
        before = lane.tat
        lane.wait(n, 0), lane.available(0), lane.idle(0)
        assert before == lane.tat
        if not lane.take(n, 0):
            assert lane.reserve(n, 0, 0) is None
            assert (before, 0) == (lane.tat, len(lane.pending))


def test_a_heavy_request_is_not_overtaken() -> None:
    """A light request behind a heavy one that waits gets its turn after it."""
    lane = Lane(Rate(1, per=1e-8, burst=5))
    assert lane.take(5, 0)
    heavy, light = lane.reserve(5, 0, None), lane.reserve(1, 0, None)

    assert heavy is not None and light is not None
    assert (heavy.start, light.start) == (50, 60)
    assert [lane.take(1, 20), lane.take(1, 48)] == [False, False]


@settings(max_examples=200, deadline=None)
@given(RATES, st.integers(1, 5), st.lists(st.integers(1, 5), min_size=1, max_size=15), st.data())
def test_cancelled_promises_leave_no_gap(
    rate: float | Fraction, burst: int, wants: list[int], data: st.DataObject
) -> None:
    """If all arrive at once, those who stay go as if the cancelled had never come."""
    wants = [min(n, burst) for n in wants]
    lane = Lane(Rate(rate, burst=burst))
    lane.take(burst, 0)
    made = [lane.reserve(n, 0, None) for n in wants]
    promises = [p for p in made if p is not None]
    assert len(made) == len(promises)
    for promise in data.draw(st.lists(st.sampled_from(promises), unique=True)):
        if promise.start == 0:
            continue  # gone, by itself or because it moved up: that is a refund's business
        before = {p: p.start for p in promises}
        moved = lane.cancel(promise, 0)
        assert {p for p in promises if p.start != before[p]} == set(moved)
        assert all(p.start < before[p] for p in moved)

    other = Lane(Rate(rate, burst=burst))
    other.take(burst, 0)
    for promise in promises:
        if not promise.cancelled:
            expected = other.reserve(promise.n, 0, None)
            assert expected is not None
            assert (expected.start, expected.tat_after) == (promise.start, promise.tat_after)
    assert other.tat == lane.tat


def test_cancel_twice_or_elsewhere() -> None:
    """A second cancel does nothing; one for another lane's promise is an error."""
    lane, other = Lane(TENS), Lane(TENS)
    lane.take(2, 0)
    first, second = lane.reserve(1, 0, None), lane.reserve(1, 0, None)
    assert first is not None and second is not None

    assert [second] == lane.cancel(first, 0)
    assert lane.cancel(first, 0) == []
    assert (second.start, first.cancelled, second.cancelled) == (10, True, False)
    assert repr(first) == "<Reservation n=1 start=10, cancelled>"
    with pytest.raises(ValueError, match="not in deque"):
        other.cancel(second, 0)


def test_refund_only_while_nobody_took_since() -> None:
    """A started reservation is given back if it was the last; else not, and nothing changes."""
    lane = Lane(TENS)
    first, second = lane.reserve(1, 0, None), lane.reserve(1, 0, None)
    assert first is not None and second is not None
    before = lane.tat

    assert not lane.refund(first, 0)
    assert (before, False) == (lane.tat, first.cancelled)
    assert lane.refund(second, 0)
    assert not lane.refund(second, 0)
    assert lane.refund(first, 0)
    assert lane.available(0) == 2


def test_refund_does_not_let_a_third_through() -> None:
    """Burst 2, a token each 10 ns: A at 0, B at 15; A's token, refilled by 10, cannot come back."""
    lane = Lane(Rate(1, per=1e-8, burst=2))
    first = lane.reserve(1, 0, None)
    assert first is not None and lane.take(1, 15)

    assert not lane.refund(first, 15)
    assert [lane.take(1, 15), lane.take(1, 15)] == [True, False]


def test_refund_is_not_for_those_who_wait() -> None:
    """What has not started is cancelled, not refunded; cancelling what has started refunds it."""
    lane = Lane(TENS)
    lane.take(2, 0)
    promise = lane.reserve(1, 0, None)
    assert promise is not None

    assert not lane.refund(promise, 0)
    assert (lane.started(promise, 9), lane.started(promise, 10)) == (False, True)
    assert lane.cancel(promise, 10) == []
    assert promise.cancelled and not lane.started(promise, 10)
    assert lane.available(10) == 1


def test_a_step_back_neither_refills_nor_locks_out() -> None:
    """After a step back by an hour what was there is there, and nothing more comes meanwhile."""
    lane, hour = Lane(Rate(10, burst=3)), 3600 * SECOND
    assert lane.take(1, hour)

    assert [lane.take(1, at) for at in (0, 5, SECOND)] == [True, True, False]
    assert hour + SECOND // 10 - SECOND == lane.wait(1, SECOND)
    assert not lane.take(1, hour)
    assert lane.take(1, hour + SECOND // 10)


@settings(max_examples=150, deadline=None)
@given(RATES, RATES, st.integers(1, 5), st.integers(1, 5), st.lists(st.integers(1, 5), max_size=12))
def test_a_change_of_rate_places_the_waiting_anew(
    first: float, second: float, b1: int, b2: int, wants: list[int]
) -> None:
    """They stand as if they all arrived now; those that can never pass are told so."""
    lane, new = Lane(Rate(first, burst=b1)), Rate(second, burst=b2)
    lane.take(b1, 0)
    made = [lane.reserve(min(n, b1), 0, None) for n in wants]
    promises = [p for p in made if p is not None and p.start > 0]
    before = {p: p.start for p in promises}
    base = sum(p.n for p in made if p is not None and p.start == 0)
    told = lane.rerate(new, 0)

    assert {p for p in promises if p.n > b2} == {p for p in promises if p.cancelled}
    assert {p for p in promises if p.cancelled or p.start != before[p]} == set(told)
    other = Lane(new)
    other.tat = min(b1 + base, b2) * new.interval
    for promise in promises:
        if not promise.cancelled:
            expected = other.reserve(promise.n, 0, None)
            assert expected is not None
            assert (expected.start, expected.tat_after) == (promise.start, promise.tat_after)


def test_a_change_to_the_same_rate_changes_nothing() -> None:
    """Nobody is moved, and a refund still works."""
    lane = Lane(TENS)
    promise = lane.reserve(2, 0, None)
    waiting = [lane.reserve(2, 0, None), lane.reserve(1, 0, None)]
    tat = lane.tat

    assert lane.rerate(TENS, 0) == []
    assert (tat, waiting) == (lane.tat, list(lane.pending))
    assert promise is not None
    for waiter in waiting:
        lane.cancel(waiter, 0)  # type: ignore[arg-type]
    assert lane.refund(promise, 0)


def test_a_bucket_is_idle_from_the_very_moment_it_is_full() -> None:
    """Idle begins with the nanosecond in which the last missing token is there."""
    lane = Lane(TENS)
    assert lane.idle(0)
    lane.take(2, 0)

    assert [lane.idle(at) for at in (0, 19, 20)] == [False, False, True]


def test_a_promise_placed_anew_belongs_to_the_new_rate() -> None:
    """Who waited through a change of rate can be refunded like anybody else."""
    lane = Lane(TENS)
    lane.take(2, 0)
    promise = lane.reserve(1, 0, None)
    assert promise is not None
    lane.rerate(Rate(1, per=2e-8, burst=2), 0)

    assert promise.start == 20
    assert lane.refund(promise, 20)


def test_no_refund_across_a_change_of_rate() -> None:
    """A TAT of another scale that happens to be the same number is no proof."""
    lane = Lane(Rate(1, per=1e-9, burst=2))
    promise = lane.reserve(1, 0, None)
    assert promise is not None
    lane.rerate(Rate(1, per=1e-9, burst=3), 0)

    assert promise.tat_after == lane.tat
    assert not lane.refund(promise, 0)


def test_n_above_the_burst_is_refused_by_name() -> None:
    """A request that could never pass is an error that says so, even at absurd rates."""
    for rate in (TENS, Rate(1e12, burst=2)):
        lane = Lane(rate)
        for call in (lane.take, lane.wait, lambda n, now, at=lane: at.reserve(n, now, None)):
            with pytest.raises(ConfigError, match=r"n must be at most burst \(2\), not 3"):
                call(3, 0)
