"""Backoff: bounds, distributions, growth without overflow; and AWS's contention simulation as a check from outside."""

from __future__ import annotations

import heapq
import math
import random
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resilience as rs
from resilience.backoff import Backoff, as_backoff

if TYPE_CHECKING:
    from collections.abc import Callable

UNIT = st.floats(0, 1, exclude_max=True)
BASES = st.floats(1e-3, 10)
CAPS = st.floats(10, 1e4)


def first(backoff: Backoff, n: int, rng: Callable[[], float] | None = None) -> list[float]:
    return list(islice(backoff.delays(rng or random.Random(1).random), n))


def test_the_first_wait_is_the_base() -> None:
    """Counting begins at the base: 0.1, 0.2, 0.4, ...; linear: 1, 2, 3, ... or by another step."""
    assert first(rs.Exponential(0.1, cap=1.0, jitter="none"), 6) == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    assert first(rs.Exponential(1.0, 3.0, jitter="none"), 4) == pytest.approx([1.0, 3.0, 9.0, 20.0])
    assert first(rs.Exponential(2.0, 1.0, jitter="none"), 3) == [2.0, 2.0, 2.0]
    assert first(rs.Linear(1.0, cap=2.5), 4) == [1.0, 2.0, 2.5, 2.5]
    assert first(rs.Linear(0.0, 0.5), 3) == [0.0, 0.5, 1.0]
    assert first(rs.Constant(3.0), 3) == [3.0, 3.0, 3.0]


@given(BASES, CAPS, st.sampled_from(["full", "equal", "none"]), st.lists(UNIT, min_size=1, max_size=40))
def test_jitter_stays_within_its_ceiling(base: float, cap: float, jitter: str, draws: list[float]) -> None:
    """Full: from 0; equal: from half of it; none: exactly it; and the ceiling never exceeds the cap."""
    backoff = rs.Exponential(base, cap=cap, jitter=jitter)
    low = {"full": 0.0, "equal": 0.5, "none": 1.0}[jitter]
    row = iter(draws)
    for n, delay in enumerate(islice(backoff.delays(lambda: next(row)), len(draws)), start=1):
        ceiling = backoff.ceiling(n)
        assert ceiling <= cap
        assert ceiling == pytest.approx(min(cap, base * 2.0 ** (n - 1)))
        assert low * ceiling - 1e-12 <= delay <= ceiling


@given(BASES, CAPS, st.lists(UNIT, min_size=1, max_size=60))
def test_decorrelated_jitter_stays_between_base_and_cap(base: float, cap: float, draws: list[float]) -> None:
    """Each wait lies between the base and three times the one before, below the cap."""
    row = iter(draws)
    before = base
    for delay in islice(rs.Exponential(base, cap=cap, jitter="decorrelated").delays(lambda: next(row)), len(draws)):
        assert base <= delay <= min(cap, 3 * before) * (1 + 1e-12)
        before = delay


@pytest.mark.parametrize("jitter", ["full", "equal", "decorrelated"])
def test_jitter_is_not_lost_at_the_cap(jitter: str) -> None:
    """After many attempts clients are still spread out: practically none waits exactly the cap."""
    rng = random.Random(2)
    backoff = rs.Exponential(0.1, cap=10.0, jitter=jitter)
    late = [list(islice(backoff.delays(rng.random), 30))[-1] for _ in range(3000)]
    assert sum(delay == 10.0 for delay in late) / len(late) < 1e-3
    assert len(set(late)) > 2990


@pytest.mark.parametrize(("jitter", "low"), [("full", 0.0), ("equal", 0.5)])
def test_jitter_is_uniform(jitter: str, low: float) -> None:
    """By the Kolmogorov-Smirnov distance from the uniform distribution, at a thousandth's significance."""
    rng = random.Random(3)
    n = 4000
    draws = sorted((next(rs.Exponential(1.0, jitter=jitter).delays(rng.random)) - low) / (1 - low) for _ in range(n))
    distance = max(max(abs((i + 1) / n - x), abs(i / n - x)) for i, x in enumerate(draws))
    assert distance < 1.95 / math.sqrt(n)


def test_decorrelated_jitter_grows_as_its_formula_says() -> None:
    """Uncapped, the mean of the n-th wait is base * (2 * 1.5^n - 1)."""
    rng = random.Random(4)
    backoff = rs.Exponential(5.0, cap=1e9, jitter="decorrelated")
    rows = [list(islice(backoff.delays(rng.random), 5)) for _ in range(40_000)]
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    for n, mean in enumerate(means, start=1):
        assert mean == pytest.approx(5.0 * (2 * 1.5**n - 1), rel=0.03)


@given(BASES, st.floats(1, 100), CAPS, st.integers(1, 10**12))
def test_large_attempt_numbers_never_overflow(base: float, factor: float, cap: float, n: int) -> None:
    """However late, a ceiling is a number up to the cap."""
    assert 0 < rs.Exponential(base, factor, cap=cap).ceiling(n) <= cap
    assert 0 < rs.Linear(base, factor, cap=cap).ceiling(n) <= cap
    assert all(map(math.isfinite, first(rs.Exponential(base, factor, cap=cap), 20)))


@given(st.floats(5e-324, 1e-200), st.sampled_from(["full", "decorrelated"]), st.integers(1, 10**400))
def test_tiny_bases_never_overflow(base: float, jitter: str, n: int) -> None:
    """A cap that is more than the largest float times the base, and numbers no float holds, are no trouble either."""
    assert 0 < rs.Exponential(base, cap=4e9, jitter=jitter).ceiling(n) <= 4e9


