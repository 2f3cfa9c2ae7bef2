"""Every metric there is, in one table: name, kind, unit, labels, words, and where its numbers are found.

Prometheus, OpenTelemetry, EMF, the dashboards, the alert rules and the reference page are all made from this table, so
they cannot disagree, and none can go stale. Names follow Prometheus's conventions: base units, ``_total`` for what only
grows. Labels are few and bounded: the policy, and words from this table; never a key, an address or an error's text.

This file knows names. How numbers are got is `resilience.telemetry.reading`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["LATENCY", "METRICS", "Cell", "Metric"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of a metric.

    Attributes:
        part: the kind of part of the policy that has it; ``""`` for the policy itself.
        key: its name among that part's numbers.
        labels: values of the metric's labels beside the policy.
    """

    part: str
    key: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: as Prometheus calls it.
        kind: ``counter`` only grows, ``gauge`` goes up and down, ``histogram`` is the latency.
        words: what it tells, one sentence without its full stop.
        cells: its numbers.
        labels: names of the labels beside ``policy``.
        unit: ``seconds``, ``ratio`` (0 to 1) or nothing.
        together: how the numbers of several processes become one: ``sum``, ``max`` or ``min``.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    words: str
    cells: tuple[Cell, ...]
    labels: tuple[str, ...] = ()
    unit: Literal["", "seconds", "ratio"] = ""
    together: Literal["sum", "max", "min"] = "sum"


def _each(part: str, label_to_key: dict[str, str]) -> tuple[Cell, ...]:
    return tuple(Cell(part, key, (label,)) for label, key in label_to_key.items())


_ENDS = ("succeeded", "poor", "failed", "rejected", "timed_out", "cancelled")
_STATES = ("closed", "open", "half_open", "forced_open", "disabled")
_SPANS = {"5m": "burn.300", "30m": "burn.1800", "1h": "burn.3600", "6h": "burn.21600"}
_SHADOWED = ("deadline", "retry", "hedge", "breaker", "limiter", "bulkhead", "timeout", "fallback")

LATENCY = Metric(
    "resilience_call_duration_seconds",
    "histogram",
    "How long calls took, all attempts and waits included, by whether they went well",
    (Cell("", "good", ("succeeded",)), Cell("", "bad", ("failed",))),
    ("outcome",),
    "seconds",
)
"""The one histogram. Rejected and cancelled calls are not in it; poor and timed-out ones have failed."""

