"""Breaker, limiter, bulkhead, hedge, fallback and keys, as their users meet them."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resilience as rs
from resilience.machines.lane import Lane, Rate
from resilience.testing import VirtualClock


def failing(*_: object) -> None:
    raise ConnectionError


def missing() -> None:
    raise KeyError


def fail(guard: Any, times: int) -> None:
    """Let calls through *guard* fail so many times."""
    for _ in range(times):
        with pytest.raises(ConnectionError):
            guard.call(failing)


# -- circuit breaker ---------------------------------------------------------------------------------------------------


def test_an_open_circuit_says_when_to_come_back_and_who_it_is() -> None:
    """CircuitOpen names the policy and the seconds until the next probe."""
    clock = VirtualClock()
    policy = rs.Policy(
        "shop", breaker=rs.CircuitBreaker(consecutive=3, open_for=5.0, jitter=0.0), clock=clock, registry=None
    )
    fail(policy, 3)
    clock.advance(1.0)
    with pytest.raises(rs.CircuitOpen, match=r"shop: the circuit is open; the next probe is in 4 s") as caught:
        policy.call(failing)
    assert (caught.value.policy, caught.value.retry_after) == ("shop", pytest.approx(4.0))
    assert isinstance(caught.value, rs.Rejected)
    assert policy.counters["rejected"] == 1


@pytest.mark.parametrize(
    ("settings", "failures"),
    [
        ({"consecutive": 4, "failure_rate": None}, 4),
        ({"failure_rate": 0.5, "minimum": 6, "window_calls": 10}, 6),
        ({"failure_rate": 0.5, "minimum": 7, "window_seconds": 60.0}, 7),
    ],
)
def test_it_opens_for_each_reason(settings: dict[str, Any], failures: int) -> None:
    """By failures in a row, and by rate over calls or seconds once there are enough of them."""
    breaker = rs.CircuitBreaker(**settings, clock=VirtualClock())
    fail(breaker, failures - 1)
    assert breaker.state is rs.State.CLOSED
    fail(breaker, 1)
    assert breaker.state is rs.State.OPEN


def test_slow_calls_open_it_too() -> None:
    """Successes that take too long count by their own rate."""
    clock = VirtualClock()
    breaker = rs.CircuitBreaker(slow_rate=0.5, slow_call=1.0, minimum=4, failure_rate=None, clock=clock)
    for seconds in (0.5, 0.5, 1.0, 2.0):
        breaker.call(clock.advance, seconds)
    assert breaker.state is rs.State.OPEN


def test_errors_that_are_none_of_the_dependencys_count_as_answers() -> None:
    """With on=ConnectionError, a KeyError shows that it answers; a result can be a failure."""
    breaker = rs.CircuitBreaker(
        consecutive=2, on=ConnectionError, on_result=lambda result: result == 500, clock=VirtualClock()
    )
    fail(breaker, 1)
    with pytest.raises(KeyError):
        breaker.call(missing)
    fail(breaker, 1)
    assert breaker.state is rs.State.CLOSED
    assert breaker.call(lambda: 500) == 500
    assert breaker.state is rs.State.OPEN


def test_errors_that_say_nothing_count_nowhere() -> None:
    """Ignored ones are neither failures nor successes: a run of failures goes on over them."""
    breaker = rs.CircuitBreaker(consecutive=2, ignore=KeyError, clock=VirtualClock())
    fail(breaker, 1)
    with pytest.raises(KeyError):
        breaker.call(missing)
    assert breaker.snapshot.total == 1
    fail(breaker, 1)
    assert breaker.state is rs.State.OPEN


def test_it_opens_for_longer_each_time_a_probe_fails() -> None:
    """Open times grow by a factor up to the longest."""
    clock = VirtualClock()
    breaker = rs.CircuitBreaker(consecutive=1, open_for=1.0, max_open=5.0, jitter=0.0, clock=clock)
    fail(breaker, 1)
    waits = []
    for _ in range(5):
        wait = breaker.snapshot.retry_after
        assert wait is not None
        waits.append(round(wait, 6))
        clock.advance(wait)
        fail(breaker, 1)
    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert breaker.counters["opened"] == 6


def test_traffic_comes_back_by_a_ramp() -> None:
    """After recovery only a share of the calls is let through at first, then more, then all."""
    clock = VirtualClock()
    import random

    breaker = rs.CircuitBreaker(
        consecutive=100,
        open_for=1.0,
        jitter=0.0,
        probes=1,
        ramp=10.0,
        ramp_start=0.1,
        rng=random.Random(1),
        clock=clock,
    )
    breaker.trip()
    clock.advance(1.0)
    breaker.call(lambda: None)

    refused: list[int] = []

    def share() -> float:
        passed = 0
        for _ in range(1000):
            try:
                passed += breaker.call(lambda: 1)
            except rs.CircuitOpen:
                refused.append(1)
        return passed / 1000

    assert share() == pytest.approx(0.1, abs=0.03)
    clock.advance(5.0)
    assert share() == pytest.approx(0.55, abs=0.05)
    clock.advance(5.0)
    assert share() == 1.0


def test_operations_can_steer_it_and_listeners_hear_of_it() -> None:
    """Forced open until reset, or disabled; listeners may even call back into the breaker, or fail."""
    heard: list[str] = []

    def listener(change: rs.Transition) -> None:
        heard.append(f"{change.old}->{change.new} {breaker.state}")
        raise RuntimeError("in the listener")

    breaker = rs.CircuitBreaker(consecutive=1, on_change=listener, clock=VirtualClock())
    breaker.force_open()
    with pytest.raises(rs.CircuitOpen, match="until it is reset") as caught:
        breaker.call(failing)
    assert caught.value.retry_after is None
    breaker.disable()
    fail(breaker, 5)
    breaker.reset()
    assert breaker.call(lambda: "ok") == "ok"
    assert heard == ["closed->forced_open forced_open", "forced_open->disabled disabled", "disabled->closed closed"]


def test_a_shadow_breaker_lets_every_call_pass() -> None:
    """It opens and closes as it would, and counts whom it would have refused."""
    breaker = rs.CircuitBreaker(consecutive=1, shadow=True, clock=VirtualClock())
    fail(breaker, 4)
    assert breaker.state is rs.State.OPEN
    assert (breaker.counters["shadow"], breaker.counters["refused"]) == (3, 0)


# -- one for each key --------------------------------------------------------------------------------------------------


def test_one_dead_shard_does_not_close_the_others() -> None:
    """Each key has its own circuit; errors name it."""
    clock = VirtualClock()
    family = rs.PerKey(rs.CircuitBreaker(consecutive=2, name="db"), key=lambda shard, *_: shard)
    policy = rs.Policy(breaker=family, clock=clock)

    def query(shard: int) -> int:
        if shard == 3:
            raise ConnectionError
        return shard

    for _ in range(2):
        with pytest.raises(ConnectionError):
            policy.call(query, 3)
    with pytest.raises(rs.CircuitOpen, match=r"db\[3\]"):
        policy.call(query, 3)
    assert [policy.call(query, shard) for shard in (1, 2, 4)] == [1, 2, 4]
    assert family[3].state == "open"
    assert (family.counters["keys"], family.counters["opened"]) == (4, 1)
    assert sorted(family, key=str) == [1, 2, 3, 4]
    with family[1]:
        pass
    with pytest.raises(rs.ConfigError, match=r"\[key\]"), family:
        pass


def test_keys_are_bounded_and_what_is_at_rest_goes_first() -> None:
    """Of the least recently used, a closed circuit goes before an open one."""
    family = rs.PerKey(rs.CircuitBreaker(), key=lambda key: key, max_keys=3)
    family["a"].trip()
    for key in "bcd":
        assert family[key].state == "closed"
    assert set(family) == {"a", "c", "d"}
    bulkheads = rs.PerKey(rs.Bulkhead(1), key=lambda key: key, max_keys=2)
    for number in range(10):
        rs.Policy(bulkhead=bulkheads).call(lambda key: key, number)
    assert len(bulkheads) == 2
    assert bulkheads.counters["evicted"] == 8


# -- rate limiter ------------------------------------------------------------------------------------------------------


def test_a_policy_waits_for_its_token_but_not_for_long() -> None:
    """Calls are spread at the rate; who would wait longer than max_wait is refused at once, and told how long."""
    clock = VirtualClock()
    policy = rs.Policy("quota", limiter=rs.TokenBucket(2, burst=1, max_wait=1.0), clock=clock, registry=None)
    times = [policy.call(lambda: clock.now) for _ in range(3)]
    assert times == [pytest.approx(t, abs=1e-6) for t in (0.0, 0.5, 1.0)]
    bucket = policy.limiter
    assert isinstance(bucket, rs.TokenBucket)
    bucket.reserve()
    bucket.reserve()
    with pytest.raises(rs.RateLimited, match="quota: over 2 per 1 s") as caught:
        policy.call(lambda: None)
    assert caught.value.retry_after == pytest.approx(1.5, abs=1e-6)


def test_tasks_are_served_in_order_and_heavy_ones_are_not_overtaken() -> None:
    """First come, first served; a cancelled one frees its place for those behind."""
    clock = VirtualClock()
    bucket = rs.TokenBucket(1, burst=5, clock=clock)
    assert bucket.try_acquire(5)
    served: list[tuple[str, float]] = []

    async def take(name: str, n: int) -> None:
        await bucket.aacquire(n)
        served.append((name, round(clock.now, 6)))

    async def main() -> None:
        tasks = [asyncio.create_task(take(*who)) for who in (("heavy", 5), ("gone", 4), ("light", 1), ("last", 1))]
        await asyncio.sleep(1.0)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    clock.run(main())
    assert served == [("heavy", 5.0), ("light", 6.0), ("last", 7.0)]


@given(
    st.lists(st.tuples(st.sampled_from([1, 1, 1, 2]), st.integers(-2 * 10**9, 3 * 10**9)), max_size=60),
    st.sampled_from([1, 3, 0.7, 1000]),
)
def test_try_acquire_is_what_the_machine_does(steps: list[tuple[int, int]], rate: float) -> None:
    """What is written out for speed decides as the machine does, under any clock."""
    clock = VirtualClock(start=100.0)
    bucket = rs.TokenBucket(rate, burst=3, clock=clock)
    lane = Lane(Rate(rate, burst=3))
    guarded = rs.Policy(limiter=rs.TokenBucket(rate, burst=3, max_wait=0.0), clock=clock)(lambda: True)
    short_way = Lane(Rate(rate, burst=3))
    for n, gap in steps:
        clock._ns += gap
        assert bucket.try_acquire(n) == lane.take(n, clock.monotonic_ns())
        try:
            passed = guarded()
        except rs.RateLimited:
            passed = False
        assert passed == short_way.take(1, clock.monotonic_ns())


@given(st.lists(st.integers(1, 3), min_size=1, max_size=20), st.integers(3, 5), st.sampled_from([1, 3, 0.5, 7]))
def test_acquire_waits_exactly_as_long_as_reserve_says(takes: list[int], burst: int, rate: float) -> None:
    """Blocking, waiting is the reservation's delay, and the bound holds at every grant."""
    clock, other = VirtualClock(), VirtualClock()
    waiting = rs.TokenBucket(rate, burst=burst, clock=clock)
    asking = rs.TokenBucket(rate, burst=burst, clock=other)
    granted = 0
    for n in takes:
        waited = waiting.acquire(n)
        reservation = asking.reserve(n)
        other.advance(reservation.wait)
        assert waited == pytest.approx(reservation.delay, abs=1e-6)
        granted += n
        assert granted <= burst + rate * (clock.now + 2e-9)


