"""Logs of HdrHistogram are read as they were written."""

from __future__ import annotations

import base64
import struct
import zlib
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.tune.hlog import LogTimes, decode, parse_line
from resilience.tune.readers import UnreadableError
from tune.records import DATA, encode, load, log_line, samples, zigzag

values = st.integers(1, 1 << 40)
counted = st.dictionaries(values, st.integers(1, 1 << 14), max_size=30)


@given(counted, st.sampled_from([1, 2]), st.integers(0, 5), st.sampled_from([1, 1000, 20_000]))
def test_what_was_encoded_comes_back_within_its_precision(
    counts: dict[int, int], version: int, digits: int, lowest: int
) -> None:
    """Every count is there, in order, at a value no smaller and by at most the stated digits larger."""
    if version == 1 and digits == 5:
        digits = 3  # the array would have millions of places
    found = decode(encode(counts, version=version, digits=digits, lowest=lowest))
    assert [value for value, _ in found] == sorted({value for value, _ in found})
    assert sum(count for _, count in found) == sum(counts.values())
    ascending = [value for value, count in found for _ in range(min(count, 3))]
    exact = sorted(counts)
    assert (not exact and not ascending) or exact[0] <= ascending[0]
    for value in exact:
        above = min(high for high, _ in found if high >= value)
        assert above - value <= max(value / 10**digits, 1 << lowest.bit_length())


@given(st.integers(1, (1 << 62) - 1))
def test_counts_of_up_to_nine_bytes_come_back(count: int) -> None:
    """The ninth byte of a number carries eight bits."""
    assert decode(encode({5: count}, version=2)) == [(5, count)]


@pytest.mark.parametrize("width", [2, 4, 8])
def test_first_version_has_counts_of_three_widths(width: int) -> None:
    """The cookie tells how many bytes a count has."""
    assert decode(encode({3: 7, 900: 1}, version=1, width=width)) == [(3, 7), (900, 1)]


@given(st.text("ABCDEFHISTMZabcyz0189+/=", max_size=80), st.data())
def test_damage_is_told_and_never_a_surprise(noise: str, data: st.DataObject) -> None:
    """Whatever happened to a payload: it is read, or refused in words."""
    whole = encode({5: 2, 70_000: 1}, version=2)
    at = data.draw(st.integers(0, len(whole)))
    for text in (noise, whole[:at], whole[:at] + noise, whole[:at] + noise + whole[at:]):
        with suppress(ValueError):
            found = decode(text)
            assert all(value >= 0 and count > 0 for value, count in found)


@pytest.mark.parametrize("line", ["", "1,2,3", "a,1,2,HISTFAAA", "1e99,1,2,HISTFAAA", "nan,1,2,HISTFAAA", "1,2,3,"])
def test_damaged_lines_are_refused(line: str) -> None:
    """A line that is no interval says why."""
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        parse_line(line)


def packed(header: tuple[int, int, int, int, int, int, float], payload: bytes = b"", cookie: int = 0x1C849314) -> str:
    """A payload with any header."""
    data = zlib.compress(struct.pack(">iiiiqqd", *header) + payload)
    return base64.b64encode(struct.pack(">ii", cookie, len(data)) + data).decode()


V1, V2 = 0x1C849381, 0x1C849313


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (packed((V1, 0, 0, 3, 1, 99, 1.0)), "header of the histogram is damaged"),
        (packed((V2, 0, 0, 9, 1, 99, 1.0)), "header of the histogram is damaged"),
        (packed((V2, 0, 0, 3, 0, 99, 1.0)), "header of the histogram is damaged"),
        (packed((V2, 0, 0, 3, 1, 99, 0.5)), "DoubleHistogram"),
        (packed((V2, 9, 0, 3, 1, 99, 1.0)), "cut off"),
        (packed((V2, -1, 0, 3, 1, 99, 1.0)), "cut off"),
        (packed((V2, 1, 0, 3, 1, 99, 1.0), b"\x80"), "counts of the histogram are cut off"),
        (packed((V2, 6, 0, 3, 1, 99, 1.0), b"\xff" * 5 + b"\x7f"), "counts of the histogram are damaged"),
        (packed((V2, 4, 0, 0, 1, 99, 1.0), zigzag(-200)[:2] + zigzag(1) * 2), "impossible values"),
        (packed((0x1C849331, 3, 0, 3, 1, 99, 1.0), b"\0\0\0", 0x1C849332), "counts of the histogram are damaged"),
        (packed((V1, 8, 0, 3, 1, 99, 1.0), b"\xff" * 8, 0x1C849382), "counts of the histogram are damaged"),
        (base64.b64encode(struct.pack(">ii", 0x1C849308, 0)).decode(), "cookie 0x1c849308; V1 and V2 are"),
        (base64.b64encode(struct.pack(">ii", 0x1C849314, 3) + b"abc").decode(), "does not unpack"),
    ],
)
def test_each_kind_of_damage_is_told(text: str, message: str) -> None:
    """What is impossible is refused, and named."""
    with pytest.raises(ValueError, match=message):
        decode(text)


