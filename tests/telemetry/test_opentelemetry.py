"""OpenTelemetry's metrics, read back through the real SDK."""

from __future__ import annotations

import gc
import io
import json
import math
import os
import random
import re
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, InMemoryMetricReader, PeriodicExportingMetricReader
from opentelemetry.trace import NoOpTracerProvider

import resilience as rs
from resilience._listen import LISTENERS, WATCHERS
from resilience.telemetry import _derived, _readings
from resilience.telemetry.opentelemetry import instrument
from resilience.telemetry.reading import numbers
from resilience.telemetry.table import LATENCY, METRICS
from resilience.testing import VirtualClock, virtual_clock
from together import outcomes

ENDS = ("succeeded", "failed", "rejected", "timed_out")


class Meters:
    """A provider whose metrics can be looked at."""

    def __init__(self, readers: int = 1) -> None:
        self.readers = [InMemoryMetricReader() for _ in range(readers)]
        self.provider = MeterProvider(self.readers, shutdown_on_exit=False)

    def metrics(self, reader: int = 0) -> dict[str, Any]:
        """What one collection brings, by name."""
        data = self.readers[reader].get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        return {metric.name: metric for scope in scopes for metric in scope.metrics}

    def values(self, name: str, label: str | None = None) -> dict[Any, float]:
        """The values of a metric, by policy (and by another attribute)."""
        found = {}
        for point in self.metrics()[f"resilience.{name}"].data.data_points:
            policy = point.attributes["resilience.policy"]
            found[policy if label is None else (policy, point.attributes[f"resilience.{label}"])] = point.value
        return found


@pytest.fixture
def meters() -> Meters:
    return Meters()


def full(registry: rs.Registry, clock: rs.Clock, name: str = "pay") -> rs.Policy:
    """A policy with every part."""
    return rs.Policy(
        name,
        timeout=rs.PercentileTimeout(0.99, between=(0.01, 1.0), mode="argument"),
        deadline=30.0,
        retry=rs.Retry(on=ConnectionError, attempts=3, backoff=0.1, budget=None),
        breaker=rs.CircuitBreaker(minimum=1000),
        limiter=rs.TokenBucket(1e6),
        bulkhead=rs.Bulkhead(10),
        slo=0.99,
        registry=registry,
        clock=clock,
    )


# -- metrics ---------------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(st.lists(st.tuples(st.sampled_from(ENDS), st.floats(0.001, 5.0)), max_size=30), st.integers(1, 4))
def test_the_sums_equal_the_calls(calls: list[tuple[str, float]], collections: int) -> None:
    """Calls by outcome, attempts, and number and sum of the durations are those that were made, at each collection."""
    clock, registry, meters = VirtualClock(), rs.Registry(), Meters()
    late = rs.TimedOut("late", timeout=1.0)
    errors = {"succeeded": None, "failed": KeyError(), "rejected": rs.Rejected("no"), "timed_out": late}
    policy = rs.Policy("pay", bulkhead=rs.Bulkhead(1), registry=registry, clock=clock)

    def work(end: str, seconds: float) -> None:
        clock.advance(seconds)
        if (error := errors[end]) is not None:
            raise error

    made: Counter[str] = Counter()
    lasted = dict.fromkeys(("succeeded", "failed"), 0.0)
    with instrument(meter_provider=meters.provider, registry=registry):
        for index, (end, seconds) in enumerate(calls):
            with suppress(KeyError, rs.Rejected, rs.TimedOut):
                policy.call(work, end, seconds)
            made[end] += 1
            if end != "rejected":
                lasted["succeeded" if end == "succeeded" else "failed"] += seconds
            if index % collections == 0:
                assert meters.values("attempts") == {"pay": index + 1}
        told = meters.values("calls", "outcome")
        assert {end: told["pay", end] for end in ENDS} == {end: made[end] for end in ENDS}
        counts, sums = meters.values("call_duration.count", "outcome"), meters.values("call_duration.sum", "outcome")
        assert counts["pay", "succeeded"] == made["succeeded"]
        assert counts["pay", "failed"] == made["failed"] + made["timed_out"]
        for end in ("succeeded", "failed"):
            assert sums["pay", end] == pytest.approx(lasted[end], abs=1e-6)


