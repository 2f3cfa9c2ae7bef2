"""A process as users have them: it pays at a dependency over the network, under a policy, and shows its metrics.

``python shop.py HOST:PORT`` prints the port of its metrics, and works until it is ended.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time

import prometheus_client

import resilience as rs
from resilience.telemetry.prometheus import install


def main() -> None:
    host, _, port = sys.argv[1].rpartition(":")
    payments = rs.Policy(
        "payments",
        retry=rs.Retry(on=OSError, attempts=2, backoff=0.01),
        breaker=rs.CircuitBreaker(consecutive=5, failure_rate=None, open_for=0.3, max_open=0.6, probes=1),
        slo=rs.SLO(0.99),
    )

    @payments
    def pay() -> bytes:
        with socket.create_connection((host, int(port)), timeout=1.0) as connection:
            return connection.recv(100)

    install()
    server, _ = prometheus_client.start_http_server(0, addr="127.0.0.1")
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    while True:
        with contextlib.suppress(OSError, rs.ResilienceError):
            pay()
        time.sleep(0.01)


if __name__ == "__main__":
    main()
