"""The page of the documentation that lists every metric, made from the table of metrics."""

from __future__ import annotations

from .table import METRICS

__all__ = ["reference"]

_HEAD = """\
# Metrics

<!-- Made by `resilience metrics`; a test fails when it is not up to date. -->

Every metric of every policy that has a name. Beside the labels listed, each has `policy`, the name of the policy. The
names are those of Prometheus; OpenTelemetry and EMF lines derive theirs from them.

A counter begins at 0 with the process and only grows. What a policy does not have, it does not report: without a
breaker there are no circuits. *From* says which part has the numbers, `policy` for the policy itself. *Together* says
how the numbers of several processes become one.

| metric | kind | tells | labels | from | together |
|---|---|---|---|---|---|
"""


def reference() -> str:
    """The page, as Markdown."""
    lines = []
    for metric in METRICS:
        labels = []
        for place, label in enumerate(metric.labels):
            values = dict.fromkeys(cell.labels[place] for cell in metric.cells)
            labels.append(f"`{label}`: {', '.join(f'`{value}`' for value in values)}")
        parts = dict.fromkeys(cell.part or "policy" for cell in metric.cells)
        row = [f"`{metric.name}`", metric.kind, metric.words, "; ".join(labels), ", ".join(parts), metric.together]
        lines.append(f"| {' | '.join(row)} |\n")
    return _HEAD + "".join(lines)
