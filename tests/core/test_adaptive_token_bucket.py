"""The limiter that finds its rate, as its users meet it: through policies, in both worlds, from many threads."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resilience as rs
from resilience.machines.adaptive_rate import RateChange
from resilience.policies.adaptive_token_bucket import AdaptiveTokenBucket, too_many_requests
from resilience.testing import VirtualClock
from together import outcomes


class Throttled(Exception):
    status = 429


def throttled(*_: object) -> None:
    raise Throttled


def fine(*_: object) -> str:
    return "fine"


def slow_down(limiter: AdaptiveTokenBucket, clock: VirtualClock, rate: float = 10.0) -> None:
    """Let it hear a second of calls at *rate*, and then a throttle."""
    for _ in range(int(rate)):
        limiter.heard(None)
        clock.advance(1 / rate)
    limiter.heard(Throttled())
    assert limiter.enabled


# -- passing, and beginning to limit -----------------------------------------------------------------------------------


def test_everything_passes_until_a_throttle_and_then_is_held_to_less_than_was_sent() -> None:
    """A thousand calls at one moment; then one throttled, and from there on a pace."""
    clock = VirtualClock()
    limiter = AdaptiveTokenBucket(clock=clock)
    policy = rs.Policy(limiter=limiter)
    assert [policy.call(fine) for _ in range(1000)] == ["fine"] * 1000
    assert (clock.now, limiter.enabled, limiter.current_rate) == (0.0, False, float("inf"))
    assert limiter.counters["rate"] == limiter.counters["enabled"] == 0
    assert limiter.reserve(7).delay == limiter.wait_time(7) == 0.0
    assert limiter.try_acquire(7)
    clock.advance(1.0)
    with pytest.raises(Throttled):
        policy.call(throttled)
    assert limiter.enabled
    # AWS's rule: 1001 answers in the first second, which weigh 0.8; and 0.7 of that.
    assert limiter.current_rate == pytest.approx(0.7 * 0.8 * 1001)
    assert limiter.counters["throttled"] == limiter.counters["enabled"] == 1
    assert limiter.tokens == 0


@pytest.mark.parametrize("rule", ["cubic", "aimd"])
def test_calls_are_paced_once_it_limits(rule: str) -> None:
    """Between two calls lies the time of one token, and the rate climbs back while calls go well."""
    clock = VirtualClock()
    limiter = AdaptiveTokenBucket(rule=rule, clock=clock)
    slow_down(limiter, clock)
    policy = rs.Policy(limiter=limiter)
    first = limiter.current_rate
    assert 3 < first < 10
    times = [policy.call(lambda: clock.now) for _ in range(20)]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert all(0.05 < gap <= 1 / first + 1e-6 for gap in gaps)
    assert limiter.current_rate > first


def test_a_start_rate_limits_from_the_start() -> None:
    """And is not gone below before the first throttle, however little is sent."""
    clock = VirtualClock()
    limiter = AdaptiveTokenBucket(4, clock=clock, max_wait=0.0)
    policy = rs.Policy(limiter=limiter)
    assert limiter.enabled
    assert sum(limiter.try_acquire() for _ in range(10)) == 4
    for _ in range(5):
        clock.advance(20.0)
        policy.call(fine)
    assert limiter.current_rate == 4.0
    with pytest.raises(Throttled):
        policy.call(throttled)
    assert limiter.current_rate < 4.0


def test_the_maximum_and_the_minimum_hold() -> None:
    """However well or badly it goes."""
    clock = VirtualClock()
    limiter = AdaptiveTokenBucket(5, minimum=2.0, maximum=8.0, clock=clock)
    for _ in range(1000):
        clock.advance(0.1)
        limiter.heard(None)
    assert limiter.current_rate == 8.0
    for _ in range(10):
        limiter.heard(Throttled())
    assert limiter.current_rate == 2.0


def test_a_given_burst_stays_and_else_it_follows_the_rate() -> None:
    """AWS's capacity is the tokens of one second, and at least one."""
    clock = VirtualClock()
    fixed = AdaptiveTokenBucket(20, burst=3, clock=clock)
    moving = AdaptiveTokenBucket(20, clock=clock)
    assert (fixed.tokens, moving.tokens) == (3, 20)
    for limiter in (fixed, moving):
        limiter.set_rate(0.5)
        clock.advance(100.0)
    assert (fixed.tokens, moving.tokens) == (3, 1)
    with pytest.raises(rs.ConfigError, match="burst"):
        moving.try_acquire(2)


