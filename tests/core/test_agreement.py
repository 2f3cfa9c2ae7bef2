"""One policy, one script, five ways to run it: they agree in results, errors, times, counters and state.

The ways: decorated (the short way of ``_fast.py``), decorated through the story alone, ``call``, asyncio in virtual
time, and the loop of blocks. Each gets policies of its own made alike, and a clock of its own.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import resilience as rs
from resilience import _fast
from resilience.testing import VirtualClock

ERRORS: dict[str, type[Exception]] = {"refused": ConnectionError, "slow": TimeoutError, "bug": KeyError}


@dataclass(frozen=True)
class Step:
    """What the dependency does at one attempt."""

    outcome: str  # "ok", "poor", or the name of an error
    took: float


@dataclass(frozen=True)
class Shape:
    """Which parts a policy has, and how they are set."""

    retry: bool
    on_result: bool
    breaker: str
    slow: bool
    rate: float
    wait: bool
    bulkhead: bool
    deadline: float
    argument: bool
    fallback: bool
    budget: bool
    named: bool = False

    def policy(self, clock: VirtualClock) -> rs.Policy:
        parts: dict[str, Any] = {}
        if self.retry:
            parts["retry"] = rs.Retry(
                on=(ConnectionError, TimeoutError),
                attempts=3,
                backoff=rs.Exponential(0.5, cap=2),
                on_result=(lambda result: result == "poor") if self.on_result else None,
                budget=rs.RetryBudget(2, floor=None) if self.budget else None,
                rng=random.Random(5),
            )
        if self.breaker:
            parts["breaker"] = rs.CircuitBreaker(
                failure_rate=0.5,
                minimum=3,
                window_calls=5 if self.breaker == "calls" else None,
                window_seconds=4.0 if self.breaker == "seconds" else None,
                slow_rate=0.6 if self.slow else None,
                slow_call=0.4 if self.slow else None,
                open_for=2.0,
                probes=2,
                rng=random.Random(6),
            )
        if self.rate:
            parts["limiter"] = rs.TokenBucket(self.rate, burst=2, max_wait=1.0 if self.wait else 0.0)
        if self.bulkhead:
            parts["bulkhead"] = rs.Bulkhead(1)
        if self.deadline:
            parts["deadline"] = self.deadline
        if self.argument:
            parts["timeout"] = rs.Timeout(min(1.0, self.deadline or 1.0), mode="argument")
        if self.fallback:
            parts["fallback"] = rs.Fallback(value="fallback")
        return rs.Policy("p" if self.named else None, clock=clock, registry=rs.Registry(), **parts)


SHAPES = st.builds(
    Shape,
    retry=st.booleans(),
    on_result=st.booleans(),
    breaker=st.sampled_from(["", "calls", "seconds"]),
    slow=st.booleans(),
    rate=st.sampled_from([0, 1, 5]),
    wait=st.booleans(),
    bulkhead=st.booleans(),
    deadline=st.sampled_from([0, 0, 3.0]),
    argument=st.booleans(),
    fallback=st.booleans(),
    budget=st.booleans(),
    named=st.booleans(),
)
STEPS = st.lists(
    st.builds(Step, st.sampled_from(["ok", "ok", "ok", "poor", *ERRORS]), st.sampled_from([0.0, 0.1, 0.5, 1.5])),
    max_size=25,
)
GAPS = st.lists(st.sampled_from([0.0, 0.1, 1.0, 3.0]), min_size=1, max_size=12)


class Dependency:
    """Follows the script; notes when it was called, which attempt that was, and what time it was given."""

    def __init__(self, script: list[Step], clock: VirtualClock) -> None:
        self.script = list(script)
        self.clock = clock
        self.calls: list[tuple[int, int, float | None]] = []

    def begin(self) -> Step:
        left = rs.remaining()
        self.calls.append(
            (round(self.clock.now * 1000), rs.current_attempt(), None if left is None else round(left, 3))
        )
        return self.script.pop(0) if self.script else Step("ok", 0.0)

    @staticmethod
    def end(step: Step) -> str:
        if step.outcome in ERRORS:
            raise ERRORS[step.outcome](step.outcome)
        return step.outcome

    def sync(self, timeout: float | None = None) -> str:
        step = self.begin()
        # Like a client that was handed a timeout; in asyncio the policy cancels instead.
        took = step.took if timeout is None else min(step.took, timeout)
        self.clock.advance(took)
        if took < step.took:
            raise TimeoutError("slow")
        return self.end(step)

    async def asynchronous(self) -> str:
        step = self.begin()
        if step.took:
            await asyncio.sleep(step.took)
        return self.end(step)


def note(error: Exception) -> str:
    """What an error is, whoever raised it: a timeout of ours and one of the client's are the same."""
    return "slow" if isinstance(error, TimeoutError) else type(error).__name__


