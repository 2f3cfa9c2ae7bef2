"""Hedging together with the parts that each attempt passes: what stops the second attempt does not stop the first."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

import resilience as rs
from resilience.testing import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable

REFUSING: dict[str, Callable[[], dict[str, Any]]] = {
    "bulkhead": lambda: {"bulkhead": rs.Bulkhead(1)},
    "limiter": lambda: {"limiter": rs.TokenBucket(1, per=1e6, burst=1, max_wait=0.0)},
}


@pytest.mark.parametrize("part", REFUSING)
def test_a_refused_hedge_leaves_the_first_attempt_alone(part: str) -> None:
    """The slow answer is returned; one attempt was sent."""
    clock = VirtualClock()
    policy = rs.Policy(hedge=rs.Hedge(0.5), clock=clock, **REFUSING[part]())
    sent: list[float] = []

    async def slow() -> str:
        sent.append(clock.now)
        await asyncio.sleep(3.0)
        return "slow"

    assert clock.run(policy.acall(slow)) == "slow"
    assert sent == [0.0]
    assert clock.now == pytest.approx(3.0, abs=1e-6)
    assert policy.counters["failed"] == policy.counters["rejected"] == 0


@pytest.mark.parametrize("part", REFUSING)
def test_a_refused_hedge_in_a_thread_leaves_the_first_attempt_alone(part: str) -> None:
    """The same for functions."""
    policy = rs.Policy(hedge=rs.Hedge(0.005), **REFUSING[part]())
    refused = threading.Event()
    sent: list[str] = []

    def slow() -> str:
        sent.append("sent")
        refused.wait(0.05)
        return "slow"

    assert policy.call(slow) == "slow"
    assert sent == ["sent"]


def test_the_loser_counts_nowhere_and_the_winner_once() -> None:
    """A cancelled loser is neither failure nor success to the breaker, and both slots are back."""
    clock = VirtualClock()
    breaker = rs.CircuitBreaker(failure_rate=1.0, minimum=10)
    policy = rs.Policy(hedge=rs.Hedge(0.5), breaker=breaker, bulkhead=rs.Bulkhead(2), clock=clock)
    calls = 0

    async def work() -> int:
        nonlocal calls
        calls += 1
        mine = calls
        await asyncio.sleep(3.0 if mine == 1 else 0.25)
        return mine

    assert clock.run(policy.acall(work)) == 2
    assert (breaker.snapshot.total, breaker.snapshot.failures) == (1, 0)
    assert policy.counters["bulkhead"]["in_use"] == 0  # type: ignore[index]
    assert policy.counters["hedge"] == {"hedged": 1, "won": 1, "refused": 0, "shadow": 0}


def test_retries_and_hedges_of_two_policies_share_one_budget() -> None:
    """Each hedge and each retry takes one; when it is spent there is neither."""
    clock = VirtualClock()
    budget = rs.RetryBudget(3, per_success=0.0, floor=None)
    hedged = rs.Policy(hedge=rs.Hedge(0.5, budget=budget), clock=clock)
    retried = rs.Policy(retry=rs.Retry(on=ConnectionError, attempts=2, backoff=0.0, budget=budget), clock=clock)

    async def slow() -> str:
        await asyncio.sleep(2.0)
        return "slow"

    async def fails() -> None:
        raise ConnectionError

    for _ in range(2):
        assert clock.run(hedged.acall(slow)) == "slow"
        with pytest.raises(ConnectionError):
            clock.run(retried.acall(fails))
    assert budget.counters == {"level": 0.0, "granted": 3, "refused": 1, "floored": 0}
    assert hedged.counters["hedge"]["hedged"] == 2  # type: ignore[index]
    assert retried.counters["retry"]["retries"] == 1  # type: ignore[index]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, LookupError])
def test_whatever_ends_all_attempts_in_threads_is_raised(error: type[BaseException]) -> None:
    """As it was, from the worker to the caller; the slot is back."""
    raised = error("as it was")
    policy = rs.Policy(hedge=rs.Hedge(9.0), bulkhead=rs.Bulkhead(1))

    def ends() -> None:
        raise raised

    with pytest.raises(error) as caught:
        policy.call(ends)
    assert caught.value is raised
    assert policy.counters["bulkhead"]["in_use"] == 0  # type: ignore[index]
