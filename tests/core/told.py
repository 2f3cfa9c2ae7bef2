"""One table of cases for all kinds of events, and the ways to make the calls of a case, in virtual time.

Each case is a policy, a script of what its dependency does, and the events that must be told: these, in this order, and
no others.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import resilience as rs
from resilience.machines.circuit_types import State

if TYPE_CHECKING:
    from resilience.events import Event
    from resilience.testing import VirtualClock

__all__ = ["CASES", "PAIRS", "SYNC", "Case", "breaker", "plain", "use", "word"]

Step = tuple[float, object]
"""Seconds that an attempt takes, and its result or error."""

SYNC = ("decorated", "call", "loop", "block")
ASYNC = ("adecorated", "acall", "aloop", "ablock")
ALL = SYNC + ASYNC
LOOPS = ("decorated", "call", "loop", "adecorated", "acall", "aloop")  # what can retry
CALLS = ("decorated", "call", "adecorated", "acall")  # what has arguments and a result
TASKS = ("adecorated", "acall")


class Refused(rs.Rejected):
    """A rejection of the user's own."""


def refuse(*args: object) -> str:
    raise Refused("not for you", retry_after=7.0)


@dataclass(frozen=True)
class Case:
    """A policy, what its dependency does, and what must be told of it."""

    parts: Callable[[], dict[str, Any]]
    steps: list[Step]
    told: list[tuple[Any, ...]]
    ways: tuple[str, ...] = ALL
    calls: int = 1
    before: Callable[[rs.Policy, VirtualClock], object] = lambda policy, clock: None
    gap: float = 0.0

    def policy(self, clock: VirtualClock) -> rs.Policy:
        policy = rs.Policy("p", clock=clock, registry=rs.Registry(), **self.parts())
        self.before(policy, clock)
        return policy


def breaker(**settings: Any) -> rs.CircuitBreaker:
    return rs.CircuitBreaker(
        **{"failure_rate": None, "consecutive": 1, "open_for": 5.0, "jitter": 0.0, "probes": 1, **settings}
    )


def retry(**settings: Any) -> rs.Retry:
    return rs.Retry(on=KeyError, **{"attempts": 2, "backoff": 2.0, "budget": None, **settings})


def opened(policy: rs.Policy, clock: VirtualClock) -> None:
    assert isinstance(policy.breaker, rs.CircuitBreaker)
    policy.breaker.trip()


def cooled(policy: rs.Policy, clock: VirtualClock) -> None:
    opened(policy, clock)
    clock.advance(5.0)


def drained(policy: rs.Policy, clock: VirtualClock) -> None:
    assert isinstance(policy.limiter, rs.TokenBucket)
    assert policy.limiter.try_acquire()


def filled(policy: rs.Policy, clock: VirtualClock) -> None:
    assert isinstance(policy.bulkhead, rs.Bulkhead)
    assert policy.bulkhead.try_enter()


