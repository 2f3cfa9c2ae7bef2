"""CloudWatch's embedded metric format: against its schema and limits, and against the calls that were made."""

from __future__ import annotations

import asyncio
import gc
import io
import itertools
import math
import random
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import resilience as rs
from resilience.machines.distribution import EDGES, Distribution
from resilience.telemetry import _derived, _readings
from resilience.telemetry.emf import EmfReporter, _durations
from resilience.telemetry.reading import numbers
from resilience.telemetry.table import METRICS
from resilience.testing import VirtualClock
from telemetry.emf_lines import documents, totals
from together import outcomes

NAMES = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=250).filter(
    lambda name: name.strip() and name[0] != ":" and name not in {"policy", "_aws"} and "." not in name
)


def reporter(**settings: Any) -> tuple[EmfReporter, io.StringIO, rs.Registry]:
    out, registry = io.StringIO(), rs.Registry()
    return EmfReporter(registry=registry, stream=out, **settings), out, registry


@settings(max_examples=40)
@given(
    st.lists(st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.floats(0.0, 5.0)), max_size=40), max_size=4),
    st.dictionaries(NAMES, NAMES, max_size=29),
    st.text(min_size=1, max_size=1100),
)
def test_lines_are_valid_and_add_up(invocations: list[list[Any]], dimensions: dict[str, str], name: str) -> None:
    """Whatever policies and dimensions are called: by the schema; counters and durations add up to the calls made."""
    clock = VirtualClock()
    emf, out, registry = reporter(dimensions=dimensions, clock=clock)
    retry = rs.Retry(on=KeyError, attempts=2, budget=None)
    policies = {
        "a": rs.Policy(name, retry=retry, slo=0.9, clock=clock, registry=registry),
        "b": rs.Policy(f"{name}2", bulkhead=rs.Bulkhead(1), clock=clock, registry=registry),
    }
    made: dict[str, Counter[str]] = {"a": Counter(), "b": Counter()}
    told: dict[str, Counter[str]] = {"a": Counter(), "b": Counter()}

    def work(seconds: float, *, well: bool) -> None:
        clock.advance(seconds)
        if not well:
            raise ConnectionError

    for calls in invocations:
        with emf:
            for policy, well, seconds in calls:
                with suppress(ConnectionError):
                    policies[policy].call(work, seconds, well=well)
                made[policy]["succeeded" if well else "failed"] += 1
        lines = documents(out)
        assert len(lines) == len({policy for policy, _, _ in calls})
        for document in lines:
            assert document["_aws"]["Timestamp"] == round(clock.time() * 1000)
            told["b" if "bulkhead_limit" in document else "a"] += totals([document])
    for policy, counts in made.items():
        for end, n in counts.items():
            assert told[policy][f"calls.{end}"] == told[policy][f"call_duration.{end}"] == n
        assert told[policy]["attempts"] == sum(counts.values())


