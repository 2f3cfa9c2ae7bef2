"""A real Prometheus server, started for a test and stopped after it.

It knows how to start the server and to ask it over HTTP. It refuses to know what is scraped, and what should come out.
"""

from __future__ import annotations

import json
import math
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self

__all__ = ["Prometheus", "eventually", "free_port", "needed"]

Labels = dict[str, str]


def needed(program: str) -> str:
    """Where a program is; without it the test is skipped, loudly."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"NOT TESTED: {program} is not installed (Debian's package prometheus has prometheus and promtool)")
    return found


def free_port() -> int:
    """A port of the loopback address that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def eventually(ask: Callable[[], Any], *, within: float = 30.0, every: float = 0.05) -> Any:
    """What *ask* says once it says something true; the test fails if it does not *within* so many seconds."""
    until = time.monotonic() + within
    while True:
        found = ask()
        if found:
            return found
        assert time.monotonic() < until, f"not within {within:g} s: {ask!r} says {found!r}"
        time.sleep(every)


class Prometheus:
    """A server with a data directory of its own, on a free port; ready when the ``with`` block begins.

    Args:
        directory: where its files go.
        targets: ``"host:port"`` of what it scrapes, at ``/metrics``.
        rules: files of alert and recording rules.
        interval: how often it scrapes and evaluates, such as ``"200ms"``.
        path: where the targets have their metrics.
        labels: of all targets.

    Attributes:
        url: where it listens.
    """

    def __init__(
        self,
        directory: Path,
        targets: Iterable[str],
        *,
        rules: Iterable[Path] = (),
        interval: str = "200ms",
        path: str = "/metrics",
        labels: Labels | None = None,
    ) -> None:
        self.program = needed("prometheus")
        self.directory = directory
        self.targets = list(targets)
        self.url = f"http://127.0.0.1:{free_port()}"
        config = {
            "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
            "rule_files": [str(Path(file).resolve()) for file in rules],
            "scrape_configs": [
                {
                    "job_name": "test",
                    "metrics_path": path,
                    "static_configs": [{"targets": self.targets, "labels": labels or {}}],
                }
            ],
        }
        self.config = directory / "prometheus.yml"
        self.config.write_text(json.dumps(config))  # JSON is YAML
        self.log = directory / "prometheus.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    self.program,
                    f"--config.file={self.config}",
                    f"--storage.tsdb.path={self.directory / 'data'}",
                    f"--web.listen-address={self.url.removeprefix('http://')}",
                    "--query.lookback-delta=10s",
                ],
                stdout=log,
                stderr=log,
            )
        try:
            eventually(self._ready)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def get(self, path: str, **parameters: str) -> Any:
        """The data that the API at ``/api/v1/`` *path* answers with."""
        asked = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def query(self, expression: str) -> list[tuple[Labels, float]]:
        """Labels and value of each series that *expression* has now; no labels for a scalar."""
        data = self.get("query", query=expression)
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(row["metric"], float(row["value"][1])) for row in data["result"]]

    def value(self, expression: str) -> float:
        """The value of the one series that *expression* has now; NaN if there is none."""
        found = self.query(expression)
        assert len(found) <= 1, found
        return found[0][1] if found else math.nan

    def history(self, selector: str, *, seconds: int = 600) -> list[tuple[Labels, list[float]]]:
        """Labels and all values that were scraped, oldest first, of each series of *selector*."""
        data = self.get("query", query=f"{selector}[{seconds}s]")
        return [(row["metric"], [float(value) for _, value in row["values"]]) for row in data["result"]]

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts that are pending or firing: ``state``, ``labels``, ``annotations``."""
        found: list[dict[str, Any]] = self.get("alerts")["alerts"]
        return found

    def firing(self) -> set[str]:
        """The names of the alerts that are firing."""
        return {alert["labels"]["alertname"] for alert in self.alerts() if alert["state"] == "firing"}

    def scraped(self) -> None:
        """Wait until each target has been scraped once more, from begin to end, from now on."""
        begun = float(self.value("time()"))
        # Begun after now, that is; the time of a sample is when its scrape began.
        targets = len(self.targets)
        eventually(lambda: len(self.query(f"up == 1 and timestamp(up) > {begun}")) == targets)
