"""The histogram: its error bound, its merge, its borders, and what it writes down."""

from __future__ import annotations

import json
import math
from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.errors import ConfigError
from resilience.machines.sketch import Sketch, bucket_edges

VALUES = st.lists(st.integers(1, 10**13), min_size=1, max_size=300)
ALPHAS = st.sampled_from([0.005, 0.01, 0.02, 0.05])


def filled(values: list[int], alpha: float = 0.01) -> Sketch:
    sketch = Sketch(alpha)
    for value in values:
        sketch.add(value)
    return sketch


@given(VALUES, st.floats(0, 1), ALPHAS)
def test_quantiles_are_within_the_stated_error(values: list[int], p: float, alpha: float) -> None:
    """Against the exact order statistic: the estimate within alpha either way, the quantile never below."""
    sketch = filled(values, alpha)
    exact = sorted(values)[max(1, math.ceil(p * len(values) * (1 - 1e-12))) - 1]
    assert abs(sketch.estimate(p) - exact) <= alpha * exact * 1.0001 + 1
    assert exact <= sketch.quantile(p) <= exact * (1 + alpha) / (1 - alpha) + 1


@given(VALUES, VALUES, VALUES)
def test_merging_is_exact_in_any_order(a: list[int], b: list[int], c: list[int]) -> None:
    """Merging is adding everything to one sketch; associative and commutative."""
    left = filled(a)
    left.merge(filled(b))
    left.merge(filled(c))
    inner = filled(c)
    inner.merge(filled(b))
    inner.merge(filled(a))
    assert left.dump() == inner.dump() == filled(a + b + c).dump()


@given(VALUES)
def test_what_is_written_down_comes_back(values: list[int]) -> None:
    """Through JSON and back, it is the same sketch."""
    sketch = filled(values)
    assert Sketch.load(json.loads(json.dumps(sketch.dump()))).dump() == sketch.dump()


@given(st.integers(1, 10**15), ALPHAS)
def test_a_value_lies_in_its_bucket(value: int, alpha: float) -> None:
    """The border below is smaller than the value, the one above is not; also for values on a border."""
    edges = bucket_edges(alpha)
    for ns in (value, edges[bisect_left(edges, value)], edges[bisect_left(edges, value)] + 1):
        bucket = bisect_left(edges, ns)
        assert edges[bucket] >= ns
        assert bucket == 0 or edges[bucket - 1] < ns


def test_memory_is_bounded_by_the_buckets() -> None:
    """A hundred thousand different values take no more counters than there are buckets in their range."""
    sketch = filled(list(range(1_000_000, 100_000_000_000, 1_000_001)))
    gamma = (1 + 0.01) / (1 - 0.01)
    assert len(sketch._buckets) <= math.log(1e5) / math.log(gamma) + 2


def test_values_below_a_nanosecond_count_as_one() -> None:
    """Zero and negative durations, from clocks that step back, are counted all the same."""
    assert filled([0, -5]).quantile(1.0) == 1


@pytest.mark.parametrize("alpha", [0, 0.0001, 0.5, math.nan])
def test_a_relative_error_out_of_range_is_refused(alpha: float) -> None:
    """Alpha is named in the error."""
    with pytest.raises(ConfigError, match="alpha"):
        Sketch(alpha)


@pytest.mark.parametrize("change", [{"min": 0}, {"max": 10**18}, {"sum": 0}, {"buckets": [[1, 0]]}, {"alpha": 2}])
def test_impossible_records_are_refused(change: dict[str, object]) -> None:
    """What was written down is checked when it is read."""
    with pytest.raises(ConfigError):
        Sketch.load({**filled([10**6, 10**7]).dump(), **change})


def test_an_empty_sketch_has_no_quantile() -> None:
    """And sketches of different error cannot be merged."""
    with pytest.raises(ConfigError, match="empty"):
        Sketch().quantile(0.5)
    with pytest.raises(ConfigError, match="alpha"):
        Sketch(0.01).merge(filled([1], 0.02))