def test_every_metric_of_the_table_has_its_instrument(meters: Meters) -> None:
    """Of each metric that a policy has a number of there is one: named without its unit, of the kind that fits."""
    clock, registry = VirtualClock(), rs.Registry()
    policies = [
        full(registry, clock),
        rs.Policy(
            "rest", hedge=rs.Hedge(1.0), limiter=rs.AdaptiveTokenBucket(), fallback=rs.Fallback(value=1),
            retry=rs.Retry(on=KeyError), registry=registry, clock=clock,
        ),
        rs.Policy("keyed", limiter=rs.KeyedTokenBucket(1.0, key=str), registry=registry, clock=clock),
    ]  # fmt: skip
    for _ in range(200):
        policies[0].call(lambda timeout: None, timeout=None)
    with instrument(meter_provider=meters.provider, registry=registry):
        found = meters.metrics()
    for metric in METRICS:
        name = f"resilience.{_derived.stem(metric)}"
        if metric is LATENCY:
            assert {f"{name}.count", f"{name}.sum", f"{name}.quantile"} <= found.keys()
            continue
        told = found[name]
        assert told.description == metric.words
        if metric.kind == "counter":
            assert told.data.is_monotonic
        elif metric.together == "sum":
            assert told.data.is_monotonic is False
        else:
            assert not hasattr(told.data, "is_monotonic")
    for name, told in found.items():
        assert re.fullmatch(r"resilience\.[a-z_]+(\.(count|sum|quantile))?", name)
        assert not re.search("_(total|seconds|ratio)$", name)
        assert re.fullmatch(r"s|1|\{[a-z]+\}", told.unit)
        for point in told.data.data_points:
            assert all(re.fullmatch("resilience[.][a-z]+", key) for key in point.attributes)
    assert found["resilience.calls"].unit == "{call}" and found["resilience.retries"].unit == "{retry}"
    assert found["resilience.wait_time"].unit == "s" and found["resilience.slo_objective"].unit == "1"


