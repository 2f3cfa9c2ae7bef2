"""Attempts as spans of OpenTelemetry, through the real SDK, with X-Ray's headers too."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.propagators.aws import AwsXRayPropagator
from opentelemetry.sdk.extension.aws.trace import AwsXRayIdGenerator
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracerProvider, SpanKind, StatusCode

import resilience as rs
from resilience._listen import WATCHERS
from resilience.telemetry.opentelemetry import instrument
from resilience.testing import VirtualClock


class Trace:
    """A provider of tracers, and the spans that came of it."""

    def __init__(self, **settings: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False, **settings)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("test")

    def attempts(self) -> list[ReadableSpan]:
        """The spans of attempts, by their beginning."""
        found = [span for span in self.exporter.get_finished_spans() if span.name.endswith(" attempt")]
        return sorted(found, key=lambda span: span.start_time or 0)

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]


@pytest.fixture
def traced() -> Iterator[Trace]:
    found = Trace()
    with instrument(tracer_provider=found.provider, metrics=False, events=False, attempt_spans=True):
        yield found
    assert WATCHERS == []


def ids(span: Any) -> tuple[int, int]:
    """Trace and span."""
    return span.context.trace_id, span.context.span_id


def parents(spans: list[ReadableSpan]) -> list[int | None]:
    return [span.parent and span.parent.span_id for span in spans]


def outcomes(spans: list[ReadableSpan]) -> list[Any]:
    return [dict(span.attributes or {})["resilience.outcome"] for span in spans]


RETRY = rs.Retry(on=ConnectionError, attempts=3, backoff=rs.Constant(0.0), budget=None)


class Flaky:
    """Fails so many times before it goes well; each time it makes a span of its own."""

    def __init__(self, traced: Trace, failures: int) -> None:
        self.tracer = traced.tracer
        self.failures = failures

    def __call__(self) -> str:
        with self.tracer.start_as_current_span("inner"):
            self.failures -= 1
            if self.failures >= 0:
                raise ConnectionError("refused")
            return "done"


def check_two_attempts(traced: Trace, root: Any) -> None:
    """One failed, one went well, both below *root*, and each has its inner span below it."""
    first, second = traced.attempts()
    assert parents([first, second]) == [ids(root)[1]] * 2
    assert parents(traced.named("inner")) == [ids(first)[1], ids(second)[1]]
    assert [span.kind for span in (first, second)] == [SpanKind.INTERNAL] * 2
    assert dict(first.attributes or {}) == {
        "resilience.policy": "pay", "resilience.attempt": 1, "resilience.outcome": "failed",
        "error.type": "ConnectionError",
    }  # fmt: skip
    assert dict(second.attributes or {}) == {
        "resilience.policy": "pay", "resilience.attempt": 2, "resilience.resend_count": 1,
        "resilience.outcome": "succeeded",
    }  # fmt: skip
    assert first.status.status_code is StatusCode.ERROR and first.status.description == "refused"
    assert [event.name for event in first.events] == ["exception"]
    assert second.status.status_code is StatusCode.UNSET and not second.events
    assert first.instrumentation_scope is not None and first.instrumentation_scope.version == rs.__version__


def test_each_attempt_of_a_function_is_a_span(traced: Trace) -> None:
    """A child of the span around the call, current while it runs, with number, outcome and error."""
    policy = rs.Policy("pay", retry=RETRY, registry=None)
    with traced.tracer.start_as_current_span("root") as root:
        assert policy.call(Flaky(traced, 1)) == "done"
        assert trace.get_current_span() is root
    check_two_attempts(traced, root)


def test_each_attempt_of_a_coroutine_function_is_a_span(traced: Trace) -> None:
    """The same under asyncio."""
    policy = rs.Policy("pay", retry=RETRY, registry=None)
    flaky = Flaky(traced, 1)

    @policy
    async def pay() -> str:
        await asyncio.sleep(0)
        return flaky()

    async def main() -> None:
        with traced.tracer.start_as_current_span("root") as root:
            assert await pay() == "done"
            assert trace.get_current_span() is root
        check_two_attempts(traced, root)

    VirtualClock().run(main())


def test_each_block_of_a_loop_is_a_span(traced: Trace) -> None:
    """`for attempt in policy: with attempt:` is watched as functions are."""
    policy = rs.Policy("pay", retry=RETRY, registry=None)
    flaky = Flaky(traced, 1)
    with traced.tracer.start_as_current_span("root") as root:
        for attempt in policy:
            with attempt:
                assert flaky() == "done"
        assert trace.get_current_span() is root
    check_two_attempts(traced, root)


def test_each_block_of_an_asynchronous_loop_is_a_span(traced: Trace) -> None:
    """`async for`, `async with`: the same."""
    policy = rs.Policy("pay", retry=RETRY, timeout=1.0, registry=None)
    flaky = Flaky(traced, 1)

    async def main() -> None:
        with traced.tracer.start_as_current_span("root") as root:
            async for attempt in policy:
                async with attempt:
                    await asyncio.sleep(0)
                    assert flaky() == "done"
            assert trace.get_current_span() is root
        check_two_attempts(traced, root)

    VirtualClock().run(main())


def test_a_block_is_a_span(traced: Trace) -> None:
    """`with policy:` is one attempt; a block that times out ends in the timeout's error."""
    clock = VirtualClock()
    policy = rs.Policy("pay", timeout=1.0, clock=clock, registry=None)

    async def main() -> None:
        with pytest.raises(rs.TimedOut):
            async with policy:
                await asyncio.sleep(5.0)

    with traced.tracer.start_as_current_span("root") as root:
        with rs.Policy("own", breaker=rs.CircuitBreaker(), registry=None):
            traced.tracer.start_span("inner").end()
        clock.run(main())
        assert trace.get_current_span() is root
    own, timed_out = traced.attempts()
    assert parents(traced.named("inner")) == [ids(own)[1]]
    assert parents([own, timed_out]) == [ids(root)[1]] * 2
    assert outcomes([own, timed_out]) == ["succeeded", "timed_out"]


