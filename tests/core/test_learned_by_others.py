"""What follows a learned timeout: one for each key, the delay of a hedge, the slow calls of a breaker."""

from __future__ import annotations

import asyncio
import gc
import math
import random
import tracemalloc
from typing import Any

import pytest

import resilience as rs
from resilience.testing import VirtualClock


def learned(**more: Any) -> rs.PercentileTimeout:
    return rs.PercentileTimeout(**{"percentile": 0.9, "between": (0.01, 2.0), **more})


# -- one for each key --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["acall", "decorated", "call", "decorated function"])
def test_each_key_learns_its_own_timeout(way: str) -> None:
    """A slow tenant does not teach the others patience."""
    clock = VirtualClock()
    timeouts = rs.PerKey(learned(mode="argument"), key=lambda tenant, timeout=None: tenant)
    policy = rs.Policy("db", timeout=timeouts, registry=None, clock=clock)
    takes = {"quick": 0.02, "slow": 1.0}

    async def query(tenant: str) -> float | None:
        left = rs.remaining()
        await asyncio.sleep(takes[tenant])
        return left

    def read(tenant: str, timeout: float = 9.0) -> float:
        clock.sleep(takes[tenant])
        return timeout

    ways: dict[str, Any] = {
        "acall": lambda tenant: clock.run(policy.acall(query, tenant)),
        "decorated": lambda tenant: clock.run(policy(query)(tenant)),
        "call": lambda tenant: policy.call(read, tenant),
        "decorated function": policy(read),
    }
    for _ in range(60):
        ways[way]("quick")
        ways[way]("slow")
    assert ways[way]("quick") < 0.05
    assert 1.0 < ways[way]("slow") <= 2.0
    assert timeouts["quick"].current < 0.05 < 1.0 < timeouts["slow"].current
    assert timeouts["quick"].name == "db['quick']" or timeouts["quick"].name is None
    assert timeouts.counters["keys"] == 2
    assert timeouts.counters["seconds"] == timeouts["slow"].current  # the largest, not the sum


def test_a_family_of_timeouts_fits_where_one_does() -> None:
    """Checked when a function is decorated; overridden in its own mode; no block, for that has no key."""
    clock = VirtualClock()
    timeouts = rs.PerKey(learned(mode="argument"), key=lambda tenant, timeout=None: tenant)
    policy = rs.Policy(timeout=timeouts, clock=clock)

    def read(tenant: str, timeout: float = 9.0) -> float:
        return timeout

    with pytest.raises(rs.ConfigError, match="no parameter 'timeout'"):
        policy(lambda tenant: tenant)
    with policy.override(timeout=0.5):
        assert policy.call(read, "a") == policy(read)("a") == 0.5
    with pytest.raises(rs.ConfigError, match="key"), policy:
        pass
    with pytest.raises(rs.ConfigError, match="beyond the deadline"):
        rs.Policy(timeout=timeouts, deadline=1.0)
    shadow = rs.Policy(timeout=rs.PerKey(learned(shadow=True), key=lambda tenant: tenant), clock=clock)
    assert shadow.call(lambda tenant: tenant, "a") == "a"
    with pytest.raises(rs.ConfigError, match="synchronous call cannot be interrupted"):
        rs.Policy(timeout=rs.PerKey(learned(), key=len), clock=clock).call(len, "a")


def test_the_least_used_key_is_forgotten_first() -> None:
    """At most *max_keys* are kept."""
    timeouts = rs.PerKey(learned(), key=lambda key: key, max_keys=3)
    for key in (1, 2, 3, 1, 4):
        timeouts[key].observe(0.1)
    assert set(timeouts) == {1, 3, 4}
    assert timeouts.counters["evicted"] == 1


@pytest.mark.parametrize(
    ("each", "slices", "percentile"), [(1, 3, 0.99), (85, 13, 0.99), (835, 13, 0.99), (60, 52, 0.999)]
)
def test_ten_thousand_keys_fit_into_forty_megabytes(each: int, slices: int, percentile: float) -> None:
    """Whatever the traffic: one sample a key, a thousand or ten thousand in the window, or one stretched to 3000.

    Of widely spread latencies; measured on some of the keys, between two refreshes, without what waits for the next.
    """
    clock, rng = VirtualClock(), random.Random(1)
    latencies = [rng.lognormvariate(math.log(0.02), 1.0) for _ in range(20_000)]
    timeouts = rs.PerKey(learned(percentile=percentile, between=(0.001, 30.0)), key=lambda key: key)
    timeouts.adopt(clock)
    for _ in range(40):
        timeouts[0].observe(0.02)  # what all share is there
    keys = range(1000, 1030)
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for key in keys:
        timeouts[key].timeout()
    for step in range(slices):
        for key in keys:
            start = (step * 97 + key * 31) % (len(latencies) - each)
            limit = timeouts[key].current
            timeouts[key].seed([took for took in latencies[start : start + each] if took <= limit])
            timeouts[key].observe(limit, timed_out=True)
        clock.advance(5.0)
    for key in keys:
        timeouts[key].timeout()
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (after - before) / len(keys) * 10_000 < 40e6


