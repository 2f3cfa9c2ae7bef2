"""What exporters other than Prometheus's derive from the table of metrics and from the readings.

Names and units as others write them, all named policies read at once, and what happened between two readings. This
file knows no exporter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..machines.distribution import Distribution
    from ..policy import Policy
    from ._readings import Taker
    from .reading import Numbers
    from .table import Cell, Metric

__all__ = ["PREFIX", "Reading", "noun", "read", "since", "stem"]

PREFIX = "resilience"
"""With which all names begin."""


@dataclass(frozen=True, slots=True)
class Reading:
    """All that one policy shows, at one moment. It does not hold the policy, or the registry could not forget it."""

    name: str
    numbers: Numbers
    durations: dict[str, Distribution]

    def value(self, cell: Cell) -> int | float | None:
        """The number in the cell; ``None`` if this policy has none."""
        return self.numbers.get(cell.part, {}).get(cell.key)


def read(taker: Taker) -> Iterator[tuple[Policy, Reading]]:
    """Each named policy and what it shows."""
    for policy, (counts, good, bad) in taker.each():
        yield policy, Reading(policy.name or "", counts, {"good": good, "bad": bad})


def since(now: Distribution, before: Distribution | None) -> Distribution:
    """What *now* has more than *before*, an earlier copy of it."""
    return now if before is None else now.since(before)


def stem(metric: Metric) -> str:
    """Its name without the prefix, the ``_total`` and the unit, which others do not write into names.

    What counts seconds ends in ``_time``: ``wait_time``, beside ``waits``.
    """
    name = metric.name.removeprefix(f"{PREFIX}_").removesuffix("_total")
    if metric.unit:
        name = name.removesuffix(f"_{metric.unit}")
    return f"{name}_time" if metric.kind == "counter" and metric.unit == "seconds" else name


def noun(metric: Metric) -> str | None:
    """What is counted, such as ``call``; ``None`` for what is no number of things."""
    last = stem(metric).rpartition("_")[2]
    if metric.unit or not last.endswith("s"):
        return None
    return re.sub("ie$", "y", last[:-1])
