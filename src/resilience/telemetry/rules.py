"""Rules for Prometheus: what to keep reckoned, and what to tell somebody about.

`rules` writes the file, from the table of metrics. The meaning of each alert, and what to do about it, is in the how-to
"Alerts"; each alert has the place as its ``runbook_url``.

An alert is about one policy, over all processes that have it. Whoever is woken is woken for calls that go badly, or for
a circuit that stays open (``page``); all else can wait for the day (``ticket``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import _checks
from ..errors import ConfigError
from ._promql import rated, series, summed
from ._yaml import dump

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["BURNS", "RUNBOOK", "Settings", "groups", "rules"]

RUNBOOK = "docs/how-to/alerts.md"
"""Where the alerts are explained."""

BURNS = (
    ("Fast", 3600.0, 300.0, 14.4, 120.0, True),
    ("Slow", 21600.0, 1800.0, 6.0, 900.0, True),
    ("Steady", 259200.0, 21600.0, 1.0, 3600.0, False),
)
"""Name, long span, short span, burn rate above which both alarm, how long (seconds), and whether to wake somebody.

2 % of the budget of 30 days in an hour, 5 % in six, 10 % in three days: "The Site Reliability Workbook" (Google, 2018),
chapter 5, "Alerting on SLOs".
"""

_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MINUTE = 60.0
_SPAN = 5 * _MINUTE
"""Rates of parts are those of the last five minutes."""

_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))

Rule = dict[str, Any]


def rules(settings: Settings | None = None) -> str:
    """The rules as a YAML file, for ``rule_files`` of Prometheus.

    Raises:
        TypeError: *settings* are none.
    """
    return dump({"groups": groups(settings)})


def groups(settings: Settings | None = None) -> list[dict[str, Any]]:
    """The same as data: the groups, with their rules. Errors are those of `rules`."""
    told = Settings() if settings is None else settings
    if not isinstance(told, Settings):
        raise TypeError(f"settings must be Settings, not {settings!r}")
    return [
        {"name": "resilience_parts", "rules": [*_records_of_parts(told), *_alerts_of_parts(told)]},
        {
            "name": "resilience_objectives",
            "interval": told.span(_MINUTE),  # spans of days are dear to reckon, and change slowly
            "rules": [*_records_of_objectives(told), *_alerts_of_objectives(told)],
        },
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What can be chosen about the rules.

    Attributes:
        by: labels beside ``policy`` that make two policies two; processes that differ in others are taken together.
        labels: labels for every alert, such as a team.
        page: the ``severity`` of alerts that should wake somebody.
        ticket: the ``severity`` of all others.
        open_for: seconds that a circuit stays open before it is an alert.
        amplification: attempts per call that are too many; above 1.
        starved: share of attempts that a limiter or bulkhead refuses or lets wait, above which it is too small.
        timed_out: share of attempts ended by a timeout at its ceiling that is too large.
        false_timeouts: share of attempts cut off falsely that is too large.
        budget_refused: share of the wanted retries that the budget refuses, above which it counts as empty.
        minimum_calls: calls in five minutes that a share needs to mean something.
        minimum_bad: bad calls in the short span that a burn rate needs to mean something.
        runbook: what the places of the alerts' explanations begin with; a URL, if there is one.
        scale: factor on every duration. 1/60 makes minutes of hours: for trying alerts out, not for use.

    Raises:
        ConfigError: an argument is out of range.
        TypeError: an argument has the wrong type.
    """

    by: Sequence[str] = ("job",)
    labels: Mapping[str, str] | None = None
    page: str = "critical"
    ticket: str = "warning"
    open_for: float = 300.0
    amplification: float = 1.5
    starved: float = 0.2
    timed_out: float = 0.05
    false_timeouts: float = 0.02
    budget_refused: float = 0.5
    minimum_calls: int = 50
    minimum_bad: int = 10
    runbook: str = RUNBOOK
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.by, (tuple, list)):
            raise TypeError(f"by must be a list of labels, not {self.by!r}")
        for label in self.by:
            _label("by", label)
        if "policy" in self.by or len(set(self.by)) != len(self.by):
            raise ConfigError(f"by must name each label once, and not policy, not {self.by!r}")
        if self.labels is not None and not isinstance(self.labels, dict):
            raise TypeError(f"labels must be a dict of strings, not {self.labels!r}")
        for label, value in (self.labels or {}).items():
            _label("labels", label)
            _checks.text(f"labels[{label!r}]", value)
        for name in ("page", "ticket", "runbook"):
            _checks.text(name, getattr(self, name))
        _checks.span("open_for", self.open_for)
        _checks.number("amplification", self.amplification, above=1)
        for name in ("starved", "timed_out", "false_timeouts", "budget_refused"):
            _checks.ratio(name, getattr(self, name), one=False)
        for name in ("minimum_calls", "minimum_bad"):
            _checks.count(name, getattr(self, name), minimum=0)
        _checks.number("scale", self.scale, above=0)
        if self.scale * min(self.open_for, _MINUTE) < 1e-3:
            raise ConfigError(f"scale must leave a millisecond of every duration, not {self.scale!r}")

    @property
    def level(self) -> tuple[str, ...]:
        """The labels that tell policies apart."""
        return (*self.by, "policy")

    def span(self, seconds: float) -> str:
        """A duration as Prometheus writes it: whole milliseconds."""
        left = round(seconds * self.scale * 1000)
        words = ""
        for unit, size in _UNITS:
            if left >= size:
                words += f"{left // size}{unit}"
                left %= size
        return words

    def record(self, what: str) -> str:
        """The name of what a rule records, by the convention ``level:metric:operations``."""
        return f"{'_'.join(self.level)}:{what}"

    def rate(self, name: str, seconds: float = _SPAN, **labels: str) -> str:
        """How fast a counter grows."""
        return rated(name, self.span(seconds), self.level, **labels)

    def alert(self, name: str, expression: str, hold: float, says: str, words: str, *, page: bool = False) -> Rule:
        """One alert. *says* is its summary, *words* its description."""
        name = f"Resilience{name}"
        return {
            "alert": name,
            "expr": expression,
            "for": self.span(hold),
            "labels": {**(self.labels or {}), "severity": self.page if page else self.ticket},
            "annotations": {
                "summary": f"{{{{ $labels.policy }}}}: {says}",
                "description": words,
                "runbook_url": f"{self.runbook}#{name.lower()}",
            },
        }