def test_a_key_is_brought_up_to_date_once_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many calls it has, whoever asks."""
    clock = VirtualClock()
    timeout = learned(clock=clock)
    done = []
    measure = type(timeout._estimator)._measure
    monkeypatch.setattr(
        type(timeout._estimator), "_measure", lambda self, *args: done.append(1) or measure(self, *args)
    )
    for _ in range(3000):
        timeout.observe(0.02)
        timeout.timeout()
        clock.advance(0.001)
    assert 2 <= len(done) <= 4


# -- the delay of a hedge ----------------------------------------------------------------------------------------------


def test_a_hedge_follows_the_quantile_of_the_policys_timeout() -> None:
    """No hedge until enough is known; then after the measured time, from the same samples."""
    clock = VirtualClock()
    timeout = learned()
    hedge = rs.Hedge(quantile=0.9, budget=None)
    policy = rs.Policy(timeout=timeout, hedge=hedge, clock=clock)
    started: list[float] = []

    async def work(seconds: float) -> None:
        started.append(clock.now)
        await asyncio.sleep(seconds)

    clock.run(policy.acall(work, 1.0))
    assert hedge.counters["hedged"] == 0
    for i in range(60):
        clock.run(policy.acall(work, 0.1 + i / 1000))
    clock.advance(1.0)
    timeout.timeout()
    expected = timeout.quantile(0.9)
    assert expected is not None
    assert expected == pytest.approx(0.155, abs=0.01)
    started.clear()
    clock.run(policy.acall(work, 1.1 * expected))
    assert started[1] - started[0] == pytest.approx(expected, rel=0.01)
    assert hedge.counters["hedged"] >= 1
    assert repr(hedge) == "Hedge(quantile=0.9, budget=None)"


def test_a_hedge_in_shadow_counts_by_the_same_delay() -> None:
    """And counts nothing while the delay is unknown."""
    clock = VirtualClock()
    hedge = rs.Hedge(quantile=0.5, shadow=True)
    policy = rs.Policy(timeout=learned(padding=10.0), hedge=hedge, clock=clock)
    for _ in range(40):
        clock.run(policy.acall(asyncio.sleep, 0.1))
    clock.advance(1.0)
    known = hedge.counters["shadow"]
    clock.run(policy.acall(asyncio.sleep, 0.05))
    assert hedge.counters["shadow"] == known
    clock.run(policy.acall(asyncio.sleep, 0.5))
    assert hedge.counters["shadow"] == known + 1


def test_a_hedge_never_waits_less_than_a_millisecond() -> None:
    """Below that a delay says more of this machine than of the dependency."""
    timeout = learned(clock=VirtualClock())
    timeout.seed([0.0001] * 100)
    assert rs.Hedge(quantile=0.5).wait(timeout) == 0.001
    assert rs.Hedge(quantile=0.5).wait(learned(clock=VirtualClock())) is None
    assert rs.Hedge(quantile=0.5).wait(rs.Timeout(1.0)) is None  # put there by an override
    assert rs.Hedge(0.5).wait(None) == 0.5


# -- the slow calls of a breaker ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["decorated", "call"])
def test_a_breaker_takes_for_slow_what_a_learned_timeout_would_cut_off(way: str) -> None:
    """The threshold moves with the latency; the breaker is none of the short way then."""
    clock = VirtualClock()
    latency = learned()
    breaker = rs.CircuitBreaker(slow_rate=0.5, slow_call=latency, minimum=10, failure_rate=None)
    policy = rs.Policy(breaker=breaker, clock=clock)
    latency.seed([0.1] * 100)
    assert latency.current == pytest.approx(0.125, rel=0.03)
    work = policy(clock.sleep) if way == "decorated" else lambda seconds: policy.call(clock.sleep, seconds)
    for _ in range(20):
        work(0.11)
    assert breaker.counters["window_slow"] == 0
    with pytest.raises(rs.CircuitOpen):
        for _ in range(40):
            work(0.14)
    assert repr(breaker).startswith("CircuitBreaker(failure_rate=None, minimum=10, slow_rate=0.5, slow_call=Percentile")
    assert latency._now is clock
