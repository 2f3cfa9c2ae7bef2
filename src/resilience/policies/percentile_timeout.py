"""A timeout learned from the measured latency: lock and clock around `resilience.machines.estimator`."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from .. import _checks
from .._checks import NS, to_ns
from ..errors import ConfigError
from ..machines.estimator import TimeoutEstimator
from .timeout import TimeoutPart

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..clock import Clock

__all__ = ["PercentileTimeout"]

_KEPT = 4096
"""Samples between two refreshes, a second apart; of more, the newest count."""


class PercentileTimeout(TimeoutPart):
    """Give one attempt as long as the share *percentile* of the answers takes, as measured, plus some padding.

    Say how many good calls you accept to cut off: 0.999 cuts one in a thousand, or fewer. The timeout then follows the
    dependency: up at once, down slowly. It starts at *initial*, until some dozens of answers are known. Attempts that
    timed out are taken for what they are, answers longer than that; so the estimate does not creep down by what it cut
    off itself. While nothing is answered at all it stays where it is: an outage is the circuit breaker's business. An
    attempt after one that this timeout ended gets twice as long, within *between*.

    What counts: answers, with the time from the start of the attempt (waits for a token or a slot left out), and
    attempts cut off or cancelled. Errors do not: a refused connection is quick and says nothing of the latency.

    Args:
        percentile: the share of answers that are to come in time, between 0 and 1, such as 0.99.
        between: the shortest and the longest timeout, in seconds.
        initial: the timeout until enough is known, in seconds; the longest by default.
        padding: factor on the measured percentile; more on paths over the internet.
        mode, argument, max_abandoned: how a synchronous call is held to it, see `Timeout`.
        name: shown in messages; the policy's name by default.
        shadow: only measure, and count what would have timed out.
        clock: where time comes from; the machine's clock by default.

    Raises:
        ConfigError: an argument is out of range; or, when a synchronous function is decorated, the timeout could not
            bite.

    Thread-safe: samples go to a deque, whose append is atomic; once a second one caller works them in under the lock.
    """

    def __init__(
        self,
        percentile: float,
        *,
        between: tuple[float, float],
        initial: float | None = None,
        padding: float = 1.25,
        mode: str | None = None,
        argument: str = "timeout",
        max_abandoned: int = 64,
        name: str | None = None,
        shadow: bool = False,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(
            mode=mode, argument=argument, max_abandoned=max_abandoned, name=name, shadow=shadow, clock=clock
        )
        self.percentile = _checks.ratio("percentile", percentile, one=False)
        if not isinstance(between, (tuple, list)) or len(between) != 2:
            raise TypeError(f"between must be a pair of seconds, not {between!r}")
        low = _checks.seconds("between[0]", between[0])
        high = _checks.seconds("between[1]", between[1])
        if low > high:
            raise ConfigError(f"between must hold the shorter timeout first, not {between!r}")
        self.between = (low, high)
        self.initial = None if initial is None else _checks.seconds("initial", initial)
        if self.initial is not None and not low <= self.initial <= high:
            raise ConfigError(f"initial must lie between {low:g} and {high:g} s, not {initial!r}")
        self.padding = _checks.number("padding", padding, minimum=1)
        self._estimator = TimeoutEstimator(
            self.percentile,
            floor=to_ns(low),
            ceiling=to_ns(high),
            initial=None if self.initial is None else to_ns(self.initial),
            pad_rel=self.padding,
        )
        self._samples: deque[int] = deque(maxlen=_KEPT)  # ns; negative where the attempt was cut off
        self.current = self._estimator.ns / NS
        self.due = 0

    @property
    def most(self) -> float:
        """The longest it can become, in seconds."""
        return self.between[1]

    def seconds_for(self, cut: int) -> float:
        """The timeout now; twice as long for each attempt of this call that it has ended already."""
        if cut == 0:
            return self.current
        with self._lock:
            return self._estimator.grown(cut) / NS

    def recorder(self) -> Callable[[int], object] | None:
        """Keeps a duration; whoever calls it refreshes when ``due``."""
        return self._samples.append

    def record(self, duration: int, now: int, *, censored: bool) -> None:
        """An attempt was answered after *duration* ns, or cut off (*censored*)."""
        self._samples.append(-max(1, duration) if censored else duration)
        if now >= self.due:
            self.refresh(now)

    def refresh(self, now: int) -> None:
        """Work in what was recorded since the last time. One caller does; others go on meanwhile."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            estimator = self._estimator
            samples = self._samples
            # All that is there now; others may go on appending.
            estimator.absorb([samples.popleft() for _ in range(len(samples))], now)
            estimator.refresh(now)
            self.current = estimator.ns / NS
            self.due = estimator.next_refresh or now
        finally:
            self._lock.release()

    def observe(self, seconds: float) -> None:
        """Count an answer that took *seconds*, measured elsewhere."""
        self.record(to_ns(_checks.seconds("seconds", seconds, zero=True)), self._now.monotonic_ns(), censored=False)

    def explain(self) -> str:
        """Why the timeout is what it is, in words."""
        now = self._now.monotonic_ns()
        with self._lock:
            return str(self._estimator.explain(now))

    @property
    def counters(self) -> dict[str, int | float]:
        """Those of every timeout, and the timeout now, in seconds."""
        return {**super().counters, "seconds": self.current}