def test_hedged_attempts_are_spans_side_by_side(traced: Trace) -> None:
    """Both are children of the caller's span; the loser, which is cancelled, has not failed."""
    clock = VirtualClock()
    policy = rs.Policy("pay", hedge=rs.Hedge(0.1), clock=clock, registry=None)
    delays = iter((10.0, 0.5))

    async def slow() -> str:
        delay = next(delays)
        with traced.tracer.start_as_current_span("inner", attributes={"delay": delay}):
            await asyncio.sleep(delay)
        return "done"

    async def main() -> None:
        with traced.tracer.start_as_current_span("root") as root:
            assert await policy.acall(slow) == "done"
        attempts = traced.attempts()
        assert parents(attempts) == [ids(root)[1]] * 2
        assert outcomes(attempts) == ["cancelled", "succeeded"]
        assert [span.status.status_code for span in attempts] == [StatusCode.UNSET] * 2
        inner = {dict(span.attributes or {})["delay"]: span.parent for span in traced.named("inner")}
        assert [(parent := inner[delay]) and parent.span_id for delay in (10.0, 0.5)] == [
            ids(span)[1] for span in attempts
        ]

    clock.run(main())


def test_hedged_attempts_in_threads_are_spans_side_by_side(traced: Trace) -> None:
    """Each in its own thread, below the caller's span."""
    answered = threading.Event()
    numbers = iter((1, 2))

    def work() -> int:
        number = next(numbers)
        traced.tracer.start_span(f"inner {number}").end()
        if number == 1:
            answered.wait(5.0)
        return number

    with traced.tracer.start_as_current_span("root") as root:
        assert rs.Policy("pay", hedge=rs.Hedge(0.002), registry=None).call(work) == 2
        answered.set()
        while len(traced.attempts()) < 2:  # the loser goes on in its thread, and ends now
            answered.wait(0.001)
    attempts = traced.attempts()
    assert parents(attempts) == [ids(root)[1]] * 2
    assert parents([*traced.named("inner 1"), *traced.named("inner 2")]) == [ids(span)[1] for span in attempts]


def test_a_worker_thread_sees_the_span_of_its_attempt(traced: Trace) -> None:
    """Also when the attempt is abandoned there; its span ends with the timeout, not with the thread."""
    stuck = threading.Event()

    def work() -> None:
        traced.tracer.start_span("inner").end()
        stuck.wait(5.0)

    with traced.tracer.start_as_current_span("root"):
        with pytest.raises(rs.TimedOut):
            rs.Policy("pay", timeout=rs.Timeout(0.02, mode="thread"), registry=None).call(work)
        (attempt,) = traced.attempts()
        stuck.set()
    assert parents(traced.named("inner")) == [ids(attempt)[1]]
    assert outcomes([attempt]) == ["timed_out"]
    assert attempt.status.status_code is StatusCode.ERROR