FAILED = ("attempt_failed", "p", 1, "KeyError", 0.5)
CASES: dict[str, Case] = {
    "failed": Case(
        lambda: {"breaker": breaker(consecutive=9)},
        [(0.5, KeyError("x"))],
        [FAILED, ("gave_up", "p", "failed", 1, "KeyError", 0.5)],
    ),
    "timed_out": Case(
        lambda: {"timeout": rs.Timeout(1.0, mode="cooperative")},
        [(1.5, "late")],
        [
            ("attempt_timed_out", "p", 1, "TimedOut", 1.0, 1.0),
            ("gave_up", "p", "timed_out", 1, "TimedOut", 1.0),
        ],
    ),
    "handed_over": Case(
        lambda: {"timeout": rs.Timeout(1.0, mode="argument")},
        [(1.0, TimeoutError("theirs"))],
        [
            ("attempt_timed_out", "p", 1, "TimeoutError", 1.0, 1.0),
            ("gave_up", "p", "failed", 1, "TimeoutError", 1.0),
        ],
        SYNC,
    ),
    "deadline": Case(
        lambda: {"deadline": 1.0, "retry": retry(attempts=9, backoff=0.7)},
        [(0.5, KeyError("x"))] * 2,
        [FAILED, ("gave_up", "p", "failed", 1, "KeyError", 0.5)],
        LOOPS,
    ),
    "circuit_open": Case(
        lambda: {"breaker": breaker()},
        [],
        [
            ("attempt_rejected", "p", 1, "circuit_open", "CircuitOpen", 5.0),
            ("gave_up", "p", "rejected", 1, "CircuitOpen", 0.0),
        ],
        before=opened,
    ),
    "rate_limited": Case(
        lambda: {"limiter": rs.TokenBucket(1, max_wait=0.0)},
        [],
        [
            ("attempt_rejected", "p", 1, "rate_limited", "RateLimited", 1.0),
            ("gave_up", "p", "rejected", 1, "RateLimited", 0.0),
        ],
        before=drained,
    ),
    "bulkhead_full": Case(
        lambda: {"bulkhead": rs.Bulkhead(1)},
        [],
        [
            ("attempt_rejected", "p", 1, "bulkhead_full", "BulkheadFull", None),
            ("gave_up", "p", "rejected", 1, "BulkheadFull", 0.0),
        ],
        before=filled,
    ),
    "rejected": Case(
        lambda: {"limiter": rs.KeyedTokenBucket(1, key=refuse)},
        [],
        [
            ("attempt_rejected", "p", 1, "rejected", "Refused", 7.0),
            ("gave_up", "p", "rejected", 1, "Refused", 0.0),
        ],
        CALLS,
    ),
    "retrying": Case(
        lambda: {"retry": retry()},
        [(0.5, KeyError("x")), (0.5, "ok")],
        [FAILED, ("retrying", "p", 1, "KeyError", None, 2.0, 0.5)],
        LOOPS,
    ),
    "poor": Case(
        lambda: {"retry": retry(on_result=lambda result: result == "poor")},
        [(0.5, "poor"), (0.5, "ok")],
        [("retrying", "p", 1, None, "poor", 2.0, 0.5)],
        LOOPS,
    ),
    "gave_up": Case(
        lambda: {"retry": retry()},
        [(0.5, KeyError("x")), (1.0, KeyError("y"))],
        [
            FAILED,
            ("retrying", "p", 1, "KeyError", None, 2.0, 0.5),
            ("attempt_failed", "p", 2, "KeyError", 1.0),
            ("gave_up", "p", "failed", 2, "KeyError", 3.5),
        ],
        LOOPS,
    ),
    "wrapped": Case(
        lambda: {"retry": retry(attempts=1, wrap=True)},
        [(0.5, KeyError("x"))],
        [FAILED, ("gave_up", "p", "failed", 1, "RetriesExhausted", 0.5)],
        LOOPS,
    ),
    "no_budget": Case(
        lambda: {"retry": retry(attempts=3, budget=rs.RetryBudget(1, per_success=0, floor=None))},
        [(0.5, KeyError("x")), (0.5, KeyError("x"))],
        [
            FAILED,
            ("retrying", "p", 1, "KeyError", None, 2.0, 0.5),
            ("attempt_failed", "p", 2, "KeyError", 0.5),
            ("budget_exhausted", "p", "retry", 0.0),
            ("gave_up", "p", "failed", 2, "KeyError", 3.0),
        ],
        LOOPS,
    ),
    "tripped": Case(
        lambda: {"breaker": breaker()},
        [(0.5, KeyError("x"))],
        [
            ("circuit_changed", "p", State.CLOSED, State.OPEN, "tripped"),
            FAILED,
            ("gave_up", "p", "failed", 1, "KeyError", 0.5),
        ],
    ),
    "recovered": Case(
        lambda: {"breaker": breaker()},
        [(0.5, "ok")],
        [
            ("circuit_changed", "p", State.OPEN, State.HALF_OPEN, "cooled"),
            ("circuit_changed", "p", State.HALF_OPEN, State.CLOSED, "recovered"),
        ],
        before=cooled,
    ),
    "too_slow": Case(
        lambda: {"breaker": breaker(consecutive=None, slow_rate=0.5, slow_call=0.4, minimum=1)},
        [(0.5, "ok")],
        [("circuit_changed", "p", State.CLOSED, State.OPEN, "tripped")],
    ),
    "key_of_a_breaker": Case(
        lambda: {"breaker": rs.PerKey(breaker(), key=lambda *args: "eu")},
        [(0.5, KeyError("x"))],
        [
            ("circuit_changed", "p['eu']", State.CLOSED, State.OPEN, "tripped"),
            FAILED,
            ("gave_up", "p", "failed", 1, "KeyError", 0.5),
        ],
        CALLS,
    ),
    "waited": Case(
        lambda: {"limiter": rs.TokenBucket(2, max_wait=5.0)},
        [(0.0, "ok")],
        [("waited", "p", "limiter", 0.5)],
        before=drained,
    ),
    "waited_as_learned": Case(
        lambda: {"limiter": rs.AdaptiveTokenBucket(throttled=KeyError, rate=2, burst=1, max_wait=5.0)},
        [(0.0, "ok")],
        [("waited", "p", "limiter", 0.5)],
        before=drained,
    ),
    "hedge_won": Case(
        lambda: {"hedge": rs.Hedge(0.25, name="h")},
        [(10.0, "first"), (0.5, "second")],
        [("hedged", "h", 0.25), ("hedge_won", "h")],
        TASKS,
    ),
    "hedge_lost": Case(
        lambda: {"hedge": rs.Hedge(0.25)},
        [(0.5, "first"), (10.0, "second")],
        [("hedged", "p", 0.25)],
        TASKS,
    ),
    "no_budget_to_hedge": Case(
        lambda: {"hedge": rs.Hedge(0.25, budget=rs.RetryBudget(1, per_success=0, floor=None))},
        [(0.5, "ok"), (0.5, "hedge"), (0.5, "ok")],
        [("hedged", "p", 0.25), ("budget_exhausted", "p", "hedge", 0.0)],
        TASKS,
        calls=2,
    ),
    "fell_back": Case(
        lambda: {"fallback": rs.Fallback(value="other"), "breaker": breaker(consecutive=9)},
        [(0.5, KeyError("x"))],
        [FAILED, ("gave_up", "p", "failed", 1, "KeyError", 0.5), ("fell_back", "p", "KeyError")],
        CALLS,
    ),
    "timeout_revised": Case(
        lambda: {"timeout": rs.PercentileTimeout(0.9, between=(0.1, 1.0), mode="cooperative", padding=2)},
        [(0.25, "ok")] * 80,
        [("timeout_revised", "p", 1.0, pytest.approx(0.5, rel=0.03), "measured")],
        calls=80,
    ),
    "rate_revised": Case(
        lambda: {"limiter": rs.AdaptiveTokenBucket(throttled=KeyError, name="l"), "breaker": breaker(consecutive=9)},
        [(0.5, KeyError("slow down"))],
        [
            ("rate_revised", "l", float("inf"), pytest.approx(1.12), True),
            FAILED,
            ("gave_up", "p", "failed", 1, "KeyError", 0.5),
        ],
    ),
    "budget_burning": Case(
        lambda: {"slo": rs.SLO(0.9, shed_above=5.0, minimum_bad=1), "retry": retry()},
        [(0.5, KeyError("x"))] * 3 + [(0.5, "ok")] * 9,
        [
            FAILED,
            ("retrying", "p", 1, "KeyError", None, 2.0, 0.5),
            ("attempt_failed", "p", 2, "KeyError", 0.5),
            ("gave_up", "p", "failed", 2, "KeyError", 3.0),
            ("budget_burning", "p", True, pytest.approx(10.0)),
            FAILED,
            ("gave_up", "p", "failed", 1, "KeyError", 0.5),
        ],
        ("call", "loop", "acall", "aloop"),  # the short way asks later: when the attempt has failed
        calls=2,
        gap=1.0,
    ),
}
PAIRS = [pytest.param(case, way, id=f"{name}-{way}") for name, case in CASES.items() for way in case.ways]