def _label(name: str, label: object) -> None:
    if not isinstance(label, str):
        raise TypeError(f"{name} must name labels by strings, not {label!r}")
    if not _LABEL.fullmatch(label) or label.startswith("__"):
        raise ConfigError(f"{name} must name labels of letters, digits and _, not {label!r}")


def _records_of_parts(told: Settings) -> Iterator[Rule]:
    """What the alerts of parts ask, and others may: each reckoned once."""
    span = told.span(_SPAN)
    rate = told.rate
    attempts = rate("resilience_attempts_total")
    refused = rate("resilience_rejections_total")
    yield {
        "record": told.record(f"resilience_calls:increase{span}"),
        "expr": summed(f"increase({series('resilience_calls_total')}[{span}])", told.level),
    }
    yield {
        "record": told.record(f"resilience_attempts:per_call_rate{span}"),
        "expr": f"{attempts}\n/\n{rate('resilience_calls_total')}",
    }
    for part, reason in (("limiter", "rate_limited"), ("bulkhead", "bulkhead_full")):
        short = f"{rate('resilience_rejections_total', reason=reason)}\n  + {rate('resilience_waits_total', part=part)}"
        yield {
            "record": told.record(f"resilience_{part}:starved_ratio_rate{span}"),
            "expr": f"(\n  {short}\n)\n/\n(\n  {attempts}\n  + {refused}\n)",
        }
    yield {
        "record": told.record(f"resilience_attempt_timeouts:ratio_rate{span}"),
        "expr": f"{rate('resilience_attempt_timeouts_total')}\n/\n{attempts}",
    }
    stopped = rate("resilience_retry_stops_total", reason="budget")
    yield {
        "record": told.record(f"resilience_retry_budget:refused_ratio_rate{span}"),
        "expr": f"{stopped}\n/\n(\n  {stopped}\n  + {rate('resilience_retries_total')}\n)",
    }


