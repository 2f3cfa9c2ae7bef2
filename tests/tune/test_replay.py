"""The replay counts what a timeout would have done, as a slow and plain reckoning does."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resilience as rs
from resilience.testing import VirtualClock
from resilience.tune.learner import Learner, Settings
from resilience.tune.replay import Course, Window, replay, replay_fixed
from resilience.tune.trace import LOST
from tune.records import MS, S, bimodal, lognormal

calls = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 60) | st.integers(-60, -1)), max_size=60).map(
    lambda found: [(sum(gap for gap, _ in found[: n + 1]), sample) for n, (_, sample) in enumerate(found)]
)


CEILING = 45


class Scripted:
    """Stands for the estimator: the timeout after n results is that of a list; it writes down what it sees."""

    def __init__(self, timeouts: list[int], every: int, linger: int = 0) -> None:
        self._timeouts = timeouts
        self._every = every
        self.room = linger
        self.ceiling = CEILING
        self.seen: list[tuple[int, int]] = []
        self.ended: list[tuple[int, int, bool]] = []
        self.ns = timeouts[0]
        self.due = 0

    def take(self, results: list[int], now: int) -> None:
        """The next timeout."""
        self.seen.extend((now, result) for result in results)
        self.ns = self._timeouts[len(self.seen) % len(self._timeouts)]
        self.due = now + self._every

    def watched(self, results: list[int], age: int, now: int, *, answered: bool) -> None:
        """One that was watched."""
        self.seen.extend((now, result) for result in results)
        self.ended.append((now, age, answered))


def plainly(trace: list[tuple[int, int]], learner: Scripted) -> list[tuple[int, int, int]]:
    """Time, result and timeout of each call, found by looking for the next event among all of them at each step."""
    events: list[tuple[int, int, str]] = []  # when, number of the call, what
    waiting: list[int] = []
    outcome: list[tuple[int, int, int]] = []
    for number, (at, sample) in enumerate(trace):
        while events and min(events)[0] <= at:
            event = min(events)
            events.remove(event)
            now, other, what = event
            start, result, limit = outcome[other]
            took = trace[other][1]
            if what == "time is up, with room at the start" and learner.room and limit < CEILING:
                learner.room -= 1
                events.append((start + min(abs(took), CEILING), other, "watched"))
                continue
            if what == "watched":
                learner.room += 1
                learner.watched(waiting, now - start, now, answered=0 < took <= CEILING)
                waiting = []
            else:
                waiting.append(result)
            if now >= learner.due:
                learner.take(waiting, now)
                waiting = []
        limit = learner.ns
        cut = abs(sample) > limit
        outcome.append((at, -limit if cut else sample, limit))
        what = "time is up, with room at the start" if learner.room else "time is up"
        events.append((at + min(abs(sample), limit), number, what if cut else "ended"))
    return outcome


@given(
    calls,
    st.lists(st.integers(1, 50) | st.just(CEILING), min_size=1, max_size=6),
    st.integers(0, 12),
    st.integers(0, 3),
)
def test_replay_is_what_looking_through_all_calls_gives(
    trace: list[tuple[int, int]], timeouts: list[int], every: int, linger: int
) -> None:
    """Every count, and what the learner sees and when, against a reckoning without cleverness."""
    quick, slow = Scripted(timeouts, every, linger), Scripted(timeouts, every, linger)
    found = replay(trace, quick)  # type: ignore[arg-type]
    plain = plainly(trace, slow)
    assert quick.seen == slow.seen
    assert quick.ended == slow.ended
    cut = [abs(sample) > limit for (_, sample), (_, _, limit) in zip(trace, plain, strict=True)]
    answered = [sample > 0 for _, sample in trace]
    assert found.calls == len(trace)
    assert found.answered == sum(answered)
    assert found.false == sum(c and a for c, a in zip(cut, answered, strict=True))
    assert found.unknown == sum(c and not a for c, a in zip(cut, answered, strict=True))
    assert found.waited == sum(abs(result) for _, result, _ in plain)
    assert found.wasted == sum(limit for c, (_, _, limit) in zip(cut, plain, strict=True) if c)
    limits = [limit for _, _, limit in plain]
    assert found.mean == (sum(limits) / len(limits) if limits else 0)
    assert (found.lowest, found.highest) == ((min(limits), max(limits)) if limits else (0, 0))


@given(calls, st.lists(st.integers(1, 70), max_size=8))
def test_fixed_timeouts_are_counted_exactly(trace: list[tuple[int, int]], timeouts: list[int]) -> None:
    """All in one pass gives what each alone gives; so does a learned one that never moves."""
    for timeout, found in zip(timeouts, replay_fixed(trace, timeouts), strict=True):
        alone = replay(trace, Scripted([timeout], 1))  # type: ignore[arg-type]
        if trace:
            assert found == alone
        assert found.false_rate == (found.false / found.answered if found.answered else 0)
        assert found.cut_share == (sum(abs(s) > timeout for _, s in trace) / len(trace) if trace else 0)
        assert found.mean_wait == (found.waited / len(trace) if trace else 0)


@given(calls, st.lists(st.integers(1, 70), min_size=2, max_size=6))
def test_a_longer_timeout_cuts_no_more(trace: list[tuple[int, int]], timeouts: list[int]) -> None:
    """The curve falls: less is cut, and callers wait no less."""
    found = replay_fixed(trace, sorted(timeouts))
    for short, long in pairwise(found):
        assert (long.false, long.unknown) <= (short.false, short.unknown)
        assert long.waited >= short.waited


@given(calls, st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(1, 9))
def test_the_course_is_that_of_the_timeout(trace: list[tuple[int, int]], timeouts: list[int], bins: int) -> None:
    """What a picture shows lies within what was, and every bin with a false timeout has a mark."""
    course = Course(Window(0, 300, bins))
    found = replay(trace, Scripted(timeouts, 3), course)  # type: ignore[arg-type]
    for place, low in course.low.items():
        assert low <= course.last[place] <= course.high[place]
        assert 0 <= place < bins
    assert bool(course.cuts) == bool(found.false)
    for place, cut in course.cuts.items():
        assert cut.latency > cut.timeout
        assert course.window.of(cut.at) == place


def test_the_replay_does_what_the_policy_does() -> None:
    """Calls one after the other, through a PercentileTimeout in virtual time and through the replay: the same."""
    took = lognormal(1500, sigma=0.6) + [3 * ns for ns in bimodal(1500)]
    clock = VirtualClock()
    settings = Settings(0.05, 5 * MS, 2 * S, S, linger=0)
    learned = rs.PercentileTimeout(0.95, between=(0.005, 2.0), initial=1.0, mode="argument", clock=clock)
    trace, limits = [], []
    start = clock.monotonic_ns()

    @learned
    def call(ns: int, timeout: float = 60.0) -> None:
        clock.sleep(min(ns / S, timeout))
        if ns / S > timeout:
            raise TimeoutError("read timed out")

    false = 0
    for ns in took:
        trace.append((clock.monotonic_ns(), ns))
        limits.append(learned.current)
        try:
            call(ns)
        except TimeoutError:
            false += 1
    found = replay(trace, Learner(settings, start))
    assert false > 10
    assert abs(found.false - false) <= 1  # a limit that is a float on the one side, whole on the other
    assert abs(found.mean / S - sum(limits) / len(limits)) < 1e-3


def test_the_replay_watches_as_the_policy_does() -> None:
    """Calls that overlap, some late and some lost, through a PercentileTimeout of coroutines: the same timeouts."""
    clock = VirtualClock()
    took = [ns if n % 97 else 60 * S for n, ns in enumerate(lognormal(2500, sigma=0.8))]
    took += [60 * S] * 300 + [25 * ns for ns in lognormal(2500, sigma=0.8)]
    learned = rs.PercentileTimeout(
        false_timeouts=0.05, between=(0.005, 3.0), initial=0.1, padding=1.1, least_padding=0.02, clock=clock
    )
    limits: list[float] = []
    false = 0

    @learned
    async def call(ns: int) -> None:
        await asyncio.sleep(ns / S)

    async def one(ns: int) -> None:
        nonlocal false
        limits.append(learned.current)
        try:
            await call(ns)
        except rs.TimedOut:
            false += ns < 60 * S

    starts: list[int] = []

    async def everything() -> None:
        async with asyncio.TaskGroup() as group:
            for ns in took:
                starts.append(clock.monotonic_ns())
                group.create_task(one(ns))
                await asyncio.sleep(0.0123)

    clock.run(everything())
    settings = Settings(0.05, 5 * MS, 3 * S, 100 * MS, 1.1, 20 * MS)
    trace = [(at, ns if ns < 60 * S else LOST) for at, ns in zip(starts, took, strict=True)]
    found = replay(trace, Learner(settings, starts[0]))
    assert false > 50
    assert found.false == false
    assert found.mean / S == pytest.approx(sum(limits) / len(limits), rel=1e-9)
    without = replay(trace, Learner(replace(settings, linger=0), starts[0]))
    assert without.mean / S != pytest.approx(sum(limits) / len(limits), rel=0.005)
