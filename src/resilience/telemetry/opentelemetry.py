"""OpenTelemetry: the policies' numbers as metrics, what happens as events of the current span, attempts as spans.

Imports ``opentelemetry-api`` only; where the data goes is the business of the SDK that the application sets up. Without
an SDK nothing is read, built or sent. Propagation (W3C, X-Ray, ...) is the SDK's too: while an attempt has a span it
is the current one, so whatever instruments the call inside continues from it.

Names begin with ``resilience.``. Metrics are those of `resilience.telemetry.table`, without ``_total`` and units in
their names; errors are described as the semantic conventions have it (``exception.type``, ``exception.message``,
``error.type``).
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from opentelemetry import context, trace
from opentelemetry.trace import SpanKind, Status, StatusCode

import resilience

from .. import _fast, _registry
from .._checks import flag
from .._listen import WATCHERS, listen
from .._stats import outcome
from ..events import Event, Retrying
from ._derived import PREFIX
from ._otel_metrics import Readings, instruments

if TYPE_CHECKING:
    from contextvars import Token
    from typing import Self

    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, Tracer, TracerProvider

    from .._registry import Registry
    from ._otel_metrics import Instruments

__all__ = ["Instrumentation", "instrument"]

Attributes = dict[str, "str | bool | int | float"]


def instrument(
    *,
    meter_provider: MeterProvider | None = None,
    tracer_provider: TracerProvider | None = None,
    registry: Registry = _registry.registry,
    attempt_spans: bool = False,
    metrics: bool = True,
    events: bool = True,
) -> Instrumentation:
    """Show what policies do to OpenTelemetry, until ``stop()`` or the end of a ``with`` block.

    Args:
        meter_provider: the SDK's; the global one by default, also if it is set later.
        tracer_provider: the same for attempts; events go to whatever span is current.
        registry: whose policies the metrics are of.
        attempt_spans: make each attempt a span of its own, a child of the current one; without a trace around the call
            there is none. All calls then go the long way, some 20 µs each, to which the SDK's time for a span comes.
        metrics: offer the numbers of all named policies as observable instruments. The API has no observable
            histogram, so durations are a count, a sum, and quantiles (p50, p95, p99) of the last minute or two.
        events: tell the current span, if it records, what happens (see `resilience.events`): retries, rejections,
            circuits, timeouts, fallbacks. These are of all policies, named or not.

    Raises:
        TypeError: an argument is of the wrong type.

    Thread-safe. Instrumenting twice counts nothing twice, but tells events twice.
    """
    if not isinstance(registry, _registry.Registry):
        raise TypeError(f"registry must be a Registry, not {registry!r}")
    for name, value in (("attempt_spans", attempt_spans), ("metrics", metrics), ("events", events)):
        flag(name, value)
    meters = instruments(meter_provider) if metrics else None
    tracer = trace.get_tracer("resilience", resilience.__version__, tracer_provider) if attempt_spans else None
    return Instrumentation(meters, registry, tracer, events=events)


class Instrumentation:
    """What `instrument` has set up. Thread-safe."""

    def __init__(self, meters: Instruments | None, registry: Registry, tracer: Tracer | None, *, events: bool) -> None:
        self._meters = meters
        self._readings = Readings(registry)
        self._listening = listen(_tell_span) if events else None
        self._spans = None if tracer is None else _AttemptSpans(tracer)
        if meters is not None:
            meters.show(self._readings)
        if self._spans is not None:
            WATCHERS.append(self._spans)
            _fast.detour(everything=True)

    def stop(self) -> None:
        """Show and tell nothing any more; no error if it has stopped before."""
        if self._meters is not None:
            self._meters.hide(self._readings)
        if self._listening is not None:
            self._listening.stop()
        if self._spans is not None:
            with suppress(ValueError):  # it has stopped before
                WATCHERS.remove(self._spans)
            _fast.detour(everything=bool(WATCHERS))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _tell_span(event: Event) -> None:
    """Make *event* one of the current span's."""
    span = trace.get_current_span()
    if span.is_recording():
        span.add_event(f"{PREFIX}.{event.kind}", _attributes(event))


def _attributes(event: Event) -> Attributes:
    data = event.data()
    found: Attributes = {}
    error = getattr(event, "error", None)
    if error is not None:
        found = _exception(error)
        del data["error"], data["error_type"]
    found |= {f"{PREFIX}.{name}": value for name, value in data.items()}
    if isinstance(event, Retrying):
        found[f"{PREFIX}.resend_count"] = event.attempt  # as HTTP's: the first one sent again is 1
    return found


def _exception(error: BaseException) -> Attributes:
    """The error in the words of the semantic conventions."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        message = str(error)
    except Exception:
        message = ""
    return {"exception.type": name, "exception.message": message, "error.type": name}


class _AttemptSpans:
    """Makes each attempt a span, current while the attempt is made."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def begin(self, policy: str, attempt: int) -> tuple[Span, Token[Context]] | None:
        """An attempt begins; ``None`` if there is no trace that it could belong to."""
        if not trace.get_current_span().get_span_context().is_valid:
            return None
        attributes: dict[str, Any] = {f"{PREFIX}.policy": policy, f"{PREFIX}.attempt": attempt}
        if attempt > 1:
            attributes[f"{PREFIX}.resend_count"] = attempt - 1
        span = self._tracer.start_span(f"{policy} attempt", kind=SpanKind.INTERNAL, attributes=attributes)
        return span, context.attach(trace.set_span_in_context(span))

    def end(self, begun: tuple[Span, Token[Context]] | None, error: BaseException | None) -> None:
        """It has ended, in an error or not. One that was cancelled has not failed."""
        if begun is None:
            return
        span, token = begun
        context.detach(token)
        if span.is_recording():
            span.set_attribute(f"{PREFIX}.outcome", "succeeded" if error is None else outcome(error))
            if isinstance(error, Exception):
                described = _exception(error)
                span.set_attribute("error.type", described["error.type"])
                span.record_exception(error)
                span.set_status(Status(StatusCode.ERROR, str(described["exception.message"])))
        span.end()
