"""How long calls took since the beginning: counts by bucket, exact in number and sum, and never forgotten.

The buckets are those of `resilience.machines.sketch`, so whatever is read off is at most 2 % (at the default) above the
true value. From these counts histograms with any borders are made when somebody asks, so nobody has to choose borders
beforehand, and several readers may have their own.

This file knows durations in integer nanoseconds. It refuses to know windows, clocks and what took so long.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from itertools import repeat
from typing import TYPE_CHECKING

from .sketch import bucket_edges, rank_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["ALPHA", "Distribution", "binned"]

ALPHA = 0.01
"""The relative error of the buckets."""

EDGES = bucket_edges(ALPHA)


def binned(durations: Sequence[int]) -> dict[int, int]:
    """How many of the *durations* (ns) fall into each bucket."""
    if len(durations) < 2:  # half the time
        return {bisect_left(EDGES, duration): 1 for duration in durations}
    return Counter(map(bisect_left, repeat(EDGES), durations))


class Distribution:
    """Counts of durations by bucket. Not thread-safe: the caller holds a lock.

    Attributes:
        counts: how many durations by bucket; bucket *b* ends at ``EDGES[b]`` ns.
        count: how many in all.
        sum: their sum, ns.
    """

    __slots__ = ("count", "counts", "sum")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.count = 0
        self.sum = 0

    def add(self, durations: Sequence[int], bins: Mapping[int, int] | None = None) -> None:
        """Count *durations*; *bins* is what ``binned`` makes of them, if that is known already."""
        counts = self.counts
        for bucket, n in (binned(durations) if bins is None else bins).items():
            counts[bucket] = counts.get(bucket, 0) + n
        self.count += len(durations)
        self.sum += sum(durations)

    def copy(self) -> Distribution:
        """These counts as they are now."""
        copied = Distribution()
        copied.counts, copied.count, copied.sum = dict(self.counts), self.count, self.sum
        return copied

    def merge(self, other: Distribution) -> None:
        """Add all that *other* has counted."""
        for bucket, n in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + n
        self.count += other.count
        self.sum += other.sum

    def since(self, before: Distribution) -> Distribution:
        """What was counted after these counts were *before*."""
        rest = Distribution()
        for bucket, n in self.counts.items():
            if n > before.counts.get(bucket, 0):
                rest.counts[bucket] = n - before.counts.get(bucket, 0)
        rest.count, rest.sum = self.count - before.count, self.sum - before.sum
        return rest

    def below(self, borders: Iterable[int]) -> list[int]:
        """How many durations are at most as long as each of the ascending *borders* (ns).

        A duration less than 2 % below a border may count as above it, never the other way round.
        """
        found: list[int] = []
        ordered = sorted(self.counts.items())
        at = total = 0
        for border in borders:
            last = bisect_left(EDGES, border + 1) - 1  # the last bucket that ends at the border or before
            while at < len(ordered) and ordered[at][0] <= last:
                total += ordered[at][1]
                at += 1
            found.append(total)
        return found

    def quantile(self, p: float) -> int | None:
        """The upper border of the bucket that holds the *p*-quantile, ns; ``None`` while empty."""
        if not self.count:
            return None
        wanted = rank_of(p, self.count)
        for bucket, n in sorted(self.counts.items()):
            wanted -= n
            if wanted <= 0:
                return EDGES[min(bucket, len(EDGES) - 1)]
        raise AssertionError("the counts do not add up")  # pragma: no cover
