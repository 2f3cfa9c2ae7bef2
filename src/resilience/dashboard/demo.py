"""Made-up traffic through real policies, to see the page with something on it.

Every dependency is a coroutine that sleeps and fails by a plan; the policies before it are as real as any. The same
seed gives the same plan. Nothing leaves the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..backoff import Exponential
from ..errors import ResilienceError
from ..policies.bulkhead import Bulkhead
from ..policies.circuit_breaker import CircuitBreaker
from ..policies.fallback import Fallback
from ..policies.hedge import Hedge
from ..policies.per_key import PerKey
from ..policies.percentile_timeout import PercentileTimeout
from ..policies.retry import Retry
from ..policies.slo import SLO
from ..policies.token_bucket import TokenBucket
from ..policy import Policy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["run"]

CYCLE = 60.0
"""Seconds after which it all begins anew."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Calls to one dependency.

    Attributes:
        policy: what they go through.
        rate: calls begun per second, at random times.
        dependency: what is called, with the number of the call and the seconds since the beginning of the cycle.
    """

    policy: Policy
    rate: float
    dependency: Callable[[int, float], Awaitable[str]]


class Dependencies:
    """What the demo calls. Each is some latency and some failures."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    async def _take(self, median: float, spread: float) -> None:
        await asyncio.sleep(median * math.exp(self.random.gauss(0.0, spread)))

    async def catalogue(self, number: int, at: float) -> str:
        """Quick, and well."""
        await self._take(0.018, 0.35)
        return "found"

    async def payments(self, number: int, at: float) -> str:
        """Fails now and then; another attempt goes well."""
        await self._take(0.06, 0.4)
        if self.random.random() < 0.07:
            raise ConnectionResetError("connection reset by peer")
        return "paid"

    async def inventory(self, number: int, at: float) -> str:
        """Dies in the middle of the cycle, and comes back."""
        if 15.0 < at < 35.0:
            await self._take(0.004, 0.2)
            raise ConnectionRefusedError("connection refused")
        await self._take(0.03, 0.3)
        return "in stock"

    async def mail(self, number: int, at: float) -> str:
        """Well, but we agreed on a rate, and want more."""
        await self._take(0.05, 0.2)
        return "sent"

    async def search(self, number: int, at: float) -> str:
        """Slow for some, and slower for all in part of the cycle."""
        slow = 2.2 if at > 40.0 else 1.0
        await self._take(0.11 * slow, 0.45)
        if self.random.random() < 0.04:
            await self._take(0.5, 0.3)
        return "hits"

    async def shards(self, number: int, at: float) -> str:
        """One of eight is down."""
        await self._take(0.012, 0.3)
        if number % 8 == 3:
            raise TimeoutError("shard 3 does not answer")
        return "row"


def streams(seed: int) -> list[Stream]:
    """The demo's policies, each with its traffic."""
    to = Dependencies(seed)
    backoff = Exponential(0.02, cap=0.2)
    return [
        Stream(
            Policy(
                "catalogue",
                timeout=PercentileTimeout(0.999, between=(0.02, 1.0)),
                hedge=Hedge(0.06),
                breaker=CircuitBreaker(),
                slo=0.999,
            ),
            30.0,
            to.catalogue,
        ),
        Stream(
            Policy(
                "payments",
                timeout=PercentileTimeout(0.999, between=(0.05, 2.0)),
                retry=Retry(on=OSError, attempts=4, backoff=backoff),
                breaker=CircuitBreaker(),
                slo=SLO(0.99, within=0.6),
            ),
            14.0,
            to.payments,
        ),
        Stream(
            Policy(
                "inventory",
                timeout=PercentileTimeout(0.99, between=(0.02, 0.5)),
                retry=Retry(on=ConnectionError, attempts=3, backoff=backoff),
                breaker=CircuitBreaker(minimum=10, open_for=4.0, max_open=8.0),
                fallback=Fallback(value="unknown"),
            ),
            12.0,
            to.inventory,
        ),
        Stream(Policy("mail", limiter=TokenBucket(8.0, burst=20, max_wait=0.5), timeout=1.0), 9.5, to.mail),
        Stream(
            Policy(
                "search",
                timeout=PercentileTimeout(0.95, between=(0.05, 0.9)),
                bulkhead=Bulkhead(6, queue=12, max_wait=0.8),
                breaker=CircuitBreaker(failure_rate=0.6),
                slo=0.95,
            ),
            22.0,
            to.search,
        ),
        Stream(
            Policy(
                "shards",
                timeout=0.5,
                breaker=PerKey(CircuitBreaker(minimum=5, open_for=10.0), key=_shard),
            ),
            16.0,
            to.shards,
        ),
    ]


def _shard(number: int, *_: object) -> str:
    return f"shard-{number % 8}"


async def run(seed: int = 1, seconds: float = math.inf) -> None:
    """Make traffic, for so many *seconds*."""
    began = time.monotonic()
    chance = random.Random(seed + 1)
    async with asyncio.TaskGroup() as group:
        for stream in streams(seed):
            group.create_task(_flow(stream, random.Random(chance.random()), began, seconds))


async def _flow(stream: Stream, chance: random.Random, began: float, seconds: float) -> None:
    """Begin calls at random times, whether the earlier ones have ended or not."""
    under_way: set[asyncio.Task[None]] = set()
    number, next_at = 0, 0.0
    while next_at < seconds:
        next_at += chance.expovariate(stream.rate)
        await asyncio.sleep(began + next_at - time.monotonic())
        number += 1
        task = asyncio.create_task(_call(stream, number, next_at % CYCLE))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    if under_way:
        await asyncio.wait(under_way)


async def _call(stream: Stream, number: int, at: float) -> None:
    with contextlib.suppress(ResilienceError, OSError):  # how calls may end here; anything else is a bug, and shows
        await stream.policy.acall(stream.dependency, number, at)
