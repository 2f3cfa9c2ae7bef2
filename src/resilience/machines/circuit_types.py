"""The words of a circuit breaker: its states, the table that links them, settings, snapshot.

``TABLE`` is the whole truth: state, event, next state. An event without an entry under the present
state changes nothing. The documentation draws its picture from the table, by `diagram`, so
that it cannot drift from it.

Left alone, a circuit only ever goes from closed to open, from open to half-open, and from there
back to either. The other arrows are steering by hand; they carry the name of the method to call.

This file does not know when an event happens; that is decided in ``circuit.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final, NamedTuple

__all__ = ["STEERED", "TABLE", "WAYS", "Event", "Outcome", "Settings", "Snapshot", "State", "Transition", "diagram"]


class State(StrEnum):
    """Where a circuit stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    DISABLED = "disabled"


class Event(StrEnum):
    """What moves a circuit; the values are the words of the diagram."""

    TRIPPED = "too many failures or slow calls"
    COOLED = "a call after the open time"
    RECOVERED = "every probe passed"
    RELAPSED = "a probe failed or was slow"
    TRIP = "trip()"
    FORCE_OPEN = "force_open()"
    DISABLE = "disable()"
    RESET = "reset()"


class Outcome(Enum):
    """How an admitted call ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    IGNORED = "ignored"


class Transition(NamedTuple):
    """One step through the table; *generation* is the one that begins with it."""

    old: State
    new: State
    event: Event
    generation: int


TABLE: Final[dict[State, dict[Event, State]]] = {
    State.CLOSED: {
        Event.TRIPPED: State.OPEN,
        Event.TRIP: State.OPEN,
        Event.FORCE_OPEN: State.FORCED_OPEN,
        Event.DISABLE: State.DISABLED,
        Event.RESET: State.CLOSED,
    },
    State.OPEN: {
        Event.COOLED: State.HALF_OPEN,
        Event.FORCE_OPEN: State.FORCED_OPEN,
        Event.DISABLE: State.DISABLED,
        Event.RESET: State.CLOSED,
    },
    State.HALF_OPEN: {
        Event.RECOVERED: State.CLOSED,
        Event.RELAPSED: State.OPEN,
        Event.TRIP: State.OPEN,
        Event.FORCE_OPEN: State.FORCED_OPEN,
        Event.DISABLE: State.DISABLED,
        Event.RESET: State.CLOSED,
    },
    State.FORCED_OPEN: {
        Event.TRIP: State.OPEN,
        Event.DISABLE: State.DISABLED,
        Event.RESET: State.CLOSED,
    },
    State.DISABLED: {
        Event.TRIP: State.OPEN,
        Event.FORCE_OPEN: State.FORCED_OPEN,
        Event.RESET: State.CLOSED,
    },
}

WAYS: Final[dict[State, dict[State, tuple[Event, ...]]]] = {
    State.CLOSED: {State.OPEN: (Event.TRIPPED,), State.HALF_OPEN: (Event.TRIPPED, Event.COOLED)},
    State.OPEN: {State.HALF_OPEN: (Event.COOLED,), State.CLOSED: (Event.COOLED, Event.RECOVERED)},
    State.HALF_OPEN: {State.OPEN: (Event.RELAPSED,), State.CLOSED: (Event.RECOVERED,)},
    State.FORCED_OPEN: {State.OPEN: (Event.TRIP,), State.HALF_OPEN: (Event.TRIP, Event.COOLED)},
    State.DISABLED: {State.OPEN: (Event.TRIP,), State.HALF_OPEN: (Event.TRIP, Event.COOLED)},
}
"""How a circuit that follows others comes from its state to theirs; else by `STEERED`."""

STEERED: Final = {
    State.FORCED_OPEN: Event.FORCE_OPEN,
    State.DISABLED: Event.DISABLE,
    State.CLOSED: Event.RESET,
}
"""What brings any other circuit into a state, by hand."""


def diagram() -> str:
    """The table as a Mermaid state diagram: one arrow for each entry."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.CLOSED}"]
    for state, row in TABLE.items():
        lines += [f"    {state} --> {new}: {event}" for event, new in row.items()]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a circuit goes by; taken on trust, for the policy that builds it has checked it.

    Attributes:
        consecutive: trip at this many failures in a row (>= 1), whatever the volume.
        failure_rate: trip when this share of the window, in (0, 1], has failed.
        slow_rate: trip when this share of the window, in (0, 1], was slow. ``None``: no call is
            ever slow. ``None`` for any of the three: never trip for that reason.
        minimum: calls the window must hold before a share of it means anything (>= 1).
        calls, span_ns: the window is the last *calls* calls or the last *span_ns* nanoseconds. At
            most one of them; with neither, the last ``max(minimum, consecutive)`` calls.
        open_for_ns, max_open_ns, growth, jitter: after *k* consecutive re-opens the circuit stays
            open for ``min(max_open_ns, open_for_ns * growth**k)``, times a number drawn from
            [1 - jitter, 1 + jitter); growth >= 1, 0 <= jitter < 1. *k* begins anew at 0 when the
            circuit was closed for a full healthy window: one span of time, or more calls than
            the window holds.
        probes: how many calls at once the half-open circuit tries, and how many must pass (>= 1).
        probe_timeout_ns: the lease of a probe.
        ramp_ns, ramp_start: for so long after recovery only a share of the calls is admitted; it
            grows linearly from *ramp_start*, in (0, 1], to all. 0: no ramp. During the ramp,
            ``min(minimum, probes)`` calls are volume enough.
    """

    consecutive: int | None = None
    failure_rate: float | None = None
    slow_rate: float | None = None
    minimum: int
    calls: int | None = None
    span_ns: int | None = None
    open_for_ns: int
    max_open_ns: int
    growth: float = 2.0
    jitter: float = 0.25
    probes: int
    probe_timeout_ns: int
    ramp_ns: int = 0
    ramp_start: float = 0.1

    def window_size(self) -> int:
        """How many calls a window of calls holds."""
        return self.calls or max(self.minimum, self.consecutive or 1)

    def open_time(self, k: int, u: float) -> int:
        """Nanoseconds to stay open after *k* consecutive re-opens; *u*, in [0, 1), is chance."""
        try:
            base = min(self.max_open_ns, int(self.open_for_ns * self.growth**k))
        except OverflowError:  # beyond any float, and so beyond any limit
            base = self.max_open_ns
        return base + int(base * (self.jitter * (2.0 * u - 1.0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A circuit at one moment.

    Attributes:
        state, generation: where it stands, and after how many transitions.
        total, failures, slow: the calls in the window; when not closed, what is left of it.
        consecutive: failures in a row.
        reopens: *k*, see `Settings`.
        live, passed: probes under way, and probes that passed.
        share: how much of the traffic passes: 1.0; less during a ramp; 0.0 if only probes, or none.
        retry_after: seconds until a call has a chance: 0.0 if now, ``None`` if nobody knows.
    """

    state: State
    generation: int
    total: int
    failures: int
    slow: int
    consecutive: int
    reopens: int
    live: int
    passed: int
    share: float
    retry_after: float | None