def test_a_growing_bucket_gives_no_tokens_away() -> None:
    """Emptied at 10 a second and then set to 1000, it still has none, and fills at the new rate."""
    clock = VirtualClock()
    limiter = AdaptiveTokenBucket(10, clock=clock)
    assert limiter.try_acquire(10)
    limiter.set_rate(1000)
    assert limiter.tokens == 0
    clock.advance(0.1)
    assert limiter.tokens == 100


# -- what it hears -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (SimpleNamespace(status=429), True),
        (SimpleNamespace(status_code=429), True),
        (SimpleNamespace(code=429), True),
        (SimpleNamespace(response=SimpleNamespace(status_code=429)), True),
        (SimpleNamespace(response={"ResponseMetadata": {"HTTPStatusCode": 429}}), True),
        (SimpleNamespace(response={"ResponseMetadata": {"HTTPStatusCode": 503}}), False),
        (SimpleNamespace(response={}), False),
        (SimpleNamespace(status=503, response=None), False),
        (ConnectionError(429), False),
    ],
)
def test_by_default_a_throttle_is_status_429(error: Any, expected: bool) -> None:
    """Wherever the usual clients put a status; what is odd is no throttle and raises nothing."""
    assert too_many_requests(error) is expected


def test_only_answers_of_the_other_side_are_heard() -> None:
    """Not refusals of our own, not the caller's deadline, not cancellation."""
    clock = VirtualClock()
    limiter = AdaptiveTokenBucket(throttled=lambda error: True, clock=clock)
    policy = rs.Policy(limiter=limiter, deadline=1.0, bulkhead=rs.Bulkhead(1))

    async def hang() -> None:
        await asyncio.sleep(60.0)

    async def main() -> None:
        with pytest.raises(rs.DeadlineExceeded):
            await policy.acall(hang)
        task = asyncio.create_task(policy.acall(hang))
        await asyncio.sleep(0.1)
        with pytest.raises(rs.BulkheadFull):
            await policy.acall(hang)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    clock.run(main())
    assert limiter.counters["throttled"] == 0
    with pytest.raises(Throttled):
        policy.call(throttled)
    assert limiter.counters["throttled"] == 1


def test_each_attempt_of_a_retry_is_heard() -> None:
    """A call that is throttled twice and then served counts two throttles; its retries are paced too."""
    clock = VirtualClock()
    limiter = AdaptiveTokenBucket(throttled=Throttled, max_wait=10.0, clock=clock)
    policy = rs.Policy(limiter=limiter, retry=rs.Retry(on=Throttled, attempts=3, backoff=0.0))
    left = [1, 1]

    def call() -> float:
        if left:
            left.pop()
            raise Throttled
        return clock.now

    assert policy.call(call) == pytest.approx(4.0, abs=1e-6)  # at AWS's least rate, a token every two seconds
    assert limiter.counters["throttled"] == 2


def test_listeners_hear_of_changes_and_may_fail_or_call_back(caplog: pytest.LogCaptureFixture) -> None:
    """Old and new rate, and whether a throttle did it; small rises are saved up to a hundredth."""
    heard: list[RateChange] = []

    def listener(change: RateChange) -> None:
        heard.append(change)
        assert limiter.current_rate == change.new
        raise RuntimeError("in the listener")

    clock = VirtualClock()
    limiter = AdaptiveTokenBucket(on_change=listener, name="api", clock=clock)
    with caplog.at_level(logging.CRITICAL, logger="resilience"):
        slow_down(limiter, clock)
        for _ in range(300):
            clock.advance(0.02)
            limiter.heard(None)
    assert heard[0] == RateChange("api", float("inf"), limiter._machine.ceiling * 0.7, throttled=True)  # type: ignore[attr-defined]
    assert len(heard) > 20
    for before, after in pairwise(heard):
        assert after.old == before.new and not after.throttled
        assert abs(after.new - after.old) >= 0.0099 * after.old


