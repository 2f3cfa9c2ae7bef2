"""The client's side of a circuit that many processes share: when the store is asked, what for, and what is made of it.

The breaker's own `Circuit` goes on admitting and refusing, so a call in a closed circuit costs no more than before.
Calls that come along when an exchange is due make it, one of them at a time; nothing runs in the background. While the
store is down each circuit is on its own, and when it is back they agree again. What an exchange may cost is kept by the
store; this file knows neither engines nor scripts.

Counts are told at most once: those of an exchange that failed are dropped, for they may have arrived. Everything else
is told until it was heard, and changes nothing when it is heard again.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from .._runtime import Blocking, drive
from ..errors import ConfigError
from ..machines.circuit import FAILURE, IGNORED, Probe
from ..machines.circuit_types import State
from ..machines.shared_circuit import CELLS, FAILED, MILLION, NOTHING, PASSED, RETURNED, Ask, Reply
from ..machines.windows import TimeWindow
from ..stores import StoreUnavailable
from ..stores.forking import survive
from ..stores.transitions import CIRCUIT

if TYPE_CHECKING:
    from .._runtime import Runtime
    from ..machines.circuit import Circuit, Outcome, Permit
    from ..machines.circuit_types import Settings
    from ..machines.circuit_types import Transition as Moved
    from ..stores import Store
    from .circuit_breaker import CircuitBreaker

__all__ = ["STATES", "SharedCircuit", "check_shareable"]

STATES = (State.CLOSED, State.OPEN, State.HALF_OPEN, State.FORCED_OPEN, State.DISABLED)
"""By their numbers in the store."""

_LONGEST_US = 366 * 24 * 3600 * MILLION
_MOST = 2**29


def check_shareable(settings: Settings) -> None:
    """Refuse what a store cannot reckon with.

    Raises:
        ConfigError: a window in calls, or a time of more than a year.
    """
    if settings.span_ns is None:
        raise ConfigError("window_calls cannot be shared, for the order of calls is lost; use window_seconds")
    if max(settings.span_ns, settings.max_open_ns, settings.probe_timeout_ns) > _LONGEST_US * 1000:
        raise ConfigError("window_seconds, max_open and probe_timeout must be at most 366 days to be shared")


class SharedCircuit:
    """The fleet's circuit, as one breaker sees it; guarded by the breaker's lock.

    Args:
        owner: the breaker.
        store, key: where the fleet's circuit is.
        every: nanoseconds between exchanges.

    Attributes:
        due: when the next exchange is.
        urgent: whether there is something to tell that others should know at once.
        reply: what the store said last; ``None``: nothing, or it is down.

    Thread-safe, and safe to use on both sides of a fork.
    """

    def __init__(self, owner: CircuitBreaker, store: Store, key: str, every: int) -> None:
        self.due = 0
        self.urgent = False
        self.reply: Reply | None = None
        self._owner = owner
        self._store = store
        self._key = key
        self._every = every
        self._circuit: Circuit = owner._circuit
        self._asking = False  # an exchange is under way
        self._asked = 0  # when the last one began
        self._weigh_at = 0  # when the fleet may be asked again whether what is bad here is so everywhere
        self._failed = False
        self._asked_in = 0  # the generation of the circuit then
        self._known = 0  # the fleet's generation
        self._told = (-1, 0, 0, 0)  # a generation of the circuit, and what of its counts was told
        self._by_hand = False  # steered, and not told yet
        self._probe: Probe | None = None  # the one that runs under a lease
        self._number = 0  # of that lease
        self._ended = (0, NOTHING)  # a lease that is over, and how; not told yet
        settings = self._circuit.settings
        assert settings.span_ns is not None
        self._width = max(1, settings.span_ns // (CELLS * 1000))
        self._failure_rate = _millionths(settings.failure_rate)
        self._slow_rate = _millionths(settings.slow_rate)
        survive(self)

    def forked(self) -> None:
        """See `resilience.stores.forking`: the lease and what was counted are the parent's to tell."""
        self._asking = self._by_hand = False
        self._probe = None
        self._ended = (0, NOTHING)
        self._tell_later()
        self.due = 0

    # -- what the breaker tells, under its lock ----------------------------------------------------------------------

    def settled(self, permit: Permit, outcome: Outcome, slow: bool, moved: Moved | None, now: int) -> None:
        """The circuit has heard the end of a call."""
        circuit = self._circuit
        slow = slow and circuit.settings.slow_rate is not None
        if permit is self._probe:
            assert isinstance(permit, Probe)
            over = now - permit.started >= circuit.settings.probe_timeout_ns
            verdict = RETURNED if over or outcome is IGNORED else FAILED if slow or outcome is FAILURE else PASSED
            self._ended = self._number, verdict
            self._probe = None
            self._hurry()
        elif moved is not None:
            self._hurry()
        elif (
            (outcome is FAILURE or slow)
            and (circuit.led and permit == circuit.counting)
            and now >= self._weigh_at
            and circuit.window_bad(now)
        ):
            # What is too bad here may be so everywhere; but if it is not, let it not be asked at each failure.
            self._weigh_at = now + self._every // 10
            self._hurry()

    def steered(self) -> None:
        """The circuit was steered by hand."""
        self._by_hand = True
        self._hurry()

    def _hurry(self) -> None:
        self.urgent = True
        self.due = 0

    # -- exchanges ---------------------------------------------------------------------------------------------------

    async def enter(self, runtime: Runtime) -> Probe | None:
        """An exchange is due before a call is admitted; returns its permit if it is to be the fleet's probe."""
        return await self._exchange(runtime, probing=True)

    async def report(self, runtime: Runtime, error: BaseException | None = None) -> None:
        """A call has ended, in *error* perhaps; tell what is urgent, unless there is no time for that."""
        if self.urgent and (error is None or isinstance(error, Exception)):
            await self._exchange(runtime, probing=False)

    def report_at_once(self) -> None:
        """`report`, blocking."""
        drive(self.report(Blocking(self._owner._now)))

    async def _exchange(self, runtime: Runtime, *, probing: bool) -> Probe | None:
        owner = self._owner
        now = owner._now.monotonic_ns
        sent = now()
        with owner._lock:
            if self._asking or (self._failed and sent - self._asked < self._every):
                return None  # somebody is at it, or it failed just now: go by what is known
            ask = self._ask(sent, probing=probing)
        probe: Probe | None = None
        moves: list[Moved] = []
        try:
            try:
                reply = Reply(*await runtime.exchange(self._store, self._key, CIRCUIT, ask))
            except BaseException as error:
                with owner._lock:
                    self._unanswered(ask, sent, down=isinstance(error, StoreUnavailable))
                if not isinstance(error, StoreUnavailable):
                    raise
            else:
                with owner._lock:
                    moves, probe = self._answered(ask, reply, sent, now())
                    for moved in moves:
                        owner._note(moved, sent)
                for moved in moves:
                    owner._tell(moved)
        except BaseException:
            if probe is not None:  # a listener ends the program
                owner._settle(probe, IGNORED, 0, sent)
            raise
        return probe

    def _ask(self, now: int, *, probing: bool) -> Ask:
        """What to say; from now on it counts as said."""
        circuit, settings = self._circuit, self._circuit.settings
        self._asking, self._asked, self._asked_in = True, now, circuit.generation
        self.urgent, by_hand, self._by_hand = False, self._by_hand, False
        state = circuit.state
        wait = circuit.retry_after(now) if state is State.OPEN else 0
        total, failures, slow = self._tell_counts(now)
        number, verdict = self._ended
        if self._probe is not None and now - self._probe.started >= settings.probe_timeout_ns:
            self._probe = None
        free = state in (State.OPEN, State.HALF_OPEN) and self._probe is None and not number
        u = self._owner._random()
        opens = 0 if self.reply is None else self.reply.opens
        return Ask(
            state=STATES.index(state),
            by_hand=int(by_hand and state is not State.HALF_OPEN),
            wait=(wait or 0) // 1000,
            generation=self._known,
            total=total,
            failures=failures,
            slow=slow,
            minimum=min(_MOST, circuit.volume(now)),
            failure_rate=self._failure_rate,
            slow_rate=self._slow_rate,
            width=self._width,
            first=settings.open_time(0, u) // 1000,
            again=settings.open_time(opens, u) // 1000,
            probes=settings.probes,
            lease=settings.probe_timeout_ns // 1000,
            wanted=secrets.randbits(52) + 1 if probing and free else 0,
            number=number,
            verdict=verdict,
        )

    def _tell_counts(self, now: int) -> tuple[int, ...]:
        """What was counted since this was asked last; no more than the window holds, for the rest is too old."""
        window, generation = self._circuit.window, self._circuit.counting
        assert isinstance(window, TimeWindow)
        kept = window.counts(now)
        running = window.running
        before = self._told[1:] if self._told[0] == generation else (0, 0, 0)
        self._told = (generation, *running)
        if generation < 0:
            return 0, 0, 0
        return tuple(min(_MOST, most, new - old) for most, new, old in zip(kept, running, before, strict=True))

    def _tell_later(self) -> None:
        """What was counted so far is never told."""
        window = self._circuit.window
        assert isinstance(window, TimeWindow)
        self._told = (self._circuit.counting, *window.running)

    def _answered(self, ask: Ask, reply: Reply, sent: int, now: int) -> tuple[list[Moved], Probe | None]:
        circuit = self._circuit
        self._asking = self._failed = False
        if ask.number:
            self._ended = (0, NOTHING)
        if circuit.generation != self._asked_in:  # something happened here meanwhile: that has to be told first
            if reply.leased:
                self._ended = ask.wanted, RETURNED
            self._hurry()
            return [], None
        self._known, self.reply = reply.generation, reply
        moves = circuit.follow(STATES[reply.state], reply.wait * 1000, reply.opens, reply.passed, now)
        if not self.urgent:
            soon = reply.state in (1, 2) and not reply.leased  # open or half-open: when a probe may be asked for
            self.due = sent + self._every  # what the reply knows is as old as that, however late it came
            if soon:
                self.due = min(self.due, now + reply.wait * 1000)
        if not reply.leased:
            return moves, None
        self._number = ask.wanted
        self._probe = circuit.probe(sent)  # by our clock the lease ends no later than by the store's
        return moves, self._probe

    def _unanswered(self, ask: Ask, sent: int, *, down: bool) -> None:
        """Nobody knows whether it was heard."""
        self._asking = False
        self._failed = down
        self.due = sent + self._every if down else 0
        self._by_hand = self._by_hand or bool(ask.by_hand)
        self.urgent = self.urgent or self._by_hand or self._ended[0] > 0
        if ask.wanted:
            self._ended = ask.wanted, RETURNED
        if down and self._store.degraded:
            self._circuit.led = False
            self.reply = None


def _millionths(rate: float | None) -> int:
    """Rounded down, so that 2/3 is reached by two of three."""
    return 0 if rate is None else max(1, int(rate * MILLION + 1e-6))
