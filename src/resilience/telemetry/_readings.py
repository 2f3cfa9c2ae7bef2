"""Readings of many policies as one collection: taken here, merged, and cut into the buckets of a histogram.

This file knows the metric table's rules for adding up. It refuses to know what readings are made into, and where those
of other processes come from.
"""

from __future__ import annotations

import operator
from bisect import bisect_left
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from .. import _checks
from .._checks import NS, to_ns
from .._hooks import log
from ..errors import ConfigError
from ..machines.distribution import EDGES, Distribution
from .reading import Numbers, numbers
from .table import LATENCY, METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from .._registry import Registry
    from ..policy import Policy

__all__ = ["BUCKETS", "Borders", "Reading", "Row", "Taker", "merged"]

T = TypeVar("T")

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Borders of the latency histogram, in seconds."""

RULES = {(cell.part, cell.key): metric for metric in METRICS if metric is not LATENCY for cell in metric.cells}
"""By part and name of a number, the metric that says how several become one."""


class Reading(NamedTuple):
    """All that is known of one policy at one moment.

    Attributes:
        numbers: by part, by name; see `resilience.telemetry.reading`.
        good: how long calls took that went well.
        bad: and those that did not.
    """

    numbers: Numbers
    good: Distribution
    bad: Distribution


class Row(NamedTuple):
    """What is shown of one policy.

    Attributes:
        name: of the policy.
        numbers: as of `Reading`.
        cuts: what `Borders.cut` makes of the calls that went well, and of those that did not. Empty if how long its
            calls take is not kept at all.
    """

    name: str
    numbers: Numbers
    cuts: Sequence[list[int | float]]


class Taker:
    """Reads all policies of a registry. One whose reading fails is left out; that is logged once, until it works again.

    Not thread-safe.
    """

    gives_readings = True

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._failed: set[str] = set()

    def __iter__(self) -> Iterator[tuple[str, Reading]]:
        for policy, reading in self.each():
            yield policy.name or "", reading

    def each(self) -> Iterator[tuple[Policy, Reading]]:
        """Each policy, and its reading now."""
        for policy, found, times in self._each(Distribution.copy):
            yield policy, Reading(found, *times)

    def rows(self, borders: Borders) -> Iterator[Row]:
        """Each policy, as it is to be shown. Quicker than making rows of readings."""
        for policy, found, cuts in self._each(borders.cut):
            yield Row(policy.name or "", found, cuts if _timed(found) else ())

    def _each(self, view: Callable[[Distribution], T]) -> Iterator[tuple[Policy, Numbers, tuple[T, T]]]:
        for name in self.registry:
            policy = self.registry.get(name)
            if policy is None:  # gone meanwhile
                continue
            try:
                found = numbers(policy)
                times = policy._plan.stats.look(view)
            except Exception:
                if name not in self._failed:
                    self._failed.add(name)
                    log.exception("the numbers of %r cannot be read; the policy is left out", name)
            else:
                if self._failed:
                    self._failed.discard(name)
                yield policy, found, times


def _timed(found: Numbers) -> bool:
    """Whether how long calls take is kept."""
    return "succeeded" in found.get("", ())


def merged(readings: Iterable[tuple[str, Reading]]) -> dict[str, Reading]:
    """By policy, all its readings as one: counts are added up, levels as the metric table says.

    Numbers that are in no metric are left out.
    """
    found: dict[str, Reading] = {}
    for name, (mine, good, bad) in readings:
        total = found.get(name)
        if total is None:
            total = found[name] = Reading({}, Distribution(), Distribution())
        for part, some in mine.items():
            known = total.numbers.setdefault(part, {})
            for key, value in some.items():
                metric = RULES.get((part, key))
                if metric is not None:
                    known[key] = _TOGETHER[metric.together](known[key], value) if key in known else value
        total.good.merge(good)
        total.bad.merge(bad)
    return found


_TOGETHER: dict[str, Callable[[float, float], float]] = {"sum": operator.add, "max": max, "min": min}


class Borders:
    """The borders of a histogram's buckets.

    Args:
        seconds: the upper border of each bucket but the last, which has none: positive, ascending.

    Raises:
        ConfigError: they are none, or not ascending, or one is out of range.
        TypeError: one is no number.
    """

    def __init__(self, seconds: Sequence[float]) -> None:
        if isinstance(seconds, str) or not hasattr(seconds, "__iter__"):
            raise TypeError(f"buckets must be numbers of seconds, not {seconds!r}")
        self.seconds = tuple(_checks.span(f"buckets[{i}]", border) for i, border in enumerate(seconds))
        borders = [to_ns(border) for border in self.seconds]
        if not borders or any(a >= b for a, b in pairwise(borders)):
            raise ConfigError(f"buckets must be ascending, and at least one, not {seconds!r}")
        self.words = (*map(repr, self.seconds), "+Inf")
        self._nothing: list[int | float] = [0] * len(self.words) + [0, 0.0]
        # Where each bucket of a distribution goes, also the last one, which is above all edges.
        self._place = [bisect_left(borders, edge) for edge in EDGES] + [len(borders)]

    def row(self, name: str, reading: Reading) -> Row:
        """A reading, as it is to be shown."""
        found, good, bad = reading
        return Row(name, found, (self.cut(good), self.cut(bad)) if _timed(found) else ())

    def cut(self, distribution: Distribution) -> list[int | float]:
        """How many durations are at most as long as each border; how many there are, twice; and their sum in seconds.

        The first is what `Distribution.below` says, in a third of the time.
        """
        if not distribution.count:
            return self._nothing
        counts = [0] * len(self.words)
        place = self._place
        for bucket, n in distribution.counts.items():
            counts[place[bucket]] += n
        return [*accumulate(counts), distribution.count, distribution.sum / NS]
