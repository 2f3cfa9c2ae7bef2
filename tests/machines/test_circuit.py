"""The circuit by examples: when it trips, what it counts, and how it is steered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machines.circuits import S, admit, build, half, never
from resilience.machines.circuit import (
    FAILURE,
    IGNORED,
    SUCCESS,
    Circuit,
    Event,
    Snapshot,
    State,
    Transition,
)


def call(circuit: Circuit, now: int, failed: bool = False, slow: bool = False) -> Transition | None:
    """One call from beginning to end, in no time."""
    outcome = FAILURE if failed else SUCCESS
    return circuit.settle(admit(circuit, now), outcome, slow, now, half)


def opened(**changes: object) -> Circuit:
    """A circuit that was tripped at 0."""
    circuit = build(**changes)
    circuit.trip(0, half)
    return circuit


def test_from_healthy_to_dead_and_back() -> None:
    """Half of the calls fail, the circuit opens, waits, tries, and closes again."""
    circuit = build()

    assert [call(circuit, 0, failed=n > 2) for n in range(5)] == [None] * 5
    assert call(circuit, 0, failed=True) == (State.CLOSED, State.OPEN, Event.TRIPPED, 1)
    assert circuit.admit(5 * S - 1, never) is None
    assert circuit.retry_after(5 * S - 1) == 1
    assert [call(circuit, 5 * S), call(circuit, 5 * S)] == [None, None]
    assert State.HALF_OPEN is circuit.state
    assert call(circuit, 6 * S) == (State.HALF_OPEN, State.CLOSED, Event.RECOVERED, 3)
    assert circuit.window.counts(6 * S) == (0, 0, 0)


def test_failures_in_a_row_trip() -> None:
    """The k-th failure in a row trips; any success starts the count again."""
    circuit = build(failure_rate=None, consecutive=3)
    moved = [call(circuit, 0, failed=n != 2) for n in range(6)]

    assert moved[:5] == [None] * 5
    assert State.OPEN is circuit.state


def test_slow_calls_trip() -> None:
    """Calls that succeed, but too slowly, open the circuit once they are common enough."""
    circuit = build(failure_rate=None, slow_rate=0.5)
    moved = [call(circuit, 0, slow=slow) for slow in (False, False, True, True)]

    assert moved[:3] == [None] * 3
    assert State.OPEN is circuit.state


def test_slow_calls_that_are_rare_do_not_trip() -> None:
    """Three slow calls of eight are below one half; the fourth of eight reaches it."""
    circuit = build(failure_rate=None, slow_rate=0.5)
    for slow in (False, False, False, False, True, True, True):
        assert call(circuit, 0, slow=slow) is None

    assert call(circuit, 0, slow=True) is not None


def test_without_a_slow_rate_no_call_is_slow() -> None:
    """Slowness that nobody asked about neither trips nor fails a probe, nor is it counted."""
    circuit = build()
    for _ in range(10):
        call(circuit, 0, slow=True)
    assert circuit.snapshot(0).slow == 0
    circuit.trip(0, half)
    for _ in range(3):
        call(circuit, 5 * S, slow=True)

    assert State.CLOSED is circuit.state


def test_a_success_never_trips() -> None:
    """The success that completes the minimum volume leaves judgment to the next failure."""
    circuit = build()
    for _ in range(3):
        call(circuit, 0, failed=True)

    assert call(circuit, 0) is None
    assert State.CLOSED is circuit.state
    assert call(circuit, 0, failed=True) is not None


@pytest.mark.parametrize("percent", range(1, 101))
def test_a_rate_is_reached_when_it_is_equalled(percent: int) -> None:
    """Exactly n of 100 failures trip a rate of n / 100, and one fewer does not."""
    circuit = build(failure_rate=percent / 100, minimum=100, calls=100)
    for i in range(99):
        assert call(circuit, 0, failed=i < percent - 1) is None

    assert call(circuit, 0, failed=True) is not None


def test_too_few_calls_mean_nothing() -> None:
    """Below the minimum volume not even a clean sweep of failures trips."""
    circuit = build(minimum=4)

    assert [call(circuit, 0, failed=True) for _ in range(3)] == [None] * 3


def test_a_window_of_time_forgets() -> None:
    """Failures that are a span old no longer weigh."""
    circuit = build(calls=None, span_ns=10 * S)
    for _ in range(3):
        call(circuit, 0, failed=True)

    assert call(circuit, 10 * S, failed=True) is None
    assert (circuit.snapshot(10 * S).total, circuit.snapshot(10 * S).failures) == (1, 1)


def test_late_results_change_nothing() -> None:
    """Calls begun before the trip, ending after it, are not heard in any later state."""
    circuit = build()
    late = [admit(circuit, 0) for _ in range(9)]
    circuit.trip(0, half)
    open_ = circuit.snapshot(S)
    for outcome in (SUCCESS, FAILURE, IGNORED):
        assert circuit.settle(late.pop(), outcome, False, S, never) is None
    assert open_ == circuit.snapshot(S)
    probe = admit(circuit, 5 * S)
    for outcome in (SUCCESS, FAILURE, IGNORED):
        assert circuit.settle(late.pop(), outcome, False, 5 * S, never) is None
    assert (circuit.snapshot(5 * S).live, circuit.snapshot(5 * S).passed) == (1, 0)
    circuit.settle(probe, SUCCESS, False, 5 * S, never)
    call(circuit, 5 * S)
    call(circuit, 5 * S)
    for outcome in (SUCCESS, FAILURE, IGNORED):
        assert circuit.settle(late.pop(), outcome, False, 6 * S, never) is None
    assert (circuit.state, circuit.snapshot(6 * S).total) == (State.CLOSED, 0)


def test_steering_by_hand() -> None:
    """Forced open refuses for ever, disabled admits and counts nothing, reset begins anew."""
    circuit = build()
    assert circuit.retry_after(0) == 0
    assert circuit.force_open(0) == (State.CLOSED, State.FORCED_OPEN, Event.FORCE_OPEN, 1)
    assert circuit.admit(10**9 * S, never) is None
    assert circuit.retry_after(10**9 * S) is None
    assert circuit.force_open(0) is None
    assert circuit.disable(0) is not None
    assert circuit.open_gate
    assert [call(circuit, 0, failed=True) for _ in range(20)] == [None] * 20
    assert circuit.snapshot(0).total == 0
    before = circuit.generation
    assert circuit.reset(0) is not None
    assert circuit.settle(before, FAILURE, False, 0, never) is None
    assert circuit.reset(0) == (State.CLOSED, State.CLOSED, Event.RESET, 4)
    assert circuit.trip(0, half) is not None
    assert circuit.trip(0, never) is None
    assert circuit.retry_after(0) == 5 * S


def test_steering_forgets_earlier_trips() -> None:
    """After steering by hand the first open time is the first again."""
    for method in ("force_open", "disable", "reset"):
        circuit = opened()
        call(circuit, 5 * S, failed=True)
        assert circuit.snapshot(5 * S).reopens == 1
        getattr(circuit, method)(6 * S)
        circuit.trip(6 * S, half)

        assert circuit.retry_after(6 * S) == 5 * S


def test_the_snapshot_tells_it_in_seconds() -> None:
    """All that operators want to see, at one glance."""
    circuit = build()
    for failed in (True, False, True, True):
        call(circuit, 0, failed)

    assert circuit.snapshot(S) == Snapshot(
        state=State.OPEN,
        generation=1,
        total=4,
        failures=3,
        slow=0,
        consecutive=2,
        reopens=0,
        live=0,
        passed=0,
        share=0.0,
        retry_after=4.0,
    )


@given(st.lists(st.tuples(st.sampled_from("SFI"), st.integers(0, S)), max_size=60))
def test_the_short_way_is_the_long_way(calls: list[tuple[str, int]]) -> None:
    """success() leaves a circuit exactly as settle(SUCCESS) does, whatever its window."""
    for window in ({"calls": 8}, {"calls": None, "span_ns": 3 * S}):
        short, long = (build(failure_rate=None, **window) for _ in range(2))
        now = 0
        for kind, step in calls:
            now += step
            for circuit in (short, long):
                if kind == "S" and circuit is short:
                    circuit.success(0, now)
                else:
                    outcome = {"S": SUCCESS, "F": FAILURE, "I": IGNORED}[kind]
                    circuit.settle(0, outcome, False, now, half)
            assert short.snapshot(now) == long.snapshot(now)


def test_the_short_way_keeps_the_time() -> None:
    """A success that came later than the others leaves the window later than they do."""
    circuit = build(calls=None, span_ns=10 * S)
    for now in (0, S - 1, S, 2 * S):
        circuit.success(0, now)

    assert [circuit.snapshot(now).total for now in (10 * S - 1, 10 * S, 11 * S, 12 * S)] == [4, 2, 1, 0]


def test_ignored_calls_are_recorded_nowhere() -> None:
    """A cancelled call neither fails, nor succeeds, nor ends a run of failures."""
    circuit = build(consecutive=2, failure_rate=None)
    call(circuit, 0, failed=True)
    circuit.settle(0, IGNORED, True, 0, never)

    assert (circuit.snapshot(0).total, circuit.run) == (1, 1)
    assert call(circuit, 0, failed=True) is not None
