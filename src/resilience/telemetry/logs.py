"""What happens, as records of standard logging (or of structlog), and records as lines of JSON.

Only events are logged, so a call that goes well writes nothing. This file imports the standard library only: structlog
is the caller's, and OpenTelemetry is asked for trace ids only if the process has loaded it anyway.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from .._checks import number
from .._listen import Listening, listen
from ..clock import system
from ..events import (
    KINDS,
    AttemptFailed,
    AttemptRejected,
    AttemptTimedOut,
    BudgetBurning,
    BudgetExhausted,
    CircuitChanged,
    Event,
    FellBack,
    GaveUp,
    Hedged,
    HedgeWon,
    RateRevised,
    Retrying,
    StoreDegraded,
    StoreRecovered,
    TimeoutRevised,
    Waited,
)
from ..machines.circuit_types import State
from ..machines.lane import Lane, Rate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..clock import Clock

    Levels = Mapping[type[Event], int]

__all__ = ["LEVELS", "JsonFormatter", "log_events", "structlog_listener"]

LEVELS: dict[type[Event], int] = {
    AttemptFailed: logging.DEBUG,
    AttemptTimedOut: logging.INFO,
    AttemptRejected: logging.DEBUG,
    Retrying: logging.INFO,
    GaveUp: logging.WARNING,
    BudgetExhausted: logging.WARNING,
    CircuitChanged: logging.WARNING,
    Waited: logging.DEBUG,
    Hedged: logging.DEBUG,
    HedgeWon: logging.DEBUG,
    FellBack: logging.WARNING,
    TimeoutRevised: logging.INFO,
    RateRevised: logging.DEBUG,
    BudgetBurning: logging.WARNING,
    StoreDegraded: logging.WARNING,
    StoreRecovered: logging.INFO,
}
"""The default levels. Good news (a circuit that closes, a budget that no longer burns) is INFO instead of WARNING."""


def log_events(
    logger: str | logging.Logger = "resilience.events",
    *,
    to: type[Event] | tuple[type[Event], ...] = Event,
    policy: str | tuple[str, ...] | None = None,
    levels: Levels | None = None,
    rate: float | None = None,
    clock: Clock = system,
) -> Listening:
    """Log events, until ``stop()`` of what is returned, or the end of its ``with`` block.

    The message is the event's sentence. ``extra`` is its data, twice: as the dict ``resilience``, which has the
    ``kind`` too, and each of its fields by itself, such as ``resilience_policy``.

    Args:
        logger: where to, or its name.
        to: classes of events, as for `resilience.listen`.
        policy: names of policies or parts, as for `resilience.listen`.
        levels: levels of logging by class of event, where they are not to be `LEVELS`; a class stands for its
            subclasses too.
        rate: records per second, above 0, for each policy and kind of event; twice as many at once, at least one.
            What comes beyond is not logged; the next record that is says how many those were
            (``resilience_suppressed``). ``None``: all are logged.
        clock: what *rate* goes by.

    Raises:
        TypeError: an argument is of the wrong type.
        ConfigError: *rate* is out of range.

    Thread-safe.
    """
    if not isinstance(logger, (str, logging.Logger)):
        raise TypeError(f"logger must be a logger or its name, not {logger!r}")
    target = logging.getLogger(logger) if isinstance(logger, str) else logger
    level_of = _levels(levels)
    flood = None if rate is None else _Flood(number("rate", rate, above=0.0), clock)

    def log(event: Event) -> None:
        level = level_of(event)
        if not target.isEnabledFor(level):
            return
        fields = {"kind": event.kind, **event.data()}
        message = str(event)
        if flood is not None:
            passed = flood.passes(event)
            if passed is None:
                return
            if passed:
                fields["suppressed"] = passed
                message += f" (and {passed} of this kind before, not logged)"
        extra = {"resilience": fields, **{f"resilience_{name}": value for name, value in fields.items()}}
        target.log(level, "%s", message, extra=extra)

    return listen(log, to, policy=policy)


def structlog_listener(logger: Any, *, levels: Levels | None = None) -> Callable[[Event], None]:
    """A listener that hands events to a structlog logger: ``rs.listen(structlog_listener(structlog.get_logger()))``.

    The name of the event is its kind, and its fields are the event's data.

    Args:
        logger: has the methods ``debug``, ``info``, ``warning``, ``error`` and ``critical``.
        levels: as for `log_events`.

    Raises:
        TypeError: an argument is of the wrong type.
    """
    if not all(callable(getattr(logger, method, None)) for method in _METHODS.values()):
        raise TypeError(f"logger must have debug(), info(), warning(), error() and critical(), not {logger!r}")
    level_of = _levels(levels)

    def log(event: Event) -> None:
        level = level_of(event)
        method = next(name for least, name in _METHODS.items() if level >= least)
        getattr(logger, method)(event.kind, **event.data())

    return log


_METHODS = {50: "critical", 40: "error", 30: "warning", 20: "info", -math.inf: "debug"}


def _levels(given: Levels | None) -> Callable[[Event], int]:
    """The level of an event."""
    for kind, level in (given or {}).items():
        if not (isinstance(kind, type) and issubclass(kind, Event)):
            raise TypeError(f"levels must be by class of event, not by {kind!r}")
        if isinstance(level, bool) or not isinstance(level, int):
            raise TypeError(f"levels must be whole numbers, such as logging.INFO, not {level!r}")
    own = {kind: next((given[base] for base in kind.__mro__ if base in given), None) for kind in KINDS} if given else {}

    def level_of(event: Event) -> int:
        kind = type(event)
        level = own.get(kind)
        if level is not None:
            return level
        good = (isinstance(event, CircuitChanged) and event.new not in (State.OPEN, State.FORCED_OPEN)) or (
            isinstance(event, BudgetBurning) and not event.shedding
        )
        return logging.INFO if good else LEVELS[kind]

    return level_of


class _Flood:
    """Keeps records to a rate for each kind and policy. Thread-safe."""

    def __init__(self, rate: float, clock: Clock) -> None:
        self._rate = Rate(rate, burst=max(1, round(2 * rate)))
        self._clock = clock
        self._lock = threading.Lock()
        self._lanes: dict[tuple[type[Event], str], Lane] = {}
        self._kept: dict[tuple[type[Event], str], int] = {}

    def passes(self, event: Event) -> int | None:
        """How many like this one were kept back since the last one that passed; ``None``: so is this one."""
        what = type(event), event.policy.partition("[")[0]  # not one for each key of a part
        now = self._clock.monotonic_ns()
        with self._lock:
            lane = self._lanes.setdefault(what, Lane(self._rate))
            if lane.take(1, now):
                return self._kept.pop(what, 0)
            self._kept[what] = self._kept.get(what, 0) + 1
            return None


_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
"""What every record has."""


class JsonFormatter(logging.Formatter):
    r"""Each record as one line of JSON: ``{"time": "2026-05-01T12:00:00.000Z", "level": "INFO", ...}``.

    The members are ``time`` (UTC, RFC 3339), ``level``, ``logger``, ``message``, whatever came by ``extra``, and where
    there is one the ``exception`` (``type``, ``message``, ``stacktrace``). Events of this library are the one member
    ``resilience``. If OpenTelemetry is loaded and a span is current, there are ``trace_id`` and ``span_id``.

    Whatever JSON does not know is written as text, so that no record is lost. Not bound to this library: any handler
    may use it.

    Args:
        static: members that all lines have, such as the service's name and version.

    Raises:
        TypeError: *static* cannot be written as JSON.
    """

    def __init__(self, *, static: Mapping[str, object] | None = None) -> None:
        super().__init__()
        self._static = dict(static or {})
        json.dumps(self._static)

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        found: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
            **self._static,
            **_trace(),
        }
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        whole = isinstance(extra.get("resilience"), dict)  # then its fields need not be there twice
        for name, value in extra.items():
            if not (whole and name.startswith("resilience_")):
                found[f"extra_{name}" if name in found else name] = value
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            found["exception"] = {
                "type": type(error).__name__,
                "message": _text(error),
                "stacktrace": self.formatException(record.exc_info),
            }
        if record.stack_info:
            found["stack"] = record.stack_info
        return json.dumps(_plain(found))


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # its arguments do not fit
        return f"{_text(record.msg)} {_text(record.args)}"


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__}>"


def _plain(value: object, depth: int = 8) -> object:
    """The value in JSON's types; what is none of these, or is nested too deep, as text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= 64 else _text(value)  # readers have doubles, or 64 bits
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return str(value)
    if depth and isinstance(value, dict):
        return {_text(name): _plain(item, depth - 1) for name, item in value.items()}
    if depth and isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, depth - 1) for item in value]
    return _text(value)


def _trace() -> dict[str, str]:
    """The ids of the current span, if there is one."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return {}
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
