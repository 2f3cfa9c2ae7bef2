"""A quantile read off durations of which some are only known to be "longer than this", and some never ended.

Kaplan and Meier's product-limit estimate (JASA 1958), on counts by bucket. This file knows counts, and nothing of
what a bucket spans.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING

from ..errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["merged_rank", "never_ends", "product_limit"]


def product_limit(done: Mapping[int, int], cut: Mapping[int, int], k: int, lost: int = 0) -> int | None:
    """The first bucket at which the product-limit estimate of the distribution reaches k/n of what ever ends.

    Each value that was cut off hands its weight on to the values above it. In one bucket the complete values come
    first. Without values cut off below it, the answer is that of the k-th smallest value, in exact integers.

    Args:
        done: how many values were seen whole, by bucket.
        cut: how many are only known to be longer, by the bucket of what is known.
        k: the rank, 1 to n, where n is the number of all of them.
        lost: how many were watched for so long that they count as endless. The rank is one among the others then: the
            share that never ends says nothing of how long the rest take.

    Returns:
        ``None`` if the estimate never reaches that: too many values were cut off.
    """
    keys, split = _before_cuts(done, cut)
    totals = list(accumulate(map(done.__getitem__, keys[:split])))
    below = totals[-1] if totals else 0
    at_risk = sum(map(done.__getitem__, keys[split:])) + sum(cut.values()) + lost
    n = below + at_risk
    rank: float = k
    if lost:  # the tiny factor undoes the rounding
        rank *= (1 - _left(done, cut, keys[split:], at_risk, n)) * (1 - 1e-12)
    if below >= rank:
        return keys[bisect_left(totals, rank)]
    survival, wanted = at_risk / n, (n - rank) / n + 1e-12
    for bucket in sorted({*keys[split:], *cut}):
        seen = done.get(bucket, 0)
        if seen:
            survival *= 1 - seen / at_risk
            if survival <= wanted:
                return bucket
        at_risk -= seen + cut.get(bucket, 0)
    return None


def never_ends(done: Mapping[int, int], cut: Mapping[int, int], lost: int) -> float:
    """The share that never ends, by the same estimate: what is left of it above the longest value. 0 if none is *lost*.

    Values cut off early are shared out between the late and the lost, in the proportion in which those that were
    watched fell to either side.
    """
    if not lost:
        return 0.0
    keys, split = _before_cuts(done, cut)
    at_risk = sum(map(done.__getitem__, keys[split:])) + sum(cut.values()) + lost
    return _left(done, cut, keys[split:], at_risk, at_risk + sum(map(done.__getitem__, keys[:split])))


def _before_cuts(done: Mapping[int, int], cut: Mapping[int, int]) -> tuple[list[int], int]:
    """The buckets of complete values in order, and how many of them lie below all that was cut off."""
    keys = sorted(done)
    return keys, bisect_left(keys, min(cut)) if cut else len(keys)


def _left(done: Mapping[int, int], cut: Mapping[int, int], keys: list[int], at_risk: int, n: int) -> float:
    """What is left of *n* above the longest value, where *keys* are the buckets with *at_risk* not below them."""
    survival = at_risk / n
    gone = sorted(cut) if keys else []
    before = 0
    for bucket in keys:
        while before < len(gone) and gone[before] < bucket:
            at_risk -= cut[gone[before]]
            before += 1
        survival *= 1 - done[bucket] / at_risk
        at_risk -= done[bucket]
    return survival


def merged_rank(done: Mapping[int, int], cut: Mapping[int, int], k: int) -> int:
    """The bucket of the k-th smallest value when those cut off are taken for whole."""
    wanted = sum(done.values()) + sum(cut.values()) - k + 1
    for bucket in sorted({*done, *cut}, reverse=True):
        wanted -= done.get(bucket, 0) + cut.get(bucket, 0)
        if wanted <= 0:
            return bucket
    raise ConfigError(f"k must be a rank of the values, not {k!r}")
