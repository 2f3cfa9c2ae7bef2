"""The counts and durations of calls are exact: whoever makes them, reads them meanwhile, or learns from them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import resilience as rs
from resilience._stats import Stats, outcome
from resilience.errors import Rejected, TimedOut
from resilience.machines.distribution import ALPHA
from resilience.policies.slo import SLO
from resilience.telemetry.reading import latency, numbers
from resilience.testing import VirtualClock
from together import outcomes

ENDS = ("succeeded", "poor", "failed", "rejected", "timed_out", "cancelled")
GROWS = ("calls", "attempts", *ENDS)
NS = 1_000_000_000
COUNTS = dict[str, Any]


def counts(policy: rs.Policy) -> COUNTS:
    return {name: value for name, value in policy.counters.items() if not isinstance(value, dict)}


def check(before: COUNTS, after: COUNTS) -> None:
    """What must hold between any two readings, one after the other."""
    assert all(after[name] >= before[name] for name in GROWS), (before, after)
    assert after["in_flight"] >= 0
    assert after["calls"] == sum(after[end] for end in ENDS) + after["in_flight"]


# -- one model ---------------------------------------------------------------------------------------------------------


class StatsLikeAModel(RuleBasedStateMachine):
    """`Stats` against plain lists: whatever is told and read, in whatever order."""

    ERRORS = (ValueError(), Rejected("no"), TimedOut("late"), asyncio.CancelledError(), rs.CircuitOpen("no"))

    def __init__(self) -> None:
        super().__init__()
        self.slo = SLO(0.9, within=1.0)
        self.stats = Stats(observed=True, slo=self.slo)
        self.now = 10 * NS
        self.begun = self.attempts = 0
        self.good: list[int] = []
        self.bad: list[int] = []
        self.ends = dict.fromkeys(("poor", "failed", "rejected", "timed_out", "cancelled"), 0)
        self.slo_bad = 0

    @rule(seconds=st.floats(0, 5))
    def time_passes(self, seconds: float) -> None:
        self.now += round(seconds * NS)

    @rule(n=st.integers(1, 300), duration=st.integers(0, 3 * NS), short=st.booleans())
    def calls_go_well(self, n: int, duration: int, short: bool) -> None:
        for _ in range(n):
            self.stats.begin()
            if short:  # as the template of `_fast` does it
                self.stats.keep(duration)
                if self.now >= self.stats.due:
                    self.stats.refresh(self.now)
            else:
                self.stats.attempt()
                self.stats.succeeded(duration, self.now)
        self.begun += n
        self.attempts += n
        self.good += [duration] * n
        self.slo_bad += n * (duration >= NS)

    @rule(error=st.sampled_from([None, *ERRORS]), duration=st.integers(0, 3 * NS), tries=st.integers(0, 4))
    def a_call_ends_badly(self, error: BaseException | None, duration: int, tries: int) -> None:
        self.stats.begin()
        for _ in range(tries):
            self.stats.attempt()
        self.stats.ended(error, duration, self.now)
        what = "poor" if error is None else outcome(error)
        self.begun += 1
        self.attempts += tries
        self.ends[what] += 1
        if what in ("poor", "failed", "timed_out"):
            self.bad.append(duration)
        self.slo_bad += what != "cancelled"

    @rule()
    def a_call_begins(self) -> None:
        self.stats.begin()
        self.begun += 1

    @invariant()
    def counts_agree(self) -> None:
        ended = len(self.good) + sum(self.ends.values())
        assert self.stats.read(self.now) == {
            "calls": self.begun, "succeeded": len(self.good), **self.ends, "in_flight": self.begun - ended,
            "attempts": self.attempts,
        }  # fmt: skip

    @invariant()
    def durations_agree(self) -> None:
        good, bad = self.stats.latency(self.now)
        assert (good.count, good.sum) == (len(self.good), sum(self.good))
        assert (bad.count, bad.sum) == (len(self.bad), sum(self.bad))

    @invariant()
    def the_objective_agrees(self) -> None:
        self.stats.read(self.now)
        level = self.slo.reading(self.now)
        assert level.bad == self.slo_bad
        assert level.good == len(self.good) + sum(self.ends.values()) - self.ends["cancelled"] - self.slo_bad


TestStatsLikeAModel = StatsLikeAModel.TestCase
TestStatsLikeAModel.settings = settings(max_examples=40, stateful_step_count=25)


def test_who_nobody_can_look_up_keeps_no_durations() -> None:
    """Counts only: an unnamed policy, one without a registry, a part by itself."""
    for policy in (rs.Policy(), rs.Policy("p", registry=None)):
        assert [policy.call(lambda: 1) for _ in range(5)] == [1] * 5
        assert set(counts(policy)) == {"calls", *ENDS} - {"succeeded"}
        assert latency(policy)[0].count == 0


# -- exactly -----------------------------------------------------------------------------------------------------------


class Dependency:
    """Does at random what dependencies do; counts what it did."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.calls = 0

    def __call__(self, timeout: float | None = None) -> str:
        self.calls += 1
        turn = self.rng.random()
        if turn < 0.1:
            raise KeyError("failed")
        if turn < 0.15:
            raise ValueError("not retried")
        if turn < 0.17:
            raise TimedOut("late")
        if turn < 0.19:
            raise KeyboardInterrupt
        return "poor" if turn < 0.25 else "ok"


