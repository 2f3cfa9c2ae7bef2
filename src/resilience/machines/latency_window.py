"""The latencies of the last minute, or of longer where traffic is low, as counts by bucket.

The window is a row of slices. A slice leaves when it is older than the window and the rest holds enough samples; or
when it is older than any may become. So the same settings serve one call a minute and ten thousand a second, and
memory depends on neither.

This file knows buckets and points in time that are handed in. It refuses to know what the counts are for.
"""

from __future__ import annotations

import math
import struct
from array import array
from bisect import bisect_left
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from .. import _checks
from ..errors import ConfigError
from .sketch import bucket_edges, rank_of
from .survival import product_limit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .estimator_settings import EstimatorSettings

__all__ = ["LatencyWindow"]

_LEVEL_SAMPLES = 10
"""A slice with fewer samples has no p90 to speak of."""

_STEP = math.log(1.25)
_SINCE = 5 / 12
_BEFORE = 1 / 4
"""By how much a step down is clear, as a logarithm; of the window, how long it has lasted, and what was before it."""

_BEYOND_CHANCE = 3.0
"""So much more variance than chance explains, in a dozen slices, is no chance (one in a thousand)."""

_MOST = 1 << 32
"""Counts are kept in 32 bits."""

_FEW = 256
"""So few counters are added up when somebody asks; the sums of more are kept up to date."""

# A slice that is over is a string of bytes: ten thousand keys have a hundred thousand of them. In the head: when it
# was, how many answers, attempts cut off and lost it holds, the level (NaN for none) and the spread around it, both as
# logarithms, and how many of the pairs that follow are answers. Each pair is a bucket and its count.
_HEAD = struct.Struct("<qIIIffH")
_PAIR = struct.Struct("<HI")


def _packed(
    epoch: int, done: Mapping[int, int], cut: Mapping[int, int], lost: int, level: float, spread: float
) -> bytes:
    n_done, n_cut = sum(done.values()), sum(cut.values())
    pairs = [_PAIR.pack(*pair) for counts in (done, cut) for pair in counts.items()]
    return _HEAD.pack(epoch, n_done, n_cut, lost, level, spread, len(done)) + b"".join(pairs)


def _pairs(part: bytes) -> tuple[Iterator[tuple[int, int]], Iterator[tuple[int, int]]]:
    """The counts of answers and of attempts cut off."""
    border = _HEAD.size + _PAIR.size * _HEAD.unpack_from(part)[6]
    return (
        _PAIR.iter_unpack(part[_HEAD.size : border]),
        _PAIR.iter_unpack(part[border:]),
    )


