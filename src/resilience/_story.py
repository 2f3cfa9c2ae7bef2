"""What happens to one call, told once.

``deadline → retry → hedge → breaker → limiter → bulkhead → timeout → the call``, with the fallback around it all.

Why this order: the deadline bounds everything, waits included. Each attempt, hedges too, asks the breaker first, so an
open circuit costs no token; then pays the limiter; and holds a slot only while it runs. The timeout is the attempt's
own, so time spent queueing is not held against the dependency.

The same lines run blocking and under asyncio, and in virtual time: the runtime brings the world. This file reads the
policy's clock through it and never sleeps, locks or draws. Whatever is held on the way in (the breaker's permit, a
slot, a place in a line) is given back on every way out, cancellation included. A token is paid, not held: where the
bulkhead then refuses, it stays paid, for restoring it could break the limiter's bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._checks import NS
from ._listen import LISTENERS, WATCHERS, watched
from ._listen import tell as tell_all
from ._scope import NOWHERE, SCOPE, Scope, current, tighter
from .errors import Boxed, BulkheadFull, CircuitOpen, DeadlineExceeded, RateLimited, Rejected, unboxed
from .events import AttemptFailed, AttemptRejected, AttemptTimedOut
from .machines.circuit import State

if TYPE_CHECKING:
    from ._plan import Plan
    from ._runtime import Call, Runtime
    from ._scope import Limit
    from .machines.circuit import Permit
    from .policies._line import Line
    from .policies._lingering import Watch
    from .policies._shared_circuit import SharedCircuit
    from .policies.bulkhead import Bulkhead
    from .policies.circuit_breaker import CircuitBreaker
    from .policies.timeout import TimeoutPart

__all__ = ["Ticket", "attempt_failed", "enter", "tell"]

_REASONS = {CircuitOpen: "circuit_open", RateLimited: "rate_limited", BulkheadFull: "bulkhead_full"}


async def tell(
    plan: Plan, runtime: Runtime, call: Call, failed: Exception | None = None, began: int | None = None
) -> Any:
    """Run *call* under *plan*; *failed* is the error of a first attempt that was made already, *began* its start."""
    now = runtime.clock.monotonic_ns
    exact = began is not None or failed is None  # the short way of a mere retry reads no clock
    if began is None:
        began = now()
    try:
        result = await _repeat(plan, runtime, call, failed, began, exact=exact)
    except Exception as error:
        meant = unboxed(error)
        try:
            plan.ended(meant, call.tries, began, now())
            if plan.fallback is None or not plan.fallback.covers(meant):
                raise
            return await plan.fallback.answer(runtime, call, plan.who, meant)
        finally:
            del meant
    except BaseException as error:
        plan.ended(error, call.tries, began, now())
        raise
    finally:
        del failed  # its traceback holds this frame
    return result


async def _repeat(
    plan: Plan, runtime: Runtime, call: Call, failed: Exception | None, began: int, *, exact: bool
) -> Any:
    now = runtime.clock.monotonic_ns
    outer = current() or NOWHERE
    limit = plan.limit(outer, began)
    series = plan.series(outer, began, limit, exact=exact, call=call)
    number, cut = 1, 0
    while True:
        token = None
        if limit is not outer.limit or number > 1:
            retrying = outer.retrying or number > 1
            token = SCOPE.set(Scope(limit, number, retrying, outer.overrides))
        try:
            if failed is not None:
                if plan.breaker is not None:
                    await plan.breaker.of(call).report(runtime)
                raise Boxed(failed) if isinstance(failed, StopIteration) else failed
            if limit is not None and now() >= limit.at:
                raise limit.error(now())
            attempt = _once if plan.hedge is None else _hedged
            result = await attempt(plan, runtime, call, limit, cut)
        except Exception as error:
            failed = None
            cut += isinstance(error, TimeoutError)  # ours, or that of a client which was handed the time
            if plan.remote is not None and series is not None and series.wants(unboxed(error)):
                await plan.remote.reach(runtime)
            delay = None if series is None else series.after_error(unboxed(error), now())
            if delay is None:
                plan.gave_up(limit, now())
                if series is not None and series.parting:
                    await runtime.sleep(series.parting)
                raise
        else:
            delay = None if series is None else series.after_result(result, now())
            if delay is None:
                if series is None or not series.poor:
                    plan.went_well(began, now())
                else:
                    plan.went_poorly(began, now())
                return result
        finally:
            if token is not None:
                SCOPE.reset(token)
        await runtime.sleep(delay)
        number += 1
        call.tries = number


async def _hedged(plan: Plan, runtime: Runtime, call: Call, limit: Limit | None, cut: int) -> Any:
    hedge = plan.hedge
    assert hedge is not None
    delay = hedge.wait(None if plan.timeout is None else plan.timeout.of(call))
    if hedge.shadow:
        began = runtime.clock.monotonic_ns()
        try:
            return await _once(plan, runtime, call, limit, cut)
        finally:
            if delay is not None and runtime.clock.monotonic_ns() - began >= delay * NS:
                hedge.count("shadow")

    def allow() -> bool:
        breaker = None if plan.breaker is None else plan.breaker.of(call)
        calm = breaker is None or breaker.state in (State.CLOSED, State.DISABLED)
        calm = calm and not plan.burning(runtime.clock.monotonic_ns())
        granted = calm and (plan.budget is None or plan.budget.withdraw())
        hedge.asked(plan.who, delay or 0.0, granted=granted, budget=plan.budget if calm else None)
        return granted

    result, winner = await runtime.race(
        lambda: _once(plan, runtime, call, limit, cut), delay or 0.0, hedge.extra if delay else 0, allow, limit
    )
    if winner:
        hedge.won(plan.who)
    return result


async def _once(plan: Plan, runtime: Runtime, call: Call, limit: Limit | None, cut: int) -> Any:
    ticket = await enter(plan, runtime, call, limit)
    try:
        own = ticket.start(limit, cut)
        seen = ticket.seen(runtime, limit)
        token = None if seen is limit else SCOPE.set((current() or NOWHERE).within(seen))
        try:
            if WATCHERS:
                with watched(plan.who, ticket.number):
                    result = await runtime.attempt(call, own, ticket.timeout)
            else:
                result = await runtime.attempt(call, own, ticket.timeout)
        finally:
            if token is not None:
                SCOPE.reset(token)
    except BaseException as error:
        ticket.fail(error)
        if ticket.shared is not None:
            await ticket.shared.report(runtime, error)
        raise
    ticket.succeed(result)
    if ticket.shared is not None:
        await ticket.shared.report(runtime)
    return result


class Ticket:
    """What one attempt holds, from its admission until it is settled. Belongs to one call, hence no lock."""

    __slots__ = (
        "_began", "_breaker", "_bulkhead", "_limit", "_limiter", "_now", "_permit", "_plan", "_watched", "number",
        "shared", "timeout",
    )  # fmt: skip

    def __init__(self, plan: Plan, number: int | None = None) -> None:
        self.number = (current() or NOWHERE).attempt if number is None else number
        self._plan = plan
        self._now = plan.clock.monotonic_ns
        self._breaker: CircuitBreaker | None = None
        self._permit: Permit | None = None
        self._bulkhead: Bulkhead | None = None
        self._limiter: Line | None = None
        self._began: int | None = None
        self._limit: Limit | None = None
        self._watched = False
        self.timeout: TimeoutPart | None = None
        self.shared: SharedCircuit | None = None

    @classmethod
    def resumed(cls, plan: Plan, permit: Permit | None, began: int | None, limit: Limit | None) -> Ticket:
        """The ticket of an attempt that was begun on a short way; *began* ``None``: it did not get as far."""
        ticket = cls(plan)
        if plan.breaker is not None:
            ticket._breaker = plan.breaker.of(None)
        ticket._permit = permit
        ticket._began = began
        if began is not None:
            plan.stats.attempt()
        ticket._limit = limit
        if plan.timeout is not None:
            ticket.timeout = plan.timeout.of(None)
        return ticket

    def holds(self, bulkhead: Bulkhead | None, limiter: Line | None) -> None:
        """Of a resumed one: it has a slot there, and was let pass by that limiter."""
        self._bulkhead = bulkhead
        self._limiter = limiter if limiter is not None and limiter.learns else None

    def start(self, limit: Limit | None, cut: int) -> Limit | None:
        """The attempt begins; returns what it is held to."""
        timeout = self.timeout
        if timeout is not None and timeout.mode == "thread" and timeout.abandoned >= timeout.max_abandoned:
            raise BulkheadFull(
                f"{self._plan.who}: {timeout.max_abandoned} abandoned calls are still running",
                policy=self._plan.who,
            )
        self._began = now = self._now()
        self._plan.stats.attempt()
        if timeout is None:
            self._limit = limit
            return limit
        hedge = self._plan.hedge
        lingerer = self if hedge is None or hedge.shadow else None  # a loser is ended, and has no time of its own
        own = None if timeout.shadow else timeout.limit(now, self._plan.who, cut, lingerer)
        self._limit = tighter(limit, own)
        return self._limit

    def room(self) -> bool:
        """Whether this attempt would be watched if it timed out."""
        return self.timeout is not None and self.timeout.room()

    def watch(self, attempt: Any) -> Watch | None:
        """Its time is up: have it watched, if there is a place. Its end will be a sample, then, not its time so far."""
        assert self._began is not None
        watch = None if self.timeout is None else self.timeout.watch(attempt, self._began)
        self._watched = watch is not None
        return watch

    def seen(self, runtime: Runtime, outer: Limit | None) -> Limit | None:
        """What the code below is to find as its limit: not a timeout that it is handed as an argument."""
        handed = self.timeout is not None and self.timeout.mode == "argument" and not runtime.cancels
        return outer if handed else self._limit

    def succeed(self, result: object) -> None:
        """The attempt came back with *result*."""
        assert self._began is not None
        now = self._now()
        duration = now - self._began
        try:
            if self._breaker is not None:
                self._breaker.succeed(self._permit, duration, result, now)
        finally:  # also if a listener ends the program
            if self._bulkhead is not None:
                self._bulkhead.leave()
        if self._limiter is not None:
            self._limiter.heard(None, now)
        timeout = self.timeout
        if timeout is None:
            return
        timeout.record(duration, now, censored=False)
        if timeout.shadow:
            if duration > timeout.seconds_for(0) * NS:
                timeout.count("shadow")
        elif timeout.mode == "cooperative" and self._limit is not None and now > self._limit.at:
            timeout.late(self._plan.who, duration)  # may warn, so it comes last

    def fail(self, error: BaseException) -> None:
        """The attempt ended in *error*; also when it was cancelled, or never got as far as the call."""
        error = unboxed(error)
        now = self._now()
        begun, limit = self._began is not None, self._limit
        duration = now - self._began if self._began is not None else 0
        ended = isinstance(error, Exception)  # or else cancelled
        over = ended and limit is not None and now >= limit.at
        # The caller's own deadline, or the caller's going away, says nothing of the dependency.
        late = over and limit is not None and limit.deadline
        ours = not begun or not ended or late or isinstance(error, (DeadlineExceeded, Rejected))
        try:
            if self._breaker is not None:
                self._breaker.fail(self._permit, duration, error, now, ours=ours)
        finally:  # also if a listener ends the program
            if self._bulkhead is not None:
                self._bulkhead.leave()
        if self._limiter is not None and isinstance(error, Exception) and not ours:
            self._limiter.heard(error, now)
        timeout = self.timeout
        if timeout is not None and begun:
            if not self._watched and (over or not ended or isinstance(error, TimeoutError)):
                timeout.record(duration, now, censored=True)
            if over and not late:  # by our own hand, or by the client we handed the time to
                timeout.count("timed_out")
        if isinstance(error, Exception):
            cut = limit.seconds if over and not late and limit is not None else None
            attempt_failed(self._plan.who, self.number, error, duration if begun else None, cut, refused=not begun)


def attempt_failed(
    who: str, number: int, error: Exception, duration: int | None, cut: float | None = None, *, refused: bool = False
) -> None:
    """Tell that an attempt failed after *duration* ns, was ended by a timeout of *cut* seconds, or was *refused*."""
    if refused:
        if AttemptRejected in LISTENERS and isinstance(error, Rejected):
            reason = next((why for kind, why in _REASONS.items() if isinstance(error, kind)), "rejected")
            tell_all(AttemptRejected(who, number, reason, error, error.retry_after))
        return
    seconds = None if duration is None else duration / NS
    if cut is None:
        if AttemptFailed in LISTENERS:
            tell_all(AttemptFailed(who, number, error, seconds))
    elif AttemptTimedOut in LISTENERS:
        tell_all(AttemptTimedOut(who, number, error, seconds, cut))


async def enter(
    plan: Plan, runtime: Runtime, call: Call | None, limit: Limit | None, number: int | None = None
) -> Ticket:
    """Get everything one attempt needs, or raise the `Rejected` of the part that refused."""
    ticket = Ticket(plan, number)
    who = plan.who
    try:
        if plan.timeout is not None:
            ticket.timeout = plan.timeout.of(call)
        breaker, waited = None, False
        if plan.breaker is not None:
            breaker = plan.breaker.of(call)
            ticket.shared = shared = breaker.shared
            if shared is not None and ticket._now() >= shared.due:
                ticket._permit = await shared.enter(runtime)
                waited = True
            if ticket._permit is None:
                ticket._permit = breaker.admit(who, ticket._now())
            ticket._breaker = breaker
        if plan.limiter is not None:
            limiter = plan.limiter.of(call)
            if not limiter.try_acquire():
                waited = await limiter.enter(runtime, who, limit) or waited
            if limiter.learns:
                ticket._limiter = limiter
        if plan.bulkhead is not None:
            bulkhead = plan.bulkhead.of(call)
            if bulkhead.try_enter():
                ticket._bulkhead = bulkhead
            elif await bulkhead.enter(runtime, who, limit):
                ticket._bulkhead = bulkhead
                waited = True
        if waited:
            now = ticket._now()
            if limit is not None and now >= limit.at:
                raise limit.error(now)
            if breaker is not None:
                breaker.confirm(ticket._permit, who, now)
    except BaseException as error:
        ticket.fail(error)
        raise
    return ticket
