"""The command from end to end: what it prints, writes and returns."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import resilience
from resilience.__main__ import main
from resilience.tune.progress import Progress
from tune.records import DATA, write_lines

EC2 = str(DATA / "ec2-request-latency.csv")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(resilience.__file__).parents[1])}
COMMAND = [sys.executable, "-m", "resilience", "tune"]


def tune(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Status, output and errors of the command, in this process."""
    try:
        status = main(["tune", *arguments])
    except SystemExit as done:
        status = int(str(done.code))
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def test_the_whole_command_in_a_process_of_its_own(tmp_path: Path) -> None:
    """Words on the output, the page in its file, nothing but its name on the error output, and no progress bar."""
    where = tmp_path / "tune.html"
    done = subprocess.run(
        [*COMMAND, EC2, "--unit", "ms", "--rate", "10", "--html", str(where)],
        capture_output=True, text=True, env=ENVIRONMENT, check=True,
    )  # fmt: skip
    assert "rs.PercentileTimeout(" in done.stdout
    assert "fixed = rs.Timeout(0.12)" in done.stdout
    assert done.stderr == f"written: {where}\n"
    assert where.read_text().startswith("<!DOCTYPE html>")


def test_json_is_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """Every duration in seconds, every share between 0 and 1; the snippet is in it."""
    status, out, err = tune(capsys, EC2, "--unit", "ms", "--rate", "10", "--json", "--fixed", "60ms,0.2")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert found["version"] == 1
    assert found["calls"]["count"] == 4032
    assert found["recommended"]["fixed"] == 0.12
    assert found["recommended"]["learned"]["false_timeouts"] == found["accepted"] == 0.001
    by_name = {row["name"]: row for row in found["outcomes"]}
    assert by_name["fixed, 60 ms"]["false_timeouts"] == 3
    assert by_name["fixed, 200 ms"]["false_rate"] == 0
    assert {note["code"] for note in found["notes"]} >= {"tight"}
    assert "import resilience as rs" in found["recommended"]["python"]


def test_output_is_the_same_every_time(capsys: pytest.CaptureFixture[str]) -> None:
    """To the last byte."""
    arguments = (str(DATA / "jhiccup.hlog"), "--false-timeouts", "1%")
    assert tune(capsys, *arguments) == tune(capsys, *arguments)


def test_what_was_taken_for_what_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Format, column, unit, times, and the lines that were left out."""
    path = write_lines(tmp_path / "a.csv", ["time,took_ms", *(f"{n},{n % 50 + 1}" for n in range(400)), "x,1"])
    status, out, _ = tune(capsys, str(path), "--false-timeouts", "0.05")
    assert status == 0
    words = " ".join(out.split())
    assert "400 calls; CSV, column took_ms, in ms (the name 'took_ms'); times from time" in words
    assert "1 lines could not be read: line 402: 'x' is neither a number nor a date" in words
    assert "You accept to cut 1 good call in 20 (5 %)" in words


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["no-such-file", "--unit", "ms"], 1, "no-such-file: No such file"),
        ([EC2], 1, "add --unit s, --unit ms"),
        ([EC2, "--unit", "min"], 2, "invalid choice"),
        ([EC2, "--unit", "ms", "--false-timeouts", "0"], 2, "must be a share"),
        ([EC2, "--unit", "ms", "--false-timeouts", "x"], 2, "must be a share"),
        ([EC2, "--unit", "ms", "--rate", "0"], 2, "calls a second"),
        ([EC2, "--unit", "ms", "--rate", "x"], 2, "calls a second"),
        ([EC2, "--unit", "ms", "--padding", "0.5"], 2, "factor from 1"),
        ([EC2, "--unit", "ms", "--padding", "x"], 2, "factor from 1"),
        ([EC2, "--unit", "ms", "--linger", "-1"], 2, "whole number"),
        ([EC2, "--unit", "ms", "--floor", "soon"], 2, "write seconds, or for instance 250ms"),
        ([EC2, "--unit", "ms", "--floor", "0"], 2, "above 0"),
        ([EC2, "--unit", "ms", "--floor", "3", "--ceiling", "2"], 2, "must be in this order"),
        ([EC2, "--unit", "ms", "--html", "/no/such/folder/a.html"], 1, "No such file"),
        ([], 2, "required: file"),
        (["."], 1, "directory"),
    ],
)
def test_errors_name_the_file_and_the_way_out(
    capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, message: str
) -> None:
    """On the error output, with a status that tells wrong options from a file that cannot be used."""
    found, out, err = tune(capsys, *arguments)
    assert found == status
    assert message in err
    assert out == ""
    assert "Traceback" not in err


def test_a_record_of_timeouts_only_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """There is no latency to learn from."""
    path = write_lines(tmp_path / "a", ["0", "0"])
    status, _, err = tune(capsys, str(path), "--unit", "ms", "--timed-out-value", "0")
    assert status == 1
    assert "no call in it was ever answered" in err


def test_help_tells_formats_units_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """And the command line's own help names the command."""
    status, out, _ = tune(capsys, "--help")
    assert status == 0
    for word in ("HdrHistogram", "--false-timeouts", "--html", "gzip", "exit status", "awk"):
        assert word in out
    assert main(["--help"]) == 0
    assert "tune" in capsys.readouterr().out