def named(**parts: Any) -> rs.Policy:
    return rs.Policy("p", registry=rs.Registry(), **parts)


SHAPES: dict[str, Callable[[], rs.Policy]] = {
    "nothing": named,
    "retry": lambda: named(retry=rs.Retry(on=KeyError, attempts=3, backoff=0.0)),
    "poor": lambda: named(retry=rs.Retry(on=KeyError, backoff=0.0, on_result=lambda result: result == "poor")),
    "stack": lambda: named(
        retry=rs.Retry(on=KeyError, backoff=0.0, budget=None),
        breaker=rs.CircuitBreaker(consecutive=4, open_for=0.002, failure_rate=None),
        limiter=rs.TokenBucket(20_000, burst=500, max_wait=0.0),
        timeout=rs.PercentileTimeout(0.9, between=(0.5, 1.0), mode="argument"),
        slo=rs.SLO(0.9, shed_above=5.0),
    ),
    "story": lambda: named(retry=rs.Retry(on=KeyError, backoff=0.0), bulkhead=rs.Bulkhead(6)),
    "fallback": lambda: named(fallback=rs.Fallback(value="other"), breaker=rs.CircuitBreaker()),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("switch_often")
def test_threads_lose_no_count(shape: str) -> None:
    """Of calls by every way, of durations and attempts; and no reading meanwhile shows a number that fell."""
    policy = SHAPES[shape]()
    threads, turns = 12, 150
    dependencies = [Dependency(seed) for seed in range(threads)]
    reached = [0] * threads
    done = threading.Event()
    troubles: list[BaseException] = []

    def read() -> None:
        try:
            before = counts(policy)
            good = 0
            while not done.is_set():
                after = counts(policy)
                check(before, after)
                before = after
                now = latency(policy)[0].count
                assert now >= good
                good = now
        except BaseException as error:
            troubles.append(error)

    def work(index: int) -> int:
        dependency = dependencies[index]
        decorated = policy(dependency.__call__)
        for turn in range(turns):
            try:
                if turn % 3 == 0:
                    policy.call(dependency)
                elif turn % 3 == 1 and policy.fallback is None:
                    for attempt in policy:
                        with attempt:
                            attempt.set_result(dependency())
                else:
                    decorated()
            except (Exception, KeyboardInterrupt):
                pass
        reached[index] = dependency.calls
        return turns

    reader = threading.Thread(target=read)
    reader.start()
    _, errors = outcomes(work, threads)
    done.set()
    reader.join()
    assert errors == troubles == []
    at_rest = counts(policy)
    check(at_rest, counts(policy))
    assert at_rest["calls"] == threads * turns
    assert at_rest["in_flight"] == 0
    assert at_rest["attempts"] == sum(reached)
    good, bad = latency(policy)
    assert good.count == at_rest["succeeded"]
    assert bad.count == at_rest["failed"] + at_rest["poor"] + at_rest["timed_out"]
    level = policy.service_level
    if level is not None:
        assert level.good == at_rest["succeeded"]
        assert level.good + level.bad == at_rest["calls"] - at_rest["cancelled"]


@pytest.mark.usefixtures("switch_often")
def test_no_duration_is_lost_while_somebody_works_them_in() -> None:
    """What is appended between the copy and the deletion stays for the next time."""
    policy = named()
    work = policy(lambda: None)
    left = [40] * 6

    def call(index: int) -> None:
        if index == 0:
            while any(left[1:]):
                latency(policy)
            return
        while left[index]:
            for _ in range(800):
                work()
            left[index] -= 1

    _, errors = outcomes(call, len(left))
    assert errors == []
    assert counts(policy)["succeeded"] == latency(policy)[0].count == 40 * 5 * 800


def test_tasks_lose_no_count() -> None:
    """Hundreds at once, some hedged, some cancelled; attempts are those that the dependency saw."""
    clock = VirtualClock()
    policy = named(
        hedge=rs.Hedge(0.5, budget=None), retry=rs.Retry(on=KeyError, backoff=0.1), bulkhead=rs.Bulkhead(50, queue=20),
        timeout=2.0, clock=clock,
    )  # fmt: skip
    rng = random.Random(5)
    seen = 0

    async def dependency() -> None:
        nonlocal seen
        seen += 1
        await asyncio.sleep(rng.choice([0.01, 0.1, 1.0, 5.0]))
        if rng.random() < 0.2:
            raise KeyError

    async def main() -> None:
        tasks = []
        for _ in range(300):
            tasks.append(asyncio.create_task(policy.acall(dependency)))
            await asyncio.sleep(0.01)
            if rng.random() < 0.05:
                tasks[-1].cancel()
            check(before, counts(policy))
        await asyncio.gather(*tasks, return_exceptions=True)

    before = counts(policy)
    clock.run(main())
    at_rest = counts(policy)
    assert all(at_rest[name] for name in ("succeeded", "failed", "rejected", "timed_out", "cancelled")), at_rest
    assert at_rest["calls"] == 300
    assert at_rest["in_flight"] == 0
    assert at_rest["attempts"] == seen
    check(before, at_rest)


WAYS = ("decorated", "call", "loop", "block")


@pytest.mark.parametrize("way", WAYS)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(["ok", "ok", "failed", "cancelled"])), max_size=30))
def test_durations_are_exact(way: str, script: list[tuple[int, str]]) -> None:
    """To the nanosecond, in number and in sum, of those that went well and of those that did not."""
    clock = VirtualClock(start=1.0)
    policy = named(breaker=rs.CircuitBreaker(failure_rate=None, consecutive=1000), clock=clock)
    steps = iter(script)

    def work() -> None:
        duration, end = next(steps)
        clock._pass(duration)
        if end != "ok":
            raise KeyError if end == "failed" else KeyboardInterrupt

    decorated = policy(work)

    def loop() -> None:
        for attempt in policy:
            with attempt:
                work()

    def block() -> None:
        with policy:
            work()

    use = {"decorated": decorated, "call": lambda: policy.call(work), "loop": loop, "block": block}[way]
    for _, end in script:
        if end == "ok":
            use()
        else:
            with pytest.raises((KeyError, KeyboardInterrupt)):
                use()
    good, bad = latency(policy)
    for found, end in ((good, "ok"), (bad, "failed")):
        wanted = [duration for duration, how in script if how == end]
        assert (found.count, found.sum) == (len(wanted), sum(wanted))


