"""The table of metrics: nothing in it is made up, nothing is missing from it unsaid, and its names are proper."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

import resilience as rs
from resilience import aws
from resilience.telemetry.reading import numbers
from resilience.telemetry.table import LATENCY, METRICS, Cell, Metric
from resilience.testing import VirtualClock

ORDINARY: dict[str, Any] = {
    "fallback": rs.Fallback(value=None),
    "deadline": rs.Deadline(9.0),
    "retry": rs.Retry(on=KeyError),
    "hedge": rs.Hedge(0.1),
    "breaker": rs.CircuitBreaker(),
    "limiter": rs.TokenBucket(1000),
    "bulkhead": rs.Bulkhead(5),
    "timeout": rs.Timeout(1.0, mode="argument"),
    "slo": 0.9,
}


def by_first(argument: object) -> object:
    return argument


SPECIAL: dict[str, dict[str, Callable[[], Any]]] = {
    "learned timeout": {"timeout": lambda: rs.PercentileTimeout(0.9, between=(0.1, 1.0), mode="argument")},
    "adaptive limiter": {"limiter": lambda: rs.AdaptiveTokenBucket(throttled=KeyError)},
    "keyed limiter": {"limiter": lambda: rs.KeyedTokenBucket(5, key=by_first)},
    "keyed breaker": {"breaker": lambda: rs.PerKey(rs.CircuitBreaker(), key=by_first)},
    "keyed bulkhead": {"bulkhead": lambda: rs.PerKey(rs.Bulkhead(5), key=by_first)},
    "keyed adaptive limiter": {"limiter": lambda: rs.PerKey(rs.AdaptiveTokenBucket(throttled=KeyError), key=by_first)},
    "keyed timeout": {
        "timeout": lambda: rs.PerKey(rs.PercentileTimeout(0.9, between=(0.1, 1.0), mode="cooperative"), key=by_first)
    },
    "AWS retry": {"retry": aws.AwsRetry},
    "no budget": {"retry": lambda: rs.Retry(on=KeyError, budget=None)},
    "own spans": {"slo": lambda: rs.SLO(0.9, spans=((7200.0, 60.0, 5.0),))},
}
ONLY_SOME = {
    ("timeout", "quantile.0.5"): "learned timeout",
    ("timeout", "quantile.0.9"): "learned timeout",
    ("timeout", "quantile.0.99"): "learned timeout",
    ("timeout", "false_timeouts"): "learned timeout",
    ("timeout", "lingering"): "learned timeout",
    ("limiter", "rate"): "adaptive limiter",
    ("limiter", "throttled"): "adaptive limiter",
    ("limiter", "keys"): "keyed limiter",
}
"""Numbers of the table that an ordinary part has not, and which has."""

LEFT_OUT = {
    ("", "calls"): "calls that have ended are there by their end, and those in flight beside them",
    ("breaker", "closed"): "a circuit closes once for each time it opened, but for the last",
    ("breaker", "keys"): "the sum over the states is as many",
    ("breaker", "evicted"): "of use to who sets max_keys, in `counters`",
    ("bulkhead", "keys"): "the same",
    ("bulkhead", "evicted"): "the same",
    ("limiter", "evicted"): "the same",
    ("limiter", "overflowed"): "the same",
    ("limiter", "enabled"): "the rate is 0 while it does not limit",
    ("timeout", "keys"): "the same",
    ("timeout", "evicted"): "the same",
    ("timeout", "late"): "warned about; no fault of the dependency but of the function that does not look",
    ("timeout", "answered_late"): "the share of false timeouts is made of them",
    ("timeout", "never_answered"): "the same",
    ("retry", "unsafe"): "such calls count as failed, and are no retries wanted",
    ("retry", "quota"): "it holds what the rules of AWS's clients count, not retries",
    ("slo", "burn.7200"): "spans of one's own have no bounded label; the counts are there, for a rate over any span",
    ("slo", "burn.60"): "the same",
}
"""Numbers that are not exported, and why."""


def policy(parts: dict[str, Any]) -> rs.Policy:
    """A policy that has been used, so that all its numbers are there."""
    clock = VirtualClock(start=10.0)
    made = rs.Policy("p", clock=clock, registry=rs.Registry(), **parts)
    if isinstance(made.timeout, rs.PercentileTimeout):
        for _ in range(400):
            made.timeout.observe(0.2)
    for part in made.parts.values():
        if isinstance(part, rs.PerKey):
            part["a"], part["b"]
    return made


def ordinary() -> rs.Policy:
    return policy({kind: part.replace() if hasattr(part, "replace") else part for kind, part in ORDINARY.items()})


def special(name: str) -> rs.Policy:
    return policy({kind: make() for kind, make in SPECIAL[name].items()})


def keys(made: rs.Policy) -> set[tuple[str, str]]:
    return {(part, key) for part, found in numbers(made).items() for key in found}


CELLS = [cell for metric in METRICS if metric is not LATENCY for cell in metric.cells]


def test_an_ordinary_policy_has_all_but_some_numbers() -> None:
    """What it has not is listed, with the part that has it."""
    missing = {(cell.part, cell.key) for cell in CELLS} - keys(ordinary())
    assert missing == set(ONLY_SOME)


@pytest.mark.parametrize("cell", ONLY_SOME, ids=".".join)
def test_the_other_numbers_are_those_of_special_parts(cell: tuple[str, str]) -> None:
    """A dashboard that shows them shows something for those who have the part."""
    assert cell in keys(special(ONLY_SOME[cell]))


@pytest.mark.parametrize("name", ["ordinary", *SPECIAL])
def test_each_number_is_exported_or_left_out_with_a_reason(name: str) -> None:
    """A new counter must be put into one of the two lists."""
    known = {(cell.part, cell.key) for cell in CELLS}
    found = keys(ordinary() if name == "ordinary" else special(name))
    assert found - known - set(LEFT_OUT) == set()


def test_nothing_is_left_out_that_is_not_there() -> None:
    """Neither list holds what was exported or removed since."""
    found = keys(ordinary()).union(*(keys(special(name)) for name in SPECIAL))
    assert set(LEFT_OUT) <= found
    assert not set(LEFT_OUT) & {(cell.part, cell.key) for cell in CELLS}


def test_no_number_is_exported_twice() -> None:
    """Nor two under the same labels of one metric."""
    assert len({(cell.part, cell.key) for cell in CELLS}) == len(CELLS)
    for metric in METRICS:
        assert len({cell.labels for cell in metric.cells}) == len(metric.cells)
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_counters_are_what_only_grows() -> None:
    """As each part says of its numbers; what goes up and down is a gauge."""
    made = [ordinary(), *map(special, SPECIAL)]
    levels = {(kind, name) for one in made for kind, part in one.parts.items() for name in part.model.levels}
    gauges = {(cell.part, cell.key) for metric in METRICS if metric.kind == "gauge" for cell in metric.cells}
    counters = {(cell.part, cell.key) for metric in METRICS if metric.kind == "counter" for cell in metric.cells}
    assert not levels & counters
    parts = {cell for cell in gauges if cell[0] not in ("", "slo")}
    read_off = {(part, key) for part, key in parts if key.startswith(("is.", "quantile.")) or key in ("most", "limit")}
    assert parts - read_off <= levels


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_follow_the_conventions(metric: Metric) -> None:
    """Those of Prometheus: one prefix, base units as suffix, _total for counters alone, no reserved suffix or label."""
    assert re.fullmatch(r"resilience(_[a-z]+)+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    base = metric.name.removesuffix("_total")
    assert base.endswith(f"_{metric.unit}") if metric.unit else not base.endswith(("_seconds", "_ratio"))
    assert not base.endswith(("_count", "_sum", "_bucket", "_info", "_created"))
    assert metric.kind == "counter" or metric.together in ("sum", "max", "min")
    assert re.fullmatch(r"[A-Z1][^\n]*[^.\n]", metric.words)
    for label in metric.labels:
        assert re.fullmatch(r"[a-z]+", label)
        assert label not in ("policy", "le", "quantile", "job", "instance")


def test_labels_are_few_and_fixed() -> None:
    """As many values as the table says, whatever keys and errors there are: at most some dozens of series a metric."""
    for metric in METRICS:
        assert len(metric.labels) <= 1
        assert len(metric.cells) <= 10
        for cell in metric.cells:
            assert isinstance(cell, Cell)
            assert len(cell.labels) == len(metric.labels)
            assert all(re.fullmatch(r"[a-z0-9_.]+", label) for label in cell.labels)
    assert sum(len(metric.cells) for metric in METRICS) < 100


def test_promtool_finds_nothing_to_say() -> None:
    """Of an exposition with a line for each number of the table."""
    if shutil.which("promtool") is None:
        pytest.skip("PROMTOOL IS NOT INSTALLED: the names of metrics are checked by this library's own test only")
    lines = []
    for metric in METRICS:
        lines += [f"# HELP {metric.name} {metric.words}", f"# TYPE {metric.name} {metric.kind}"]
        for cell in metric.cells:
            pairs = zip(("policy", *metric.labels), ("p", *cell.labels), strict=True)
            labels = ",".join(f'{name}="{value}"' for name, value in pairs)
            if metric is LATENCY:
                lines += [f'{metric.name}_bucket{{{labels},le="+Inf"}} 1', f"{metric.name}_sum{{{labels}}} 1"]
                lines.append(f"{metric.name}_count{{{labels}}} 1")
            else:
                lines.append(f"{metric.name}{{{labels}}} 1")
    text = "\n".join(lines) + "\n"
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
