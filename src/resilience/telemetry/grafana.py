"""A dashboard for Grafana: which dependency is in trouble, what is done about it, how much error budget is left.

`grafana` writes it as JSON, from the table of metrics: names are looked up there, units and words are taken from there.
It asks the metrics themselves, and needs none of the `rules`.
"""

from __future__ import annotations

import json
import re
from typing import Any

from .. import _checks
from ..errors import ConfigError
from ._panels import SCHEMA, SOURCE, Board, Column, Query, heatmap, stat, table, timeline, timeseries
from ._promql import metric, rated, series, summed

__all__ = ["dashboard", "grafana"]

_CHOSEN = 'job=~"$job", policy=~"$policy"'
_SPAN = "$__rate_interval"
_ANY = 1e-9  # calls a second: a colour begins at, not above, a number
_UID = re.compile(r"[A-Za-z0-9_-]{1,40}")
_UNITS = {"seconds": "s", "ratio": "percentunit", "": "short"}


def grafana(*, title: str = "Resilience", uid: str = "resilience") -> str:
    """The dashboard as a JSON file, to import or to provision.

    Args:
        title: its name.
        uid: its identity in Grafana and in links, up to 40 letters, digits, ``-`` and ``_``.

    Raises:
        ConfigError: an argument is empty, or *uid* is not as it must be.
        TypeError: an argument is not a string.
    """
    return json.dumps(dashboard(title=title, uid=uid), indent=2) + "\n"


def dashboard(*, title: str = "Resilience", uid: str = "resilience") -> dict[str, Any]:
    """The same as data. Arguments and errors are those of `grafana`."""
    if not _UID.fullmatch(_checks.text("uid", uid)):
        raise ConfigError(f"uid must be up to 40 letters, digits, - and _, not {uid!r}")
    board = Board()
    for part in (_overview, _traffic, _latency, _retries, _circuits, _limits, _objectives):
        part(board)
    return {
        "uid": uid,
        "title": _checks.text("title", title),
        "description": "Policies of resilience-client",
        "tags": ["resilience"],
        "schemaVersion": SCHEMA,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "annotations": {"list": [_alerts()]},
        "links": [],
        "templating": {"list": [_source(), _variable("job", ""), _variable("policy", 'job=~"$job"')]},
        "panels": board.panels,
    }


