"""What being watched costs: nothing to speak of on a call's way, and some tens of milliseconds for a scrape.

The rules are those of `test_goals`: what is compared is timed in turn, in one run, and the best round of each counts; a
goal that is missed is measured again before it counts as missed. A scrape goes through much memory, so beside it
something is timed that does that, too: a machine that is slower at the one gets more time for the other.
"""

from __future__ import annotations

import contextlib
import random
import time
import timeit
from typing import TYPE_CHECKING, cast

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from prometheus_client import CollectorRegistry, generate_latest

import resilience as rs
from resilience.telemetry import opentelemetry
from resilience.telemetry.prometheus import Collector, install
from test_goals import CALLS, REFERENCE, ROUNDS, ratio

from paths import callee, wrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resilience.policies.percentile_timeout import PercentileTimeout

POLICIES = 1000
SCRAPES = 8
NOISE = 1.5
YARD = 0.0275
"""Seconds that the yardstick takes on the machine that the limits were set on."""


def four(name: str | None, registry: rs.Registry | None = None) -> rs.Policy:
    """The full stack of `test_goals`: retry, breaker, limiter and a learned timeout."""
    return rs.Policy(
        name,
        retry=rs.Retry(on=ConnectionError),
        breaker=rs.CircuitBreaker(),
        limiter=rs.TokenBucket(1e9, burst=1_000_000),
        timeout=rs.PercentileTimeout(0.99, between=(0.01, 1.0), mode="argument"),
        registry=registry,
    )


def eight(name: str, registry: rs.Registry | None = None) -> rs.Policy:
    """All that there is for functions that are no coroutines."""
    return rs.Policy(
        name,
        deadline=30.0,
        retry=rs.Retry(on=ConnectionError),
        breaker=rs.CircuitBreaker(),
        limiter=rs.AdaptiveTokenBucket(),
        bulkhead=rs.Bulkhead(10),
        timeout=rs.PercentileTimeout(0.99, between=(0.01, 1.0), mode="argument"),
        fallback=rs.Fallback(lambda: 0),
        slo=0.999,
        registry=registry,
    )


# -- on a call's way ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def everything(registry: rs.Registry) -> Iterator[None]:
    """Prometheus and OpenTelemetry attached, and nobody sampling."""
    meters, tracers = MeterProvider([InMemoryMetricReader()]), TracerProvider(sampler=ALWAYS_OFF)
    install(registry, into=CollectorRegistry())
    with (
        opentelemetry.instrument(registry=registry, meter_provider=meters, tracer_provider=tracers),
        tracers.get_tracer("benchmark").start_as_current_span("request"),
    ):
        yield
    meters.shutdown()
    tracers.shutdown()


def stacks() -> tuple[Callable[[], object], Callable[[], object], rs.Registry]:
    """The same stack with a name in a registry, and without."""
    registry = rs.Registry()
    watched, plain = four("watched", registry)(callee), four(None)(callee)
    return lambda: watched(1), lambda: plain(1), registry


@pytest.mark.parametrize("attached", [False, True], ids=["only named", "everything attached"])
def test_a_call_pays_a_tenth_at_most(attached: bool, record_property: Callable[[str, object], None]) -> None:
    """The full stack with a name, Prometheus and OpenTelemetry, beside the same one that nobody can look at."""
    watched, plain, registry = stacks()
    with everything(registry) if attached else contextlib.nullcontext():
        for _ in range(10):
            found = ratio(watched, plain)
            if found <= 1.10:
                break
            time.sleep(1.0)
    record_property("ratio", round(found, 3))
    print(f"the full stack, {'watched' if attached else 'named'}: {found:.3f} times, at most 1.10")
    assert found <= 1.10


def deferred(keep: Callable[[int], object], work_in: Callable[[], object]) -> float:
    """Nanoseconds a call of what is done some times a second for all of them."""
    samples = [20_000_000 + 1_000 * n for n in range(1000)]
    best = float("inf")
    for _ in range(ROUNDS):
        for sample in samples:
            keep(sample)
        begun = time.perf_counter()
        work_in()
        best = min(best, time.perf_counter() - begun)
    return best / len(samples) * 1e9


def test_what_is_deferred_is_less_than_a_call(record_property: Callable[[str, object], None]) -> None:
    """Working in a duration takes less than half a microsecond, and learning from it is in that."""
    watched, plain = four("watched", rs.Registry()), four(None)
    watched(callee), plain(callee)
    stats, timeout = watched._plan.stats, cast("PercentileTimeout", plain.timeout)
    recorded = timeout.recorder()
    assert recorded is not None
    kept = deferred(stats.keep, lambda: stats.read(time.monotonic_ns()))
    learned = deferred(recorded, lambda: timeout.quantile(0.5))
    record_property("ns", round(kept))
    print(f"working in a call's duration: {kept:.0f} ns, without a name {learned:.0f} ns")
    assert kept <= 500 * slower()


