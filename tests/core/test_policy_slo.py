"""An objective as part of a policy: which calls are good, and what the policy does when the budget burns.

The settings and sums of `SLO` itself are tested beside it, in ``test_slo.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections.abc import Callable
from typing import Any

import pytest

import resilience as rs
from resilience.events import BudgetBurning
from resilience.testing import VirtualClock, record_events


def make(clock: VirtualClock, slo: Any = 0.9, **parts: Any) -> rs.Policy:
    return rs.Policy("p", slo=slo, clock=clock, registry=rs.Registry(), **parts)


def verdicts(policy: rs.Policy) -> tuple[int, int]:
    level = policy.service_level
    assert level is not None
    return level.good, level.bad


def well(clock: VirtualClock) -> str:
    return "ok"


def fail(clock: VirtualClock) -> None:
    raise KeyError("x")


def overrun(clock: VirtualClock) -> None:
    clock.advance(1.0)
    rs.check_deadline()


def interrupted(clock: VirtualClock) -> None:
    raise KeyboardInterrupt


def open_breaker() -> rs.CircuitBreaker:
    breaker = rs.CircuitBreaker()
    breaker.force_open()
    return breaker


Parts = Callable[[], dict[str, Any]]
OUTCOMES: dict[str, tuple[Parts, Callable[[VirtualClock], object], tuple[int, int]]] = {
    "went well": (dict, well, (1, 0)),
    "failed": (dict, fail, (0, 1)),
    "poor": (
        lambda: {"retry": rs.Retry(on=KeyError, attempts=1, on_result=lambda result: result == "ok")},
        well,
        (0, 1),
    ),
    "refused": (lambda: {"breaker": open_breaker()}, well, (0, 1)),
    "out of time": (lambda: {"deadline": 0.5}, overrun, (0, 1)),
    "cancelled": (dict, interrupted, (0, 0)),
    "fell back": (lambda: {"fallback": rs.Fallback(value="other")}, fail, (0, 1)),
    "fell back from a refusal": (
        lambda: {"fallback": rs.Fallback(value="other"), "breaker": open_breaker()},
        well,
        (0, 1),
    ),
}


@pytest.mark.parametrize("way", ["decorated", "call", "acall", "block", "loop"])
@pytest.mark.parametrize("name", OUTCOMES)
def test_what_is_good_and_what_is_bad(name: str, way: str) -> None:
    """By every way to call: what the caller got is what counts."""
    parts, dependency, wanted = OUTCOMES[name]
    clock = VirtualClock(start=10.0)
    policy = make(clock, **parts())
    if (policy.fallback is not None and way in ("block", "loop")) or (policy.retry is not None and way == "block"):
        return  # which guard no blocks

    def work() -> object:
        return dependency(clock)

    async def task() -> object:
        return work()

    def block() -> None:
        with policy:
            work()

    def loop() -> None:
        for attempt in policy:
            with attempt:
                attempt.set_result(work())

    ways: dict[str, Callable[[], object]] = {
        "decorated": policy(work), "call": lambda: policy.call(work), "block": block, "loop": loop,
        "acall": lambda: clock.run(policy.acall(task)),
    }  # fmt: skip
    with contextlib.suppress(Exception, KeyboardInterrupt):
        ways[way]()
    assert verdicts(policy) == wanted


@pytest.mark.parametrize("mode", ["thread", "async"])
def test_a_call_that_timed_out_is_bad(mode: str) -> None:
    """In a worker thread, or cancelled."""
    clock = VirtualClock(start=10.0)
    policy = make(clock, timeout=rs.Timeout(1.0, mode="thread"))
    end = threading.Event()
    with pytest.raises(rs.TimedOut):
        policy.call(end.wait, 60) if mode == "thread" else clock.run(policy.acall(asyncio.sleep, 60))
    end.set()
    assert verdicts(policy) == (0, 1)


def test_a_call_is_one_whatever_its_attempts() -> None:
    """Two attempts that failed and one that went well are one good call."""
    clock = VirtualClock(start=10.0)
    policy = make(clock, retry=rs.Retry(on=KeyError, attempts=3, backoff=1.0))
    turns = iter([fail, fail, well])
    policy.call(lambda: next(turns)(clock))
    assert verdicts(policy) == (1, 0)


@pytest.mark.parametrize("way", ["decorated", "call", "acall"])
@pytest.mark.parametrize(("took", "wanted"), [(0.3 - 1e-9, (1, 0)), (0.3, (0, 1)), (0.4, (0, 1))])
def test_too_late_is_bad(way: str, took: float, wanted: tuple[int, int]) -> None:
    """From *within* on, to the nanosecond; of the whole call, waits included."""
    clock = VirtualClock(start=1.0)
    policy = make(clock, rs.SLO(0.9, within=0.3))

    def work() -> None:
        clock._pass(round(took * 1e9))

    async def task() -> None:
        work()

    ways: dict[str, Callable[[], object]] = {
        "decorated": policy(work), "call": lambda: policy.call(work), "acall": lambda: clock.run(policy.acall(task))
    }  # fmt: skip
    ways[way]()
    assert verdicts(policy) == wanted
    assert policy.counters["failed"] == 0


# -- shedding ----------------------------------------------------------------------------------------------------------


class Service:
    """Up or down; counts the attempts it saw."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.up = True
        self.seen = 0

    def __call__(self) -> str:
        self.seen += 1
        self.clock.advance(0.01)
        if not self.up:
            raise KeyError("down")
        return "ok"

    def load(self, call: Callable[[], object], calls: int) -> float:
        """Attempts for each call."""
        self.seen = 0
        for _ in range(calls):
            with contextlib.suppress(KeyError):
                call()
        return self.seen / calls


