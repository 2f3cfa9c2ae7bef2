"""Counts of durations by bucket, in little room: those of a whole window, and those of a slice of it that is over.

A *tally* has a cell for each bucket between its lowest and its highest, of one byte while all counts fit. What is
over is kept as *groups* of neighboring buckets, some two bytes each. There is one for each bucket in use, if these
are few; else a group holds at most a certain share of what lies *above* it, and of all. So the tail, which timeouts
are read from, is kept bucket by bucket, and the number of groups is bounded.

Within a group its values count as spread evenly over it. What is there says no more, so what is added for a slice
and what is taken away again when it leaves are the same, to the last one.

This file knows buckets and counts. It refuses to know what a bucket spans, and time.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from itertools import accumulate, compress
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "Group",
    "Tally",
    "added",
    "counts_of",
    "grouped",
    "packed",
    "spread_out",
    "unpacked",
    "up_to_each",
    "without",
]

Tally: TypeAlias = "array[int]"
"""Where it begins, in steps of 16 buckets, so that this fits into a cell; and a count for each bucket from there on.

There are forty thousand of them for ten thousand keys: an object around each would take as much room as most counts.
"""

Group = tuple[int, int, int]
"""The lowest bucket, the highest, and how many values they hold together. Groups are in ascending order."""

_STEP = 4
"""As a power of two."""

_LONG = 15
"""What does not fit into half a byte follows."""

_BODY = 3
"""A group holds at most one k-th of what lies above it, and one in *_BODY* k of all."""


def added(tally: Tally | None, counts: Mapping[int, int], most: int) -> Tally:
    """The tally with more counts, which may be the same object.

    It reaches over *most* buckets: what lies lower counts as the lowest of these.
    """
    tally = _reaching(tally, min(counts), max(counts), most)
    first = (tally[0] << _STEP) - 1
    for bucket, count in counts.items():
        place = bucket - first if bucket > first else 1
        try:
            tally[place] += count
        except OverflowError:
            tally = _fitting([*tally[:place], tally[place] + count, *tally[place + 1 :]])
    return tally


def without(tally: Tally, counts: Mapping[int, int]) -> Tally:
    """The tally without what was added to it once."""
    first, last = (tally[0] << _STEP) - 1, len(tally) - 1
    for bucket, count in counts.items():
        place = min(max(1, bucket - first), last)
        if count <= tally[place]:
            tally[place] -= count
        else:  # it fell together with others meanwhile
            _take_near(tally, place, count)
    used = list(compress(range(1, last + 1), tally[1:]))
    if not used:
        return array("B", [0])
    skipped = used[0] - 1 >> _STEP
    return _fitting([tally[0] + skipped, *tally[1 + (skipped << _STEP) : used[-1] + 1]])


def counts_of(tally: Tally | None) -> dict[int, int]:
    """The counts above 0, by bucket, in ascending order."""
    if tally is None:
        return {}
    cells = tally.tolist()
    cells[0] = 0  # where it begins is no count
    return dict(compress(enumerate(cells, (tally[0] << _STEP) - 1), cells))


def up_to_each(tally: Tally | None) -> tuple[range, list[int]]:
    """All its buckets in ascending order, and the sum of the counts up to each."""
    if tally is None:
        return range(0), []
    first = tally[0] << _STEP
    return range(first, first + len(tally) - 1), list(accumulate(tally[1:]))


def _reaching(tally: Tally | None, low: int, high: int, most: int) -> Tally:
    """A tally with cells from *low* to *high*, but with no more than *most*: the highest come first."""
    if tally is None or len(tally) == 1:
        begin = max(low, high - most + 1) >> _STEP
        return _fitting([begin, *bytes(high - (begin << _STEP) + 1)])
    first = tally[0] << _STEP
    top = first + len(tally) - 2
    begin = max(min(low, first), max(high, top) - most + 1) >> _STEP
    if begin << _STEP == first and high <= top:
        return tally
    cells = [*tally[1:], *bytes(max(0, high - top))]
    away = (begin << _STEP) - first
    if away > 0:
        cells = [sum(cells[: away + 1]), *cells[away + 1 :]]
    return _fitting([begin, *bytes(max(0, -away)), *cells])


def _fitting(numbers: list[int]) -> Tally:
    """In cells of as few bytes as will do."""
    most = max(numbers)
    return array(next(code for code in "BHIQ" if most < 1 << 8 * array(code).itemsize), numbers)


def _take_near(tally: Tally, place: int, count: int) -> None:
    """Take *count* out of the cells next to *place*."""
    for near in sorted(range(1, len(tally)), key=lambda at: abs(at - place)):
        gone = min(count, tally[near])
        tally[near] -= gone
        count -= gone
        if not count:
            return


# -- what is over ------------------------------------------------------------------------------------------------------


def grouped(counts: Mapping[int, int], most: int) -> list[Group]:
    """The counts in groups, as many as *most*."""
    if len(counts) <= most:
        return [(bucket, bucket, counts[bucket]) for bucket in sorted(counts)]
    buckets = sorted(counts, reverse=True)
    sums = list(accumulate(map(counts.__getitem__, buckets)))
    n = sums[-1]
    share = most / (1.5 + math.log(n))  # so many it will be, or some fewer
    while True:
        groups: list[Group] = []
        start = above = 0
        while start < len(buckets) and len(groups) <= most:
            end = max(start + 1, bisect_right(sums, above + min(above / share, n / (_BODY * share)), start))
            groups.append((buckets[end - 1], buckets[start], sums[end - 1] - above))
            start, above = end, sums[end - 1]
        if len(groups) <= most:
            return groups[::-1]
        share *= 0.85


def spread_out(groups: Iterable[Group]) -> dict[int, int]:
    """Counts by bucket as they may have been: in each group one at either end, and the others evenly over it."""
    counts: dict[int, int] = {}
    for low, high, count in groups:
        if low == high:
            counts[low] = count
            continue
        width, rest, before = 2 * (high - low + 1), count - 2, 0
        for bucket in range(low, high + 1):
            up_to = (2 * rest * (bucket - low + 1) + width // 2) // width
            here = up_to - before + (bucket in (low, high))
            before = up_to
            if here:
                counts[bucket] = here
    return counts


def packed(groups: Iterable[Group]) -> bytes:
    """The same in some two bytes a group."""
    out = bytearray()
    before = -1
    for low, high, count in groups:
        gap, width = low - before - 1, high - low
        out.append(min(gap, _LONG) << 4 | min(width, _LONG))
        if gap >= _LONG:
            _write(out, gap - _LONG)
        if width >= _LONG:
            _write(out, width - _LONG)
        _write(out, count)
        before = high
    return bytes(out)


def _write(out: bytearray, number: int) -> None:
    """Seven bits a byte, the lowest first; the eighth says that more follow."""
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)


def unpacked(data: bytes) -> Iterator[Group]:
    """Back again."""
    rest = iter(data)
    before = -1

    def number(byte: int) -> int:
        value = shift = 0
        while byte > 127:
            value |= (byte & 127) << shift
            shift += 7
            byte = next(rest)
        return value | byte << shift

    for first in rest:
        gap, width = first >> 4, first & _LONG
        if gap == _LONG:
            gap += number(next(rest))
        if width == _LONG:
            width += number(next(rest))
        low = before + 1 + gap
        before = low + width
        yield low, before, number(next(rest))
