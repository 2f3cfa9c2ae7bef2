"""Durations and points in time as people and programs write them.

Knows s, ms, us and ns, numbers with such a unit behind them, names that carry one (``latency_ms``, ``took (us)``), and
dates after ISO 8601. Refuses to guess: what does not say its unit has none.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

__all__ = ["FACTORS", "format_ns", "parse_duration", "parse_number", "parse_time", "unit_of_name"]

FACTORS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1000, "ns": 1}
"""Nanoseconds in each unit."""

_SPELLINGS = {
    **{unit: unit for unit in FACTORS},
    "µs": "us", "μs": "us", "sec": "s", "secs": "s", "second": "s", "seconds": "s", "msec": "ms", "millis": "ms",
    "millisecond": "ms", "milliseconds": "ms", "usec": "us", "micros": "us", "microsecond": "us",
    "microseconds": "us", "nanos": "ns", "nanosecond": "ns", "nanoseconds": "ns",
}  # fmt: skip

_NAME = re.compile(r"[_\s.\-(\[/]\(?\[?([^\W\d_]+)[)\]]*$")
_CAMEL = re.compile(r"[a-z](Ms|Millis|Us|Micros|Ns|Nanos|Seconds|Secs)$")
_VALUE = re.compile(r"([-+0-9.eE]+)\s*([^\W\d_]+)$")
_LONGEST = 1 << 61
"""Nanoseconds: 73 years; anything longer is no latency."""

_SUSPICIOUS = 1e11
"""Seconds since 1970 that lie in the year 5138: whoever writes this means a smaller unit."""


def unit_of_name(name: str) -> str | None:
    """The unit that the name of a column states at its end, if it does."""
    found = _NAME.search(name.strip()) or _CAMEL.search(name.strip())
    return _SPELLINGS.get(found[1].lower()) if found else None


def parse_number(text: str) -> float | None:
    """A finite number, or ``None``."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def parse_duration(text: str, factor: int | None) -> int:
    """A duration in ns.

    Args:
        text: a number, with or without a unit behind it.
        factor: nanoseconds in the unit of a bare number; ``None`` refuses those.

    Raises:
        ValueError: it is none, or has no unit, or is negative, or longer than 73 years.
    """
    value = parse_number(text)
    if value is None:
        found = _VALUE.match(text.strip())
        unit = _SPELLINGS.get(found[2].lower()) if found else None
        value = parse_number(found[1]) if found else None
        if value is None or unit is None:
            raise ValueError(f"{_short(text)} is no duration")
        factor = FACTORS[unit]
    if factor is None:
        raise ValueError(f"{_short(text)} has no unit")
    if value < 0:
        raise ValueError(f"{_short(text)} is negative")
    if value * factor > _LONGEST:
        raise ValueError(f"{_short(text)} is longer than 73 years")
    return round(value * factor)


def parse_time(text: str, factor: int | None) -> int:
    """A point in time in ns: a number, or a date after ISO 8601 (taken for UTC if it names no zone).

    Args:
        text: what was written.
        factor: nanoseconds in the unit of a number; ``None`` for seconds.

    Raises:
        ValueError: it is neither, or seems to be in a smaller unit than seconds.
    """
    value = parse_number(text)
    if value is not None:
        if factor is None and abs(value) >= _SUSPICIOUS:
            unit = "ms" if abs(value) < 1e14 else "us" if abs(value) < 1e17 else "ns"
            raise ValueError(f"{_short(text)} seconds would be in a far century: say --time-unit {unit}, if it is that")
        factor = factor or FACTORS["s"]
        exact = int(text) * factor if text.strip().lstrip("-").isdigit() else round(value * factor)
        if abs(exact) > _LONGEST << 1:
            raise ValueError(f"{_short(text)} is no point in time")
        return exact
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{_short(text)} is neither a number nor a date like 2026-01-31T12:00:00") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * FACTORS["s"] + since.microseconds * 1000


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def format_ns(ns: float, digits: int = 3) -> str:
    """A duration for people, to so many significant digits: ``1.25 s``, ``210 ms``."""
    for unit, factor in FACTORS.items():
        # What rounds up to 1000 of a unit is one of the next.
        if ns >= factor * (1 - 0.5 * 10**-digits) or unit == "ns":
            value = ns / factor
            whole = f"{value:.{digits}g}"
            return f"{float(whole):.15g} {unit}" if "e" in whole else f"{whole} {unit}"
    raise AssertionError("the loop ends with ns")  # pragma: no cover
