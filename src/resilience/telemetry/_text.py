"""Readings as the text that Prometheus scrapes, in either of its two forms.

From scrape to scrape most of a page stays as it is. So it is kept, by column: one line of one metric, of all policies.
Of a column in which a number has changed all but the numbers stays, and one operation fills them in; of the others the
text stays. That is what makes a thousand policies a matter of milliseconds.

This file knows the text format. It refuses to know where readings come from, and who is served.
"""

from __future__ import annotations

from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING

from .table import LATENCY, METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ._readings import Borders, Row
    from .table import Cell, Metric

__all__ = ["Page", "readable"]

SCALARS = tuple(metric for metric in METRICS if metric is not LATENCY)
"""The metrics of one number each. The histogram comes after them."""

_NAME = "\n\n"  # where a policy's name goes: no line is empty, and names of policies are written without line breaks

Values = tuple["int | float", ...]


class _Column:
    """One line of a metric, or one histogram, of all policies of a kind."""

    def __init__(self, metric: Metric, line: str) -> None:
        self.metric = metric
        self._line = line.encode()
        self._form = self._text = b""
        self._values: Values = ()

    def meant_for(self, names: list[bytes]) -> None:
        """The policies are these, as they are to be written."""
        self._form = b"".join([self._line.replace(_NAME.encode(), name) for name in names])
        self._values = ()

    def text(self, values: Values) -> bytes:
        """The lines with these numbers."""
        if values != self._values:
            self._text, self._values = self._form % values, values
        return self._text


class _Kind:
    """Policies whose readings have the same numbers, whatever their values."""

    def __init__(self, keys: list[str | int], row: Row, borders: Borders, labels: Mapping[str, str]) -> None:
        self.keys = keys
        self.names: list[str] = []
        self._rows: list[Values] = []
        self._cuts: list[list[int | float]] = [[] for _ in row.cuts]
        self._known: list[str] = []
        self._columns: list[_Column] = []
        pairs = [(part, key) for part, found in row.numbers.items() for key in found]
        places = {pair: place for place, pair in enumerate(pairs)}
        picked: list[int] = []
        for metric in SCALARS:
            for cell in metric.cells:
                place = places.get((cell.part, cell.key))
                if place is not None:
                    picked.append(place)
                    self._columns.append(_Column(metric, _line(metric.name, _labels(metric, cell, labels))))
        self._pick: Callable[[list[int | float]], Values] = (
            itemgetter(*picked) if len(picked) > 1 else lambda values: tuple([values[place] for place in picked])
        )
        for _, cell in zip(self._cuts, LATENCY.cells, strict=False):
            self._columns.append(_Column(LATENCY, _histogram(borders, _labels(LATENCY, cell, labels))))

    def clear(self) -> None:
        """Begin a page."""
        self.names, self._rows, self._cuts = [], [], [[] for _ in self._cuts]

    def take(self, row: Row) -> None:
        """A policy of this kind."""
        self.names.append(row.name)
        self._rows.append(self._pick([*chain.from_iterable(map(dict.values, row.numbers.values()))]))
        for cuts, cut in zip(self._cuts, row.cuts, strict=True):
            cuts.extend(cut)

    def write(self) -> Iterable[tuple[Metric, bytes]]:
        """The lines of each metric, of all policies taken."""
        if self.names != self._known:
            self._known = self.names
            written = [_escaped(name).replace("%", "%%").encode() for name in self.names]
            for column in self._columns:
                column.meant_for(written)
        columns = chain(zip(*self._rows, strict=True), map(tuple, self._cuts))
        for column, values in zip(self._columns, columns, strict=True):
            yield column.metric, column.text(values)


class Page:
    """Makes text of readings. Not thread-safe.

    Args:
        borders: of the latency histogram.
        labels: those that every sample gets.
    """

    def __init__(self, borders: Borders, labels: Mapping[str, str]) -> None:
        self._borders = borders
        self._labels = dict(labels)
        self._kinds: list[_Kind] = []

    def write(self, rows: Iterable[Row], *, openmetrics: bool) -> bytes:
        """The whole page; names must differ."""
        for known in self._kinds:
            known.clear()
        kind: _Kind | None = None
        for row in rows:
            numbers = row.numbers
            keys: list[str | int] = [*numbers, *map(len, numbers.values()), *chain.from_iterable(numbers.values())]
            if kind is None or kind.keys != keys:
                kind = self._kind(keys, row)
            kind.take(row)
        self._kinds = [known for known in self._kinds if known.names]
        found: dict[str, list[bytes]] = {}
        for metric, text in chain.from_iterable([known.write() for known in self._kinds]):
            found.setdefault(metric.name, []).append(text)
        page: list[bytes] = []
        for metric in (*SCALARS, LATENCY):
            if metric.name in found:
                page += (_head(metric, openmetrics=openmetrics), *found[metric.name])
        if openmetrics:
            page.append(b"# EOF\n")
        return b"".join(page)

    def _kind(self, keys: list[str | int], row: Row) -> _Kind:
        for known in self._kinds:
            if known.keys == keys:
                return known
        kind = _Kind(keys, row, self._borders, self._labels)
        self._kinds.append(kind)
        return kind


def _labels(metric: Metric, cell: Cell, more: Mapping[str, str]) -> dict[str, str]:
    """What stands between the braces; in the place of the policy a gap."""
    labels = {**more, **dict(zip(metric.labels, cell.labels, strict=True))}
    return {label: _escaped(value) for label, value in labels.items()} | {"policy": _NAME}


def _line(name: str, labels: Mapping[str, str], gap: str = "%a") -> str:
    """A line with a gap for the number, too."""
    words = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return f"{name}{{{words}}} ".replace("%", "%%") + gap + "\n"


def _histogram(borders: Borders, labels: Mapping[str, str]) -> str:
    counts = [_line(f"{LATENCY.name}_bucket", {**labels, "le": border}, "%d") for border in borders.words]
    counts.append(_line(f"{LATENCY.name}_count", labels, "%d"))
    return "".join(counts) + _line(f"{LATENCY.name}_sum", labels)


def _escaped(value: str) -> str:
    return readable(value).replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def readable(value: str) -> str:
    """The same, as far as it can be written in UTF-8."""
    return value.encode(errors="replace").decode()


def _head(metric: Metric, *, openmetrics: bool) -> bytes:
    name = metric.name.removesuffix("_total") if openmetrics else metric.name
    unit = f"# UNIT {name} {metric.unit}\n" if openmetrics and metric.unit else ""
    return f"# HELP {name} {_escaped(metric.words)}\n# TYPE {name} {metric.kind}\n{unit}".encode()
