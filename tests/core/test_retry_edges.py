"""How long a call has been going on: counted from its beginning, however it is made."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resilience as rs
from resilience.testing import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable

WAYS = ["decorated", "call", "loop", "decorated coroutine", "acall"]


class Slow:
    """Fails after so many seconds, each time; notes when it began."""

    def __init__(self, clock: VirtualClock, seconds: float) -> None:
        self.clock = clock
        self.seconds = seconds
        self.began: list[float] = []

    def __call__(self) -> None:
        self.began.append(self.clock.now)
        self.clock.advance(self.seconds)
        raise ConnectionError

    async def coroutine(self) -> None:
        self.began.append(self.clock.now)
        await asyncio.sleep(self.seconds)
        raise ConnectionError


def run(way: str, retry: rs.Retry, clock: VirtualClock, slow: Slow) -> None:
    """Make the call, which fails."""

    def plain() -> None:
        slow()

    def loop() -> None:
        for attempt in retry:
            with attempt:
                slow()

    ways: dict[str, Callable[[], Any]] = {
        "decorated": retry(plain),
        "call": lambda: retry.call(plain),
        "loop": loop,
        "decorated coroutine": lambda: clock.run(retry(slow.coroutine)()),
        "acall": lambda: clock.run(retry.acall(slow.coroutine)),
    }
    with pytest.raises(ConnectionError):
        ways[way]()


@pytest.mark.parametrize("way", WAYS)
@given(seconds=st.sampled_from([0.0, 0.5, 2.0, 8.0]), wait=st.sampled_from([0.5, 1.0, 3.0]), limit=st.floats(1.0, 20.0))
def test_no_attempt_begins_after_the_elapsed_time(way: str, seconds: float, wait: float, limit: float) -> None:
    """The first attempt's own time counts as well; and none is left out that could have begun before."""
    clock = VirtualClock(start=100.0)
    slow = Slow(clock, seconds)
    retry = rs.Retry(
        on=ConnectionError, attempts=None, elapsed=limit, backoff=rs.Constant(wait), budget=None, clock=clock
    )
    run(way, retry, clock, slow)
    assert all(at < 100.0 + limit for at in slow.began)
    assert slow.began[-1] + seconds + wait >= 100.0 + limit - 1e-6


@pytest.mark.parametrize("way", WAYS)
def test_hooks_are_told_the_time_since_the_call_began(way: str) -> None:
    """Attempts and waits: 2 s, then 2 + 1 + 2."""
    clock = VirtualClock()
    told: list[float] = []
    retry = rs.Retry(
        on=ConnectionError, backoff=[1.0, 1.0], on_retry=lambda event: told.append(event.elapsed), clock=clock
    )
    run(way, retry, clock, Slow(clock, 2.0))
    assert told == pytest.approx([2.0, 5.0], abs=1e-6)