class _Tally:
    """Counts by bucket in a tenth of the room of a dict, for what is changed now and then."""

    __slots__ = ("_buckets", "_counts")

    def __init__(self, counts: Mapping[int, int]) -> None:
        self._buckets = array("H", sorted(counts))
        self._counts = array("Q", [counts[bucket] for bucket in self._buckets])

    def __len__(self) -> int:
        return len(self._buckets)

    def change(self, bucket: int, by: int) -> None:
        buckets, counts = self._buckets, self._counts
        place = bisect_left(buckets, bucket)
        if place == len(buckets) or buckets[place] != bucket:
            buckets.insert(place, bucket)
            counts.insert(place, by)
        elif counts[place] == -by:
            del buckets[place], counts[place]
        else:
            counts[place] += by

    def as_dict(self) -> dict[int, int]:
        return dict(zip(self._buckets, self._counts, strict=True))

    def ascending(self) -> tuple[Sequence[int], list[int]]:
        return self._buckets, list(accumulate(self._counts))


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

    __slots__ = ("_cut", "_done", "_epoch", "_lost", "_ring", "_set", "_sums", "edges", "lost", "n_cut", "n_done")

    def __init__(self, settings: EstimatorSettings) -> None:
        self._set = settings
        self.edges = bucket_edges(settings.alpha)
        self._ring: list[bytes] = []  # the slices that are over, oldest first
        self._epoch: int | None = None  # the one that samples go to
        self._done: dict[int, int] = {}
        self._cut: dict[int, int] = {}
        self._lost = 0
        self._sums: tuple[_Tally, _Tally] | None = None
        self.n_done = self.n_cut = self.lost = 0

    @property
    def cells(self) -> int:
        """How many counters there are in memory."""
        kept = sum(len(part) - _HEAD.size for part in self._ring) // _PAIR.size
        return kept + len(self._done) + len(self._cut) + sum(map(len, self._sums or ()))

    def sums(self) -> tuple[Mapping[int, int], Mapping[int, int]]:
        """Answers by bucket; and attempts cut off, by the bucket of how long they had waited."""
        if self._sums is not None:
            return self._sums[0].as_dict(), self._sums[1].as_dict()
        done, cut = dict(self._done), dict(self._cut)
        for part in self._ring:
            for pairs, into in zip(_pairs(part), (done, cut), strict=True):
                for bucket, count in pairs:
                    into[bucket] = into.get(bucket, 0) + count
        return done, cut

    def ascending(self) -> tuple[Sequence[int], list[int]]:
        """The buckets of the answers in order, and how many answers there are up to each."""
        if self._sums is not None:
            return self._sums[0].ascending()
        done, _ = self.sums()
        buckets = sorted(done)
        return buckets, list(accumulate(map(done.__getitem__, buckets)))

    def add(self, answered: Mapping[int, int], timeouts: Mapping[int, int], lost: int, now: int) -> None:
        """Count samples at the point in time *now*; none may come before an earlier one."""
        epoch = now // self._set.slice_ns
        if self._epoch != epoch:
            self._end()
            self._epoch = epoch
        for samples, counts in ((answered, self._done), (timeouts, self._cut)):
            for bucket, count in samples.items():
                counts[bucket] = counts.get(bucket, 0) + count
        if self._sums is not None:
            for samples, tally in zip((answered, timeouts), self._sums, strict=True):
                for bucket, count in samples.items():
                    tally.change(bucket, count)
        self.n_done += sum(answered.values())
        self.n_cut += sum(timeouts.values())
        self.lost += lost
        self._lost += lost

    def _end(self) -> None:
        """The slice that samples went to is over."""
        if self._epoch is None:
            return
        done, cut, level, spread = self._done, self._cut, math.nan, math.nan
        n = sum(done.values()) + sum(cut.values())
        if n >= _LEVEL_SAMPLES:
            # Hidden by timeouts, as around an outage, it is unknown: the limit in force says nothing of the level.
            low, middle, high = (product_limit(done, cut, rank_of(p, n)) for p in (0.8, 0.9, 0.95))
            if low is not None and middle is not None:
                level = math.log(self.edge(middle))
                # From p80 to p90 or p95, each for a tenth of the values.
                top, tenths = (middle, 1.0) if high is None else (high, 1.5)
                spread = (math.log(self.edge(top)) - math.log(self.edge(low))) / tenths
        if self._sums is None and self.cells > _FEW:
            done_in_all, cut_in_all = self.sums()
            self._sums = _Tally(done_in_all), _Tally(cut_in_all)
        self._ring.append(_packed(self._epoch, done, cut, self._lost, level, spread))
        self._epoch = None
        self._done, self._cut = {}, {}
        self._lost = 0

    def edge(self, bucket: int) -> int:
        """The upper border of a bucket, ns."""
        return self.edges[min(bucket, len(self.edges) - 1)]

    def forget(self, now: int) -> None:
        """Drop slices that left the window, but keep enough of them to know something, up to a certain age."""
        newest = now // self._set.slice_ns
        too_old = (now - self._set.max_age) // self._set.slice_ns
        if self._epoch is not None and self._epoch <= newest - self._set.slices:
            self._end()
        while self._ring:
            epoch, done, cut, *_ = _HEAD.unpack_from(self._ring[0])
            enough = self.n_done + self.n_cut - done - cut >= self._set.need
            if epoch > newest - self._set.slices or not (enough or epoch < too_old):
                return
            self._drop()

    def step_down(self) -> None:
        """Drop what was before a clear step down of the level.

        Clear: the level of each slice since then lies by a fifth below that of each one before; both have lasted for a
        while, and what was since then is enough to go by. The first slice of the new ones goes too: in it ends what
        began before.
        """
        ring, new, held = self._ring, 0, sum(self._done.values())
        while new < len(ring) and (new < self._set.slices * _SINCE or held < self._set.need):
            new += 1
            held += _HEAD.unpack_from(ring[-new])[1]
        levels = [_HEAD.unpack_from(part)[4] for part in ring]
        since, before = levels[-new - 1 :], levels[: -new - 1]
        known = [level for level in before if not math.isnan(level)]
        if len(known) < self._set.slices * _BEFORE or held < self._set.need:
            return
        if min(known) > max(since) + _STEP and not any(map(math.isnan, since)):
            while len(ring) > new:
                self._drop()

    def _drop(self) -> None:
        """The oldest slice."""
        part = self._ring.pop(0)
        _, done, cut, lost, *_ = _HEAD.unpack_from(part)
        self.n_done -= done
        self.n_cut -= cut
        self.lost -= lost
        for pairs, tally in zip(_pairs(part), self._sums or (), strict=False):
            for bucket, count in pairs:
                tally.change(bucket, -count)

    def wander(self, cap: float) -> float:
        """How far the level of latency wanders, as a factor: exp(2 r sd of the logarithms of the p90 of the slices).

        Where the slices differ by chance alone, or wander within a slice, the window holds all of that already. So it
        counts as far as neighbors are alike: r is their correlation, by the mean square of the successive differences
        (von Neumann 1941). It is a quarter at least where they differ by more than chance, for then the window holds
        few levels that tell something new.
        """
        levels = [level for level in (_HEAD.unpack_from(part)[4] for part in self._ring) if not math.isnan(level)]
        n = len(levels)
        if n < 3:
            return 1.0
        mean = sum(levels) / n
        variance = sum((level - mean) ** 2 for level in levels) / n
        steps = sum((b - a) ** 2 for a, b in pairwise(levels)) / (n - 1)
        alike = 1 - steps / (2 * variance) if variance else 0.0
        least = 0.25 if self.independent() < 1 else 0.0
        return min(cap, math.exp(min(2 * max(least, alike) * math.sqrt(variance), 64.0)))

    def independent(self) -> float:
        """Which share of the samples tells something new, 0 to 1: less than all if slices differ more than by chance.

        By chance alone, the p90 of n values scatters by sqrt(0.9 * 0.1 / n) over the density of the values there.
        """
        heads = [head for head in map(_HEAD.unpack_from, self._ring) if not math.isnan(head[4])]
        n = len(heads)
        if n < 3:
            return 1.0
        mean = sum(head[4] for head in heads) / n
        seen = sum((head[4] - mean) ** 2 for head in heads) / n
        # And by the width of a bucket.
        chance = sum(9 * head[5] ** 2 / (head[1] + head[2]) for head in heads) / n + (2 * self._set.alpha) ** 2 / 12
        return chance / seen if seen > _BEYOND_CHANCE * chance else 1.0

    # -- from one process to the next ----------------------------------------------------------------------------------

    def dump(self, now: int) -> list[dict[str, Any]]:
        """Its slices, oldest first, as plain data; with how long ago each began, ns."""
        rows: list[tuple[int, Any, Any, int]] = []
        for part in self._ring:
            epoch, _, _, lost, *_ = _HEAD.unpack_from(part)
            rows.append((epoch, *_pairs(part), lost))
        if self._epoch is not None:
            rows.append((self._epoch, self._done.items(), self._cut.items(), self._lost))
        return [
            {
                "age": max(0, now - epoch * self._set.slice_ns),
                "answers": [list(pair) for pair in sorted(done)],
                "cut": [list(pair) for pair in sorted(cut)],
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
        if not isinstance(data, list):
            raise TypeError(f"slices must be a list, not {data!r}")
        slices: dict[int, tuple[dict[int, int], dict[int, int], list[int]]] = {}
        for part in data:
            if not isinstance(part, dict):
                raise TypeError(f"slices must hold objects, not {part!r}")
            missing = {"age", "answers", "cut", "lost"} - part.keys()
            if missing:
                raise ConfigError(f"slices must have {', '.join(sorted(missing))}")
            age = _checks.count("age", part["age"], minimum=0)
            done, cut, lost = slices.setdefault((now - age) // self._set.slice_ns, ({}, {}, [0]))
            self._read("answers", part["answers"], done)
            self._read("cut", part["cut"], cut)
            lost[0] += _checks.count("lost", part["lost"], minimum=0)
            for name, total in (("answers", sum(done.values())), ("cut", sum(cut.values())), ("lost", lost[0])):
                if total >= _MOST:
                    raise ConfigError(f"{name} must be below {_MOST} in each slice, not {total!r}")
        self._ring, self._epoch, self._sums = [], None, None
        self._done, self._cut, self._lost = {}, {}, 0
        self.n_done = self.n_cut = self.lost = 0
        for epoch in sorted(slices):
            done, cut, lost = slices[epoch]
            self.add(done, cut, lost[0], epoch * self._set.slice_ns)
        self.forget(now)

    def _read(self, name: str, rows: Any, into: dict[int, int]) -> None:
        if not isinstance(rows, list):
            raise TypeError(f"{name} must be a list of pairs, not {rows!r}")
        for row in rows:
            if not isinstance(row, (list, tuple)) or len(row) != 2:
                raise TypeError(f"{name} must hold pairs of a bucket and a count, not {row!r}")
            bucket = _checks.count("bucket", row[0], minimum=0)
            if bucket > len(self.edges):
                raise ConfigError(f"bucket must be at most {len(self.edges)}, not {bucket!r}")
            into[bucket] = into.get(bucket, 0) + _checks.count("count", row[1])
