"""A second attempt when the first one is slow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import _checks
from .._listen import LISTENERS, tell
from .._part import Part
from ..errors import ConfigError
from ..events import BudgetExhausted, Hedged, HedgeWon
from .retry_budget import RetryBudget

if TYPE_CHECKING:
    from ..clock import Clock
    from .timeout import TimeoutPart

__all__ = ["Hedge"]

_LEAST = 0.001
"""Below that a delay says more of the machine than of the dependency, s."""


class Hedge(Part):
    """Start another attempt when there is no answer after *delay*; the first good answer wins.

    Only for calls that may safely happen twice. Choose as *delay* the latency that 95 % of the calls stay below: then
    hedging costs 5 % more load and cuts the tail. Asynchronous losers are cancelled, and have ended when the call
    returns. Synchronous attempts run in worker threads; a loser cannot be stopped, its result is dropped. Each attempt
    passes the breaker, the limiter and the bulkhead. No hedge is started while the breaker is not closed, and each one
    is taken from the retry budget.

    With *quantile* in place of *delay*, the delay follows the latency that the policy's `PercentileTimeout` measures,
    from the same samples, and is never below a millisecond; until enough is known no call is hedged.

    Args:
        delay: seconds without an answer after which the next attempt starts.
        quantile: the share of answers that come before it does, such as 0.95, in place of *delay*.
        extra: how many attempts may be started besides the first.
        budget: the `RetryBudget` each of them is taken from; by default the one of the policy's ``Retry``, or
            one of its own. ``None`` does without.
        name: shown in messages; the policy's name by default.
        shadow: only count which calls would have been hedged.
        clock: where time comes from; the machine's clock by default.

    Raises:
        ConfigError: an argument is out of range.

    Thread-safe. After Dean and Barroso, "The Tail at Scale" (2013).
    """

    kind = "hedge"
    no_block = "a with-block cannot be run twice; use `{0}.call(function)` or the decorator"

    def __init__(
        self,
        delay: float | None = None,
        *,
        quantile: float | None = None,
        extra: int = 1,
        budget: RetryBudget | str | None = "own",
        name: str | None = None,
        shadow: bool = False,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(name=name, clock=clock)
        if (delay is None) == (quantile is None):
            raise ConfigError(f"give one of delay and quantile, not {delay!r} and {quantile!r}")
        self.delay = None if delay is None else _checks.seconds("delay", delay)
        self.quantile = None if quantile is None else _checks.ratio("quantile", quantile, one=False)
        self.extra = _checks.count("extra", extra)
        if isinstance(budget, str):
            _checks.one_of("budget", budget, ("own",))
        elif budget is not None and not isinstance(budget, RetryBudget):
            raise TypeError(f"budget must be a RetryBudget, 'own' or None, not {budget!r}")
        self.budget = budget
        self._budget = RetryBudget(clock=clock) if isinstance(budget, str) else budget
        self.shadow = _checks.flag("shadow", shadow)
        self._counts = dict.fromkeys(("hedged", "won", "refused", "shadow"), 0)

    def adopt(self, clock: Clock) -> None:
        """Take time from the clock of the policy this part is put into; its budget too."""
        super().adopt(clock)
        if self._budget is not None:
            self._budget.adopt(clock)

    def wait(self, timeout: TimeoutPart | None) -> float | None:
        """Seconds without an answer after which the next attempt starts; ``None``: not known yet, so none does."""
        if self.quantile is None:
            return self.delay
        found = None if timeout is None else timeout.follow(self.quantile)
        return None if found is None else max(found, _LEAST)

    def asked(self, who: str, delay: float, *, granted: bool, budget: RetryBudget | None) -> None:
        """Another attempt was wanted after *delay* seconds; *budget* was asked for it, unless it was refused before."""
        self.count("hedged" if granted else "refused")
        if granted:
            if Hedged in LISTENERS:
                tell(Hedged(self.name or who, delay))
        elif budget is not None and BudgetExhausted in LISTENERS:
            tell(BudgetExhausted(self.name or who, "hedge", budget.level))

    def won(self, who: str) -> None:
        """The answer came from a hedge."""
        self.count("won")
        if HedgeWon in LISTENERS:
            tell(HedgeWon(self.name or who))

    def count(self, what: str) -> None:
        """Add one to a counter."""
        with self._lock:
            self._counts[what] += 1

    @property
    def counters(self) -> dict[str, int | float]:
        """Extra attempts started, calls one of them won, hedges refused, and would-have-hedged."""
        with self._lock:
            return dict(self._counts)
