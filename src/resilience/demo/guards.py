"""The two ways the demo makes its calls: as boto3 comes, and under one policy for each service.

Knows the settings of both. Refuses to know the workload. This is the file to read for how a policy
is put around a client.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .clients import SERVICES, transient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Guard", "bare", "resilient"]

_PATIENCE = 0.4
"""Seconds that one attempt may take."""


@dataclass(frozen=True, slots=True)
class Guard:
    """A way of making calls.

    Attributes:
        name: shown in the table.
        config: settings for the botocore ``Config`` of its clients.
        call: given a service and a function and its arguments, calls it.
    """

    name: str
    call: Callable[..., object]
    config: Mapping[str, Any] = field(default_factory=dict)


def bare() -> Guard:
    """boto3 as it comes: its own retries, and 60 s for a connection and for each read."""
    return Guard("bare", lambda _service, function, *args: function(*args))


def resilient(deadline: float, workers: int) -> Guard:
    """One policy for each service; botocore's own retries are off, lest attempts multiply.

    A client method cannot be interrupted, and botocore's read timeout only bounds each single read,
    which an answer that dribbles in never exceeds. So attempts run in worker threads and are left
    behind when they take too long; botocore's timeouts then see to it that the thread comes free.
    """
    import resilience as rs

    policies = {
        service: rs.Policy(
            service,
            deadline=deadline,
            retry=rs.Retry(
                on=transient,
                attempts=3,
                backoff=rs.Exponential(0.05, cap=1.0),
                budget=rs.RetryBudget(per_success=0.2),  # retries: a fifth of the answers
            ),
            breaker=rs.CircuitBreaker(
                on=transient,
                failure_rate=0.5,
                window_seconds=5.0,
                minimum=20,
                open_for=0.5,
                max_open=1.0,
            ),
            bulkhead=rs.Bulkhead(workers),
            timeout=rs.Timeout(_PATIENCE, mode="thread", max_abandoned=workers),
            registry=None,
        )
        for service in SERVICES
    }

    def call(service: str, function: Callable[..., object], *args: object) -> object:
        return policies[service].call(function, *args)

    config = {
        "retries": {"total_max_attempts": 1},
        "connect_timeout": _PATIENCE,
        "read_timeout": _PATIENCE,
        "max_pool_connections": workers,
    }
    return Guard("resilience", call, config)
