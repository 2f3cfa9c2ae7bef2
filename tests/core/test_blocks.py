"""Blocks and loops of blocks where they do not go well: refused, late, abandoned, cancelled; and what is counted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

import resilience as rs
from resilience.testing import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable


def failing() -> None:
    raise ConnectionError("down")


def by_call(policy: rs.Policy) -> None:
    policy.call(failing)


def by_loop(policy: rs.Policy) -> None:
    for attempt in policy:
        with attempt:
            failing()


def ends(policy: rs.Policy) -> dict[str, Any]:
    """How the calls of a policy ended."""
    counters = policy.counters
    return {name: counters[name] for name in ("calls", "failed", "rejected", "timed_out", "cancelled")}


@pytest.mark.parametrize("wrap", [False, True], ids=["as it was", "wrapped"])
@pytest.mark.parametrize("attempts", [1, 2])
def test_a_loop_that_gives_up_is_a_failed_call(wrap: bool, attempts: int) -> None:
    """It is counted as the function form counts it, whichever error says so."""
    accounts = []
    for way in (by_call, by_loop):
        retry = rs.Retry(on=ConnectionError, attempts=attempts, backoff=0.0, wrap=wrap)
        policy = rs.Policy(retry=retry, clock=VirtualClock())
        with pytest.raises(rs.RetriesExhausted if wrap else ConnectionError):
            way(policy)
        accounts.append(ends(policy))
    assert accounts[0] == accounts[1]
    assert accounts[1]["failed"] == 1


def test_a_loop_whose_result_stays_poor_is_a_failed_call_when_wrapped() -> None:
    """RetriesExhausted carries the result, and the call is counted as failed."""
    policy = rs.Policy(
        retry=rs.Retry(on=ConnectionError, attempts=2, backoff=0.0, on_result=lambda r: r == "poor", wrap=True),
        clock=VirtualClock(),
    )
    with pytest.raises(rs.RetriesExhausted) as caught:
        for attempt in policy:
            with attempt:
                attempt.set_result("poor")
    assert (caught.value.attempts, caught.value.result) == (2, "poor")
    assert ends(policy)["failed"] == 1


@pytest.mark.parametrize("form", ["call", "loop"])
def test_a_call_cancelled_between_attempts_is_counted_as_cancelled(form: str) -> None:
    """Also while it only waits for the next attempt."""
    clock = VirtualClock()
    policy = rs.Policy(retry=rs.Retry(on=ConnectionError, backoff=10.0), clock=clock)

    async def afailing() -> None:
        raise ConnectionError

    async def by_aloop() -> None:
        async for attempt in policy:
            async with attempt:
                raise ConnectionError

    async def main() -> None:
        task = asyncio.create_task(policy.acall(afailing) if form == "call" else by_aloop())
        await asyncio.sleep(5.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    clock.run(main())
    assert ends(policy) == {"calls": 1, "failed": 0, "rejected": 0, "timed_out": 0, "cancelled": 1}


def test_an_interrupt_between_attempts_is_counted_as_cancelled() -> None:
    """The same for a blocking loop whose wait is interrupted."""

    class Interrupted(VirtualClock):
        def sleep(self, seconds: float) -> None:
            raise KeyboardInterrupt

    accounts = []
    for way in (by_call, by_loop):
        policy = rs.Policy(retry=rs.Retry(on=ConnectionError, backoff=10.0), clock=Interrupted())
        with pytest.raises(KeyboardInterrupt):
            way(policy)
        accounts.append(ends(policy))
    assert accounts[0] == accounts[1]
    assert accounts[1]["cancelled"] == 1


def test_a_block_begun_too_late_is_not_entered() -> None:
    """After the deadline around it: DeadlineExceeded, nothing taken, and a loop that hears of it ends."""
    clock = VirtualClock()
    policy = rs.Policy(limiter=rs.TokenBucket(1, burst=5), retry=rs.Retry(on=ConnectionError), clock=clock)
    block = policy.replace(retry=None)
    assert isinstance(policy.limiter, rs.TokenBucket)
    entered: list[str] = []

    def body() -> None:
        with block:
            entered.append("block")

    with rs.Deadline(1.0, clock=clock):
        clock.advance(2.0)
        with pytest.raises(rs.DeadlineExceeded):
            body()
        refused = 0
        for attempt in policy:
            try:
                with attempt:
                    entered.append("loop")
            except rs.DeadlineExceeded:
                refused += 1
    assert entered == []
    assert refused == 1
    assert policy.limiter.tokens == 5
    assert ends(policy)["timed_out"] == ends(block)["timed_out"] == 1


def test_a_loop_cut_under_asyncio_tries_again() -> None:
    """An attempt that timed out is retried if TimeoutError is; the body is cancelled, the caller is not."""
    clock = VirtualClock()
    policy = rs.Policy(timeout=1.0, retry=rs.Retry(on=TimeoutError, attempts=3, backoff=0.5), clock=clock)
    cut: list[int] = []

    async def main(slow: int) -> int:
        async for attempt in policy:
            async with attempt:
                try:
                    await asyncio.sleep(5.0 if attempt.number <= slow else 0.0)
                except asyncio.CancelledError:
                    cut.append(attempt.number)
                    raise
                return attempt.number
        return 0

    assert clock.run(main(2)) == 3
    assert cut == [1, 2]
    assert clock.now == pytest.approx(3.0, abs=1e-6)
    with pytest.raises(rs.TimedOut):
        clock.run(main(9))


def test_an_asynchronous_block_outside_a_task_gives_back_what_it_took() -> None:
    """Asyncio can cut only tasks; the error is asyncio's, and no slot is kept."""
    policy = rs.Policy(bulkhead=rs.Bulkhead(1), timeout=1.0, clock=VirtualClock())
    loop = asyncio.new_event_loop()
    raised: list[RuntimeError] = []

    def outside() -> None:
        try:
            policy.__aenter__().send(None)
        except RuntimeError as error:
            raised.append(error)
        loop.stop()

    loop.call_soon(outside)
    loop.run_forever()
    loop.close()
    assert "inside a task" in str(raised[0])
    assert policy.counters["bulkhead"]["in_use"] == 0  # type: ignore[index]


