"""The demo measures what it says, from end to end, and leaves nothing behind."""

from __future__ import annotations

import functools
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import resilience
from resilience.demo import run as command
from resilience.demo.clients import clean_environment
from resilience.demo.emulator import Emulator

SOURCE = str(Path(resilience.__file__).parents[1])
DEADLINE = 1.0


def ours() -> list[str]:
    """The names of the demo's threads that are alive."""
    return [t.name for t in threading.enumerate() if t.name.startswith(("demo-", "FaultProxy"))]


def alive(group: int) -> bool:
    """Whether a process of that group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    """The figures of one short run of the whole demo, as the command prints them."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        code = command.main(["--fast", "--json", "--seed", "5", "--rate", "20"])
    assert code == 0
    assert not ours()
    assert "bare: outage" in err.getvalue()
    assert "resilience: recovery" in err.getvalue()
    loaded: dict[str, Any] = json.loads(out.getvalue())
    return loaded


def test_both_runs_want_the_same_calls(result: dict[str, Any]) -> None:
    """Bare and under policies the same number of calls is wanted, in all and in each phase."""
    bare, guarded = result["runs"]["bare"], result["runs"]["resilience"]
    assert 50 == bare["wanted"] == guarded["wanted"]
    wanted = [{name: part["wanted"] for name, part in r["phases"].items()} for r in (bare, guarded)]
    assert wanted[0] == wanted[1]
    assert sum(wanted[0].values()) == 50


@pytest.mark.parametrize("name", ["bare", "resilience"])
def test_the_counts_are_consistent(result: dict[str, Any], name: str) -> None:
    """Every answer took a request that was passed on, and no share exceeds its whole."""
    run = result["runs"][name]
    answered = run["in_time"] + run["late"]
    assert 0 < answered <= run["passed_on"] <= run["requests"]
    assert answered + sum(run["errors"].values()) <= run["begun"] <= run["wanted"]
    assert run["in_time"] == sum(part["in_time"] for part in run["phases"].values())
    assert run["requests"] == pytest.approx(run["amplification"] * run["begun"], rel=0.01)
    assert result["settings"]["stuck_threads"][name] == 0


def test_policies_answer_no_less_and_hold_no_caller_up(result: dict[str, Any]) -> None:
    """Under policies no fewer calls are answered in time, and every caller is freed by then."""
    bare, guarded = result["runs"]["bare"], result["runs"]["resilience"]
    assert guarded["in_time"] >= bare["in_time"] - 5
    assert guarded["held"] <= DEADLINE + 1.0


def test_retries_stay_within_their_budgets(result: dict[str, Any]) -> None:
    """Each service's budget grants ten retries and one for five answers, one more when empty."""
    guarded = result["runs"]["resilience"]
    answered = guarded["in_time"] + guarded["late"]
    assert guarded["requests"] - guarded["begun"] <= 3 * (10 + 1) + 0.2 * answered


def test_the_wrong_answers_of_a_healthy_server_are_none(result: dict[str, Any]) -> None:
    """Before the first fault calls are answered, and no answer is ever a wrong one."""
    for run in result["runs"].values():
        healthy = run["phases"]["healthy"]
        assert healthy["in_time"] >= healthy["wanted"] - 1  # a busy machine may be late once
        assert "AssertionError" not in run["errors"]


def test_an_interrupted_demo_leaves_no_process() -> None:
    """Ctrl-C ends the demo within seconds, by exit code 130, and its emulator with it."""
    child = subprocess.Popen(
        [sys.executable, "-m", "resilience.demo.run", "--fast"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": SOURCE},
        start_new_session=True,
        # A shell has its background jobs ignore interrupts, and what they start inherits that.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
    )
    assert child.stderr is not None
    for line in child.stderr:
        if "brown-out" in line:
            break
    os.killpg(child.pid, signal.SIGINT)
    out, err = child.communicate(timeout=10)
    assert (child.returncode, out) == (130, "")
    assert "interrupted" in err
    assert "Traceback" not in err
    assert not alive(child.pid)


def test_the_emulator_ends_with_its_parent() -> None:
    """When the parent is killed outright, the emulator notices and leaves."""
    program = (
        "import time, resilience.demo.emulator as e\n"
        "with e.Emulator() as emulator: print(emulator.port, flush=True); time.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": SOURCE},
        start_new_session=True,
    )
    assert child.stdout is not None
    assert int(child.stdout.readline()) > 0
    child.kill()
    child.communicate()
    patience = time.monotonic() + 5.0
    while alive(child.pid) and time.monotonic() < patience:
        time.sleep(0.01)
    assert not alive(child.pid)


def test_an_emulator_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that says nothing is reported and reaped."""
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with pytest.raises(RuntimeError, match=r"moto\.server"), Emulator():
        pass


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without moto the command says how to get it, and exits with 2."""
    monkeypatch.setattr(command, "missing", lambda: ["moto"])
    assert command.main([]) == 2
    assert "moto; install: pip install 'resilience-client[demo]'" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--seconds=-1", "--seconds=0", "--seconds=nan", "--rate=0"])
def test_senseless_options_are_refused(capsys: pytest.CaptureFixture[str], option: str) -> None:
    """An option out of range is refused with exit code 2 and a message that shows it."""
    assert command.main([option]) == 2
    assert "must be" in capsys.readouterr().err


def test_the_users_aws_settings_are_hidden_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside the demo no AWS variable of the user's is seen; after it they are as before."""
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    monkeypatch.setenv("AWS_CONFIG_FILE", "mine")
    before = dict(os.environ)
    with clean_environment():
        assert "AWS_PROFILE" not in os.environ
        assert os.devnull == os.environ["AWS_CONFIG_FILE"]
    assert before == dict(os.environ)
