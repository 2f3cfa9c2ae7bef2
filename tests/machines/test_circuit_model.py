"""The circuit against a plain model of it, step by step, under whatever callers may do.

Up to six calls are in flight at once; they end late, twice, in any order or never; the clock steps
both ways; somebody steers by hand. The model keeps lists and counts them anew whenever asked.
Numbers are chosen so that its exact fractions and the circuit's floats agree to the last digit.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

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
from resilience.machines.circuit_types import TABLE

CELLS = 10
CHANCE = st.sampled_from([n / 8 for n in range(8)])
OUTCOMES = st.sampled_from([SUCCESS, FAILURE, FAILURE, IGNORED])


class Model:
    """What a circuit should do, said without any thought of speed."""

    def __init__(self, settings: Settings) -> None:
        self.s = settings
        self.state = State.CLOSED
        self.generation = 0
        self.log: list[tuple[int, bool, bool]] = []  # when, failed, slow: since it closed
        self.newest = 0  # the latest time the window was told
        self.since = self.until = 0
        self.opens = 0
        self.ramping = False
        self.live: dict[int, int] = {}  # id of the probe: when it started
        self.passed = 0

    def move(self, new: State, now: int) -> None:
        self.state, self.since = new, now
        self.generation += 1
        self.live, self.passed, self.ramping = {}, 0, False
        if new is State.CLOSED:
            self.log = []

    def healthy(self, now: int, before: int) -> bool:
        """Whether it was closed for a full window; *before*: calls recorded before this one."""
        if self.state is not State.CLOSED:
            return False
        if self.s.span_ns is not None:
            return now - self.since >= self.s.span_ns
        return before >= (self.s.calls or max(self.s.minimum, self.s.consecutive or 1))

    def open(self, now: int, u: float, before: int) -> None:
        k = 0 if self.healthy(now, before) else self.opens
        time = min(Fraction(self.s.max_open_ns), self.s.open_for_ns * Fraction(self.s.growth) ** k)
        time *= 1 + Fraction(self.s.jitter) * (2 * Fraction(u) - 1)
        assert time.denominator == 1
        self.move(State.OPEN, now)
        self.until, self.opens = now + int(time), k + 1

    def steer(self, new: State, now: int) -> None:
        self.move(new, now)
        self.opens = 0

    def window(self, now: int) -> list[tuple[int, bool, bool]]:
        self.newest = max(self.newest, now)
        if self.s.span_ns is None:
            return self.log[-(self.s.calls or max(self.s.minimum, self.s.consecutive or 1)) :]
        width = self.s.span_ns // CELLS
        return [call for call in self.log if call[0] // width > self.newest // width - CELLS]

    def run(self) -> int:
        run = 0
        for _, failed, _ in self.log:
            run = run + 1 if failed else 0
        return run

    def share(self, now: int) -> Fraction:
        if not self.ramping:
            return Fraction(self.state in (State.CLOSED, State.DISABLED))
        start = Fraction(self.s.ramp_start)
        return min(Fraction(1), start + (1 - start) * Fraction(max(0, now - self.since)) / self.s.ramp_ns)

    def end_ramp(self, now: int) -> None:
        self.ramping = self.ramping and now - self.since < self.s.ramp_ns

    def admits(self, now: int, u: float) -> bool:
        if self.state is State.CLOSED:
            self.end_ramp(now)
            return u < self.share(now)
        if self.state is State.OPEN and now >= self.until:
            self.move(State.HALF_OPEN, now)
        if self.state is State.HALF_OPEN:
            lease = self.s.probe_timeout_ns
            self.live = {p: at for p, at in self.live.items() if now - at < lease}
            return len(self.live) + self.passed < self.s.probes
        return self.state is State.DISABLED

    def settle(self, permit: Permit, outcome: Outcome, slow: bool, now: int, u: float) -> None:
        slow = slow and self.s.slow_rate is not None
        bad = outcome is FAILURE or slow
        if isinstance(permit, Probe):
            started = self.live.pop(id(permit), None)
            expired = started is None or now - started >= self.s.probe_timeout_ns
            if expired or outcome is IGNORED:
                return
            if bad:
                self.open(now, u, 0)
                return
            self.passed += 1
            if self.passed == self.s.probes:
                self.move(State.CLOSED, now)
                self.ramping = self.s.ramp_ns > 0
        elif self.state is State.CLOSED and permit == self.generation and outcome is not IGNORED:
            self.newest = max(self.newest, now)
            self.log.append((self.newest, outcome is FAILURE, slow))
            if bad and self.too_bad(now):
                self.open(now, u, len(self.log) - 1)

    def too_bad(self, now: int) -> bool:
        if self.s.consecutive is not None and self.run() >= self.s.consecutive:
            return True
        self.end_ramp(now)
        window = self.window(now)
        minimum = min(self.s.minimum, self.s.probes) if self.ramping else self.s.minimum
        if len(window) < minimum:
            return False
        failures = Fraction(sum(failed for _, failed, _ in window), len(window))
        slow = Fraction(sum(slow for _, _, slow in window), len(window))
        return (self.s.failure_rate is not None and failures >= Fraction(self.s.failure_rate)) or (
            self.s.slow_rate is not None and slow >= Fraction(self.s.slow_rate)
        )


class CircuitFollowsTheModel(RuleBasedStateMachine):
    """Circuit and model are told the same and have to agree."""

    @initialize(
        consecutive=st.sampled_from([None, 2, 3]),
        failure_rate=st.sampled_from([None, 0.5, 0.75]),
        slow_rate=st.sampled_from([None, None, 0.5, 1.0]),
        minimum=st.integers(1, 6),
        window=st.sampled_from([(None, None), (6, None), (10, None), (None, 200), (None, 1_000)]),
        probes=st.integers(1, 3),
        limit=st.sampled_from([800, 3_200]),
        ramp_ns=st.sampled_from([0, 0, 300, 800]),
    )
    def build(
        self,
        consecutive: int | None,
        failure_rate: float | None,
        slow_rate: float | None,
        minimum: int,
        window: tuple[int | None, int | None],
        probes: int,
        limit: int,
        ramp_ns: int,
    ) -> None:
        self.settings = Settings(
            consecutive=consecutive,
            failure_rate=failure_rate,
            slow_rate=slow_rate,
            minimum=minimum,
            calls=window[0],
            span_ns=window[1],
            open_for_ns=400,
            max_open_ns=limit,
            probes=probes,
            probe_timeout_ns=250,
            ramp_ns=ramp_ns,
            ramp_start=0.125,
        )
        self.circuit, self.model = Circuit(self.settings), Model(self.settings)
        self.now = 10_000
        self.flying: list[Permit] = []
        self.spent: list[Probe] = []

    def follow(self, moved: Transition | None, before: State, generation: int) -> None:
        """A transition that is reported was made, and is in the table; else there was none."""
        if moved is None:
            assert (before, generation) == (self.circuit.state, self.circuit.generation)
        else:
            assert moved.old is before
            assert TABLE[before][moved.event] is moved.new is self.circuit.state
            assert moved.generation == self.circuit.generation == generation + 1

    def random(self, u: float) -> Callable[[], float]:
        return lambda: u

    @rule(step=st.one_of(st.integers(-300, 300), st.integers(0, 120), st.integers(0, 5_000)))
    def pass_time(self, step: int) -> None:
        """The clock moves, mostly forwards."""
        self.now += step

    @precondition(lambda self: self.model.state in (State.OPEN, State.HALF_OPEN))
    @rule(short=st.sampled_from([1, 0]))
    def pass_open_time(self, short: int) -> None:
        """The clock comes to the last moment before, or the first after, the open time."""
        self.now = max(self.now, self.model.until - short)

    @precondition(lambda self: len(self.flying) < 6)
    @rule(u=CHANCE, again=st.integers(1, 4))
    def call(self, u: float, again: int) -> None:
        """Calls ask to be admitted."""
        for _ in range(min(again, 6 - len(self.flying))):
            before, generation = self.circuit.state, self.circuit.generation
            expected = self.model.admits(self.now, u)
            gate = self.circuit.open_gate
            permit = self.circuit.admit(self.now, self.random(u))

            assert expected == (permit is not None)
            assert not (before is State.OPEN and self.now < self.model.until and permit is not None)
            assert self.circuit.generation - generation == (before is not self.circuit.state)
            if permit is None:
                wait = self.circuit.retry_after(self.now)
                assert wait is None if before is State.FORCED_OPEN else wait is not None and wait > 0
                continue
            assert isinstance(permit, Probe) == (self.circuit.state is State.HALF_OPEN)
            assert not gate or permit == self.circuit.generation
            if isinstance(permit, Probe):
                self.model.live[id(permit)] = self.now
            self.flying.append(permit)

    @precondition(lambda self: self.flying)
    @rule(which=st.integers(0, 5), outcome=OUTCOMES, slow=st.booleans(), u=CHANCE)
    def end(self, which: int, outcome: Outcome, slow: bool, u: float) -> None:
        """A call ends; whichever."""
        permit = self.flying.pop(which % len(self.flying))
        before, generation = self.circuit.state, self.circuit.generation
        self.model.settle(permit, outcome, slow, self.now, u)
        if outcome is SUCCESS and not slow and not isinstance(permit, Probe):
            self.circuit.success(permit, self.now)
        else:
            moved = self.circuit.settle(permit, outcome, slow, self.now, self.random(u))
            self.follow(moved, before, generation)
        if isinstance(permit, Probe):
            self.spent.append(permit)

    @precondition(lambda self: self.flying)
    @rule(which=st.integers(0, 5))
    def abandon(self, which: int) -> None:
        """A call is never heard of again."""
        permit = self.flying.pop(which % len(self.flying))
        if isinstance(permit, Probe):
            self.spent.append(permit)  # keeps it alive, and so its id its own

    @precondition(lambda self: any(id(p) not in self.model.live for p in self.spent))
    @rule(outcome=OUTCOMES, u=CHANCE)
    def end_twice(self, outcome: Outcome, u: float) -> None:
        """A probe that has ended ends again: nothing happens."""
        probe = next(p for p in self.spent if id(p) not in self.model.live)
        before = self.circuit.snapshot(self.now)
        self.model.window(self.now)

        assert self.circuit.settle(probe, outcome, False, self.now, self.random(u)) is None
        assert before == self.circuit.snapshot(self.now)

    @rule(event=st.sampled_from([Event.TRIP, Event.FORCE_OPEN, Event.DISABLE, Event.RESET]), u=CHANCE)
    def steer(self, event: Event, u: float) -> None:
        """Somebody takes the wheel."""
        before, generation = self.circuit.state, self.circuit.generation
        new = TABLE[before].get(event)
        if event is Event.TRIP:
            moved = self.circuit.trip(self.now, self.random(u))
            if new is not None:
                # By hand, a full window is one call more: no call trips here.
                self.model.open(self.now, u, len(self.model.log) - 1)
        else:
            act = {
                Event.FORCE_OPEN: self.circuit.force_open,
                Event.DISABLE: self.circuit.disable,
                Event.RESET: self.circuit.reset,
            }
            moved = act[event](self.now)
            if new is not None:
                self.model.steer(new, self.now)
        assert (new is None) == (moved is None)
        self.follow(moved, before, generation)

    @rule()
    def look(self) -> None:
        """The snapshot shows what the model counts."""
        shown, window = self.circuit.snapshot(self.now), self.model.window(self.now)
        failures, slow = sum(c[1] for c in window), sum(c[2] for c in window)
        healthy = self.model.healthy(self.now, len(self.model.log) - 1)

        assert (len(window), failures, slow) == (shown.total, shown.failures, shown.slow)
        assert shown.reopens == (0 if healthy else max(0, self.model.opens - 1))
        assert abs(shown.share - self.model.share(self.now)) < 1e-12
        assert shown == self.circuit.snapshot(self.now)

    @invariant()
    def agree(self) -> None:
        """State, generation, run and probes are the same on both sides."""
        circuit, model = self.circuit, self.model
        lease = self.settings.probe_timeout_ns
        live = sum(self.now - at < lease for at in model.live.values())

        assert (model.state, model.generation) == (circuit.state, circuit.generation)
        assert model.run() == circuit.run
        assert (live, model.passed) == (len(circuit._unexpired(self.now)), circuit._passed)
        assert live + model.passed <= self.settings.probes
        counting = circuit.counting if circuit.state is State.CLOSED else circuit.generation
        assert counting == circuit.generation

    def teardown(self) -> None:
        """Once the service is healthy and the waits are over, calls pass and the circuit closes."""
        if not hasattr(self, "circuit") or self.circuit.state in (
            State.FORCED_OPEN,
            State.DISABLED,
        ):
            return
        self.now = max(self.now, self.model.until, *self.model.live.values(), 0) + 10**6
        for _ in range(self.settings.probes):
            permit = self.circuit.admit(self.now, self.random(0.0))
            assert permit is not None
            self.circuit.settle(permit, SUCCESS, False, self.now, self.random(0.0))
        assert self.circuit.state is State.CLOSED


TestCircuitFollowsTheModel = CircuitFollowsTheModel.TestCase
TestCircuitFollowsTheModel.settings = hypothesis_settings(max_examples=120, stateful_step_count=60, deadline=None)