def test_a_duration_is_that_of_the_whole_call() -> None:
    """Attempts and waits included, and of a call whose first attempt failed on the short way too."""
    clock = VirtualClock()
    policy = named(retry=rs.Retry(on=KeyError, backoff=2.0), clock=clock)
    turns: Iterator[bool] = iter([False, True, False, True])

    def work() -> None:
        clock.advance(0.5)
        if not next(turns):
            raise KeyError

    policy(work)()
    policy.call(work)
    good, _ = latency(policy)
    assert (good.count, good.sum) == (2, 2 * 3 * NS)
    assert counts(policy)["attempts"] == 4


# -- learned from ------------------------------------------------------------------------------------------------------


def learned(policies: int, *, observed: bool, mixed: bool) -> tuple[int, float, float | None]:
    """Samples, timeout and quantile after calls through so many policies that share one timeout."""
    clock = VirtualClock(start=50.0)
    timeout = rs.PercentileTimeout(0.9, between=(0.001, 1.0), mode="argument", clock=clock)
    registry = rs.Registry() if observed else None
    all_of_them = [rs.Policy(f"p{n}", timeout=timeout, clock=clock, registry=registry) for n in range(policies)]
    rng = random.Random(9)

    def work(timeout: float = 0.0) -> None:
        clock.advance(rng.expovariate(40))

    decorated = [policy(work) for policy in all_of_them]
    for turn in range(900):
        chosen = turn % policies
        if mixed and turn % 4 == 0:
            all_of_them[chosen].call(work)
        elif mixed and turn % 4 == 1:
            counts(all_of_them[chosen])
            latency(all_of_them[chosen])
            decorated[chosen]()
        else:
            decorated[chosen]()
    timeout.quantile(0.5)  # works in what is left
    return timeout.explain().samples, timeout.current, timeout.quantile(0.9)


