"""What is peculiar about a distribution of latencies: how tight it is, how many humps it has, whether it wanders.

Pure: numbers in, numbers out. The thresholds are rules of thumb, each with its reason. Refuses to know advice.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DRIFTS", "TIGHT", "WANDERS", "Mode", "modes", "wander"]

TIGHT = 1.25
"""p95 / p50 below this: a delay of a quarter already makes a slow call."""

WANDERS = 1.5
"""``wander`` above this: the level moves by half between stretches, as round trips over the internet do."""

DRIFTS = 1.25
"""Percentile of one half of the record to that of the other: above this, yesterday's number is not today's."""

_VALLEY = 0.5
"""Between two humps the density must fall to this share of the lower one."""

_APART = 1.5
"""And their tops must be apart by this factor."""

_COARSE = 3
"""And by more than so many steps of the clock that measured: between two steps there is nothing, of course."""

_SHARE = 0.01
"""And each must hold this share of the calls."""

_ENOUGH = 50
"""And this many of them."""


class Mode(NamedTuple):
    """One hump: where its top is, ns, and the share of calls that belong to it."""

    at: float
    share: float


def modes(density: Sequence[tuple[float, float]]) -> list[Mode]:
    """The humps of a density over the logarithm of latency; one, if nothing clearly parts it.

    Args:
        density: (latency, count), evenly spaced on a logarithmic scale, ascending.
    """
    counts = [count for _, count in density]
    total = sum(counts)
    if not total or len(density) < 3:
        return [Mode(at, 1.0) for at, count in density if count][:1]
    smooth = _smoothed(counts, _width(counts))
    held = [at for at, count in density if count]
    finest = min((after - before for before, after in pairwise(held)), default=0.0)
    tops = [n for n, here in enumerate(smooth) if here > 0 and _is_top(smooth, n)]
    kept = tops[:1]
    valleys: list[int] = []
    for top in tops[1:]:
        low = min(range(kept[-1], top + 1), key=smooth.__getitem__)
        before, at = density[kept[-1]][0], density[top][0]
        apart = at >= _APART * before and at - before > _COARSE * finest
        if apart and smooth[low] <= _VALLEY * min(smooth[kept[-1]], smooth[top]):
            kept.append(top)
            valleys.append(low)
        elif smooth[top] > smooth[kept[-1]]:
            kept[-1] = top
    return _weighed(density, counts, kept, valleys)


def _weighed(
    density: Sequence[tuple[float, float]], counts: Sequence[float], tops: list[int], valleys: list[int]
) -> list[Mode]:
    """Drop humps that hold too little, giving what they hold to the neighbor."""
    total = sum(counts)
    while True:
        borders = [0, *valleys, len(counts)]
        masses = [sum(counts[a:b]) for a, b in pairwise(borders)]
        small = min(range(len(masses)), key=masses.__getitem__)
        if len(masses) == 1 or (masses[small] >= _SHARE * total and masses[small] >= _ENOUGH):
            return [Mode(density[top][0], mass / total) for top, mass in zip(tops, masses, strict=True)]
        del tops[small]
        del valleys[min(small, len(valleys) - 1) if small == 0 else small - 1]


def _width(counts: Sequence[float]) -> float:
    """Silverman's bandwidth in cells, by the quartiles, and no finer than the record itself."""
    total = sum(counts)
    marks = []
    for share in (0.25, 0.75):
        wanted, n = share * total, 0
        while wanted > counts[n]:
            wanted -= counts[n]
            n += 1
        marks.append(n)
    spread = (marks[1] - marks[0]) / 1.34
    held = [n for n, count in enumerate(counts) if count > 0]
    gaps = sorted(b - a for a, b in pairwise(held))
    coarse = gaps[len(gaps) * 3 // 4] if gaps else 1
    width: float = 0.9 * spread / math.exp(0.2 * math.log(total))
    return max(width, 1.0, 0.8 * coarse if coarse > 1 else 0.0)


def _smoothed(counts: Sequence[float], cells: float) -> list[float]:
    reach = math.ceil(3 * cells)
    kernel = [math.exp(-0.5 * (n / cells) ** 2) for n in range(-reach, reach + 1)]
    size = len(counts)
    return [
        sum(
            kernel[k - n + reach] * counts[k]
            for k in range(max(0, n - reach), min(size, n + reach + 1))
            if counts[k]
        )
        for n in range(size)
    ]  # fmt: skip


def _is_top(values: Sequence[float], n: int) -> bool:
    before = values[n - 1] if n else 0.0
    after = values[n + 1] if n + 1 < len(values) else 0.0
    return values[n] > before and values[n] >= after


def wander(levels: Sequence[float]) -> float:
    """How far the level of latency moves between stretches, as a factor: exp of twice the standard deviation.

    Args:
        levels: the logarithm of the level of each stretch.
    """
    if len(levels) < 4:
        return 1.0
    mean = sum(levels) / len(levels)
    return math.exp(min(2 * math.sqrt(sum((level - mean) ** 2 for level in levels) / len(levels)), 64.0))