@pytest.mark.parametrize("way", ["decorated", "call", "loop"])
def test_a_burning_budget_switches_retries_off_and_on_again(way: str) -> None:
    """During an outage each call makes one attempt; after it, retries are back. Told once at each change."""
    clock = VirtualClock(start=10.0)
    service = Service(clock)
    slo = rs.SLO(0.9, shed_above=5.0, spans=((600.0, 60.0, 5.0),))
    policy = make(clock, slo, retry=rs.Retry(on=KeyError, attempts=3, backoff=0.0, budget=None))

    def loop() -> None:
        for attempt in policy:
            with attempt:
                service()

    call: Callable[[], object] = {
        "decorated": policy(service.__call__), "call": lambda: policy.call(service), "loop": loop
    }[way]  # fmt: skip
    with record_events(BudgetBurning) as told:
        assert service.load(call, 10) == 1.0
        service.up = False
        assert service.load(call, 20) == 3.0  # too few bad calls to mean anything
        assert service.load(call, 200) < 2.0
        assert service.load(call, 100) == 1.0
        assert [event.shedding for event in told] == [True]
        assert told[0].policy == "p"
        assert told[0].burn > 5.0
        level = policy.service_level
        assert level is not None and level.shedding and level.alarm

        service.up = True
        clock.advance(61.0)
        assert service.load(call, 300) == 1.0
        service.up = False
        assert service.load(call, 1) == 3.0
        assert [event.shedding for event in told] == [True, False]
        assert told[1].burn < 2.5
    assert policy.retry is not None
    assert policy.retry.counters["exhausted"] > 0


def test_a_burning_budget_switches_hedges_off() -> None:
    """A slow call is not hedged then, and is again afterwards."""
    clock = VirtualClock(start=10.0)
    slo = rs.SLO(0.9, shed_above=5.0, minimum_bad=1, spans=((600.0, 60.0, 5.0),))
    policy = make(clock, slo, hedge=rs.Hedge(0.1, budget=None))

    def hedges(calls: int, *, good: bool) -> float:
        assert policy.hedge is not None
        before = policy.hedge.counters["hedged"]

        async def work() -> None:
            await asyncio.sleep(0.3)
            if not good:
                raise KeyError

        async def main() -> None:
            for _ in range(calls):
                await asyncio.gather(policy.acall(work), return_exceptions=True)

        clock.run(main())
        return (policy.hedge.counters["hedged"] - before) / calls

    assert hedges(5, good=True) == 1.0
    hedges(40, good=False)
    assert hedges(5, good=False) == 0.0
    clock.advance(61.0)
    hedges(40, good=True)
    assert hedges(5, good=True) == 1.0


