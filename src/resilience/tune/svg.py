"""Pictures as SVG, drawn by ourselves: no library, no script, no font of others.

Knows coordinates. Colors are classes that the page defines for light and dark. Every picture has a title and a
description for those who do not see it.
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

from .charts import Axis, Band, Bars, Chart, Dots, Line, Rule, Stretch
from .ticks import axis_label, ticks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["draw"]

_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 28, 46
_LETTER = 6.6
"""How wide a letter is, about, at the size the pages writes marks in."""


class _Frame:
    """From values to places."""

    def __init__(self, chart: Chart, width: int, height: int) -> None:
        self.chart, self.width, self.height = chart, width, height
        self.right, self.bottom = width - _RIGHT, height - _BOTTOM
        self.taken: list[tuple[float, float, float]] = []  # where words stand: from, to, height

    def x(self, value: float) -> float:
        return _LEFT + (self.right - _LEFT) * _share(self.chart.x, value)

    def y(self, value: float) -> float:
        return self.bottom - (self.bottom - _TOP) * _share(self.chart.y, value)


def _share(axis: Axis, value: float) -> float:
    """How far along the axis a value lies, 0 to 1; what lies outside is put on the edge."""
    value = min(max(value, axis.low), axis.high)
    if axis.log:
        return math.log(value / axis.low) / math.log(axis.high / axis.low)
    return (value - axis.low) / (axis.high - axis.low)


def draw(chart: Chart, width: int, height: int, suffix: str) -> str:
    """A picture of that size in px as an ``svg`` element.

    Args:
        chart: what to draw.
        width: in px, 300 or more.
        height: in px, 200 or more.
        suffix: makes the ids in it differ from those of others on the page.
    """
    frame = _Frame(chart, width, height)
    ident = f"{chart.name}-{suffix}"
    parts = [
        (
            f'<svg class="{escape(suffix)}" viewBox="0 0 {width} {height}" role="img" '
            f'aria-labelledby="{ident}-title {ident}-text">'
        ),
        f'<title id="{ident}-title">{escape(chart.title)}</title>',
        f'<desc id="{ident}-text">{escape(chart.description)}</desc>',
        *_grid(frame),
    ]
    for layer in chart.layers:
        parts.extend(_layer(frame, layer))
    parts.append("</svg>")
    return "\n".join(parts)


def _n(value: float) -> str:
    text = f"{value:.1f}"
    return text.removesuffix(".0")


def _path(points: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in points)


def _grid(frame: _Frame) -> list[str]:
    chart, right, bottom = frame.chart, frame.right, frame.bottom
    parts = []
    for value, words in ticks(chart.y, max(3, (bottom - _TOP) // 32)):
        y = _n(frame.y(value))
        parts.append(f'<path class="grid" d="M{_LEFT} {y}H{right}"/>')
        parts.append(f'<text class="mark end" x="{_LEFT - 7}" y="{y}" dy=".35em">{escape(words)}</text>')
    marks = ticks(chart.x, max(3, (right - _LEFT) // 62))
    for value, words in marks:
        place = frame.x(value)
        parts.append(f'<path class="grid" d="M{_n(place)} {_TOP}V{bottom}"/>')
        half = len(words) * _LETTER / 2
        shown = min(max(place, half), frame.width - half)
        parts.append(f'<text class="mark mid" x="{_n(shown)}" y="{bottom + 17}">{escape(words)}</text>')
    parts.append(f'<path class="axis" d="M{_LEFT} {bottom}H{right}"/>')
    parts.append(f'<text class="name" x="4" y="13">{escape(axis_label(chart.y))}</text>')
    parts.append(f'<text class="name end" x="{right}" y="{frame.height - 6}">{escape(axis_label(chart.x))}</text>')
    return parts


def _layer(frame: _Frame, layer: object) -> list[str]:
    match layer:
        case Stretch(style=style, low=low, high=high):
            left, right = frame.x(low), frame.x(high)
            wide = max(2.0, right - left)
            return [
                (
                    f'<rect class="stretch {style}" x="{_n(left)}" y="{_TOP}" width="{_n(wide)}" '
                    f'height="{frame.bottom - _TOP}"/>'
                )
            ]
        case Bars(style=style, points=points):
            parts = []
            for low, high, count in points:
                left, right, top = frame.x(low), frame.x(high), frame.y(count)
                gap = 1 if right - left > 4 else 0
                parts.append(f"M{_n(left)} {frame.bottom}V{_n(top)}H{_n(right - gap)}V{frame.bottom}Z")
            return [f'<path class="bars {style}" d="{"".join(parts)}"/>']
        case Band(style=style, points=points):
            there = [(frame.x(x), frame.y(high)) for x, _, high in points]
            back = [(frame.x(x), frame.y(low)) for x, low, _ in reversed(points)]
            return [f'<path class="band {style}" d="{_path(there + back)}Z"/>']
        case Line(style=style, points=points, steps=steps):
            return [f'<path class="line {style}" d="{_path(_stepped(frame, points, steps=steps))}"/>']
        case Rule(style=style, axis=axis, at=at):
            place = f"M{_n(frame.x(at))} {_TOP}V{frame.bottom}"
            if axis == "y":
                place = f"M{_LEFT} {_n(frame.y(at))}H{frame.right}"
            return [f'<path class="rule {style}" d="{place}"/>']
        case Dots(style=style, points=points, words=words):
            return _dots(frame, style, points, words)
    raise AssertionError(f"there is no way to draw {layer!r}")


def _stepped(frame: _Frame, points: Iterable[tuple[float, float]], *, steps: bool) -> list[tuple[float, float]]:
    places: list[tuple[float, float]] = []
    for x, y in points:
        place = (frame.x(x), frame.y(y))
        if steps and places:
            places.append((place[0], places[-1][1]))
        places.append(place)
    return places


def _dots(frame: _Frame, style: str, points: Sequence[tuple[float, float]], words: Sequence[str]) -> list[str]:
    parts = []
    for number, (x, y) in enumerate(points):
        left, top = frame.x(x), frame.y(y)
        parts.append(f'<circle class="dot {style}" cx="{_n(left)}" cy="{_n(top)}" r="{4.5 if words else 3}"/>')
        if number < len(words):
            parts.append(_words(frame, left, top, words[number]))
    return parts


def _words(frame: _Frame, left: float, top: float, words: str) -> str:
    """A few words beside a dot; higher than usual where others stand already."""
    wide = len(words) * _LETTER + 10
    before = left + wide > frame.right
    begin = left - wide if before else left
    height = top - 9
    while any(abs(height - other) < 14 and begin < to and since < begin + wide for since, to, other in frame.taken):
        height -= 14
    frame.taken.append((begin, begin + wide, height))
    side, place = ("end", left - 6) if before else ("start", left + 6)
    return f'<text class="word {side}" x="{_n(place)}" y="{_n(height)}">{escape(words)}</text>'
