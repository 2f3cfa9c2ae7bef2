"""Files of all formats become the samples that were written into them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resilience.tune.readers import UnreadableError
from resilience.tune.trace import LOST
from tune.records import MS, load, samples, write_lines

latencies = st.lists(st.integers(0, 10**15), min_size=1, max_size=40)
UNITS = {"s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}


def written(ns: int, unit: str) -> str:
    """A duration in a unit, exactly."""
    factor = UNITS[unit]
    return str(ns) if factor == 1 else f"{ns // factor}.{ns % factor:0{len(str(factor)) - 1}d}"


def as_file(form: str, times: list[int], took: list[int], unit: str) -> str:
    """The same record in one of the formats."""
    cells = [written(ns, unit) for ns in took]
    if form == "numbers":
        return "".join(f"{cell}\n" for cell in cells)
    if form == "json":
        rows = [
            json.dumps({"at": at, "http": {f"took_{unit}": float(c) if "." in c else int(c)}})
            for at, c in zip(times, cells, strict=True)
        ]
        return "\n".join(rows) + "\n"
    cut, name = {"csv": (",", f"took_{unit}"), "tabs": ("\t", f"took ({unit})"), "semicolons": (";", f"took [{unit}]")}[
        form
    ]
    if form == "semicolons":
        cells = [cell.replace(".", ",") for cell in cells]
    return "\r\n".join([f"time{cut}{name}", *(f"{at}{cut}{cell}" for at, cell in zip(times, cells, strict=True)), ""])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    latencies,
    st.sampled_from(["numbers", "json", "csv", "tabs", "semicolons"]),
    st.sampled_from(sorted(UNITS)),
    st.booleans(),
    st.data(),
)
def test_what_was_written_comes_back(
    tmp_path: Path, took: list[int], form: str, unit: str, packed: bool, data: st.DataObject
) -> None:
    """Every format, unit and packing gives the same samples, in order of time."""
    took = [min(ns, 10**9) for ns in took] if form == "json" else took  # floats of JSON hold so much exactly
    times = data.draw(st.lists(st.integers(0, 10**6), min_size=len(took), max_size=len(took)))
    text = as_file(form, times, took, unit)
    path = tmp_path / "record"
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    trace, told = load(path, unit=unit if form == "numbers" else None)
    exact = [max(1, ns) for ns in took]
    if form == "numbers":
        expected = [(n * 100_000_000, ns) for n, ns in enumerate(exact)]
    else:
        expected = sorted(((at * 10**9, ns) for at, ns in zip(times, exact, strict=True)), key=lambda pair: pair[0])
    assert list(trace) == expected
    assert told.bad_count == 0
    assert told.zeros == sum(not ns for ns in took)
    assert told.unit == unit
    assert told.format.endswith("packed with gzip") == packed


def test_the_unit_is_never_guessed(tmp_path: Path) -> None:
    """A file that states none is refused, whatever its numbers look like."""
    path = write_lines(tmp_path / "a.csv", ["latency", "12.5", "13"])
    with pytest.raises(UnreadableError, match=r"does not say in which unit.*'12.5'.*--unit ms"):
        load(path)
    assert samples(path, unit="ms") == [12_500_000, 13_000_000]


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("latency_ms", "ms"), ("latency (us)", "us"), ("took[s]", "s"), ("elapsed.ns", "ns"), ("durationMs", "ms"),
        ("response_time_seconds", "s"), ("time_taken_micros", "us"), ("took µs", "us"), ("latencyNanos", "ns"),
    ],
)  # fmt: skip
def test_a_name_states_the_unit(tmp_path: Path, name: str, unit: str) -> None:
    """What stands at the end of a column's name is believed, and told."""
    trace, told = load(write_lines(tmp_path / "a.csv", [name, "3"]))
    assert list(trace) == [(0, 3 * UNITS[unit])]
    assert told.unit == unit
    assert name in told.unit_from


@pytest.mark.parametrize("name", ["latency", "items", "times", "status", "us-east", "class"])
def test_a_name_that_only_ends_alike_states_none(tmp_path: Path, name: str) -> None:
    """An s at the end of a word is no unit."""
    with pytest.raises(UnreadableError, match="unit"):
        load(write_lines(tmp_path / "a.csv", [name, "3"]))


def test_values_may_carry_their_units(tmp_path: Path) -> None:
    """As Go's and nginx's logs do; a bare number among them is then a bad line."""
    trace, told = load(write_lines(tmp_path / "a", ["1.5ms", "20 us", "3s", "7", "4 parsec"]))
    assert [sample for _, sample in trace] == [1_500_000, 20_000, 3 * 10**9]
    assert told.unit == "with each value"
    assert [at for at, _ in told.bad] == [4, 5]


