"""Grafana's dashboard model, as far as it is needed: panels, their places and their settings, as plain data.

After "Dashboard JSON model" in Grafana's documentation (the classic model, which Grafana 10 and later read). This file
knows how Grafana wants to be told; not what is shown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SCHEMA", "SOURCE", "Board", "Column", "Query", "heatmap", "stat", "table", "timeline", "timeseries"]

SCHEMA = 39
"""The version of the model: that of Grafana 10.3 and 11. Later ones bring it up to date, earlier ones read it."""

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
"""The data source chosen at the top of the dashboard."""

GREEN, YELLOW, RED = "green", "#EAB839", "red"
_WIDTH = 24

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Query:
    """A question and how its answer is shown.

    Attributes:
        text: PromQL.
        unit: Grafana's id of the unit.
        legend: what a series is called.
        metrics: what the metrics in it tell, by their names.
    """

    text: str
    unit: str
    legend: str
    metrics: dict[str, str]

    def named(self, name: str) -> Query:
        """The same, with a word more in the legend."""
        return replace(self, legend=f"{self.legend} {name}")

    def total(self, how: str = "sum") -> Query:
        """All its series put together."""
        return replace(self, text=f"{how} ({self.text})", legend="")


class Board:
    """Puts panels side by side, as long as there is room, and below each other."""

    def __init__(self) -> None:
        self.panels: list[Json] = []
        self._x = self._y = self._height = 0

    def row(self, title: str) -> None:
        """A heading that can be folded."""
        self._break()
        self._place({"type": "row", "title": title, "collapsed": False, "panels": []}, _WIDTH, 1)

    def add(self, *panels: Json, width: int = 8, height: int = 8) -> None:
        """Panels of one size (the width of all is 24)."""
        for panel in panels:
            self._place(panel, width, height)

    def _place(self, panel: Json, width: int, height: int) -> None:
        if self._x + width > _WIDTH:
            self._break()
        at = {"h": height, "w": width, "x": self._x, "y": self._y}
        self.panels.append({"id": len(self.panels) + 1, **panel, "gridPos": at})
        self._x += width
        self._height = max(self._height, height)

    def _break(self) -> None:
        self._y += self._height
        self._x = self._height = 0


def timeseries(title: str, *queries: Query, stacked: bool = False, most: float | None = None) -> Json:
    """Lines over time; *stacked* on each other if they are parts of a whole."""
    custom: Json = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 40 if stacked else 8, "showPoints": "never"}
    if stacked:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    panel = _panel("timeseries", title, queries, {"color": {"mode": "palette-classic"}, "custom": custom})
    if most is not None:
        panel["fieldConfig"]["defaults"] |= {"min": 0, "max": most}
    return {**panel, "options": {"legend": _legend(), "tooltip": {"mode": "multi", "sort": "desc"}}}


def heatmap(title: str, query: Query) -> Json:
    """A histogram over time; *query* gives the buckets."""
    panel = _panel("heatmap", title, [query], {"custom": {"scaleDistribution": {"type": "linear"}}})
    panel["targets"][0] |= {"format": "heatmap", "legendFormat": "{{le}}"}
    del panel["fieldConfig"]["defaults"]["unit"]  # that of the axis counts
    options = {
        "calculate": False,
        "color": {"mode": "scheme", "scheme": "Turbo", "fill": "dark-orange", "scale": "exponential", "exponent": 0.5,
                  "steps": 64, "reverse": False},
        "cellGap": 1,
        "cellValues": {"unit": "ops"},
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "tooltip": {"mode": "single", "yHistogram": True, "showColorScale": False},
        "yAxis": {"axisPlacement": "left", "reverse": False, "unit": query.unit},
    }  # fmt: skip
    return {**panel, "options": options}


def stat(title: str, query: Query, *steps: float, falling: bool = False) -> Json:
    """One large number. It is yellow and red from *steps* on; with *falling*, the other way round."""
    panel = _panel("stat", title, [query], {"color": {"mode": "thresholds"}, "thresholds": _steps(steps, falling)})
    return {
        **panel,
        "options": {
            "colorMode": "value", "graphMode": "area", "justifyMode": "auto", "orientation": "auto", "textMode": "auto",
            "wideLayout": True, "showPercentChange": False, "percentChangeColorMode": "standard",
            "reduceOptions": {"values": False, "calcs": ["lastNotNull"], "fields": ""},
        },
    }  # fmt: skip


def timeline(title: str, query: Query, *steps: float) -> Json:
    """A band for each series, coloured by its value."""
    custom = {"fillOpacity": 80, "lineWidth": 0}
    defaults = {"color": {"mode": "thresholds"}, "custom": custom, "thresholds": _steps(steps, falling=False)}
    options = {
        "alignValue": "left", "mergeValues": True, "rowHeight": 0.9, "showValue": "auto", "legend": _legend(),
        "tooltip": {"mode": "single", "sort": "none"},
    }  # fmt: skip
    return {**_panel("state-timeline", title, [query], defaults), "options": options}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its head, what is in it, and from where on it is yellow and red."""

    title: str
    query: Query
    steps: tuple[float, ...] = ()
    falling: bool = False


def table(title: str, columns: Sequence[Column]) -> Json:
    """What is true now; a line for each policy."""
    defaults = {"custom": {"align": "auto", "inspect": False}}
    panel = _panel("table", title, [column.query for column in columns], defaults)
    heads = {"policy": "policy"}
    overrides = []
    for target, column in zip(panel["targets"], columns, strict=True):
        target |= {"format": "table", "instant": True, "range": False}
        heads[f"Value #{target['refId']}"] = column.title
        properties: list[Json] = [{"id": "unit", "value": column.query.unit}]
        if column.steps:
            properties += [
                {"id": "thresholds", "value": _steps(column.steps, column.falling)},
                {"id": "custom.cellOptions", "value": {"type": "color-background", "mode": "basic"}},
            ]
        overrides.append({"matcher": {"id": "byName", "options": column.title}, "properties": properties})
    panel["fieldConfig"]["overrides"] = overrides
    return {
        **panel,
        "options": {"frameIndex": 0, "showHeader": True, "cellHeight": "sm"},
        "transformations": [
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {"Time": True},
                    "indexByName": {name: place for place, name in enumerate(heads)},
                    "renameByName": heads,
                },
            },
        ],
    }


def _panel(kind: str, title: str, queries: Sequence[Query], defaults: Json) -> Json:
    words = {told for query in queries for told in query.metrics.items()}
    units = {query.unit for query in queries}
    return {
        "type": kind,
        "title": title,
        "description": "\n\n".join(f"`{name}`: {text}." for name, text in sorted(words)),
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {**defaults, "unit": units.pop() if len(units) == 1 else "short"}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": SOURCE,
                "editorMode": "code",
                "expr": query.text,
                "legendFormat": query.legend,
                "range": True,
            }
            for place, query in enumerate(queries)
        ],
    }


def _legend() -> Json:
    return {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}


def _steps(values: Sequence[float], falling: bool) -> Json:
    colours = (RED, YELLOW, GREEN) if falling else (GREEN, YELLOW, RED)
    if len(values) == 1:
        colours = (colours[0], colours[2], "")
    bounds = [None, *values]
    return {"mode": "absolute", "steps": [{"color": colours[place], "value": at} for place, at in enumerate(bounds)]}
