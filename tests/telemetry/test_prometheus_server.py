"""A real Prometheus server scrapes a real process under load, and stores exactly what happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import resilience as rs
from resilience.telemetry.prometheus import Collector
from telemetry.pages import only, parsed
from telemetry.servers import Prometheus, eventually
from together import outcomes

ENDS = ("succeeded", "failed", "rejected", "timed_out")


@pytest.fixture
def target() -> Iterator[subprocess.Popen[str]]:
    """The process under load; it ends with its input."""
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("target.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(rs.__file__).parents[1])},
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_what_prometheus_stores_equals_the_calls_that_were_made(
    prometheus: Callable[..., Prometheus], target: subprocess.Popen[str]
) -> None:
    """By policy and outcome, and no counter was ever seen to fall."""
    server = prometheus([f"127.0.0.1:{int(heard(target))}"])
    eventually(lambda: server.query("up == 1"))
    tell(target)
    made = json.loads(heard(target))
    server.scraped()

    def stored(metric: str, **labels: str) -> dict[str, float]:
        wanted = ",".join(f'{name}="{value}"' for name, value in labels.items())
        return {labels["policy"]: value for labels, value in server.query(f"{metric}{{{wanted}}}")}

    for outcome in ENDS:
        assert stored("resilience_calls_total", outcome=outcome) == {n: c.get(outcome, 0) for n, c in made.items()}
    assert stored("resilience_attempts_total") == {name: counts["attempts"] for name, counts in made.items()}
    calls = sum(made["retried"].get(outcome, 0) for outcome in ENDS)
    assert stored("resilience_retries_total")["retried"] == made["retried"]["attempts"] - calls
    assert stored("resilience_call_duration_seconds_count", outcome="succeeded") == {
        name: counts["succeeded"] for name, counts in made.items()
    }
    assert stored("resilience_call_duration_seconds_bucket", outcome="failed", le="+Inf") == {
        name: counts.get("failed", 0) + counts.get("timed_out", 0) for name, counts in made.items()
    }
    assert stored("resilience_rejections_total", reason="rate_limited") == {"limited": made["limited"]["rejected"]}
    assert stored("resilience_rejections_total", reason="circuit_open") == {"broken": made["broken"]["rejected"]}
    assert made["limited"]["rejected"] and made["broken"]["rejected"]  # or the test would show little
    assert server.value("resilience_slo_calls_total{verdict='good'}") == made["retried"]["succeeded"]
    assert not server.query("resilience_calls_in_flight != 0")
    for labels, values in server.history('{__name__=~"resilience_.+(_total|_count|_bucket)"}'):
        assert values == sorted(values), labels


def test_a_thousand_threads_lose_no_call() -> None:
    """One policy, a thousand threads at once: the page counts each call, by how it ended."""
    registry = rs.Registry()
    policy = rs.Policy(
        "shared",
        retry=rs.Retry(on=ConnectionError, attempts=2, backoff=0.0, budget=None),
        breaker=rs.CircuitBreaker(failure_rate=1.0),
        bulkhead=rs.Bulkhead(4),
        registry=registry,
    )

    @policy
    def call(number: int) -> int:
        if number % 4 == 0:
            raise ConnectionError(number)
        return number

    def work(thread: int) -> dict[str, int]:
        ended = dict.fromkeys(ENDS, 0)
        for number in range(thread, thread + 20):
            try:
                call(number)
            except ConnectionError:
                ended["failed"] += 1
            except rs.Rejected:
                ended["rejected"] += 1
            else:
                ended["succeeded"] += 1
        return ended

    results, errors = outcomes(work, 1000)
    assert not errors
    found = parsed(Collector(registry).text())
    totals = {outcome: sum(ended[outcome] for ended in results) for outcome in ENDS}
    assert sum(totals.values()) == 20_000
    assert {outcome: only(found, "resilience_calls_total", outcome=outcome) for outcome in ENDS} == totals
    assert only(found, "resilience_call_duration_seconds_count", outcome="succeeded") == totals["succeeded"]
