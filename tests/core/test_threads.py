"""Many threads on one object: no count is lost, no bound is exceeded. In real time, for short."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

import resilience as rs
from resilience.machines.circuit_types import State
from resilience.testing import VirtualClock
from together import outcomes

if TYPE_CHECKING:
    from collections.abc import Callable

THREADS = 32


pytestmark = pytest.mark.usefixtures("switch_often")


def together(work: Callable[[int], Any], threads: int = THREADS) -> list[Any]:
    """What each of many threads returned. An error in one is raised."""
    results, errors = outcomes(work, threads)
    if errors:
        raise errors[0]
    return results


def test_a_limiter_gives_out_exactly_its_burst() -> None:
    """With the clock standing still, all threads together get the burst, to the token."""
    bucket = rs.TokenBucket(1, burst=1000, clock=VirtualClock())
    got = together(lambda _: sum(bucket.try_acquire() for _ in range(100)))
    assert sum(got) == 1000
    assert bucket.tokens == 0


def test_the_short_way_pays_exactly_its_tokens() -> None:
    """Decorated functions take no token twice and none for nothing."""
    policy = rs.Policy(limiter=rs.TokenBucket(1, burst=1000, max_wait=0.0), clock=VirtualClock())
    passed = together(lambda _: calls(policy(lambda: 1), 100))
    assert sum(counts["ok"] for counts in passed) == 1000
    assert sum(counts["RateLimited"] for counts in passed) == THREADS * 100 - 1000
    assert policy.counters["calls"] == THREADS * 100
    assert policy.counters["rejected"] == THREADS * 100 - 1000


def calls(fn: Callable[[], object], times: int) -> Counter[str]:
    """Call again and again; how it ended, how often."""
    counts: Counter[str] = Counter()
    for _ in range(times):
        try:
            fn()
        except Exception as error:
            counts[type(error).__name__] += 1
        else:
            counts["ok"] += 1
    return counts


def test_a_limiter_in_real_time_keeps_its_bound() -> None:
    """Waiting threads are let through at the rate, no faster."""
    bucket = rs.TokenBucket(2000, burst=10)
    began = bucket.now()
    together(lambda _: [bucket.acquire() for _ in range(20)])
    elapsed = (bucket.now() - began) / 1e9
    most = 10 + 2000 * (elapsed + 1e-9)
    assert most >= THREADS * 20


def test_a_keyed_limiter_gives_each_key_exactly_its_burst() -> None:
    """Threads that share keys get the burst of each, to the token."""
    limiter = rs.KeyedTokenBucket(1, burst=100, clock=VirtualClock())
    got = together(lambda index: [sum(limiter.try_acquire(key, 1) for _ in range(20)) for key in range(8)])
    assert [sum(column) for column in zip(*got, strict=True)] == [100] * 8


def test_a_breaker_counts_every_call() -> None:
    """Good and bad calls of all threads are in the window; and the calls of the policy are counted."""
    breaker = rs.CircuitBreaker(failure_rate=1.0, minimum=10**6, window_calls=10**6)
    policy = rs.Policy(breaker=breaker)

    def fail() -> None:
        raise ConnectionError

    good, bad = policy(lambda: 1), policy(fail)
    together(lambda index: calls(bad if index % 4 == 0 else good, 200))
    snapshot = breaker.snapshot
    assert (snapshot.total, snapshot.failures) == (THREADS * 200, THREADS // 4 * 200)
    assert policy.counters["calls"] == THREADS * 200
    assert policy.counters["failed"] == THREADS // 4 * 200


def test_a_half_open_breaker_never_lets_too_many_probes_in() -> None:
    """However many threads come at once, no more than the probes are inside; and it opens or closes once."""
    clock = VirtualClock()
    changes: list[tuple[State, State]] = []
    breaker = rs.CircuitBreaker(
        consecutive=1,
        probes=3,
        open_for=1.0,
        jitter=0.0,
        clock=clock,
        on_change=lambda t: changes.append((t.old, t.new)),
    )
    breaker.trip()
    clock.advance(1.0)
    all_refused = threading.Event()
    refused: list[int] = []

    def probe() -> bool:
        return all_refused.wait(30.0)  # stay inside until everybody else has been turned away

    def work(index: int) -> bool:
        try:
            return breaker.call(probe)
        except rs.CircuitOpen:
            refused.append(index)
            if len(refused) == THREADS - 3:
                all_refused.set()
            return False

    assert sum(together(work)) == 3
    assert len(refused) == THREADS - 3
    assert breaker.state is State.CLOSED
    assert changes == [
        (State.CLOSED, State.OPEN), (State.OPEN, State.HALF_OPEN), (State.HALF_OPEN, State.CLOSED),
    ]  # fmt: skip


def test_a_bulkhead_is_never_overfull_and_serves_all_who_wait() -> None:
    """At most so many inside; with room in the queue everybody gets in."""
    bulkhead = rs.Bulkhead(3, queue=THREADS, max_wait=30.0)
    inside = most = 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        with lock:
            inside -= 1

    together(lambda _: [bulkhead.call(work) for _ in range(30)])
    assert most <= 3
    assert bulkhead.counters["in_use"] == bulkhead.counters["queued"] == 0
    assert bulkhead.counters["refused"] == 0


def test_a_retry_budget_grants_exactly_what_it_has() -> None:
    """Withdrawals of all threads add up to the capacity."""
    budget = rs.RetryBudget(500, floor=None)
    granted = together(lambda _: sum(budget.withdraw() for _ in range(100)))
    assert sum(granted) == 500
    assert budget.counters == {"level": 0.0, "granted": 500, "refused": THREADS * 100 - 500, "floored": 0}


def test_a_learned_timeout_survives_many_threads() -> None:
    """Samples from all threads arrive, and no refresh is done twice at once."""
    learned = rs.PercentileTimeout(0.9, between=(0.001, 1.0), mode="argument")
    guarded = rs.Policy(timeout=learned)(lambda timeout=None: timeout)
    together(lambda _: calls(guarded, 200))
    learned.refresh(learned._now.monotonic_ns() + 10**10)
    assert 0.001 <= learned.current <= 1.0
    assert "samples" in str(learned.explain())


def test_asyncio_and_threads_share_a_bulkhead_and_a_limiter() -> None:
    """Tasks of several event loops and threads queue in one line; each is woken in its own world."""
    import asyncio

    policy = rs.Policy(
        bulkhead=rs.Bulkhead(2, queue=1000, max_wait=30.0), limiter=rs.TokenBucket(20_000, burst=5, max_wait=30.0)
    )
    done: list[int] = []

    async def task() -> None:
        await asyncio.sleep(0)
        done.append(1)

    async def tasks() -> None:
        await asyncio.gather(*(policy.acall(task) for _ in range(20)))

    def work(index: int) -> None:
        if index % 2:
            asyncio.run(tasks())
        else:
            for _ in range(20):
                policy.call(lambda: done.append(1))

    together(work, threads=8)
    assert len(done) == 160
    assert policy.bulkhead is not None
    assert policy.bulkhead.counters["in_use"] == 0
