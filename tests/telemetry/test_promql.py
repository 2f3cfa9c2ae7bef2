from __future__ import annotations

from collections.abc import Callable

import pytest

from resilience.telemetry._promql import metric, rated, series, summed


def test_a_selector_is_spelt_as_prometheus_has_it() -> None:
    """One value is equal to, several are one of; what the caller adds stands first."""
    assert series("resilience_calls_total") == "resilience_calls_total"
    assert series("resilience_circuits", state="open") == 'resilience_circuits{state="open"}'
    assert series("resilience_circuits", 'job="a"', state="open|closed") == (
        'resilience_circuits{job="a", state=~"open|closed"}'
    )
    assert rated("resilience_calls_total", "5m", ["job", "policy"], outcome="failed") == (
        'sum by (job, policy) (rate(resilience_calls_total{outcome="failed"}[5m]))'
    )
    assert summed("x", ["policy"], "max") == "max by (policy) (x)"


def test_the_series_of_a_histogram_are_known_by_its_name() -> None:
    """Buckets, count and sum are there; a series of the bare name is not."""
    for end in ("_bucket", "_count", "_sum"):
        assert metric(f"resilience_call_duration_seconds{end}").kind == "histogram"


@pytest.mark.parametrize(
    ("ask", "named"),
    [
        (lambda: series("resilience_call_total"), "resilience_call_total"),
        (lambda: series("resilience_call_duration_seconds"), "resilience_call_duration_seconds"),
        (lambda: series("resilience_calls_total_bucket"), "resilience_calls_total_bucket"),
        (lambda: series("resilience_circuits", reason="open"), "reason"),
        (lambda: series("resilience_circuits", state="opened"), "opened"),
        (lambda: series("resilience_circuits", state="open|opened"), "opened"),
        (lambda: rated("resilience_circuits", "5m", ["policy"]), "resilience_circuits"),
    ],
)
def test_what_is_not_in_the_table_cannot_be_asked(ask: Callable[[], str], named: str) -> None:
    """A metric, a label or a value that does not exist is an error where it is written."""
    with pytest.raises(LookupError, match=repr(named)[1:-1]):
        ask()
