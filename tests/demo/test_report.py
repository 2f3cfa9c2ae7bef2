"""The demo shows its progress and its figures, to people and to programs."""

from __future__ import annotations

import io
import json
import re

from resilience.demo.clients import OPERATIONS
from resilience.demo.load import Call
from resilience.demo.measure import Run, figures
from resilience.demo.phases import phases
from resilience.demo.report import Progress, as_json, as_table

DEADLINE = 1.0


def call(at: float, took: float | None, error: str | None = None) -> Call:
    """A call that began when it was meant to."""
    return Call(at, OPERATIONS[0], 0, at, None if took is None else at + took, error)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Always."""
        return True


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere() -> None:
    """A terminal gets one line, redrawn and taken away; a file gets a line for each phase."""
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        progress = Progress(10.0, stream)
        for done, label in ((0.0, "a"), (1.0, "a"), (5.0, "b")):
            progress.show(done, label)
        progress.clear()
    assert file.getvalue().splitlines() == ["  0.0 s  a", "  5.0 s  b"]
    assert "\n" not in terminal.getvalue()
    assert "[###############...............]" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r")


def test_table_and_json_show_the_same_run() -> None:
    """What never happened is "never" in the table and null in JSON."""
    schedule = phases(20.0, 10.0)
    run = Run("x", [call(0.0, 0.25), call(16.0, 2.5), call(17.0, None)], [0.0], 1, 21.0, "", 0)
    made = {"x": figures(run, schedule, DEADLINE)}
    table = as_table(made, DEADLINE, ["a note"])
    cells = [re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in table.splitlines()]
    rows = dict(pair for pair in cells if len(pair) == 2)
    assert rows["answered in time (1 s)"] == "1 (33 %)"
    assert (rows["answered, p50"], rows["answered, p99"]) == ("2.5 s", "never")
    assert rows["recovered after the outage"] == "not in the run"
    assert (rows["healthy"], rows["throttling"]) == ("100 % | 1.00", "- |    -")
    assert table.endswith("a note")
    loaded = json.loads(as_json(made, {"rate": float("nan")}))
    assert loaded["settings"] == {"rate": None}
    assert tuple(loaded["runs"]["x"][name] for name in ("p50", "p99", "recovered")) == (
        2.5,
        None,
        None,
    )
