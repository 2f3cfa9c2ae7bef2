"""The circuit breaker: the lock, the clock and the words around `resilience.machines.circuit`."""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING, Any

from .. import _checks
from .._checks import NS, to_ns
from .._hooks import ask, notify
from .._listen import LISTENERS, tell
from .._part import Part
from ..errors import CircuitOpen
from ..events import CircuitChanged
from ..machines.circuit import FAILURE, IGNORED, SUCCESS, Circuit
from ..machines.circuit_types import Event, State, Transition
from ._circuit_settings import settings_of
from ._sharing import check_store
from .percentile_timeout import PercentileTimeout
from .retry import Failures

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from .._runtime import Runtime
    from ..clock import Clock
    from ..machines.circuit import Permit
    from ..machines.circuit_types import Outcome, Snapshot
    from ..stores import Store
    from ._shared_circuit import SharedCircuit

__all__ = ["CircuitBreaker"]


class CircuitBreaker(Part):
    """Stop calling a dependency that fails, let it recover, and ask it carefully whether it has.

    Closed, calls pass and their outcomes are weighed over a window: the last *window_calls* calls or the last
    *window_seconds* seconds. Open, calls are refused with `CircuitOpen`. After the open time up to *probes*
    calls are let through: if all of them go well it closes, if one fails it opens again for longer.

    Each admitted call ends in exactly one of success, failure, ignored. Cancelled calls, calls refused further in, and
    calls cut short by the caller's own deadline are ignored, and give a probe its slot back. A result from before the
    last change of state counts nowhere.

    Use one breaker for one dependency that fails as a whole; for shards or hosts, one for each:
    ``PerKey(CircuitBreaker(...), key=...)``.

    Args:
        failure_rate: opens when this share of the calls in the window has failed; ``None``: not for that reason.
        minimum: the calls the window must hold before a rate means anything.
        consecutive: opens at so many failures in a row; ``None``: not for that reason.
        slow_rate: opens when this share of the calls was slow; ``None``: not for that reason.
        slow_call: seconds from which a call is slow; needed with *slow_rate*. Or a `PercentileTimeout`: what takes as
            long as it allows now is slow.
        window_calls: the window in calls; then *window_seconds* does not apply.
        window_seconds: the window in seconds; 10 by default.
        open_for: seconds the circuit stays open the first time.
        max_open: seconds it stays open at most, when it opens again and again; by default 60, or *open_for* if that is
            longer.
        growth: by what the open time grows each time a probe fails.
        jitter: the open time is varied by up to this share, or all clients would probe at once.
        probes: calls let through half-open, all of which must go well.
        probe_timeout: seconds after which a probe that never ended loses its slot.
        ramp: seconds over which traffic comes back after recovery, from *ramp_start* to all of it; 0 for at once.
        ramp_start: the share of the calls admitted at the start of the ramp.
        on: which errors are failures of the dependency: exception classes, or a function of the error. Others count as
            success: they prove that it answers.
        ignore: which errors say nothing of the dependency, and count nowhere; asked before *on*.
        on_result: a function of the result that says whether it is a failure of the dependency.
        on_change: called with a `Transition` after each change of state, outside all locks; its errors are
            logged, never raised.
        rng: the randomness of jitter and ramp, a ``random.Random``.
        name: shown in messages; the policy's name by default.
        shadow: keep the state, but let every call pass and count what would have been refused.
        clock: where time comes from; the machine's clock by default.
        store: where a fleet of processes shares one circuit, such as a `resilience.stores.RedisStore`; by default this
            process is alone. Rates are then weighed over the calls of all, and one probes at a time.
        key: with a store, the name of the circuit in it; *name* by default.
        sync_every: with a store, seconds between exchanges; so old may be what this process knows of the others.

    Raises:
        ConfigError: an argument is out of range, nothing can ever open the circuit, or it cannot be shared.

    Thread-safe: state changes under one lock; a closed circuit is entered without it, by reading one attribute.
    """

    kind = "breaker"
    levels = frozenset({"window_total", "window_failures", "window_slow"})

    def __init__(
        self,
        *,
        failure_rate: float | None = 0.5,
        minimum: int = 20,
        consecutive: int | None = None,
        slow_rate: float | None = None,
        slow_call: float | PercentileTimeout | None = None,
        window_calls: int | None = None,
        window_seconds: float | None = None,
        open_for: float = 5.0,
        max_open: float | None = None,
        growth: float = 2.0,
        jitter: float = 0.25,
        probes: int = 3,
        probe_timeout: float = 30.0,
        ramp: float = 0.0,
        ramp_start: float = 0.1,
        on: type[BaseException] | tuple[type[BaseException], ...] | Callable[[Any], bool] = Exception,
        ignore: type[BaseException] | tuple[type[BaseException], ...] | Callable[[Any], bool] | None = None,
        on_result: Callable[[Any], bool] | None = None,
        on_change: Callable[[Transition], object] | None = None,
        rng: random.Random | None = None,
        name: str | None = None,
        shadow: bool = False,
        clock: Clock | None = None,
        store: Store | None = None,
        key: str | None = None,
        sync_every: float = 0.5,
    ) -> None:
        super().__init__(name=name, clock=clock)
        self.failure_rate = None if failure_rate is None else _checks.ratio("failure_rate", failure_rate)
        self.minimum = _checks.count("minimum", minimum)
        self.consecutive = None if consecutive is None else _checks.count("consecutive", consecutive)
        self.slow_rate = None if slow_rate is None else _checks.ratio("slow_rate", slow_rate)
        if slow_call is not None and not isinstance(slow_call, PercentileTimeout):
            slow_call = _checks.span("slow_call", slow_call)
        self.slow_call = slow_call
        self.window_calls = None if window_calls is None else _checks.count("window_calls", window_calls)
        self.window_seconds = None if window_seconds is None else _checks.span("window_seconds", window_seconds)
        self.open_for = _checks.span("open_for", open_for)
        self.max_open = None if max_open is None else _checks.span("max_open", max_open)
        self.growth = _checks.number("growth", growth, minimum=1)
        self.jitter = _checks.ratio("jitter", jitter, zero=True, one=False)
        self.probes = _checks.count("probes", probes)
        self.probe_timeout = _checks.span("probe_timeout", probe_timeout)
        self.ramp = _checks.seconds("ramp", ramp, zero=True)
        self.ramp_start = _checks.ratio("ramp_start", ramp_start)
        self.on = on
        self._failures = Failures("on", on)
        self.ignore = ignore
        self._ignored = None if ignore is None else Failures("ignore", ignore)
        self.on_result = None if on_result is None else _checks.function("on_result", on_result)
        self.on_change = None if on_change is None else _checks.function("on_change", on_change)
        if rng is not None and not callable(getattr(rng, "random", None)):
            raise TypeError(f"rng must be a random.Random, not {rng!r}")
        self.rng = rng
        self._random = random.random if rng is None else rng.random
        self.shadow = _checks.flag("shadow", shadow)
        self._circuit = Circuit(settings_of(self))
        self._slow_ns = to_ns(self.slow_call) if isinstance(self.slow_call, float) else None
        self.plain = self.on_result is None and not isinstance(self.slow_call, PercentileTimeout)
        """Whether nothing but a fixed number of seconds decides of a call that came back."""
        self._counts = dict.fromkeys(("refused", "shadow", "opened", "closed"), 0)
        self._spent = dict.fromkeys(State, 0)
        self._since = self._now.monotonic_ns()
        self.store = store
        self.key = None if key is None else _checks.text("key", key)
        self.sync_every = _checks.seconds("sync_every", sync_every)
        self.shared: SharedCircuit | None = None
        """The fleet's circuit, if there is a store."""
        check_store(store, self.key, self.name)
        if store is not None:
            self.share(store, self.key or self.name)

    def share(self, store: Store, *key: Hashable) -> None:
        """Be one of those that share the circuit *key* of *store*."""
        from ..stores import safe_key
        from ._shared_circuit import SharedCircuit, check_shareable

        check_shareable(self._circuit.settings)
        self.shared = SharedCircuit(self, store, safe_key(*key), to_ns(self.sync_every))

    def adopt(self, clock: Clock) -> None:
        """Take time from the clock of the policy this part is put into; what it follows too."""
        if clock is not self._now:
            self._since = clock.monotonic_ns()
        super().adopt(clock)
        if isinstance(self.slow_call, PercentileTimeout):
            self.slow_call.adopt(clock)

    # -- for people --------------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """Where the circuit stands. An open circuit becomes half-open when a call comes, not by itself."""
        return self._circuit.state

    @property
    def snapshot(self) -> Snapshot:
        """State, window, probes and the time of the next probe, at one moment; with a store, the window of all."""
        now = self._now.monotonic_ns()
        with self._lock:
            snapshot = self._circuit.snapshot(now)
            fleet = None if self.shared is None else self.shared.reply
        if fleet is None:
            return snapshot
        return dataclasses.replace(snapshot, total=fleet.total, failures=fleet.failures, slow=fleet.slow)

    def time_in(self) -> dict[State, float]:
        """Seconds spent in each state so far."""
        now = self._now.monotonic_ns()
        with self._lock:
            spent = dict(self._spent)
            spent[self._circuit.state] += max(0, now - self._since)
        return {state: ns / NS for state, ns in spent.items()}

    @property
    def counters(self) -> dict[str, int | float]:
        """Calls refused (or, in shadow, let pass), times opened and closed, and the window as it is."""
        now = self._now.monotonic_ns()
        with self._lock:
            total, failures, slow = self._circuit.window.counts(now)
            return {**self._counts, "window_total": total, "window_failures": failures, "window_slow": slow}

    # With a store, the four that follow steer the fleet: they block for one exchange. A store that is down is told as
    # soon as it is back.

    def force_open(self) -> None:
        """Refuse every call until `reset`."""
        self._steer(self._circuit.force_open)

    def disable(self) -> None:
        """Let every call pass and weigh none, until `reset`."""
        self._steer(self._circuit.disable)

    def reset(self) -> None:
        """Close, with an empty window; results of calls under way count nowhere."""
        self._steer(self._circuit.reset)

    def trip(self) -> None:
        """Open now, as if too many calls had failed."""
        self._steer(lambda now: self._circuit.trip(now, self._random))

    def _steer(self, verb: Callable[[int], Transition | None]) -> None:
        now = self._now.monotonic_ns()
        with self._lock:
            moved = verb(now)
            self._note(moved, now)
            if self.shared is not None:
                self.shared.steered()
        self._tell(moved)
        if self.shared is not None:
            self.shared.report_at_once()

    # -- for the story -------------------------------------------------------------------------------------------------

    def admit(self, who: str, now: int) -> Permit | None:
        """The permit for a call; ``None`` for one that shadow lets pass uncounted.

        Raises:
            CircuitOpen: the call is refused.
        """
        circuit = self._circuit
        if circuit.open_gate:
            # Read without the lock. If the circuit trips in between, the permit is of the old generation or of the new
            # one, and counts nowhere either way: the old one has passed, and an open circuit counts nothing.
            return circuit.generation
        moved = None
        with self._lock:
            before = circuit.state
            permit = circuit.admit(now, self._random)
            if circuit.state is not before:
                moved = Transition(before, circuit.state, Event.COOLED, circuit.generation)
                self._note(moved, now)
            wait = None if permit is not None else circuit.retry_after(now)
            if permit is None:
                self._counts["shadow" if self.shadow else "refused"] += 1
        try:
            self._tell(moved)
        except BaseException:  # a listener ends the program
            self._settle(permit, IGNORED, 0, now)
            raise
        if permit is None and not self.shadow:
            raise self._refusal(who, wait)
        return permit

    def confirm(self, permit: Permit | None, who: str, now: int) -> None:
        """After a wait: the permit must still be worth something, or the call would go to a dependency found dead."""
        circuit = self._circuit
        if self.shadow or permit is None or circuit.open_gate:
            return
        with self._lock:
            generation = permit if isinstance(permit, int) else permit.generation
            if generation == circuit.generation:
                return
            wait = circuit.retry_after(now)
            if not wait and circuit.state is not State.FORCED_OPEN:
                return
            self._counts["refused"] += 1
        raise self._refusal(who, wait)

    def _refusal(self, who: str, wait: int | None) -> CircuitOpen:
        name = self.name or who
        when = "until it is reset" if wait is None else f"the next probe is in {wait / NS:.3g} s"
        state = self._circuit.state.replace("_", "-")
        return CircuitOpen(
            f"{name}: the circuit is {state}; {when}",
            policy=name,
            retry_after=None if wait is None else wait / NS,
        )

    async def report(self, runtime: Runtime) -> None:
        """A call has ended; tell the store what others should know at once."""
        if self.shared is not None:
            await self.shared.report(runtime)

    def succeed(self, permit: Permit | None, duration: int, result: object, now: int) -> None:
        """A call came back after *duration* ns."""
        if self.plain and type(permit) is int and (self._slow_ns is None or duration < self._slow_ns):
            with self._lock:
                self._circuit.success(permit, now)
            return
        if self.on_result is not None and ask(self.on_result, result):
            self._settle(permit, FAILURE, duration, now)
        else:
            self._settle(permit, SUCCESS, duration, now)

    def fail(self, permit: Permit | None, duration: int, error: BaseException, now: int, *, ours: bool) -> None:
        """A call ended in *error*; *ours* if that says nothing of the dependency."""
        outcome = IGNORED
        said = self._ignored is None or not self._ignored.cover(error)
        if said and not ours and isinstance(error, Exception):
            outcome = FAILURE if self._failures.cover(error) else SUCCESS
        self._settle(permit, outcome, duration, now)

    def _settle(self, permit: Permit | None, outcome: Outcome, duration: int, now: int) -> None:
        if permit is None:
            return
        if isinstance(self.slow_call, PercentileTimeout):
            slow = duration >= to_ns(self.slow_call.current)
        else:
            slow = self._slow_ns is not None and duration >= self._slow_ns
        with self._lock:
            moved = self._circuit.settle(permit, outcome, slow, now, self._random)
            self._note(moved, now)
            if self.shared is not None:
                self.shared.settled(permit, outcome, slow, moved, now)
        self._tell(moved)

    def _note(self, moved: Transition | None, now: int) -> None:
        if moved is not None:
            self._spent[moved.old] += max(0, now - self._since)
            self._since = now
            if moved.new is State.OPEN:
                self._counts["opened"] += 1
            elif moved.new is State.CLOSED:
                self._counts["closed"] += 1

    def _tell(self, moved: Transition | None) -> None:
        """Outside the lock: a listener may call back into this breaker."""
        if moved is None:
            return
        if self.on_change is not None:
            notify(self.on_change, moved)
        if CircuitChanged in LISTENERS and moved.new is not moved.old:  # reset() of a closed one is no change
            tell(CircuitChanged(self.title, moved.old, moved.new, moved.event.name.lower()))
