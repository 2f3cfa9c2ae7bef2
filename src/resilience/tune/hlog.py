"""Interval logs of HdrHistogram: from a line of text to counted values.

Knows the layout that HdrHistogram publishes: a line holds a time stamp, a length, a maximum and a histogram in base64;
in it a cookie and zlib; in that a header and counts, of fixed width (V1) or as ZigZag LEB128 with runs of zeros (V2).
Refuses to know what the values mean, and V0, which nothing has written for years.
"""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from typing import NamedTuple

__all__ = ["Interval", "LogTimes", "decode", "parse_line"]

_COMPRESSED = {0x1C849302: 1, 0x1C849304: 2}
_PLAIN = {1: 0x1C849301, 2: 0x1C849303}
_WIDTH_BITS = 0xF0
"""The part of a cookie that tells the width of a count, in bytes."""

_HEADER = struct.Struct(">iiiiqqd")
_WIDTHS = {2: "h", 4: "i", 8: "q"}
_LARGEST = 1 << 26
"""Bytes that a histogram may have when unpacked; real ones have a few hundred thousand at most."""

_YEAR = 365 * 24 * 3600.0


class Interval(NamedTuple):
    """One line of a log: seconds, and (value, count) pairs with ascending values."""

    tag: str
    start: float
    length: float
    counts: list[tuple[int, int]]


class LogTimes:
    """Which point in time the stamps of a log count from: read off its comments.

    The rule of HdrHistogram's own reader: after the base time, if the log names one; else after the start time, if the
    stamps are more than a year smaller than that; else they are absolute.
    """

    def __init__(self) -> None:
        self.start: float | None = None
        self.base: float | None = None

    def comment(self, line: str) -> None:
        """Take in a line that begins with ``#``."""
        for name in ("StartTime", "BaseTime"):
            head, found, rest = line.partition(f"#[{name}: ")
            if found and not head:
                try:
                    value = float(rest.split()[0].rstrip("]"))
                except (ValueError, IndexError):
                    return
                if name == "StartTime":
                    self.start = value
                else:
                    self.base = value

    def absolute(self, stamp: float) -> float:
        """Seconds since 1970, if the log says so much."""
        if self.base is None:
            self.base = self.start if self.start is not None and stamp < self.start - _YEAR else 0.0
        return self.base + stamp


def parse_line(line: str) -> Interval:
    """What a line of a log says.

    Raises:
        ValueError: the line is damaged; the message says where.
    """
    tag = ""
    if line.startswith("Tag="):
        tag, _, line = line[4:].partition(",")
    parts = line.strip().split(",")
    if len(parts) != 4:
        raise ValueError(f"has {len(parts)} parts where start, length, maximum and histogram are meant to be")
    try:
        start, length = float(parts[0]), float(parts[1])
    except ValueError:
        raise ValueError(f"start and length must be numbers, not {parts[0]!r} and {parts[1]!r}") from None
    if not (abs(start) < 1e10 and 0 <= length < 1e10):
        raise ValueError(f"start and length must be seconds, not {parts[0]!r} and {parts[1]!r}")
    return Interval(tag, start, length, decode(parts[3]))


def decode(text: str) -> list[tuple[int, int]]:
    """The values of a compressed histogram and how often each was counted, ascending.

    A value stands for all that the histogram cannot tell from it: the largest of these is given, so that what follows
    errs towards patience.

    Raises:
        ValueError: the payload is damaged, or of a kind that is not read.
    """
    try:
        packed = base64.b64decode(text, validate=True)
        (cookie, length) = struct.unpack_from(">ii", packed)
    except (binascii.Error, struct.error):
        raise ValueError("the histogram is no base64 text, or is cut off") from None
    version = _COMPRESSED.get(cookie & ~_WIDTH_BITS)
    if version is None:
        raise ValueError(
            f"the histogram is of a kind that is not read (cookie {cookie & 0xFFFFFFFF:#x}; V1 and V2 are)"
        )
    engine = zlib.decompressobj()
    try:
        data = engine.decompress(packed[8 : 8 + length], _LARGEST)
    except zlib.error as error:
        raise ValueError(f"the histogram does not unpack: {error}") from None
    if engine.unconsumed_tail:
        raise ValueError(f"the histogram has more than {_LARGEST >> 20} MiB when unpacked")
    if len(data) < _HEADER.size:
        raise ValueError("the histogram is cut off")
    inner, size, offset, digits, lowest, _highest, ratio = _HEADER.unpack_from(data)
    if inner & ~_WIDTH_BITS != _PLAIN[version] or not 0 <= digits <= 5 or lowest < 1:
        raise ValueError("the header of the histogram is damaged")
    if offset or ratio != 1.0:
        raise ValueError("the histogram counts fractions (a DoubleHistogram), which is not read")
    payload = data[_HEADER.size : _HEADER.size + size]
    if len(payload) != size:
        raise ValueError("the histogram is cut off")
    counted = _v2(payload) if version == 2 else _v1(payload, (inner & _WIDTH_BITS) >> 4)
    return _values(counted, digits, lowest)


def _v1(payload: bytes, width: int) -> list[tuple[int, int]]:
    if width not in _WIDTHS or len(payload) % width:
        raise ValueError("the counts of the histogram are damaged")
    counts = struct.unpack(f">{len(payload) // width}{_WIDTHS[width]}", payload)
    if counts and min(counts) < 0:
        raise ValueError("the counts of the histogram are damaged")
    return [(index, count) for index, count in enumerate(counts) if count]


def _v2(payload: bytes) -> list[tuple[int, int]]:
    found = []
    index = at = 0
    end = len(payload)
    while at < end:
        word = shift = 0
        while True:  # seven bits a byte, but all eight of the ninth
            if at >= end:
                raise ValueError("the counts of the histogram are cut off")
            byte = payload[at]
            at += 1
            if shift == 56:
                word |= byte << shift
                break
            word |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
        count = (word >> 1) ^ -(word & 1)
        if count < 0:
            index -= count
        else:
            if count:
                found.append((index, count))
            index += 1
        if index > _LARGEST:
            raise ValueError("the counts of the histogram are damaged")
    return found


def _values(counted: list[tuple[int, int]], digits: int, lowest: int) -> list[tuple[int, int]]:
    """From places in the array to the largest value of each: linear steps within each doubling."""
    unit = lowest.bit_length() - 1
    half_bits = max((2 * 10**digits - 1).bit_length(), 1) - 1
    half = 1 << half_bits
    values = []
    for index, count in counted:
        doubling = (index >> half_bits) - 1
        step = (index & (half - 1)) + half
        if doubling < 0:
            step, doubling = step - half, 0
        shift = doubling + unit
        if shift > 62:
            raise ValueError("the histogram holds impossible values")
        values.append((((step + 1) << shift) - 1, count))
    return values
