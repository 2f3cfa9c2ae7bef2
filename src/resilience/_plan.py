"""What is in force for one call: the parts of a policy, after overrides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._checks import NS
from ._listen import LISTENERS, tell
from ._scope import tighter
from ._stats import Stats, outcome
from .events import BudgetBurning, GaveUp

if TYPE_CHECKING:
    from ._runtime import Call
    from ._scope import Limit, Scope
    from .clock import Clock
    from .policies.adaptive_token_bucket import AdaptiveTokenBucket
    from .policies.bulkhead import Bulkhead
    from .policies.circuit_breaker import CircuitBreaker
    from .policies.fallback import Fallback
    from .policies.hedge import Hedge
    from .policies.keyed_token_bucket import KeyedTokenBucket
    from .policies.per_key import PerKey
    from .policies.percentile_timeout import PercentileTimeout
    from .policies.retry import Retry, Series
    from .policies.timeout import Deadline, TimeoutPart
    from .policies.token_bucket import TokenBucket

__all__ = ["PARTS", "Plan"]

PARTS = ("fallback", "deadline", "retry", "hedge", "breaker", "limiter", "bulkhead", "timeout")
"""The parts of a policy from the outermost to the innermost: the order in which a call meets them."""


class Plan:
    """The parts in force, ready for the story. Immutable."""

    __slots__ = (*PARTS, "_earning", "budget", "clock", "remote", "stats", "who")

    def __init__(
        self,
        who: str,
        clock: Clock,
        stats: Stats,
        *,
        fallback: Fallback | None = None,
        deadline: Deadline | None = None,
        retry: Retry | None = None,
        hedge: Hedge | None = None,
        breaker: CircuitBreaker | PerKey[CircuitBreaker] | None = None,
        limiter: TokenBucket | KeyedTokenBucket | PerKey[AdaptiveTokenBucket] | None = None,
        bulkhead: Bulkhead | PerKey[Bulkhead] | None = None,
        timeout: TimeoutPart | PerKey[PercentileTimeout] | None = None,
    ) -> None:
        self.who = who
        self.clock = clock
        self.stats = stats
        self.fallback = fallback
        self.deadline = deadline
        self.retry = retry
        self.hedge = hedge
        self.breaker = breaker
        self.limiter = limiter
        self.bulkhead = bulkhead
        self.timeout = timeout
        retries = None if retry is None else retry._budget
        self.remote = None if retries is None else retries._shared
        """The retry's budget, if it is kept in a store; to be reached before a retry is decided on."""
        self.budget = retries
        if hedge is not None and (retries is None or hedge.budget != "own"):
            self.budget = hedge._budget  # one that was given goes before the retry's
        self._earning = tuple({id(b): b for b in (retries, self.budget) if b is not None}.values())

    def limit(self, outer: Scope, now: int) -> Limit | None:
        """What the call begun *now* is held to as a whole: this deadline or a nearer one around it."""
        limit = None if outer.limit is None else outer.limit.on(self.clock)
        if self.deadline is not None and not self.deadline.shadow:
            limit = tighter(limit, self.deadline.limit(now, self.who))
        return limit

    def series(
        self, outer: Scope, now: int, limit: Limit | None, *, exact: bool = True, call: Call | None = None
    ) -> Series | None:
        """The retrying of one call; *exact* if *now* is when it began, and not when its first attempt had failed."""
        if self.retry is None or self.burning(now):
            return None
        return self.retry.series(self.who, now, limit, outer=outer.retrying, exact=exact, call=call)

    def burning(self, now: int) -> bool:
        """Whether the error budget burns too fast for retries and hedges."""
        slo = self.stats.slo
        if slo is None:
            return False
        shedding = slo.burning(now)
        if shedding is not slo.told and slo._news(shedding=shedding) and BudgetBurning in LISTENERS:
            burn = slo.reading(now).burn[slo.spans[0][1]]
            tell(BudgetBurning(self.who, shedding, burn))
        return shedding

    def gave_up(self, limit: Limit | None, now: int) -> None:
        """A call failed; if it was out of time by then, that is the deadline's to count, whoever raised."""
        if self.deadline is not None and limit is not None and limit.deadline and now >= limit.at:
            self.deadline.count("exceeded")

    def went_well(self, began: int, now: int) -> None:
        """A call succeeded."""
        for budget in self._earning:
            budget.deposit()
        self.stats.succeeded(now - began, now)
        deadline = self.deadline
        if deadline is not None and deadline.shadow and now - began > deadline._span:
            deadline.count("shadow")

    def went_poorly(self, began: int, now: int) -> None:
        """A call ended with a result that was not good enough."""
        self.stats.ended(None, now - began, now)

    def ended(self, error: BaseException, attempts: int, began: int, now: int) -> None:
        """A call, begun then, ended in *error*, after so many attempts."""
        self.stats.ended(error, now - began, now)
        if GaveUp in LISTENERS and isinstance(error, Exception):
            tell(GaveUp(self.who, outcome(error), attempts, error, (now - began) / NS))