def test_reservations_can_be_given_back() -> None:
    """Not yet due: always. Due: only while nobody took anything since."""
    clock = VirtualClock()
    bucket = rs.TokenBucket(1, burst=2, clock=clock)
    first = bucket.reserve(2)
    assert first.delay == first.wait == 0.0
    assert first.cancel()
    assert bucket.tokens == 2
    bucket.reserve(2)
    later = bucket.reserve()
    assert later.wait == pytest.approx(1.0)
    assert bucket.wait_time() == pytest.approx(2.0)
    assert later.cancel()
    assert not later.cancel() or bucket.wait_time() == pytest.approx(1.0)
    due = bucket.reserve()
    clock.advance(3.0)
    assert bucket.try_acquire()
    assert not due.cancel()
    with pytest.raises(rs.RateLimited):
        bucket.reserve(2, timeout=0.5)


def test_the_rate_can_be_changed_while_running() -> None:
    """Missing tokens stay missing; who waits for more than the new burst is refused."""
    clock = VirtualClock()
    bucket = rs.TokenBucket(1, burst=4, clock=clock)
    assert bucket.try_acquire(4)
    bucket.set_rate(10)
    assert bucket.tokens == 0
    clock.advance(0.1)
    assert bucket.try_acquire()

    async def main() -> None:
        task = asyncio.create_task(bucket.aacquire(4))
        await asyncio.sleep(0)
        bucket.set_rate(10, burst=2)
        with pytest.raises(rs.RateLimited):
            await task

    clock.run(main())
    assert repr(bucket).startswith("TokenBucket(10, burst=2")


