"""Whatever a call ends in, and wherever it is cancelled, all it took is given back, and the policy stays alive."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

import resilience as rs
from resilience.testing import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

COOLED = 60.0


def half_open_stack(clock: VirtualClock, **more: Any) -> rs.Policy:
    """A policy whose breaker is about to let one probe through."""
    policy = rs.Policy(
        retry=rs.Retry(on=ConnectionError, attempts=3, backoff=rs.Constant(0.5)),
        breaker=rs.CircuitBreaker(consecutive=1, open_for=1.0, jitter=0.0, probes=1, probe_timeout=1e6),
        limiter=rs.TokenBucket(2, burst=1, max_wait=10.0),
        bulkhead=rs.Bulkhead(1, queue=5, max_wait=10.0),
        timeout=1.0,
        deadline=30.0,
        clock=clock,
        **more,
    )
    assert isinstance(policy.breaker, rs.CircuitBreaker)
    policy.breaker.trip()
    clock.advance(1.0)
    return policy


def nothing_is_held(policy: rs.Policy, clock: VirtualClock) -> None:
    """No slot, no probe, no place in the line; and after the open time one good call closes the circuit."""
    assert policy.bulkhead is not None
    counters = policy.bulkhead.counters
    assert (counters["in_use"], counters["queued"]) == (0, 0)
    assert isinstance(policy.breaker, rs.CircuitBreaker)
    assert policy.breaker.snapshot.live == 0
    assert isinstance(policy.limiter, rs.TokenBucket)
    assert not policy.limiter._lane.waiting(clock.monotonic_ns())

    async def alive() -> str:
        return "alive"

    clock.advance(COOLED)
    assert clock.run(policy.acall(alive)) == "alive"
    assert policy.breaker.state == "closed"


async def dependency() -> str:
    """Fails once, then answers; suspends several times on the way."""
    await asyncio.sleep(0.1)
    if rs.current_attempt() == 1:
        raise ConnectionError
    await asyncio.sleep(0.1)
    await asyncio.sleep(0.1)
    return "ok"


async def hanging() -> str:
    await asyncio.sleep(1e5)
    return "never"


def cancelled_after(turns: int, clock: VirtualClock, coroutine: Awaitable[Any]) -> bool:
    """Run a coroutine in a task and cancel it after so many turns of the loop; whether it had ended before."""

    async def main() -> bool:
        task = asyncio.ensure_future(coroutine)
        for _ in range(turns):
            if task.done():
                break
            await asyncio.sleep(0)
        ended = task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError) if not ended else _nothing():
            await task
        assert len(asyncio.all_tasks()) == 1
        return ended

    return clock.run(main())


class _nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> bool:
        return True


@pytest.mark.parametrize("hedged", [False, True], ids=["plain", "hedged"])
@pytest.mark.parametrize("callee", [dependency, hanging], ids=["fails once", "hangs"])
def test_cancelled_at_every_turn_nothing_leaks(callee: Callable[[], Awaitable[str]], hedged: bool) -> None:
    """Cancelled at any moment, a call gives everything back, leaves no task, and is seen as cancelled."""
    turns = 0
    while True:
        clock = VirtualClock()
        policy = half_open_stack(clock, **({"hedge": rs.Hedge(0.05)} if hedged else {}))
        ended = cancelled_after(turns, clock, policy.acall(callee))
        nothing_is_held(policy, clock)
        turns += 1
        if ended or turns > 60:
            break
    assert turns > 5


def test_cancelled_in_every_queue_nothing_leaks() -> None:
    """Calls cancelled while they wait for a token or a slot leave the line, and those behind them move up."""
    clock = VirtualClock()
    policy = rs.Policy(
        limiter=rs.TokenBucket(1, burst=1, max_wait=100.0),
        bulkhead=rs.Bulkhead(1, queue=9, max_wait=100.0),
        clock=clock,
    )

    async def work() -> float:
        await asyncio.sleep(0.5)
        return clock.now

    async def main() -> list[float]:
        tasks = [asyncio.create_task(policy.acall(work)) for _ in range(8)]
        await asyncio.sleep(0.25)
        for task in tasks[1:7]:
            task.cancel()
        return [result for result in await asyncio.gather(*tasks, return_exceptions=True) if isinstance(result, float)]

    first, last = clock.run(main())
    assert (round(first, 3), round(last, 3)) == (0.5, 1.5)
    assert policy.bulkhead is not None
    assert policy.bulkhead.counters["in_use"] == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError, ValueError])
@pytest.mark.parametrize("way", ["call", "decorated", "block", "loop"])
def test_whatever_is_raised_passes_and_nothing_leaks(way: str, error: type[BaseException]) -> None:
    """An exception that is not to be retried comes out at once as it was; a probe it ended gets its slot back."""
    clock = VirtualClock()
    policy = rs.Policy(
        retry=rs.Retry(on=ConnectionError) if way != "block" else None,
        breaker=rs.CircuitBreaker(
            consecutive=1, open_for=1.0, jitter=0.0, probes=1, probe_timeout=1e6, on=ConnectionError
        ),
        bulkhead=rs.Bulkhead(1),
        limiter=rs.TokenBucket(10, burst=10),
        clock=clock,
    )
    assert isinstance(policy.breaker, rs.CircuitBreaker)
    policy.breaker.trip()
    clock.advance(1.0)
    raised = error("as it was")

    def callee() -> None:
        raise raised

    def loop() -> None:
        for attempt in policy:
            with attempt:
                callee()

    def block() -> None:
        with policy:
            callee()

    ways: dict[str, Callable[[], None]] = {
        "call": lambda: policy.call(callee), "decorated": policy(callee), "block": block, "loop": loop,
    }  # fmt: skip
    with pytest.raises(error) as caught:
        ways[way]()
    assert caught.value is raised
    assert policy.breaker.snapshot.live == 0
    assert policy.bulkhead is not None
    assert policy.bulkhead.counters["in_use"] == 0
    clock.advance(COOLED)
    assert policy.call(lambda: "alive") == "alive"
    assert policy.breaker.state == "closed"


def test_a_refusal_further_in_gives_the_probe_back() -> None:
    """Half-open, the probe that the limiter or the bulkhead then refuses does not wedge the circuit."""
    clock = VirtualClock()
    policy = rs.Policy(
        breaker=rs.CircuitBreaker(consecutive=1, open_for=1.0, jitter=0.0, probes=1, probe_timeout=1e6),
        limiter=rs.TokenBucket(1, burst=1, max_wait=0.0),
        clock=clock,
    )
    assert isinstance(policy.breaker, rs.CircuitBreaker)
    assert isinstance(policy.limiter, rs.TokenBucket)
    policy.breaker.trip()
    clock.advance(1.0)
    assert policy.limiter.try_acquire()
    with pytest.raises(rs.RateLimited):
        policy.call(lambda: None)
    assert policy.breaker.state == "half_open"
    clock.advance(1.0)
    assert policy.call(lambda: "alive") == "alive"
    assert policy.breaker.state == "closed"


def test_a_call_that_waited_does_not_go_to_a_circuit_that_opened_meanwhile() -> None:
    """Admitted, queued for a token, and found the circuit open at its turn: refused, not sent."""
    clock = VirtualClock()
    policy = rs.Policy(
        breaker=rs.CircuitBreaker(consecutive=1, open_for=50.0),
        limiter=rs.TokenBucket(1, burst=1, max_wait=10.0),
        clock=clock,
    )
    sent = 0

    async def failing() -> None:
        nonlocal sent
        sent += 1
        await asyncio.sleep(0.1)  # so that the others stand in line when the circuit opens
        raise ConnectionError

    async def main() -> list[Any]:
        return await asyncio.gather(*(policy.acall(failing) for _ in range(5)), return_exceptions=True)

    results = clock.run(main())
    assert [type(result) for result in results] == [ConnectionError] + [rs.CircuitOpen] * 4
    assert sent == 1