def test_a_predicate_that_fails_means_no(caplog: pytest.LogCaptureFixture) -> None:
    """The caller gets the caller's own error, and nothing is limited."""
    limiter = AdaptiveTokenBucket(throttled=lambda error: 1 / 0 > 0, clock=VirtualClock())
    with caplog.at_level(logging.CRITICAL, logger="resilience"), pytest.raises(Throttled):
        rs.Policy(limiter=limiter).call(throttled)
    assert not limiter.enabled


# -- waiting -----------------------------------------------------------------------------------------------------------


def test_nobody_waits_beyond_the_deadline_or_max_wait() -> None:
    """At half a token a second, a call that may wait a second is refused at once, and told how long it would be."""
    clock = VirtualClock()
    limiter = AdaptiveTokenBucket(max_wait=30.0, name="api", clock=clock)
    limiter.heard(Throttled())
    assert limiter.current_rate == 0.5
    policy = rs.Policy(limiter=limiter, deadline=1.0)
    with pytest.raises(
        rs.RateLimited, match=r"api: over 0\.5 a second, as learned; the next token is 2 s away"
    ) as caught:
        policy.call(fine)
    assert clock.now == 0.0
    assert caught.value.retry_after == pytest.approx(2.0)
    assert rs.Policy(limiter=limiter, deadline=3.0).call(lambda: clock.now) == pytest.approx(2.0, abs=1e-6)
    with pytest.raises(rs.RateLimited):
        limiter.acquire(timeout=0.1)
    assert limiter.counters["refused"] == 2


def test_who_waits_is_refused_when_the_rate_falls_too_far() -> None:
    """The turn moves behind the deadline: known at the moment of the throttle, and its place is free for others."""
    clock = VirtualClock()
    limiter = AdaptiveTokenBucket(2, max_wait=1.0, burst=1, clock=clock)
    assert limiter.try_acquire()
    at: list[float] = []

    async def wait(deadline: float | None) -> None:
        try:
            await rs.Policy(limiter=limiter, deadline=deadline).acall(asyncio.sleep, 0)
        except rs.RateLimited:
            at.append(round(clock.now, 6))

    async def main() -> None:
        tasks = [asyncio.create_task(wait(deadline)) for deadline in (0.7, None)]
        await asyncio.sleep(0.1)
        assert limiter.counters["waited"] == 2
        limiter.heard(Throttled())
        limiter.set_rate(0.5)
        await asyncio.gather(*tasks)

    clock.run(main())
    assert at == [0.1, 0.1]
    assert limiter.counters["refused"] == 2
    assert limiter.wait_time() == pytest.approx(2 * 0.8)  # 0.8 of a token was missing then; nobody is ahead


def test_tasks_that_wait_are_woken_when_the_rate_rises() -> None:
    """Promised for 2, 4 and 6 s at half a token a second, they go at once when it becomes 100."""
    clock = VirtualClock()
    limiter = AdaptiveTokenBucket(0.5, clock=clock)
    assert limiter.try_acquire()
    went: list[float] = []

    async def wait() -> None:
        await limiter.aacquire()
        went.append(clock.now)

    async def main() -> None:
        tasks = [asyncio.create_task(wait()) for _ in range(3)]
        await asyncio.sleep(1.0)
        limiter.set_rate(100)
        await asyncio.gather(*tasks)

    clock.run(main())
    assert went == [pytest.approx(1.005 + 0.01 * n, abs=1e-6) for n in range(3)]


