"""How long to wait for an answer, learned from how long answers take.

The trap: an answer that came too late is never seen, so a percentile of what *was* seen is that of the fast ones.
Take it as the next timeout, and each round cuts off another slice: after k rounds only p^k of the calls succeed.
Here a timed-out attempt is a *right-censored* sample ("longer than this"), the quantile is read off the product-limit
curve (Kaplan and Meier, JASA 1958) at a rank raised to an upper confidence bound, and is then padded.

What such samples alone cannot tell is whether missing answers are late or lost. Two sources do:

* **Attempts watched beyond their timeout**, if the caller can: a few are enough. One that is answered after all is
  slowness, measured. One that is not by the ceiling is lost; the share that is lost then counts for nothing in the
  quantile, which is that of the answers. While some are being watched, the timeout waits for what they will tell.
* **Answers around the timeouts.** Timeouts among answers are evidence of slowness. Where they hide the quantile and
  nobody is watched, the timeout grows, up to the ceiling. Timeouts in a row without any answer are a blackout: an
  outage, the circuit breaker's business, and no evidence. The timeout goes to ``hold`` times what it was when that
  began, once, and stays there; and nothing that was learned grows old meanwhile. As the service may have become
  slower for good, each further window that stays dark allows one more such step, unless those watched say that it is
  death.

And as the window is slow to show a change, the latest attempts, some hundred, may raise the timeout at once, if more
of them took too long than was accepted and chance can explain.

This file knows samples and points in time that are handed in. It refuses to know whose they are, what counts as a
sample (fast failures must not: they pull the quantile down), clocks, locks and seconds.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from itertools import repeat
from typing import TYPE_CHECKING, Any

from .distribution import ALPHA
from .estimator_settings import estimator_settings
from .explanation import Explanation
from .latency_window import LatencyWindow
from .latest import Latest
from .learned import VERSION, WHAT, read_timeout
from .silence import Silence
from .sketch import rank_of, upper_rank
from .survival import merged_rank, never_ends, product_limit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .explanation import Basis

__all__ = ["Explanation", "TimeoutEstimator"]

_MS = 1_000_000
_SECOND = 1_000_000_000

_PATIENCE = 16
"""For so many times the measured timeout a service may keep silent and then answer late, and still count as slow."""

_SILENCE = 2 * _SECOND
"""And for so long in any case, ns."""

_SURE = 0.95
"""The confidence asked for while there is little to go by: few samples, or hardly more that are
independent of each other, or more cut off than was accepted."""


class TimeoutEstimator:
    """A timeout that follows the *p*-quantile of the latency of one operation, seen through its own timeouts.

    All times are integer nanoseconds, points in time monotonic; one that lies before an earlier one counts as that.
    Not thread-safe: the caller holds a lock.

    Args:
        p: the share of answers that should come in time.
        settings: the others, by name, see `estimator_settings`.

    Attributes:
        ns: the timeout in force, ns. Read it as often as you like.
        next_refresh: the point in time before which ``refresh`` does nothing.
        watched: how many attempts are being watched beyond their timeout; the caller's to set.

    Raises:
        ConfigError: an argument is out of range.
        TypeError: an argument has the wrong type.
    """

    __slots__ = (
        "_answers", "_basis", "_changed_at", "_drift", "_heard", "_late", "_latest", "_lift", "_lost", "_measured",
        "_now", "_previous", "_quantile_ns", "_set", "_silence", "_step_at", "_steps", "_target", "_window",
        "next_refresh", "ns", "watched",
    )  # fmt: skip

    def __init__(self, p: float | None = None, **settings: Any) -> None:
        self._set = now_set = estimator_settings(p, **settings)
        self._window = LatencyWindow(now_set)
        self.ns = now_set.first
        self._drift = 1.0
        self._silence = Silence(self._window.edges, now_set.refresh_ns)
        self._steps = self._step_at = 0
        self._answers = self._late = self._lost = 0
        self._heard = False  # whether anything was answered since the last refresh
        self._latest = Latest()
        self._lift = 0  # the timeout is at least that, for what these tell
        self._basis: Basis = "initial"
        self._measured = self._target = self._previous = self.ns
        self._quantile_ns: int | None = None
        self._now: int | None = None
        self._changed_at: int | None = None
        self.next_refresh: int | None = None
        self.watched = 0

    def record(self, latency: int, censored: bool, now: int) -> None:
        """Take in one sample: an answer after *latency* ns, or (*censored*) an attempt given up after them."""
        self.absorb((-max(1, latency) if censored else latency,), now)

    def absorb(self, samples: Sequence[int], now: int, bins: dict[int, int] | None = None) -> None:
        """Take in many samples in the order in which the attempts ended.

        Each is the time of an answer in ns; or, negative, how long an attempt had waited when it was given up. *bins*,
        if known already, is how many fall into each bucket of `resilience.machines.distribution`.
        """
        now = self._time(now)
        edges, silence = self._window.edges, self._silence
        answered: dict[int, int] = {}
        slow: dict[int, int] = {}
        half, patience = self.ns / 2, self._patience()
        if samples and not silence.run and not silence.waiting and min(samples) >= 0:
            # Nothing timed out: one loop in C, a third of the time.
            known = bins if self._set.alpha == ALPHA else None
            answered = Counter(map(bisect_left, repeat(edges), samples)) if known is None else known
            samples = ()
        for sample in samples:
            if sample < 0:
                # A caller's impatience says nothing of an outage: only ages near the timeout count for one.
                silence.timed_out(-sample, bisect_left(edges, -sample), now, counts=-sample >= half)
                continue
            bucket = bisect_left(edges, sample)
            answered[bucket] = answered.get(bucket, 0) + 1
            silence.answered(now, patience, slow)
        if answered:
            silence.heard(self._window.edge(min(answered)), now)
            self._window.add(answered, slow, 0, silence.clock(now))
            in_time = sum(answered.values())
            self._answers += in_time
            self._heard = True
            self._count(in_time, slow)
        self._look(now)

    def _look(self, now: int) -> None:
        """Whether it is dark."""
        if self._silence.look(now, self._patience()):
            self._window.disturb()
            self._steps = 0
            self._step_at = now

    def _patience(self) -> int:
        return max(_SILENCE, _PATIENCE * self._measured)

    def late(self, latency: int, now: int) -> None:
        """An attempt that had timed out, and was watched, was answered after *latency* ns.

        What began before it and timed out was slow, then, and not lost; unless there was silence for so long before
        that it must have been a standstill, now over.
        """
        now = self._time(now)
        self._late += 1
        slow = self._silence.late(latency, now, self._patience())
        if slow is not None:
            self._heard = True
            self._count(1, slow, late=1)
            self._window.add({bisect_left(self._window.edges, latency): 1}, slow, 0, self._silence.clock(now))

    def _count(self, answers: int, slow: dict[int, int], late: int = 0) -> None:
        # What was given up early, by its caller or a hedge, was not too slow.
        over = sum(count for bucket, count in slow.items() if 2 * self._window.edge(bucket) >= self.ns)
        self._latest.count(answers + over, late + over, late)

    def lost(self, now: int) -> None:
        """An attempt that had timed out was watched up to the ceiling, and was not answered."""
        now = self._time(now)
        if self._silence.lost(self._set.ceiling, now):
            self._window.add({}, {}, 1, self._silence.clock(now))
        self._lost += 1
        self._look(now)
        self._step_at = now  # those watched say it is death, so there is no reason for more patience

    def seed(self, latencies: Iterable[int], now: int) -> None:
        """Take in answers measured elsewhere, ns each, and go where they lead, at once."""
        self.absorb([max(1, latency) for latency in latencies], now)
        self._settle(now)

    def _settle(self, now: int) -> None:
        self._basis = "initial"
        self._heard = True
        self.next_refresh = None
        self.refresh(now)

    def _time(self, now: int) -> int:
        self._now = now if self._now is None else max(now, self._now)
        return self._now

    def refresh(self, now: int) -> None:
        """Bring the timeout up to date, if it is time to (``next_refresh``)."""
        now = self._time(now)
        if self.next_refresh is not None and now < self.next_refresh:
            return
        self.next_refresh = now + self._set.refresh_ns
        if self._silence.dark:
            self._hold_still(now)
            return
        self._window.forget(self._silence.clock(now))
        self._window.step_down()
        if self._window.n_done < self._set.minimum:
            return
        first = self._basis == "initial"
        self._quantile_ns, self._basis = self._measure(self._set.p, self._set.confidence)
        self._drift = self._window.wander(self._set.drift_cap)
        quantile = self._quantile_ns
        padded = max(round(quantile * self._set.pad_rel * self._drift), quantile + self._set.pad_abs)
        if self._basis == "growing" and self.watched:
            padded = min(padded, math.ceil(self._measured * self._set.hold))  # they will tell
        padded = min(max(padded, self._set.floor), self._set.ceiling)
        if self._basis != "growing":
            self._measured = padded
        lift = min(self._lifted(), self._set.ceiling)
        if lift > padded:
            padded, self._basis = lift, "raised"
        # What grows old, or merely times out, is no evidence.
        self._target = padded if self._heard else min(padded, self.ns)
        self._heard = False
        # Up at once, for a timeout too short does harm now; down slowly, unless all there was is the first guess.
        slowest = self._target if first else math.ceil(self.ns * (1 - self._set.fall))
        self._move(max(self._target, slowest), now)

    def _lifted(self) -> int:
        """What the latest attempts ask for, where they tell that it has just become slower.

        They do if more of them came too late than chance explains where the accepted share does. If all has become
        slower by the same factor, that share tells the factor, for the window still knows how it was before.
        """
        latest, accepted = self._latest, 1 - self._set.p
        if latest.due(accepted):
            done, cut = self._window.sums()
            most = _PATIENCE if latest.late > 1 else self._set.hold  # a single one may be chance
            over = latest.look(accepted + never_ends(done, cut, self._window.lost))
            if over:
                usual = product_limit(done, cut, rank_of(1 - over, self._window.n_done + self._window.n_cut))
                factor = 1.0 if usual is None else min(most, self.ns / self._window.edge(usual))
                self._lift = round(min(factor * self._measured, 2 * self._window.edge(next(reversed(done)))))
            elif over == 0.0:
                self._lift = round(self._lift * (1 - self._set.fall))
        return self._lift

    def quantile(self, p: float) -> int | None:
        """The *p*-quantile of the answers in the window, ns, not padded; ``None`` while there are too few."""
        return self._measure(p, None)[0] if self._window.n_done >= self._set.minimum else None

    def quantiles(self, shares: Sequence[float]) -> list[int]:
        """What ``quantile`` says of each of the *shares*, in little more than the time for one; none of too few."""
        window = self._window
        if window.n_done < self._set.minimum:
            return []
        if window.n_cut or window.lost:
            return [self._measure(p, None)[0] for p in shares]
        buckets, totals = window.ascending()
        return [window.edge(buckets[bisect_left(totals, rank_of(p, totals[-1]))]) for p in shares]

    def verdicts(self, timed_out: int) -> tuple[int, int, float | None]:
        """Of the attempts watched so far, how many were answered late, and how many never.

        And, of *timed_out* attempts that it has ended, which share was cut off falsely; ``None`` if none was watched.
        """
        late, lost = self._late, self._lost
        watched = late + lost
        return late, lost, late / watched * timed_out / (timed_out + self._answers) if watched else None

    def _measure(self, p: float, confidence: float | None) -> tuple[int, Basis]:
        window = self._window
        done, cut = window.sums()
        lost = window.lost
        n = window.n_done + window.n_cut + lost
        if confidence is None:
            rank = rank_of(p, n)
        else:
            little = n * window.independent() < self._set.need or n - window.n_done > 2 * (1 - p) * n
            rank = upper_rank(n, p, max(confidence, _SURE) if little else confidence)
        longest = window.edge(next(reversed(done)))
        if rank > n:
            limit = window.edge(max(cut)) if cut and not lost else 0
            return (limit, "growing") if limit > 2 * longest else (2 * longest, "extrapolated")
        bucket = product_limit(done, cut, rank, lost)
        if bucket is not None:
            return window.edge(bucket), "measured"
        # The quantile lies above every answer; from there up, the limits are all there is to go by.
        return max(longest, window.edge(merged_rank(done, cut, rank))), "growing"

    def _hold_still(self, now: int) -> None:
        """In a blackout: one step up, and another one for each further window that stays dark."""
        steps = 1 + (now - self._step_at) // (self._set.slices * self._set.slice_ns)
        if steps > self._steps:
            self._steps = steps
            least = min(self._measured, self._silence.waited)
            held = min(self._set.ceiling, math.ceil(least * self._set.hold ** min(steps, 64)))
            self._basis = "blackout"
            self._target = max(self.ns, held)
            self._move(self._target, now)

    def _move(self, ns: int, now: int) -> None:
        if ns != self.ns:
            self._previous = self.ns
            self._changed_at = now
            self.ns = ns

    def grown(self, cut: int) -> int:
        """The timeout for an attempt after *cut* attempts of the same call that it ended, ns: doubled for each."""
        return min(self._set.ceiling, self.ns << min(cut, 64))

    # -- from one process to the next ----------------------------------------------------------------------------------

    def dump(self, now: int) -> dict[str, Any]:
        """What was learned, as plain numbers, strings and lists that JSON can carry."""
        return {
            "what": WHAT,
            "version": VERSION,
            "alpha": self._set.alpha,
            "timeout": self.ns,
            "slices": self._window.dump(self._silence.clock(self._time(now))),
        }

    def load(self, data: Any, now: int) -> None:
        """Go on from what ``dump`` described: with these samples, which age from *now* on, under these settings.

        Raises:
            ConfigError: it is of another kind or version, or a value is missing or impossible; nothing has changed.
            TypeError: a value has the wrong type; the same.
        """
        timeout = read_timeout(data, self._set.alpha)
        now = self._time(now)
        self._window.load(data["slices"], now)
        self._silence.clear()
        self._move(min(max(timeout, self._set.floor), self._set.ceiling), now)
        self._measured = self._target = self.ns
        self._settle(now)

    def explain(self, now: int, timed_out: int = 0) -> Explanation:
        """Why the timeout is what it is; *timed_out* is how many attempts it has ended so far."""
        now = self._time(now)
        window = self._window
        samples = window.n_done + window.n_cut + window.lost
        late, lost, false_timeouts = self.verdicts(timed_out)
        return Explanation(
            timeout=self.ns / _SECOND,
            target=self._target / _SECOND,
            basis=self._basis,
            p=self._set.p,
            quantile=None if self._quantile_ns is None else self._quantile_ns / _SECOND,
            padding=self._set.pad_rel,
            least_padding=self._set.pad_abs / _SECOND,
            drift=self._drift,
            samples=samples,
            censored=(window.n_cut + window.lost) / samples if samples else 0.0,
            unanswered=self._silence.left_out + (self._silence.waiting if self._silence.dark else 0),
            watched=late + lost,
            late=late,
            false_timeouts=false_timeouts,
            never_answered=never_ends(*window.sums(), window.lost),
            confident=self._basis == "measured" and self._set.confidence is not None,
            previous=self._previous / _SECOND,
            changed_ago=None if self._changed_at is None else (now - self._changed_at) / _SECOND,
        )