def test_pictures_need_matplotlib_and_say_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The page does without."""
    monkeypatch.setattr("resilience.tune.png.missing", lambda: True)
    status, _, err = tune(capsys, EC2, "--unit", "ms", "--png", str(tmp_path))
    assert status == 2
    assert "pip install 'resilience-client[tune]'" in err


def test_pictures_are_written_where_asked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """And named."""
    status, _, err = tune(capsys, EC2, "--unit", "ms", "--rate", "10", "--png", str(tmp_path / "p"))
    assert status == 0
    assert err.count("written: ") == 3
    assert len(list((tmp_path / "p").glob("*.png"))) == 3


def test_standard_input_is_a_file_too() -> None:
    """Named by a dash."""
    done = subprocess.run(
        [*COMMAND, "-", "--unit", "ms", "--false-timeouts", "5%"],
        input="\n".join(map(str, range(1, 200))), capture_output=True, text=True, env=ENVIRONMENT, check=True,
    )  # fmt: skip
    assert "199 calls; one number a line, in ms" in done.stdout


def _interruptible() -> None:
    """In the child: a shell has its background jobs ignore interrupts, others block them; both are inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def test_an_interrupt_ends_it_in_one_line() -> None:
    """With the status that shells expect, and without a traceback."""
    with subprocess.Popen(
        [*COMMAND, "-", "--unit", "ms"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
        preexec_fn=_interruptible,  # noqa: PLW1509 - no threads here
    ) as process:  # fmt: skip
        assert process.stdin is not None
        process.stdin.write("1\n" * 100_000)  # more than a pipe holds: it is reading when this returns
        process.stdin.flush()
        process.send_signal(signal.SIGINT)
        # Closes its input: a signal that comes just before it waits for more ends no wait, but is heard after it.
        _, err = process.communicate(timeout=60)
    assert err == "resilience tune: interrupted\n"
    assert process.returncode == 130


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    """As when the output goes to ``head``."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*COMMAND, EC2, "--unit", "ms", "--json"], stdout=write, stderr=subprocess.PIPE, env=ENVIRONMENT, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        """Always."""
        return True


def test_the_bar_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is drawn at most ten times a second, and taken away; a file gets nothing."""
    now = [0.0]
    monkeypatch.setattr("resilience.tune.progress.time.monotonic", lambda: now[0])
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        progress = Progress(stream)
        for done in range(20):
            now[0] += 0.06
            progress.show("reading", done, 20)
        progress.show("reading", 1, None)
        now[0] += 1
        progress.show("reading", 1, None)
        progress.clear()
    assert file.getvalue() == ""
    assert terminal.getvalue().count("reading") == 11
    assert "[################..............]  55%  reading" in terminal.getvalue()
    assert "? %" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r")
    assert "\n" not in terminal.getvalue()