@pytest.mark.parametrize("mixed", [False, True], ids=["decorated", "mixed"])
@pytest.mark.parametrize("policies", [1, 3])
def test_a_timeout_learns_each_duration_once(policies: int, mixed: bool) -> None:
    """From policies that keep durations as from those that do not, whoever reads or calls in between.

    What is read off may differ by a bucket or two: samples reach it in another order, and so end in other slices.
    """
    samples, *found = learned(policies, observed=True, mixed=mixed)
    known, *expected = learned(policies, observed=False, mixed=mixed)
    assert samples == known == 900
    assert found == pytest.approx(expected, rel=0.05)


def test_a_timeout_lets_a_policy_go() -> None:
    """It learns from a policy as long as there is one, and does not keep it."""
    timeout = rs.PercentileTimeout(0.9, between=(0.1, 1.0), mode="argument")
    policy: rs.Policy | None = named(timeout=timeout)
    assert policy is not None
    decorated: Any = policy(lambda timeout: None)
    decorated()
    assert timeout._sources is not None
    assert len(timeout._sources) == 1
    del policy, decorated
    gc.collect()
    assert len(timeout._sources) == 0
    timeout.refresh(timeout.due)


def test_seeding_keeps_what_was_measured_and_loading_drops_it() -> None:
    """For the timeout; the policy's own counts and durations stay in either case."""
    clock = VirtualClock(start=50.0)
    timeout = rs.PercentileTimeout(0.9, between=(0.001, 1.0), mode="argument", clock=clock)
    policy = named(timeout=timeout, clock=clock)
    empty = timeout.save()
    decorated = policy(lambda timeout=0.0: clock.advance(0.01))

    for _ in range(40):
        decorated()
    timeout.seed([0.02] * 5)
    assert timeout.explain().samples == 45
    for _ in range(40):
        decorated()
    timeout.load(empty)
    assert timeout.quantile(0.5) is None
    assert timeout.explain().samples == 0
    assert counts(policy)["succeeded"] == latency(policy)[0].count == 80
    timeout.quantile(0.5)
    assert timeout.explain().samples == 0


def test_an_overridden_timeout_learns_nothing_of_others() -> None:
    """Calls under another timeout go by the story: counted, but no samples of the policy's own timeout."""
    clock = VirtualClock(start=50.0)
    timeout = rs.PercentileTimeout(0.9, between=(0.001, 1.0), mode="argument", clock=clock)
    policy = named(timeout=timeout, clock=clock)
    decorated = policy(lambda timeout=0.0: clock.advance(0.01))
    with policy.override(timeout=0.5):
        for _ in range(10):
            decorated()
    timeout.quantile(0.5)
    assert timeout.explain().samples == 0
    assert counts(policy)["succeeded"] == 10


# -- shared and dropped ------------------------------------------------------------------------------------------------


def test_an_override_counts_with_its_policy() -> None:
    """It is the same policy, with other settings for a while."""
    policy = named(retry=rs.Retry(on=KeyError, backoff=0.0))

    @policy
    def work() -> None:
        raise KeyError

    with policy.override(retry=None), pytest.raises(KeyError):
        work()
    with pytest.raises(KeyError):
        work()
    assert (counts(policy)["failed"], counts(policy)["attempts"]) == (2, 4)


