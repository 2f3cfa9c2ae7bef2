"""A service level objective: the settings and the lock around `resilience.machines.service_level`.

It is told how many calls were good and bad, and says how fast the error budget is spent, and whether to save load.
Which call is bad, and what is switched off, is the policy's business.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import _checks
from .._checks import NS, to_ns
from .._part import Described
from ..errors import ConfigError
from ..machines.service_level import ServiceLevel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["SLO", "ServiceLevelReading"]

_WORKBOOK = ((3600.0, 300.0, 14.4), (21600.0, 1800.0, 6.0))
"""The workbook's two pages: 2 % of a 30-day budget in an hour, 5 % in six hours. The short span ends the alarm soon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLevelReading:
    """How an objective is kept, at one moment.

    Attributes:
        objective: the share of calls that is to be good.
        good, bad: calls since the objective was made.
        left: the part of the error budget that is left, of what the calls in the window allow: 1.0 is all of it, 0.0
            none, below that the objective is missed. 1.0 while there was no call.
        burn: seconds of a span -> how fast the budget was spent in it. 1.0 spends it in just the window; 0.0 without
            calls.
        alarm: whether, over both spans of some row, the burn rate is above the one set for it, with enough bad calls.
        shedding: whether retries and hedges are switched off.
    """

    objective: float
    good: int
    bad: int
    left: float
    burn: Mapping[float, float]
    alarm: bool
    shedding: bool