class Dependency:
    """Follows the script."""

    def __init__(self, steps: list[Step], clock: VirtualClock) -> None:
        self.steps = iter(steps)
        self.clock = clock

    @staticmethod
    def end(outcome: object) -> object:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def sync(self, timeout: float | None = None) -> object:
        seconds, outcome = next(self.steps)
        left = rs.remaining()
        self.clock.advance(seconds if left is None else min(seconds, left))
        rs.check_deadline()
        return self.end(outcome)

    async def task(self) -> object:
        seconds, outcome = next(self.steps)
        await asyncio.sleep(seconds)
        return self.end(outcome)


def use(policy: rs.Policy, case: Case, way: str, clock: VirtualClock) -> list[object]:
    """Make the calls of a case; what each came to."""
    dependency = Dependency(case.steps, clock)

    def loop() -> None:
        for attempt in policy:
            with attempt:
                attempt.set_result(dependency.sync())

    def block() -> None:
        with policy:
            dependency.sync()

    async def aloop() -> None:
        async for attempt in policy:
            async with attempt:
                attempt.set_result(await dependency.task())

    async def ablock() -> None:
        async with policy:
            await dependency.task()

    ways: dict[str, Callable[[], Any]] = {"loop": loop, "block": block, "aloop": aloop, "ablock": ablock}
    ways["call"] = lambda: policy.call(dependency.sync)
    ways["acall"] = lambda: policy.acall(dependency.task)
    if way in ("decorated", "adecorated"):
        ways[way] = policy(dependency.task if way in ASYNC else dependency.sync)
    came_to: list[object] = []

    def sync() -> None:
        for _ in range(case.calls):
            try:
                came_to.append(ways[way]())
            except Exception as error:
                came_to.append(error)
            clock.advance(case.gap)

    async def asynchronous() -> None:
        for _ in range(case.calls):
            try:
                came_to.append(await ways[way]())
            except Exception as error:
                came_to.append(error)
            await asyncio.sleep(case.gap)

    if way in ASYNC:
        clock.run(asynchronous())
    else:
        sync()
    return came_to


def plain(event: Event) -> tuple[Any, ...]:
    """The kind and the fields in order; errors by their class, times to the microsecond."""
    values = [getattr(event, f.name) for f in dataclasses.fields(event)]
    return event.kind, *(
        type(v).__name__ if isinstance(v, BaseException) else round(v, 6) if type(v) is float else v for v in values
    )


def word(kind: type[Event]) -> str:
    """What the events of a class say as their kind."""
    return str(object.__new__(kind).kind)
