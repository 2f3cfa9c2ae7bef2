"""Pages for Prometheus, read back; and policies that have worked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain

import resilience as rs

if TYPE_CHECKING:
    from resilience.testing import VirtualClock

__all__ = ["Samples", "full", "made_by_theirs", "names", "only", "parsed", "succeeded", "work"]

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(page: bytes, *, openmetrics: bool = False) -> Samples:
    """The samples of a page; none may be there twice."""
    found: Samples = {}
    for family in (parse_openmetrics if openmetrics else parse_plain)(page.decode()):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, key
            found[key] = sample.value
    return found


def only(samples: Samples, name: str, **labels: str) -> float:
    """The value of the one sample of that name that has these labels."""
    (value,) = [v for (n, have), v in samples.items() if n == name and labels.items() <= dict(have).items()]
    return value


def succeeded(samples: Samples) -> float:
    """The calls that went well, where there is one policy."""
    return only(samples, "resilience_calls_total", outcome="succeeded")


def names(samples: Iterable[tuple[str, Any]]) -> set[str]:
    return {name for name, _ in samples}


def full(name: str, registry: rs.Registry, clock: VirtualClock) -> rs.Policy:
    """A policy with every part that there is."""
    return rs.Policy(
        name,
        timeout=rs.PercentileTimeout(0.9, between=(0.01, 5.0), mode="argument"),
        deadline=30.0,
        retry=rs.Retry(on=ConnectionError, attempts=2, backoff=0.1),
        hedge=rs.Hedge(1.0),
        breaker=rs.CircuitBreaker(),
        limiter=rs.TokenBucket(100, burst=50),
        bulkhead=rs.Bulkhead(10),
        fallback=rs.Fallback(lambda: "instead"),
        slo=0.99,
        clock=clock,
        registry=registry,
    )


def work(policy: rs.Policy, clock: VirtualClock, seconds: Iterable[float]) -> None:
    """Calls that take so long; each third one fails at first, each tenth for good."""
    for number, took in enumerate(seconds):
        tries = iter(range(1000))

        async def call(
            timeout: float = 60.0, number: int = number, took: float = took, tries: Iterator[int] = tries
        ) -> str:
            await asyncio.sleep(took)
            if number % 10 == 9 or (number % 3 == 2 and next(tries) == 0):
                raise ConnectionError("refused")
            return "answer"

        clock.run(policy.acall(call))


def made_by_theirs(registry: CollectorRegistry, *, openmetrics: bool) -> bytes:
    """The page that prometheus_client makes."""
    made: bytes = (generate_openmetrics if openmetrics else generate_latest)(registry)
    return made
