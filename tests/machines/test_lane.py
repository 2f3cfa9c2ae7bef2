"""One bucket, :mod:`resilience.machines.lane`: what holds whatever is done to it."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from resilience.machines.lane import Lane, Rate, Reservation

SECOND = 1_000_000_000

# From one in three hours to ten a nanosecond; most do not divide a second.
RATES = st.one_of(
    st.sampled_from([3, 7, 100, 333.33, 0.1, Fraction(1, 3), Fraction(1, 10800), 3e8, 7e8, 999_999_999, 1e10]),
    st.integers(1, 2_000_000_000),
    st.fractions(Fraction(1, 100), 10**9, max_denominator=1000),
    st.floats(0.01, 1e9),
)


class Op(NamedTuple):
    """One step: the clock moves by quarters of an interval and a few ns, then something happens."""

    kind: str
    n: int
    quarters: int
    ns: int
    which: int


def ops(kinds: str, *, back: bool = True, most: int = 40) -> st.SearchStrategy[list[Op]]:
    """Lists of steps of these kinds, the clock stepping back too if *back*."""
    low = -12 if back else 0
    op = st.builds(
        Op,
        kind=st.sampled_from(kinds.split()),
        n=st.integers(1, 5),
        quarters=st.integers(low, 12),
        ns=st.integers(-2 if back else 0, 2),
        which=st.integers(0, 30),
    )
    return st.lists(op, min_size=1, max_size=most)


def per_ns(rate: Rate) -> Fraction:
    """Tokens a nanosecond, worked out here and not taken from the code under test."""
    return Fraction(str(rate.rate)) / Fraction(str(rate.per)) / SECOND


def ns(rate: Rate, op: Op) -> int:
    """By how many nanoseconds a step moves the clock."""
    return math.floor(op.quarters / (4 * per_ns(rate))) + op.ns


class Run:
    """A lane driven by steps, with a log of what it granted."""

    def __init__(self, rate: Rate, now: int = 0) -> None:
        self.rate = rate
        self.lane = Lane(rate)
        self.now = self.high = self.lane.last = now
        self.taken: list[tuple[int, int]] = []
        self.promises: list[Reservation] = []

    def step(self, op: Op) -> object:
        """Do one step and return what the lane answered."""
        self.now += ns(self.rate, op)
        self.high = max(self.high, self.now)
        n = min(op.n, self.rate.burst)
        lane, now = self.lane, self.now
        if op.kind == "take" or (op.kind in ("cancel", "refund") and not self.promises):
            got = lane.take(n, now)
            if got:
                self.taken.append((self.high, n))
            return got
        if op.kind in ("reserve", "soon"):
            limit = None if op.kind == "reserve" else 2 * lane.rate.interval // lane.rate.scale
            promise = lane.reserve(n, now, limit)
            if promise is not None:
                self.promises.append(promise)
            return promise and promise.start
        promise = self.promises[-1 - op.which % len(self.promises)]
        if op.kind == "cancel":
            return [(moved.n, moved.start) for moved in lane.cancel(promise, now)]
        return lane.refund(promise, now)

    def granted(self) -> list[tuple[int, int]]:
        """Reading and tokens of all that was granted and not given back, in order."""
        kept = [(p.start, p.n) for p in self.promises if not p.cancelled]
        return sorted(self.taken + kept)


def assert_bound(granted: list[tuple[int, int]], burst: int, rate: Fraction) -> None:
    """In no span from s to e are there more than burst + rate * (e - s + 1 ns) tokens."""
    for i, (begin, _) in enumerate(granted):
        total = 0
        for end, n in granted[i:]:
            total += n
            assert total <= burst + rate * (end - begin + 1)


# ---- the bound ----


@settings(max_examples=300, deadline=None)
@given(RATES, st.integers(1, 5), ops("take reserve soon cancel refund"))
def test_no_span_grants_more_than_burst_and_rate(rate: float | Fraction, burst: int, steps: list[Op]) -> None:
    """Whatever is asked, under any clock, each span grants at most burst + rate * (t + 1 ns)."""
    run = Run(Rate(rate, burst=burst), now=50 * SECOND)
    for op in steps:
        run.step(op)

    assert_bound(run.granted(), burst, per_ns(run.rate))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([Fraction(2, 7), Fraction(3, 10), Fraction(1, 1), Fraction(5, 3)]), st.data())
def test_the_bound_is_tight_to_the_nanosecond(rate: Fraction, data: st.DataObject) -> None:
    """Where intervals are a few nanoseconds, rounding of starts does not break the bound either."""
    run = Run(Rate(rate, per=1e-9, burst=data.draw(st.integers(1, 3))))
    for op in data.draw(ops("take reserve soon cancel refund", back=False)):
        run.step(op._replace(quarters=0))

    assert_bound(run.granted(), run.rate.burst, rate)


@settings(max_examples=200, deadline=None)
@given(RATES, RATES, st.integers(1, 5), st.integers(1, 5), st.data())
def test_a_change_of_rate_keeps_the_bound(first: float, second: float, b1: int, b2: int, data: st.DataObject) -> None:
    """Over a change, each span grants at most the larger burst and what each rate yields."""
    old, new = Rate(first, burst=b1), Rate(second, burst=b2)
    run = Run(old, now=50 * SECOND)
    for op in data.draw(ops("take reserve soon cancel refund", most=15)):
        run.step(op)
    changed = run.high
    run.lane.rerate(new, run.now)
    run.rate = new
    for op in data.draw(ops("take reserve soon cancel refund", most=15)):
        run.step(op)

    granted = run.granted()
    assert_bound([grant for grant in granted if grant[0] > changed], b2, per_ns(new))
    for i, (begin, _) in enumerate(granted):
        total = 0
        for end, n in granted[i:]:
            total += n
            before = max(0, min(end, changed) - begin + 1) * per_ns(old)
            after = max(0, end - max(begin, changed) + 1) * per_ns(new)
            assert total <= max(b1, b2) + before + after


# ---- nothing lost ----


@settings(max_examples=200, deadline=None)
@given(RATES, st.integers(1, 5), ops("take reserve soon cancel refund"), st.integers(1, 5))
def test_work_is_conserved(rate: float | Fraction, burst: int, steps: list[Op], n: int) -> None:
    """A request refused now succeeds after the wait it is told, and not 2 ns before."""
    run = Run(Rate(rate, burst=burst))
    for op in steps:
        run.step(op)
    n = min(n, burst)
    now, lane = run.now, run.lane
    wait = lane.wait(n, now)

    def fresh() -> Lane:
        copy = Lane(lane.rate, lane.tat)
        copy.last = lane.last
        return copy

    assert (wait == 0) == fresh().take(n, now)
    assert fresh().take(n, now + wait)
    if wait > 0:
        assert not fresh().take(n, now + wait - 2)
        assert fresh().reserve(n, now, wait - 1) is None
    promise = fresh().reserve(n, now, wait)
    assert promise is not None
    assert promise.start == (now + wait if wait > 0 else max(now, lane.last))


# ---- fairness ----


@settings(max_examples=200, deadline=None)
@given(RATES, st.integers(1, 5), ops("take reserve soon cancel refund"))
def test_first_come_first_served(rate: float | Fraction, burst: int, steps: list[Op]) -> None:
    """Starts never fall in order of arrival, at any time, and nobody takes while one waits."""
    run = Run(Rate(rate, burst=burst))
    for op in steps:
        waiting = any(not p.cancelled and p.start > max(run.high, run.now + ns(run.rate, op)) for p in run.promises)
        answer = run.step(op)
        if op.kind == "take" and waiting:
            assert answer is False
        starts = [p.start for p in run.promises if not p.cancelled]
        assert sorted(starts) == starts
        assert len([s for s in starts if s > run.high]) == run.lane.waiting(run.now)


# ---- giving back ----


@settings(max_examples=150, deadline=None)
@given(RATES, st.integers(1, 5), ops("reserve cancel", back=False))
def test_cancelling_moves_others_only_forward(rate: float | Fraction, burst: int, steps: list[Op]) -> None:
    """Whenever one is cancelled, nobody is put off, nor sent into the past, nor moved once gone."""
    run = Run(Rate(rate, burst=burst))
    for op in steps:
        before = {p: p.start for p in run.promises}
        run.step(op)
        for promise, start in before.items():
            assert promise.start == start or run.now <= promise.start < start
            if start <= run.now:
                assert promise.start == start


# ---- the clock ----


@settings(max_examples=200, deadline=None)
@given(RATES, st.integers(1, 5), ops("take reserve cancel refund"))
def test_a_clock_that_steps_back_changes_nothing(rate: float | Fraction, burst: int, steps: list[Op]) -> None:
    """All answers under any clock are those under the latest reading so far."""
    spec = Rate(rate, burst=burst)
    run, steady, now, high = Run(spec, now=100), Run(spec, now=100), 100, 100
    for op in steps:
        now += ns(spec, op)
        high = max(high, now)
        steady.now = steady.high = high
        assert steady.step(op._replace(quarters=0, ns=0)) == run.step(op)
        assert (steady.lane.tat, high) == (run.lane.tat, run.lane.last)
        assert steady.lane.available(high) == run.lane.available(now)
        assert steady.lane.idle(high) == run.lane.idle(now)
        assert steady.lane.waiting(high) == run.lane.waiting(now)
        assert steady.granted() == run.granted()


@given(RATES, st.integers(1, 5), ops("take reserve", back=False), st.integers(0, 3))
def test_an_idle_lane_is_a_fresh_one(rate: float | Fraction, burst: int, steps: list[Op], later: int) -> None:
    """Idle means: forgetting the lane changes no later answer."""
    run = Run(Rate(rate, burst=burst))
    for op in steps:
        run.step(op)
    now = max(run.now, run.lane.tat // run.rate.scale) + later
    if not run.lane.idle(now):
        now += 1
    assert run.lane.idle(now)
    fresh = Lane(run.rate)
    for _ in range(burst + 1):
        assert fresh.wait(1, now) == run.lane.wait(1, now)
        assert fresh.take(1, now) == run.lane.take(1, now)
    assert not fresh.idle(now)
    assert fresh.tat == run.lane.tat


# ---- rerate ----


@settings(max_examples=150, deadline=None)
@given(RATES, RATES, st.integers(1, 5), st.integers(1, 5), ops("take reserve soon"))
def test_a_change_of_rate_keeps_what_is_missing(first: float, second: float, b1: int, b2: int, steps: list[Op]) -> None:
    """The missing tokens stay missing, up to the new burst, and to less than a unit of time."""
    run = Run(Rate(first, burst=b1))
    for op in steps:
        run.step(op)
    lane, now, new = run.lane, run.high, Rate(second, burst=b2)
    for promise in [p for p in run.promises if p.start > now][::-1]:
        lane.cancel(promise, now)
    missing = Fraction(max(0, lane.tat - now * lane.rate.scale), lane.rate.interval)
    kept = min(missing, Fraction(b2))
    lane.rerate(new, now)

    after = (lane.tat - now * new.scale) / Fraction(new.interval)
    assert lane.rate is new
    assert 0 <= after - kept < Fraction(1, new.interval)


# ---- settings ----
