"""What the learned timeout keeps within bounds: its memory, its error in that little room, its growth in an outage."""

from __future__ import annotations

import math
import random
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regimes import MS, SECOND, make
from resilience.machines.sketch import chance


def test_memory_is_bounded_whatever_comes() -> None:
    """Bytes do not grow with the number of samples, nor with how far they are apart, nor where the window stretches."""
    rng = random.Random(8)
    for each, p in ((500, 0.99), (1, 0.9999)):
        estimator = make(p, ceiling=1000 * SECOND)
        for second in range(1000 if each == 1 else 200):
            estimator.absorb([round(10 ** rng.uniform(0, 12)) for _ in range(each)], second * SECOND)
            estimator.refresh(second * SECOND)
            assert estimator._window.cells <= 4000
        slices = estimator._window.dump(1000 * SECOND)
        assert len(slices) <= 14
        assert sum(estimator._window.sums()[0].values()) == estimator._window.n_done
        assert estimator._window.n_done == sum(n for part in slices for _, n in part["answers"])


@given(st.integers(0, 1000), st.sampled_from([3, 80, 700]), st.floats(0.1, 1.2))
@settings(max_examples=20)
def test_a_slice_that_is_over_is_known_nearly_as_well_as_before(seed: int, each: int, sigma: float) -> None:
    """Every quantile from the lower quartile up lies within three buckets of the exact one, with steady drift too."""
    rng, estimator, seen = random.Random(seed), make(confidence=None), deque[list[int]]()
    for step in range(30):
        level = 0.02 * math.exp(0.5 * math.sin(step / 3))
        seen.append([max(1, round(rng.lognormvariate(math.log(level), sigma) * SECOND)) for _ in range(each)])
        estimator.absorb(seen[-1], step * 5 * SECOND)
        estimator.refresh(step * 5 * SECOND)
    latest: list[int] = []
    while len(latest) < estimator._window.n_done:
        latest += seen.pop()
    assert len(latest) == estimator._window.n_done or each == 3
    if each > 3:
        latest.sort()
        for p in (0.25, 0.5, 0.9, 0.95, 0.99, 0.999):
            exact = latest[math.ceil(p * len(latest) - 1e-9) - 1]
            found = estimator.quantile(p)
            assert found is not None
            assert 1.0203**-3 <= found / exact <= 1.0203**4


@given(st.integers(1, 60), st.floats(0.001, 0.5), st.data())
def test_chance_is_the_binomial_tail(n: int, share: float, data: st.DataObject) -> None:
    """Of n values, at least k among the highest share."""
    k = data.draw(st.integers(0, n))
    exact = sum(math.comb(n, j) * share**j * (1 - share) ** (n - j) for j in range(k, n + 1))
    found = chance(k, n, share)
    assert found == (1.0 if k <= n * share else pytest.approx(exact, abs=1e-9))


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.sampled_from(["answer", "late", "cut", "lost"]), st.integers(MS, 5 * SECOND)), max_size=40),
    st.sampled_from([1, 5, 40]),
    st.sampled_from([0.95, 0.99, 0.999]),
    st.integers(0, 2),
)
def test_while_nothing_is_answered_it_at_most_doubles(
    before: list[tuple[str, int]], rate: int, p: float, watched: int
) -> None:
    """Whatever was seen before, and at whatever rate it is called: from the last answer on, for a window."""
    estimator, now = make(p, minimum=5), 0
    for what, size in before:
        now += SECOND // 3
        if what == "late":
            estimator.late(size, now)
        elif what == "lost":
            estimator.lost(now)
        else:
            estimator.absorb([size if what == "answer" else -size] * 8, now)
        estimator.refresh(now)
    now += SECOND
    estimator.refresh(now)
    start, end = estimator.ns, now + 50 * SECOND
    estimator.watched = watched
    while now < end:
        now += SECOND // rate
        estimator.absorb([-estimator.ns], now)
        estimator.refresh(now)
        assert estimator.ns <= 2 * start + 1
