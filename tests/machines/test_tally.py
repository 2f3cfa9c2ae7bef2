"""Counts in little room: nothing is lost, what is over is known to its groups, and the tail to its buckets."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from resilience.machines.tally import added, counts_of, grouped, packed, spread_out, unpacked, without

COUNTS = st.dictionaries(st.integers(0, 2200), st.integers(1, 70_000), min_size=1, max_size=80)
GROUPS = 16
RANGE = 3000


@given(st.lists(COUNTS, max_size=8))
def test_what_was_added_is_there_and_what_is_taken_away_is_gone(parts: list[dict[int, int]]) -> None:
    """Bucket by bucket, however large the counts and however wide their range; and in any order."""
    tally, expected = None, Counter[int]()
    for part in parts:
        tally = added(tally, part, RANGE)
        expected.update(part)
    assert counts_of(tally) == expected
    assert list(counts_of(tally)) == sorted(expected)
    for part in parts[::-1]:
        assert tally is not None
        tally = without(tally, part)
        expected -= Counter(part)
        assert counts_of(tally) == expected
    assert tally is None or len(tally) == 1


@given(st.lists(COUNTS, min_size=1, max_size=8), st.integers(16, 500))
def test_what_lies_too_low_falls_together_and_is_not_lost(parts: list[dict[int, int]], most: int) -> None:
    """It counts as longer than it is, never as shorter; and it goes when it is taken away."""
    tally, expected = None, Counter[int]()
    for part in parts:
        tally = added(tally, part, most)
        expected.update(part)
    found = counts_of(tally)
    lowest = max(expected) - most + 1
    assert sum(found.values()) == expected.total()
    assert min(found) >= lowest - 16
    assert {bucket: count for bucket, count in found.items() if bucket > lowest + 16} == {
        bucket: count for bucket, count in expected.items() if bucket > lowest + 16
    }
    for part in parts:
        assert tally is not None
        tally = without(tally, part)
    assert not counts_of(tally)


@given(COUNTS)
def test_groups_keep_the_tail_and_a_share_of_all(counts: dict[int, int]) -> None:
    """There are few; together they hold everything, in order; the highest buckets stand alone."""
    groups = grouped(counts, GROUPS)
    assert len(groups) <= GROUPS
    assert sum(count for _, _, count in groups) == sum(counts.values())
    assert all(a[1] < b[0] for a, b in pairwise(groups))
    assert all(low in counts and high in counts for low, high, _ in groups)
    assert groups[-1][:2] == (max(counts), max(counts))
    if len(counts) <= GROUPS:
        assert groups == [(bucket, bucket, counts[bucket]) for bucket in sorted(counts)]
    n = sum(counts.values())
    share = GROUPS / (1.5 + math.log(n)) / 3
    above = n
    for low, high, count in groups:
        above -= count
        assert low == high or count <= above / share


@given(COUNTS)
def test_packing_is_exact_and_small(counts: dict[int, int]) -> None:
    """Groups come back as they were; in some four bytes each at these counts."""
    groups = grouped(counts, GROUPS)
    data = packed(groups)
    assert list(unpacked(data)) == groups
    assert len(data) <= 8 * len(groups)


@given(COUNTS)
def test_what_is_spread_out_stays_in_its_group(counts: dict[int, int]) -> None:
    """As much in each as it held, something at either end, and so the same groups' borders hold the same counts."""
    groups = grouped(counts, GROUPS)
    spread = spread_out(groups)
    for low, high, count in groups:
        assert sum(spread.get(bucket, 0) for bucket in range(low, high + 1)) == count
        assert spread[low] >= 1
        assert spread[high] >= 1
    assert sum(spread.values()) == sum(counts.values())
