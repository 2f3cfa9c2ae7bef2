"""Timeouts and deadlines: they bite, they nest, they name themselves, and they never swallow a cancellation."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resilience as rs
from resilience.testing import VirtualClock


async def napping(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "rested"


def test_a_coroutine_is_cancelled_on_time() -> None:
    """TimedOut at the limit, which is also a TimeoutError, and the coroutine saw the cancellation."""
    clock = VirtualClock()
    seen: list[str] = []

    async def stubborn() -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    with pytest.raises(rs.TimedOut) as caught:
        clock.run(rs.Timeout(1.5, name="shop", clock=clock).acall(stubborn))
    assert isinstance(caught.value, TimeoutError)
    assert (caught.value.policy, caught.value.timeout) == ("shop", 1.5)
    assert caught.value.elapsed == pytest.approx(1.5)
    assert seen == ["cancelled"]
    assert clock.now == pytest.approx(1.5)


def test_a_timeout_error_of_the_caller_passes_unchanged() -> None:
    """Only a cancellation of ours becomes TimedOut."""
    clock = VirtualClock()
    mine = TimeoutError("mine")

    async def raising() -> None:
        await asyncio.sleep(0.5)
        raise mine

    with pytest.raises(TimeoutError) as caught:
        clock.run(rs.Timeout(1.0, clock=clock).acall(raising))
    assert caught.value is mine


@pytest.mark.parametrize("wait", [0.5, 1.0, 1.5])
def test_an_outer_cancellation_is_never_a_timeout(wait: float) -> None:
    """Cancelled before, at, or after the limit of an inner attempt: seen as cancelled, or ended by then."""
    clock = VirtualClock()
    policy = rs.Policy(timeout=1.0, retry=rs.Retry(on=TimeoutError, attempts=3, backoff=5.0), clock=clock)

    async def main() -> bool:
        task = asyncio.create_task(policy.acall(napping, 100.0))
        await asyncio.sleep(wait)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return task.cancelled()
        return False

    assert clock.run(main())


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=6))
def test_nested_deadlines_only_shrink(seconds: list[float]) -> None:
    """Inside, the time left is the least of all the deadlines around; outside again, it is what it was."""
    clock = VirtualClock()

    def nest(rest: list[float], least: float) -> None:
        left = rs.remaining()
        assert left is not None
        assert left == pytest.approx(least, abs=1e-6)
        if rest:
            with rs.Deadline(rest[0], clock=clock):
                nest(rest[1:], min(least, rest[0]))
            again = rs.remaining()
            assert again == pytest.approx(least, abs=1e-6)

    with rs.Deadline(seconds[0], clock=clock):
        nest(seconds[1:], seconds[0])
    assert rs.remaining() is None


def test_an_attempt_cut_by_the_deadline_says_so() -> None:
    """DeadlineExceeded where the deadline was nearer than the timeout, and the breaker does not count it."""
    clock = VirtualClock()
    breaker = rs.CircuitBreaker(consecutive=1)
    policy = rs.Policy(timeout=2.0, deadline=3.0, breaker=breaker, clock=clock)

    async def main() -> None:
        with pytest.raises(rs.DeadlineExceeded):
            async with rs.Deadline(1.0, clock=clock):
                await policy.acall(napping, 10.0)

    clock.run(main())
    assert breaker.state == "closed"
    with pytest.raises(rs.TimedOut):
        clock.run(policy.acall(napping, 10.0))
    assert breaker.state == "open"


def test_nothing_is_called_when_the_time_is_up() -> None:
    """A call begun after the deadline around it fails without being sent."""
    clock = VirtualClock()
    sent: list[int] = []
    guarded = rs.Retry(on=TimeoutError, clock=clock)(lambda: sent.append(1))
    with pytest.raises(rs.DeadlineExceeded), rs.Deadline(1.0, clock=clock):
        clock.advance(2.0)
        guarded()
    assert sent == []


def test_check_deadline_is_a_checkpoint() -> None:
    """It raises the error of the nearest limit that has passed, and nothing before."""
    clock = VirtualClock()

    def working(steps: int) -> int:
        for _ in range(steps):
            clock.advance(0.4)
            rs.check_deadline()
        return steps

    policy = rs.Policy(timeout=rs.Timeout(1.0, mode="cooperative"), clock=clock)
    assert policy.call(working, 2) == 2
    with pytest.raises(rs.TimedOut):
        policy.call(working, 3)
    assert policy.counters["timeout"]["timed_out"] == 1  # type: ignore[index]
    rs.check_deadline()


def test_a_late_cooperative_result_is_returned_counted_and_warned_about_once() -> None:
    """The work is done, so its result is not thrown away; but nobody is left to believe the timeout works."""
    clock = VirtualClock()
    timeout = rs.Timeout(1.0, mode="cooperative", clock=clock)
    with pytest.warns(rs.ResilienceWarning, match="unnoticed"):
        assert timeout.call(lambda: clock.advance(2.0) or "late") == "late"
    assert timeout.call(lambda: clock.advance(2.0) or "late") == "late"
    assert timeout.counters["late"] == 2


def test_the_argument_receives_what_is_left() -> None:
    """The seconds of the attempt, cut to the deadline; a smaller wish of the caller's own stands."""
    clock = VirtualClock()
    policy = rs.Policy(timeout=rs.Timeout(1.0, mode="argument"), deadline=5.0, clock=clock)

    @policy
    def get(url: str, *, timeout: float = 60.0) -> float:
        return timeout

    assert get("/") == 1.0
    assert get("/", timeout=0.25) == 0.25
    assert get("/", timeout=9.0) == 1.0
    with rs.Deadline(0.5, clock=clock):
        assert get("/") == pytest.approx(0.5)


