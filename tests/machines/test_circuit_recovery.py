"""The circuit by examples: open time, probes, and the way back."""

from __future__ import annotations

from random import Random

import pytest

from machines.circuits import S, admit, build, half, never
from resilience.machines.circuit import (
    FAILURE,
    IGNORED,
    SUCCESS,
    Circuit,
    Event,
    Probe,
    State,
)


def call(circuit: Circuit, now: int, failed: bool = False, slow: bool = False) -> Event | None:
    """One call from beginning to end, in no time, and what came of it."""
    outcome = FAILURE if failed else SUCCESS
    moved = circuit.settle(admit(circuit, now), outcome, slow, now, half)
    return moved.event if moved else None


def opened(**changes: object) -> Circuit:
    """A circuit that was tripped at 0."""
    circuit = build(**changes)
    circuit.trip(0, half)
    return circuit


def recovered(now: int, **changes: object) -> Circuit:
    """A circuit that was tripped at 0 and closed by its probes at *now*."""
    circuit = opened(**changes)
    for _ in range(circuit.settings.probes):
        call(circuit, now)
    assert circuit.state is State.CLOSED
    return circuit


def test_a_slow_probe_reopens() -> None:
    """Where slow calls count, a slow probe is no recovery."""
    circuit = opened(slow_rate=0.5)

    assert call(circuit, 5 * S, slow=True) is Event.RELAPSED
    assert circuit.state is State.OPEN


def test_half_open_bounds_the_probes() -> None:
    """Probes under way and probes passed share one limit; who comes too late is refused."""
    circuit = opened()
    probes = [admit(circuit, 5 * S) for _ in range(3)]

    assert circuit.admit(5 * S, never) is None
    circuit.settle(probes[0], SUCCESS, False, 6 * S, never)
    assert circuit.admit(6 * S, never) is None
    circuit.settle(probes[1], IGNORED, False, 6 * S, never)
    assert isinstance(admit(circuit, 6 * S), Probe)
    assert circuit.admit(6 * S, never) is None


def test_a_vanished_probe_loses_its_slot() -> None:
    """When its lease is over another call takes the slot, and the old probe is not heard."""
    circuit = opened(probes=1)
    lost = admit(circuit, 5 * S)

    assert circuit.admit(15 * S - 1, never) is None
    assert circuit.retry_after(15 * S - 1) == 1
    second = admit(circuit, 15 * S)
    assert circuit.settle(lost, FAILURE, False, 15 * S, never) is None
    assert circuit.settle(second, SUCCESS, False, 15 * S, never) is not None


def test_a_late_probe_is_not_heard_even_if_nobody_took_its_slot() -> None:
    """What counts is the lease, not whether somebody else came along."""
    circuit = opened(probes=1)
    probe = admit(circuit, 5 * S)

    assert circuit.settle(probe, SUCCESS, False, 15 * S, never) is None
    assert State.HALF_OPEN is circuit.state
    assert circuit.retry_after(15 * S) == 0


def test_repeated_trips_wait_longer() -> None:
    """Each relapse doubles the open time, up to the limit; jitter spreads it by its quarter."""
    circuit = opened(jitter=0.25)
    now, waits = 0, []
    for _ in range(6):
        wait = circuit.retry_after(now)
        assert wait is not None
        waits.append(wait // S)
        now += wait
        call(circuit, now, failed=True)

    assert waits == [5, 10, 20, 40, 60, 60]
    assert circuit.snapshot(now).reopens == 6
    low, high = build(jitter=0.25), build(jitter=0.25)
    low.trip(0, lambda: 0.0)
    high.trip(0, lambda: 1 - 2**-53)
    assert low.retry_after(0) == 3.75 * S
    assert pytest.approx(high.retry_after(0), abs=2) == 6.25 * S


@pytest.mark.parametrize(("recorded", "wait"), [(5, 10), (8, 10), (9, 5)])
def test_a_healthy_window_of_calls_forgives(recorded: int, wait: int) -> None:
    """A trip soon after recovery waits longer; after more calls than the window, as the first."""
    circuit = recovered(5 * S, failure_rate=1.0)
    for _ in range(recorded):
        call(circuit, 5 * S)
    circuit.trip(5 * S, half)

    assert wait * S == circuit.retry_after(5 * S)


@pytest.mark.parametrize(("later", "wait"), [(S - 1, 10), (S, 5)])
def test_a_healthy_span_of_time_forgives(later: int, wait: int) -> None:
    """With a window of time, one span without a trip is what it takes."""
    circuit = recovered(5 * S, calls=None, span_ns=S)
    assert circuit.snapshot(5 * S + later).reopens == 0
    circuit.trip(5 * S + later, half)

    assert wait * S == circuit.retry_after(5 * S + later)


def test_a_clock_that_steps_back_opens_nothing() -> None:
    """An open circuit stays open until the clock reaches the end of the open time again."""
    circuit = opened()

    assert [circuit.admit(now, never) for now in (4 * S, -(10**6) * S, 5 * S - 1)] == [None] * 3
    assert isinstance(circuit.admit(5 * S, never), Probe)


def test_traffic_comes_back_by_a_ramp() -> None:
    """After recovery a tenth of the calls pass, then ever more, and all of them in the end."""
    circuit = recovered(5 * S, ramp_ns=10 * S)
    rng = Random(5)
    shares = []
    for second in (0, 5, 9):
        passed = [circuit.admit((5 + second) * S, rng.random) is not None for _ in range(4_000)]
        shares.append(sum(passed) / 4_000)

    assert shares == pytest.approx([0.1, 0.55, 0.91], abs=0.025)
    assert circuit.snapshot(10 * S).share == pytest.approx(0.55)
    assert not circuit.open_gate
    assert circuit.admit(5 * S, lambda: 0.1) is None
    assert circuit.retry_after(5 * S) == S
    assert circuit.retry_after(15 * S - 9) == 1
    assert circuit.retry_after(15 * S) == 0
    assert circuit.admit(15 * S, never) is not None
    assert circuit.open_gate
    assert circuit.admit(6 * S, never) is not None


def test_trouble_during_the_ramp_reopens_early() -> None:
    """While traffic is thin as many calls as there were probes are enough to judge by."""
    ramping, done = recovered(5 * S, ramp_ns=10 * S), recovered(5 * S)
    moved = [ramping.settle(ramping.generation, FAILURE, False, 6 * S, half) for _ in range(3)]

    assert moved[:2] == [None, None]
    assert State.OPEN is ramping.state
    assert [call(done, 6 * S, failed=True) for _ in range(3)] == [None] * 3