def slower() -> float:
    """How many times as long as on the machine that the limits were set on everything takes here, at least once."""
    word = min(timeit.Timer(lambda: wrapped(1)).timeit(CALLS) for _ in range(ROUNDS))
    return max(1.0, word / CALLS * 1e9 / REFERENCE)


# -- a scrape ----------------------------------------------------------------------------------------------------------


def answering(_: int, timeout: float | None = None) -> None:  # noqa: ARG001 - what the timeout is handed to
    """A quick dependency."""
    time.sleep(0.001)


class Yardstick:
    """Counts that are spread over as much memory as a thousand policies, added up and written."""

    def __init__(self) -> None:
        rng = random.Random(2)
        self.counts = [{rng.randrange(10_000): rng.randrange(300) for _ in range(150)} for _ in range(4 * POLICIES)]
        self.line = b'a_line_of_one_metric{with="some",labels="as usual"} %d\n' * 16

    def measure(self) -> float:
        """Seconds it takes."""
        begun = time.perf_counter()
        pages = []
        for counts in self.counts:
            sums = [0] * 16
            for bucket, n in counts.items():
                sums[bucket & 15] += n
            pages.append(self.line % tuple(sums))
        b"".join(pages)
        return time.perf_counter() - begun


class Thousand:
    """A thousand policies that have a minute of traffic behind them; each is called about once a second."""

    def __init__(self, make: Callable[[str, rs.Registry], rs.Policy]) -> None:
        rng = random.Random(1)
        self.registry = rs.Registry()
        self.policies = [make(f"dependency-{n}", self.registry) for n in range(POLICIES)]
        self.calls = [policy(answering) for policy in self.policies]
        self.collector = Collector(self.registry)
        now = time.monotonic_ns()
        for policy in self.policies:
            estimator = cast("PercentileTimeout", policy.timeout)._estimator
            for ago in range(11, -1, -1):  # slice by slice
                estimator.absorb([self._latency(rng) for _ in range(40)], now - ago * 5_000_000_000)
            for _ in range(480):
                policy._plan.stats.keep(self._latency(rng))
            policy._plan.stats.drain(now)

    @staticmethod
    def _latency(rng: random.Random) -> int:
        return round(rng.lognormvariate(-6.5, 0.7) * 1e9)

    def scrape(self) -> float:
        """Seconds that a page takes when every policy has been called since the last one."""
        for call in self.calls:
            call(1)
        begun = time.perf_counter()
        page = self.collector.text()
        took = time.perf_counter() - begun
        assert page.count(b"\n") > 60 * POLICIES
        return took


@pytest.mark.parametrize(("make", "limit"), [(four, 0.050), (eight, 0.075)], ids=["full stack", "every part"])
def test_a_scrape_of_a_thousand_policies(
    make: Callable[..., rs.Policy], limit: float, record_property: Callable[[str, object], None]
) -> None:
    """All are read and written in less than 50 ms; if they have every part there is, in less than 75 ms.

    What is asserted is half more than that: other machines have other memories.
    """
    thousand, yardstick = Thousand(make), Yardstick()
    first = thousand.scrape()
    for _ in range(6):
        took = yard = float("inf")
        for _ in range(SCRAPES):
            took = min(took, thousand.scrape())
            yard = min(yard, yardstick.measure())
        scaled = took / max(1.0, yard / YARD)
        if scaled < limit * NOISE:
            break
        time.sleep(1.0)
    record_property("ms", round(took * 1e3, 1))
    size = len(thousand.collector.text()) / 1e6
    print(
        f"{POLICIES} policies of {make.__name__} parts: {took * 1e3:.1f} ms, {scaled * 1e3:.1f} on the reference, "
        f"at most {limit * 1e3:.0f} (yardstick {yard * 1e3:.1f} ms); the first {first * 1e3:.0f} ms; {size:.1f} MB"
    )
    assert scaled < limit * NOISE


def test_prometheus_client_takes_longer(record_property: Callable[[str, object], None]) -> None:
    """Why there is a page of our own: ten times as quick, or there would be no need for it."""
    thousand = Thousand(four)
    theirs = CollectorRegistry()
    install(thousand.registry, into=theirs)
    thousand.scrape()
    ours = min(thousand.scrape() for _ in range(5))
    other = min(timeit.repeat(lambda: generate_latest(theirs), number=1, repeat=2))
    record_property("ratio", round(other / ours, 1))
    print(f"prometheus_client: {other * 1e3:.0f} ms, {other / ours:.1f} times as long")
    assert other > 5 * ours
