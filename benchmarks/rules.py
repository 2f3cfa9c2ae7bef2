"""The ways to choose a timeout that `PercentileTimeout` is compared with. Each fills the place of its estimator.

None is anybody's code: they are the rules as described, in this project's words. All times in ns.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from typing import TYPE_CHECKING

from regimes import CEILING, MS, SECOND
from resilience.machines.estimator_settings import estimator_settings
from resilience.machines.latency_window import LatencyWindow
from resilience.machines.sketch import rank_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["AtLimit", "LogDevice", "Rto", "Rule", "SuccessOnly"]


class Rule:
    """A timeout between floor and ceiling, at first a second."""

    linger = 0
    """How many attempts it watches beyond their timeout."""

    def __init__(self, p: float) -> None:
        self.p = p
        self.ns = SECOND
        self.watched = 0
        self.next_refresh: int | None = None

    def set(self, ns: float) -> None:
        self.ns = round(min(max(ns, MS), CEILING))

    def absorb(self, samples: Sequence[int], now: int) -> None:
        """Take in results, negative for attempts that were cut off."""

    def late(self, latency: int, now: int) -> None:
        self.absorb((latency,), now)

    def lost(self, now: int) -> None:
        """A watched attempt was never answered."""

    def refresh(self, now: int) -> None:
        self.next_refresh = now + SECOND
        self.renew(now)

    def renew(self, now: int) -> None:
        """Work out the timeout."""


class SuccessOnly(Rule):
    """The percentile of the calls of the last minute that were answered."""

    cut_too = False

    def __init__(self, p: float) -> None:
        super().__init__(p)
        self._window = LatencyWindow(estimator_settings(p, floor=MS, ceiling=CEILING))

    def absorb(self, samples: Sequence[int], now: int) -> None:
        taken = [abs(sample) for sample in samples if sample > 0 or self.cut_too]
        if taken:
            self._window.add(Counter(bisect_left(self._window.edges, age) for age in taken), {}, 0, now)

    def renew(self, now: int) -> None:
        window = self._window
        window.forget(now)
        if window.n_done < 30:
            return
        left = rank_of(self.p, window.n_done)
        done, _ = window.sums()
        for bucket in sorted(done):
            left -= done[bucket]
            if left <= 0:
                self.set(window.edge(bucket))
                return


class AtLimit(SuccessOnly):
    """The same, with calls that were cut off counted as if they had been answered at that moment."""

    cut_too = True


class Rto(Rule):
    """TCP's retransmission timeout (RFC 6298) without its least second: smoothed latency and four mean deviations.

    Doubled when it expires; calls that were cut off are no samples.
    """

    def __init__(self, p: float) -> None:
        super().__init__(p)
        self._mean = self._deviation = 0.0

    def absorb(self, samples: Sequence[int], now: int) -> None:
        for sample in samples:
            if sample < 0:
                self.set(2 * self.ns if -sample >= self.ns / 2 else self.ns)
                continue
            if not self._mean:
                self._mean, self._deviation = sample, sample / 2
            else:
                self._deviation += (abs(self._mean - sample) - self._deviation) / 4
                self._mean += (sample - self._mean) / 8
            self.set(self._mean + 4 * self._deviation)

    def refresh(self, now: int) -> None:
        # Every sample counts at once.
        self.next_refresh = now


class LogDevice(Rule):
    """Twice the p99.99 of the last ten seconds, whatever share may be cut off; late answers are all waited for.

    From 30 samples on. The histogram doubles from bucket to bucket; within one, the quantile is interpolated.
    """

    linger = 10_000

    def __init__(self, p: float) -> None:
        super().__init__(p)
        self._parts: deque[tuple[int, Counter[int]]] = deque(maxlen=10)

    def absorb(self, samples: Sequence[int], now: int) -> None:
        second = now // SECOND
        if not self._parts or self._parts[-1][0] != second:
            self._parts.append((second, Counter()))
        self._parts[-1][1].update(sample.bit_length() for sample in samples if sample > 0)

    def renew(self, now: int) -> None:
        total: Counter[int] = Counter()
        for second, part in self._parts:
            if second > now // SECOND - 10:
                total.update(part)
        n = total.total()
        if n < 30:
            return
        left = 0.9999 * n
        for bucket in sorted(total):
            if left <= total[bucket]:
                self.set(2 * (1 << bucket - 1) * (1 + left / total[bucket]))
                return
            left -= total[bucket]
