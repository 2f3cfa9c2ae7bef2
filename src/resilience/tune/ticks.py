"""Where the marks of an axis stand, and what is written at them.

Knows round numbers. Refuses to know how wide letters are: whoever draws says how many marks there is room for.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from .units import format_ns

if TYPE_CHECKING:
    from .charts import Axis

__all__ = ["axis_label", "ticks"]

_STEPS = ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,))
_ELAPSED = ((86_400e9, "days"), (3600e9, "hours"), (60e9, "minutes"), (1e9, "seconds"))


def ticks(axis: Axis, most: int) -> list[tuple[float, str]]:
    """At most so many marks, by value, with their words; at least two where the axis allows."""
    return _logarithmic(axis, most) if axis.log else _elapsed(axis, most)


def axis_label(axis: Axis) -> str:
    """The label, with the unit if the marks do not carry it."""
    if axis.log:
        return axis.label
    return f"{axis.label} ({_unit(axis)[1]})"


def _logarithmic(axis: Axis, most: int) -> list[tuple[float, str]]:
    low, high = axis.low * (1 - 1e-9), axis.high * (1 + 1e-9)
    first = math.floor(math.log10(low))
    last = math.ceil(math.log10(high))
    apart = (axis.high / axis.low) ** (0.7 / most)
    found: list[float] = []
    for steps in _STEPS:
        found = [step * 10.0**e for e in range(first, last + 1) for step in steps if low <= step * 10.0**e <= high]
        if axis.scale == "count":
            found = [value for value in found if value == int(value)]
        if len(found) <= most and all(b / a >= apart for a, b in pairwise(found)):
            break
    else:
        every = math.ceil(len(found) / most)
        found = [value for value in found if round(math.log10(value)) % every == 0]
    if len(found) < 3 and axis.high < 5 * axis.low:  # hardly any range: round numbers at equal distances
        step = _round_step((axis.high - axis.low) / most)
        found = [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
    marks = [(value, _words(axis, value)) for value in found if not (axis.none and value < 3 * axis.low)]
    if axis.none:
        marks.insert(0, (axis.low * 1.3, "none"))
    return marks


def _words(axis: Axis, value: float) -> str:
    if axis.scale == "duration":
        return format_ns(value, 6)
    if axis.scale == "share":
        return f"{value * 100:.10g} %"
    return f"{value:,.0f}".replace(",", "\u202f") if value >= 1 else f"{value:.1g}"


def _unit(axis: Axis) -> tuple[float, str]:
    for factor, words in _ELAPSED:
        if axis.high >= 2.5 * factor:
            return factor, words
    return _ELAPSED[-1]


def _elapsed(axis: Axis, most: int) -> list[tuple[float, str]]:
    factor, _ = _unit(axis)
    step = _round_step((axis.high - axis.low) / factor / most)
    first, last = math.ceil(axis.low / factor / step), math.floor(axis.high / factor / step * (1 + 1e-9))
    return [(n * step * factor, f"{n * step:.10g}") for n in range(first, last + 1)]


def _round_step(least: float) -> float:
    base = 10.0 ** math.floor(math.log10(least))
    return next(step * base for step in (1, 2, 5, 10) if step * base >= least * (1 - 1e-9))
