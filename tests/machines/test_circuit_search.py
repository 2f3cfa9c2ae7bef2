"""Every interleaving of three callers on a small circuit: an exhaustive search of its states.

Two failures trip, two probes close. A caller may ask, end well, end badly, be cancelled, or vanish;
the open time may pass, and the leases. The search visits every state that can be reached and checks
each step. Because a search that finds nothing may be one that looks at nothing, the same search is
run on circuits that are broken in the ways real breakers were, and has to find every one.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from resilience.machines.circuit import (
    FAILURE,
    IGNORED,
    SUCCESS,
    Circuit,
    Event,
    Outcome,
    Permit,
    Probe,
    Settings,
    State,
    Transition,
)

CALLERS, TRIP_AT, PROBES, OPEN_FOR, LEASE = 3, 2, 2, 10, 5
SETTINGS = Settings(
    consecutive=TRIP_AT,
    minimum=1,
    open_for_ns=OPEN_FOR,
    max_open_ns=OPEN_FOR,
    growth=1.0,
    jitter=0.0,
    probes=PROBES,
    probe_timeout_ns=LEASE,
)


def half() -> float:
    """Chance plays no part here."""
    return 0.5


@dataclass
class World:
    """A circuit, its callers, and what an honest observer knows without looking inside."""

    circuit: Circuit
    callers: list[Permit | None] = field(default_factory=lambda: [None] * CALLERS)
    vanished: list[Probe] = field(default_factory=list)
    passed: int = 0
    now: int = 0

    def clone(self) -> World:
        """A world of its own, to try something in."""
        return copy.deepcopy(self, {id(SETTINGS): SETTINGS})

    def counts(self, permit: Permit | None) -> bool:
        """Whether the result of this permit may change anything."""
        if isinstance(permit, Probe):
            current = permit.generation == self.circuit.generation
            return current and self.now - permit.started < LEASE
        return permit == self.circuit.generation and self.circuit.state is State.CLOSED

    def live(self) -> int:
        """Probes under way, the vanished ones among them until their lease is over."""
        probes = [p for p in (*self.callers, *self.vanished) if isinstance(p, Probe)]
        return sum(self.counts(probe) for probe in probes)

    def face(self) -> tuple[object, ...]:
        """What the circuit shows, apart from numbers that only grow."""
        shown = self.circuit.snapshot(self.now)
        wait = self.circuit.retry_after(self.now)
        return shown.state, shown.consecutive, shown.live, shown.passed, wait

    def key(self) -> tuple[object, ...]:
        """Two worlds with one key have one future; which caller is which does not matter."""
        callers = sorted(self.what_is(permit) for permit in self.callers)
        vanished = sorted(self.what_is(probe) for probe in self.vanished if self.counts(probe))
        return self.face(), tuple(callers), tuple(vanished), self.passed

    def what_is(self, permit: Permit | None) -> str:
        """The caller's part in the future."""
        if permit is None:
            return "idle"
        if not self.counts(permit):
            return "stale probe" if isinstance(permit, Probe) else "stale"
        return f"probe {permit.started - self.now}" if isinstance(permit, Probe) else "call"


def ask(world: World, caller: int) -> Iterator[str]:
    """A caller asks to be admitted."""
    before, wait = world.circuit.state, world.circuit.retry_after(world.now)
    permit = world.circuit.admit(world.now, half)
    if before is State.OPEN and wait and permit is not None:
        yield "admitted while open"
    if world.circuit.state is not before:
        world.passed = 0
        if (before, world.circuit.state) != (State.OPEN, State.HALF_OPEN):
            yield "a call that was only asking moved the circuit"
    world.callers[caller] = permit
    if world.circuit.state is State.HALF_OPEN and world.live() + world.passed > PROBES:
        yield "too many probes"


def end(world: World, caller: int, outcome: Outcome) -> Iterator[str]:
    """A caller's call ends, and the observer judges what the circuit made of it."""
    permit, before, face = world.callers[caller], world.circuit.state, world.face()
    assert permit is not None
    counts, generation = world.counts(permit), world.circuit.generation
    world.callers[caller] = None
    if counts and isinstance(permit, Probe) and outcome is SUCCESS:
        world.passed += 1
    moved = world.circuit.settle(permit, outcome, False, world.now, half)
    after = world.circuit.state
    if world.circuit.generation != generation + (after is not before) or (moved is None) != (after is before):
        yield "generation and transition disagree"
    if not counts and face != world.face():
        yield f"a stale {outcome.value} changed something"
    if outcome is IGNORED and after is not before:
        yield "an ignored call moved the circuit"
    if before is State.HALF_OPEN and after is State.CLOSED and world.passed < PROBES:
        yield "closed without the probes"
    if before is State.HALF_OPEN and after is State.OPEN and not (counts and outcome is FAILURE):
        yield "re-opened without a failed probe"
    if after is not before:
        world.passed = 0


def steps(world: World) -> Iterator[tuple[World, list[str]]]:
    """Every world that is one step away, with what went wrong on the way there."""
    for caller, permit in enumerate(world.callers):
        if permit is None:
            there = world.clone()
            yield there, list(ask(there, caller))
            continue
        for outcome in Outcome:
            there = world.clone()
            yield there, list(end(there, caller, outcome))
        there = world.clone()
        gone, there.callers[caller] = there.callers[caller], None
        if isinstance(gone, Probe):
            there.vanished.append(gone)
        yield there, []
    if world.circuit.state in (State.OPEN, State.HALF_OPEN):
        there = world.clone()
        there.now += (there.circuit.retry_after(there.now) or 0) if _is_open(there) else LEASE - 2
        yield there, []


def _is_open(world: World) -> bool:
    return world.circuit.state is State.OPEN