@pytest.mark.parametrize("readers", [1, 2])
def test_a_policy_is_read_once_in_a_collection(readers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many instruments and readers there are; and each collection shows what is new."""
    registry, meters = rs.Registry(), Meters(readers)
    policies = [full(registry, VirtualClock(), name) for name in ("a", "b")]
    read: list[rs.Policy] = []

    def counted(policy: rs.Policy) -> Any:
        read.append(policy)
        return numbers(policy)

    monkeypatch.setattr(_readings, "numbers", counted)
    with instrument(meter_provider=meters.provider, registry=registry):
        for turn in range(1, 4):
            policies[0].call(lambda timeout: None, timeout=None)
            for reader in range(readers):
                points = meters.metrics(reader)["resilience.attempts"].data.data_points
                assert {point.attributes["resilience.policy"]: point.value for point in points} == {"a": turn, "b": 0}
            assert len(read) == turn * readers * len(policies)


def test_a_stopped_instrumentation_shows_nothing_and_another_one_can_follow(meters: Meters) -> None:
    """The same provider, any number of times; a second one beside the first counts nothing twice."""
    registry = rs.Registry()
    policy = full(registry, VirtualClock())
    policy.call(lambda timeout: None, timeout=None)
    for _ in range(3):
        first = instrument(meter_provider=meters.provider, registry=registry)
        with instrument(meter_provider=meters.provider, registry=registry):
            assert meters.values("attempts") == {"pay": 1}
        assert meters.values("attempts") == {"pay": 1}
        first.stop()
        first.stop()
        assert meters.metrics() == {}


def test_several_registries_show_together(meters: Meters) -> None:
    """Each is instrumented by itself, on one provider."""
    one, other = rs.Registry(), rs.Registry()
    kept = [full(one, VirtualClock(), "a"), full(other, VirtualClock(), "b")]
    with instrument(meter_provider=meters.provider, registry=one):
        with instrument(meter_provider=meters.provider, registry=other):
            assert set(meters.values("attempts")) == {"a", "b"}
        assert set(meters.values("attempts")) == {"a"}
    assert len(kept) == 2


def test_quantiles_forget(meters: Meters) -> None:
    """They are of the last minute or two, at any rhythm of collecting, and at most 2 % above the truth."""
    for every in (5, 60, 600):
        registry = rs.Registry()
        with virtual_clock() as clock, instrument(meter_provider=meters.provider, registry=registry):
            policy = rs.Policy("pay", bulkhead=rs.Bulkhead(1), registry=registry)

            def collected(seconds: float, turns: int, every: int = every, policy: rs.Policy = policy) -> float:
                for _ in range(turns):
                    for _ in range(20):
                        policy.call(clock.advance, seconds)
                    clock.advance(every)
                    told = meters.values("call_duration.quantile", "quantile")
                return told["pay", "0.99"]

            assert 2.0 <= collected(2.0, 3) <= 2.0 * 1.0203
            assert 0.1 <= collected(0.1, math.ceil(120 / every) + 2) <= 0.1 * 1.0203


def test_a_policy_that_nobody_uses_is_forgotten(meters: Meters) -> None:
    """Being looked at does not keep it alive."""
    registry = rs.Registry()
    policies = [full(registry, VirtualClock(), name) for name in ("a", "b")]
    with instrument(meter_provider=meters.provider, registry=registry):
        assert set(meters.values("attempts")) == {"a", "b"}
        del policies[0]
        gc.collect()
        assert set(meters.values("attempts")) == {"b"}


def test_a_policy_that_goes_while_others_are_read_is_left_out(meters: Meters, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the list of names and the look at it a policy can be forgotten."""
    registry = rs.Registry()
    kept = [full(registry, VirtualClock(), name) for name in ("a", "b")]
    monkeypatch.setattr(registry, "get", lambda name: kept[1] if name == "b" else None)
    with instrument(meter_provider=meters.provider, registry=registry):
        assert set(meters.values("attempts")) == {"b"}


def test_a_policy_that_cannot_be_read_hides_no_other(
    meters: Meters, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is left out, and the log says so."""
    registry = rs.Registry()
    kept = [full(registry, VirtualClock(), name) for name in ("a", "b")]
    monkeypatch.setattr(_readings, "numbers", lambda policy: numbers(policy) if policy.name == "b" else 1 / 0)
    with instrument(meter_provider=meters.provider, registry=registry):
        assert set(meters.values("attempts")) == {"b"}
    assert "the numbers of 'a' cannot be read" in caplog.text
    assert len(kept) == 2


def test_no_count_is_lost_to_threads_that_call_while_others_collect(meters: Meters, switch_often: None) -> None:
    """Counters never fall, and in the end they are what was made."""
    registry = rs.Registry()
    policy = rs.Policy(
        "pay", retry=rs.Retry(on=ConnectionError, attempts=2, backoff=0.0, budget=None), registry=registry
    )
    draw = random.Random(5)
    fails = [draw.random() < 0.3 for _ in range(200)]

    def work(thread: int) -> list[float]:
        if thread == 0:
            return [meters.values("attempts")["pay"] for _ in range(20)]
        for fail in fails:
            left = [fail]

            @policy
            def call(left: list[bool] = left) -> None:
                if left.pop() and not left:
                    left.append(False)
                    raise ConnectionError

            call()
        return []

    with instrument(meter_provider=meters.provider, registry=registry):
        results, errors = outcomes(work, 6)
        assert errors == []
        assert results[0] == sorted(results[0])
        assert meters.values("attempts") == {"pay": 5 * (len(fails) + sum(fails))}
        assert meters.values("calls", "outcome")["pay", "succeeded"] == 5 * len(fails)
        assert meters.values("retries") == {"pay": 5 * sum(fails)}


def test_an_exporter_writes_the_sums() -> None:
    """The SDK's console exporter, fed by its periodic reader, prints the calls that were made."""
    out, registry = io.StringIO(), rs.Registry()
    reader = PeriodicExportingMetricReader(ConsoleMetricExporter(out), export_interval_millis=math.inf)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    policy = full(registry, VirtualClock())
    with instrument(meter_provider=provider, registry=registry):
        for _ in range(7):
            policy.call(lambda timeout: None, timeout=None)
        provider.force_flush()
    printed = json.loads(out.getvalue())
    (scope,) = printed["resource_metrics"][0]["scope_metrics"]
    assert scope["scope"]["name"] == "resilience" and scope["scope"]["version"] == rs.__version__
    calls = next(metric for metric in scope["metrics"] if metric["name"] == "resilience.calls")["data"]
    assert calls["aggregation_temporality"] == 2
    ended = {point["attributes"]["resilience.outcome"]: point["value"] for point in calls["data_points"]}
    assert ended["succeeded"] == sum(ended.values()) == 7
    provider.shutdown()


# -- what it costs, and what it refuses ------------------------------------------------------------------------------


def test_without_an_sdk_a_call_that_goes_well_takes_the_same_steps() -> None:
    """Nothing that the wrapper of a function uses is exchanged, so it cannot cost more."""

    @rs.Policy("pay", retry=rs.Retry(on=ConnectionError), breaker=rs.CircuitBreaker(), registry=rs.Registry())
    def call() -> None: ...

    before = dict(call.__globals__)
    with instrument(meter_provider=NoOpMeterProvider(), tracer_provider=NoOpTracerProvider()):
        assert WATCHERS == []
        call()
        assert call.__globals__ == before
    with instrument(tracer_provider=NoOpTracerProvider(), metrics=False, attempt_spans=True):
        assert call.__globals__ != before  # or the comparison would tell nothing
    assert call.__globals__ == before


@pytest.mark.parametrize("wrong", [{"registry": {}}, {"attempt_spans": 1}, {"metrics": None}, {"events": "all"}])
def test_bad_input_is_refused(wrong: dict[str, Any]) -> None:
    """By a TypeError that names the argument and shows the value; and nothing is left behind."""
    with pytest.raises(TypeError, match=rf"{next(iter(wrong))} must be .* not "):
        instrument(**wrong)
    assert LISTENERS == {} and WATCHERS == []


def test_only_the_api_is_imported() -> None:
    """Not the SDK; and logs and EMF need nothing but the standard library."""
    code = (
        "import sys; import resilience.telemetry.{}; print(*{{'.'.join(name.split('.')[:2]) for name in sys.modules}})"
    )
    for module in ("opentelemetry", "logs", "emf"):
        run = [sys.executable, "-c", code.format(module)]
        loaded = subprocess.run(run, capture_output=True, text=True, check=True, env=dict(os.environ)).stdout.split()
        assert "opentelemetry.sdk" not in loaded
        assert ("opentelemetry" in loaded) == (module == "opentelemetry")
        assert not {"structlog", "jsonschema", "prometheus_client", "boto3"} & set(loaded)
