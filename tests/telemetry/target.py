"""A process under load, for a real Prometheus server to scrape.

It prints the port of its metrics, waits for a line, makes its calls from many threads, and prints how they ended. Then
it goes on being scraped until its input ends.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from wsgiref.simple_server import WSGIRequestHandler, make_server

import resilience as rs
from resilience.telemetry.prometheus import Collector, wsgi_app

THREADS = 50
CALLS = 500

registry = rs.Registry()
retried = rs.Policy(
    "retried", retry=rs.Retry(on=ConnectionError, attempts=2, backoff=0.0, budget=None), slo=0.9, registry=registry
)
limited = rs.Policy("limited", limiter=rs.TokenBucket(500, burst=100, max_wait=0), registry=registry)
narrow = rs.Policy("narrow", bulkhead=rs.Bulkhead(5), registry=registry)
broken = rs.Policy(
    "broken",
    breaker=rs.CircuitBreaker(consecutive=3, failure_rate=None, open_for=0.02, max_open=0.02),
    registry=registry,
)
timed = rs.Policy("timed", timeout=rs.Timeout(0.5, mode="argument"), registry=registry)


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def dependency(number: int, attempts: Counter[str], timeout: float = 1.0) -> int:
    """Some calls fail at first, some always, some time out."""
    attempts["attempts"] += 1
    if number % 7 == 0 or (number % 5 == 0 and attempts["attempts"] == 1):
        raise ConnectionError("refused")
    if number % 11 == 0:
        raise TimeoutError(timeout)
    return number


POLICIES = {policy.name or "": (policy, policy(dependency)) for policy in (retried, limited, narrow, broken, timed)}


def run(thread: int, ended: dict[str, Counter[str]]) -> None:
    """What one thread does, and how its calls ended."""
    for number in range(thread, thread + CALLS):
        for name, (_, call) in POLICIES.items():
            attempts: Counter[str] = Counter()
            try:
                call(number, attempts)
            except rs.Rejected:
                ended[name]["rejected"] += 1
            except rs.TimedOut:
                ended[name]["timed_out"] += 1
            except OSError:
                ended[name]["failed"] += 1
            else:
                ended[name]["succeeded"] += 1
            ended[name]["attempts"] += attempts["attempts"]


def main() -> None:
    app = wsgi_app(Collector(registry))
    with make_server("127.0.0.1", 0, app, handler_class=Quiet) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        sys.stdout.write(f"{server.server_port}\n")
        sys.stdout.flush()
        sys.stdin.readline()
        ended: list[dict[str, Counter[str]]] = [{name: Counter() for name in POLICIES} for _ in range(THREADS)]
        threads = [threading.Thread(target=run, args=(index, mine)) for index, mine in enumerate(ended)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        total: dict[str, Counter[str]] = {name: Counter() for name in POLICIES}
        for mine in ended:
            for name, counts in mine.items():
                total[name].update(counts)
        sys.stdout.write(json.dumps(total) + "\n")
        sys.stdout.flush()
        sys.stdin.readline()
        server.shutdown()


if __name__ == "__main__":
    main()
