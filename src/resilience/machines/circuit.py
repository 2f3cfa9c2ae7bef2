"""A circuit breaker: when to move between the states of ``circuit_types.py``, and whom to admit.

The rules of this file:

1. Every transition adds one to ``generation``. A permit carries the generation it was given in, and
   a result whose generation has passed changes nothing at all: a call begun before the trip can
   neither close the circuit nor open it again.
2. Every permit ends in exactly one of success, failure, ignored. *Ignored* (cancelled, abandoned,
   refused further in) counts nowhere and gives a probe its slot back. A probe that never ends loses
   its slot when its lease runs out, and what it reports later is not heard. The first is prompt,
   the second is certain; together they keep a half-open circuit from sticking.
3. Half-open, live probes and passed probes together are never more than ``probes``. When that many
   have passed the circuit closes; one that fails (or is slow) opens it again, for longer.
4. Only a failure or a slow call is weighed. A success never trips, not even the one that completes
   the minimum volume. That is what makes the healthy path cheap.
5. A circuit may be *led*, as one of a fleet that shares one state: it follows, never becomes
   half-open by itself, probes only when told to, and leaves rates to whoever leads. On its own
   again it goes on from where it stands.
6. Nothing happens by itself. An open circuit becomes half-open when a call comes along after the
   open time; a ramp ends, and the count of re-opens is forgotten, when somebody looks.

What is not elegant: ``open_gate``, ``generation``, ``counting``, ``run`` and ``window`` are public,
so that a caller in a hurry can admit and settle a healthy call without calling a method. The
circuit never rebinds its window. ``open_gate`` and then ``generation`` may even be read without the
lock. A permit taken at the very moment of a trip may then be of the generation before it or after;
either counts nowhere, and the call is one that came a moment before.

This file knows nothing of clocks, locks, listeners, exceptions or randomness: time is handed in as
monotonic integer nanoseconds, chance as a function returning a number in [0, 1). What counts as a
failure, or as slow, is the caller's judgment. After a clock stepped back, an open time, a lease or
a ramp lasts until the clock has caught up; it is never cut short.

Sources: generations, sony/gobreaker; the three outcomes, Netflix concurrency-limits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from .circuit_types import STEERED, TABLE, WAYS, Event, Outcome, Settings, Snapshot, State, Transition, diagram
from .windows import CallWindow, TimeWindow

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "FAILURE", "IGNORED", "SUCCESS", "Circuit", "Event", "Outcome", "Permit", "Probe", "Settings",
    "Snapshot", "State", "Transition", "diagram",
]  # fmt: skip

CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN
FORCED_OPEN, DISABLED = State.FORCED_OPEN, State.DISABLED
SUCCESS: Final = Outcome.SUCCESS
FAILURE: Final = Outcome.FAILURE
IGNORED: Final = Outcome.IGNORED


class Probe:
    """The permit of a half-open circuit; its lease begins at *started*."""

    __slots__ = ("generation", "started")

    def __init__(self, generation: int, started: int) -> None:
        self.generation = generation
        self.started = started


Permit: TypeAlias = int | Probe
"""What an admitted call carries until it is settled: the generation, or a `Probe`."""


class Circuit:
    """Hands out permits, hears how the calls ended, and changes its state accordingly.

    Not thread-safe: the caller holds a lock around every method. ``now`` is monotonic integer
    nanoseconds; ``random`` is called only where chance is needed. No method's cost grows with the
    window.

    Attributes:
        open_gate: every call is admitted, with ``generation`` as its permit; no need to ask.
        counting: the generation whose plain permits count; -1 if there is none.
        led: whether it follows a fleet.
        run: failures in a row.
        window: the calls since the circuit closed.
    """

    __slots__ = (
        "_live", "_opens", "_passed", "_since", "_until",
        "counting", "generation", "led", "open_gate", "run", "settings", "state", "window",
    )  # fmt: skip

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.state = CLOSED
        self.generation = 0
        self.open_gate = True
        self.led = False
        self.counting = 0
        self.run = 0
        self.window: CallWindow | TimeWindow
        if settings.span_ns is None:
            self.window = CallWindow(settings.window_size())
        else:
            self.window = TimeWindow(settings.span_ns)
        self._since = 0  # the last transition
        self._until = 0  # the end of the open time
        self._opens = 0  # consecutive: 1 + the k of the last open time
        self._live: list[Probe] = []
        self._passed = 0

    def admit(self, now: int, random: Callable[[], float]) -> Permit | None:
        """Give the permit for one call, or ``None``: refused, see `retry_after`.

        The one transition made here is from open to half-open; ``generation`` shows it.
        """
        if self.open_gate:
            return self.generation
        if self.state is CLOSED:
            admitted = self._ramp_over(now) or random() < self._share(now)
            return self.generation if admitted else None
        if self.led:
            return None
        if self.state is OPEN and now >= self._until:
            self._move(Event.COOLED, now)
        if self.state is not HALF_OPEN:
            return None
        self._live = self._unexpired(now)
        if len(self._live) + self._passed >= self.settings.probes:
            return None
        probe = Probe(self.generation, now)
        self._live.append(probe)
        return probe

    def success(self, permit: int, now: int) -> None:
        """Settle a plain permit whose call succeeded and was not slow: `settle`, in short.

        Only a window of time needs *now*; with a window of calls any number will do.
        """
        if permit == self.counting:
            self.run = 0
            window = self.window
            if now >= window.edge:
                window.rotate(now)
            window.n += 1

    def settle(
        self, permit: Permit, outcome: Outcome, slow: bool, now: int, random: Callable[[], float]
    ) -> Transition | None:
        """Hear how a call ended; return the transition it caused, if any, for listeners.

        To be called exactly once for each permit. A probe settled again, after its lease, or in
        another generation changes nothing.
        """
        failed = outcome is FAILURE
        slow = slow and self.settings.slow_rate is not None
        if isinstance(permit, Probe):
            return self._settle_probe(permit, outcome, failed or slow, now, random)
        if permit != self.counting or outcome is IGNORED:
            return None
        self.run = self.run + 1 if failed else 0
        self.window.record(now, failed, slow)
        if (failed or slow) and self._too_bad(now):
            return self._open(Event.TRIPPED, now, random)
        return None

    def retry_after(self, now: int) -> int | None:
        """Nanoseconds until a call has a chance: 0 if now, ``None`` if nobody knows.

        Half-open, with every slot taken: the end of the oldest lease; a slot may be free long
        before. During a ramp, where chance decides: a tenth of what is left of it.
        """
        settings = self.settings
        if self.state is FORCED_OPEN:
            return None
        if self.state is OPEN or (self.led and self.state is HALF_OPEN):
            return max(0, self._until - now)
        if self.state is HALF_OPEN:
            live = self._unexpired(now)
            if len(live) + self._passed < settings.probes:
                return 0
            return min(probe.started for probe in live) + settings.probe_timeout_ns - now
        if self._share(now) == 1.0:
            return 0
        return max(1, (self._since + settings.ramp_ns - now) // 10)

    def trip(self, now: int, random: Callable[[], float]) -> Transition | None:
        """Open, as if too many calls had failed; does nothing to an open circuit."""
        return self._open(Event.TRIP, now, random)

    def force_open(self, now: int) -> Transition | None:
        """Refuse every call, until told otherwise."""
        return self._steer(Event.FORCE_OPEN, now)

    def disable(self, now: int) -> Transition | None:
        """Admit every call and count none, until told otherwise."""
        return self._steer(Event.DISABLE, now)

    def reset(self, now: int) -> Transition | None:
        """Close without a ramp and begin as new; calls under way are no longer counted."""
        return self._steer(Event.RESET, now)

    def follow(self, state: State, wait: int, opens: int, passed: int, now: int) -> list[Transition]:
        """Be led from now on, and come to the fleet's *state*; returns the transitions on the way.

        It is *wait* nanoseconds until a probe may be asked for. There were *opens* open times since
        the fleet was healthy, and *passed* of its probes have passed.
        """
        self.led = True
        way: tuple[Event, ...] = ()
        if state is not self.state:
            closing = state is CLOSED and not opens  # by hand, so without a ramp
            way = () if closing else WAYS[self.state].get(state, ())
            way = way or (STEERED[state],)
        moves = [moved for event in way if (moved := self._move(event, now))]
        self._until, self._opens, self._passed = now + wait, opens, passed
        return moves

    def probe(self, now: int) -> Probe:
        """The permit for a probe that the fleet has leased to this circuit at *now*."""
        probe = Probe(self.generation, now)
        self._live.append(probe)
        return probe

    def snapshot(self, now: int) -> Snapshot:
        """The circuit as it stands at *now*."""
        total, failures, slow = self.window.counts(now)
        wait = self.retry_after(now)
        return Snapshot(
            state=self.state,
            generation=self.generation,
            total=total,
            failures=failures,
            slow=slow,
            consecutive=self.run,
            reopens=0 if self._healthy(now) else max(0, self._opens - 1),
            live=len(self._unexpired(now)),
            passed=self._passed,
            share=self._share(now),
            retry_after=None if wait is None else wait / 1e9,
        )

    def _move(self, event: Event, now: int) -> Transition | None:
        """The only place where the state changes."""
        old, new = self.state, TABLE[self.state].get(event)
        if new is None:
            return None
        ramp = event is Event.RECOVERED and self.settings.ramp_ns > 0
        self.open_gate = new is DISABLED or (new is CLOSED and not ramp)  # first: see above
        self.state = new
        self.generation += 1
        self.counting = self.generation if new is CLOSED else -1
        self._since = now
        self._live.clear()
        self._passed = 0
        if new is CLOSED:
            self.run = 0
            self.window.clear()
        return Transition(old, new, event, self.generation)

    def _steer(self, event: Event, now: int) -> Transition | None:
        moved = self._move(event, now)
        if moved is not None:
            self._opens = 0
        return moved

    def _open(self, event: Event, now: int, random: Callable[[], float]) -> Transition | None:
        opens = 0 if self._healthy(now) else self._opens
        moved = self._move(event, now)
        if moved is not None:
            self._until = now + self.settings.open_time(opens, random())
            self._opens = opens + 1
        return moved

    def _settle_probe(
        self, probe: Probe, outcome: Outcome, bad: bool, now: int, random: Callable[[], float]
    ) -> Transition | None:
        if probe not in self._live:  # settled before, lease over, or of another generation
            return None
        self._live.remove(probe)
        if outcome is IGNORED or now - probe.started >= self.settings.probe_timeout_ns:
            return None
        if bad:
            return self._open(Event.RELAPSED, now, random)
        self._passed += 1
        if self._passed < self.settings.probes:
            return None
        return self._move(Event.RECOVERED, now)

    def _too_bad(self, now: int) -> bool:
        settings = self.settings
        if settings.consecutive is not None and self.run >= settings.consecutive:
            return True
        return not self.led and self.window_bad(now)

    def volume(self, now: int) -> int:
        """The calls that a window must hold at *now*."""
        settings = self.settings
        return settings.minimum if self._ramp_over(now) else min(settings.minimum, settings.probes)

    def window_bad(self, now: int) -> bool:
        """Whether too large a share of the window has failed, or was slow."""
        settings = self.settings
        minimum = self.volume(now)
        total, failures, slow = self.window.counts(now)
        # A quotient, not a product: 3 / 10 >= 0.3 is certain, 3 >= 0.3 * 10 is luck of rounding.
        return total >= minimum and (
            (settings.failure_rate is not None and failures / total >= settings.failure_rate)
            or (settings.slow_rate is not None and slow / total >= settings.slow_rate)
        )

    def _healthy(self, now: int) -> bool:
        """Whether the circuit was closed for a full window, without the call that trips."""
        if self.state is not CLOSED:
            return False
        if self.settings.span_ns is None:
            return self.window.n > self.settings.window_size()
        return now - self._since >= self.settings.span_ns

    def _ramp_over(self, now: int) -> bool:
        """Whether a closed circuit admits all; a ramp that has ended does not come back."""
        if self.state is CLOSED and now - self._since >= self.settings.ramp_ns:
            self.open_gate = True
        return self.open_gate

    def _share(self, now: int) -> float:
        if self.open_gate:
            return 1.0
        if self.state is not CLOSED:
            return 0.0
        start = self.settings.ramp_start
        done = max(0, now - self._since) / self.settings.ramp_ns
        return min(1.0, start + (1.0 - start) * done)

    def _unexpired(self, now: int) -> list[Probe]:
        timeout = self.settings.probe_timeout_ns
        return [probe for probe in self._live if now - probe.started < timeout]
