"""A service in virtual time, called at a steady rate through a learned timeout, which may watch a few late attempts.

The tests and the tables of accuracy.py play the same traffic through it. It does what `PercentileTimeout` does around
the estimator: what ends is kept, and worked in when a refresh is due, or a watched attempt comes to its end.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from resilience.machines.estimator import TimeoutEstimator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MS = 1_000_000
SECOND = 1_000_000_000
CEILING = 30 * SECOND

_MANY = 1 << 10
"""So many results are worked in at once, due or not."""


class Learns(Protocol):
    """What a `World` asks of a timeout that learns, all times in ns."""

    ns: int
    watched: int
    next_refresh: int | None

    def absorb(self, samples: Sequence[int], now: int) -> None:
        """Take in results, negative for attempts that were cut off."""

    def late(self, latency: int, now: int) -> None:
        """A watched attempt was answered."""

    def lost(self, now: int) -> None:
        """A watched attempt was never answered."""

    def refresh(self, now: int) -> None:
        """Bring the timeout up to date."""


L = TypeVar("L", bound=Learns)


@dataclass
class Seen:
    """What came of some calls; times in ns."""

    calls: int = 0
    false: int = 0
    """Cut off, though they would have been answered below the ceiling."""
    hung: int = 0
    longest: int = 0
    total: int = 0
    """The sum of the timeouts they were given."""
    blocked: int = 0
    """How long callers waited for calls that were cut off."""

    @property
    def rate(self) -> float:
        return self.false / self.calls

    @property
    def mean(self) -> float:
        """The mean timeout, in seconds."""
        return self.total / self.calls / SECOND


class World(Generic[L]):
    """Calls go out at a steady rate; *latency* says how long each would take, in seconds: NEVER for a hang, below 0 for
    one that is refused at once.

    What ends is handed to the estimator in order. Up to *linger* attempts that timed out are watched up to the ceiling.
    """

    def __init__(self, estimator: L, *, rate: float = 100.0, linger: int = 2, ceiling: int = CEILING) -> None:
        self.estimator = estimator
        self.rate = rate
        self.linger = linger
        self.ceiling = ceiling
        self.now = 0.0
        self._ends: list[tuple[int, int, str, int]] = []
        self._number = 0
        self._took: dict[int, float] = {}
        self._results: list[int] = []

    def _at(self, when: int, what: str, age: int) -> None:
        self._number += 1
        heapq.heappush(self._ends, (when, self._number, what, age))

    def _work_in(self, when: int) -> None:
        self.estimator.absorb(self._results, when)
        self._results = []

    def _pass(self, now: int) -> None:
        estimator, ends = self.estimator, self._ends
        while ends and ends[0][0] <= now:
            when, number, what, age = heapq.heappop(ends)
            if what == "answer":
                self._results.append(age)
            elif what == "timeout":
                took = self._took.pop(number)
                if estimator.watched < self.linger and age < self.ceiling:
                    estimator.watched += 1
                    until = int(min(took, self.ceiling))
                    self._at(when - age + until, "late" if took <= self.ceiling else "lost", until)
                    continue
                self._results.append(-age)
            else:
                estimator.watched -= 1
                self._work_in(when)
                if what == "late":
                    estimator.late(age, when)
                else:
                    estimator.lost(when)
            if estimator.next_refresh is None or when >= estimator.next_refresh or len(self._results) >= _MANY:
                self._work_in(when)
                estimator.refresh(when)

    def run(self, seconds: float, latency: Callable[[float], float]) -> Seen:
        """Let *seconds* pass."""
        estimator, seen, start, ends = self.estimator, Seen(), self.now, self._ends
        for i in range(round(seconds * self.rate)):
            at = start + i / self.rate
            now = round(at * SECOND)
            if ends and ends[0][0] <= now:
                self._pass(now)
            took, limit = latency(at) * SECOND, estimator.ns
            if took < 0:
                continue
            seen.calls += 1
            seen.total += limit
            if limit > seen.longest:
                seen.longest = limit
            if took <= limit:
                age = round(took) or 1
                self._at(now + age, "answer", age)
                continue
            if took <= self.ceiling:
                seen.false += 1
            else:
                seen.hung += 1
            seen.blocked += limit
            self._at(now + limit, "timeout", limit)
            self._took[self._number] = took
        self.now += seconds
        return seen


def make(p: float = 0.99, **more: Any) -> TimeoutEstimator:
    """An estimator as the tests and the tables use it."""
    return TimeoutEstimator(p, **{"floor": MS, "ceiling": CEILING, "initial": SECOND, **more})
