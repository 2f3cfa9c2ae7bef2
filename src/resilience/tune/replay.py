"""What a timeout would have done to recorded calls. Pure: samples in, counts out.

A recorded call has a start and a latency. Under a timeout it waits for the shorter of the two, and is cut if that is
the timeout. The learned timeout sees what it would have seen in production: results when they end, not when the calls
begin; and of a cut call only that it took longer, except for the few that it watches to their end.

Calls that were given up when they were recorded are known only up to that moment. Cut earlier, nobody can say whether
falsely, so they count as cut, but not as false. Given more time than they had been, they end as they did.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .learner import Learner

__all__ = ["Course", "Cut", "Outcome", "Window", "replay", "replay_fixed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a timeout did; times in ns.

    Attributes:
        calls: how many there were.
        answered: how many of them were answered when they were recorded.
        false: how many of those would have been cut: false timeouts.
        unknown: how many others would have been cut, of which nobody knows whether an answer would have come.
        waited: how long callers waited, all calls together.
        wasted: how much of that for calls that were cut.
        mean: the mean of the timeouts in force when the calls began: what a call that hangs costs its caller.
        lowest: the shortest of them.
        highest: the longest.
    """

    calls: int
    answered: int
    false: int
    unknown: int
    waited: int
    wasted: int
    mean: float
    lowest: int
    highest: int

    @property
    def false_rate(self) -> float:
        """False timeouts as a share of the answered calls."""
        return self.false / self.answered if self.answered else 0.0

    @property
    def cut_share(self) -> float:
        """All that was cut as a share of all calls."""
        return (self.false + self.unknown) / self.calls if self.calls else 0.0

    @property
    def mean_wait(self) -> float:
        """How long a caller waited, on average."""
        return self.waited / self.calls if self.calls else 0.0


class Window(NamedTuple):
    """A stretch of time, cut into equal bins: for pictures, whose size must not depend on the number of calls."""

    start: int
    end: int
    bins: int

    def of(self, at: int) -> int:
        """The bin of a point in time; what lies outside belongs to the nearest."""
        span = self.end - self.start
        return min(max((at - self.start) * self.bins // span, 0), self.bins - 1) if span > 0 else 0


class Cut(NamedTuple):
    """A false timeout: when the call began, how long the answer took, the timeout in force."""

    at: int
    latency: int
    timeout: int


@dataclass(slots=True)
class Course:
    """How a learned timeout moved, by bin: shortest, longest, last value, and the slowest answer that was cut."""

    window: Window
    low: dict[int, int] = field(default_factory=dict)
    high: dict[int, int] = field(default_factory=dict)
    last: dict[int, int] = field(default_factory=dict)
    cuts: dict[int, Cut] = field(default_factory=dict)

    def moved(self, at: int, before: int, timeout: int) -> None:
        """The timeout changed."""
        place = self.window.of(at)
        self.low[place] = min(self.low.get(place, before), timeout)
        self.high[place] = max(self.high.get(place, before), timeout)
        self.last[place] = timeout

    def cut(self, at: int, latency: int, timeout: int) -> None:
        """A good call was cut."""
        place = self.window.of(at)
        if place not in self.cuts or latency > self.cuts[place].latency:
            self.cuts[place] = Cut(at, latency, timeout)


def replay(samples: Iterable[tuple[int, int]], learner: Learner, course: Course | None = None) -> Outcome:
    """Run recorded calls through a learned timeout.

    Memory grows with the number of calls that are under way at the same time, and with nothing else.

    Args:
        samples: start and latency of each call, ns, in order of time; a negative latency for one given up then.
        learner: starts at its initial value.
        course: is told what happened when.
    """
    pending: list[tuple[int, int, int]] = []  # end, number, result
    over: dict[int, tuple[int, int]] = {}  # of attempts that time out, by number: start, sample
    watching: set[int] = set()
    results: list[int] = []
    limit, due = learner.ns, learner.due
    calls = false = unknown = lost = waited = wasted = total = 0
    lowest = highest = limit
    for at, sample in samples:
        while pending and pending[0][0] <= at:
            end, number, result = heappop(pending)
            if number in watching:
                watching.discard(number)
                learner.room += 1
                learner.watched(results, abs(result), end, answered=result > 0)
                results = []
            elif number in over and learner.room and -result < learner.ceiling:
                watching.add(number)
                learner.room -= 1
                _watch(pending, number, *over.pop(number), learner.ceiling)
                continue
            else:
                over.pop(number, None)
                results.append(result)
            if end >= due:
                learner.take(results, end)
                results = []
                due = learner.due
                if learner.ns != limit:
                    if course is not None:
                        course.moved(end, limit, learner.ns)
                    limit = learner.ns
        calls += 1
        total += limit
        if limit < lowest:
            lowest = limit
        elif limit > highest:
            highest = limit
        answered = sample > 0
        length = sample if answered else -sample
        if not answered:
            lost += 1
        if length > limit:
            length, result = limit, -limit
            if learner.room:  # there must be a place when the attempt begins, and again when its time is up
                over[calls] = (at, sample)
            wasted += limit
            if answered:
                false += 1
                if course is not None:
                    course.cut(at, sample, limit)
            else:
                unknown += 1
        else:
            result = sample
        waited += length
        heappush(pending, (at + length, calls, result))
    if not calls:
        lowest = highest = 0
    mean = total / calls if calls else 0.0
    return Outcome(calls, calls - lost, false, unknown, waited, wasted, mean, lowest, highest)


def _watch(pending: list[tuple[int, int, int]], number: int, at: int, sample: int, ceiling: int) -> None:
    """Let an attempt go on beyond its timeout, to its end or to the ceiling."""
    age = min(abs(sample), ceiling)
    heappush(pending, (at + age, number, age if 0 < sample <= ceiling else -age))


def replay_fixed(samples: Iterable[tuple[int, int]], timeouts: Sequence[int]) -> list[Outcome]:
    """Run recorded calls through timeouts that never move, all in one pass; exact.

    Args:
        samples: as for ``replay``; their order does not matter.
        timeouts: in ns; the outcomes come in the same order.
    """
    edges = sorted(set(timeouts))
    size = len(edges) + 1
    # By how many timeouts a call survives... counts and sums for those between two neighboring timeouts.
    done, cut, sums = [0] * size, [0] * size, [0] * size
    for _, sample in samples:
        length = abs(sample)
        place = bisect_left(edges, length)
        sums[place] += length
        if sample > 0:
            done[place] += 1
        else:
            cut[place] += 1
    answered, lost = sum(done), sum(cut)
    found = {}
    false, unknown, within = 0, lost, 0
    false = answered
    for place, limit in enumerate(edges):
        false -= done[place]
        unknown -= cut[place]
        within += sums[place]
        wasted = limit * (false + unknown)
        found[limit] = Outcome(
            answered + lost, answered, false, unknown, within + wasted, wasted, float(limit), limit, limit
        )
    return [found[limit] for limit in timeouts]
