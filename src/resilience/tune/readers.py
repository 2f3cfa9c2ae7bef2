"""From a file to samples: CSV, JSON lines, one number a line, HdrHistogram logs, each perhaps packed with gzip.

The format is found out from the content, and told. A file is read line by line and once, so its size does not matter:
a line may have at most 4 MiB, and what is kept goes to a `Trace`, which is bounded itself. Lines that cannot be read
are counted, the first few of them with number and reason; too many are an error. A unit is taken from the user or
from the file, never from the size of the numbers. Refuses to know what the samples are for.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import sys
import zlib
from bisect import bisect_right
from itertools import accumulate, chain
from math import gcd
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .columns import UnreadableError, delimiter_of, find_columns, is_value
from .hlog import LogTimes, parse_line
from .taker import Reading, ReadOptions, Taker
from .units import FACTORS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .hlog import Interval
    from .trace import Trace

__all__ = ["ReadOptions", "Reading", "UnreadableError", "read"]

_LONGEST_LINE = 1 << 22
_UNREADABLE = "\x00"
"""What stands for a line that is too long; no format has such a line, so it is counted as bad."""

_DECIMAL_COMMA = re.compile(r"\s*-?\d+,\d+\s*[^\W\d]*\s*$")

_COMMENTS = 1000
"""Lines of comments that may stand before the first row."""


class _Lines:
    """The lines of a binary stream as text, with the number of the last one."""

    def __init__(self, stream: Any, tick: Callable[[], None]) -> None:
        self._stream = stream
        self._tick = tick
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        readline = self._stream.readline
        while raw := readline(_LONGEST_LINE):
            self.number += 1
            if not self.number & 0xFFF:
                self._tick()
            if len(raw) == _LONGEST_LINE and not raw.endswith(b"\n"):
                while (more := readline(_LONGEST_LINE)) and not more.endswith(b"\n"):
                    pass
                raw = _UNREADABLE.encode()
            text = raw.decode("utf-8", "replace")
            yield text.removeprefix("\ufeff") if self.number == 1 else text


def read(path: str, options: ReadOptions, trace: Trace, progress: Callable[[int, int | None], None]) -> Reading:
    """Read a file (``-``: standard input) into *trace*.

    Args:
        path: where it is.
        options: what the user says about it.
        trace: takes the samples.
        progress: is told now and then how many bytes were read, and of how many (``None``: unknown).

    Raises:
        UnreadableError: the file cannot be used.
        OSError: it cannot be opened or read.
    """
    reading = Reading(path)
    stream: Any = sys.stdin.buffer if path == "-" else Path(path).open("rb")  # noqa: SIM115 - closed below
    try:
        size = Path(path).stat().st_size if path != "-" and Path(path).is_file() else None
        packed = stream.peek(2)[:2] == b"\x1f\x8b"
        unpacked = gzip.GzipFile(fileobj=stream) if packed else stream

        def tick() -> None:
            progress(stream.tell() if size is not None else -1, size)

        lines = _Lines(unpacked, tick)
        _dispatch(lines, Taker(trace, reading, options), packed=packed)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UnreadableError(f"the gzip file is damaged: {error}") from None
    finally:
        if path != "-":
            stream.close()
    if not trace.count:
        reasons = "".join(f"\n  line {at}: {why}" for at, why in reading.bad)
        raise UnreadableError(f"there are no latencies in it (it was taken for {reading.format}){reasons}")
    return reading


def _dispatch(lines: _Lines, taker: Taker, *, packed: bool) -> None:
    """Find out what the lines are, and read them."""
    stream = iter(lines)
    head = []
    for line in stream:
        head.append(line)
        if (line.strip() and not line.startswith("#")) or len(head) >= _COMMENTS:
            break
    first = head[-1].strip() if head else ""
    if not first:
        raise UnreadableError("the file is empty")
    reading = taker.reading
    rest = chain([head[-1]], stream)
    ending = ", packed with gzip" if packed else ""
    if any("istogram log format" in line for line in head) or first.startswith('"StartTimestamp"'):
        reading.format = "an HdrHistogram log" + ending
        _read_hlog(chain(head, stream), lines, taker, before=len(head))
    elif first.startswith("{"):
        reading.format = "JSON lines" + ending
        _read_json(rest, lines, taker)
    elif first.startswith("["):
        raise UnreadableError("it is a JSON array: write one object a line instead, for instance with jq -c '.[]'")
    else:
        cut = delimiter_of(first)
        reading.format = ("one number a line" if cut is None and is_value(first) else "CSV") + ending
        _read_csv(rest, lines, cut or ",", taker)


def _read_csv(rest: Iterable[str], lines: _Lines, delimiter: str, taker: Taker) -> None:
    rows = csv.reader(rest, delimiter=delimiter, skipinitialspace=True)
    options, reading = taker.options, taker.reading
    comma = delimiter == ";"  # where this separates cells, a comma stands before decimals

    def proper() -> Iterator[tuple[int, list[str]]]:
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                taker.bad(lines.number, f"is no CSV: {error}")
                continue
            if row and not row[0].startswith("#"):
                yield lines.number, [_with_point(cell) for cell in row] if comma else row

    found = proper()
    top = next(found, None)
    if top is None:
        return  # all of it is bad, and counted
    below = next(found, None)
    columns = find_columns(
        top[1],
        below[1] if below else None,
        options.column,
        "none" if options.rate else options.time_column,
        options.timed_out_column,
    )
    header_only = columns.header
    sample = (below if header_only and below else top)[1]
    taker.state_unit(columns.names[columns.value] if header_only else None, sample[columns.value])
    if len(columns.names) > 1 or header_only:
        reading.column = columns.name(columns.value)
    time = columns.time
    taker.state_times(columns.name(time), sample[time] if time is not None else "")
    value, mark = columns.value, columns.timed_out
    need = max(value, time or 0, mark or 0) + 1
    for number, row in chain([] if header_only else [top], [below] if below else [], found):
        if len(row) < need:
            taker.bad(number, f"has {len(row)} columns, and not the {need} that are needed")
            continue
        taker.take(number, row[value], None if time is None else row[time], None if mark is None else row[mark])


def _with_point(cell: str) -> str:
    return cell.replace(",", ".") if _DECIMAL_COMMA.match(cell) else cell


def _read_json(rest: Iterable[str], lines: _Lines, taker: Taker) -> None:
    options, reading = taker.options, taker.reading
    decode = json.JSONDecoder(parse_float=str, parse_int=str).decode
    value = time = mark = None
    for line in rest:
        if not line.strip():
            continue
        try:
            fields = decode(line)
        except (ValueError, RecursionError) as error:
            taker.bad(lines.number, f"is no JSON: {str(error)[:60]}")
            continue
        if not isinstance(fields, dict):
            taker.bad(lines.number, "is no JSON object")
            continue
        if value is None:  # the first good line says what there is
            flat = _flat(fields)
            names = list(flat)
            columns = find_columns(
                names,
                [flat[name] for name in names],
                options.column,
                "none" if options.rate else options.time_column,
                options.timed_out_column,
                named=True,
            )
            value, time, mark = columns.name(columns.value), columns.name(columns.time), columns.name(columns.timed_out)
            assert value is not None
            taker.state_unit(value, flat[value])
            reading.column = value
            taker.state_times(time, flat[time] if time is not None else "")
        texts = [None if name is None else _get(fields, name) for name in (value, time, mark)]
        missing = [name for name, text in zip((value, time), texts, strict=False) if name and text is None]
        if missing:
            taker.bad(lines.number, f"has no {missing[0]!r}")
            continue
        taker.take(lines.number, str(texts[0]), texts[1], "" if mark is not None and texts[2] is None else texts[2])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _flat(fields: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Every simple value by its path: ``http.latency``."""
    found: dict[str, str] = {}
    for name, inner in fields.items():
        if isinstance(inner, dict):
            found |= _flat(inner, f"{prefix}{name}.")
        elif not isinstance(inner, list):
            found[prefix + name] = _text(inner)
    return found