def _alerts_of_parts(told: Settings) -> Iterator[Rule]:
    span = told.span(_SPAN)
    alert = told.alert
    enough = f"\nand\n{told.record(f'resilience_calls:increase{span}')} >= {told.minimum_calls}"
    # Half-open is between two times of being open, and may last no longer than a scrape.
    not_closed = f"sum without (state) ({series('resilience_circuits', state='open|half_open')})"
    opened = summed(f"min_over_time(({not_closed})[{told.span(told.open_for)}:])", told.level, "max")
    refused = told.rate("resilience_rejections_total", told.open_for, reason="circuit_open")
    yield alert(
        "CircuitOpen", f"{opened} > 0\nand\n{refused} > 0", _MINUTE,
        "circuit open, {{ $value }} in one process",
        f"A circuit has not closed for {told.span(told.open_for)}, and calls are refused. The dependency fails, or its "
        "probes do.",
        page=True,
    )  # fmt: skip
    yield alert(
        "CircuitSteered", f"{summed(series('resilience_circuits', state='forced_open|disabled'), told.level)} > 0",
        60 * _MINUTE,
        "{{ $value }} circuits are held by hand",
        "Somebody forced a circuit open, or disabled it, and has not reset it since.",
    )  # fmt: skip
    yield alert(
        "RetryAmplification",
        f"{told.record(f'resilience_attempts:per_call_rate{span}')} > {told.amplification:g}{enough}", 10 * _MINUTE,
        "{{ $value | humanize }} attempts for each call",
        "Retries and hedges multiply the load of a dependency that fails or is slow.",
    )  # fmt: skip
    yield alert(
        "RetryBudgetEmpty",
        f"{told.record(f'resilience_retry_budget:refused_ratio_rate{span}')} > {told.budget_refused:g}{enough}",
        _SPAN,
        "the budget refuses {{ $value | humanizePercentage }} of the retries",
        "So many calls fail that most are not tried again. Callers see the failures.",
    )  # fmt: skip
    for name, part, thing in (("LimiterStarving", "limiter", "tokens"), ("BulkheadFull", "bulkhead", "slots")):
        yield alert(
            name, f"{told.record(f'resilience_{part}:starved_ratio_rate{span}')} > {told.starved:g}{enough}",
            10 * _MINUTE,
            f"{{{{ $value | humanizePercentage }}}} of the attempts wait for the {part} or are refused by it",
            f"There are more calls than {thing}.",
        )  # fmt: skip
    timed_out = told.record(f"resilience_attempt_timeouts:ratio_rate{span}")
    length = f"{series('resilience_timeout_seconds')} / {series('resilience_timeout_ceiling_seconds')}"
    yield alert(
        "TimeoutAtCeiling",
        f"{timed_out} > {told.timed_out:g}\nand\n{summed(length, told.level, 'max')} >= 0.99{enough}", 15 * _MINUTE,
        "{{ $value | humanizePercentage }} of the attempts time out, and the timeout cannot grow",
        "The dependency is slower than the longest timeout that is allowed.",
    )  # fmt: skip
    wrong = summed(series("resilience_false_timeouts_ratio"), told.level, "max")
    yield alert(
        "FalseTimeouts", f"{wrong} > {told.false_timeouts:g}{enough}", 30 * _MINUTE,
        "{{ $value | humanizePercentage }} of the attempts are cut off and would have been answered",
        "The timeout is too short for the dependency as it is now.",
    )  # fmt: skip


def _records_of_objectives(told: Settings) -> Iterator[Rule]:
    yield {
        "record": told.record("resilience_slo:budget_ratio"),
        "expr": f"1 - {summed(series('resilience_slo_objective_ratio'), told.level, 'max')}",
    }
    for seconds in sorted({seconds for _, *spans, _, _, _ in BURNS for seconds in spans}):
        bad = told.rate("resilience_slo_calls_total", seconds, verdict="bad")
        yield {
            "record": told.record(f"resilience_slo_calls:bad_ratio_rate{told.span(seconds)}"),
            "expr": f"{bad}\n/\n{told.rate('resilience_slo_calls_total', seconds)}",
        }


def _alerts_of_objectives(told: Settings) -> Iterator[Rule]:
    for name, long, short, burn, hold, page in BURNS:
        over = [
            f"{told.record(f'resilience_slo_calls:bad_ratio_rate{told.span(seconds)}')}"
            f" > {burn:g} * {told.record('resilience_slo:budget_ratio')}"
            for seconds in (long, short)
        ]
        bad = series("resilience_slo_calls_total", verdict="bad")
        enough = f"{summed(f'increase({bad}[{told.span(short)}])', told.level)} >= {told.minimum_bad}"
        yield told.alert(
            f"BudgetBurn{name}", "\nand\n".join([*over, enough]), hold,
            f"{{{{ $value | humanizePercentage }}}} of the calls of {told.span(long)} were bad",
            f"The burn rate is above {burn:g} over {told.span(long)} and over {told.span(short)}. Going on so, a "
            f"budget for 30 days lasts {30 / burn:.0f} days.",
            page=page,
        )  # fmt: skip
    yield told.alert(
        "Shedding", f"{summed(series('resilience_slo_shedding'), told.level, 'max')} > 0", _SPAN,
        "retries and hedges are switched off",
        "The error budget burns so fast that a policy makes no second attempt, to save load.",
    )  # fmt: skip
