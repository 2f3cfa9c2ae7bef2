"""Lambda's remaining time is the deadline of what runs inside."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resilience as rs
from resilience.aws.lambda_context import LambdaDeadline, lambda_deadline, lambda_handler
from resilience.testing import VirtualClock


class Context:
    """Lambda's, as far as it matters: an invocation of so many milliseconds on a clock."""

    def __init__(self, clock: VirtualClock, milliseconds: int) -> None:
        self.clock = clock
        self.end = clock.now + milliseconds / 1000

    def get_remaining_time_in_millis(self) -> int:
        return int((self.end - self.clock.now) * 1000)


@given(st.integers(2, 900_000), st.floats(0, 900))
def test_the_time_left_less_the_reserve_is_what_is_seen_inside(milliseconds: int, reserve: float) -> None:
    """`remaining()` tells it, or nothing is begun when there is none."""
    clock = VirtualClock(100.0)
    context = Context(clock, milliseconds)
    left = context.get_remaining_time_in_millis() / 1000 - reserve
    if left < 0.001:
        with pytest.raises(rs.DeadlineExceeded, match="kept back"), lambda_deadline(context, reserve=reserve):
            pytest.fail("the block was begun")
    else:
        with lambda_deadline(context, reserve=reserve, clock=clock) as block:
            assert rs.remaining() == pytest.approx(left)
            assert block.timeout == pytest.approx(left)
    assert rs.remaining() is None


def test_the_time_is_asked_for_when_the_block_begins() -> None:
    """A deadline object made early does not promise more than is left."""
    clock = VirtualClock()
    block = lambda_deadline(Context(clock, 10_000), clock=clock)
    clock.advance(7)
    with block:
        assert rs.remaining() == pytest.approx(2.5)


def test_a_retry_inside_does_not_wait_past_the_invocation() -> None:
    """The error comes while there is still time to answer it."""
    clock = VirtualClock()

    @lambda_handler(reserve=1.0, clock=clock)
    def handler(event: dict[str, Any], context: Any) -> None:
        retry = rs.Retry(on=ConnectionError, attempts=10, backoff=2.0, clock=clock)

        def down() -> None:
            raise ConnectionError

        retry.call(down)

    context = Context(clock, 6_000)
    with pytest.raises(ConnectionError) as caught:
        handler({}, context)
    assert context.get_remaining_time_in_millis() == 2_000
    assert "the deadline would pass" in str(caught.value.__notes__)


def test_a_coroutine_function_is_cancelled_in_time() -> None:
    """It gets `DeadlineExceeded`, with the reserve still unspent."""
    clock = VirtualClock()
    context = Context(clock, 3_000)

    @lambda_handler(reserve=0.5, clock=clock)
    async def handler(event: Any, context: Any) -> None:
        await asyncio.sleep(60)

    with pytest.raises(rs.DeadlineExceeded):
        clock.run(handler({}, context))
    assert context.get_remaining_time_in_millis() == pytest.approx(500, abs=2)


def test_async_with_gives_the_same_deadline() -> None:
    """Blocks of both kinds."""
    clock = VirtualClock()

    async def main() -> float | None:
        async with lambda_deadline(Context(clock, 3_000), reserve=1, clock=clock):
            return rs.remaining()

    assert clock.run(main()) == pytest.approx(2.0)


def test_a_nearer_deadline_inside_stays() -> None:
    """Deadlines only shrink."""
    clock = VirtualClock()
    with lambda_deadline(Context(clock, 60_000), clock=clock), rs.Deadline(2.0, clock=clock):
        assert rs.remaining() == pytest.approx(2.0)
    with rs.Deadline(2.0, clock=clock), lambda_deadline(Context(clock, 60_000), clock=clock):
        assert rs.remaining() == pytest.approx(2.0)


def test_the_decorated_function_keeps_its_name_and_answer() -> None:
    """Lambda finds it as it would have found the plain one; arguments may come by name."""
    clock = VirtualClock()

    @lambda_handler()
    def handler(event: Any, context: Any) -> Any:
        """What it does."""
        return event["x"]

    assert (handler.__name__, handler.__doc__) == ("handler", "What it does.")
    assert handler({"x": 1}, Context(clock, 5_000)) == 1
    assert handler(event={"x": 2}, context=Context(clock, 5_000)) == 2


def test_a_function_too_late_is_not_begun() -> None:
    """Neither kind."""
    clock = VirtualClock()
    begun: list[str] = []

    @lambda_handler(reserve=1.0)
    def plain(event: Any, context: Any) -> None:
        begun.append("plain")

    @lambda_handler(reserve=1.0)
    async def waiting(event: Any, context: Any) -> None:
        begun.append("waiting")

    with pytest.raises(rs.DeadlineExceeded) as caught:
        plain({}, Context(clock, 900))
    assert caught.value.policy == "lambda"
    with pytest.raises(rs.DeadlineExceeded):
        clock.run(waiting({}, Context(clock, 1_000)))
    assert begun == []


def test_threads_with_a_context_each_do_not_disturb_each_other() -> None:
    """One decorated function, many invocations."""
    seen: dict[int, float | None] = {}

    @lambda_handler(reserve=0)
    def handler(event: int, context: Any) -> None:
        time.sleep(0.01)
        seen[event] = rs.remaining()

    threads = [threading.Thread(target=handler, args=(n, Context(VirtualClock(), n * 10_000))) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {n: round(left or 0, -1) for n, left in seen.items()} == {n: n * 10 for n in range(1, 9)}


@pytest.mark.parametrize("context", [None, object(), {"get_remaining_time_in_millis": 3}])
def test_what_cannot_tell_the_time_is_refused(context: Any) -> None:
    """With the name of the method that is missing."""
    with pytest.raises(TypeError, match="get_remaining_time_in_millis"):
        lambda_deadline(context)


def test_bad_settings_are_refused_when_they_are_written() -> None:
    """Not at the first invocation."""
    with pytest.raises(rs.ConfigError, match="reserve"):
        lambda_handler(reserve=-1)
    with pytest.raises(TypeError, match="clock"):
        lambda_handler(clock=object())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="clock"):
        LambdaDeadline(Context(VirtualClock(), 1), clock=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="callable"):
        lambda_handler()(3)  # type: ignore[type-var]
    with pytest.raises(TypeError, match="generator"):
        lambda_handler()(lambda event, context: (yield))