def test_functions_decorated_before_are_watched_and_afterwards_no_longer() -> None:
    """First attempts that go well included; stopping one instrumentation leaves another one at work."""
    traced = Trace()

    @rs.Policy("pay", retry=RETRY, registry=None)
    def pay() -> None: ...

    with traced.tracer.start_as_current_span("root"):
        pay()
        first = instrument(tracer_provider=traced.provider, metrics=False, attempt_spans=True)
        with instrument(tracer_provider=traced.provider, metrics=False, attempt_spans=True):
            pay()
            assert len(traced.attempts()) == 2  # one for each
            first.stop()
            pay()
            assert len(traced.attempts()) == 3
        pay()
        assert len(traced.attempts()) == 3


def test_without_a_trace_there_are_no_spans(traced: Trace) -> None:
    """An attempt is never the root of a trace."""
    assert rs.Policy("pay", retry=RETRY, registry=None).call(Flaky(traced, 1)) == "done"
    assert traced.attempts() == []
    assert len(traced.named("inner")) == 2


def test_a_tracer_that_fails_breaks_no_call(caplog: pytest.LogCaptureFixture) -> None:
    """The call goes on, and the log says why there is no span."""

    class Broken(NoOpTracerProvider):
        def get_tracer(self, *args: Any, **kwargs: Any) -> Any:
            class Tracer(trace.NoOpTracer):
                def start_span(self, *args: Any, **kwargs: Any) -> Any:
                    raise RuntimeError("no span today")

            return Tracer()

    traced = Trace()
    with (
        instrument(tracer_provider=Broken(), metrics=False, attempt_spans=True),
        traced.tracer.start_as_current_span("root"),
    ):
        assert rs.Policy("pay", retry=RETRY, registry=None).call(Flaky(traced, 1)) == "done"
    assert "no span today" in caplog.text


def test_a_trace_of_xray_goes_through_the_attempts() -> None:
    """A header comes in; spans and events are of its trace; the header that an attempt sends on names that attempt."""
    traced = Trace(id_generator=AwsXRayIdGenerator())
    propagator = AwsXRayPropagator()
    trace_id, caller = "1-6a0b1c2d-0123456789abcdef01234567", "53995c3f42cd8ad8"
    sent: list[str] = []
    policy = rs.Policy("pay", retry=RETRY, registry=None)

    @policy
    def pay() -> str:
        carrier: dict[str, str] = {}
        propagator.inject(carrier)  # as the instrumentation of an HTTP client does
        sent.append(carrier["X-Amzn-Trace-Id"])
        if len(sent) < 3:
            raise ConnectionError("refused")
        return "done"

    arrived = propagator.extract({"X-Amzn-Trace-Id": f"Root={trace_id};Parent={caller};Sampled=1"})
    with (
        instrument(tracer_provider=traced.provider, metrics=False, attempt_spans=True),
        traced.tracer.start_as_current_span("handler", context=arrived, kind=SpanKind.SERVER),
    ):
        assert pay() == "done"

    (handler,) = traced.named("handler")
    attempts = traced.attempts()
    assert handler.parent is not None and f"{handler.parent.span_id:016x}" == caller
    assert len(attempts) == 3
    for span in (handler, *attempts):
        found = f"{ids(span)[0]:032x}"
        assert f"1-{found[:8]}-{found[8:]}" == trace_id
    assert parents(attempts) == [ids(handler)[1]] * 3
    assert sent == [f"Root={trace_id};Parent={ids(span)[1]:016x};Sampled=1" for span in attempts]
    assert [event.name for event in handler.events] == ["resilience.attempt_failed", "resilience.retrying"] * 2


def test_a_trace_of_xray_may_begin_with_an_attempt() -> None:
    """With no span of this process in between, an attempt is a child of the caller's; and nothing is sampled anew."""
    propagator = AwsXRayPropagator()
    for sampled in (1, 0):
        traced = Trace(id_generator=AwsXRayIdGenerator())
        header = f"Root=1-6a0b1c2d-0123456789abcdef01234567;Parent=53995c3f42cd8ad8;Sampled={sampled}"
        with instrument(tracer_provider=traced.provider, metrics=False, attempt_spans=True):
            token = otel_context.attach(propagator.extract({"X-Amzn-Trace-Id": header}))
            rs.Policy("pay", retry=RETRY, registry=None).call(lambda: None)
            otel_context.detach(token)
        assert parents(traced.attempts()) == [0x53995C3F42CD8AD8] * sampled
