"""How long to wait for an answer, learned from how long answers take.

The trap: an answer that came too late is never seen, so a percentile of what *was* seen is that of the fast ones.
Take it as the next timeout, and each round cuts off another slice: after k rounds only p^k of the calls succeed.
Here a timed-out attempt is a *right-censored* sample ("longer than this"), the quantile is read off the product-limit
curve (Kaplan and Meier, JASA 1958) at a rank raised to an upper confidence bound, and is then padded.

What censored samples alone cannot tell is whether missing answers are late or lost. The rules here:

* Timeouts among answers are evidence of slowness. Where they hide the quantile, the timeout grows, up to the ceiling.
* Timeouts in a row without any answer are a blackout: an outage, the circuit breaker's business, and no evidence. The
  timeout goes to ``hold`` times the last measured one, once, and stays there. As the service may have become slower
  for good, each further window that stays dark allows one more such step.

(Watching a few timed-out attempts to their end would tell late from lost; the share that never answers would then
lower the rank asked for in ``_quantile``.)

This file knows samples and points in time that are handed in. It refuses to know whose they are, what counts as a
sample (fast failures must not: they pull the quantile down), clocks, locks and seconds.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, deque
from typing import TYPE_CHECKING

from .. import _checks
from ..errors import ConfigError
from .explanation import Explanation
from .sketch import bucket_edges, merged_rank, minimum_samples, product_limit, rank_of, upper_rank

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .explanation import Basis

__all__ = ["Explanation", "TimeoutEstimator"]

_MS = 1_000_000
_SECOND = 1_000_000_000

_BLACKOUT = 10
"""Timeouts in a row without an answer. With as many as half of all calls too slow, chance makes one in a thousand."""

_LEVEL_SAMPLES = 10
"""A slice with fewer samples has no p90 to speak of."""


class _Slice:
    """The samples of one stretch of time, by bucket."""

    __slots__ = ("cut", "done", "epoch", "level", "n")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.done: dict[int, int] = {}
        self.cut: dict[int, int] = {}
        self.n = 0
        self.level: float | None = None


class TimeoutEstimator:
    """A timeout that follows the *p*-quantile of the latency of one operation, seen through its own timeouts.

    All times are integer nanoseconds, points in time monotonic; one that lies before an earlier one counts as that.
    Not thread-safe: the caller holds a lock.

    Args:
        p: the share of answers that should come in time, above 0 and below 1; 0.99 by default.
        false_timeouts: the same the other way round, 1 - p. At most one of the two.
        floor: the shortest timeout, ns.
        ceiling: the longest, ns.
        initial: the timeout until enough is known, ns, between the two; *ceiling* by default.
        pad_rel: factor on the quantile, at least 1.
        pad_abs: least addition to the quantile, ns: scheduling alone can take so long. 0 or more.
        drift_cap: the most that wandering latency may add, as a factor; 1 takes no account of it.
        slices: how many slices the window has when traffic allows, at least 2.
        slice_ns: what one slice spans, ns.
        max_age: how old a sample may be when traffic is low, ns; at least the window.
        alpha: width of the buckets, see ``Sketch``.
        confidence: of the upper bound on the quantile, between 0 and 1; ``None`` for the plain quantile.
        minimum: answers needed before the timeout moves, at least 1.
        fall: the most the timeout falls in one refresh, as a share, above 0 and at most 1.
        refresh_ns: the least time between two refreshes, ns.
        hold: how far above the last measured timeout a blackout takes it, as a factor of at least 1.

    Attributes:
        ns: the timeout in force, ns. Read it as often as you like.
        next_refresh: the point in time before which ``refresh`` does nothing.

    Raises:
        ConfigError: an argument is out of range.
        TypeError: an argument has the wrong type.
    """

    __slots__ = (
        "_basis", "_ceiling", "_changed_at", "_confidence", "_cut", "_dark", "_done", "_drift",
        "_drift_cap", "_edges", "_fall", "_floor", "_hold", "_max_age", "_measured", "_minimum", "_n_cut", "_n_done",
        "_need", "_now", "_p", "_pad_abs", "_pad_rel", "_pending", "_previous", "_quantile_ns", "_refresh_ns", "_ring",
        "_run", "_slice_ns", "_slices", "_step_at", "_steps", "_target", "_unanswered", "next_refresh", "ns",
    )  # fmt: skip

    def __init__(
        self,
        p: float | None = None,
        *,
        floor: int,
        ceiling: int,
        false_timeouts: float | None = None,
        initial: int | None = None,
        pad_rel: float = 1.25,
        pad_abs: int = 5 * _MS,
        drift_cap: float = 2.0,
        slices: int = 12,
        slice_ns: int = 5 * _SECOND,
        max_age: int = 900 * _SECOND,
        alpha: float = 0.01,
        confidence: float | None = 0.95,
        minimum: int = 30,
        fall: float = 0.05,
        refresh_ns: int = _SECOND,
        hold: float = 2.0,
    ) -> None:
        if p is not None and false_timeouts is not None:
            raise ConfigError("give p or false_timeouts, not both")
        if false_timeouts is not None:
            p = 1 - _checks.ratio("false_timeouts", false_timeouts, one=False)
        self._p = _checks.ratio("p", 0.99 if p is None else p, one=False)
        self._edges = bucket_edges(alpha)
        self._floor = _checks.count("floor", floor)
        self._ceiling = _checks.count("ceiling", ceiling, minimum=self._floor)
        if self._ceiling > self._edges[-1]:
            raise ConfigError(f"ceiling must be at most {self._edges[-1]} ns, not {ceiling!r}")
        first = ceiling if initial is None else initial
        self.ns = _checks.count("initial", first, minimum=self._floor)
        if self.ns > self._ceiling:
            raise ConfigError(f"initial must be at most the ceiling {ceiling!r}, not {initial!r}")
        self._pad_rel = _checks.number("pad_rel", pad_rel, minimum=1)
        self._pad_abs = _checks.count("pad_abs", pad_abs, minimum=0)
        self._drift_cap = _checks.number("drift_cap", drift_cap, minimum=1)
        self._slices = _checks.count("slices", slices, minimum=2)
        self._slice_ns = _checks.count("slice_ns", slice_ns)
        self._max_age = _checks.count("max_age", max_age, minimum=self._slices * self._slice_ns)
        self._minimum = _checks.count("minimum", minimum)
        self._fall = _checks.ratio("fall", fall)
        self._refresh_ns = _checks.count("refresh_ns", refresh_ns)
        self._hold = _checks.number("hold", hold, minimum=1)
        self._confidence = confidence
        if confidence is None:
            need = math.ceil(1 / (1 - self._p) * (1 - 1e-12))
        else:
            self._confidence = _checks.ratio("confidence", confidence, one=False)
            need = minimum_samples(self._p, self._confidence)
        self._need = max(self._minimum, need)
        self._ring: deque[_Slice] = deque()
        self._done: dict[int, int] = {}  # all slices together, kept up to date
        self._cut: dict[int, int] = {}
        self._n_done = self._n_cut = 0
        self._drift = 1.0
        self._pending: Counter[int] = Counter()  # timeouts since the last answer: slow, or dark?
        self._run = 0
        self._dark = False
        self._steps = self._step_at = 0
        self._unanswered = 0
        self._basis: Basis = "initial"
        self._measured = self._target = self._previous = self.ns
        self._quantile_ns: int | None = None
        self._now: int | None = None
        self._changed_at: int | None = None
        self.next_refresh: int | None = None

    def record(self, latency: int, censored: bool, now: int) -> None:
        """Take in one sample: an answer after *latency* ns, or (*censored*) an attempt given up after them."""
        self.absorb((-max(1, latency) if censored else latency,), now)

    def absorb(self, samples: Iterable[int], now: int) -> None:
        """Take in many samples in the order in which the attempts ended.

        Each is the time of an answer in ns; or, negative, how long an attempt had waited when it was given up.
        """
        now = self._time(now)
        edges, pending = self._edges, self._pending
        answered: dict[int, int] = {}
        timeouts: Counter[int] = Counter()
        for sample in samples:
            if sample < 0:
                pending[bisect_left(edges, -sample)] += 1
                # A caller's impatience says nothing of an outage: only ages near the timeout count for one.
                self._run += -2 * sample >= self.ns
                continue
            bucket = bisect_left(edges, sample)
            answered[bucket] = answered.get(bucket, 0) + 1
            if pending:
                # What timed out around an answer is evidence of slowness; what did in the dark is none.
                if self._run < _BLACKOUT:
                    timeouts.update(pending)
                else:
                    self._unanswered += pending.total()
                pending.clear()
                self._run = 0
        if answered:
            self._dark = False
            self._add(answered, timeouts, now)
        if self._run >= _BLACKOUT and not self._dark:
            self._dark = True
            self._steps = 0
            self._step_at = now

    def _time(self, now: int) -> int:
        self._now = now if self._now is None else max(now, self._now)
        return self._now

    def _add(self, answered: dict[int, int], timeouts: dict[int, int], now: int) -> None:
        epoch = now // self._slice_ns
        if not self._ring or self._ring[-1].epoch != epoch:
            if self._ring:
                self._ring[-1].level = self._level(self._ring[-1])
            self._ring.append(_Slice(epoch))
        current = self._ring[-1]
        for samples, mine, everyone in ((answered, current.done, self._done), (timeouts, current.cut, self._cut)):
            for bucket, count in samples.items():
                mine[bucket] = mine.get(bucket, 0) + count
                everyone[bucket] = everyone.get(bucket, 0) + count
        done, cut = sum(answered.values()), sum(timeouts.values())
        self._n_done += done
        self._n_cut += cut
        current.n += done + cut

    def _level(self, part: _Slice) -> float | None:
        """The logarithm of the p90 of a finished slice; ``None`` if it holds too little."""
        if part.n < _LEVEL_SAMPLES:
            return None
        return math.log(self._edge(merged_rank(part.done, part.cut, rank_of(0.9, part.n))))

    def _forget(self, now: int) -> None:
        """Drop slices that left the window, but keep enough of them to know something, up to a certain age."""
        newest = now // self._slice_ns
        too_old = (now - self._max_age) // self._slice_ns
        while self._ring:
            oldest = self._ring[0]
            enough = self._n_done + self._n_cut - oldest.n >= self._need
            if oldest.epoch > newest - self._slices or not (enough or oldest.epoch < too_old):
                return
            self._ring.popleft()
            self._n_done -= sum(oldest.done.values())
            self._n_cut -= sum(oldest.cut.values())
            for gone, everyone in ((oldest.done, self._done), (oldest.cut, self._cut)):
                for bucket, count in gone.items():
                    everyone[bucket] -= count
                    if not everyone[bucket]:
                        del everyone[bucket]

    def refresh(self, now: int) -> None:
        """Bring the timeout up to date, if it is time to (``next_refresh``)."""
        now = self._time(now)
        if self.next_refresh is not None and now < self.next_refresh:
            return
        self.next_refresh = now + self._refresh_ns
        self._forget(now)
        if self._dark:
            self._hold_still(now)
            return
        if self._n_done < self._minimum:
            return
        first = self._basis == "initial"
        self._quantile_ns, self._basis = self._quantile()
        self._drift = self._wander()
        quantile = self._quantile_ns
        padded = max(round(quantile * self._pad_rel * self._drift), quantile + self._pad_abs)
        self._target = min(max(padded, self._floor), self._ceiling)
        if self._basis != "growing":
            self._measured = self._target
        # Up at once, for a timeout too short does harm now; down slowly, unless all there was is the first guess.
        slowest = self._target if first else math.ceil(self.ns * (1 - self._fall))
        self._set(max(self._target, slowest), now)

    def _quantile(self) -> tuple[int, Basis]:
        n = self._n_done + self._n_cut
        rank = rank_of(self._p, n) if self._confidence is None else upper_rank(n, self._p, self._confidence)
        if rank > n:
            longest = 2 * self._edge(max(self._done))
            limit = self._edge(max(self._cut)) if self._cut else 0
            return (limit, "growing") if limit > longest else (longest, "extrapolated")
        bucket = product_limit(self._done, self._cut, rank)
        if bucket is not None:
            return self._edge(bucket), "measured"
        # The quantile lies above every answer; from there up, the limits are all there is to go by.
        return max(self._edge(max(self._done)), self._edge(merged_rank(self._done, self._cut, rank))), "growing"

    def _wander(self) -> float:
        """How far the level of latency wanders between slices, as a factor: exp(2 sd of the logarithms)."""
        levels = [part.level for part in self._ring if part.level is not None]
        if len(levels) < 2:
            return 1.0
        mean = sum(levels) / len(levels)
        spread = math.sqrt(sum((level - mean) ** 2 for level in levels) / len(levels))
        return min(self._drift_cap, math.exp(min(2 * spread, 64.0)))

    def _edge(self, bucket: int) -> int:
        return self._edges[min(bucket, len(self._edges) - 1)]

    def _hold_still(self, now: int) -> None:
        """In a blackout: one step up, and another one for each further window that stays dark."""
        steps = 1 + (now - self._step_at) // (self._slices * self._slice_ns)
        if steps > self._steps:
            self._steps = steps
            held = min(self._ceiling, math.ceil(self._measured * self._hold ** min(steps, 64)))
            self._basis = "blackout"
            self._target = max(self.ns, held)
            self._set(self._target, now)

    def _set(self, ns: int, now: int) -> None:
        if ns != self.ns:
            self._previous = self.ns
            self._changed_at = now
            self.ns = ns

    def grown(self, cut: int) -> int:
        """The timeout for an attempt after *cut* attempts of the same call that it ended, ns: doubled for each."""
        return min(self._ceiling, self.ns << min(cut, 64))

    def explain(self, now: int) -> Explanation:
        """Why the timeout is what it is."""
        now = self._time(now)
        samples = self._n_done + self._n_cut
        return Explanation(
            timeout=self.ns,
            target=self._target,
            basis=self._basis,
            p=self._p,
            quantile=self._quantile_ns,
            pad_rel=self._pad_rel,
            pad_abs=self._pad_abs,
            drift=self._drift,
            samples=samples,
            censored=self._n_cut / samples if samples else 0.0,
            unanswered=self._unanswered + (self._pending.total() if self._dark else 0),
            confident=self._basis == "measured" and self._confidence is not None,
            previous=self._previous,
            changed_ago=None if self._changed_at is None else now - self._changed_at,
        )
