"""The rules, judged by Prometheus's own promtool: each alert fires when it should, and only then."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from resilience.errors import ConfigError
from resilience.telemetry.rules import Settings, groups, rules
from resilience.telemetry.table import METRICS
from telemetry.servers import needed

Series = dict[str, str]

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "alerts.md"
ALERTS = {rule["alert"]: rule for group in groups() for rule in group["rules"] if "alert" in rule}


def named(name: str, instance: str = "a", **labels: str) -> str:
    """A series of one policy of one process."""
    every = {"job": "shop", "instance": instance, "policy": "payments", **labels}
    matchers = [f'{label}="{value}"' for label, value in every.items()]
    return f"{name}{{{','.join(matchers)}}}"


CALLS = named("resilience_calls_total", outcome="succeeded")
ATTEMPTS = named("resilience_attempts_total")
OPEN, HALF, CLOSED, FORCED = (
    named("resilience_circuits", state=state) for state in ("open", "half_open", "closed", "forced_open")
)
OPEN_IN_B = named("resilience_circuits", "b", state="open")
REFUSED = named("resilience_rejections_total", reason="circuit_open")
LIMITED = named("resilience_rejections_total", reason="rate_limited")
FULL = named("resilience_rejections_total", reason="bulkhead_full")
LIMITER_WAITS = named("resilience_waits_total", part="limiter")
BULKHEAD_WAITS = named("resilience_waits_total", part="bulkhead")
RETRIES = named("resilience_retries_total")
STOPS = named("resilience_retry_stops_total", reason="budget")
TIMEOUTS = named("resilience_attempt_timeouts_total")
TIMEOUT = named("resilience_timeout_seconds")
CEILING = named("resilience_timeout_ceiling_seconds")
FALSE = named("resilience_false_timeouts_ratio")
OBJECTIVE = named("resilience_slo_objective_ratio")
GOOD = named("resilience_slo_calls_total", verdict="good")
BAD = named("resilience_slo_calls_total", verdict="bad")
BAD_IN_B = named("resilience_slo_calls_total", "b", verdict="bad")
SHEDDING = named("resilience_slo_shedding")


@dataclass(frozen=True)
class Case:
    """A course of the numbers, in promtool's notation, and the alerts that fire *at* its end.

    ``0+60x10`` begins at 0 and grows ten times by 60.
    """

    why: str
    series: Series
    at: str
    fires: Mapping[str, str]
    step: str


def case(why: str, series: Series, at: str, *, step: str = "1m", **fires: str) -> Case:
    """*fires*: the alert, and its summary without the policy."""
    return Case(why, series, at, {f"Resilience{name}": f"payments: {says}" for name, says in fires.items()}, step)


BROKEN = {OPEN: "1x20", HALF: "0x20", CLOSED: "0x20", REFUSED: "0+60x20"}
DOUBLED = {CALLS: "0+60x30", ATTEMPTS: "0+120x30"}
EMPTY = {CALLS: "0+60x30", STOPS: "0+60x30", RETRIES: "0+6x30"}
STARVED = {CALLS: "0+60x30", ATTEMPTS: "0+60x30", LIMITED: "0+15x30", LIMITER_WAITS: "0+15x30"}
CROWDED = {CALLS: "0+60x30", ATTEMPTS: "0+60x30", FULL: "0+15x30", BULKHEAD_WAITS: "0+15x30"}
SLOW = {CALLS: "0+90x40", ATTEMPTS: "0+90x40", TIMEOUTS: "0+9x40", TIMEOUT: "2x40", CEILING: "2x40"}
WRONG = {CALLS: "0+60x60", FALSE: "0.05x60"}

CASES = [
    case("a circuit does not close", BROKEN, "8m", CircuitOpen="circuit open, 1 in one process"),
    case(
        "it is half-open between, when somebody looks",
        {**BROKEN, OPEN: "1 0 1 0 1 0 1 0 1 0", HALF: "0 1 0 1 0 1 0 1 0 1"}, "8m",
        CircuitOpen="circuit open, 1 in one process",
    ),
    case("it is open since just now", {**BROKEN, OPEN: "0x5 1x14", CLOSED: "1x5 0x14"}, "8m"),
    case("it closed between", {**BROKEN, OPEN: "1x3 0 1x4 0 1x9", CLOSED: "0x3 1 0x4 1 0x9"}, "10m"),
    case("nobody calls", {**BROKEN, REFUSED: "60x20"}, "8m"),
    case("two processes in turn", {**BROKEN, OPEN: "1 0 1 0 1 0 1 0 1 0", OPEN_IN_B: "0 1 0 1 0 1 0 1 0 1"}, "8m"),
    case("a circuit is forced open", {FORCED: "1x90"}, "62m", CircuitSteered="1 circuits are held by hand"),
    case("it is so for half an hour", {FORCED: "1x90"}, "30m"),
    case("two attempts a call", DOUBLED, "20m", RetryAmplification="2 attempts for each call"),
    case("a retry now and then", {**DOUBLED, ATTEMPTS: "0+80x30"}, "20m"),
    case("for five minutes only", DOUBLED, "5m"),
    case("six calls a minute", {CALLS: "0+6x30", ATTEMPTS: "0+18x30"}, "20m"),
    case(
        "the budget refuses ten retries of eleven", EMPTY, "15m",
        RetryBudgetEmpty="the budget refuses 90.91% of the retries",
    ),
    case("it refuses a third", {**EMPTY, STOPS: "0+3x30"}, "15m"),
    case("it refuses all of few", {**EMPTY, CALLS: "0+6x30"}, "15m"),
    case(
        "calls are limited", STARVED, "20m",
        LimiterStarving="40% of the attempts wait for the limiter or are refused by it",
    ),
    case("a tenth of them", {**STARVED, LIMITED: "0+1x30", LIMITER_WAITS: "0+5x30"}, "20m"),
    case("for five minutes only", STARVED, "5m"),
    case(
        "calls find no slot", CROWDED, "20m",
        BulkheadFull="40% of the attempts wait for the bulkhead or are refused by it",
    ),
    case("a tenth of them", {**CROWDED, FULL: "0+1x30", BULKHEAD_WAITS: "0+5x30"}, "20m"),
    case("few calls", {**CROWDED, CALLS: "0+6x30"}, "20m"),
    case(
        "a tenth times out at the ceiling", SLOW, "25m",
        TimeoutAtCeiling="10% of the attempts time out, and the timeout cannot grow",
    ),
    case("the timeout can still grow", {**SLOW, TIMEOUT: "1.5x40"}, "25m"),
    case("hardly any times out", {**SLOW, TIMEOUTS: "0+1x40"}, "25m"),
    case(
        "many are cut off falsely", WRONG, "50m",
        FalseTimeouts="5% of the attempts are cut off and would have been answered",
    ),
    case("one in a hundred", {**WRONG, FALSE: "0.01x60"}, "50m"),
    case("shedding", {SHEDDING: "1x10"}, "8m", Shedding="retries and hedges are switched off"),
    case("no shedding", {SHEDDING: "0x10"}, "8m"),
    case(
        "a tenth of the calls is bad", {OBJECTIVE: "0.999x30", GOOD: "0+90x30", BAD: "0+10x30"}, "14m",
        BudgetBurnFast="10% of the calls of 1h were bad",
    ),
    case(
        "bad calls of two processes",
        {OBJECTIVE: "0.999x30", GOOD: "0+90x30", BAD: "0+5x30", BAD_IN_B: "0+5x30"}, "14m",
        BudgetBurnFast="10% of the calls of 1h were bad",
    ),
    case("as many as the objective allows", {OBJECTIVE: "0.9x30", GOOD: "0+90x30", BAD: "0+10x30"}, "14m"),
    case("two bad calls a minute are too few", {OBJECTIVE: "0.999x30", GOOD: "0+10x30", BAD: "0+1x30"}, "14m"),
    case("a blip", {OBJECTIVE: "0.999x90", GOOD: "0+1000x90", BAD: "0x80 10x10"}, "90m"),
    case(
        "it is over since a while", {OBJECTIVE: "0.999x90", GOOD: "0+90x90", BAD: "0+10x30 310x60"}, "70m",
        BudgetBurnSteady="4.69% of the calls of 3d were bad",
    ),
    case(
        "1 % is bad for hours", {OBJECTIVE: "0.999x500", GOOD: "0+990x500", BAD: "0+10x500"}, "450m",
        BudgetBurnSlow="1% of the calls of 6h were bad", BudgetBurnSteady="1% of the calls of 3d were bad",
    ),
    case(
        "0.2 % is bad for days", {OBJECTIVE: "0.999x500", GOOD: "0+9980x500", BAD: "0+20x500"}, "5000m", step="10m",
        BudgetBurnSteady="0.2% of the calls of 3d were bad",
    ),
    case(
        "0.5 % is bad for hours, after good days", {OBJECTIVE: "0.999x500", GOOD: "0+9950x500", BAD: "0x460 0+50x40"},
        "5000m", step="10m",
    ),
    case(
        "0.05 % is bad for days", {OBJECTIVE: "0.999x500", GOOD: "0+9995x500", BAD: "0+5x500"}, "5000m", step="10m",
    ),
]  # fmt: skip


def expected(name: str, summary: str) -> dict[str, Any]:
    """An alert as promtool wants to hear of it."""
    rule = ALERTS[name]
    return {
        "exp_labels": {"job": "shop", "policy": "payments", **rule["labels"]},
        "exp_annotations": {**rule["annotations"], "summary": summary},
    }


def promtool(command: list[str]) -> str:
    """What it says; the test fails with it, if promtool finds fault."""
    done = subprocess.run([needed("promtool"), *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("course", CASES, ids=lambda course: course.why)
def test_alerts_fire_when_they_should_and_only_then(course: Case, tmp_path: Path) -> None:
    """After a course of the numbers just the alerts that are meant for it fire, with these labels and words."""
    (tmp_path / "rules.yml").write_text(rules())
    checks = [
        {
            "eval_time": course.at,
            "alertname": name,
            "exp_alerts": [expected(name, course.fires[name])] if name in course.fires else [],
        }
        for name in ALERTS
    ]
    inputs = [{"series": name, "values": values} for name, values in course.series.items()]
    (tmp_path / "test.yml").write_text(json.dumps({
        "rule_files": ["rules.yml"],
        "evaluation_interval": course.step,
        "tests": [{"interval": course.step, "input_series": inputs, "alert_rule_test": checks}],
    }))  # fmt: skip
    promtool(["test", "rules", str(tmp_path / "test.yml")])


def test_every_alert_was_seen_firing() -> None:
    """No alert is without a course that fires it."""
    assert {name for course in CASES for name in course.fires} == set(ALERTS)


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(by=()),
        Settings(by=("cluster", "job"), labels={"team": 'it\'s "ours"'}, page="page", ticket="ticket"),
        Settings(open_for=90, runbook="https://example.org/alerts", minimum_calls=0, minimum_bad=0),
        Settings(scale=1 / 60),
        Settings(scale=0.000123),
    ],
    ids=repr,
)
def test_prometheus_takes_the_rules(settings: Settings, tmp_path: Path) -> None:
    """The tool finds no fault in them, whatever is chosen, and reads all of them."""
    (tmp_path / "rules.yml").write_text(rules(settings))
    said = promtool(["check", "rules", str(tmp_path / "rules.yml")])
    assert f"{sum(len(group['rules']) for group in groups(settings))} rules found" in said


def test_a_scale_shortens_every_duration() -> None:
    """Windows, waits and intervals alike; none is left as it was."""
    duration = re.compile(r"(?<![\w.])(?:\d+(?:ms|[smhd]))+(?!\w)")
    size = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}

    def seconds(settings: Settings) -> list[float]:
        words = duration.findall(rules(settings))
        return [sum(int(n) * size[unit] for n, unit in re.findall(r"(\d+)(ms|[smhd])", word)) for word in words]

    whole = seconds(Settings())
    assert {60.0, 300.0, 3600.0, 86400.0 * 3} <= set(whole)
    assert seconds(Settings(scale=1 / 60)) == pytest.approx([length / 60 for length in whole], abs=0.001)


def test_every_alert_is_explained() -> None:
    """Its runbook is a heading of the guide, and the guide has no alert that does not exist."""
    headings = re.findall(r"^#+ (Resilience\w+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == list(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook_url"] == f"docs/how-to/alerts.md#{name.lower()}"


def test_rules_ask_only_for_what_exists() -> None:
    """Every name in them is a metric of the table, or recorded by another rule."""
    every = [rule for group in groups() for rule in group["rules"]]
    known = {metric.name for metric in METRICS} | {rule["record"] for rule in every if "record" in rule}
    for rule in every:
        asked = set(re.findall(r"[\w:]*resilience_[\w:]+", rule["expr"]))
        assert asked
        assert asked <= known


@pytest.mark.parametrize(
    ("settings", "error", "named"),
    [
        ({"by": "job"}, TypeError, "by must be a list"),
        ({"by": (1,)}, TypeError, "by must name labels"),
        ({"by": ("a-b",)}, ConfigError, "'a-b'"),
        ({"by": ("__name__",)}, ConfigError, "'__name__'"),
        ({"by": ("policy",)}, ConfigError, "not policy"),
        ({"by": ("job", "job")}, ConfigError, "once"),
        ({"labels": ["team"]}, TypeError, "labels must be a dict"),
        ({"labels": {"a b": "c"}}, ConfigError, "'a b'"),
        ({"labels": {"team": 1}}, TypeError, r"labels\['team'\]"),
        ({"page": ""}, ConfigError, "page"),
        ({"ticket": 1}, TypeError, "ticket"),
        ({"runbook": ""}, ConfigError, "runbook"),
        ({"open_for": 0}, ConfigError, "open_for"),
        ({"amplification": 1}, ConfigError, "amplification"),
        ({"starved": 0}, ConfigError, "starved"),
        ({"timed_out": 1}, ConfigError, "timed_out"),
        ({"false_timeouts": "x"}, TypeError, "false_timeouts"),
        ({"budget_refused": 2}, ConfigError, "budget_refused"),
        ({"minimum_calls": -1}, ConfigError, "minimum_calls"),
        ({"minimum_bad": 1.5}, TypeError, "minimum_bad"),
        ({"scale": 0}, ConfigError, "scale"),
        ({"scale": 1e-6}, ConfigError, "millisecond"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], error: type[Exception], named: str) -> None:
    """With an error that names what is wrong."""
    with pytest.raises(error, match=named):
        Settings(**settings)


def test_only_settings_are_settings() -> None:
    """A mapping is not taken for them."""
    with pytest.raises(TypeError, match="settings must be Settings"):
        rules({"scale": 2})  # type: ignore[arg-type]
