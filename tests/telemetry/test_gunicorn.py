"""A real gunicorn, one of whose workers is killed: its page counts every request once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

import resilience as rs
from resilience.telemetry.multiprocess import Workers
from resilience.telemetry.prometheus import Collector
from telemetry.pages import only, parsed, succeeded
from telemetry.servers import eventually, free_port

GUNICORN = Path(sys.executable).with_name("gunicorn")
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(Path(rs.__file__).parents[1]), str(Path(__file__).parents[1])]),
}

HOOKS = """
from resilience.telemetry import multiprocess

def child_exit(server, worker):
    multiprocess.mark_process_dead(worker.pid)
"""


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        body: bytes = answer.read()
        return body


@pytest.mark.parametrize("preload", [False, True], ids=["each loads", "preload"])
def test_the_page_of_gunicorn_counts_every_request_once(tmp_path: Path, preload: bool) -> None:
    """Whichever worker is scraped, it shows all requests, by how they ended; also those of one that was killed."""
    if not GUNICORN.exists():
        pytest.skip("NOT TESTED: gunicorn is not installed")
    (tmp_path / "hooks.py").write_text(HOOKS)
    port = free_port()
    command = [
        str(GUNICORN), "--workers=3", f"--bind=127.0.0.1:{port}", f"--config={tmp_path / 'hooks.py'}",
        "--log-level=warning", "--no-control-socket", "telemetry.workers:app", *(["--preload"] if preload else []),
    ]  # fmt: skip
    environment = {**ENVIRONMENT, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "numbers")}
    url = f"http://127.0.0.1:{port}"
    loads = 1 if preload else 3  # each time the program is loaded, it makes one call
    made: Counter[str] = Counter()
    pids: set[int] = set()

    def ask(path: str) -> None:
        pids.add(int(get(url + path)))
        made[path] += 1

    def counted(path: str) -> Counter[str]:
        found = parsed(get(url + "/metrics"))
        good = only(found, "resilience_calls_total", outcome="succeeded")
        return Counter(
            good=int(good),
            bad=int(only(found, "resilience_calls_total", outcome="failed")),
            retries=int(only(found, "resilience_retries_total")),
            durations=int(only(found, "resilience_call_duration_seconds_count", outcome="succeeded")),
            slots=int(only(found, "resilience_bulkhead_limit")),
        )

    def wanted(loaded: int, writers: int) -> Counter[str]:
        good = made["/ok"] + made["/again"] + loaded
        return Counter(good=good, bad=made["/bad"], retries=made["/again"], durations=good, slots=10 * writers)

    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(command, env=environment, stderr=log, stdout=log, start_new_session=True) as server,
    ):
        try:
            eventually(lambda: _answers(url))
            writers = 4 if preload else 3  # with preload the parent has the policies, too
            for _ in range(20):
                for path in ("/ok", "/ok", "/again", "/bad"):
                    ask(path)
            eventually(lambda: counted("/metrics") == wanted(loads, writers), within=10)
            victim = min(pids)
            os.kill(victim, signal.SIGKILL)
            eventually(lambda: not list((tmp_path / "numbers").glob(f"resilience-{victim}-*")), within=10)
            loads += not preload  # the one that comes in its place
            for path in ("/ok", "/again", "/bad") * 10:
                ask(path)
            eventually(lambda: counted("/metrics") == wanted(loads, writers), within=10)
            assert (tmp_path / "numbers" / "resilience-dead.json").exists()
        finally:
            server.terminate()
            server.wait(15)
    assert "Traceback" not in (tmp_path / "log").read_text()
    if preload:
        return
    # All have ended by now, and been marked: nothing but counts is left.
    found = parsed(Collector(Workers(tmp_path / "numbers")).text())
    assert succeeded(found) == wanted(loads, 0)["good"]
    assert not [name for name, _ in found if name == "resilience_bulkhead_limit"]


def _answers(url: str) -> bool:
    try:
        return bool(get(url + "/metrics"))
    except OSError:
        return False