def state(policy: rs.Policy) -> dict[str, Any]:
    """Counters, and the machine's state behind them."""
    found: dict[str, Any] = dict(policy.counters)
    for kind in {"limiter", "bulkhead"} & found.keys():  # the two worlds differ by a nanosecond
        found[kind]["waited_seconds"] = round(found[kind]["waited_seconds"], 6)
    for name, latency in zip(("good", "bad"), policy._plan.stats.latency(0), strict=True):
        found[name] = latency.count, round(latency.sum / 1e6)
    if policy.breaker is not None:
        assert isinstance(policy.breaker, rs.CircuitBreaker)
        found["state"] = policy.breaker.state
        found["generation"] = policy.breaker.snapshot.generation
    return found


def run(way: str, shape: Shape, script: list[Step], gaps: list[float]) -> tuple[list[Any], list[Any], dict[str, Any]]:
    clock = VirtualClock(start=100.0)
    policy = shape.policy(clock)
    dependency = Dependency(script, clock)
    results: list[Any] = []
    told: list[str] = []

    def one(call: Any) -> None:
        try:
            results.append((call(), round(clock.now * 1000)))
        except Exception as error:
            results.append((note(error), round(clock.now * 1000)))

    def use() -> None:
        if way == "async":
            guarded = policy(dependency.asynchronous)

            async def main() -> None:
                for gap in gaps:
                    await asyncio.sleep(gap)
                    try:
                        results.append((await guarded(), round(clock.now * 1000)))
                    except Exception as error:
                        results.append((note(error), round(clock.now * 1000)))

            clock.run(main())
        else:
            call: Any = {
                "decorated": policy(dependency.sync),
                "story": _fast.build_plain(policy, dependency.sync, is_async=False),
                "call": lambda: policy.call(dependency.sync),
                "loop": lambda: loop(policy, dependency),
            }[way]
            for gap in gaps:
                clock.advance(gap)
                one(call)

    with rs.listen(lambda event: told.append(f"{type(event).__name__} {getattr(event, 'attempt', '')}")):
        use()
    return results, dependency.calls, {**state(policy), "told": told}


def loop(policy: rs.Policy, dependency: Dependency) -> str:
    result = ""
    for attempt in policy:
        with attempt:
            result = (
                dependency.sync()
                if attempt.timeout is None or policy.timeout is None
                else dependency.sync(attempt.timeout)
            )
            attempt.set_result(result)
    return result


@given(SHAPES, STEPS, GAPS)
def test_the_short_way_equals_the_story(shape: Shape, script: list[Step], gaps: list[float]) -> None:
    """Decorated, through the story alone, and called: the same to the millisecond."""
    story = run("story", shape, script, gaps)
    assert run("decorated", shape, script, gaps) == story
    assert run("call", shape, script, gaps) == story


@given(SHAPES, STEPS, GAPS)
def test_asyncio_equals_blocking(shape: Shape, script: list[Step], gaps: list[float]) -> None:
    """Where the client keeps the time it is handed, cancelling and handing over come to the same."""
    if shape.deadline and not shape.argument:
        return  # there asyncio cancels at the deadline, and a blocking call cannot be
    blocking, asynchronous = run("story", shape, script, gaps), run("async", shape, script, gaps)
    assert asynchronous[0] == blocking[0]
    # What is handed over as an argument is not told a second time, see Timeout.
    assert [call[:2] for call in asynchronous[1]] == [call[:2] for call in blocking[1]]
    for counts in (blocking[2], asynchronous[2]):
        counts.pop("timed_out")  # whose error it was differs, see note()
        counts.pop("failed")
    assert asynchronous[2] == blocking[2]


@given(SHAPES, STEPS, GAPS)
def test_the_loop_of_blocks_equals_the_call(shape: Shape, script: list[Step], gaps: list[float]) -> None:
    """`for attempt in policy: with attempt:` makes the attempts that `policy.call` makes."""
    if shape.fallback or shape.rate:
        return  # a loop cannot fall back; and one that is refused at an attempt ends there, retried or not
    assert run("loop", shape, script, gaps) == run("story", shape, script, gaps)


@settings(max_examples=6)
@given(STEPS, GAPS)
def test_every_shape_is_compiled_and_equals_the_story(script: list[Step], gaps: list[float]) -> None:
    """The template holds for every combination of parts, and runs asynchronous as well."""
    for bits in range(256):
        shape = Shape(
            retry=bool(bits & 1), on_result=False, breaker="calls" if bits & 2 else "", slow=bool(bits & 4),
            rate=5 if bits & 8 else 0, wait=True, bulkhead=False, deadline=3.0 if bits & 64 else 0,
            argument=bool(bits & 16), fallback=bool(bits & 32), budget=True,
            named=bool(bits & 128),
        )  # fmt: skip
        assert run("decorated", shape, script, gaps) == run("story", shape, script, gaps)
        run("async", shape, script[:3], gaps[:3])
