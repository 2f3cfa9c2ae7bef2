"""A service in virtual time, called at a steady rate through the estimator, which may watch a few late attempts."""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resilience.machines.estimator import TimeoutEstimator

if TYPE_CHECKING:
    from collections.abc import Callable

MS = 1_000_000
SECOND = 1_000_000_000
NEVER = math.inf


@dataclass
class Seen:
    """What came of some calls."""

    calls: int = 0
    false: int = 0
    """Cut off, though they would have been answered below the ceiling."""
    hung: int = 0
    longest: int = 0

    @property
    def rate(self) -> float:
        return self.false / self.calls


class World:
    """Calls go out at a steady rate; *latency* says how long each would take, in seconds: NEVER for a hang, below 0 for
    one that is refused at once.

    What ends is handed to the estimator when it ends, in order. Up to *linger* attempts that timed out are watched up
    to the ceiling.
    """

    def __init__(self, estimator: TimeoutEstimator, *, rate: float = 100.0, linger: int = 2) -> None:
        self.estimator = estimator
        self.rate = rate
        self.linger = linger
        self.now = 0.0
        self._ends: list[tuple[int, int, str, int]] = []
        self._number = 0
        self._took: dict[int, float] = {}

    def _at(self, when: int, what: str, age: int) -> None:
        self._number += 1
        heapq.heappush(self._ends, (when, self._number, what, age))

    def _pass(self, now: int) -> None:
        estimator = self.estimator
        while self._ends and self._ends[0][0] <= now:
            when, _, what, age = heapq.heappop(self._ends)
            if what == "answer":
                estimator.absorb((age,), when)
            elif what == "timeout":
                took, ceiling = self._took.pop(when - age), estimator._set.ceiling
                if estimator.watched < self.linger and age < ceiling:
                    estimator.watched += 1
                    ends = int(min(took, ceiling))
                    self._at(when - age + ends, "late" if took <= ceiling else "lost", ends)
                else:
                    estimator.absorb((-age,), when)
            else:
                estimator.watched -= 1
                if what == "late":
                    estimator.late(age, when)
                else:
                    estimator.lost(when)
            estimator.refresh(when)

    def run(self, seconds: float, latency: Callable[[float], float]) -> Seen:
        """Let *seconds* pass."""
        estimator, seen = self.estimator, Seen()
        for i in range(round(seconds * self.rate)):
            at = self.now + i / self.rate
            now = round(at * SECOND)
            self._pass(now)
            estimator.refresh(now)
            took, limit = latency(at) * SECOND, estimator.ns
            if took < 0:
                continue
            seen.calls += 1
            seen.longest = max(seen.longest, limit)
            if took <= limit:
                self._at(now + max(1, round(took)), "answer", max(1, round(took)))
                continue
            if took <= estimator._set.ceiling:
                seen.false += 1
            else:
                seen.hung += 1
            self._took[now] = took
            self._at(now + limit, "timeout", limit)
        self.now += seconds
        return seen


def lognormal(seed: int, median: float, sigma: float) -> Callable[[float], float]:
    rng = random.Random(seed)
    mu = math.log(median)
    return lambda _: rng.lognormvariate(mu, sigma)


def make(p: float = 0.99, **more: object) -> TimeoutEstimator:
    settings: dict[str, object] = {"floor": MS, "ceiling": 30 * SECOND, "initial": SECOND, **more}
    return TimeoutEstimator(p, **settings)
