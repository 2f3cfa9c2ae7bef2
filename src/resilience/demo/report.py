"""How the demo shows itself: a bar while it runs, then a table or JSON.

Knows text and terminals. Refuses to work anything out; see `.measure` for what the figures
mean.
"""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .measure import Figures

__all__ = ["Progress", "as_json", "as_table"]

_WIDTH = 30
_EVERY = 0.1
"""Seconds between two drawings of the bar."""


class Progress:
    """How far the demo is: a bar on a terminal, elsewhere a line for each phase.

    Not thread-safe.
    """

    def __init__(self, total: float, stream: TextIO | None = None) -> None:
        self._total = total
        self._stream = sys.stderr if stream is None else stream
        self._bar = self._stream.isatty()
        self._drawn = -math.inf
        self._label = ""

    def show(self, done: float, label: str) -> None:
        """*done* seconds of all are over, and *label* is going on."""
        new, self._label = label != self._label, label
        now = time.monotonic()
        if not self._bar:
            if new:
                print(f"{done:5.1f} s  {label}", file=self._stream, flush=True)
        elif new or now - self._drawn >= _EVERY:
            self._drawn = now
            full = round(min(1.0, done / self._total) * _WIDTH)
            bar = "#" * full + "." * (_WIDTH - full)
            left = max(0.0, self._total - done)
            self._stream.write(f"\r[{bar}] {left:3.0f} s left  {label:<28}")
            self._stream.flush()

    def clear(self) -> None:
        """Take the bar away."""
        if self._bar:
            self._stream.write("\r" + " " * (_WIDTH + 42) + "\r")
            self._stream.flush()


def as_table(results: Mapping[str, Figures], deadline: float, notes: Sequence[str]) -> str:
    """The figures side by side, one column for each run."""
    columns = list(results.values())
    first = columns[0]
    rows: list[tuple[str, list[str]]] = [
        ("", list(results)),
        ("calls wanted", [str(f.wanted) for f in columns]),
        (
            f"answered in time ({deadline:g} s)",
            [f"{f.in_time} ({_percent(f.in_time, f.wanted)})" for f in columns],
        ),
        ("never begun: no thread free", [str(f.wanted - f.begun) for f in columns]),
        ("answered, p50", [_seconds(f.p50) for f in columns]),
        ("answered, p99", [_seconds(f.p99) for f in columns]),
        ("caller held up, p99", [_seconds(f.held) for f in columns]),
        ("requests that reached the server", [str(f.requests) for f in columns]),
        ("load amplification", [_ratio(f.amplification) for f in columns]),
        (
            "recovered after the outage",
            ["not in the run" if f.recovered is None else f"{f.recovered:.1f} s" for f in columns],
        ),
    ]
    rows.append(("", [""] * len(columns)))
    rows.append(("by phase", list(results)))
    for name in first.phases:
        parts = [f.phases[name] for f in columns]
        cells = [f"{_percent(p.in_time, p.wanted):>5} | {_ratio(p.amplification):>4}" for p in parts]
        rows.append((f"  {name}", cells))
    wide = max(len(label) for label, _ in rows)
    each = max(len(cell) for _, cells in rows for cell in cells)
    lines = ["  ".join([label.ljust(wide), *(cell.rjust(each) for cell in cells)]).rstrip() for label, cells in rows]
    lines.insert(1, "-" * (wide + len(columns) * (each + 2)))
    return "\n".join([*lines, "", *notes])


def as_json(results: Mapping[str, Figures], settings: Mapping[str, object]) -> str:
    """The same figures for programs: seconds as numbers, ``null`` for what never happened."""
    runs = {name: _plain(asdict(figures)) for name, figures in results.items()}
    return json.dumps({"settings": _plain(settings), "runs": runs}, indent=2, allow_nan=False)


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "-"


def _ratio(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "-"


def _seconds(value: float) -> str:
    if not math.isfinite(value):
        return "never"
    return f"{value * 1000:.0f} ms" if value < 0.995 else f"{value:.1f} s"