def test_columns_are_chosen_by_name_and_number(tmp_path: Path) -> None:
    """Both ways, and the choice is told; numbers count from 1."""
    path = write_lines(tmp_path / "a.csv", ["a,b,c", "1,2,3", "4,5,6"])
    for column in ("b", "2"):
        trace, told = load(path, unit="ms", column=column)
        assert [sample for _, sample in trace] == [2 * MS, 5 * MS]
        assert told.column == "b"
    bare = write_lines(tmp_path / "b.csv", ["1,2,3", "4,5,6"])
    trace, told = load(bare, unit="ms", column="3", time_column="1")
    assert list(trace) == [(10**9, 3 * MS), (4 * 10**9, 6 * MS)]
    assert (told.column, told.time_column) == ("number 3", "number 1")


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        (["a,b", "1,2"], {}, r"several columns hold numbers.*--column \(a, b\)"),
        (["1,2", "3,4"], {}, r"several columns hold numbers.*\(1, 2\)"),
        (["a,b", "1,2"], {"column": "c"}, "no column 'c' for --column; there are a, b"),
        (["1,2", "3,4"], {"column": "5"}, "no column '5'.*2 columns without names"),
        (["a,a", "1,2"], {"column": "a"}, "columns 1, 2 are all called 'a'"),
        (["a,b", "1,2"], {"column": "a", "time_column": "z"}, "no column 'z' for --time-column"),
        (["a,b", "1,2"], {"column": "a", "timed_out_column": "z"}, "no column 'z' for --timed-out-column"),
        (["a,b", "x,y"], {}, "no column holds numbers"),
        (["latency"], {}, "nothing below it"),
        ([], {}, "empty"),
        (["", "# only", ""], {}, "empty"),
        (["[1, 2]"], {}, "JSON array.*jq"),
        (['{"a": 1, "b": 2}'], {}, r"several columns.*\(a, b\)"),
        (["{broken"], {}, "no latencies in it.*JSON lines"),
        (["-1", "-2"], {}, "no latencies(.|\n)*line 1: '-1' is negative"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_the_way_out(
    tmp_path: Path, lines: list[str], options: dict[str, str], message: str
) -> None:
    """The message names what there is, and the option that helps."""
    with pytest.raises(UnreadableError, match=message):
        load(write_lines(tmp_path / "a", lines), **{"unit": "ms", **options})


def test_the_latency_is_found_among_other_numbers(tmp_path: Path) -> None:
    """If just one name says so, it is that one; the time too."""
    path = write_lines(tmp_path / "a.csv", ["timestamp,status,latency_ms", "2026-01-31T12:00:00Z,200,12"])
    trace, told = load(path)
    assert list(trace) == [(1_769_860_800 * 10**9, 12 * MS)]
    assert (told.column, told.time_column, told.dated) == ("latency_ms", "timestamp", True)


def test_times_can_be_left_or_replaced(tmp_path: Path) -> None:
    """``none`` and a rate both make samples evenly spaced."""
    path = write_lines(tmp_path / "a.csv", ["time,latency_ms", "5,1", "9,2"])
    assert [at for at, _ in load(path)[0]] == [5 * 10**9, 9 * 10**9]
    assert [at for at, _ in load(path, time_column="none")[0]] == [0, 100_000_000]
    trace, told = load(path, rate=4.0)
    assert [at for at, _ in trace] == [0, 250_000_000]
    assert (told.time_column, told.rate) == (None, 4.0)


def test_times_in_small_units_must_be_told(tmp_path: Path) -> None:
    """A number of milliseconds since 1970 is not taken for seconds."""
    path = write_lines(tmp_path / "a.csv", ["time,latency_ms", "1441812279474,1"])
    with pytest.raises(UnreadableError, match="say --time-unit ms"):
        load(path)
    assert [at for at, _ in load(path, time_unit="ms")[0]] == [1_441_812_279_474 * MS]
    named = write_lines(tmp_path / "b.csv", ["time_ms,latency_ms", "1441812279474,1"])
    assert [at for at, _ in load(named)[0]] == [1_441_812_279_474 * MS]


@pytest.mark.parametrize("text", ["2014-03-07 03:41:00", "2014-03-07T04:41:00+01:00", "1394163660", "1394163660.0"])
def test_dates_and_numbers_are_the_same_moment(tmp_path: Path, text: str) -> None:
    """Dates without a zone are taken for UTC."""
    path = write_lines(tmp_path / "a.csv", ["time,latency_ms", f"{text},1"])
    assert [at for at, _ in load(path)[0]] == [1_394_163_660 * 10**9]


def test_given_up_calls_are_marked(tmp_path: Path) -> None:
    """By a column, or by a value that stands for no answer."""
    path = write_lines(tmp_path / "a.csv", ["latency_ms,gone", "5,false", "100,true", "7,", "8,what", "0,1"])
    trace, told = load(path, timed_out_column="gone")
    assert [sample for _, sample in trace] == [5 * MS, -100 * MS, 7 * MS, -1]
    assert told.timed_out == 2
    assert told.bad == [(5, "'what' in the column of timeouts is neither true nor false")]
    trace, told = load(path, column="latency_ms", timed_out_value="0")
    assert [sample for _, sample in trace][-1] == LOST
    assert told.timed_out == 1
    objects = write_lines(
        tmp_path / "b", ['{"took_ms": 5, "gone": true}', '{"took_ms": 6}', '{"took_ms": 7, "gone": null}']
    )
    assert samples(objects, timed_out_column="gone") == [-5 * MS, 6 * MS, 7 * MS]


def test_bad_lines_are_counted_up_to_a_limit(tmp_path: Path) -> None:
    """Number and reason of the first are told; one more than allowed ends it."""
    lines = ["time,latency_ms", "1,1", "2", "3,abc", "4,nan", "x,5", "6,-1", "7,1e30", "8,8"]
    trace, told = load(write_lines(tmp_path / "a.csv", lines))
    assert [sample for _, sample in trace] == [MS, 8 * MS]
    assert told.bad_count == 6
    assert [at for at, _ in told.bad] == [3, 4, 5, 6, 7]
    assert told.bad[0][1] == "has 1 columns, and not the 2 that are needed"
    with pytest.raises(UnreadableError, match=r"more than 5 lines cannot be read(.|\n)*line 3: has 1(.|\n)*CSV"):
        load(tmp_path / "a.csv", max_bad=5)


def test_bad_lines_of_json_are_counted(tmp_path: Path) -> None:
    """Broken ones, those of another kind, those that lack the field."""
    lines = ['{"a.b": 1, "took_ms": 2}', "{", "3", "", '{"took_ms": null}', '{"took_ms": [1]}', '{"took_ms": 4}']
    trace, told = load(write_lines(tmp_path / "a", lines), column="took_ms")
    assert [sample for _, sample in trace] == [2 * MS, 4 * MS]
    assert [at for at, _ in told.bad] == [2, 3, 5, 6]
    assert samples(tmp_path / "a", column="a.b", unit="s") == [10**9]


def test_oddities_of_text_files_do_not_matter(tmp_path: Path) -> None:
    """A mark of the byte order, comments, blank lines, quotes, spaces, bytes that are no text."""
    path = tmp_path / "a.csv"
    path.write_bytes(b'\xef\xbb\xbf# comment\n\n"latency_ms", name\n 1 ,"a, b"\n\n# more\n2,\xff\xfe\n')
    assert samples(path) == [MS, 2 * MS]
    blanks = write_lines(tmp_path / "b", ["10  1.5", "11  2.5"])
    assert samples(blanks, column="2", time_column="1", unit="ms") == [1_500_000, 2_500_000]


def test_what_no_parser_takes_is_a_bad_line(tmp_path: Path) -> None:
    """A cell that is too large for a row, a moment that no clock shows, an empty interval of a log."""
    path = write_lines(tmp_path / "a.csv", ["time,took_ms", "1,1", f'2,"{"x" * 140_000}"', "9e30,2", "3,3"])
    trace, told = load(path)
    assert [sample for _, sample in trace] == [MS, 3 * MS]
    assert [at for at, _ in told.bad] == [3, 4]
    path = write_lines(tmp_path / "b.csv", [f'"{"x" * 140_000}"'])
    with pytest.raises(UnreadableError, match="line 1: is no CSV"):
        load(path)


def test_a_line_without_end_is_one_bad_line(tmp_path: Path) -> None:
    """It is neither held in memory nor taken for several lines."""
    path = tmp_path / "a"
    path.write_bytes(b"1\n" + b"9" * (9 << 20) + b"\n2\n")
    trace, told = load(path, unit="ms")
    assert [sample for _, sample in trace] == [MS, 2 * MS]
    assert [at for at, _ in told.bad] == [2]


def test_damaged_gzip_is_told(tmp_path: Path) -> None:
    """A file that was cut off while being copied."""
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"1\n2\n" * 100)[:-9])
    with pytest.raises(UnreadableError, match="gzip file is damaged"):
        load(path, unit="ms")
    path.write_bytes(b"\x1f\x8bnonsense")
    with pytest.raises(UnreadableError, match="gzip file is damaged"):
        load(path, unit="ms")
