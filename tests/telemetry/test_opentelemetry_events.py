"""What happens becomes an event of the current span: through the real SDK."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracerProvider

import resilience as rs
from resilience._listen import LISTENERS, WATCHERS, tell
from resilience.events import KINDS, Event
from resilience.telemetry.opentelemetry import instrument
from resilience.testing import VirtualClock
from telemetry.happenings import EVENTS, Mute


@pytest.fixture
def spans() -> Iterator[tuple[TracerProvider, InMemorySpanExporter]]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider, exporter
    assert WATCHERS == [] and LISTENERS == {}, "a test left its instrumentation running"


def test_every_kind_of_event_becomes_a_span_event(spans: tuple[TracerProvider, InMemorySpanExporter]) -> None:
    """With its fields under resilience., and its error in the words of the semantic conventions."""
    assert {type(event) for event in EVENTS} == set(KINDS)
    provider, exporter = spans
    with instrument(metrics=False), provider.get_tracer("test").start_as_current_span("call"):
        for event in EVENTS:
            tell(event)
    (span,) = exporter.get_finished_spans()
    assert [told.name for told in span.events] == [f"resilience.{event.kind}" for event in EVENTS]
    for event, told in zip(EVENTS, span.events, strict=True):
        attributes = dict(told.attributes or {})
        error = getattr(event, "error", None)
        if error is not None:
            assert attributes.pop("exception.type") == attributes.pop("error.type") == type(error).__name__
            assert attributes.pop("exception.message") == str(error)
        if event.kind == "retrying":
            assert attributes.pop("resilience.resend_count") == 1
        expected = {name: value for name, value in event.data().items() if not name.startswith("error")}
        assert attributes == {f"resilience.{name}": value for name, value in expected.items()}


def test_a_call_tells_its_span_what_happened(spans: tuple[TracerProvider, InMemorySpanExporter]) -> None:
    """Retries, the circuit that opens, the refusal, the end and the fallback: in order, on the span around the call."""
    provider, exporter = spans
    clock = VirtualClock()
    policy = rs.Policy(
        "pay",
        retry=rs.Retry(on=(ConnectionError, rs.CircuitOpen), attempts=3, backoff=rs.Constant(0.5), budget=None),
        breaker=rs.CircuitBreaker(consecutive=2),
        fallback=rs.Fallback(value="later"),
        clock=clock,
        registry=None,
    )

    @policy
    def pay() -> str:
        raise ConnectionError("refused")

    with instrument(metrics=False), provider.get_tracer("test").start_as_current_span("call"):
        assert pay() == "later"
    pay()
    (span,) = exporter.get_finished_spans()
    assert [event.name.removeprefix("resilience.") for event in span.events] == [
        "attempt_failed", "retrying", "circuit_changed", "attempt_failed", "retrying", "attempt_rejected", "gave_up",
        "fell_back",
    ]  # fmt: skip
    retrying = dict(span.events[1].attributes or {})
    assert retrying["resilience.delay"] == 0.5
    assert retrying["exception.message"] == "refused"
    assert dict(span.events[6].attributes or {})["error.type"] == "resilience.errors.CircuitOpen"


@pytest.mark.parametrize("around", ["nothing", "a span that does not record", "a span that has ended"])
def test_nothing_is_built_where_no_span_records(
    around: str, spans: tuple[TracerProvider, InMemorySpanExporter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the data of the event is asked for."""
    asked: list[Event] = []

    def data(event: Event) -> dict[str, Any]:
        asked.append(event)
        return {}

    monkeypatch.setattr(Event, "data", data)
    span: Any = NoOpTracerProvider().get_tracer("none").start_span("none")
    if around == "a span that has ended":
        span = spans[0].get_tracer("test").start_span("over")
        span.end()
    with instrument(metrics=False), trace.use_span(trace.INVALID_SPAN if around == "nothing" else span):
        for event in EVENTS:
            tell(event)
    assert asked == []


def test_an_error_without_words_is_told_all_the_same(spans: tuple[TracerProvider, InMemorySpanExporter]) -> None:
    """What cannot be printed has an empty message."""
    provider, exporter = spans
    with instrument(metrics=False) as told, provider.get_tracer("test").start_as_current_span("call"):
        with pytest.raises(Mute):
            rs.Policy(retry=rs.Retry(on=KeyError)).call(_raise, Mute())
        assert told is not None
    (span,) = exporter.get_finished_spans()
    attributes = dict(span.events[0].attributes or {})
    assert attributes["exception.message"] == "" and str(attributes["exception.type"]).endswith("Mute")


def _raise(error: Exception) -> None:
    raise error
