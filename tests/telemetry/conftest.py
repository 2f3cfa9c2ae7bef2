"""What tests of telemetry share: a real Prometheus server, and policies that have worked."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

import resilience as rs
from resilience.testing import VirtualClock
from telemetry.pages import full, work
from telemetry.servers import Prometheus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Callable[..., Prometheus]]:
    """Starts servers that are stopped in the end: ``prometheus(["127.0.0.1:8000"], rules=[file])``.

    See `telemetry.servers.Prometheus`. Skips the test, loudly, where Prometheus is not installed.
    """
    with ExitStack() as stack:

        def start(targets: list[str], **settings: Any) -> Prometheus:
            directory = tmp_path / f"prometheus-{len(list(tmp_path.iterdir()))}"
            directory.mkdir()
            return stack.enter_context(Prometheus(directory, targets, **settings))

        yield start


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def registry() -> rs.Registry:
    return rs.Registry()


@pytest.fixture
def busy(clock: VirtualClock, registry: rs.Registry) -> list[rs.Policy]:
    """Policies of several kinds that have worked, in the registry."""
    policies = [full("payments", registry, clock), full("mail", registry, clock)]
    policies += [
        rs.Policy("bare", clock=clock, registry=registry),
        rs.Policy("keys", breaker=rs.PerKey(rs.CircuitBreaker(), key=len), clock=clock, registry=registry),
    ]
    work(policies[0], clock, [0.01 * n for n in range(60)])
    work(policies[2], clock, [0.002])
    policies[3].call(lambda key: key, "abc")
    return policies
