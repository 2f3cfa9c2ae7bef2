"""Deadlines in shadow, and deadlines that end the waiting: the same count in every form of call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resilience as rs
from resilience.testing import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("form", ["call", "decorated", "block", "loop", "acall", "async block"])
def test_a_shadow_deadline_counts_what_was_late_in_every_form(form: str) -> None:
    """One call in time and one late: one is counted, none is refused, and code below sees no limit."""
    clock = VirtualClock()
    policy = rs.Policy(deadline=rs.Deadline(1.0, shadow=True), clock=clock)

    def work(seconds: float) -> None:
        assert rs.remaining() is None
        clock.advance(seconds)

    async def awork(seconds: float) -> None:
        work(seconds)

    def block(seconds: float) -> None:
        with policy:
            work(seconds)

    async def ablock(seconds: float) -> None:
        async with policy:
            work(seconds)

    def loop(seconds: float) -> None:
        for attempt in policy:
            with attempt:
                work(seconds)

    forms: dict[str, Callable[[float], object]] = {
        "call": lambda seconds: policy.call(work, seconds),
        "decorated": policy(work),
        "block": block,
        "loop": loop,
        "acall": lambda seconds: clock.run(policy.acall(awork, seconds)),
        "async block": lambda seconds: clock.run(ablock(seconds)),
    }
    forms[form](0.5)
    forms[form](2.0)
    assert policy.deadline is not None
    assert policy.deadline.counters == {"exceeded": 0, "shadow": 1}


@given(
    st.lists(st.floats(0.0, 3.0), min_size=1, max_size=8),
    st.floats(0.5, 6.0),
    st.floats(0.1, 4.0),
    st.booleans(),
)
def test_whatever_waits_no_call_waits_past_the_deadline(
    waits: list[float], deadline: float, rate: float, limited: bool
) -> None:
    """Backoff and limiter together: the call has ended by then, and the dependency is never called after it."""
    clock = VirtualClock()
    called: list[float] = []
    policy = rs.Policy(
        deadline=deadline,
        retry=rs.Retry(on=(ConnectionError, rs.Rejected), attempts=9, backoff=waits, budget=None),
        limiter=rs.TokenBucket(rate, max_wait=100.0) if limited else None,
        clock=clock,
    )

    def fails() -> None:
        called.append(clock.now)
        raise ConnectionError

    with pytest.raises((ConnectionError, rs.RateLimited, rs.DeadlineExceeded)):
        policy.call(fails)
    assert clock.now <= deadline
    assert all(at < deadline for at in called)
    assert len(called) >= 1
