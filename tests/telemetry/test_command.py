from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import resilience
from resilience.telemetry.command import main
from resilience.telemetry.grafana import grafana
from resilience.telemetry.reference import reference
from resilience.telemetry.rules import Settings, rules


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Status, output and errors."""
    try:
        status = main(arguments)
    except SystemExit as done:
        status = int(str(done.code))
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def test_the_commands_print_what_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    """On the standard output, and nothing else."""
    assert run(capsys, "rules") == (0, rules(), "")
    assert run(capsys, "grafana") == (0, grafana(), "")
    assert run(capsys, "metrics") == (0, reference(), "")


def test_a_file_is_written_if_asked_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Its name is told on the error output."""
    where = tmp_path / "dashboard.json"
    assert run(capsys, "grafana", "--title", "Ours", "--uid", "ours", "--out", str(where)) == (
        0, "", f"written: {where}\n",
    )  # fmt: skip
    found = json.loads(where.read_text())
    assert (found["title"], found["uid"]) == ("Ours", "ours")


def test_every_setting_is_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever can be chosen in Python can be chosen here, and comes out the same."""
    status, out, err = run(
        capsys, "rules", "--by", "cluster,job", "--label", "team=a=b", "--label", "tier=1", "--page", "page",
        "--ticket", "ticket", "--runbook", "https://example.org/", "--open-for", "600", "--amplification", "2",
        "--starved", "0.3", "--timed-out", "0.1", "--false-timeouts", "0.01", "--budget-refused", "0.4",
        "--minimum-calls", "5", "--minimum-bad", "3", "--scale", "0.5",
    )  # fmt: skip
    settings = Settings(
        by=("cluster", "job"), labels={"team": "a=b", "tier": "1"}, page="page", ticket="ticket",
        runbook="https://example.org/", open_for=600, amplification=2, starved=0.3, timed_out=0.1, false_timeouts=0.01,
        budget_refused=0.4, minimum_calls=5, minimum_bad=3, scale=0.5,
    )  # fmt: skip
    assert (status, err) == (0, "")
    assert out == rules(settings)
    default = Settings()
    assert all(getattr(settings, field.name) != getattr(default, field.name) for field in fields(Settings))


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["rules", "--scale", "0"], 2, "scale must be"),
        (["rules", "--minimum-bad", "1.5"], 2, "invalid int value"),
        (["rules", "--label", "team"], 2, "must be NAME=VALUE"),
        (["rules", "--by", "a b"], 2, "'a b'"),
        (["grafana", "--uid", "a b"], 2, "'a b'"),
        (["grafana", "--title", ""], 2, "title"),
        (["metrics", "more"], 2, "unrecognized"),
        (["metrics", "--out", "/no/such/folder/a"], 1, "No such file"),
        (["metrics", "--out", "."], 1, "directory"),
    ],
)
def test_errors_name_the_way_out(
    capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, message: str
) -> None:
    """On the error output, with a status that tells wrong options from a file that cannot be written."""
    found, out, err = run(capsys, *arguments)
    assert (found, out) == (status, "")
    assert message in err


@pytest.mark.parametrize("command", ["rules", "grafana", "metrics"])
def test_help_tells_what_comes_out(capsys: pytest.CaptureFixture[str], command: str) -> None:
    """And how to choose where it goes."""
    status, out, _ = run(capsys, command, "--help")
    assert status == 0
    assert f"resilience {command}" in out
    assert "--out" in out
    assert "Print" in out


def test_a_reader_who_has_seen_enough_is_no_error() -> None:
    """As in ``resilience rules | head -1``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "resilience", "rules"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(resilience.__file__).parents[1])},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), err) == (0, b"")
