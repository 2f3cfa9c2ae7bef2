"""What recorded latencies look like: one pass, bounded memory.

Knows counts over logarithmic buckets, for the whole record and for pieces of it: by number of calls (does the level
wander?) and by time (for the picture). Refuses to judge what it sees; see `.advice`.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING

from ..machines.sketch import Sketch, bucket_edges, rank_of, upper_rank
from ..machines.survival import merged_rank, product_limit
from .replay import Window
from .trace import LOST

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CHUNKS", "Profile", "share_above"]

CHUNKS = 40
"""Pieces of equal count; even, so that halves are made of them."""

_SLOTS = 240
_LEAST = 100
"""Samples that a piece must have for its median to tell something."""


def share_above(sketch: Sketch, ns: int) -> float:
    """Which share of what was counted is longer than *ns*, as far as buckets tell; 0 of nothing."""
    border = bisect_left(bucket_edges(sketch.alpha), ns)
    above = sum(count for bucket, count in sketch.dump()["buckets"] if bucket > border)
    return above / sketch.count if sketch.count else 0.0


class Profile:
    """The shape of a record; times in ns.

    Args:
        samples: start and latency of each call in order of time, as `.replay` takes them.
        count: how many there are.
        first: when the first began.
        last: when the last began.

    Attributes:
        count: all samples.
        answered: those that were answered.
        longest: the longest time that is known, of answers and given-up calls.
        lost: those of which nothing but that is known.
        window: from the first start to the last, in bins for a picture.
        chunks: answered calls by number, in ``CHUNKS`` pieces.
        slots: answered calls by time, one for each bin of the window.
        whole: all answered calls.
    """

    def __init__(self, samples: Iterable[tuple[int, int]], count: int, first: int, last: int) -> None:
        self.count = count
        self.window = Window(first, last, min(_SLOTS, max(1, count // 4)))
        self.longest = 0
        self.chunks = [Sketch() for _ in range(CHUNKS)]
        self.slots = [Sketch() for _ in range(self.window.bins)]
        self._cut: Counter[int] = Counter()
        self.lost = 0
        edges = bucket_edges(0.01)
        for number, (at, sample) in enumerate(samples):
            if sample > 0:
                self.chunks[number * CHUNKS // self.count].add(sample)
                self.slots[self.window.of(at)].add(sample)
            elif sample == LOST:
                self.lost += 1
            else:
                self._cut[bisect_left(edges, -sample)] += 1
                self.longest = max(self.longest, -sample)
        self._edges = edges
        self.whole = self.part(0, CHUNKS)
        self.answered = self.whole.count
        self.longest = max(self.longest, self.whole.max)

    def part(self, begin: int, end: int) -> Sketch:
        """Some of the pieces together."""
        merged = Sketch()
        for piece in self.chunks[begin:end]:
            merged.merge(piece)
        return merged

    @property
    def span(self) -> int:
        """From the first start to the last."""
        return self.window.end - self.window.start

    @property
    def rate(self) -> float:
        """Calls a second, on average."""
        return (self.count - 1) / self.span * 1e9 if self.span else 0.0

    @property
    def censored(self) -> int:
        """Calls that were given up after a known time."""
        return self._cut.total()

    def quantile(self, p: float, *, confidence: float | None = None) -> int | None:
        """The *p*-quantile of the answers; with a *confidence* its upper bound. ``None``: not to be told from this.

        Calls given up after a known time count as longer than that; those of which nothing is known do not count.
        """
        done = dict(self.whole.dump()["buckets"])
        n = self.answered + self.censored
        if not self.answered:
            return None
        rank = rank_of(p, n) if confidence is None else upper_rank(n, p, confidence)
        if rank > n:
            return None
        bucket = product_limit(done, self._cut, rank)
        if bucket is None:
            return None
        return min(self._edges[bucket], self.whole.max)

    def at_limit(self, p: float) -> int:
        """The *p*-quantile when given-up calls are taken for answered at that moment: a lower bound."""
        done = dict(self.whole.dump()["buckets"])
        n = self.answered + self.censored
        return self._edges[merged_rank(done, self._cut, rank_of(p, n))]

    def levels(self) -> list[float]:
        """The logarithm of the median of neighboring pieces, each large enough to have one."""
        joined = max(1, math.ceil(_LEAST * CHUNKS / max(1, self.count)))
        pieces = [self.part(n, n + joined) for n in range(0, CHUNKS - joined + 1, joined)]
        return [math.log(piece.quantile(0.5)) for piece in pieces if piece.count >= _LEAST * 0.8]

    def density(self, joined: int) -> list[tuple[float, float, int]]:
        """How many answers there are along a logarithmic scale: (from, to, count), ascending, without gaps; ns.

        Args:
            joined: how many of the 2 % wide buckets make one piece, at least 1.
        """
        counted: Counter[int] = Counter()
        for bucket, count in self.whole.dump()["buckets"]:
            counted[bucket // joined] += count
        gamma = (1 + self.whole.alpha) / (1 - self.whole.alpha)
        return [
            (gamma ** (piece * joined - 1), gamma ** (piece * joined + joined - 1), counted[piece])
            for piece in range(min(counted), max(counted) + 1)
        ]
