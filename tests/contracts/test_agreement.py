"""Ways to make a call agree also where little is ordinary: shadow, steering, errors that speak, callers further out.

The core's own test of agreement runs ordinary policies from the outside. Here each part may be in shadow, the breaker
is steered between the calls, errors carry wishes or are rejections themselves, and the calls are made inside a
deadline, an override, or an attempt of a caller that is retrying already. What is compared goes down to the notes on
the errors.
"""

from __future__ import annotations

import contextlib
import random
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import resilience as rs
from resilience import _fast
from resilience.testing import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class BusyError(Exception):
    """A server's answer that says when to come back."""

    retry_after = 1.25


ERRORS: dict[str, Callable[[], BaseException]] = {
    "refused": lambda: ConnectionError("refused"),
    "slow": lambda: TimeoutError("slow"),
    "bug": lambda: KeyError("bug"),
    "busy": BusyError,
    "rejected": lambda: rs.RateLimited("from a policy further in", policy="inner", retry_after=0.5),
    "late": lambda: rs.DeadlineExceeded("of a policy further in", policy="inner"),
    "ended": lambda: StopIteration("ended"),
    "stopped": KeyboardInterrupt,
}
RETRIED = {
    "network": (ConnectionError, TimeoutError),
    "all": Exception,
    "rejections": (rs.Rejected, ConnectionError),
    "predicate": lambda error: "e" in str(error),
}


@dataclass(frozen=True)
class Step:
    """What the dependency does at one attempt."""

    outcome: str
    took: float


@dataclass(frozen=True)
class Call:
    """One call: when, with which timeout of the caller's own, and what operations do before it."""

    gap: float
    timeout: float | None
    verb: str


@dataclass(frozen=True)
class Shape:
    """A policy's settings."""

    parts: frozenset[str]
    shadow: frozenset[str]
    on: str
    poor: bool
    wrap: bool
    elapsed: bool
    nested: bool
    budget: bool
    slow: bool
    ignore: bool
    counted_on: str
    ramp: float
    mode: str
    learned: bool

    def policy(self, clock: VirtualClock) -> rs.Policy:
        made: dict[str, Any] = {}
        shadow = {part: part in self.shadow for part in PARTS}
        if "retry" in self.parts:
            made["retry"] = rs.Retry(
                on=RETRIED[self.on],  # type: ignore[arg-type]
                attempts=3,
                backoff=rs.Exponential(0.5, cap=2),
                elapsed=2.5 if self.elapsed else None,
                on_result=(lambda result: result == "poor") if self.poor else None,
                budget=rs.RetryBudget(2, floor=4.0) if self.budget else "own",
                nested=self.nested,
                wrap=self.wrap,
                rng=random.Random(5),
                shadow=shadow["retry"],
            )
        if "breaker" in self.parts:
            made["breaker"] = rs.CircuitBreaker(
                failure_rate=0.5,
                minimum=3,
                slow_rate=0.6 if self.slow else None,
                slow_call=0.4 if self.slow else None,
                open_for=1.0,
                probes=2,
                ramp=self.ramp,
                on=RETRIED[self.counted_on],  # type: ignore[arg-type]
                ignore=BusyError if self.ignore else None,
                rng=random.Random(6),
                shadow=shadow["breaker"],
            )
        if "limiter" in self.parts:
            made["limiter"] = rs.TokenBucket(1, burst=2, max_wait=0.7, shadow=shadow["limiter"])
        if "deadline" in self.parts:
            made["deadline"] = rs.Deadline(3.0, shadow=shadow["deadline"])
        if "timeout" in self.parts:
            made["timeout"] = (
                rs.PercentileTimeout(0.9, between=(0.2, 1.0), mode=self.mode, shadow=shadow["timeout"])
                if self.learned
                else rs.Timeout(1.0, mode=self.mode, shadow=shadow["timeout"])
            )
        if "fallback" in self.parts:
            made["fallback"] = rs.Fallback(value="saved", on=(OSError, rs.Rejected), shadow=shadow["fallback"])
        return rs.Policy("shop", clock=clock, registry=None, **made)


