"""The program that gunicorn's workers run in the tests: some requests go well, some not, and it shows its metrics."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

import prometheus_client

import resilience as rs
from resilience.telemetry import multiprocess, prometheus

payments = rs.Policy(
    "payments",
    retry=rs.Retry(on=ConnectionError, attempts=2, backoff=0.0, budget=None),
    timeout=rs.Timeout(5.0, mode="cooperative"),
    bulkhead=rs.Bulkhead(10),
)
metrics = prometheus.wsgi_app(
    prometheus.Collector(multiprocess.start(every=0.05)), beside=prometheus_client.CollectorRegistry()
)
# Calls from before the fork, if the program is loaded before it: they are the parent's, and no worker's.
payments.call(lambda: "warm")


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """``/ok`` and ``/bad`` are called under the policy, ``/again`` at the second attempt; ``/metrics``."""
    path = environ["PATH_INFO"]
    if path == "/metrics":
        return metrics(environ, start_response)
    tries = iter([ConnectionError("refused"), "again"])

    def call() -> object:
        answer = {"/ok": "ok", "/again": next(tries)}.get(path) if path != "/bad" else ValueError("bad")
        if isinstance(answer, Exception):
            raise answer
        return answer

    with contextlib.suppress(ValueError):
        payments.call(call)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
