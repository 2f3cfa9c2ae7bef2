"""How often a healthy service trips the circuit: simulated and enumerated, against formulas.

The formulas are those of runs in Bernoulli trials and of the binomial tail; the published numbers
are from the design notes of this project.
"""

from __future__ import annotations

from itertools import product
from math import comb
from random import Random

import pytest

from resilience.machines.circuit import FAILURE, SUCCESS, Circuit, Settings


def half() -> float:
    """Chance plays no part here."""
    return 0.5


def tripping(*, failure_rate: float | None = 0.5, consecutive: int | None = None, size: int = 10) -> Circuit:
    """A circuit with a full window as its minimum volume."""
    return Circuit(
        Settings(
            failure_rate=failure_rate,
            consecutive=consecutive,
            minimum=size,
            calls=size,
            open_for_ns=1,
            max_open_ns=1,
            probes=1,
            probe_timeout_ns=1,
        )
    )


def trip_count(circuit: Circuit, e: float, calls: int, rng: Random) -> int:
    """Trips of a service that fails with probability *e*, the circuit being reset after each."""
    trips = 0
    for _ in range(calls):
        if rng.random() >= e:
            circuit.success(circuit.generation, 0)
        elif circuit.settle(circuit.generation, FAILURE, False, 0, half):
            trips += 1
            circuit.reset(0)
    return trips


@pytest.mark.parametrize(("k", "e"), [(2, 0.1), (3, 0.3), (5, 0.3), (5, 0.5)])
def test_mean_distance_of_consecutive_trips(k: int, e: float) -> None:
    """Between trips by k failures in a row lie (1 - e^k) / ((1 - e) e^k) calls on average."""
    expected = (1 - e**k) / ((1 - e) * e**k)
    calls = round(1_500 * expected)
    trips = trip_count(tripping(failure_rate=None, consecutive=k), e, calls, Random(f"{k} failures at {e}"))

    # The distances are nearly exponential: the standard error is 1 / sqrt(1500), 2.6 %.
    assert calls / trips == pytest.approx(expected, rel=0.08)


@pytest.mark.parametrize(("e", "tail"), [(0.05, 6e-5), (0.1, 1.6e-3), (0.2, 3.3e-2)])
def test_false_trips_of_a_window_are_the_binomial_tail(e: float, tail: float) -> None:
    """Over every outcome of ten calls, bad windows and trips are as likely as the formula says."""
    bad = tripped = 0.0
    for fails in product((False, True), repeat=10):
        weight = e ** sum(fails) * (1 - e) ** (10 - sum(fails))
        circuit = tripping()
        moved = [circuit.settle(0, FAILURE if failed else SUCCESS, False, 0, half) for failed in fails]
        _, failures, _ = circuit.window.counts(0)
        bad += weight * (failures / 10 >= 0.5)
        tripped += weight * any(moved)

    def at_least(k: int, n: int) -> float:
        return sum(comb(n, i) * e**i * (1 - e) ** (n - i) for i in range(k, n + 1))

    assert bad == pytest.approx(at_least(5, 10), rel=1e-9)
    assert bad == pytest.approx(tail, rel=0.07)
    # Only a failure is weighed, so the tenth call has to be one.
    assert tripped == pytest.approx(e * at_least(4, 9), rel=1e-9)


@pytest.mark.parametrize(("n", "e", "published"), [(10, 0.1, 66), (20, 0.2, 70)])
def test_false_trips_of_a_sliding_window(n: int, e: float, published: int) -> None:
    """Weighed after each call, a healthy service trips as often as was published for 1e5 calls."""
    trips = trip_count(tripping(size=n), e, 400_000, Random(n))

    assert trips / 4 == pytest.approx(published, rel=0.2)