def stuck(world: World) -> list[str]:
    """Whether a healthy service is not found again after the waits that were promised.

    Callers under way are cancelled first; a lease is waited for only where a caller vanished.
    """
    there = world.clone()
    for permit in there.callers:
        if permit is not None:
            there.circuit.settle(permit, IGNORED, False, there.now, half)
    if any(there.counts(probe) for probe in there.vanished):
        there.now += LEASE
    if _is_open(there):
        there.now += there.circuit.retry_after(there.now) or 0
    for _ in range(PROBES):
        permit = there.circuit.admit(there.now, half)
        if permit is None:
            return ["stuck"]
        there.circuit.settle(permit, SUCCESS, False, there.now, half)
    return [] if there.circuit.state is State.CLOSED else ["does not close"]


def search(make: Callable[[Settings], Circuit], limit: int = 2_000) -> tuple[int, set[str]]:
    """Visit every state that can be reached; return how many there are, and all that is wrong."""
    first = World(make(SETTINGS))
    seen, queue, wrong = {first.key()}, deque([first]), set[str]()
    while queue:
        world = queue.popleft()
        wrong.update(stuck(world))
        for there, faults in steps(world):
            wrong.update(faults)
            key = there.key()
            if key not in seen:
                seen.add(key)
                queue.append(there)
        if len(seen) > limit:
            break
    return len(seen), wrong


class StaleSuccessCloses(Circuit):
    """Broken: a success from before the trip counts as a probe's."""

    __slots__ = ()

    def settle(
        self, permit: Permit, outcome: Outcome, slow: bool, now: int, random: Callable[[], float]
    ) -> Transition | None:
        """No generation is compared."""
        if self.state is State.HALF_OPEN and outcome is SUCCESS and not isinstance(permit, Probe):
            permit = Probe(self.generation, now)
            self._live.append(permit)
        return super().settle(permit, outcome, slow, now, random)


class StaleFailureReopens(Circuit):
    """Broken: a failure from before the trip opens the half-open circuit again."""

    __slots__ = ()

    def settle(
        self, permit: Permit, outcome: Outcome, slow: bool, now: int, random: Callable[[], float]
    ) -> Transition | None:
        """No generation is compared."""
        if self.state is State.HALF_OPEN and outcome is FAILURE and not isinstance(permit, Probe):
            return self._open(Event.RELAPSED, now, random)
        return super().settle(permit, outcome, slow, now, random)


class StaleFailureTrips(Circuit):
    """Broken: a failure from before the trip counts after the circuit has closed again."""

    __slots__ = ()

    def settle(
        self, permit: Permit, outcome: Outcome, slow: bool, now: int, random: Callable[[], float]
    ) -> Transition | None:
        """No generation is compared."""
        if self.state is State.CLOSED and not isinstance(permit, Probe):
            permit = self.generation
        return super().settle(permit, outcome, slow, now, random)


class CancelKeepsTheSlot(Circuit):
    """Broken: a cancelled probe does not give its slot back."""

    __slots__ = ()

    def settle(
        self, permit: Permit, outcome: Outcome, slow: bool, now: int, random: Callable[[], float]
    ) -> Transition | None:
        """Cancelled calls are forgotten entirely."""
        if outcome is IGNORED:
            return None
        return super().settle(permit, outcome, slow, now, random)


class LeaseNeverEnds(Circuit):
    """Broken: a probe that vanished holds its slot for ever."""

    __slots__ = ()

    def _unexpired(self, now: int) -> list[Probe]:
        return list(self._live)


class PassedProbesAreForgotten(Circuit):
    """Broken: only the probes under way are bounded."""

    __slots__ = ()

    def admit(self, now: int, random: Callable[[], float]) -> Permit | None:
        """Passed probes are not held against the limit."""
        passed, self._passed = self._passed, 0
        permit = super().admit(now, random)
        self._passed = passed if self.state is State.HALF_OPEN else 0
        return permit


class OpensTooEarly(Circuit):
    """Broken: probes go before the open time is over."""

    __slots__ = ()

    def admit(self, now: int, random: Callable[[], float]) -> Permit | None:
        """The wait is halved."""
        return super().admit(now + OPEN_FOR if self.state is State.OPEN else now, random)


class LateResultIsHeard(Circuit):
    """Broken: a probe reports after its lease, when others have taken its slot."""

    __slots__ = ()

    def settle(
        self, permit: Permit, outcome: Outcome, slow: bool, now: int, random: Callable[[], float]
    ) -> Transition | None:
        """The lease is not looked at."""
        if isinstance(permit, Probe) and permit.generation == self.generation:
            permit.started = now
            self._live = [p for p in self._live if p is not permit] + [permit]
        return super().settle(permit, outcome, slow, now, random)


def test_no_interleaving_breaks_the_circuit() -> None:
    """In every state that three callers can bring about, every step is right and none is stuck."""
    states, wrong = search(Circuit)

    assert set() == wrong
    assert 100 < states < 2_000


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        (StaleSuccessCloses, "closed without the probes"),
        (StaleFailureReopens, "re-opened without a failed probe"),
        (StaleFailureTrips, "a stale failure changed something"),
        (CancelKeepsTheSlot, "stuck"),
        (LeaseNeverEnds, "stuck"),
        (PassedProbesAreForgotten, "too many probes"),
        (OpensTooEarly, "admitted while open"),
        (LateResultIsHeard, "a stale success changed something"),
    ],
)
def test_the_search_finds_what_broke_real_breakers(broken: type[Circuit], fault: str) -> None:
    """Each known defect, put back in, is found by the same search and by its own name."""
    _, wrong = search(broken, limit=600)

    assert fault in wrong
