"""The figures follow from what happened, by their definitions."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.demo.clients import OPERATIONS
from resilience.demo.load import Call
from resilience.demo.measure import Run, figures, recovery
from resilience.demo.phases import phases

DEADLINE = 1.0


@given(seconds=st.floats(0.1, 100), rate=st.floats(1, 1000))
def test_phases_fill_the_run(seconds: float, rate: float) -> None:
    """The phases follow one another without a gap, from the beginning of the run to its end."""
    made = phases(seconds, rate)
    assert made[0].start == 0.0
    assert seconds == pytest.approx(made[-1].end)
    assert all(a.end == b.start for a, b in itertools.pairwise(made))


def call(at: float, took: float | None, error: str | None = None) -> Call:
    """A call that began when it was meant to."""
    return Call(at, OPERATIONS[0], 0, at, None if took is None else at + took, error)


def test_figures_are_what_their_definitions_say() -> None:
    """A worked example: one call in time, one late, one failed, one unanswered, one never begun."""
    calls = [
        call(0.0, 0.2),
        call(1.0, 1.5),
        call(2.0, 0.1, "ClientError"),
        call(3.0, None),
        Call(3.5, OPERATIONS[0], 0),
    ]
    run = Run("x", calls, [0.0, 1.0, 2.0, 2.05, 3.0, 3.2], 4, 20.0, "", 0)
    made = figures(run, phases(20.0, 10.0), DEADLINE)
    assert (made.wanted, made.begun, made.in_time, made.late) == (5, 4, 1, 1)
    assert made.errors == {"ClientError": 1}
    assert (made.requests, made.passed_on, made.amplification) == (6, 4, 1.5)
    assert (float("inf"), float("inf"), 19.0 - 2.0) == (made.p50, made.p99, made.held)
    assert (
        made.phases["healthy"].wanted,
        made.phases["healthy"].in_time,
        made.phases["healthy"].requests,
    ) == (3, 1, 4)


def after_the_outage(good_from: float, seconds: float = 5.0) -> list[Call]:
    """Fifty calls a second after the outage, answered only from *good_from* seconds on."""
    end = 15.0
    times = [n / 50 for n in range(round(seconds * 50))]
    return [call(end + t, 0.01, None if t >= good_from else "ClientError") for t in times]


@given(st.floats(0.0, 3.9))
def test_recovery_is_found_where_it_happens(good_from: float) -> None:
    """Recovery lies where calls turn good, or earlier by what a window forgives."""
    found = recovery(after_the_outage(good_from), phases(20.0, 50.0), DEADLINE)
    assert found is not None
    assert good_from - 0.08 <= found <= good_from + 0.02


def test_no_recovery_is_none() -> None:
    """When the last window is still bad, there was no recovery in the run, nor without any call."""
    schedule = phases(20.0, 50.0)
    assert recovery(after_the_outage(4.5), schedule, DEADLINE) is None
    assert recovery([], schedule, DEADLINE) is None


def test_a_relapse_undoes_a_recovery() -> None:
    """Recovery counts from the last bad window, not from the first good one."""
    calls = after_the_outage(0.0)
    for lapsed in calls[100:110]:
        lapsed.error = "ClientError"
    found = recovery(calls, phases(20.0, 50.0), DEADLINE)
    assert found is not None
    assert 2.0 < found < 2.3
