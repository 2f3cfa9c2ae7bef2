"""The estimator as a replay drives it: the one place that knows its constructor and its verbs.

It does what `PercentileTimeout` does around the estimator, in the same order, without lock and clock: results are kept
until a refresh is due, then worked in together; of the attempts that time out, a few are watched to their end. Refuses
to know where results come from.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..machines.estimator import TimeoutEstimator

__all__ = ["LEAST_PADDING", "LINGER", "PADDING", "Learner", "Settings"]

PADDING = 1.25
LEAST_PADDING = 5_000_000
LINGER = 2
"""What `PercentileTimeout` does if it is not told otherwise."""

_KEPT = 1 << 14
"""Results between two refreshes, as `PercentileTimeout` keeps them; of more, the newest count."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a learned timeout is told; times in ns.

    Attributes:
        accepted: the share of good calls that may be cut, between 0 and 1.
        floor: the shortest timeout.
        ceiling: the longest.
        initial: the timeout until enough is known.
        padding: factor on the measured percentile, at least 1.
        least_padding: what is added to it at least.
        linger: how many attempts that timed out are watched at a time.
    """

    accepted: float
    floor: int
    ceiling: int
    initial: int
    padding: float = PADDING
    least_padding: int = LEAST_PADDING
    linger: int = LINGER

    @property
    def percentile(self) -> float:
        """The share of answers that are to come in time, without the noise of floating point: 0.999, not 0.99900001."""
        return float(f"{1 - self.accepted:.12g}")


class Learner:
    """A learned timeout that is handed results and time.

    Attributes:
        ns: the timeout in force.
        due: a result that ends at this point in time, or later, makes the timeout be worked out afresh.
        ceiling: until that age an attempt is watched.
        room: how many more attempts can be watched; whoever replays counts.
    """

    __slots__ = ("_estimator", "_places", "ceiling", "due", "ns", "room")

    def __init__(self, settings: Settings, start: int) -> None:
        self._estimator = TimeoutEstimator(
            settings.percentile,
            floor=settings.floor,
            ceiling=settings.ceiling,
            initial=settings.initial,
            pad_rel=settings.padding,
            pad_abs=settings.least_padding,
        )
        self._places = self.room = settings.linger
        self.ceiling = settings.ceiling
        self.ns = self._estimator.ns
        self.due = start

    def take(self, results: list[int], now: int) -> None:
        """Work in results in the order in which they ended: ns, negative for an attempt that was given up."""
        estimator = self._estimator
        estimator.absorb(results[-_KEPT:], now)
        estimator.watched = self._places - self.room
        estimator.refresh(now)
        self.ns = estimator.ns
        self.due = now if estimator.next_refresh is None else estimator.next_refresh

    def watched(self, results: list[int], age: int, now: int, *, answered: bool) -> None:
        """An attempt that had timed out has come to its end at this age; *results* are what ended before."""
        estimator = self._estimator
        estimator.absorb(results[-_KEPT:], now)
        if answered:
            estimator.late(age, now)
        elif age >= self.ceiling:
            estimator.lost(now)
        else:
            estimator.absorb((-age,), now)
