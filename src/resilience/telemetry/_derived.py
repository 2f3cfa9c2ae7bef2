"""What exporters other than Prometheus's derive from the table of metrics and from the readings.

Names and units as others write them, all named policies read at once, and what happened between two readings. This
file knows no exporter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._hooks import log
from ..machines.distribution import Distribution
from .reading import latency, numbers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._registry import Registry
    from ..policy import Policy
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


def read(registry: Registry) -> Iterator[tuple[Policy, Reading]]:
    """Each named policy and what it shows. One that cannot be read is left out, and that is logged."""
    for name in registry:
        policy = registry.get(name)
        if policy is None:  # gone just now
            continue
        try:
            counts = numbers(policy)  # before the durations, so that no call is counted whose duration is missing
            good, bad = latency(policy)
        except Exception:
            log.exception("the numbers of %r cannot be read", name)
        else:
            yield policy, Reading(name, counts, {"good": good, "bad": bad})


def since(now: Distribution, before: Distribution | None) -> Distribution:
    """What *now* has more than *before*, an earlier copy of it."""
    if before is None:
        return now
    fresh = Distribution()
    fresh.counts = {bucket: more for bucket, n in now.counts.items() if (more := n - before.counts.get(bucket, 0)) > 0}
    fresh.count = now.count - before.count
    fresh.sum = now.sum - before.sum
    return fresh


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