def test_no_decorrelated_wait_exceeds_its_ceiling() -> None:
    """The ceiling of the n-th wait is 3^n bases, up to the cap."""
    backoff = rs.Exponential(0.1, cap=10.0, jitter="decorrelated")
    for n, wait in enumerate(first(backoff, 8, lambda: 1 - 2**-53), start=1):
        assert wait == pytest.approx(backoff.ceiling(n))


async def no_seconds(_: int) -> float:
    return 1.0


def no_function(_: int) -> Any:
    yield 1.0


class OneRow:
    """Gives everybody the same iterator."""

    def __init__(self) -> None:
        self.row = iter([1.0, 2.0])

    def __iter__(self) -> Any:
        return self.row


@pytest.mark.parametrize(
    "value", [rs.Exponential, {1.0, 2.0}, {1.0: 2.0}, "1", None, True, no_seconds, no_function, [], OneRow()]
)
def test_what_is_no_backoff_is_refused_when_it_is_given(value: Any) -> None:
    """Not at the first failure, where it would stand in for the caller's own error."""
    with pytest.raises((TypeError, rs.ConfigError), match="backoff must"):
        as_backoff(value)


def test_a_hundred_thousand_retries_are_no_trouble() -> None:
    """Also not by iterating."""
    for backoff in (rs.Exponential(0.1), rs.Exponential(0.1, jitter="decorrelated"), rs.Linear(0.1)):
        *_, last = islice(backoff.delays(random.Random(5).random), 100_000)
        assert 0 <= last <= 60


def test_every_call_has_a_row_of_its_own() -> None:
    """Rows that run at the same time do not take each other's waits."""
    backoff = rs.Exponential(1.0, jitter="none")
    one, other = backoff.delays(random.random), backoff.delays(random.random)
    assert [next(one), next(one), next(other), next(one)] == [1.0, 2.0, 1.0, 4.0]


def test_what_users_write_becomes_a_backoff() -> None:
    """Seconds, a timedelta, a list (whose end is the end), a function of the retry's number, or one's own class."""

    class Fibonacci:
        def delays(self, random: Any) -> Any:
            a, b = 1.0, 1.0
            while True:
                yield a
                a, b = b, a + b

    assert first(as_backoff(2), 2) == [2.0, 2.0]
    assert first(as_backoff(timedelta(milliseconds=500)), 1) == [0.5]
    assert first(as_backoff([0.1, 1]), 5) == [0.1, 1.0]
    assert first(as_backoff(lambda n: n * n), 3) == [1.0, 4.0, 9.0]
    assert first(as_backoff(Fibonacci()), 5) == [1.0, 1.0, 2.0, 3.0, 5.0]
    with pytest.raises(rs.ConfigError, match="share it"):
        as_backoff(iter([1.0]))
    with pytest.raises(rs.ConfigError, match="delay 1 of backoff"):
        first(as_backoff(lambda _: -1.0), 1)


def contention(n: int, delays: Callable[[random.Random], Any], seed: int, spread: float = 2.0) -> tuple[int, float]:
    """AWS's model: clients compare-and-set one row; losers wait, read again and try again. Writes, and time in ms."""
    rng = random.Random(seed)

    def net() -> float:
        return abs(rng.gauss(10, spread))

    events: list[tuple[float, int, str, int]] = []  # time, client, what, version read
    rows = [delays(rng) for _ in range(n)]
    version = writes = 0
    for client in range(n):
        heapq.heappush(events, (net(), client, "read", 0))
    end = 0.0
    while events:
        now, client, what, seen = heapq.heappop(events)
        if what == "read":  # at the server; the answer, and the write, travel
            heapq.heappush(events, (now + net() + net(), client, "write", version))
        elif what == "write":
            writes += 1
            won = seen == version
            version += won
            heapq.heappush(events, (now + net(), client, "won" if won else "lost", 0))
        elif what == "lost":
            heapq.heappush(events, (now + 1000 * next(rows[client]) + net(), client, "read", 0))
        end = now
    return writes, end


def row(backoff: Backoff) -> Callable[[random.Random], Any]:
    return lambda rng: backoff.delays(rng.random)


def test_without_variance_contention_is_the_closed_form() -> None:
    """On a perfect network without backoff one client wins each round: N rounds, N(N+1)/2 writes, 40 ms a round."""
    for n in (1, 5, 20):
        writes, end = contention(n, row(rs.Constant(0.0)), 1, spread=0.0)
        assert (writes, round(end)) == (n * (n + 1) // 2, 40 * n)


def test_jitter_orders_the_contention_as_published() -> None:
    """Writes: full < equal < exponential without jitter <= none; full jitter at under three quarters of that."""
    settings: dict[str, Backoff] = {
        "none": rs.Constant(0.0),
        "exponential": rs.Exponential(0.01, cap=2.0, jitter="none"),
        "equal": rs.Exponential(0.01, cap=2.0, jitter="equal"),
        "decorrelated": rs.Exponential(0.005, cap=2.0, jitter="decorrelated"),
        "full": rs.Exponential(0.01, cap=2.0, jitter="full"),
    }
    writes = {
        name: sum(contention(60, row(backoff), seed)[0] for seed in range(8)) for name, backoff in settings.items()
    }
    assert writes["full"] < writes["equal"] < writes["exponential"] <= writes["none"]
    assert writes["full"] < writes["decorrelated"] < writes["exponential"]
    assert writes["full"] / writes["exponential"] < 0.75
