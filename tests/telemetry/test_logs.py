"""Events as records of logging and structlog, and records as lines of JSON."""

from __future__ import annotations

import io
import json
import logging
import math
import re
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from structlog.testing import CapturingLogger

import resilience as rs
from resilience import events
from resilience._listen import LISTENERS, tell
from resilience.events import KINDS
from resilience.machines.circuit_types import State
from resilience.telemetry.logs import LEVELS, JsonFormatter, log_events, structlog_listener
from resilience.testing import VirtualClock
from telemetry.happenings import EVENTS, PLAIN, Mute
from together import outcomes

FAILED = events.AttemptFailed("pay", 1, PLAIN, 0.25)
GAVE_UP = events.GaveUp("pay", "failed", 3, PLAIN, 1.5)
OPENED = events.CircuitChanged("pay", State.CLOSED, State.OPEN, "tripped")
CLOSED = events.CircuitChanged("pay", State.HALF_OPEN, State.CLOSED, "recovered")


class Records(logging.Handler):
    """Keeps what it is handed."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append(record)


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    found = logging.Logger("events under test", logging.DEBUG)  # noqa: LOG001 - one that nobody else has
    found.addHandler(Records())
    yield found
    assert LISTENERS == {}, "a test went on listening"


def kept(logger: logging.Logger) -> list[logging.LogRecord]:
    handler = logger.handlers[0]
    assert isinstance(handler, Records)
    return handler.kept


# -- records -----------------------------------------------------------------------------------------------------------


def test_each_event_is_one_record(logger: logging.Logger) -> None:
    """Its message is the event's sentence; its data is there as one dict and as fields, none of them a record's own."""
    standard = set(vars(logging.makeLogRecord({})))
    with log_events(logger):
        for event in EVENTS:
            tell(event)
    assert [record.getMessage() for record in kept(logger)] == [str(event) for event in EVENTS]
    for event, record in zip(EVENTS, kept(logger), strict=True):
        fields = {"kind": event.kind, **event.data()}
        own = {name: value for name, value in vars(record).items() if name not in standard}
        assert own == {"resilience": fields, **{f"resilience_{name}": value for name, value in fields.items()}}


def test_the_level_tells_how_bad_it_is(logger: logging.Logger) -> None:
    """Each kind has its level; good news of a kind that is bad news otherwise is INFO."""
    assert set(LEVELS) == set(KINDS)
    calm = events.BudgetBurning("pay", shedding=False, burn=1.0)
    with log_events(logger):
        for event in (*EVENTS, CLOSED, calm):
            tell(event)
    assert [record.levelno for record in kept(logger)] == [*(LEVELS[type(event)] for event in EVENTS), 20, 20]
    assert LEVELS[events.GaveUp] == LEVELS[events.CircuitChanged] == logging.WARNING


def test_levels_can_be_chosen(logger: logging.Logger) -> None:
    """By class of event, the nearest one counts; what is not named keeps its level."""
    levels = {events.Event: 15, events.AttemptFailed: 35, events.CircuitChanged: logging.ERROR}
    timed_out = events.AttemptTimedOut("pay", 2, TimeoutError("late"), 0.5, 0.5)
    with log_events(logger, levels=levels):
        for event in (FAILED, timed_out, OPENED, CLOSED, GAVE_UP):
            tell(event)
    with log_events(logger, levels={events.GaveUp: logging.CRITICAL}):
        tell(GAVE_UP)
        tell(FAILED)
    assert [record.levelno for record in kept(logger)] == [35, 35, 40, 40, 15, 50, 10]


def test_only_what_is_asked_for_is_logged(logger: logging.Logger) -> None:
    """By class, by policy, by the logger's own level; and nothing after stop()."""
    with log_events(logger, to=(events.GaveUp, events.CircuitChanged), policy="pay"):
        for event in (FAILED, GAVE_UP, OPENED, events.GaveUp("other", "failed", 1, PLAIN, 0.1)):
            tell(event)
    logger.setLevel(logging.WARNING)
    with log_events(logger):
        tell(FAILED)
        tell(GAVE_UP)
    tell(GAVE_UP)
    assert [record.resilience_kind for record in kept(logger)] == ["gave_up", "circuit_changed", "gave_up"]  # type: ignore[attr-defined]


def test_a_call_is_logged_as_it_goes_wrong(logger: logging.Logger) -> None:
    """A real policy: nothing while it goes well, then failure, retry, failure, end."""
    retry = rs.Retry(on=ConnectionError, attempts=2, budget=None)
    policy = rs.Policy("pay", retry=retry, clock=VirtualClock(), registry=None)
    with log_events(logger):
        policy.call(lambda: None)
        assert kept(logger) == []
        with pytest.raises(ConnectionError):
            policy.call(_raise, PLAIN)
    kinds = [record.resilience["kind"] for record in kept(logger)]  # type: ignore[attr-defined]
    assert kinds == ["attempt_failed", "retrying", "attempt_failed", "gave_up"]


