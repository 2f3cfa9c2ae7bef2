"""A breaker and those who wait between its door and the call: what changed meanwhile counts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

import resilience as rs
from resilience.testing import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable


def trip_and_reset(breaker: rs.CircuitBreaker) -> None:
    breaker.trip()
    breaker.reset()


VERBS: dict[str, tuple[Callable[[rs.CircuitBreaker], None], type[Exception] | None]] = {
    "nothing": (lambda breaker: None, None),
    "trip": (lambda breaker: breaker.trip(), rs.CircuitOpen),
    "force_open": (lambda breaker: breaker.force_open(), rs.CircuitOpen),
    "disable": (lambda breaker: breaker.disable(), None),
    "reset": (lambda breaker: breaker.reset(), None),
    "trip and reset": (trip_and_reset, None),
}


def guarded(clock: VirtualClock, *, queue: str, shadow: bool = False) -> rs.Policy:
    """A policy in which a second call has to wait, for a token or for a slot."""
    return rs.Policy(
        "shop",
        breaker=rs.CircuitBreaker(open_for=50.0, jitter=0.0, shadow=shadow),
        limiter=rs.TokenBucket(1, burst=1, max_wait=10.0) if queue == "limiter" else None,
        bulkhead=rs.Bulkhead(1, queue=5, max_wait=10.0) if queue == "bulkhead" else None,
        clock=clock,
        registry=None,
    )


def second_call(policy: rs.Policy, clock: VirtualClock, verb: Callable[[rs.CircuitBreaker], None]) -> tuple[Any, int]:
    """What becomes of a call that is admitted, waits, and sees *verb* happen meanwhile; and how many were sent."""
    sent = 0

    async def work() -> str:
        nonlocal sent
        sent += 1
        await asyncio.sleep(0.75)
        return "ok"

    async def main() -> Any:
        first = asyncio.create_task(policy.acall(work))
        await asyncio.sleep(0.25)
        second = asyncio.create_task(policy.acall(work))
        await asyncio.sleep(0.25)
        assert not second.done()
        assert sent == 1
        assert isinstance(policy.breaker, rs.CircuitBreaker)
        verb(policy.breaker)
        assert await first == "ok"
        (result,) = await asyncio.gather(second, return_exceptions=True)
        return result

    return clock.run(main()), sent


@pytest.mark.parametrize("queue", ["limiter", "bulkhead"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_call_that_waited_goes_by_the_circuit_as_it_is_then(verb: str, queue: str) -> None:
    """Found open at its turn: refused and not sent, with the time of the next probe. Else sent."""
    clock = VirtualClock()
    policy = guarded(clock, queue=queue)
    action, refusal = VERBS[verb]
    result, sent = second_call(policy, clock, action)
    if refusal is None:
        assert (result, sent) == ("ok", 2)
    else:
        assert (type(result), sent) == (refusal, 1)
        assert result.policy == "shop"
        assert result.retry_after is None if verb == "force_open" else 49.0 < result.retry_after < 50.0
        assert policy.counters["breaker"]["refused"] == 1  # type: ignore[index]
        assert policy.counters["rejected"] == 1
    if policy.bulkhead is not None:
        assert policy.bulkhead.counters["in_use"] == 0


def test_a_shadow_breaker_refuses_nobody_who_waited() -> None:
    """It keeps its state, and lets pass."""
    clock = VirtualClock()
    policy = guarded(clock, queue="limiter", shadow=True)
    assert second_call(policy, clock, lambda breaker: breaker.trip()) == ("ok", 2)


@pytest.mark.parametrize("form", ["call", "decorated", "block"])
def test_a_late_result_from_before_the_trip_closes_and_opens_nothing(form: str) -> None:
    """Calls admitted earlier may end how they like: the circuit that has opened since stays as it is."""
    for fails in (False, True):
        clock = VirtualClock()
        breaker = rs.CircuitBreaker(consecutive=1, open_for=1.0, jitter=0.0, probes=1, clock=clock)
        policy = rs.Policy(breaker=breaker, registry=None)

        def work(fails: bool = fails, breaker: rs.CircuitBreaker = breaker, clock: VirtualClock = clock) -> None:
            breaker.trip()
            clock.advance(5.0)
            if fails:
                raise ConnectionError

        def block(work: Callable[[], None] = work, policy: rs.Policy = policy) -> None:
            with policy:
                work()

        run = {"call": lambda p=policy, w=work: p.call(w), "decorated": policy(work), "block": block}[form]
        if fails:
            with pytest.raises(ConnectionError):
                run()
        else:
            run()
        assert breaker.state == "open"
        assert breaker.counters["opened"] == 1
        assert breaker.call(lambda: "probe") == "probe"
        assert breaker.state == "closed"