class SLO(Described):
    """Promise that a share of the calls goes well, see what is left of the error budget, and save load when it burns.

    A call is bad if its caller did not get what was asked for: it failed, it timed out, our own breaker, limiter or
    bulkhead refused it, the fallback answered in its place, or it took *within* seconds or longer. It is one call,
    however many attempts it took. A cancelled call counts nowhere.

    The burn rate is the share of bad calls divided by the share that is allowed. With *shed_above*, the policy makes
    no retry and no hedge once the burn rate is above that over both spans of the first row in *spans*, until it is
    below *resume_below* over one of them. The long span sees to it that a blip sheds nothing, the short one that
    shedding ends soon after the trouble. Without retries, calls are bad that a retry would have saved; so shedding
    lasts until the dependency itself is well enough.

    The counts are of this process, and begin at nothing when it starts. They are there to steer by. The budget of a
    month and of all processes is the monitoring system's, which keeps the counters across restarts.

    Args:
        objective: the share of calls promised to be good, between 0 and 1, such as 0.999.
        within: seconds from which a call that was answered is bad all the same; ``None``: however long it took.
        window: seconds that the error budget is for; 30 days by default.
        shed_above: the burn rate above which retries and hedges are switched off; ``None``: never. The workbook pages
            at 14.4. Below 1 / (1 - objective), the burn rate when every call is bad.
        resume_below: the burn rate below which they are switched on again, less than *shed_above*; half of it by
            default, so that chance does not switch to and fro.
        minimum_bad: the bad calls that the short span must hold before a rate means anything. Of bad calls, not of
            calls: with an objective of 0.9999, one bad call in a thousand would be a burn rate of 10. Thirty are half
            as many by chance once in five hundred times.
        spans: rows of a long span and a short one in seconds, and the burn rate over both that is an alarm; no span
            longer than *window*. The workbook's by default: 14.4 over 1 h and 5 min, 6 over 6 h and 30 min.

    Attributes:
        within_ns: *within* in nanoseconds.
        told: whether those who listen know of the shedding.

    Raises:
        ConfigError: an argument is out of range, or no burn rate could be above *shed_above*.
        TypeError: an argument has the wrong type.

    Thread-safe: one lock. May be shared by policies with the same clock, whose calls are then counted together.
    A span is counted to within a tenth, see `resilience.machines.service_level`. Burn rates, pairs of spans and their
    values are those of "The Site Reliability Workbook" (Google, 2018), chapter 5, "Alerting on SLOs".
    """

    def __init__(
        self,
        objective: float,
        *,
        within: float | None = None,
        window: float = 30 * 86400.0,
        shed_above: float | None = None,
        resume_below: float | None = None,
        minimum_bad: int = 30,
        spans: Sequence[tuple[float, float, float]] = _WORKBOOK,
    ) -> None:
        self.objective = _checks.ratio("objective", objective, one=False)
        self.within = None if within is None else _checks.span("within", within)
        self.within_ns = None if self.within is None else to_ns(self.within)
        self.window = _checks.span("window", window)
        self.shed_above = None if shed_above is None else _checks.number("shed_above", shed_above, above=0)
        self.resume_below = None if resume_below is None else _checks.number("resume_below", resume_below, above=0)
        self.minimum_bad = _checks.count("minimum_bad", minimum_bad)
        if not isinstance(spans, (tuple, list)):
            raise TypeError(f"spans must be rows of two spans and a burn rate, not {spans!r}")
        if not spans:
            raise ConfigError(f"spans must have at least one row, not {spans!r}")
        self.spans = tuple(_row(f"spans[{index}]", row, self.window) for index, row in enumerate(spans))
        self._check_together()
        self._resume = (self.shed_above or 0.0) / 2 if self.resume_below is None else self.resume_below
        self._spans = {span: to_ns(span) for span in sorted(span for row in self.spans for span in row[:2])}
        self._lock = threading.Lock()
        self._level = ServiceLevel(self.objective, to_ns(self.window))
        self._shedding = self.told = False
        self._weighed = -NS  # when that was last decided

    def _check_together(self) -> None:
        if self.shed_above is None:
            if self.resume_below is not None:
                raise ConfigError(f"resume_below needs shed_above, not {self.resume_below!r} alone")
            return
        most = 1 / (1 - self.objective)
        if self.shed_above >= most:
            raise ConfigError(
                f"shed_above must be below {most:g}, the burn rate when every call is bad, not {self.shed_above!r}"
            )
        if self.resume_below is not None and self.resume_below >= self.shed_above:
            raise ConfigError(f"resume_below must be below shed_above ({self.shed_above:g}), not {self.resume_below!r}")

    def count(self, good: int, bad: int, now: int) -> None:
        """So many good and bad calls ended since the last time; *now* in monotonic nanoseconds.

        Good calls may be saved up for a second or so. Hand them in with the next bad one, or the burn rate is too high
        for as long.
        """
        with self._lock:
            self._level.add(good, bad, now)

    def burning(self, now: int) -> bool:
        """Whether to make no retry and no hedge. Decided anew once a second; else a comparison."""
        if self.shed_above is None:
            return False
        if 0 <= now - self._weighed < NS:  # read without the lock: what was decided just before is as good
            return self._shedding
        with self._lock:
            return self._weigh(now)

    def _news(self, *, shedding: bool) -> bool:
        """Whether that is to be told; True to one caller for each change."""
        with self._lock:
            before, self.told = self.told, shedding
        return before is not shedding

    def reading(self, now: int) -> ServiceLevelReading:
        """Counts, budget and burn rates at one moment; *now* in monotonic nanoseconds."""
        with self._lock:
            level = self._level
            burn = {seconds: level.burn(span, now) if level.bad else 0.0 for seconds, span in self._spans.items()}
            alarm = level.bad > 0 and any(
                min(burn[long], burn[short]) > rate and self._enough(short, now) for long, short, rate in self.spans
            )
            return ServiceLevelReading(
                objective=self.objective,
                good=level.good,
                bad=level.bad,
                left=level.left(now) if level.bad else 1.0,
                burn=burn,
                alarm=alarm,
                shedding=self._weigh(now),
            )

    def _weigh(self, now: int) -> bool:
        """Decide anew. The lock is held."""
        if self.shed_above is not None:
            long, short, _ = self.spans[0]
            burn = min(self._level.burn(self._spans[span], now) for span in (long, short))
            if self._shedding:
                self._shedding = burn >= self._resume
            else:
                self._shedding = burn > self.shed_above and self._enough(short, now)
            self._weighed = now
        return self._shedding

    def _enough(self, short: float, now: int) -> bool:
        """Whether a rate over the short span means anything."""
        return self._level.counted(self._spans[short], now)[1] >= self.minimum_bad


def _row(name: str, row: object, window: float) -> tuple[float, float, float]:
    if not isinstance(row, (tuple, list)) or len(row) != 3:
        raise TypeError(f"{name} must be a long span, a short span and a burn rate, not {row!r}")
    long = _checks.span(f"{name}[0]", row[0])
    short = _checks.span(f"{name}[1]", row[1])
    rate = _checks.number(f"{name}[2]", row[2], above=0)
    if not short < long <= window:
        raise ConfigError(
            f"{name} must hold the longer span first, and none longer than window ({window:g} s), not {row!r}"
        )
    return long, short, rate