def test_what_stands_in_a_line() -> None:
    """Names, units, deltas of counters, gauges as they are, durations as values; in the metric's own units."""
    clock = VirtualClock()
    emf, out, registry = reporter(dimensions={"service": "shop"}, clock=clock)
    policy = rs.Policy(
        "pay", retry=rs.Retry(on=ConnectionError, attempts=3, backoff=rs.Constant(0.0)), breaker=rs.CircuitBreaker(),
        slo=0.99, clock=clock, registry=registry,
    )  # fmt: skip
    failures = [True, False, False]

    def work() -> None:
        clock.advance(0.5)
        if failures.pop(0):
            raise ConnectionError

    for _ in range(2):
        policy.call(work)
    assert emf.flush() == 1
    (document,) = documents(out)
    (directive,) = document["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "resilience"
    assert directive["Dimensions"] == [["service", "policy"]]
    assert (document["service"], document["policy"]) == ("shop", "pay")
    assert document["calls.succeeded"] == 2 and document["attempts"] == 3 and document["retries"] == 1
    assert document["circuits.closed"] == 1 and document["circuits.open"] == 0
    assert document["circuit_state_time.closed"] == pytest.approx(1.5)
    assert document["call_duration.succeeded"] == [pytest.approx(0.5, rel=0.0203), pytest.approx(1.0, rel=0.0203)]
    assert "calls.failed" not in document, "a counter that has not moved is left out"
    units = {metric["Name"]: metric["Unit"] for metric in directive["Metrics"]}
    assert {units["calls.succeeded"], units["retries"], units["circuits.open"]} == {"Count"}
    assert {units["call_duration.succeeded"], units["circuit_state_time.closed"]} == {"Seconds"}
    assert {units["slo_objective"], units["slo_burn_rate.1h"]} == {"None"}

    failures += [False]
    policy.call(work)
    emf.flush()
    (document,) = documents(out)
    assert document["calls.succeeded"] == document["attempts"] == len(document["call_duration.succeeded"]) == 1
    assert "retries" not in document
    assert emf.flush() == 0, "nobody has called since"


def test_the_metrics_can_be_chosen() -> None:
    """By their names in the table: each name in CloudWatch has its price."""
    wanted = ["resilience_calls_total", "resilience_circuits"]
    emf, out, registry = reporter(metrics=wanted)
    policy = rs.Policy("pay", breaker=rs.CircuitBreaker(), registry=registry)
    policy.call(lambda: None)
    emf.flush()
    (document,) = documents(out)
    names = {metric["Name"].partition(".")[0] for metric in document["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
    assert names == {"calls", "circuits"}


@pytest.mark.parametrize("calls", [99, 100, 101, 250, 999, 1000, 1001, 20_000])
def test_many_durations_go_into_further_lines(calls: int) -> None:
    """A hundred in each; all of them up to a thousand, and a thousand that stand for all beyond."""
    clock = VirtualClock()
    emf, out, registry = reporter(clock=clock)
    policy = rs.Policy("pay", bulkhead=rs.Bulkhead(1), clock=clock, registry=registry)
    draw = random.Random(calls)
    durations = sorted(draw.lognormvariate(-2.0, 1.0) for _ in range(calls))
    for duration in draw.sample(durations, calls):
        policy.call(clock.advance, duration)
    lines = emf.flush()
    found = documents(out)
    assert lines == len(found) == max(1, math.ceil(min(calls, 1000) / 100))
    values = [value for document in found for value in document["call_duration.succeeded"]]
    assert len(values) == min(calls, 1000)
    assert totals(found)["calls.succeeded"] == calls
    assert sum("calls.succeeded" in document for document in found) == 1
    for share in (0.5, 0.9, 0.99):
        truth = durations[math.ceil(share * calls) - 1]
        assert truth <= values[math.ceil(share * len(values)) - 1] * 1.01 <= truth * 1.05


@given(st.lists(st.integers(1, 10**11), min_size=1, max_size=3000))
def test_the_durations_that_are_picked_stand_for_all(durations: list[int]) -> None:
    """In order, so many as are allowed; of each bucket its share, to within one."""
    distribution = Distribution()
    distribution.add(durations)
    picked = _durations(distribution)
    assert picked == sorted(picked)
    assert len(picked) == min(len(durations), 1000)
    share = len(picked) / len(durations)
    counts = Counter(picked)
    assert counts.keys() <= {EDGES[bucket] / 1e9 for bucket in distribution.counts}
    for bucket, n in distribution.counts.items():
        assert abs(counts[EDGES[bucket] / 1e9] - n * share) <= 1


def test_more_than_a_hundred_metrics_go_into_further_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The specification allows no more in one."""
    emf, out, registry = reporter()
    gauges = [metric for metric in METRICS if metric.kind == "gauge"] * 5
    names = (f"m{number}" for number in itertools.count())
    monkeypatch.setattr(emf, "_metrics", gauges)
    monkeypatch.setattr("resilience.telemetry.emf._name", lambda metric, cell: next(names))
    monkeypatch.setattr(_derived.Reading, "value", lambda reading, cell: 1)
    policy = rs.Policy("pay", bulkhead=rs.Bulkhead(1), registry=registry)
    policy.call(lambda: None)
    emf.flush()
    found = documents(out)
    assert len(found) == math.ceil(sum(len(metric.cells) for metric in gauges) / 100) > 1
    assert sum(totals(found).values()) == sum(len(metric.cells) for metric in gauges)


def test_numbers_that_cloudwatch_refuses_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Infinities and what is no number."""
    emf, out, registry = reporter()
    policy = rs.Policy("pay", bulkhead=rs.Bulkhead(1), registry=registry)
    policy.call(lambda: None)
    values = iter((math.inf, math.nan, -math.inf))
    monkeypatch.setattr(_derived.Reading, "value", lambda reading, cell: next(values, 1))
    emf.flush()
    (document,) = documents(out)
    assert "calls.poor" not in document and "attempts" in document


# -- around a function -------------------------------------------------------------------------------------------------


def test_a_handler_flushes_after_each_invocation(capsys: pytest.CaptureFixture[str]) -> None:
    """To standard output, as it is then; also when it fails; with its result, its error and its name untouched."""
    registry = rs.Registry()
    emf = EmfReporter(registry=registry)
    policy = rs.Policy("pay", bulkhead=rs.Bulkhead(1), registry=registry)

    @emf.lambda_handler
    def handler(event: dict[str, Any], context: object) -> object:
        policy.call(lambda: None)
        if event["fail"]:
            raise KeyError("no such order")
        return context

    assert handler({"fail": False}, "context") == "context"
    (document,) = documents(io.StringIO(capsys.readouterr().out))
    assert document["calls.succeeded"] == 1
    with pytest.raises(KeyError, match="no such order"):
        handler({"fail": True}, None)
    assert len(documents(io.StringIO(capsys.readouterr().out))) == 1
    assert handler.__name__ == "handler"


def test_a_coroutine_function_flushes_after_it_has_ended() -> None:
    """And not when it is called."""
    emf, out, registry = reporter()
    policy = rs.Policy("pay", bulkhead=rs.Bulkhead(1), registry=registry)

    @emf.lambda_handler
    async def handler() -> str:
        await asyncio.sleep(1.0)
        policy.call(lambda: None)
        return "done"

    assert VirtualClock().run(handler()) == "done"
    assert len(documents(out)) == 1


@pytest.mark.parametrize("trouble", ["stream", "policy"])
def test_telemetry_that_fails_breaks_no_handler(
    trouble: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged; and what could not be written is written the next time."""
    emf, out, registry = reporter()
    policy = rs.Policy("pay", bulkhead=rs.Bulkhead(1), registry=registry)
    broken = io.StringIO()
    broken.close()

    @emf.lambda_handler
    def handler() -> str:
        policy.call(lambda: None)
        return "done"

    with monkeypatch.context() as patch:
        if trouble == "stream":
            patch.setattr(emf, "_stream", broken)
        else:
            patch.setattr(_readings, "numbers", lambda policy: 1 / 0)
        assert handler() == "done"
    assert "cannot be read" in caplog.text or "could not be written" in caplog.text
    assert handler() == "done"
    (document,) = documents(out)
    assert document["calls.succeeded"] == 2
    monkeypatch.setattr(emf, "_stream", broken)
    policy.call(lambda: None)
    with pytest.raises(ValueError, match="closed"):
        emf.flush()


def test_threads_that_flush_write_each_call_once(switch_often: None) -> None:
    """Whoever flushes: no call is missing, none is there twice, and no line is torn."""
    emf, out, registry = reporter()
    policy = rs.Policy("pay", bulkhead=rs.Bulkhead(100), registry=registry)

    def work(_: int) -> None:
        for _ in range(50):
            policy.call(lambda: None)
            emf.flush()

    _, errors = outcomes(work, 6)
    emf.flush()
    assert errors == []
    found = documents(out)
    assert totals(found)["calls.succeeded"] == totals(found)["call_duration.succeeded"] == 300


def test_a_call_that_is_under_way_is_written_when_it_has_ended() -> None:
    """What is flushed meanwhile shows it in flight; the next time it has ended, though none has begun since."""
    emf, out, registry = reporter()
    policy = rs.Policy("pay", bulkhead=rs.Bulkhead(1), registry=registry)
    policy.call(emf.flush)
    emf.flush()
    meanwhile, afterwards = documents(out)
    assert meanwhile["calls_in_flight"] == 1 and "calls.succeeded" not in meanwhile
    assert afterwards["calls_in_flight"] == 0 and afterwards["calls.succeeded"] == 1
    assert len(afterwards["call_duration.succeeded"]) == 1


def test_a_listener_that_flushes_while_policies_are_read_hangs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading may revise a timeout, and so tell a listener: its flush leaves the lines to the one under way."""
    emf, out, registry = reporter()
    policy = rs.Policy("pay", bulkhead=rs.Bulkhead(1), registry=registry)
    policy.call(lambda: None)
    inner: list[int] = []

    def reading(policy: rs.Policy) -> Any:
        inner.append(emf.flush())
        return numbers(policy)

    monkeypatch.setattr(_readings, "numbers", reading)
    assert emf.flush() == 1
    assert inner == [0]
    assert len(documents(out)) == 1


def test_a_second_policy_of_a_name_begins_at_nothing() -> None:
    """What one has counted is not taken off the other; and a policy is not kept alive."""
    emf, out, registry = reporter()
    for _ in range(2):
        policy = rs.Policy("pay", bulkhead=rs.Bulkhead(1), registry=registry)
        for _ in range(3):
            policy.call(lambda: None)
        emf.flush()
        (document,) = documents(out)
        assert document["calls.succeeded"] == 3
        del policy
        gc.collect()
        assert len(registry) == 0


REFUSED: list[dict[str, Any]] = [
    *({"namespace": value} for value in ("", ":a", "n" * 256, "zeile\n", 1)),
    *({"dimensions": {name: "x"}} for name in ("policy", "calls.succeeded", "", ":a", "a" * 251)),
    *({"dimensions": {"a": value}} for value in (" ", "ü", "x" * 1025, "a\nb", 1)),
    {"dimensions": {str(n): "x" for n in range(30)}},
    {"metrics": ["calls"]},
    {"registry": None},
]


@pytest.mark.parametrize("wrong", REFUSED)
def test_bad_input_is_refused(wrong: dict[str, Any]) -> None:
    """When the reporter is made, with the value in the message."""
    with pytest.raises((rs.ConfigError, TypeError), match="not "):
        EmfReporter(**wrong)


def test_a_handler_must_be_a_function() -> None:
    """Refused when it is decorated."""
    with pytest.raises(TypeError, match="handler must be a function"):
        EmfReporter().lambda_handler("handler")  # type: ignore[type-var]