def test_keys_have_limits_of_their_own() -> None:
    """By the first argument, or by a function; as a view, with everything a bucket can do."""
    clock = VirtualClock()
    limiter = rs.KeyedTokenBucket(1, burst=2, max_wait=0.0, clock=clock)
    policy = rs.Policy(limiter=limiter)
    for user in ("ann", "bob"):
        assert [policy.call(lambda user: user, user) for _ in range(2)] == [user, user]
        with pytest.raises(rs.RateLimited, match=user):
            policy.call(lambda user: user, user)
    ann = limiter.at("ann")
    assert (ann.tokens, ann.wait_time()) == (0, pytest.approx(1.0))
    assert ann.acquire() == pytest.approx(1.0)
    assert clock.run(ann.aacquire()) == pytest.approx(1.0)
    place = ann.reserve()
    assert place.wait == pytest.approx(1.0)
    assert place.cancel()
    assert not ann.try_acquire()
    assert limiter.counters["keys"] == len(limiter) == 2
    with pytest.raises(rs.ConfigError, match="first argument"):
        policy.call(lambda: None)
    with pytest.raises(rs.ConfigError, match="at"), policy:
        pass

    def greet(*, user: str) -> str:
        return user

    by_name = rs.Policy(limiter=rs.KeyedTokenBucket(1, key=greet, max_wait=0.0, clock=clock))
    assert by_name.call(greet, user="eve") == "eve"


