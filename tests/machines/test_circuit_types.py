"""The transition table, its picture, and the arithmetic of the open time."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.machines.circuit_types import TABLE, Event, Settings, State, diagram

BY_HAND = {Event.TRIP, Event.FORCE_OPEN, Event.DISABLE, Event.RESET}


def settings(**changes: object) -> Settings:
    """Settings with jitter switched off unless asked for."""
    base = Settings(minimum=10, open_for_ns=100, max_open_ns=1_000, probes=3, probe_timeout_ns=50, jitter=0.0)
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def test_left_alone_a_circuit_takes_four_ways_only() -> None:
    """Closed to open, open to half-open, half-open to closed or open: no other way but by hand."""
    alone = {(s, new) for s, row in TABLE.items() for e, new in row.items() if e not in BY_HAND}

    assert alone == {
        (State.CLOSED, State.OPEN),
        (State.OPEN, State.HALF_OPEN),
        (State.HALF_OPEN, State.CLOSED),
        (State.HALF_OPEN, State.OPEN),
    }


def test_every_state_can_be_steered_anywhere() -> None:
    """By hand every state leads to closed, forced open, disabled and open, unless it is there."""
    for state, row in TABLE.items():
        reached = {row[event] for event in BY_HAND if event in row} | {state}

        assert set(State) - {State.HALF_OPEN} <= reached


def test_every_state_and_event_is_in_the_table() -> None:
    """No state lacks a row and no event lacks an arrow."""
    assert set(State) == set(TABLE)
    assert set(Event) == {event for row in TABLE.values() for event in row}


def test_the_diagram_is_the_table() -> None:
    """Reading the picture back gives the table, arrow for arrow."""
    head, start, *arrows = diagram().splitlines()
    read: dict[State, dict[Event, State]] = {}
    for arrow in arrows:
        ends, label = arrow.split(": ")
        old, new = ends.split(" --> ")
        read.setdefault(State(old.strip()), {})[Event(label)] = State(new)

    assert (head, start) == ("stateDiagram-v2", "    [*] --> closed")
    assert read == TABLE


def test_states_are_their_words() -> None:
    """The value of a state is the word users see in logs and metrics."""
    assert [str(s) for s in State] == ["closed", "open", "half_open", "forced_open", "disabled"]


def test_the_open_time_doubles_up_to_its_limit() -> None:
    """100, 200, 400, 800 and then 1000 for ever."""
    assert [settings().open_time(k, 0.5) for k in range(6)] == [100, 200, 400, 800, 1_000, 1_000]


@given(
    st.integers(1, 10**12),
    st.integers(0, 10**13),
    st.sampled_from([1.0, 1.1, 1.5, 2.0, 10.0]),
    st.sampled_from([0.0, 0.1, 0.25, 0.9]),
    st.integers(0, 40),
    st.floats(0, 1, exclude_max=True),
)
def test_the_open_time_is_the_formula(base: int, more: int, growth: float, jitter: float, k: int, u: float) -> None:
    """min(max_open, open_for * growth**k) * U(1 - j, 1 + j), compared with exact fractions."""
    s = settings(open_for_ns=base, max_open_ns=base + more, growth=growth, jitter=jitter)
    exact = min(Fraction(base + more), base * Fraction(growth) ** k)
    exact *= 1 + Fraction(jitter) * (2 * Fraction(u) - 1)

    # Rounded down twice, once before a factor of up to 1.9: less than 2.9 ns in all.
    assert s.open_time(k, u) == pytest.approx(float(exact), rel=1e-9, abs=2.9)
    assert 0 < s.open_time(k, u) <= (base + more) * (1 + jitter) + 1


@given(st.integers(0, 10**30), st.floats(1, 1e300), st.integers(1, 10**300))
def test_the_open_time_never_overflows(k: int, growth: float, limit: int) -> None:
    """No number of re-opens, however absurd, raises or leaves the limits."""
    s = settings(open_for_ns=1, max_open_ns=limit, growth=growth)

    assert 1 <= s.open_time(k, 0.0) <= limit


def test_the_window_without_a_size_fits_the_rules() -> None:
    """With neither calls nor span the window holds the minimum, or the run where that is longer."""
    assert settings().window_size() == 10
    assert settings(consecutive=25).window_size() == 25
    assert settings(consecutive=25, calls=40).window_size() == 40
