"""From the text of a cell to a sample, and the count of what is none.

Knows units, marks of timeouts, and what to tell about a file. Refuses to know formats.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .columns import UnreadableError, is_value
from .trace import LOST
from .units import FACTORS, parse_duration, parse_time, unit_of_name

if TYPE_CHECKING:
    from .trace import Trace

__all__ = ["DEFAULT_RATE", "ReadOptions", "Reading", "Taker"]

_SHOWN = 5
"""Bad lines that are told with their reason."""

DEFAULT_RATE = 10.0
"""Calls a second that samples without times are taken for."""

_LONG_AGO = 10**9 * 86_400 * 365
"""Whoever counts nanoseconds from 1970 has passed this; who counts from the start of a test has not."""

_TRUE = {"1", "true", "t", "yes", "y", "timeout", "timed_out", "timedout", "timed out"}
_FALSE = {"0", "false", "f", "no", "n", "ok", "", "null", "none"}


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What the user says about the file; see the command's help."""

    column: str | None = None
    time_column: str | None = None
    timed_out_column: str | None = None
    timed_out_value: str | None = None
    unit: str | None = None
    time_unit: str | None = None
    rate: float | None = None
    tag: str | None = None
    max_bad: int = 100


@dataclass(slots=True)
class Reading:
    """What was found in a file.

    Attributes:
        path: its name.
        format: what it is.
        unit: of the latencies, as in ``FACTORS``, or "with each value".
        unit_from: who said so.
        column: where the latencies stand, if there are several columns.
        time_column: where the times stand; ``None`` if the samples are taken as evenly spaced.
        dated: whether the times count from 1970.
        rate: calls a second that evenly spaced samples stand for.
        zeros: how many latencies are 0.
        timed_out: how many calls were marked as given up.
        bad: number and reason of the first bad lines.
        bad_count: how many there were.
    """

    path: str
    format: str = ""
    unit: str = ""
    unit_from: str = ""
    column: str | None = None
    time_column: str | None = None
    dated: bool = False
    rate: float | None = None
    zeros: int = 0
    timed_out: int = 0
    bad: list[tuple[int, str]] = field(default_factory=list)
    bad_count: int = 0


class Taker:
    """Turns cells into samples of a trace, and counts what cannot be turned."""

    def __init__(self, trace: Trace, reading: Reading, options: ReadOptions) -> None:
        self.trace, self.reading, self.options = trace, reading, options
        self.factor = FACTORS[options.unit] if options.unit else None
        self.time_factor = FACTORS[options.time_unit] if options.time_unit else None
        self.lost = options.timed_out_value
        self.step = 1e9 / options.rate if options.rate else 0.0

    def state_unit(self, name: str | None, sample: str) -> None:
        """Find out the unit of the latencies: what the user says, the name of the column, or each value."""
        stated = unit_of_name(name) if name else None
        reading = self.reading
        if self.options.unit:
            reading.unit, reading.unit_from = self.options.unit, "--unit"
        elif stated:
            reading.unit, reading.unit_from = stated, f"the name {name!r}"
            self.factor = FACTORS[stated]
        else:
            try:
                parse_duration(sample, None)
            except ValueError:
                if is_value(sample) or sample.strip() == self.lost:
                    raise UnreadableError(
                        f"the file does not say in which unit its latencies are, such as {sample.strip()[:20]!r}: "
                        "add --unit s, --unit ms, --unit us or --unit ns"
                    ) from None
            reading.unit, reading.unit_from = "with each value", "the values"

    def state_times(self, name: str | None, sample: str) -> None:
        """Find out what the times are: a column, or none, and then samples are taken as evenly spaced."""
        reading, options = self.reading, self.options
        if name is None:
            reading.rate = options.rate or DEFAULT_RATE
            self.step = 1e9 / reading.rate
            return
        reading.time_column = name
        if self.time_factor is None:
            stated = unit_of_name(name)
            self.time_factor = FACTORS[stated] if stated else None
        try:
            reading.dated = parse_time(sample, self.time_factor) > _LONG_AGO
        except ValueError:
            reading.dated = False  # the line will be counted as bad

    def bad(self, number: int, reason: str) -> None:
        """Count a line that cannot be used."""
        reading = self.reading
        reading.bad_count += 1
        if len(reading.bad) < _SHOWN:
            reading.bad.append((number, reason))
        if reading.bad_count > self.options.max_bad:
            shown = "\n".join(f"  line {at}: {why}" for at, why in reading.bad)
            raise UnreadableError(
                f"more than {self.options.max_bad} lines cannot be read (--max-bad); the first of them:\n{shown}\n"
                f"it was taken for {reading.format}"
            )

    def take(self, number: int, value: str, time: str | None, mark: str | None) -> None:
        """Add one sample, or count it as bad."""
        try:
            if self.lost is not None and value.strip() == self.lost:
                sample = LOST
                self.reading.timed_out += 1
            else:
                sample = parse_duration(value, self.factor)
                self.reading.zeros += not sample
                sample = sample or 1
                if mark is not None and self._marked(mark):
                    self.reading.timed_out += 1
                    sample = -sample
            at = round(self.trace.count * self.step) if time is None else parse_time(time, self.time_factor)
        except ValueError as error:
            self.bad(number, str(error))
        else:
            self.trace.add(at, sample)

    @staticmethod
    def _marked(mark: str) -> bool:
        word = mark.strip().lower()
        if word not in _TRUE and word not in _FALSE:
            raise ValueError(f"{mark!r} in the column of timeouts is neither true nor false")
        return word in _TRUE
