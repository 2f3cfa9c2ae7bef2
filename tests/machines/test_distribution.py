"""Counts of durations by bucket, against the durations themselves."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.machines.distribution import ALPHA, EDGES, Distribution, binned

GAMMA = (1 + ALPHA) / (1 - ALPHA)
DURATIONS = st.lists(
    st.one_of(
        st.integers(0, 10**4),
        st.integers(0, 10**12),
        st.integers(0, 1 << 62),
        st.sampled_from([0, 1, 2, *EDGES[300:310], *(edge + 1 for edge in EDGES[300:310])]),
    ),
    max_size=60,
)
BORDERS = st.lists(st.one_of(st.integers(0, 10**12), st.sampled_from(EDGES)), max_size=12).map(sorted)


def of(durations: list[int]) -> Distribution:
    found = Distribution()
    found.add(durations)
    return found


def state(found: Distribution) -> tuple[dict[int, int], int, int]:
    return found.counts, found.count, found.sum


@given(DURATIONS)
def test_number_and_sum_are_exact(durations: list[int]) -> None:
    """Whatever the buckets."""
    found = of(durations)
    assert (found.count, found.sum) == (len(durations), sum(durations))
    assert sum(found.counts.values()) == len(durations)


@given(DURATIONS, BORDERS)
def test_below_counts_too_few_only_just_below_a_border(durations: list[int], borders: list[int]) -> None:
    """Never one above the border; and what is missed lies less than 2 % (and a nanosecond) below it."""
    found = of(durations).below(borders)
    assert len(found) == len(borders)
    for border, counted in zip(borders, found, strict=True):
        assert sum(d <= border / GAMMA - 1 for d in durations) <= counted <= sum(d <= border for d in durations)
    assert found == sorted(found)


@given(DURATIONS)
def test_below_is_exact_on_the_edges_of_buckets(durations: list[int]) -> None:
    """A reader who takes its borders from the buckets has the true counts."""
    edges = EDGES[::50]
    assert of(durations).below(edges) == [sum(d <= edge for d in durations) for edge in edges]


@given(DURATIONS.filter(bool), st.floats(0.0, 1.0))
def test_a_quantile_is_at_most_a_bucket_too_high(durations: list[int], p: float) -> None:
    """Never below the true value, and less than 2 % (and a nanosecond) above it."""
    rank = max(1, math.ceil(p * len(durations) * (1 - 1e-12)))
    true = sorted(durations)[rank - 1]
    found = of(durations).quantile(p)
    assert found is not None
    assert true <= found <= max(1, true * GAMMA + 1)


def test_nothing_has_no_quantile() -> None:
    """And nothing below any border."""
    assert Distribution().quantile(0.5) is None
    assert Distribution().below([1, 2]) == [0, 0]


@given(st.lists(DURATIONS, max_size=5))
def test_merging_is_adding_all(parts: list[list[int]]) -> None:
    """In whatever grouping; what was merged is not changed by it."""
    together = Distribution()
    for part in map(of, parts):
        before = state(part.copy())
        together.merge(part)
        assert state(part) == before
    assert state(together) == state(of([d for part in parts for d in part]))


@given(DURATIONS, DURATIONS)
def test_a_copy_goes_its_own_way(first: list[int], second: list[int]) -> None:
    """Neither sees what the other one counts later."""
    original = of(first)
    copy = original.copy()
    assert state(copy) == state(original)
    original.add(second)
    assert state(copy) == state(of(first))
    copy.add([7])
    assert state(original) == state(of(first + second))


@given(DURATIONS)
def test_bins_that_are_known_need_not_be_made_again(durations: list[int]) -> None:
    """With them and without, the same."""
    found = Distribution()
    found.add(durations, binned(durations))
    assert state(found) == state(of(durations))


@pytest.mark.parametrize("durations", [[1 << 62], [10**20], [0], [1]])
def test_the_shortest_and_the_longest_have_a_bucket(durations: list[int]) -> None:
    """Longer than 146 years is counted in the last one; no time at all in the first."""
    found = of(durations)
    assert found.quantile(1.0) == EDGES[min(next(iter(found.counts)), len(EDGES) - 1)]
    assert found.below([10**30]) == [1] or durations == [10**20]