def test_a_block_refused_because_too_many_calls_were_abandoned_takes_no_slot() -> None:
    """The last check before an attempt begins gives back what was taken before it."""
    import threading

    release = threading.Event()
    timeout = rs.Timeout(0.01, mode="thread", max_abandoned=1)
    policy = rs.Policy(bulkhead=rs.Bulkhead(5), breaker=rs.CircuitBreaker(), timeout=timeout)
    with pytest.raises(rs.TimedOut):
        policy.call(release.wait, 30)

    async def block() -> None:
        async with policy:
            raise AssertionError("not reached")

    with pytest.raises(rs.BulkheadFull, match="abandoned"):
        asyncio.run(block())
    release.set()
    assert policy.counters["bulkhead"]["in_use"] == 0  # type: ignore[index]


@pytest.mark.parametrize("leave", ["break", "return", "raise"])
def test_a_loop_may_be_left_at_any_time(leave: str) -> None:
    """What an attempt took is given back when its block ends, however it ends."""
    policy = rs.Policy(bulkhead=rs.Bulkhead(1), retry=rs.Retry(on=ConnectionError, backoff=0.0), clock=VirtualClock())

    def run() -> str:
        for attempt in policy:
            with attempt:
                if attempt.number == 1:
                    raise ConnectionError
                if leave == "return":
                    return "left"
                if leave == "raise":
                    raise LookupError
                break
        return "left"

    if leave == "raise":
        with pytest.raises(LookupError):
            run()
    else:
        assert run() == "left"
    assert policy.counters["bulkhead"]["in_use"] == 0  # type: ignore[index]
    assert rs.current_attempt() == 1
    assert policy.call(lambda: "alive") == "alive"


@pytest.mark.parametrize(
    "make",
    [
        lambda: rs.KeyedTokenBucket(1),
        lambda: rs.PerKey(rs.Bulkhead(1), key=len),
        lambda: rs.PerKey(rs.CircuitBreaker(), key=len),
    ],
    ids=["limiter", "bulkhead", "breaker"],
)
def test_a_block_has_no_key_and_is_refused_with_the_remedy(make: Callable[[], Any]) -> None:
    """As block at once; as loop at its first attempt, where the message names the part of a key."""
    part = make()
    policy = rs.Policy(**{part.kind: part})
    for guard in (part, policy):
        with pytest.raises(rs.ConfigError, match="key"), guard:
            pass
    with pytest.raises(rs.ConfigError, match="key"):
        for attempt in policy:
            with attempt:
                pass
