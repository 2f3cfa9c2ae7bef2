"""The two ways the demo makes its calls: as boto3 comes, and under one policy for each service.

Knows the settings of both. Refuses to know the workload. This is the file to read for how a policy
is put around a client.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

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
        put_on: given a botocore client, sees to it that its calls are made this way.
        config: settings for the botocore ``Config`` of its clients.
    """

    name: str
    put_on: Callable[[Any], object]
    config: Mapping[str, Any] = field(default_factory=dict)


def bare() -> Guard:
    """boto3 as it comes: its own retries, and 60 s for a connection and for each read."""
    return Guard("bare", lambda client: client)


def resilient(deadline: float, workers: int) -> Guard:
    """One policy for all, of which each service has a copy with a state of its own; put around unmodified clients."""
    import resilience as rs
    from resilience import aws

    policy = rs.Policy(
        deadline=deadline,
        retry=aws.AwsRetry(
            attempts=3,
            repeat="always",  # every operation here may be repeated
            cap=1.0,
            quota=rs.RetryBudget(per_success=0.2),  # retries: a fifth of the answers
        ),
        breaker=rs.CircuitBreaker(
            on=lambda error: aws.is_unhealthy(error) or aws.is_throttle(error),
            failure_rate=0.5,
            window_seconds=5.0,
            minimum=20,
            open_for=0.5,
            max_open=1.0,
        ),
        bulkhead=rs.Bulkhead(workers),
        timeout=_PATIENCE,
        registry=None,
    )
    return Guard(
        "resilience", lambda client: aws.wrap(client, policy, per="service"), {"max_pool_connections": workers}
    )