def _raise(error: Exception) -> None:
    raise error


@given(
    st.lists(st.tuples(st.floats(0.0, 3.0), st.sampled_from(("a", "b", "a[1]"))), max_size=60),
    st.sampled_from((0.5, 1.0, 4.0)),
)
def test_a_flood_is_kept_to_its_rate(floods: list[tuple[float, str]], rate: float) -> None:
    """For each policy: at most the rate and one burst in any span; and every event is either logged or counted."""
    clock = VirtualClock()
    logger = logging.Logger("flood", logging.DEBUG)  # noqa: LOG001 - one that nobody else has
    logger.addHandler(Records())
    passed: dict[str, list[float]] = {"a": [], "b": []}
    told: Counter[str] = Counter()
    suppressed: Counter[str] = Counter()
    with log_events(logger, rate=rate, clock=clock):
        for seconds, policy in floods:
            clock.advance(seconds)
            before = len(kept(logger))
            tell(events.GaveUp(policy, "failed", 1, PLAIN, 0.1))
            name = policy[0]
            told[name] += 1
            for record in kept(logger)[before:]:
                passed[name].append(clock.now)
                suppressed[name] += vars(record).get("resilience_suppressed", 0)
                counted = re.search(r"and (\d+) of this kind", record.getMessage())
                assert (counted is None) == ("resilience_suppressed" not in vars(record))
        for name, times in passed.items():
            for first in range(len(times)):
                for last in range(first, len(times)):
                    assert last - first + 1 <= max(1, round(2 * rate)) + rate * (times[last] - times[first]) + 1e-6
            before = len(kept(logger))
            clock.advance(10.0)
            tell(events.GaveUp(name, "failed", 1, PLAIN, 0.1))
            (record,) = kept(logger)[before:]
            suppressed[name] += vars(record).get("resilience_suppressed", 0)
            assert len(times) + suppressed[name] == told[name]


def test_a_flood_of_one_kind_hides_no_other(logger: logging.Logger) -> None:
    """The rate is that of each kind."""
    with log_events(logger, rate=0.1, clock=VirtualClock()):
        for _ in range(5):
            tell(GAVE_UP)
            tell(OPENED)
    assert [record.resilience_kind for record in kept(logger)] == ["gave_up", "circuit_changed"]  # type: ignore[attr-defined]


def test_threads_lose_no_record_of_a_flood(logger: logging.Logger, switch_often: None) -> None:
    """What is logged and what is counted make up what was told."""
    clock = VirtualClock()

    def work(_: int) -> None:
        for _ in range(100):
            tell(GAVE_UP)

    with log_events(logger, rate=1.0, clock=clock):
        _, errors = outcomes(work, 8)
        clock.advance(5.0)
        tell(GAVE_UP)
    assert errors == []
    assert sum(1 + vars(record).get("resilience_suppressed", 0) for record in kept(logger)) == 801


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"logger": 1}, TypeError),
        ({"levels": {"gave_up": 30}}, TypeError),
        ({"levels": {events.GaveUp: "ERROR"}}, TypeError),
        ({"levels": {events.GaveUp: True}}, TypeError),
        ({"rate": 0}, rs.ConfigError),
        ({"rate": math.nan}, rs.ConfigError),
        ({"rate": "1"}, TypeError),
        ({"to": int}, TypeError),
    ],
)
def test_bad_input_is_refused(wrong: dict[str, Any], kind: type[Exception]) -> None:
    """With the value in the message; and nobody goes on listening."""
    with pytest.raises(kind, match="not "):
        log_events(**wrong)
    assert LISTENERS == {}


# -- structlog ---------------------------------------------------------------------------------------------------------


