"""The latencies of the last minute, or of longer where traffic is low, as counts by bucket.

The window is a row of slices. A slice leaves when it is older than the window and the rest holds enough samples; or
when it is older than any may become. So the same settings serve one call a minute and ten thousand a second, and
memory depends on neither.

This file knows buckets and points in time that are handed in. It refuses to know what the counts are for.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from .learned import read_slices
from .sketch import bucket_edges, rank_of
from .survival import product_limit
from .tally import added, counts_of, grouped, packed, spread_out, unpacked, up_to_each, without

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .estimator_settings import EstimatorSettings
    from .tally import Tally

__all__ = ["LatencyWindow"]

_LEVEL_SAMPLES = 10
"""A slice with fewer samples has no p90 to speak of."""

_STEP = math.log(1.25)
_SINCE = 5 / 12
_BEFORE = 1 / 4
"""By how much a step down is clear, as a logarithm; of the window, how long it has lasted, and what was before it."""

_BEYOND_CHANCE = 3.0
"""So much more variance than chance explains, in a dozen slices, is no chance (one in a thousand)."""

_LEAST_ALIKE = 0.25
"""Slices that differ by more than chance are as alike as this to their neighbors, at least."""

_GROUPS = 16
"""A slice that is over keeps so many groups of buckets, of answers and of attempts cut off each."""

_RANGE = math.log(1 << 15)
"""The longest duration is so many times as long as the shortest that is told apart from shorter ones; a logarithm."""

_SPARE = 1
"""So many slices more than the window has are kept apart where it is stretched; more are put together."""

# A slice that is over is a few bytes: ten thousand keys have a hundred thousand of them. In the head: its first and
# last epoch, how many answers, attempts cut off and lost it holds, the level (NaN for none) and
# the spread around it, both as logarithms, and how long the groups that it keeps of answers and of cuts are.
_HEAD = struct.Struct("<qqIIIfeHH")
_FIRST, _LAST, _DONE, _CUT, _LOST, _LEVEL, _SPREAD, _DONE_LONG, _CUT_LONG = range(9)


@lru_cache(maxsize=8)
def _reach(alpha: float) -> int:
    return math.ceil(_RANGE / math.log((1 + alpha) / (1 - alpha)))


class LatencyWindow:
    """Counts of answers, and of attempts that were cut off, by bucket, and of attempts that never ended.

    Not thread-safe: the caller holds a lock.

    Args:
        settings: which buckets, how many slices of which span, how many samples are enough, how old they may be.

    Attributes:
        edges: the upper border of each bucket, ns.
        n_done: how many answers there are.
        n_cut: how many attempts were cut off.
        lost: attempts that were watched to the end and never answered.
    """

    __slots__ = (
        "_cut", "_disturbed", "_done", "_epoch", "_groups", "_heads", "_new_cut", "_new_done", "_new_lost", "_set",
        "edges", "lost", "n_cut", "n_done",
    )  # fmt: skip

    def __init__(self, settings: EstimatorSettings) -> None:
        self._set = settings
        self.edges = bucket_edges(settings.alpha)
        self._clear()

    def _clear(self) -> None:
        self._heads = self._groups = b""  # of the slices that are over, oldest first
        self._done: Tally | None = None  # of all of the window
        self._cut: Tally | None = None
        self._epoch: int | None = None  # the one that samples go to, and what it has
        self._new_done: Tally | None = None
        self._new_cut: Tally | None = None
        self._new_lost = 0
        self._disturbed = False
        self.n_done = self.n_cut = self.lost = 0

    @property
    def cells(self) -> int:
        """How many bytes the counters take."""
        tallies = (self._done, self._cut, self._new_done, self._new_cut)
        counters = sum(len(tally) * tally.itemsize for tally in tallies if tally is not None)
        return len(self._heads) + len(self._groups) + counters

    def sums(self) -> tuple[dict[int, int], dict[int, int]]:
        """Answers by bucket; and attempts cut off, by the bucket of how long they had waited."""
        return counts_of(self._done), counts_of(self._cut)

    def ascending(self) -> tuple[Sequence[int], list[int]]:
        """Buckets from the lowest answer on, or lower, without a gap; and how many answers there are up to each."""
        return up_to_each(self._done)

    def add(self, answered: Mapping[int, int], timeouts: Mapping[int, int], lost: int, now: int) -> None:
        """Count samples at the point in time *now*; none may come before an earlier one."""
        epoch = now // self._set.slice_ns
        if self._epoch != epoch:
            self._end()
            self._epoch = epoch
        most = _reach(self._set.alpha)
        if answered:
            self._done = added(self._done, answered, most)
            self._new_done = added(self._new_done, answered, most)
            self.n_done += sum(answered.values())
        if timeouts:
            self._cut = added(self._cut, timeouts, most)
            self._new_cut = added(self._new_cut, timeouts, most)
            self.n_cut += sum(timeouts.values())
        self.lost += lost
        self._new_lost += lost

    def _end(self) -> None:
        """The slice that samples went to is over."""
        if self._epoch is None:
            return
        most = _reach(self._set.alpha)
        done, cut, level, spread = counts_of(self._new_done), counts_of(self._new_cut), math.nan, math.nan
        n_done, n_cut = sum(done.values()), sum(cut.values())
        n = n_done + n_cut
        if n >= _LEVEL_SAMPLES and not self._disturbed:
            # Hidden by timeouts, as around an outage, it is unknown: the limit in force says nothing of the level.
            low, middle, high = (product_limit(done, cut, rank_of(p, n)) for p in (0.8, 0.9, 0.95))
            if low is not None and middle is not None:
                level = math.log(self.edge(middle))
                # From p80 to p90 or p95, each for a tenth of the values.
                top, tenths = (middle, 1.0) if high is None else (high, 1.5)
                spread = (math.log(self.edge(top)) - math.log(self.edge(low))) / tenths
        groups = grouped(done, _GROUPS), grouped(cut, _GROUPS)
        # From now on the window knows no more of them than their groups.
        self._done, self._cut = (
            tally if tally is None or len(some) == len(exact) else added(without(tally, exact), spread_out(some), most)
            for tally, exact, some in zip((self._done, self._cut), (done, cut), groups, strict=True)
        )
        parts = list(map(packed, groups))
        head = (self._epoch, self._epoch, n_done, n_cut, self._new_lost, level, spread, *map(len, parts))
        self._heads += _HEAD.pack(*head)
        self._groups += b"".join(parts)
        self._epoch = self._new_done = self._new_cut = None
        self._new_lost = 0
        self._disturbed = False
        if len(self._heads) > (self._set.slices + _SPARE) * _HEAD.size:
            self._put_together()

    def disturb(self) -> None:
        """The slice that samples go to tells nothing of the level: an outage began, when only slow ones are left."""
        self._disturbed = self._epoch is not None

    def edge(self, bucket: int) -> int:
        """The upper border of a bucket, ns."""
        return self.edges[min(bucket, len(self.edges) - 1)]

    def _slices(self) -> Iterator[tuple[tuple[Any, ...], bytes, bytes]]:
        """Of each slice that is over the head, and the packed groups of answers and of attempts cut off."""
        at = 0
        for head in _HEAD.iter_unpack(self._heads):
            border = at + head[_DONE_LONG]
            end = border + head[_CUT_LONG]
            yield head, self._groups[at:border], self._groups[border:end]
            at = end

    def _put_together(self) -> None:
        """Make one of the two neighbors that hold least."""
        slices = list(_HEAD.iter_unpack(self._heads))
        held = [head[_DONE] + head[_CUT] for head in slices]
        place = min(range(len(held) - 1), key=lambda at: held[at] + held[at + 1])
        rows = list(self._slices())
        (one, *mine), (other, *others) = rows[place : place + 2]
        n = max(1, held[place] + held[place + 1])
        parts, most = [], _reach(self._set.alpha)
        for name, *two in zip(("_done", "_cut"), mine, others, strict=True):
            exact = Counter(spread_out(unpacked(two[0]))) + Counter(spread_out(unpacked(two[1])))
            groups = grouped(exact, _GROUPS)
            if len(groups) < len(exact):
                setattr(self, name, added(without(getattr(self, name), exact), spread_out(groups), most))
            parts.append(packed(groups))
        head = _HEAD.pack(
            one[_FIRST],
            other[_LAST],
            *(one[field] + other[field] for field in (_DONE, _CUT, _LOST)),
            *((one[field] * held[place] + other[field] * held[place + 1]) / n for field in (_LEVEL, _SPREAD)),
            *map(len, parts),
        )
        start = sum(row[0][_DONE_LONG] + row[0][_CUT_LONG] for row in rows[:place])
        end = start + sum(map(len, (*mine, *others)))
        self._groups = b"".join((self._groups[:start], *parts, self._groups[end:]))
        size = _HEAD.size
        self._heads = self._heads[: place * size] + head + self._heads[(place + 2) * size :]

    def forget(self, now: int) -> None:
        """Drop slices that left the window, but keep enough of them to know something, up to a certain age."""
        newest = now // self._set.slice_ns
        too_old = (now - self._set.max_age) // self._set.slice_ns
        if self._epoch is not None and self._epoch <= newest - self._set.slices:
            self._end()
        while self._heads:
            first, last, done, cut, *_ = _HEAD.unpack_from(self._heads)
            enough = self.n_done + self.n_cut - done - cut >= self._set.need
            if first >= too_old and (last > newest - self._set.slices or not enough):
                return
            self._drop()

    def step_down(self) -> None:
        """Drop what was before a clear step down of the level.

        Clear: the level of each slice since then lies by a fifth below that of each one before; both have lasted for a
        while, and what was since then is enough to go by. The first slice of the new ones goes too: in it ends what
        began before.
        """
        heads = list(_HEAD.iter_unpack(self._heads))
        new, held = 0, 0 if self._new_done is None else sum(self._new_done[1:])
        while new < len(heads) and (new < self._set.slices * _SINCE or held < self._set.need):
            new += 1
            held += heads[-new][_DONE]
        levels = [head[_LEVEL] for head in heads]
        since, before = levels[-new - 1 :], levels[: -new - 1]
        known = [level for level in before if not math.isnan(level)]
        if len(known) < self._set.slices * _BEFORE or held < self._set.need:
            return
        if min(known) > max(since) + _STEP and not any(map(math.isnan, since)):
            for _ in heads[:-new]:
                self._drop()

    def _drop(self) -> None:
        """The oldest slice."""
        head = _HEAD.unpack_from(self._heads)
        border = head[_DONE_LONG]
        end = border + head[_CUT_LONG]
        if self._done is not None:
            self._done = without(self._done, spread_out(unpacked(self._groups[:border])))
        if self._cut is not None:
            self._cut = without(self._cut, spread_out(unpacked(self._groups[border:end])))
        self.n_done -= head[_DONE]
        self.n_cut -= head[_CUT]
        self.lost -= head[_LOST]
        self._heads, self._groups = self._heads[_HEAD.size :], self._groups[end:]

    def wander(self, cap: float) -> float:
        """How far the level of latency wanders, as a factor: exp(2 r sd of the logarithms of the p90 of the slices).

        Where the slices differ by chance alone, or wander within a slice, the window holds all of that already. So it
        counts as far as neighbors are alike: r is their correlation, by the mean square of the successive differences
        (von Neumann 1941). It is a quarter at least where they differ by more than chance, for then the window holds
        few levels that tell something new.
        """
        levels = [head[_LEVEL] for head in _HEAD.iter_unpack(self._heads) if not math.isnan(head[_LEVEL])]
        n = len(levels)
        if n < 3:
            return 1.0
        mean = sum(levels) / n
        variance = sum((level - mean) ** 2 for level in levels) / n
        steps = sum((b - a) ** 2 for a, b in pairwise(levels)) / (n - 1)
        alike = 1 - steps / (2 * variance) if variance else 0.0
        if alike < _LEAST_ALIKE:
            alike = _LEAST_ALIKE if self.independent() < 1 else max(0.0, alike)
        return min(cap, math.exp(min(2 * alike * math.sqrt(variance), 64.0)))

    def independent(self) -> float:
        """Which share of the samples tells something new, 0 to 1: less than all if slices differ more than by chance.

        By chance alone, the p90 of n values scatters by sqrt(0.9 * 0.1 / n) over the density of the values there.
        """
        heads = [head for head in _HEAD.iter_unpack(self._heads) if not math.isnan(head[_LEVEL])]
        n = len(heads)
        if n < 3:
            return 1.0
        mean = sum(head[_LEVEL] for head in heads) / n
        seen = sum((head[_LEVEL] - mean) ** 2 for head in heads) / n
        differ = (2 * self._set.alpha) ** 2 / 12  # the width of a bucket
        chance = sum(9 * head[_SPREAD] ** 2 / (head[_DONE] + head[_CUT]) for head in heads) / n + differ
        return chance / seen if seen > _BEYOND_CHANCE * chance else 1.0

    # -- from one process to the next ----------------------------------------------------------------------------------

    def dump(self, now: int) -> list[dict[str, Any]]:
        """Its slices, oldest first, as plain data; with how long ago each began, ns."""
        rows = [
            (head[_FIRST], spread_out(unpacked(done)), spread_out(unpacked(cut)), head[_LOST])
            for head, done, cut in self._slices()
        ]
        if self._epoch is not None:
            rows.append((self._epoch, counts_of(self._new_done), counts_of(self._new_cut), self._new_lost))
        return [
            {
                "age": max(0, now - epoch * self._set.slice_ns),
                "answers": [list(pair) for pair in done.items()],
                "cut": [list(pair) for pair in cut.items()],
                "lost": lost,
            }
            for epoch, done, cut, lost in rows
        ]

    def load(self, data: Any, now: int) -> None:
        """Begin with what ``dump`` described, in the place of what is there. It ages from *now* on.

        Raises:
            ConfigError: a value is missing or impossible; then nothing has changed.
            TypeError: a value has the wrong type; the same.
        """
        slices = read_slices(data, len(self.edges), self._set.slice_ns, now)
        self._clear()
        for epoch in sorted(slices):
            done, cut, lost = slices[epoch]
            self.add(done, cut, lost, epoch * self._set.slice_ns)
        self.forget(now)