def test_a_shadow_limiter_and_bulkhead_refuse_nobody() -> None:
    """They count whom they would have refused."""
    bucket = rs.TokenBucket(1, shadow=True, clock=VirtualClock())
    assert [bucket.call(lambda: 1) for _ in range(3)] == [1, 1, 1]
    assert bucket.counters["shadow"] == 2
    keyed = rs.KeyedTokenBucket(1, shadow=True, clock=VirtualClock())
    assert [keyed.call(lambda key: key, "k") for _ in range(3)] == ["k"] * 3
    assert keyed.counters["shadow"] == 2
    bulkhead = rs.Bulkhead(1, shadow=True)
    assert bulkhead.call(lambda: bulkhead.call(lambda: 1)) == 1
    assert (bulkhead.counters["shadow"], bulkhead.counters["in_use"]) == (1, 0)


# -- bulkhead ----------------------------------------------------------------------------------------------------------


def test_a_full_bulkhead_refuses_and_a_queue_waits_for_so_long() -> None:
    """At once without a queue; after max_wait, or the deadline, with one."""
    bulkhead = rs.Bulkhead(1)
    with pytest.raises(rs.BulkheadFull, match="all slots are taken"):
        bulkhead.call(lambda: bulkhead.call(lambda: None))
    clock = VirtualClock()
    queued = rs.Policy(bulkhead=rs.Bulkhead(1, queue=1, max_wait=3.0), clock=clock)

    async def hold(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return clock.now

    async def main() -> None:
        first = asyncio.create_task(queued.acall(hold, 2.0))
        await asyncio.sleep(0)
        second = asyncio.create_task(queued.acall(hold, 5.0))
        await asyncio.sleep(0)
        with pytest.raises(rs.BulkheadFull, match="the queue is full"):
            await queued.acall(hold, 1.0)
        await asyncio.sleep(2.5)
        with pytest.raises(rs.BulkheadFull, match="no slot came free in 3 s"):
            await queued.acall(hold, 1.0)
        assert await first == pytest.approx(2.0)
        assert await second == pytest.approx(7.0)

    clock.run(main())
    assert queued.counters["bulkhead"]["waited"] == 1  # type: ignore[index]


def test_a_bulkhead_can_be_resized() -> None:
    """More slots let those in who wait."""
    clock = VirtualClock()
    bulkhead = rs.Bulkhead(1, queue=5, max_wait=100.0, clock=clock)

    async def main() -> list[float]:
        async def work() -> float:
            await asyncio.sleep(1.0)
            return round(clock.now, 3)

        tasks = [asyncio.create_task(bulkhead.acall(work)) for _ in range(3)]
        await asyncio.sleep(0.5)
        bulkhead.resize(3)
        return await asyncio.gather(*tasks)

    assert clock.run(main()) == [1.0, 1.5, 1.5]


def test_a_slot_handed_to_a_dead_event_loop_goes_on_to_the_next() -> None:
    """A waiter whose loop was closed cannot keep the slot."""
    bulkhead = rs.Bulkhead(1, queue=5, max_wait=30.0)

    async def wait_for_ever() -> None:
        await bulkhead.acall(asyncio.sleep, 0)

    loop = asyncio.new_event_loop()
    with bulkhead:
        task = loop.create_task(wait_for_ever())
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    del task
    assert bulkhead.call(lambda: "alive") == "alive"


# -- hedge -------------------------------------------------------------------------------------------------------------


def test_the_first_good_answer_wins_and_the_loser_is_cancelled() -> None:
    """A slow first attempt is overtaken; it has ended when the call returns."""
    clock = VirtualClock()
    hedge = rs.Hedge(1.0, clock=clock)
    ended: list[str] = []

    async def replica() -> str:
        name = f"attempt {len(ended)}"
        ended.append(name)
        try:
            await asyncio.sleep(10.0 if name == "attempt 0" else 0.5)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return name

    assert clock.run(hedge.acall(replica)) == "attempt 1"
    assert ended == ["attempt 0", "attempt 1", "cancelled"]
    assert clock.now == pytest.approx(1.5)
    assert hedge.counters == {"hedged": 1, "won": 1, "refused": 0, "shadow": 0}


def test_a_quick_answer_or_failure_is_not_hedged() -> None:
    """Only slowness is; if all attempts fail, the first one's error is raised."""
    clock = VirtualClock()
    hedge = rs.Hedge(1.0, clock=clock)

    async def quick() -> str:
        return "quick"

    count = 0

    async def slow_failure() -> None:
        nonlocal count
        count += 1
        number = count
        await asyncio.sleep(1.5)
        raise ConnectionError(number)

    assert clock.run(hedge.acall(quick)) == "quick"
    with pytest.raises(ConnectionError, match="1"):
        clock.run(hedge.acall(slow_failure))
    assert hedge.counters["hedged"] == 1


def test_hedges_and_retries_share_one_budget_and_respect_the_breaker() -> None:
    """No token left, or the circuit not closed: no hedge."""
    clock = VirtualClock()
    budget = rs.RetryBudget(1, floor=None)
    policy = rs.Policy(
        hedge=rs.Hedge(1.0), retry=rs.Retry(on=ConnectionError, attempts=3, backoff=0.0, budget=budget), clock=clock
    )

    async def slow() -> str:
        await asyncio.sleep(2.0)
        return "slow"

    assert clock.run(policy.acall(slow)) == "slow"
    assert clock.run(policy.acall(slow)) == "slow"
    assert policy.counters["hedge"] == {"hedged": 1, "won": 0, "refused": 1, "shadow": 0}
    with pytest.raises(ConnectionError):
        policy.replace(hedge=None).call(failing)
    assert budget.counters["refused"] == 2
    half_open = rs.Policy(
        hedge=rs.Hedge(1.0), breaker=rs.CircuitBreaker(open_for=1.0, jitter=0.0, probes=2), clock=clock
    )
    assert isinstance(half_open.breaker, rs.CircuitBreaker)
    half_open.breaker.trip()
    clock.advance(1.0)
    assert clock.run(half_open.acall(slow)) == "slow"
    assert half_open.counters["hedge"]["refused"] == 1  # type: ignore[index]


def test_functions_are_hedged_in_threads() -> None:
    """The loser goes on in its thread, and its result is dropped; the deadline ends even a hang."""
    release = threading.Event()
    starts: list[int] = []

    def replica() -> str:
        starts.append(1)
        if len(starts) == 1:
            release.wait(10.0)
            return "slow"
        return "quick"

    assert rs.Hedge(0.01).call(replica) == "quick"
    with pytest.raises(rs.DeadlineExceeded):
        rs.Policy(hedge=rs.Hedge(0.005, budget=None), deadline=0.02).call(release.wait, 10.0)
    release.set()
    with pytest.raises(ConnectionError):
        rs.Hedge(1.0).call(failing)


def test_shadow_hedges_start_nothing() -> None:
    """Calls that lasted longer than the delay are counted."""
    clock = VirtualClock()
    hedge = rs.Hedge(1.0, shadow=True, clock=clock)
    hedge.call(clock.advance, 0.5)
    hedge.call(clock.advance, 1.5)
    assert hedge.counters["shadow"] == 1


# -- fallback ----------------------------------------------------------------------------------------------------------


def test_a_fallback_answers_with_a_value_a_function_or_a_chain() -> None:
    """Functions get the call's arguments and find the error in sys.exception(); then the value is given."""
    assert rs.Fallback(value=None).call(failing) is None
    assert rs.Fallback(lambda key: f"cached {key}").call(failing, "lamp") == "cached lamp"
    seen: list[BaseException | None] = []

    def broken(_: str) -> str:
        seen.append(sys.exception())
        raise KeyError("no cache")

    chain = rs.Fallback(broken, lambda key: key.upper(), value="none")
    assert chain.call(failing, "lamp") == "LAMP"
    assert isinstance(seen[0], ConnectionError)
    assert rs.Fallback(broken, value="none").call(failing, "lamp") == "none"
    with pytest.raises(KeyError) as caught:
        rs.Fallback(broken).call(failing, "lamp")
    assert isinstance(caught.value.__context__, ConnectionError)


def test_a_fallback_steps_in_only_for_what_it_is_for() -> None:
    """By class or predicate; rejections are among all errors, and not among the chosen ones unless named."""
    only = rs.Fallback(value="saved", on=ConnectionError)
    assert only.call(failing) == "saved"
    with pytest.raises(KeyError):
        only.call(missing)
    full = rs.Bulkhead(1)
    with full:
        assert rs.Policy(bulkhead=full, fallback=rs.Fallback(value="saved")).call(lambda: "ok") == "saved"
        with pytest.raises(rs.BulkheadFull):
            rs.Policy(bulkhead=full, fallback=only).call(lambda: "ok")


def test_a_fallback_of_a_coroutine_may_be_one() -> None:
    """Awaited if it is; and after the deadline it still answers."""
    clock = VirtualClock()

    async def cached(_: float) -> str:
        return "cached"

    policy = rs.Policy(deadline=1.0, fallback=rs.Fallback(cached), clock=clock)
    assert clock.run(policy.acall(asyncio.sleep, 5.0)) == "cached"
    assert policy.counters["timed_out"] == 1
    assert policy.counters["fallback"] == {"answered": 1, "failed": 0, "shadow": 0}


def test_a_shadow_fallback_lets_the_error_pass() -> None:
    """And counts it."""
    fallback = rs.Fallback(value=1, shadow=True)
    fail(fallback, 2)
    assert fallback.counters["shadow"] == 2
