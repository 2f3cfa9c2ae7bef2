"""Pieces of PromQL, made from the table of metrics: a name, a label or a value that is not in it cannot be written.

This file knows how a selector is spelt. What is asked with it is the business of `rules` and `grafana`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .table import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .table import Metric

__all__ = ["metric", "rated", "series", "summed"]

_METRICS = {metric.name: metric for metric in METRICS}
_PARTS_OF_A_HISTOGRAM = ("_bucket", "_count", "_sum")


def metric(name: str) -> Metric:
    """The metric of this name; ``_bucket``, ``_count`` and ``_sum`` of a histogram are its.

    Raises:
        LookupError: there is none.
    """
    found = _METRICS.get(name)
    for end in _PARTS_OF_A_HISTOGRAM:
        whole = _METRICS.get(name.removesuffix(end))
        if name.endswith(end) and whole is not None and whole.kind == "histogram":
            found = whole
    if found is None or (found.kind == "histogram" and name == found.name):
        raise LookupError(f"no series is named {name!r}; those that exist are in resilience.telemetry.table")
    return found


def series(name: str, where: str = "", **labels: str) -> str:
    """A selector. Values of *labels* may be several, with ``|`` between; *where* are matchers that are not checked.

    Raises:
        LookupError: the table has no such metric, or that metric no such label or value.
    """
    known = metric(name)
    matchers = [where] if where else []
    for label, values in labels.items():
        if label not in known.labels:
            raise LookupError(f"{name} has the labels {known.labels!r}, not {label!r}")
        place = known.labels.index(label)
        allowed = {cell.labels[place] for cell in known.cells}
        for value in values.split("|"):
            if value not in allowed:
                raise LookupError(f"{label} of {name} is one of {sorted(allowed)!r}, not {value!r}")
        matchers.append(f'{label}{"=~" if "|" in values else "="}"{values}"')
    return f"{name}{{{', '.join(matchers)}}}" if matchers else name


def summed(expression: str, by: Iterable[str], how: str = "sum") -> str:
    """*expression* put together (*how*: ``sum``, ``max`` or ``min``) for each set of values of the labels *by*."""
    return f"{how} by ({', '.join(by)}) ({expression})"


def rated(name: str, span: str, by: Iterable[str], where: str = "", **labels: str) -> str:
    """How much a counter grows per second, on average over *span*.

    Raises:
        LookupError: as `series`, or the metric is one that also goes down.
    """
    if metric(name).kind == "gauge":
        raise LookupError(f"{name} is a gauge: it has no rate")
    return summed(f"rate({series(name, where, **labels)}[{span}])", by)
