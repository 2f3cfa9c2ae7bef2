"""Quantiles of many durations in little memory: a histogram whose buckets grow by a constant factor.

The mapping is that of DDSketch (Masson, Rim, Lee, VLDB 2019): with gamma = (1 + alpha) / (1 - alpha), bucket i holds
the values in (gamma^(i-1), gamma^i]. Only buckets that hold something are stored. The borders are whole nanoseconds
from a table, found by bisection, so a value on a border falls into the same bucket on every machine, which a
logarithm in floating point does not promise.

Beside it stands which rank to ask for when an upper confidence bound on a quantile is wanted.

This file knows integers and nothing of clocks, windows or timeouts: forgetting is the business of whoever holds the
counts.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .. import _checks
from ..errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Sketch",
    "bucket_edges",
    "chance",
    "minimum_samples",
    "rank_of",
    "upper_rank",
]

_TOP = 1 << 62
"""The table of borders reaches 146 years; whatever is longer shares one last bucket."""

_FINEST = 0.001
_COARSEST = 0.25


def bucket_edges(alpha: float) -> tuple[int, ...]:
    """The upper border of every bucket, in ns: ``bisect_left(edges, ns)`` is the bucket of a value.

    Args:
        alpha: relative error, 0.001 to 0.25.

    Raises:
        ConfigError: *alpha* is out of range.
        TypeError: *alpha* is no number.
    """
    value = _checks.number("alpha", alpha)
    if not _FINEST <= value <= _COARSEST:
        raise ConfigError(f"alpha must be a number in [{_FINEST}, {_COARSEST}], not {alpha!r}")
    return _edges(value)


@lru_cache(maxsize=8)
def _edges(alpha: float) -> tuple[int, ...]:
    gamma = (1 + alpha) / (1 - alpha)
    return tuple(int(gamma**i) for i in range(math.ceil(math.log(_TOP) / math.log(gamma)) + 1))


def rank_of(p: float, n: int) -> int:
    """Which of *n* ascending values is the *p*-quantile, counted from 1: the smallest k with k/n >= p.

    The tiny factor undoes the rounding of ``p * n``: 0.07 * 100 is above 7 in floating point.
    """
    return max(1, math.ceil(p * n * (1 - 1e-12)))


def minimum_samples(p: float, confidence: float) -> int:
    """From how many samples on the largest one bounds the *p*-quantile with *confidence*: p^n <= 1 - confidence."""
    return math.ceil(math.log(1 - confidence) / math.log(p))


def upper_rank(n: int, p: float, confidence: float) -> int:
    """The rank whose order statistic, of *n*, is at least the true *p*-quantile with probability *confidence*.

    The smallest k with P(Binomial(n, p) <= k - 1) >= confidence: the distribution-free bound on a quantile. Where
    there is none, *n* is below ``minimum_samples``, and the answer is n + 1. Exact while few values lie above the
    quantile; the normal approximation, rounded up, beyond.
    """
    above = n * (1 - p)
    if above > 64:
        spread = math.sqrt(above * p)
        return min(n, math.ceil(n * p + _normal_quantile(confidence) * spread) + 1)
    # Count the values above the quantile instead: they are few, so the sum is short.
    spare = 1 - confidence
    term = total = p**n
    if total > spare:
        return n + 1
    odds = (1 - p) / p
    for j in range(n):
        term *= (n - j) / (j + 1) * odds
        total += term
        if total > spare:
            return n - j
    return 1


def chance(k: int, n: int, share: float) -> float:
    """The probability that at least *k* of *n* independent values are among the *share* of all that lies highest.

    For a *k* that is small, or a chance that is: it is summed up from the other side, term by term.
    """
    if k <= n * share:
        return 1.0
    term = (1 - share) ** n
    below = 0.0
    for j in range(k):
        below += term
        term *= (n - j) / (j + 1) * share / (1 - share)
    return max(0.0, 1 - below)


@lru_cache(maxsize=8)
def _normal_quantile(confidence: float) -> float:
    low, high = -9.0, 9.0
    for _ in range(60):
        middle = (low + high) / 2
        if (1 + math.erf(middle / math.sqrt(2))) / 2 < confidence:
            low = middle
        else:
            high = middle
    return high


class Sketch:
    """A mergeable histogram of durations in integer nanoseconds, with a bounded relative error.

    ``quantile`` errs upwards only and by less than a factor of gamma = (1 + alpha) / (1 - alpha); ``estimate`` errs
    by at most alpha, either way. Count, sum, minimum and maximum are exact. Values below 1 ns count as 1 ns.
    Merging is exact, so it may happen in any order and grouping.

    Memory is bounded by the number of buckets: 2149 at the default, if there are values from 1 ns to 146 years; some
    400 in practice.

    Not thread-safe: the caller holds a lock.

    Args:
        alpha: relative error, 0.001 to 0.25.

    Attributes:
        count: how many values were added.
        sum: their sum, ns.
        min: the smallest, ns; 0 while empty.
        max: the largest, ns; 0 while empty.

    Raises:
        ConfigError: *alpha* is out of range.
        TypeError: *alpha* is no number.
    """

    __slots__ = ("_buckets", "_edges", "alpha", "count", "max", "min", "sum")

    def __init__(self, alpha: float = 0.01) -> None:
        self._edges = bucket_edges(alpha)
        self.alpha = float(alpha)
        self._buckets: dict[int, int] = {}
        self.count = 0
        self.sum = 0
        self.min = 0
        self.max = 0

    def add(self, ns: int, n: int = 1) -> None:
        """Count a value of *ns* nanoseconds, *n* times.

        Raises:
            ConfigError: *n* is below 1.
        """
        if n < 1:
            raise ConfigError(f"n must be a whole number >= 1, not {n!r}")
        ns = max(ns, 1)
        bucket = bisect_left(self._edges, ns)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + n
        self.max = max(self.max, ns)
        if ns < self.min or not self.count:
            self.min = ns
        self.count += n
        self.sum += ns * n

    def quantile(self, p: float) -> int:
        """The upper edge of the bucket that holds the *p*-quantile, ns: never below the exact order statistic.

        Args:
            p: 0 to 1; 0 is the smallest value.

        Raises:
            ConfigError: *p* is out of range, or the sketch is empty.
            TypeError: *p* is no number.
        """
        bucket = self._bucket_of(p)
        return self.max if bucket >= len(self._edges) else min(self._edges[bucket], self.max)

    def estimate(self, p: float) -> float:
        """The *p*-quantile within a relative error of alpha either way, ns; raises as ``quantile`` does.

        Within the table of borders, that is; longer values are reported as the largest one.
        """
        bucket = self._bucket_of(p)
        if bucket >= len(self._edges):
            return float(self.max)
        gamma = (1 + self.alpha) / (1 - self.alpha)
        return min(max(2 * gamma**bucket / (gamma + 1), self.min), self.max)

    def _bucket_of(self, p: float) -> int:
        p = _checks.ratio("p", p, zero=True)
        if not self.count:
            raise ConfigError("an empty sketch has no quantiles")
        # Walk from the nearer end: the tail is what is asked for most.
        rank = rank_of(p, self.count)
        keys = sorted(self._buckets, reverse=p > 0.5)
        wanted = self.count - rank + 1 if p > 0.5 else rank
        for bucket in keys:
            wanted -= self._buckets[bucket]
            if wanted <= 0:
                return bucket
        raise AssertionError("the counts do not add up")  # pragma: no cover

    def merge(self, other: Sketch) -> None:
        """Add everything *other* has counted; *other* is left as it is.

        Raises:
            ConfigError: *other* has another alpha.
            TypeError: *other* is no sketch.
        """
        if not isinstance(other, Sketch):
            raise TypeError(f"other must be a Sketch, not {other!r}")
        if other.alpha != self.alpha:
            raise ConfigError(f"other must have alpha={self.alpha!r}, not {other.alpha!r}")
        if not other.count:
            return
        for bucket, n in list(other._buckets.items()):
            self._buckets[bucket] = self._buckets.get(bucket, 0) + n
        self.min = min(self.min, other.min) if self.count else other.min
        self.max = max(self.max, other.max)
        self.count += other.count
        self.sum += other.sum

    def dump(self) -> dict[str, Any]:
        """Everything, as plain numbers and lists that JSON can carry; equal sketches give equal dumps."""
        return {
            "alpha": self.alpha,
            "min": self.min,
            "max": self.max,
            "sum": self.sum,
            "buckets": [[bucket, n] for bucket, n in sorted(self._buckets.items())],
        }

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> Sketch:
        """The sketch that ``dump`` described.

        Raises:
            ConfigError: a value is missing or impossible.
            TypeError: a value has the wrong type.
        """
        missing = {"alpha", "min", "max", "sum", "buckets"} - data.keys()
        if missing:
            raise ConfigError(f"data must have {', '.join(sorted(missing))}")
        sketch = cls(data["alpha"])
        for pair in data["buckets"]:
            bucket, n = pair
            bucket = _checks.count("bucket", bucket, minimum=0)
            if bucket > len(sketch._edges) or bucket in sketch._buckets:
                raise ConfigError(f"bucket must occur once and be <= {len(sketch._edges)}, not {bucket!r}")
            sketch._buckets[bucket] = _checks.count("n", n)
        sketch.count = sum(sketch._buckets.values())
        empty = not sketch.count
        sketch.min = _checks.count("min", data["min"], minimum=0 if empty else 1)
        sketch.max = _checks.count("max", data["max"], minimum=sketch.min)
        sketch.sum = _checks.count("sum", data["sum"], minimum=sketch.min * sketch.count)
        if sketch.sum > sketch.max * sketch.count:
            raise ConfigError(f"sum must be <= max * count, not {sketch.sum!r}")
        if not empty:
            ends = min(sketch._buckets), max(sketch._buckets)
            if ends != (
                bisect_left(sketch._edges, sketch.min),
                bisect_left(sketch._edges, sketch.max),
            ):
                raise ConfigError(
                    f"min and max must lie in the first and last bucket, not {sketch.min!r}, {sketch.max!r}"
                )
        elif sketch.max:
            raise ConfigError(f"max must be 0 without buckets, not {sketch.max!r}")
        return sketch

    def __repr__(self) -> str:
        return f"<Sketch alpha={self.alpha:g} count={self.count} min={self.min} max={self.max}>"
