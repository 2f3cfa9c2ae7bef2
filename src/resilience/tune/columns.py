"""Which column of a record is the latency, and which the time: chosen by the user, or plain to see.

Knows names and the first rows. Refuses to guess between columns that could both be meant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .units import parse_duration, parse_number, parse_time

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Columns", "UnreadableError", "delimiter_of", "find_columns", "is_value"]

_LATENCY = re.compile(
    r"latenc|duration|elapsed|response.?time|time.?taken|took|rtt|round.?trip|request.?time|millis|\bvalue\b",
    re.IGNORECASE,
)
_TIME = re.compile(
    r"^@?(time|ts|t|timestamp|time.?stamp|date|datetime|start|start.?time|started.?at|when|at)"
    r"([_\s.(\[]+(s|ms|us|ns|sec|seconds|millis|micros|nanos|utc)[)\]]*)?$",
    re.IGNORECASE,
)
_DELIMITERS = (",", ";", "\t", "|")


class UnreadableError(Exception):
    """The record cannot be used; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Where things stand in a row, counted from 0, and what they are called."""

    value: int
    time: int | None = None
    timed_out: int | None = None
    names: tuple[str, ...] = ()
    header: bool = False

    def name(self, index: int | None) -> str | None:
        """What the column is called, for people."""
        if index is None:
            return None
        return self.names[index] if self.header and index < len(self.names) else f"number {index + 1}"


def delimiter_of(line: str) -> str | None:
    """What separates the cells of a line; ``None`` if it is one cell."""
    best = max(_DELIMITERS, key=line.count)
    if line.count(best):
        return best
    words = line.split()
    return " " if len(words) > 1 and sum(map(is_value, words)) > 1 else None


def is_value(text: str) -> bool:
    """Whether a cell could be a latency: a number, perhaps with a unit."""
    try:
        parse_duration(text, 1)
    except ValueError:
        return parse_number(text) is not None  # negative ones too: they are no header
    return True


def _is_time(text: str) -> bool:
    try:
        parse_time(text, None)
    except ValueError:
        return parse_number(text) is not None
    return True


def _index(wanted: str, names: Sequence[str], width: int, what: str, *, header: bool) -> int:
    if header and wanted in names:
        if names.count(wanted) > 1:
            places = ", ".join(str(n + 1) for n, name in enumerate(names) if name == wanted)
            raise UnreadableError(f"columns {places} are all called {wanted!r}: choose {what} by number")
        return names.index(wanted)
    if width and wanted.isdecimal() and 1 <= int(wanted) <= width:
        return int(wanted) - 1
    there = _listed(names) if header else f"{width} columns without names; choose by number, from 1"
    raise UnreadableError(f"there is no column {wanted!r} for {what}; there are {there}")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:12])
    return f"{shown} and {len(names) - 12} more" if len(names) > 12 else shown


def find_columns(
    first: Sequence[str],
    second: Sequence[str] | None,
    value: str | None,
    time: str | None,
    timed_out: str | None,
    *,
    named: bool = False,
) -> Columns:
    """Where latency, time and the mark of a timeout stand.

    Args:
        first: the first row; names, if no cell of it is a number.
        second: the second row, if there is one.
        value: the column of the latency, by name or number from 1; ``None`` to find it.
        time: the same for the time; ``"none"`` for no time; ``None`` to take it if a name says so.
        timed_out: the column that marks calls that were given up; there is none by default.
        named: whether the first row holds names for certain.

    Raises:
        UnreadableError: there is no such column, or more than one could be meant.
    """
    names = [cell.strip() for cell in first]
    header = named or not any(map(is_value, names)) or (value in names and not is_value(value))
    row = second if header else first
    if row is None:
        raise UnreadableError("there is one line of names and nothing below it")
    width = max(len(first), len(row))
    at_time = at_flag = None
    if timed_out is not None:
        at_flag = _index(timed_out, names, width, "--timed-out-column", header=header)
    if time is not None and time != "none":
        at_time = _index(time, names, width, "--time-column", header=header)
    elif time is None and header:
        stamped = [n for n, name in enumerate(names) if _TIME.search(name) and n < len(row) and _is_time(row[n])]
        stamped = [n for n in stamped if names[n] != value]
        at_time = stamped[0] if len(stamped) == 1 else None
    if value is not None:
        at_value = _index(value, names, width, "--column", header=header)
    else:
        at_value = _plain_to_see(names, row, {at_time, at_flag}, header=header)
    return Columns(at_value, at_time, at_flag, tuple(names), header)


def _plain_to_see(names: Sequence[str], row: Sequence[str], taken: set[int | None], *, header: bool) -> int:
    possible = [n for n, cell in enumerate(row) if n not in taken and is_value(cell)]
    if len(possible) > 1 and header:
        possible = [n for n in possible if n < len(names) and _LATENCY.search(names[n])] or possible
    if len(possible) == 1:
        return possible[0]
    if not possible:
        raise UnreadableError("no column holds numbers: choose the latency with --column")
    shown = _listed([names[n] for n in possible]) if header else _listed([str(n + 1) for n in possible])
    raise UnreadableError(f"several columns hold numbers: choose the latency with --column ({shown})")
