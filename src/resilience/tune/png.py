"""The pictures as PNG, through matplotlib; the only place that knows it.

matplotlib is asked for nothing but drawing: no window, no state of its own, no settings of the user.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .charts import Axis, Band, Bars, Chart, Dots, Line, Rule, Stretch, charts
from .ticks import axis_label, ticks

if TYPE_CHECKING:
    from pathlib import Path

    from .tuning import Tuning

__all__ = ["draw", "missing"]

_COLORS = {
    "latency": "#b9c8d6", "median": "#5b7894", "learned": "#0870a8", "fixed": "#bd5a00", "false": "#c4122f",
    "accepted": "#58626d",
}  # fmt: skip
_INK, _SOFT, _GRID = "#1b2026", "#58626d", "#e3e7eb"
_SIZE = (9.0, 4.8)
_DPI = 120


def missing() -> bool:
    """Whether matplotlib is not installed."""
    return find_spec("matplotlib") is None


def draw(tuning: Tuning, folder: Path) -> list[Path]:
    """Write the three pictures into a folder, which is made if need be; returns their paths.

    Raises:
        OSError: they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    matplotlib = import_module("matplotlib")
    written = []
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        for chart in charts(tuning):
            path = folder / f"{chart.name}.png"
            _figure(chart).savefig(path, dpi=_DPI, metadata={"Software": None, "Description": chart.description})
            written.append(path)
    return written


def _figure(chart: Chart) -> Any:
    figure = import_module("matplotlib.figure").Figure(figsize=_SIZE, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    axes.set_title(chart.title, loc="left", color=_INK, fontsize=13, pad=12)
    for layer in chart.layers:
        _layer(axes, layer)
    _axis(axes.xaxis, axes.set_xscale, axes.set_xlim, chart.x, 11)
    _axis(axes.yaxis, axes.set_yscale, axes.set_ylim, chart.y, 9)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_SOFT, labelsize=9.5, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color("#c9d0d7")
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower left", ncols=2, frameon=False, fontsize=9.5,
        labelcolor=_INK,
    )  # fmt: skip
    return figure


def _axis(side: Any, set_scale: Any, set_limits: Any, axis: Axis, most: int) -> None:
    if axis.log:
        set_scale("log")
    set_limits(axis.low, axis.high)
    marks = ticks(axis, most)
    locator = import_module("matplotlib.ticker")
    side.set_major_locator(locator.FixedLocator([value for value, _ in marks]))
    side.set_major_formatter(locator.FixedFormatter([words for _, words in marks]))
    side.set_minor_locator(locator.NullLocator())
    side.set_label_text(axis_label(axis), color=_INK, fontsize=10.5)


def _layer(axes: Any, layer: object) -> None:
    match layer:
        case Stretch(label=label, style=style, low=low, high=high):
            axes.axvspan(low, max(high, low * 1.005), color=_COLORS[style], alpha=0.16, linewidth=0, label=label)
        case Bars(label=label, style=style, points=points):
            lefts, widths = [low for low, _, _ in points], [(high - low) * 0.93 for low, high, _ in points]
            axes.bar(
                lefts, [count for _, _, count in points], widths, align="edge", color=_COLORS[style], label=label,
                zorder=2,
            )  # fmt: skip
        case Band(label=label, style=style, points=points):
            xs, lows, highs = zip(*points, strict=True)
            axes.fill_between(xs, lows, highs, color=_COLORS[style], alpha=0.75, linewidth=0, label=label, zorder=2)
        case Line(label=label, style=style, points=points, steps=steps):
            xs, ys = zip(*points, strict=True)
            axes.plot(
                xs, ys, color=_COLORS[style], linewidth=1.3 if style == "median" else 1.8, label=label, zorder=3,
                drawstyle="steps-post" if steps else "default",
            )  # fmt: skip
        case Rule(label=label, style=style, axis=axis, at=at):
            line = axes.axvline if axis == "x" else axes.axhline
            line(at, color=_COLORS[style], linewidth=1.6, linestyle=(0, (4, 2.5)), label=label, zorder=3)
        case Dots(label=label, style=style, points=points, words=words):
            xs, ys = zip(*points, strict=True)
            axes.scatter(
                xs, ys, s=40 if words else 22, color=_COLORS[style], edgecolors="white", linewidths=0.8, label=label,
                zorder=4,
            )  # fmt: skip
            for (x, y), text in zip(points, words, strict=False):
                axes.annotate(
                    text, (x, y), xytext=(6, 7), textcoords="offset points", color=_INK, fontsize=9.5, zorder=5,
                    bbox={"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 1},
                )  # fmt: skip
