"""An outage fires the shipped alerts: a real process, a real dependency that dies, a real Prometheus server.

All durations of the rules are a sixtieth of those shipped, so that minutes are seconds. Nothing else is different.
"""

from __future__ import annotations

import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import resilience
from resilience.telemetry.rules import Settings, rules
from telemetry.servers import Prometheus, eventually, free_port

OURS = {"ResilienceCircuitOpen", "ResilienceBudgetBurnFast"}
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(resilience.__file__).parents[1])}


class Paid(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(b"paid")


class Dependency(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@contextmanager
def dependency(port: int) -> Iterator[None]:
    """It answers, until it dies."""
    with Dependency(("127.0.0.1", port), Paid) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield
        server.shutdown()
        thread.join()


@contextmanager
def shop(port: int) -> Iterator[str]:
    """A process that calls the dependency; where its metrics are."""
    command = [sys.executable, str(Path(__file__).with_name("shop.py")), f"127.0.0.1:{port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        assert process.stdout is not None
        try:
            yield f"127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def test_an_outage_fires_the_shipped_alerts_and_its_end_resolves_them(
    prometheus: Callable[..., Prometheus], tmp_path: Path
) -> None:
    """While the dependency is down, circuit and error budget call somebody, in these words; not before, nor after."""
    file = tmp_path / "resilience.yml"
    file.write_text(rules(Settings(scale=1 / 60)))
    port = free_port()
    with shop(port) as target:
        with dependency(port):
            server = prometheus([target], rules=[file])
            # Until windows of five minutes, now seconds, are about full.
            eventually(lambda: server.query('resilience_calls_total{outcome="succeeded"} > 300'))
            assert server.alerts() == []
        eventually(lambda: server.firing() >= OURS)
        firing = {alert["labels"]["alertname"]: alert for alert in server.alerts() if alert["state"] == "firing"}
        for name in OURS:
            assert firing[name]["labels"] == {
                "alertname": name, "job": "test", "policy": "payments", "severity": "critical",
            }  # fmt: skip
            assert firing[name]["annotations"]["runbook_url"].endswith(f"#{name.lower()}")
        assert firing["ResilienceCircuitOpen"]["annotations"]["summary"] == "payments: circuit open, 1 in one process"
        with dependency(port):
            eventually(lambda: not server.firing() & OURS)
            assert server.value('resilience_circuits{state="closed"}') == 1