@pytest.mark.parametrize("other", ["read_timeout", "timeout"])
def test_a_timeout_that_could_not_bite_is_refused(other: str) -> None:
    """No mode, or no parameter to hand the time to: an error when the function is decorated, with the remedy."""

    def plain(read_timeout: float) -> None: ...

    with pytest.raises(rs.ConfigError, match="mode="):
        rs.Timeout(1.0)(plain)
    with pytest.raises(rs.ConfigError, match="mode="):
        rs.Policy(timeout=1.0).call(plain, 1.0)
    if other == "timeout":
        with pytest.raises(rs.ConfigError, match="no parameter 'timeout'"):
            rs.Timeout(1.0, mode="argument")(plain)
    else:
        assert rs.Timeout(1.0, mode="argument", argument=other)(plain)


def test_a_thread_is_abandoned_on_time_and_only_so_many_of_them() -> None:
    """The caller gets TimedOut, the call goes on; when too many still run, further calls are refused."""
    release = threading.Event()
    timeout = rs.Timeout(0.02, mode="thread", max_abandoned=2)
    for _ in range(2):
        with pytest.raises(rs.TimedOut):
            timeout.call(release.wait, 10)
    assert timeout.counters["abandoned"] == 2
    with pytest.raises(rs.BulkheadFull, match="abandoned"):
        timeout.call(lambda: None)
    release.set()
    while timeout.counters["abandoned"]:
        threading.Event().wait(0.001)
    assert timeout.call(lambda: "fine again") == "fine again"


def test_a_thread_passes_context_result_and_error_through() -> None:
    """What runs in a worker sees the deadline, and its result or error is the caller's."""
    timeout = rs.Timeout(5.0, mode="thread")
    assert 0 < (timeout.call(rs.remaining) or 0) <= 5.0
    mine = KeyError("mine")

    def raising() -> None:
        raise mine

    with pytest.raises(KeyError) as caught:
        timeout.call(raising)
    assert caught.value is mine


def test_a_block_is_cut_under_asyncio() -> None:
    """`async with` cancels; `with` takes modes that a block can keep."""
    clock = VirtualClock()
    timeout = rs.Timeout(1.0, clock=clock)

    async def main() -> None:
        async with timeout as attempt:
            assert attempt.timeout == pytest.approx(1.0)
            await asyncio.sleep(0.5)
        with pytest.raises(rs.TimedOut):
            async with timeout:
                await asyncio.sleep(5.0)

    clock.run(main())
    assert timeout.counters["timed_out"] == 1
    for mode in (None, "thread"):
        with pytest.raises(rs.ConfigError, match="cannot interrupt a with-block"), rs.Timeout(1.0, mode=mode):
            pass


def test_an_attempt_after_one_that_timed_out_gets_twice_the_learned_time() -> None:
    """Within the limits; an ordinary failure changes nothing."""
    clock = VirtualClock()
    given_times: list[float] = []

    def client(timeout: float) -> None:
        given_times.append(timeout)
        clock.advance(timeout)
        raise TimeoutError("the client's own")

    policy = rs.Policy(
        timeout=rs.PercentileTimeout(0.9, between=(0.1, 5.0), initial=1.0, mode="argument"),
        retry=rs.Retry(on=TimeoutError, attempts=4, backoff=0.0),
        clock=clock,
    )
    with pytest.raises(TimeoutError):
        policy.call(client)  # type: ignore[call-arg]
    assert given_times == [1.0, 2.0, 4.0, 5.0]


def test_shadow_timeouts_cut_nothing_and_count() -> None:
    """Late attempts and late calls are counted, and their results returned."""
    clock = VirtualClock()
    policy = rs.Policy(timeout=rs.Timeout(1.0, shadow=True), deadline=rs.Deadline(2.0, shadow=True), clock=clock)
    assert clock.run(policy.acall(napping, 3.0)) == "rested"
    assert policy.call(lambda: clock.advance(3.0) or "late") == "late"
    counters: dict[str, Any] = policy.counters
    assert counters["timeout"]["shadow"] == counters["deadline"]["shadow"] == 2


def test_limits_translate_between_clocks() -> None:
    """A policy on another clock than the deadline around it sees the same seconds left."""
    outer, inner = VirtualClock(start=5.0), VirtualClock(start=900.0)
    with rs.Deadline(3.0, clock=outer):
        assert rs.Policy(clock=inner, retry=rs.Retry(on=ValueError)).call(rs.remaining) == pytest.approx(3.0)