def _source() -> dict[str, Any]:
    return {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus"}


def _variable(label: str, where: str) -> dict[str, Any]:
    """Lets the reader choose among the values of a label, all at first."""
    return {
        "type": "query",
        "name": label,
        "label": label.capitalize(),
        "datasource": SOURCE,
        "query": {
            "qryType": 1,
            "query": f"label_values({series('resilience_calls_total', where)}, {label})",
            "refId": label,
        },
        "refresh": 2,  # whenever the time range changes
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _alerts() -> dict[str, Any]:
    """Marks the times at which one of the shipped alerts fired."""
    return {
        "name": "Alerts",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": f'ALERTS{{alertname=~"Resilience.+", alertstate="firing", {_CHOSEN}}}',
        "titleFormat": "{{alertname}}: {{policy}}",
    }


# -- questions ---------------------------------------------------------------------------------------------------------


def _query(text: str, unit: str, by: tuple[str, ...], *names: str) -> Query:
    words = {found.name: found.words for found in map(metric, names)}
    return Query(text, unit, " ".join(f"{{{{{label}}}}}" for label in by), words)


def _rate(name: str, *more: str, **labels: str) -> Query:
    """How fast a counter grows, by policy and *more* labels."""
    by = ("policy", *more)
    unit = "short" if metric(name).unit == "seconds" else "ops"  # seconds per second are a number
    return _query(rated(name, _SPAN, by, _CHOSEN, **labels), unit, by, name)


def _level(name: str, *more: str, **labels: str) -> Query:
    """What a gauge shows, processes taken together as the table says."""
    by = ("policy", *more)
    found = metric(name)
    return _query(summed(series(name, _CHOSEN, **labels), by, found.together), _UNITS[found.unit], by, name)


def _share(part: Query, whole: Query, unit: str = "percentunit") -> Query:
    """One divided by the other."""
    return Query(f"{part.text}\n/\n{whole.text}", unit, part.legend, part.metrics | whole.metrics)


def _quantile(share: float) -> Query:
    """Of how long calls took that went well."""
    name = "resilience_call_duration_seconds_bucket"
    buckets = rated(name, _SPAN, ("policy", "le"), _CHOSEN, outcome="succeeded")
    return _query(f"histogram_quantile({share:g}, {buckets})", "s", ("policy",), name).named(f"{share:g}")


_CALLS = _rate("resilience_calls_total")
_WELL = _share(
    _rate("resilience_calls_total", outcome="succeeded"),
    _rate("resilience_calls_total", outcome="succeeded|poor|failed|rejected|timed_out"),  # the cancelled say nothing
)
_ATTEMPTS = _share(_rate("resilience_attempts_total"), _CALLS, "short")
_OPEN = _level("resilience_circuits", state="open|half_open|forced_open")
_LEFT = _level("resilience_slo_budget_left_ratio")
_REJECTED = _rate("resilience_rejections_total")
_TIMEOUT = _level("resilience_timeout_seconds").named("timeout")
_CEILING = _level("resilience_timeout_ceiling_seconds").named("ceiling")
_TIMEOUTS = _rate("resilience_attempt_timeouts_total")


# -- rows --------------------------------------------------------------------------------------------------------------


def _overview(board: Board) -> None:
    board.row("Which dependency is in trouble")
    board.add(
        stat("Calls", _CALLS.total()),
        stat("Rejections", _REJECTED.total(), _ANY),
        stat("Circuits open", _OPEN.total(), 1),
        stat("Least error budget left", _LEFT.total("min"), 0, 0.5, falling=True),
        width=6, height=4,
    )  # fmt: skip
    columns = [
        Column("Calls", _CALLS),
        Column("Went well", _WELL, (0.9, 0.99), falling=True),
        Column("Attempts per call", _ATTEMPTS, (1.1, 1.5)),
        Column("Rejections", _REJECTED, (_ANY,)),
        Column("Circuits open", _OPEN, (1,)),
        Column("Attempts timed out", _share(_TIMEOUTS, _rate("resilience_attempts_total")), (0.01, 0.05)),
        Column("Timeout", _TIMEOUT),
        Column("Burn rate, 1 h", _level("resilience_slo_burn_rate", span="1h"), (1, 14.4)),
        Column("Budget left", _LEFT, (0, 0.5), falling=True),
    ]
    board.add(table("Policies", columns), width=24, height=9)


def _traffic(board: Board) -> None:
    board.row("Traffic and outcomes")
    board.add(
        timeseries("Calls by outcome", _rate("resilience_calls_total", "outcome"), stacked=True),
        timeseries("Calls that went well", _WELL),
        timeseries("Calls in flight", _level("resilience_calls_in_flight")),
        timeseries("Rejections by reason", _rate("resilience_rejections_total", "reason"), stacked=True),
        timeseries(
            "Fallbacks, and calls out of time",
            _rate("resilience_fallbacks_total", "result").named("fallback"),
            _rate("resilience_deadlines_exceeded_total").named("out of time"),
        ),
        timeseries("What parts in shadow would have done", _rate("resilience_shadow_total", "part")),
    )


def _latency(board: Board) -> None:
    board.row("Latency and timeouts")
    name = "resilience_call_duration_seconds"
    buckets = rated(f"{name}_bucket", _SPAN, ("le",), _CHOSEN, outcome="succeeded")
    board.add(
        heatmap("Calls that went well", _query(buckets, "s", (), f"{name}_bucket")),
        timeseries("Calls that went well: quantiles", *map(_quantile, (0.5, 0.9, 0.99)), _TIMEOUT),
        timeseries(
            "Calls: mean",
            _share(_rate(f"{name}_sum", "outcome"), _rate(f"{name}_count", "outcome"), "s"),
        ),
        timeseries(
            "Answers: measured quantiles, and the timeout made from them",
            _level("resilience_attempt_latency_seconds", "share"), _TIMEOUT, _CEILING,
        ),
        timeseries("Attempts timed out", _TIMEOUTS),
        timeseries("Cut off, and would have been answered", _level("resilience_false_timeouts_ratio")),
        timeseries(
            "Attempts that go on after their timeout",
            _level("resilience_lingering_attempts").named("watched"),
            _level("resilience_abandoned_attempts").named("in a thread"),
        ),
    )  # fmt: skip


def _retries(board: Board) -> None:
    board.row("Retries and hedges")
    board.add(
        timeseries("Attempts per call", _ATTEMPTS),
        timeseries(
            "Calls and attempts", _CALLS.named("calls"), _rate("resilience_attempts_total").named("attempts")
        ),
        timeseries("Retries the budget would grant", _level("resilience_retry_budget_tokens")),
        timeseries(
            "Retries, and calls they saved",
            _rate("resilience_retries_total").named("retries"),
            _rate("resilience_recovered_calls_total").named("saved"),
        ),
        timeseries("Retries not made, by reason", _rate("resilience_retry_stops_total", "reason"), stacked=True),
        timeseries(
            "Hedges",
            _rate("resilience_hedges_total").named("started"),
            _rate("resilience_hedge_wins_total").named("won"),
            _rate("resilience_hedges_refused_total").named("refused"),
        ),
    )  # fmt: skip


def _circuits(board: Board) -> None:
    board.row("Circuits")
    board.add(
        timeline("Circuits open", _OPEN, 1),
        timeseries("Circuits by state", _level("resilience_circuits", "state"), stacked=True),
        timeseries("Circuits by state, on average", _rate("resilience_circuit_state_seconds_total", "state")),
        timeseries("Openings", _rate("resilience_circuit_openings_total")),
        timeseries("Calls in the window, by verdict", _level("resilience_circuit_window_calls", "verdict")),
    )


def _limits(board: Board) -> None:
    board.row("Limiters and bulkheads")
    waits = _rate("resilience_waits_total", "part")
    board.add(
        timeseries("Tokens", _level("resilience_limiter_tokens")),
        timeseries("Tokens per second, adaptive", _level("resilience_limiter_rate")),
        timeseries("Throttles", _rate("resilience_limiter_throttles_total")),
        timeseries("Calls that had to wait", waits),
        timeseries("Wait: mean", _share(_rate("resilience_wait_seconds_total", "part"), waits, "s")),
        timeseries("Keys", _level("resilience_limiter_keys")),
        timeseries(
            "Slots of bulkheads",
            _level("resilience_bulkhead_in_use").named("in use"),
            _level("resilience_bulkhead_queued").named("queued"),
            _level("resilience_bulkhead_limit").named("limit"),
        ),
    )


def _objectives(board: Board) -> None:
    board.row("Service level objectives")
    board.add(
        timeseries("Error budget left", _LEFT),
        timeseries("Burn rate", _level("resilience_slo_burn_rate", "span")),
        timeseries("Retries and hedges switched off", _level("resilience_slo_shedding"), most=1),
        timeseries("Calls by verdict", _rate("resilience_slo_calls_total", "verdict"), stacked=True),
        timeseries(
            "Good calls, and the objective",
            _share(_rate("resilience_slo_calls_total", verdict="good"), _rate("resilience_slo_calls_total")),
            _level("resilience_slo_objective_ratio").named("objective"),
        ),
    )