def test_threads_that_wait_are_woken_when_the_rate_rises() -> None:
    """In real time: promised for 20 s and later, three threads are gone a moment after the rate rises."""
    limiter = AdaptiveTokenBucket(0.05, minimum=0.05, max_wait=100.0)
    assert limiter.try_acquire()
    policy = rs.Policy(limiter=limiter)
    threads = [threading.Thread(target=policy.call, args=(fine,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    while limiter.counters["waited"] < 3:
        time.sleep(0.001)
    limiter.set_rate(1000.0)
    for thread in threads:
        thread.join(5.0)
    assert not any(thread.is_alive() for thread in threads)


def test_a_cancelled_waiter_leaves_the_line() -> None:
    """And who was behind it moves up."""
    clock = VirtualClock()
    limiter = AdaptiveTokenBucket(1, clock=clock)
    assert limiter.try_acquire()

    async def main() -> list[float]:
        tasks = [asyncio.create_task(limiter.aacquire()) for _ in range(3)]
        await asyncio.sleep(0.5)
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return [task.result() for task in tasks[1:]]

    assert clock.run(main()) == [pytest.approx(1.0), pytest.approx(2.0)]


def test_free_reservations_can_be_given_back() -> None:
    """While nothing is limited, a reservation is of no line, and cancelling it harms none."""
    clock = VirtualClock()
    limiter = AdaptiveTokenBucket(clock=clock)
    early = limiter.reserve()
    limiter.set_rate(1)
    late = limiter.reserve()
    assert late.wait == pytest.approx(1.0)
    assert early.cancel()
    assert limiter.reserve().cancel()


@pytest.mark.parametrize("rule", ["cubic", "aimd"])
def test_sync_and_async_callers_go_at_the_same_moments(rule: str) -> None:
    """The same script of throttles, one call after the other, in both worlds."""

    def run(blocking: bool) -> list[float]:
        clock = VirtualClock()
        limiter = AdaptiveTokenBucket(rule=rule, max_wait=60.0, clock=clock)
        policy = rs.Policy(limiter=limiter)
        times: list[float] = []

        def body(number: int) -> None:
            times.append(round(clock.now, 3))
            if number % 10 == 9:
                raise Throttled

        async def abody(number: int) -> None:
            body(number)

        async def main() -> None:
            for number in range(60):
                try:
                    if blocking:
                        policy.call(body, number)
                    else:
                        await policy.acall(abody, number)
                except Throttled:
                    pass

        clock.run(main())
        return times

    assert run(blocking=True) == pytest.approx(run(blocking=False), abs=0.005)


# -- shadow, keys, descriptions ----------------------------------------------------------------------------------------


def test_in_shadow_it_learns_but_refuses_nobody() -> None:
    """Calls that would have waited are counted."""
    clock = VirtualClock()
    limiter = AdaptiveTokenBucket(shadow=True, max_wait=0.0, clock=clock)
    policy = rs.Policy(limiter=limiter)
    with pytest.raises(Throttled):
        policy.call(throttled)
    assert [policy.call(fine) for _ in range(5)] == ["fine"] * 5
    assert limiter.enabled
    assert (limiter.counters["shadow"], limiter.counters["refused"], limiter.counters["waited"]) == (5, 0, 0)
    assert clock.now == 0.0


def test_each_key_finds_its_own_rate() -> None:
    """A hot partition is slowed down, the others are not; what is at rest is dropped first."""
    clock = VirtualClock()
    family = rs.PerKey(AdaptiveTokenBucket(max_wait=0.0, name="table"), key=lambda key, *_: key, max_keys=3)
    policy = rs.Policy(limiter=family, clock=clock)

    def put(key: str, hot: bool = False) -> str:
        if hot:
            raise Throttled
        return key

    with pytest.raises(Throttled):
        policy.call(put, "hot", True)
    with pytest.raises(rs.RateLimited, match=r"table\['hot'\]: over 0\.5 a second"):
        policy.call(put, "hot")
    assert [policy.call(put, key) for key in "abc" * 3] == list("abc" * 3)
    assert "hot" in set(family) and len(family) == 3
    assert family.counters["throttled"] == family.counters["enabled"] == 1
    clock.advance(60.0)  # its bucket is full again
    assert policy.call(put, "d") == "d"
    assert "hot" not in set(family)


def test_it_describes_itself_and_can_be_copied() -> None:
    """A copy has the same settings and knows nothing."""
    clock = VirtualClock()
    limiter = AdaptiveTokenBucket(20, rule="aimd", increase=2.0, throttled=Throttled, maximum=50.0)
    assert repr(limiter) == ("AdaptiveTokenBucket(20, rule='aimd', throttled=Throttled, maximum=50.0, increase=2.0)")
    assert repr(AdaptiveTokenBucket()) == "AdaptiveTokenBucket()"
    slow = AdaptiveTokenBucket(clock=clock)
    slow_down(slow, clock)
    copy = slow.replace(max_wait=3.0)
    assert not copy.enabled and copy.max_wait == 3.0
    slow.set_rate(30, per=60.0)
    assert (slow.current_rate, slow.rate) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": 0.1}, "rate must be from minimum"),
        ({"rate": 10, "maximum": 5}, "rate must be from minimum"),
        ({"minimum": 3, "maximum": 2}, "maximum must be at least minimum"),
        ({"increase": 1.0}, "increase belongs to rule='aimd'"),
        ({"decrease": 0.5}, "decrease belongs to rule='aimd'"),
        ({"window": 1.0}, "window belongs to rule='aimd'"),
        ({"rule": "bbr"}, "rule must be 'cubic' or 'aimd'"),
        ({"rule": "aimd", "decrease": 1.0}, "decrease must be a ratio"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    """By name, when it is made."""
    with pytest.raises(rs.ConfigError, match=message):
        AdaptiveTokenBucket(**settings)
    with pytest.raises(rs.ConfigError, match="rate must be from minimum"):
        AdaptiveTokenBucket(maximum=5.0).set_rate(6.0)


# -- bounds ------------------------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.sampled_from(["take", "fine", "throttle", "wait"]), st.integers(0, 10**9)),
        min_size=1,
        max_size=120,
    ),
    st.sampled_from(["cubic", "aimd"]),
)
def test_no_more_passes_than_the_rates_in_force_allow(steps: list[tuple[str, int]], rule: str) -> None:
    """Over any script: tokens given out stay below the integral of the rate, and one second's burst."""
    clock = VirtualClock()
    limiter = AdaptiveTokenBucket(rule=rule, clock=clock)
    limiter.heard(None)
    clock.advance(1.0)
    limiter.heard(Throttled())
    allowed, taken = 0.0, 0
    for what, gap in steps:
        clock._ns += gap
        allowed = min(allowed + gap / 1e9 * limiter.current_rate, max(1.0, limiter.current_rate))
        if what == "take":
            while limiter.try_acquire():
                taken += 1
                allowed -= 1
                assert allowed >= -1e-6
        elif what != "wait":
            limiter.heard(Throttled() if what == "throttle" else None)
            allowed = min(allowed, max(1.0, limiter.current_rate))


def test_threads_together_get_no_more_than_the_rate(switch_often: None) -> None:
    """Eight threads that hammer it, throttled now and then: all counts add up, and it ends usable."""
    limiter = AdaptiveTokenBucket(max_wait=0.0, rule="aimd", increase=1000.0)
    policy = rs.Policy(limiter=limiter)
    passed, refused, hit = [0] * 8, [0] * 8, [0] * 8

    def work(index: int) -> None:
        for number in range(300):
            try:
                policy.call(throttled if number % 50 == index else fine)
                passed[index] += 1
            except Throttled:
                hit[index] += 1
            except rs.RateLimited:
                refused[index] += 1

    _, errors = outcomes(work, 8)
    assert errors == []
    assert sum(passed) + sum(hit) + sum(refused) == 8 * 300
    counters = limiter.counters
    assert (counters["refused"], counters["throttled"]) == (sum(refused), sum(hit))
    assert sum(hit) >= 1 and sum(refused) >= 1
    assert limiter._lane.waiting(limiter.now()) == 0
    limiter.set_rate(1e6)
    assert policy.call(fine) == "fine"