# Not a bulkhead: with one, every call takes the story from the start.
PARTS = ["retry", "breaker", "limiter", "deadline", "timeout", "fallback"]
SHAPES = st.builds(
    Shape,
    parts=st.tuples(*(st.sampled_from([{part}, {part}, set()]) for part in PARTS)).map(
        lambda some: frozenset[str]().union(*some)
    ),
    shadow=st.sampled_from(["", "", *PARTS]).map(lambda part: frozenset({part})),
    on=st.sampled_from(sorted(RETRIED)),
    poor=st.sampled_from([False, False, False, True]),  # asking for results takes the story from the start
    wrap=st.booleans(),
    elapsed=st.booleans(),
    nested=st.booleans(),
    budget=st.booleans(),
    slow=st.booleans(),
    ignore=st.booleans(),
    counted_on=st.sampled_from(sorted(RETRIED)),
    ramp=st.sampled_from([0.0, 5.0]),
    mode=st.sampled_from(["argument", "argument", "cooperative"]),
    learned=st.booleans(),
)
SCRIPT = st.lists(
    st.builds(Step, st.sampled_from(["ok", "ok", "poor", *ERRORS]), st.sampled_from([0.0, 0.1, 0.5, 1.5])),
    min_size=3,
    max_size=25,
)
CALLS = st.lists(
    st.builds(
        Call,
        gap=st.sampled_from([0.0, 0.1, 1.0, 3.0]),
        timeout=st.sampled_from([None, None, 0.3, 5.0]),
        verb=st.sampled_from(["", "", "", "trip", "force_open", "disable", "reset", "override", "switch off"]),
    ),
    min_size=3,
    max_size=10,
)
AROUND = st.sampled_from(["nothing", "deadline", "retrying"])


class Dependency:
    """Follows the script; notes when it was called, which attempt that was, and what time it was given."""

    def __init__(self, script: list[Step], clock: VirtualClock) -> None:
        self.script = list(script)
        self.clock = clock
        self.calls: list[Any] = []

    def __call__(self, item: int, timeout: float | None = None) -> str:
        left = rs.remaining()
        self.calls.append((
            round(self.clock.now, 3), item, rs.current_attempt(),
            left if left is None else round(left, 3), timeout if timeout is None else round(timeout, 3),
        ))  # fmt: skip
        step = self.script.pop(0) if self.script else Step("ok", 0.0)
        took = step.took if timeout is None else min(step.took, timeout)
        self.clock.advance(took)
        if took < step.took:
            raise TimeoutError("the client's own")
        if step.outcome in ERRORS:
            error = ERRORS[step.outcome]()
            raise error
        return step.outcome


@contextlib.contextmanager
def around(kind: str, clock: VirtualClock) -> Iterator[None]:
    """What the caller is inside of."""
    if kind == "deadline":
        with rs.Deadline(6.0, clock=clock):
            yield
    elif kind == "retrying":
        retry = rs.Retry(on=LookupError, attempts=2, backoff=0.0, budget=None, clock=clock)
        for attempt in retry:
            with attempt:
                if attempt.number == 1:
                    raise LookupError
                yield
    else:
        yield


def steered(policy: rs.Policy, verb: str) -> contextlib.AbstractContextManager[None]:
    """Do what operations do; or the override that the call is to be made in."""
    if verb == "override":
        return rs.override(timeout=0.25, retry=rs.Retry(on=ConnectionError, attempts=2, backoff=0.25))
    if verb == "switch off":
        return rs.override(limiter=None, breaker=None)
    if verb and policy.breaker is not None:
        getattr(policy.breaker, verb)()
    return contextlib.nullcontext()


