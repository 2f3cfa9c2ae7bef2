"""The testing kit under odd use: bad input, clocks that step back, real threads under a virtual clock, exceptions."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resilience as rs
from resilience import events
from resilience.clock import system
from resilience.testing import VirtualClock, no_waiting, record_events, virtual_clock

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("bad", [-1, math.nan, math.inf, "1", True, None], ids=repr)
@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("start", VirtualClock),
        ("epoch", lambda value: VirtualClock(epoch=value)),
        ("seconds", lambda value: VirtualClock().advance(value)),
        ("seconds", lambda value: VirtualClock().set_back(value)),
    ],
    ids=["start", "epoch", "advance", "set_back"],
)
def test_bad_input_of_the_kit_is_refused_by_name(name: str, use: Callable[[Any], object], bad: object) -> None:
    """As everywhere else in the library."""
    with pytest.raises((TypeError, ValueError), match=name):
        use(bad)


@given(st.lists(st.floats(0.0, 1e5), max_size=20), st.floats(0.0, 1e6))
def test_virtual_time_is_the_sum_of_what_passed(steps: list[float], start: float) -> None:
    """To the nanosecond a step, whichever way it passes; the wall clock goes along."""
    clock = VirtualClock(start)
    wall = clock.time()
    for index, step in enumerate(steps):
        (clock.advance, clock.sleep)[index % 2](step)
    assert clock.now == pytest.approx(start + sum(steps), abs=1e-6)
    assert clock.time() - wall == pytest.approx(sum(steps), abs=1e-3)
    assert clock.sleeps == steps[1::2]


@given(st.lists(st.integers(1, 100_000), min_size=1, max_size=20))
def test_virtual_tasks_wake_in_the_order_of_their_times(naps: list[int]) -> None:
    """At their moment to the microsecond, however many, and in no real time."""
    clock = VirtualClock(start=100.0)
    woken: list[tuple[float, int]] = []

    async def nap(seconds: int) -> None:
        await clock.asleep(seconds)
        woken.append((clock.now - 100.0, seconds))

    async def main() -> None:
        await asyncio.gather(*map(nap, naps))

    clock.run(main())
    assert [seconds for _, seconds in woken] == sorted(naps)
    assert all(at == pytest.approx(seconds, abs=1e-4) for at, seconds in woken)


def test_a_worker_that_is_quick_is_waited_for_and_one_that_hangs_is_not() -> None:
    """Under a virtual clock a call in a thread gets a moment of real time before its whole timeout passes."""
    clock = VirtualClock()
    timeout = rs.Timeout(3600.0, mode="thread", clock=clock)
    assert timeout.call(lambda: "quick") == "quick"
    assert clock.now == 0.0
    release = threading.Event()
    began = time.monotonic()
    with pytest.raises(rs.TimedOut):
        timeout.call(release.wait, 30)
    assert time.monotonic() - began < 5.0
    assert clock.now == 3600.0
    release.set()
    ready = threading.Event()
    ready.set()
    assert clock.wait(ready, None)


def test_the_kit_takes_itself_away_when_a_test_fails() -> None:
    """After an exception in the block, the machine's clock, or that of the block around it, is back."""
    before = system.monotonic_ns
    for kit in (virtual_clock, no_waiting):
        with pytest.raises(LookupError), kit():
            assert system.monotonic_ns != before
            raise LookupError
        assert system.monotonic_ns == before
    with virtual_clock() as outer:
        with pytest.raises(LookupError), no_waiting():
            raise LookupError
        assert system.monotonic_ns == outer.monotonic_ns


def test_a_policy_lives_through_a_clock_that_jumps() -> None:
    """Back and forth between any two calls: every part goes on, and nothing is raised."""
    clock = VirtualClock(start=10_000.0)
    policy = rs.Policy(
        retry=rs.Retry(on=ConnectionError, backoff=0.5, budget=rs.RetryBudget()),
        breaker=rs.CircuitBreaker(consecutive=3),
        limiter=rs.TokenBucket(5, burst=5, max_wait=1e6),
        timeout=rs.PercentileTimeout(0.9, between=(0.1, 1.0), mode="argument"),
        deadline=1e8,
        clock=clock,
    )
    jumps = iter([0.0, -3.0, 50.0, -1000.0, 1e6, -0.001, -5000.0, 1e7] * 20)
    calls = 0

    @policy
    def work(timeout: float = 0.0) -> str:
        nonlocal calls
        calls += 1
        jump = next(jumps)
        if jump < 0:
            clock.set_back(-jump)
        else:
            clock.advance(jump)
        if calls % 3 == 0:
            raise ConnectionError
        return "ok"

    assert [work() for _ in range(40)] == ["ok"] * 40
    assert policy.counters["failed"] == 0


def broken() -> None:
    raise ConnectionError("down")


def test_recorded_events_are_those_of_the_block() -> None:
    """In their order, from all threads; the list stays as it was when the block ended."""
    retry = rs.Retry(on=ConnectionError, attempts=2, backoff=1.0)
    policy = rs.Policy("db", retry=retry, clock=VirtualClock(), registry=None)

    def call() -> None:
        with pytest.raises(ConnectionError):
            policy.call(broken)

    call()
    with record_events() as told:
        call()
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    call()
    assert [event.kind for event in told] == ["attempt_failed", "retrying", "attempt_failed", "gave_up"] * 2
    assert told[1].delay == 1.0


def test_recorded_events_can_be_chosen() -> None:
    """By class and by policy, as for `listen`; blocks may be nested."""
    policies = [rs.Policy(name, registry=None) for name in ("db", "web")]
    with record_events(policy="db") as of_db, record_events((events.GaveUp, events.Retrying)) as ends:
        for policy in policies:
            with pytest.raises(ConnectionError):
                policy.call(broken)
    assert [str(event) for event in of_db] == [
        "db: attempt 1 failed: ConnectionError: down",
        f"db: gave up after 1 attempts and {of_db[1].seconds:.3g} s (failed): ConnectionError: down",
    ]
    assert [(event.kind, event.policy) for event in ends] == [("gave_up", "db"), ("gave_up", "web")]


def test_recording_ends_when_the_test_fails() -> None:
    """And bad input begins none."""
    with pytest.raises(LookupError), record_events() as told:
        raise LookupError
    with pytest.raises(TypeError, match="to must be"), record_events("gave_up"):  # type: ignore[arg-type]
        raise AssertionError
    with pytest.raises(ConnectionError):
        rs.Policy(registry=None).call(broken)
    assert told == []
