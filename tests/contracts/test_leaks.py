"""Cancelled at every single await, in every form of call: what was taken is given back, and the policy stays alive.

The core's own test cancels tasks after so many turns of the loop. Here the error is thrown into the coroutine itself,
in place of each result it waits for in turn, so that no suspension is passed over; also into blocks and loops of
blocks, while others hold the slot and the token that it waits for.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
import types
import weakref
from typing import TYPE_CHECKING, Any

import pytest

import resilience as rs
from resilience.testing import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterator

MOST = 200


@types.coroutine
def struck(coroutine: Coroutine[Any, Any, Any], at: int, error: type[BaseException]) -> Generator[Any, Any, Any]:
    """Run *coroutine*, and throw *error* into it where it suspends for the time number *at*."""
    number = 0
    step: Callable[[], Any] = lambda: coroutine.send(None)  # noqa: E731
    while True:
        try:
            awaited = step()
        except StopIteration as stop:
            return stop.value
        if number == at:
            if awaited is not None:
                awaited._asyncio_future_blocking = False  # as a task does that is cancelled
                awaited.cancel()
            step = lambda: coroutine.throw(error())  # noqa: E731
        else:
            yield awaited
            step = lambda: coroutine.send(None)  # noqa: E731
        number += 1


async def dependency() -> str:
    """Fails once, then answers; suspends on the way."""
    await asyncio.sleep(0.1)
    if rs.current_attempt() == 1:
        raise ConnectionError
    await asyncio.sleep(0.1)
    return "ok"


def stack(clock: VirtualClock, **more: Any) -> rs.Policy:
    """Half-open with one probe to give, its token taken; so that a call waits everywhere it can."""
    policy = rs.Policy(
        breaker=rs.CircuitBreaker(
            consecutive=1, open_for=1.0, jitter=0.0, probes=1, probe_timeout=1e6, on=(OSError, rs.Rejected),
            ignore=ConnectionError,
        ),
        limiter=rs.TokenBucket(2, burst=1, max_wait=10.0),
        bulkhead=rs.Bulkhead(1, queue=5, max_wait=10.0),
        timeout=1.0,
        deadline=30.0,
        clock=clock,
        **more,
    )  # fmt: skip
    assert isinstance(policy.breaker, rs.CircuitBreaker)
    assert isinstance(policy.limiter, rs.TokenBucket)
    policy.breaker.trip()
    clock.advance(1.0)
    assert policy.limiter.try_acquire()
    return policy


def call(policy: rs.Policy) -> Coroutine[Any, Any, str]:
    return policy.acall(dependency)


def decorated(policy: rs.Policy) -> Coroutine[Any, Any, str]:
    return policy(dependency)()


async def block(policy: rs.Policy) -> str:
    async with policy:
        await asyncio.sleep(0.1)
        await asyncio.sleep(0.1)
        return "ok"


async def loop(policy: rs.Policy) -> str:
    async for attempt in policy:
        async with attempt:
            return await dependency()
    return "not reached"


FORMS = [call, decorated, block, loop]


@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit, LookupError], ids=lambda e: e.__name__)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_an_error_at_any_await_leaks_nothing(form: Callable[..., Any], error: type[BaseException]) -> None:
    """Whatever strikes wherever: no slot, probe or place in a line is kept, and the next call closes the circuit."""
    ends: list[str] = []
    for at in range(MOST):
        clock = VirtualClock()
        retry = rs.Retry(on=ConnectionError, attempts=2, backoff=rs.Constant(0.5))
        policy = stack(clock, retry=None if form is block else retry)
        bulkhead, breaker, limiter = policy.bulkhead, policy.breaker, policy.limiter
        assert isinstance(bulkhead, rs.Bulkhead)
        assert isinstance(breaker, rs.CircuitBreaker)
        assert isinstance(limiter, rs.TokenBucket)

        async def main(
            policy: rs.Policy = policy,
            bulkhead: rs.Bulkhead = bulkhead,
            limiter: rs.TokenBucket = limiter,
            clock: VirtualClock = clock,
            at: int = at,
        ) -> str:
            async def hold() -> None:
                async with bulkhead:
                    await asyncio.sleep(0.8)

            holding = asyncio.create_task(hold())
            await asyncio.sleep(0)
            try:
                return str(await struck(form(policy), at, error))
            except error as caught:
                return type(caught).__name__
            finally:
                assert rs.remaining() is None, at
                assert not limiter._lane.waiting(clock.monotonic_ns()), at
                await holding

        ends.append(clock.run(main()))
        counters = bulkhead.counters
        assert (counters["in_use"], counters["queued"], breaker.snapshot.live) == (0, 0, 0), at
        clock.advance(60.0)
        assert clock.run(policy.acall(alive)) == "alive", at
        assert breaker.state == "closed", at
        if ends[-1] == "ok":
            break
    assert ends[-1] == "ok"
    assert ends[:-1] == [error.__name__] * (len(ends) - 1)
    assert len(ends) >= 5  # the token, the slot, and the function's own


async def alive() -> str:
    return "alive"


class Weighty:
    """Something whose end can be watched."""


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


POLICIES: dict[str, Callable[[], rs.Policy]] = {
    "retried": lambda: rs.Policy(retry=rs.Retry(on=ConnectionError, attempts=2, backoff=0.0)),
    "not retried": lambda: rs.Policy(retry=rs.Retry(on=KeyError)),
    "breaker": lambda: rs.Policy(breaker=rs.CircuitBreaker()),
    "limiter": lambda: rs.Policy(limiter=rs.TokenBucket(10, burst=10)),
    "deadline": lambda: rs.Policy(deadline=60.0),
    "bulkhead": lambda: rs.Policy(bulkhead=rs.Bulkhead(1)),
    "fallback": lambda: rs.Policy(fallback=rs.Fallback(value=None)),
    "thread": lambda: rs.Policy(timeout=rs.Timeout(60.0, mode="thread")),
}


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("way", ["decorated", "call", "decorated coroutine", "acall"])
@pytest.mark.parametrize("kind", POLICIES)
def test_a_failed_call_keeps_nothing_alive(kind: str, way: str) -> None:
    """When the error is gone, so is what the function held: no cycle waits for the garbage collector."""
    policy = POLICIES[kind]()
    held: list[weakref.ref[Weighty]] = []

    def fails() -> None:
        weighty = Weighty()
        held.append(weakref.ref(weighty))
        raise ConnectionError

    async def afails() -> None:
        fails()

    async def main() -> None:
        # Caught within the task: beyond it asyncio makes cycles of its own.
        with contextlib.suppress(ConnectionError):
            await (policy(afails)() if way == "decorated coroutine" else policy.acall(afails))

    if way in ("decorated", "call"):
        with contextlib.suppress(ConnectionError):
            (policy(fails) if way == "decorated" else lambda: policy.call(fails))()
    else:
        asyncio.run(main())
    ends = time.monotonic() + (1.0 if kind == "thread" else 0.0)  # a worker may take a moment to let go
    while any(ref() is not None for ref in held) and time.monotonic() < ends:
        time.sleep(0)
    assert [ref() for ref in held] == [None] * len(held)
    assert held