METRICS: tuple[Metric, ...] = (
    Metric(
        "resilience_calls_total",
        "counter",
        "Calls that have ended, by how",
        _each("", {end: end for end in _ENDS}),
        ("outcome",),
    ),
    Metric(
        "resilience_calls_in_flight",
        "gauge",
        "Calls that have begun and not ended",
        (Cell("", "in_flight"),),
    ),
    Metric(
        "resilience_attempts_total",
        "counter",
        "Attempts that reached the dependency, retries and hedges included",
        (Cell("", "attempts"),),
    ),
    LATENCY,
    Metric("resilience_retries_total", "counter", "Attempts made again", (Cell("retry", "retries"),)),
    Metric(
        "resilience_recovered_calls_total",
        "counter",
        "Calls that went well after a retry",
        (Cell("retry", "recovered"),),
    ),
    Metric(
        "resilience_retry_stops_total",
        "counter",
        "Retries that were wanted and not made, by reason",
        _each("retry", {"exhausted": "exhausted", "budget": "refused_by_budget", "nested": "stood_down"}),
        ("reason",),
    ),
    Metric(
        "resilience_retry_budget_tokens",
        "gauge",
        "Retries that the budget would grant now",
        (Cell("retry", "budget"),),
    ),
    Metric(
        "resilience_hedges_total",
        "counter",
        "Attempts started beside one without an answer",
        (Cell("hedge", "hedged"),),
    ),
    Metric("resilience_hedge_wins_total", "counter", "Calls answered by a hedge", (Cell("hedge", "won"),)),
    Metric(
        "resilience_hedges_refused_total",
        "counter",
        "Hedges that were wanted and not made",
        (Cell("hedge", "refused"),),
    ),
    Metric(
        "resilience_rejections_total",
        "counter",
        "Attempts refused before they reached the dependency, by reason",
        (
            Cell("breaker", "refused", ("circuit_open",)),
            Cell("limiter", "refused", ("rate_limited",)),
            Cell("bulkhead", "refused", ("bulkhead_full",)),
        ),
        ("reason",),
    ),
    Metric(
        "resilience_circuits",
        "gauge",
        "Circuits in each state; without keys, the state that has a 1 is the present one",
        _each("breaker", {state: f"is.{state}" for state in _STATES}),
        ("state",),
    ),
    Metric(
        "resilience_circuit_state_seconds_total",
        "counter",
        "Time that circuits spent in each state",
        _each("breaker", {state: f"seconds.{state}" for state in _STATES}),
        ("state",),
        "seconds",
    ),
    Metric("resilience_circuit_openings_total", "counter", "Times that a circuit opened", (Cell("breaker", "opened"),)),
    Metric(
        "resilience_circuit_window_calls",
        "gauge",
        "Calls in the window that a circuit decides by, by verdict",
        _each("breaker", {"all": "window_total", "failed": "window_failures", "slow": "window_slow"}),
        ("verdict",),
    ),
    Metric(
        "resilience_limiter_tokens",
        "gauge",
        "Tokens that could be taken now; negative while calls wait for theirs",
        (Cell("limiter", "tokens"),),
    ),
    Metric(
        "resilience_limiter_rate",
        "gauge",
        "Tokens per second that an adaptive limiter gives; 0 while it does not limit",
        (Cell("limiter", "rate"),),
    ),
    Metric("resilience_limiter_throttles_total", "counter", "Throttles heard of", (Cell("limiter", "throttled"),)),
    Metric("resilience_limiter_keys", "gauge", "Keys that a limiter remembers", (Cell("limiter", "keys"),)),
    Metric(
        "resilience_waits_total",
        "counter",
        "Calls that had to wait, by what for",
        (Cell("limiter", "waited", ("limiter",)), Cell("bulkhead", "waited", ("bulkhead",))),
        ("part",),
    ),
    Metric(
        "resilience_wait_seconds_total",
        "counter",
        "Time that calls spent waiting, by what for",
        (Cell("limiter", "waited_seconds", ("limiter",)), Cell("bulkhead", "waited_seconds", ("bulkhead",))),
        ("part",),
        "seconds",
    ),
    Metric(
        "resilience_bulkhead_in_use", "gauge", "Slots of the bulkhead that are taken", (Cell("bulkhead", "in_use"),)
    ),
    Metric("resilience_bulkhead_queued", "gauge", "Calls waiting for a slot", (Cell("bulkhead", "queued"),)),
    Metric("resilience_bulkhead_limit", "gauge", "Slots of the bulkhead", (Cell("bulkhead", "limit"),)),
    Metric(
        "resilience_timeout_seconds",
        "gauge",
        "The timeout of an attempt that begins now; of several keys, the longest",
        (Cell("timeout", "seconds"),),
        (),
        "seconds",
        "max",
    ),
    Metric(
        "resilience_timeout_ceiling_seconds",
        "gauge",
        "The longest that the timeout can become",
        (Cell("timeout", "most"),),
        (),
        "seconds",
        "max",
    ),
    Metric(
        "resilience_attempt_timeouts_total",
        "counter",
        "Attempts ended by their timeout",
        (Cell("timeout", "timed_out"),),
    ),
    Metric(
        "resilience_attempt_latency_seconds",
        "gauge",
        "Measured quantiles of how long answers take, of the last minute or so",
        _each("timeout", {"0.5": "quantile.0.5", "0.9": "quantile.0.9", "0.99": "quantile.0.99"}),
        ("share",),
        "seconds",
        "max",
    ),
    Metric(
        "resilience_false_timeouts_ratio",
        "gauge",
        "Share of attempts cut off that would have been answered, estimated",
        (Cell("timeout", "false_timeouts"),),
        (),
        "ratio",
        "max",
    ),
    Metric(
        "resilience_lingering_attempts",
        "gauge",
        "Attempts watched beyond their timeout",
        (Cell("timeout", "lingering"),),
    ),
    Metric(
        "resilience_abandoned_attempts",
        "gauge",
        "Attempts that timed out and still run in a worker thread",
        (Cell("timeout", "abandoned"),),
    ),
    Metric(
        "resilience_deadlines_exceeded_total",
        "counter",
        "Calls that ran out of time as a whole",
        (Cell("deadline", "exceeded"),),
    ),
    Metric(
        "resilience_fallbacks_total",
        "counter",
        "Calls that ended badly and went to the fallback, by what came of it",
        _each("fallback", {"answered": "answered", "failed": "failed"}),
        ("result",),
    ),
    Metric(
        "resilience_shadow_total",
        "counter",
        "What parts in shadow mode would have done, by part",
        tuple(Cell(part, "shadow", (part,)) for part in _SHADOWED),
        ("part",),
    ),
    Metric(
        "resilience_slo_objective_ratio",
        "gauge",
        "Share of calls promised to be good",
        (Cell("slo", "objective"),),
        (),
        "ratio",
        "max",
    ),
    Metric(
        "resilience_slo_calls_total",
        "counter",
        "Calls by whether they count as good for the objective",
        _each("slo", {"good": "good", "bad": "bad"}),
        ("verdict",),
    ),
    Metric(
        "resilience_slo_budget_left_ratio",
        "gauge",
        "Part of the error budget that is left, since the process began",
        (Cell("slo", "left"),),
        (),
        "ratio",
        "min",
    ),
    Metric(
        "resilience_slo_burn_rate",
        "gauge",
        "How fast the error budget is spent: 1 spends it in just the window",
        _each("slo", _SPANS),
        ("span",),
        "",
        "max",
    ),
    Metric(
        "resilience_slo_shedding",
        "gauge",
        "1 while retries and hedges are switched off to save the error budget",
        (Cell("slo", "shedding"),),
        (),
        "",
        "max",
    ),
)
"""All of them."""
