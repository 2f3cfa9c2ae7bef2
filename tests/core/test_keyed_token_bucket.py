"""Waiting for the token of a key: in order within the key, apart from others, and gone when cancelled."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resilience as rs
from resilience.testing import VirtualClock


def test_tasks_wait_in_their_own_key_only() -> None:
    """Each key at its rate, first come first served; a cancelled one lets those behind it move up."""
    clock = VirtualClock()
    limiter = rs.KeyedTokenBucket(1, burst=1, clock=clock)
    served: list[tuple[str, int, float]] = []

    async def take(key: str, number: int) -> None:
        await limiter.at(key).aacquire()
        served.append((key, number, round(clock.now, 3)))

    async def main() -> None:
        tasks = [asyncio.create_task(take(key, number)) for number in range(4) for key in "ab"]
        await asyncio.sleep(0.5)
        tasks[2].cancel()  # the second of key a
        with pytest.raises(asyncio.CancelledError):
            await tasks[2]
        await asyncio.gather(*tasks[:2], *tasks[3:])

    clock.run(main())
    assert [(number, at) for key, number, at in served if key == "a"] == [(0, 0.0), (2, 1.0), (3, 2.0)]
    assert [(number, at) for key, number, at in served if key == "b"] == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)]
    assert limiter.counters["waited"] == 6


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3), st.floats(0.0, 3.0)), max_size=25),
    st.sampled_from([0.5, 1.0, 3.0]),
)
def test_each_key_is_a_bucket_of_its_own(requests: list[tuple[str, int, float]], rate: float) -> None:
    """What a family decides for a key is what one bucket decides that sees only the requests of that key."""
    clock = VirtualClock()
    family = rs.KeyedTokenBucket(rate, burst=3, clock=clock)
    single = {key: rs.TokenBucket(rate, burst=3, clock=clock) for key in "abc"}
    for key, n, gap in requests:
        clock.advance(gap)
        view, bucket = family.at(key), single[key]
        assert view.wait_time(n) == bucket.wait_time(n)
        assert view.tokens == bucket.tokens
        assert view.try_acquire(n) == bucket.try_acquire(n)


def test_blocking_and_refusals_name_the_key() -> None:
    """One waits, or is refused at once when the wait would be too long; no timeout that is none is taken."""
    clock = VirtualClock()
    limiter = rs.KeyedTokenBucket(1, burst=1, name="api", clock=clock)
    view = limiter.at(("tenant", 7))
    assert (view.acquire(), view.acquire()) == (0.0, 1.0)
    assert clock.sleeps == [1.0]
    with pytest.raises(rs.RateLimited, match=r"api.*\('tenant', 7\)") as caught:
        view.acquire(timeout=0.5)
    assert caught.value.retry_after == pytest.approx(1.0)
    assert clock.sleeps == [1.0]
    for bad in (-1.0, float("nan"), "1", True):
        with pytest.raises((TypeError, ValueError), match="timeout"):
            limiter.at("new").acquire(timeout=bad)  # type: ignore[arg-type]


def test_a_call_without_its_key_is_refused_and_holds_nothing() -> None:
    """No first argument, or one that cannot be a key: the caller's mistake is said, and a probe is given back."""
    clock = VirtualClock()
    breaker = rs.CircuitBreaker(consecutive=1, open_for=1.0, jitter=0.0, probes=1)
    policy = rs.Policy(breaker=breaker, limiter=rs.KeyedTokenBucket(1, burst=5), clock=clock)
    breaker.trip()
    clock.advance(1.0)
    with pytest.raises(rs.ConfigError, match="key="):
        policy.call(lambda: None)
    with pytest.raises(TypeError, match="unhashable"):
        policy.call(lambda item: item, [])
    assert breaker.snapshot.live == 0
    assert policy.call(lambda item: item, "key") == "key"
    assert breaker.state == "closed"