def test_a_derived_policy_counts_for_itself_and_shares_its_parts() -> None:
    """As `Policy.replace` says: other parts, the same state in those that stay. The objective is one of those."""
    breaker = rs.CircuitBreaker()
    policy = named(breaker=breaker, slo=0.9)
    derived = policy.replace(retry=None)
    derived.call(lambda: None)
    assert (counts(policy)["calls"], counts(derived)["calls"]) == (0, 1)
    assert breaker.counters["window_total"] == 1
    assert derived.service_level is not None and policy.service_level is not None
    assert policy.service_level.good == derived.service_level.good == 1
    assert policy.registry is not None
    assert policy.registry.get("p") is policy


FAMILIES: dict[str, Callable[[], Any]] = {
    "breaker": lambda: rs.CircuitBreaker(consecutive=1, failure_rate=None, jitter=0.0),
    "bulkhead": lambda: rs.Bulkhead(1),
    "limiter": lambda: rs.AdaptiveTokenBucket(throttled=KeyError, rate=1000.0),
    "timeout": lambda: rs.PercentileTimeout(0.9, between=(0.1, 1.0), mode="cooperative"),
}


@pytest.mark.parametrize("kind", FAMILIES)
def test_what_a_dropped_key_counted_stays_counted(kind: str) -> None:
    """What only grows never falls, and what goes up and down is that of the keys there are."""
    clock = VirtualClock(start=1.0)
    family: Any = rs.PerKey(FAMILIES[kind](), key=lambda key: key, max_keys=3)
    policy = rs.Policy("p", clock=clock, registry=rs.Registry(), **{kind: family})

    def work(key: int) -> None:
        clock.advance(0.01)
        if key % 3 == 0:
            raise KeyError

    before: dict[str, Any] = {}
    for turn in range(60):
        for _ in range(2):
            with contextlib.suppress(KeyError, rs.Rejected):
                policy.call(work, turn % 11)
        found = numbers(policy)[kind]
        levels = {*family.template.levels, "keys", "limit", "most", "seconds"}
        for name, value in found.items():
            if name not in levels and not name.startswith("is."):
                assert value >= before.get(name, 0), name
        before = found
        for name in family.template.levels & set(family.template.counters):
            parts = [part.counters[name] for part in family._parts.values()]
            assert found[name] == (max(parts) if name in family.template.gauges else sum(parts)), name
        if kind == "breaker":
            assert sum(value for name, value in found.items() if name.startswith("is.")) == len(family)
    assert before["evicted"] > 10
    if kind == "breaker":
        assert before["opened"] > 10
        assert sum(value for name, value in before.items() if name.startswith("seconds.")) > clock.now - 1.0


def test_a_slot_of_a_dropped_key_is_not_in_use_for_ever() -> None:
    """A bulkhead that had to go while a call was inside."""
    family = rs.PerKey(rs.Bulkhead(1), key=lambda key: key, max_keys=1)
    assert family[0].try_enter()
    assert family[1].try_enter()
    assert family.counters["in_use"] == 1
    family[1].leave()
    assert family.counters["in_use"] == 0


def test_a_key_that_cannot_be_shown_breaks_nothing() -> None:
    """The name of its part is made from it all the same, and is of bounded length."""

    class Key:
        def __repr__(self) -> str:
            raise RuntimeError("no repr")

    family = rs.PerKey(rs.CircuitBreaker(), key=lambda key: key)
    policy = named(breaker=family)
    assert policy.call(lambda key: "ok", Key()) == "ok"
    assert policy.call(lambda key: "ok", "x" * 10_000) == "ok"
    assert all(len(part.title) < 130 for part in family._parts.values())


def test_readings_are_within_the_error_of_the_buckets() -> None:
    """The median of a policy's calls, from its distribution."""
    clock = VirtualClock(start=1.0)
    policy = named(clock=clock)
    for milliseconds in range(1, 1002):
        policy.call(lambda ms=milliseconds: clock.advance(ms / 1000))
    median = latency(policy)[0].quantile(0.5)
    assert median is not None
    assert 0.501 <= median / NS <= 0.501 * (1 + 2 * ALPHA + 0.001)