def _get(fields: dict[str, Any], path: str) -> str | None:
    """The value at a path; a name may itself hold dots."""
    if path in fields:
        inner = fields[path]
        return None if inner is None or isinstance(inner, (dict, list)) else _text(inner)
    head, dot, rest = path.partition(".")
    inner = fields.get(head)
    return _get(inner, rest) if dot and isinstance(inner, dict) else None


def _read_hlog(everything: Iterable[str], lines: _Lines, taker: Taker, *, before: int) -> None:
    options, reading = taker.options, taker.reading
    for name, given in (("--column", options.column), ("--timed-out-column", options.timed_out_column)):
        if given is not None:
            raise UnreadableError(f"{name} makes no sense for an HdrHistogram log")
    reading.unit, reading.unit_from = options.unit or "ns", "--unit" if options.unit else "as usual in such logs"
    factor = FACTORS[reading.unit]
    times = LogTimes()
    tags: dict[str, int] = {}
    for at, line in enumerate(everything, 1):
        number = at if at <= before else lines.number
        if line.startswith("#"):
            times.comment(line)
            continue
        if not line.strip() or line.startswith('"'):
            continue
        try:
            interval = parse_line(line)
        except ValueError as error:
            taker.bad(number, str(error))
            continue
        if options.tag is not None and interval.tag != options.tag:
            tags.setdefault(interval.tag, number)
            continue
        tags.setdefault(interval.tag, number)
        if options.tag is None and len(tags) > 1:
            first, second = list(tags)[:2]
            raise UnreadableError(
                f"the log holds several series, {first or 'untagged'!r} and {second!r} (line {number}): "
                "choose one with --tag"
            )
        _spread(interval, round(times.absolute(interval.start) * 1e9), factor, taker)
    reading.time_column = None if options.rate else "the intervals of the log"
    reading.dated = not options.rate and (times.base or times.start or 0) > 0
    if options.rate:
        reading.rate = options.rate
    if options.tag is not None and options.tag not in tags:
        raise UnreadableError(f"there is no tag {options.tag!r} in the log; there are {', '.join(tags) or 'none'}")


def _spread(interval: Interval, start: int, factor: int, taker: Taker) -> None:
    """Make samples of the counts of an interval.

    Their order is not recorded, so they are taken to be mixed and evenly spaced: walking through the sorted values in
    steps of the golden section visits each once, and gives every stretch about the same share of slow ones.
    """
    ends = list(accumulate(count for _, count in interval.counts))
    if not ends:
        return
    total = ends[-1]
    stride = max(1, round(total * 0.6180339887))
    while gcd(stride, total) != 1:
        stride += 1
    gap = interval.length * 1e9 / total
    trace, values, place, step = taker.trace, interval.counts, 0, taker.step
    for n in range(total):
        value = max(1, values[bisect_right(ends, place)][0] * factor)
        trace.add(round(trace.count * step) if step else start + round((n + 0.5) * gap), value)
        place = (place + stride) % total
