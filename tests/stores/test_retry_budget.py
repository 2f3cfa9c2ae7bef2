"""A retry budget that processes share: retries are granted from one bucket, and successes of any of them fill it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

import resilience as rs
from resilience.stores import MemoryStore, RedisStore, Store
from resilience.testing import VirtualClock
from stores import engines


def budget(store: Store, **settings: Any) -> rs.RetryBudget:
    return rs.RetryBudget(4, store=store, key="dependency", **{"floor": None, **settings})


def retried(shared: rs.RetryBudget, **settings: Any) -> int:
    """How many attempts a call that always fails makes, of six it could."""
    attempts = 0

    def fail() -> None:
        nonlocal attempts
        attempts += 1
        raise ConnectionError

    policy = rs.Policy(retry=rs.Retry(on=ConnectionError, attempts=6, backoff=0, budget=shared, **settings))
    with pytest.raises(ConnectionError):
        policy.call(fail)
    return attempts


def test_all_retries_come_from_one_budget(store: Store) -> None:
    """Two processes' policies have four retries between them, however they are asked."""
    one, two = budget(store), budget(store)
    assert [retried(one), retried(two)] == [5, 1]
    assert two.level == 0
    assert one.counters["granted"] == 4 and two.counters["refused"] == 1


def test_a_coroutine_gets_its_retries_too(store: Store) -> None:
    """Under asyncio the store is asked without blocking the loop, and the grants are the same."""
    one, two = budget(store), budget(store)
    attempts = 0

    async def fail() -> None:
        nonlocal attempts
        attempts += 1
        raise ConnectionError

    async def main() -> None:
        policy = rs.Policy(retry=rs.Retry(on=ConnectionError, attempts=4, backoff=0, budget=one))
        with pytest.raises(ConnectionError):
            await policy.acall(fail)
        await store.aclose()

    asyncio.run(main())
    assert attempts == 4
    assert retried(two) == 2


def test_what_one_earns_another_may_spend(redis_store: RedisStore) -> None:
    """Successes of a healthy process reach the store within about a second, and pay for another's retries."""
    one, two = budget(redis_store, per_success=0.5), budget(redis_store)
    assert retried(one) == 5
    for _ in range(3):
        one.deposit()
    time.sleep(1.05)
    one.deposit()  # goes with what was kept
    ends = time.monotonic() + 5
    while one.level < 2 and time.monotonic() < ends:
        time.sleep(0.01)
    assert one.level == 2
    assert retried(two) == 3


def test_the_floor_refills_it_slowly() -> None:
    """Without any success, one retry comes back in each *floor* seconds."""
    clock = VirtualClock()
    shared = budget(MemoryStore(clock=clock), floor=10.0, clock=clock)
    assert [shared.withdraw() for _ in range(5)] == [True] * 4 + [False]
    clock.sleep(9.9)
    assert not shared.withdraw()
    clock.sleep(0.1)
    assert [shared.withdraw() for _ in range(2)] == [True, False]


def test_each_process_has_its_own_while_the_store_is_down(own_redis: engines.Redis, prefix: str) -> None:
    """Without the store retries go on within a local budget, fed by this process's successes."""
    with RedisStore(own_redis.url, prefix=prefix, timeout=0.05) as store:
        shared = budget(store)
        own_redis.kill()
        assert retried(shared) == 5
        assert retried(shared) == 1
        for _ in range(20):
            shared.deposit()
        assert retried(shared) == 3


def test_a_hedge_in_an_event_loop_takes_what_is_in_hand(store: Store) -> None:
    """It never blocks: the first finds nothing in hand, and has the next fetched."""
    shared = budget(store)

    async def main() -> list[bool]:
        first = shared.withdraw()
        ends = time.monotonic() + 5
        while not shared._shared._hand and time.monotonic() < ends:  # type: ignore[union-attr]  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return [first, shared.withdraw()]

    assert asyncio.run(main()) == [False, True]