def test_payloads_that_unpack_without_end_are_refused() -> None:
    """A small text cannot fill the memory."""
    data = zlib.compress(b"\0" * (1 << 27))
    text = base64.b64encode(struct.pack(">ii", 0x1C849314, len(data)) + data).decode()
    with pytest.raises(ValueError, match="more than 64 MiB"):
        decode(text)


@pytest.mark.parametrize(
    ("name", "intervals", "total", "p999", "top"),
    [("jhiccup.hlog", 62, 48761, 1_753_219_071, 1_803_550_719), ("ycsb-read.hlog", 247, 123_632, 1_345_535, 1_546_239)],
)
def test_sample_logs_have_their_known_totals(name: str, intervals: int, total: int, p999: int, top: int) -> None:
    """Those of the whole jHiccup log are the ones that HdrHistogram's own tests name, up to the end of the bucket."""
    lines = [line for line in (DATA / name).read_text().splitlines() if line[0] not in '#"']
    assert len(lines) == intervals
    found = sorted(samples(DATA / name))
    assert len(found) == total
    assert found[-(-total * 999 // 1000) - 1] == p999
    assert found[-1] == top


@pytest.mark.parametrize(("name", "digits"), [("jhiccup.hlog", 2), ("ycsb-read.hlog", 3)])
def test_decoded_maxima_are_the_printed_ones(name: str, digits: int) -> None:
    """Each interval of a log names its maximum in ms, too: an independent record of the same."""
    for line in (DATA / name).read_text().splitlines():
        if line[0] in '#"':
            continue
        printed = float(line.split(",")[2]) * 1e6
        counts = parse_line(line).counts
        if counts:
            assert counts[-1][0] == pytest.approx(printed, rel=2 / 10**digits, abs=20_000 if digits == 2 else 501)


def test_stamps_count_from_what_the_log_says() -> None:
    """The base time, or the start time if the stamps are small, or 1970."""
    times = LogTimes()
    times.comment("#[StartTime: 1441812279.474 (seconds since epoch), some day]")
    assert times.absolute(0.5) == pytest.approx(1441812279.974)
    times = LogTimes()
    times.comment("#[StartTime: 1441812279.474 (seconds since epoch), some day]")
    assert times.absolute(1441812280.0) == 1441812280.0
    times = LogTimes()
    times.comment("#[BaseTime: 1000.0 (seconds since epoch)]")
    times.comment("#[StartTime: damaged")
    assert times.absolute(3.0) == 1003.0
    assert LogTimes().absolute(3.0) == 3.0


def test_an_interval_is_spread_over_its_time(tmp_path: Path) -> None:
    """Its calls lie within it, evenly, each value as often as counted, slow ones among quick ones."""
    path = tmp_path / "a.hlog"
    payload = encode({10: 90, 1000: 10}, version=2)
    path.write_text("#[Histogram log format version 1.3]\n" + log_line(5.0, 2.0, payload))
    trace, told = load(path, unit="us")
    pairs = list(trace)
    assert [at for at, _ in pairs] == [5_000_000_000 + round((n + 0.5) * 2e7) for n in range(100)]
    assert sorted(sample for _, sample in pairs) == [10_000] * 90 + [1_000_000] * 10
    slow = [n for n, (_, sample) in enumerate(pairs) if sample == 1_000_000]
    assert all(5 <= after - before <= 20 for before, after in pairwise(slow))
    assert (told.unit, told.unit_from) == ("us", "--unit")


def test_one_of_several_series_is_chosen(tmp_path: Path) -> None:
    """A log with tags needs to be told which; without one, both are named."""
    path = tmp_path / "a.hlog"
    text = "#[Histogram log format version 1.3]\n"
    text += log_line(0, 1, encode({10: 3}, version=2), "READ") + log_line(0, 1, encode({20: 4}, version=2), "WRITE")
    path.write_text(text)
    assert samples(path, tag="WRITE") == [20] * 4
    assert samples(path, tag="READ", rate=5.0) == [10] * 3
    with pytest.raises(UnreadableError, match=r"'READ' and 'WRITE' \(line 3\).*--tag"):
        load(path)
    with pytest.raises(UnreadableError, match="no tag 'SCAN'"):
        load(path, tag="SCAN")
    with pytest.raises(UnreadableError, match="--column makes no sense"):
        load(path, column="1")


def test_damaged_intervals_are_counted_with_their_lines(tmp_path: Path) -> None:
    """One bad line in a log costs that interval, and is told."""
    path = tmp_path / "a.hlog"
    good = log_line(0, 1, encode({10: 3}, version=2))
    path.write_text("#[Histogram log format version 1.3]\n" + good + "1,1,1,HISTFAAA\n" + good)
    trace, told = load(path)
    assert trace.count == 6
    assert told.bad_count == 1
    assert told.bad[0][0] == 3
