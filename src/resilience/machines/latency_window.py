"""The latencies of the last minute, or of longer where traffic is low, as counts by bucket.

The window is a row of slices. A slice leaves when it is older than the window and the rest holds enough samples; or
when it is older than any may become. So the same settings serve one call a minute and ten thousand a second, and
memory depends on neither.

This file knows buckets and points in time that are handed in. It refuses to know what the counts are for.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

from .. import _checks
from ..errors import ConfigError
from .sketch import bucket_edges, rank_of
from .survival import product_limit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .estimator_settings import EstimatorSettings

__all__ = ["LatencyWindow"]

_LEVEL_SAMPLES = 10
"""A slice with fewer samples has no p90 to speak of."""

_MOST = 1 << 32
"""Counts are kept in 32 bits."""

_FEW = 256
"""So few counters are added up when somebody asks; the sums of more are kept up to date."""

# A slice that is over is a string of bytes: ten thousand keys have a hundred thousand of them. In the head: when it
# was, how many answers, attempts cut off and lost it holds, the level (NaN for none), and how many of the pairs that
# follow are answers. Each pair is a bucket and its count.
_HEAD = struct.Struct("<qIIIfH")
_PAIR = struct.Struct("<HI")


def _packed(epoch: int, done: Mapping[int, int], cut: Mapping[int, int], lost: int, level: float) -> bytes:
    n_done, n_cut = sum(done.values()), sum(cut.values())
    pairs = [_PAIR.pack(*pair) for counts in (done, cut) for pair in counts.items()]
    return _HEAD.pack(epoch, n_done, n_cut, lost, level, len(done)) + b"".join(pairs)


def _pairs(part: bytes) -> tuple[Iterator[tuple[int, int]], Iterator[tuple[int, int]]]:
    """The counts of answers and of attempts cut off."""
    border = _HEAD.size + _PAIR.size * _HEAD.unpack_from(part)[5]
    return (
        _PAIR.iter_unpack(part[_HEAD.size : border]),
        _PAIR.iter_unpack(part[border:]),
    )


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
        self._sums: tuple[dict[int, int], dict[int, int]] | None = None
        self.n_done = self.n_cut = self.lost = 0

    @property
    def cells(self) -> int:
        """How many counters there are in memory."""
        kept = sum(len(part) - _HEAD.size for part in self._ring) // _PAIR.size
        return kept + len(self._done) + len(self._cut) + sum(map(len, self._sums or ()))

    def sums(self) -> tuple[Mapping[int, int], Mapping[int, int]]:
        """Answers by bucket; and attempts cut off, by the bucket of how long they had waited."""
        if self._sums is not None:
            return self._sums
        done, cut = dict(self._done), dict(self._cut)
        for part in self._ring:
            for pairs, into in zip(_pairs(part), (done, cut), strict=True):
                for bucket, count in pairs:
                    into[bucket] = into.get(bucket, 0) + count
        return done, cut

    def add(self, answered: Mapping[int, int], timeouts: Mapping[int, int], lost: int, now: int) -> None:
        """Count samples at the point in time *now*; none may come before an earlier one."""
        epoch = now // self._set.slice_ns
        if self._epoch != epoch:
            self._end()
            self._epoch = epoch
        into = [(answered, self._done), (timeouts, self._cut)]
        if self._sums is not None:
            into += [(answered, self._sums[0]), (timeouts, self._sums[1])]
        for samples, counts in into:
            for bucket, count in samples.items():
                counts[bucket] = counts.get(bucket, 0) + count
        self.n_done += sum(answered.values())
        self.n_cut += sum(timeouts.values())
        self.lost += lost
        self._lost += lost

    def _end(self) -> None:
        """The slice that samples went to is over."""
        if self._epoch is None:
            return
        done, cut, level = self._done, self._cut, math.nan
        n = sum(done.values()) + sum(cut.values())
        if n >= _LEVEL_SAMPLES:
            # Hidden by timeouts, as around an outage, it is unknown: the limit in force says nothing of the level.
            bucket = product_limit(done, cut, rank_of(0.9, n))
            level = math.nan if bucket is None else math.log(self.edge(bucket))
        if self._sums is None and self.cells > _FEW:
            sums = self.sums()
            self._sums = dict(sums[0]), dict(sums[1])
        self._ring.append(_packed(self._epoch, done, cut, self._lost, level))
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
            epoch, done, cut, lost, _, _ = _HEAD.unpack_from(self._ring[0])
            enough = self.n_done + self.n_cut - done - cut >= self._set.need
            if epoch > newest - self._set.slices or not (enough or epoch < too_old):
                return
            self._drop(self._ring.pop(0))
            self.n_done -= done
            self.n_cut -= cut
            self.lost -= lost

    def _drop(self, part: bytes) -> None:
        """Take the counts of a slice off the sums."""
        for pairs, counts in zip(_pairs(part), self._sums or (), strict=False):
            for bucket, count in pairs:
                counts[bucket] -= count
                if not counts[bucket]:
                    del counts[bucket]

    def wander(self, cap: float) -> float:
        """How far the level of latency wanders between slices, as a factor: exp(2 sd of the logarithms of the p90)."""
        levels = [level for level in (_HEAD.unpack_from(part)[4] for part in self._ring) if not math.isnan(level)]
        if len(levels) < 2:
            return 1.0
        mean = sum(levels) / len(levels)
        spread = math.sqrt(sum((level - mean) ** 2 for level in levels) / len(levels))
        return min(cap, math.exp(min(2 * spread, 64.0)))

    # -- from one process to the next ----------------------------------------------------------------------------------

    def dump(self, now: int) -> list[dict[str, Any]]:
        """Its slices, oldest first, as plain data; with how long ago each began, ns."""
        rows: list[tuple[int, Any, Any, int]] = []
        for part in self._ring:
            epoch, _, _, lost, _, _ = _HEAD.unpack_from(part)
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