def test_structlog_hears_kind_and_fields() -> None:
    """By the method of the level, with the event's data as keywords; through structlog's own JSON renderer, too."""
    captured = CapturingLogger()
    with rs.listen(structlog_listener(captured)):
        for event in (*EVENTS, CLOSED):
            tell(event)
    assert [call.args for call in captured.calls] == [(event.kind,) for event in (*EVENTS, CLOSED)]
    assert [call.kwargs for call in captured.calls] == [event.data() for event in (*EVENTS, CLOSED)]
    names = {10: "debug", 20: "info", 30: "warning"}
    assert [call.method_name for call in captured.calls] == [*(names[LEVELS[type(event)]] for event in EVENTS), "info"]

    out = io.StringIO()
    logger = structlog.wrap_logger(
        structlog.PrintLogger(out),
        processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
    with rs.listen(structlog_listener(logger, levels={events.CircuitChanged: logging.CRITICAL})):
        tell(FAILED)
        tell(OPENED)
    assert json.loads(out.getvalue()) == {"event": "circuit_changed", "level": "critical", **OPENED.data()}


def test_structlog_needs_a_logger() -> None:
    """What has no methods for the levels is refused at once, and not at the first event."""
    with pytest.raises(TypeError, match="logger must have"):
        structlog_listener("resilience")
    structlog_listener(logging.getLogger("any"))


# -- JSON --------------------------------------------------------------------------------------------------------------

PLAIN_JSON = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    PLAIN_JSON | st.binary(max_size=5) | st.sampled_from((Mute(), object())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.text(min_size=1).filter(lambda name: name not in {*vars(logging.makeLogRecord({})), "message", "asctime"})


def strict(line: str) -> dict[str, Any]:
    """The JSON in a line, with nothing in it that only Python takes for JSON."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    found: dict[str, Any] = json.loads(line, parse_constant=refuse)
    return found


@given(st.text(), st.dictionaries(NAMES, VALUES, max_size=4), st.floats(0, 4e9))
def test_every_record_is_one_line_of_json(message: str, extra: dict[str, Any], created: float) -> None:
    """Whatever it says and carries: strict JSON, one line, with all that came by extra, and the time in UTC."""
    record = logging.makeLogRecord({"name": "app", "levelname": "INFO", "msg": message, "created": created, **extra})
    line = JsonFormatter().format(record)
    assert len(line.splitlines()) == 1
    found = strict(line)
    assert found["message"] == message.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    assert found["logger"] == "app" and found["level"] == "INFO"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found["time"])
    assert datetime.fromisoformat(found["time"]).timestamp() == pytest.approx(created, abs=1e-3)
    for name, value in extra.items():
        if isinstance(value, (str, bool)) or value is None:
            assert found[f"extra_{name}" if name in {"time", "level", "logger"} else name] == value


def test_a_line_has_exception_event_and_static_members() -> None:
    """Errors with their traceback; an event of this library as one member, not twice."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonFormatter(static={"service": "shop"}))
    logger = logging.Logger("app", logging.DEBUG)  # noqa: LOG001 - one that nobody else has
    logger.addHandler(handler)
    with log_events(logger):
        tell(GAVE_UP)
    try:
        raise Mute
    except Mute:
        logger.exception("order %d", 7, extra={"level": "gold"}, stack_info=True)
    logger.info("%d", "no number")
    event, error, odd = map(strict, out.getvalue().splitlines())
    assert event.keys() == {"time", "level", "logger", "message", "service", "resilience"}
    assert event["resilience"] == {"kind": "gave_up", **GAVE_UP.data()}
    assert error["message"] == "order 7" and error["extra_level"] == "gold" and error["level"] == "ERROR"
    assert error["exception"]["type"] == "Mute" and "in test_a_line_has" in error["exception"]["stacktrace"]
    assert "Stack" in error["stack"]
    assert odd["message"] == "%d ('no number',)"


def test_a_line_names_the_current_span(monkeypatch: pytest.MonkeyPatch) -> None:
    """As hexadecimal numbers, which logs and traces are joined by; none without a span, or without OpenTelemetry."""
    record = logging.makeLogRecord({"msg": "hello"})
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    with tracer.start_as_current_span("call") as span:
        found = strict(JsonFormatter().format(record))
        context = span.get_span_context()
        with monkeypatch.context() as patch:
            patch.delitem(sys.modules, "opentelemetry.trace")
            assert "trace_id" not in strict(JsonFormatter().format(record))
    assert found["trace_id"] == f"{context.trace_id:032x}" and found["span_id"] == f"{context.span_id:016x}"
    assert "trace_id" not in strict(JsonFormatter().format(record))


def test_what_json_cannot_hold_is_text() -> None:
    """What contains itself, from some depth on; and numbers beyond 64 bits, even those that Python does not print."""
    ring: list[Any] = []
    ring.append(ring)
    record = logging.makeLogRecord({"msg": "", "ring": ring, "big": 2**64, "vast": 10**5000, "least": -(2**63)})
    found = strict(JsonFormatter().format(record))
    assert "[...]" in str(found["ring"])
    assert (found["big"], found["vast"], found["least"]) == (str(2**64), "<int>", -(2**63))


def test_static_members_must_be_json() -> None:
    """They are refused when the formatter is made."""
    with pytest.raises(TypeError):
        JsonFormatter(static={"service": object()})


def test_utc_is_what_is_written() -> None:
    """The moment is the record's, whatever the zone of the machine."""
    record = logging.makeLogRecord({"msg": "", "created": datetime(2026, 5, 1, 12, 0, 0, 250_000, UTC).timestamp()})
    assert strict(JsonFormatter().format(record))["time"] == "2026-05-01T12:00:00.250Z"