def test_without_a_limit_nothing_is_shed() -> None:
    """Measuring changes nothing."""
    clock = VirtualClock(start=10.0)
    service = Service(clock)
    policy = make(clock, 0.999, retry=rs.Retry(on=KeyError, attempts=2, backoff=0.0, budget=None))
    service.up = False
    with record_events(BudgetBurning) as told:
        assert service.load(lambda: policy.call(service), 200) == 2.0
    assert told == []


def test_an_objective_may_be_shared() -> None:
    """The calls of both are counted together; both shed; it is told once."""
    clock = VirtualClock(start=10.0)
    service = Service(clock)
    slo = rs.SLO(0.9, shed_above=5.0, spans=((600.0, 60.0, 5.0),))
    retry = rs.Retry(on=KeyError, attempts=2, backoff=0.0, budget=None)
    first = rs.Policy("first", slo=slo, retry=retry, clock=clock, registry=rs.Registry())
    other = rs.Policy("other", slo=slo, retry=retry, clock=clock, registry=rs.Registry())
    service.up = False
    with record_events(BudgetBurning) as told:
        service.load(lambda: first.call(service), 100)
        assert service.load(lambda: other.call(service), 10) == 1.0
    assert verdicts(first) == verdicts(other) == (0, 110)
    assert len(told) == 1


class Interrupted:
    """A lock; just before it is taken for the second time, another thread runs *meanwhile*."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        self.lock = threading.Lock()
        self.meanwhile = meanwhile
        self.taken = 0

    def __enter__(self) -> None:
        self.taken += 1
        if self.taken == 2:
            other = threading.Thread(target=self.meanwhile)
            other.start()
            other.join()
        self.lock.acquire()

    def __exit__(self, *error: object) -> None:
        self.lock.release()


def test_a_change_is_told_once_however_many_ask() -> None:
    """Of two calls that find out at the same moment, one tells."""
    clock = VirtualClock(start=10.0)
    slo = rs.SLO(0.9, shed_above=5.0, minimum_bad=1)
    policy = make(clock, slo, retry=rs.Retry(on=KeyError))
    slo.count(0, 100, clock.monotonic_ns())
    lock = slo._lock = Interrupted(lambda: policy.call(lambda: None))  # type: ignore[assignment]
    with record_events(BudgetBurning) as told:
        policy.call(lambda: None)
    assert lock.taken >= 3
    assert len(told) == 1


# -- given to a policy -------------------------------------------------------------------------------------------------


def test_a_number_is_an_objective() -> None:
    """``slo=0.999``; and a policy without one has no level."""
    policy = rs.Policy(slo=0.999)
    assert policy.slo is not None
    assert policy.slo.objective == 0.999
    level = policy.service_level
    assert level is not None and (level.good, level.bad, level.left) == (0, 0, 1.0)
    assert rs.Policy().service_level is None


def test_an_unnamed_policy_counts_for_its_objective() -> None:
    """Nobody can look it up, but whoever has it can ask."""
    policy = rs.Policy(slo=0.9, clock=VirtualClock(10.0))
    work = policy(lambda: None)
    for _ in range(5):
        work()
    assert verdicts(policy) == (5, 0)


@pytest.mark.parametrize("bad", [0, 1, 1.0, -0.5, 1.5, math.nan, math.inf])
def test_an_objective_out_of_range_is_refused(bad: float) -> None:
    """By name and value."""
    with pytest.raises(rs.ConfigError, match="slo must"):
        rs.Policy(slo=bad)


@pytest.mark.parametrize("bad", ["0.9", True, [0.9], object])
def test_what_is_no_objective_is_refused(bad: Any) -> None:
    """By name and value."""
    with pytest.raises(TypeError, match="slo must"):
        rs.Policy(slo=bad)


def test_an_objective_is_shown_and_kept_when_deriving() -> None:
    """In the repr, and through replace."""
    policy = rs.Policy("p", slo=rs.SLO(0.9, within=0.3), registry=None)
    assert repr(policy) == "Policy('p', slo=SLO(0.9, within=0.3), registry=None)"
    assert policy.replace(deadline=1.0).slo is policy.slo
    assert policy.replace(slo=None).service_level is None