def run(way: str, shape: Shape, script: list[Step], calls: list[Call], outside: str) -> dict[str, Any]:
    clock = VirtualClock(start=100.0)
    policy = shape.policy(clock)
    dependency = Dependency(script, clock)

    def plain(item: int, timeout: float | None = None) -> str:
        return dependency(item, timeout)

    def loop(item: int, timeout: float | None = None) -> str:
        result = ""
        for attempt in policy:
            with attempt:
                handed = policy._in_force().timeout
                given = timeout
                if handed is not None and not handed.shadow and handed.model.mode == "argument":
                    left = attempt.timeout
                    assert left is not None
                    given = left if timeout is None else min(left, timeout)
                result = dependency(item, given)
                attempt.set_result(result)
        return result

    ways: dict[str, Callable[..., str]] = {
        "decorated": policy(plain),
        "story": _fast.build_plain(policy, plain, is_async=False),
        "call": lambda item, **kwargs: policy.call(plain, item, **kwargs),
        "loop": loop,
    }
    results: list[Any] = []
    for item, call in enumerate(calls):
        clock.advance(call.gap)
        kwargs = {} if call.timeout is None else {"timeout": call.timeout}
        try:
            with steered(policy, call.verb), around(outside, clock):
                results.append((ways[way](item, **kwargs), round(clock.now, 3)))
        except (Exception, KeyboardInterrupt) as error:
            # Decorated, a Retry alone reads no clock before it is needed: the note then lacks the first attempt's time.
            notes = [re.sub(r"(attempts?) in \S+ s", r"\1", note) for note in getattr(error, "__notes__", [])]
            results.append((type(error).__name__, str(error), notes, round(clock.now, 3)))
    found: dict[str, Any] = {"results": results, "calls": dependency.calls, **policy.counters}
    if isinstance(policy.breaker, rs.CircuitBreaker):
        snapshot = policy.breaker.snapshot
        found["breaker is"] = (snapshot.state, snapshot.generation, snapshot.live)
    if isinstance(policy.limiter, rs.TokenBucket):
        found["tokens"] = policy.limiter.tokens
    return found


@pytest.mark.filterwarnings("ignore::resilience.ResilienceWarning")
@settings(max_examples=max(600, settings().max_examples))
@given(SHAPES, SCRIPT, CALLS, AROUND)
def test_the_short_way_equals_the_story_where_little_is_ordinary(
    shape: Shape, script: list[Step], calls: list[Call], outside: str
) -> None:
    """Results, errors, their words and notes, times, counters and states are the same, wherever the call is made."""
    story = run("story", shape, script, calls, outside)
    assert run("decorated", shape, script, calls, outside) == story
    assert run("call", shape, script, calls, outside) == story


@pytest.mark.filterwarnings("ignore::resilience.ResilienceWarning")
@settings(max_examples=max(200, settings().max_examples))
@given(SHAPES, SCRIPT, CALLS, AROUND)
def test_the_loop_of_blocks_equals_the_story_where_little_is_ordinary(
    shape: Shape, script: list[Step], calls: list[Call], outside: str
) -> None:
    """The loop makes the same attempts at the same times, and its policy counts them alike."""
    if shape.parts & {"fallback", "limiter", "breaker"}:
        return  # a loop cannot fall back, and a block that is refused cannot be left
    assert run("loop", shape, script, calls, outside) == run("story", shape, script, calls, outside)


def test_nothing_is_compared_with_itself() -> None:
    """The script above makes a difference: another outcome gives another account."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shape = Shape(
            frozenset(PARTS), frozenset(), "network", False, False, False, False, True, True, False, "all", 0.0,
            "argument", False,
        )  # fmt: skip
        calls = [Call(0.1, None, "")] * 3
        accounts = [
            repr(run("story", shape, [Step(outcome, 0.1)] * 3, calls, "nothing")) for outcome in ("ok", "slow", "bug")
        ]
    assert len(set(accounts)) == 3
