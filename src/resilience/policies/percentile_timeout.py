"""A timeout learned from the measured latency: lock, clock and words around `resilience.machines.estimator`."""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakSet, ref

from .. import _checks
from .._checks import NS, to_ns
from .._listen import LISTENERS, tell
from ..errors import ConfigError
from ..events import TimeoutRevised
from ..machines.estimator import TimeoutEstimator
from ._lingering import Places, Watch
from ._warm_start import WarmStart
from .timeout import TimeoutPart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .._stats import Stats
    from ..clock import Clock
    from ..machines.explanation import Explanation

__all__ = ["PercentileTimeout"]

_KEPT = 1 << 14
"""Samples between two refreshes, a second apart; of more, the newest count."""

_MANY = 1 << 10
"""So many are worked in at once, due or not."""

_SLICES = 12


@lru_cache(maxsize=64)
def _pair(low: float, high: float) -> tuple[float, float]:
    """One object for all that are set alike: of ten thousand keys, say."""
    return low, high


class PercentileTimeout(WarmStart, TimeoutPart):
    """Give one attempt as long as the share *percentile* of the answers takes, as measured, plus some padding.

    Say how many good calls you accept to cut off: 0.999, or ``false_timeouts=0.001``, cuts one in a thousand, or
    fewer. The timeout then follows the dependency: up at once, down slowly. It starts at *initial*, until some dozens
    of answers are known. Attempts that timed out are taken for what they are, answers longer than that; so the
    estimate does not creep down by what it cut off itself. While nothing is answered at all it stays where it is: an
    outage is the circuit breaker's business. An attempt after one that this timeout ended gets twice as long, within
    *between*.

    **Late or lost?** Of the attempts that time out, up to *linger* at a time are not ended but watched, up to the
    longest timeout: their caller has its `TimedOut`, and permit and slot are given back, but the attempt goes on and
    counts nowhere but here. What is answered late was a false timeout; what is not answered at all is lost, and does
    not move the timeout. Only coroutine functions and mode "thread" can be watched: in the other modes the attempt
    ends with its time, whoever ends it. No hedged attempt is, no block, and none whose caller was cancelled or ran
    into a deadline. With ``linger=0`` each attempt ends with its time; choose it where an attempt must not overlap
    with the next one, such as on a connection that they share.

    **What counts as a sample:**

    - An answer, with the time from the start of the attempt. Waits for a token or a slot are not part of it.
    - An attempt that timed out, here or by the client's own ``TimeoutError``: longer than that. If it was watched:
      what it came to, instead.
    - An attempt that was cancelled, the loser of a hedge too, or that ran into a deadline: longer than its age.
    - An error does not: a refused connection is quick and says nothing of the latency. Nor does an attempt that the
      breaker, the limiter or the bulkhead refused.

    It can be used without a policy: `observe` what you measure, ask for `timeout` and `quantile`.

    Args:
        percentile: the share of answers that are to come in time, between 0 and 1, such as 0.99.
        false_timeouts: the same the other way round: the share of good calls that may be cut off. Give one of the two.
        between: the shortest and the longest timeout, in seconds.
        initial: the timeout until enough is known, in seconds; the longest by default.
        padding: factor on the measured percentile; more on paths over the internet. With 1, and 0 for *least_padding*,
            it aims at the accepted share itself: in the long run between a quarter and twice of that is cut off.
        least_padding: what is added at least, in seconds: a pause of either process alone can take so long.
        window: seconds of traffic that count.
        window_samples: how many samples the window is stretched to hold where traffic is low; by default as many as
            *percentile* needs, such as 299 for 0.99 and 2995 for 0.999.
        max_age: seconds after which a sample is forgotten in any case; times when nothing was answered do not count.
        linger: how many timed-out attempts may be watched at a time; 0 for none.
        mode, argument, max_abandoned: how a synchronous call is held to it, see `Timeout`.
        name: shown in messages; the policy's name by default.
        shadow: only measure, and count what would have timed out.
        clock: where time comes from; the machine's clock by default.

    Attributes:
        current: the timeout as of the last refresh, in seconds.
        max_lingering: (of the class) how many attempts all timeouts of the process may watch together; 64.

    Raises:
        ConfigError: an argument is out of range; or, when a synchronous function is decorated, the timeout could not
            bite.

    Thread-safe: samples go to a list, whose append is atomic; once a second one caller works them in under the lock.
    After Kaplan and Meier's product-limit estimator, see `resilience.machines.estimator`.
    """

    learns = True
    gauges = frozenset({"seconds", "false_timeouts"})
    levels = TimeoutPart.levels | gauges | {"lingering"}
    max_lingering: ClassVar[int] = 64
    _sources: WeakSet[Stats] | None = None
    """Policies that keep the durations of their calls, which are samples here."""
    _copies: Sequence[tuple[ref[PercentileTimeout], dict[str, int]]] = ()

    def __init__(
        self,
        percentile: float | None = None,
        *,
        false_timeouts: float | None = None,
        between: tuple[float, float],
        initial: float | None = None,
        padding: float = 1.25,
        least_padding: float = 0.005,
        window: float = 60.0,
        window_samples: int | None = None,
        max_age: float = 900.0,
        linger: int = 2,
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
        if (percentile is None) == (false_timeouts is None):
            raise ConfigError(f"give one of percentile and false_timeouts, not {percentile!r} and {false_timeouts!r}")
        self.percentile = None if percentile is None else _checks.ratio("percentile", percentile, one=False)
        self.false_timeouts = (
            None if false_timeouts is None else _checks.ratio("false_timeouts", false_timeouts, one=False)
        )
        if not isinstance(between, (tuple, list)) or len(between) != 2:
            raise TypeError(f"between must be a pair of seconds, not {between!r}")
        low = _checks.span("between[0]", between[0])
        high = _checks.span("between[1]", between[1])
        if low > high:
            raise ConfigError(f"between must hold the shorter timeout first, not {between!r}")
        self.between = _pair(low, high)
        self.initial = None if initial is None else _checks.seconds("initial", initial)
        if self.initial is not None and not low <= self.initial <= high:
            raise ConfigError(f"initial must lie between {low:g} and {high:g} s, not {initial!r}")
        self.padding = _checks.number("padding", padding, minimum=1)
        self.least_padding = _checks.seconds("least_padding", least_padding, zero=True)
        self.window = _checks.seconds("window", window)
        if to_ns(self.window) < _SLICES:
            raise ConfigError(f"window must be at least {_SLICES} nanoseconds, not {window!r}")
        self.window_samples = None if window_samples is None else _checks.count("window_samples", window_samples)
        self.max_age = _checks.seconds("max_age", max_age)
        if self.max_age < self.window:
            raise ConfigError(f"max_age must be at least window ({self.window:g} s), not {max_age!r}")
        self.linger = _checks.count("linger", linger, minimum=0)
        self._estimator = TimeoutEstimator(
            self.percentile,
            false_timeouts=self.false_timeouts,
            floor=to_ns(low),
            ceiling=to_ns(high),
            initial=None if self.initial is None else to_ns(self.initial),
            pad_rel=self.padding,
            pad_abs=to_ns(self.least_padding),
            slices=_SLICES,
            slice_ns=to_ns(self.window) // _SLICES,
            need=self.window_samples,
            max_age=to_ns(self.max_age),
        )
        self._samples: list[int] = []  # ns; negative where the attempt was cut off
        self._quick: deque[int] | None = None  # the same, from the short way, which looks at no length
        self._places: Places | None = None
        self._followed: dict[float, float | None] | None = None
        self.current = self._estimator.ns / NS
        self.due = 0

    # -- used by the story -----------------------------------------------------------------------------------------

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
        with self._lock:
            if self._quick is None:
                self._quick = deque(maxlen=_KEPT)
        return self._quick.append

    def stand_in(self, copy: PercentileTimeout) -> None:
        """*copy* works in its place for some calls, and shall show up where this one is looked at."""
        _ = self.copies  # forgets the ones that are gone, or clients made again and again would pile up here
        with self._lock:
            self._copies = [*self._copies, (ref(copy), copy._counts)]

    @property
    def copies(self) -> list[PercentileTimeout]:
        """Those that work in its place. What the ones that are gone had counted is counted here."""
        if not self._copies:
            return []
        with self._lock:
            found = [(known[0](), known) for known in self._copies]
            self._copies = [known for copy, known in found if copy is not None]
            for copy, (_, counts) in found:
                for name, count in counts.items() if copy is None else ():
                    self._counts[name] += count
        return [copy for copy, _ in found if copy is not None]

    def learn_from(self, source: Stats) -> bool:
        """Take samples from the durations a policy keeps, too; instead of a recorder."""
        with self._lock:
            if self._sources is None:
                self._sources = WeakSet()
            self._sources.add(source)
        return True

    def pull(self, source: Stats, now: int) -> None:
        """Work in what this source has now, whether it is time to or not."""
        with self._lock:
            self._work_in(now, (source,))

    def record(self, duration: int, now: int, *, censored: bool) -> None:
        """An attempt was answered after *duration* ns, or cut off (*censored*)."""
        self._samples.append(-max(1, duration) if censored else duration)
        if now >= self.due or len(self._samples) >= _MANY:
            self.refresh(now)

    def refresh(self, now: int) -> None:
        """Work in what was recorded since the last time. One caller does; others go on meanwhile."""
        if self._places is not None:
            for watch in self._places.overdue(now):
                watch.lost()
        if self._lock.acquire(blocking=False):
            try:
                before = self.current
                self._work_in(now)
                self._publish(now)
                after = self.current
            finally:
                self._lock.release()
            if after != before and TimeoutRevised in LISTENERS:
                tell(TimeoutRevised(self.title, before, after, self.explain().basis))

    def _work_in(self, now: int, sources: Iterable[Stats] | None = None) -> None:
        # All that is there now; others may go on appending.
        samples, quick = self._samples, self._quick
        batch = samples[: len(samples)]
        del samples[: len(batch)]
        if quick is not None:
            batch += [quick.popleft() for _ in range(len(quick))]
        self._estimator.absorb(batch, now)
        for source in self._sources or () if sources is None else sources:
            fresh, bins = source.drain(now)
            if fresh:
                self._estimator.absorb(fresh, now, bins)

    def _drop(self, now: int) -> None:
        self._samples.clear()
        for source in self._sources or ():
            source.drain(now)
        if self._quick is not None:
            self._quick.clear()

    def _publish(self, now: int) -> None:
        estimator = self._estimator
        estimator.watched = 0 if self._places is None else len(self._places)
        estimator.refresh(now)
        self.current = estimator.ns / NS
        self.due = estimator.next_refresh or now
        if self._followed is not None:
            for share in self._followed:
                self._followed[share] = self._quantile(share)

    def room(self) -> bool:
        """Whether an attempt that times out would be watched."""
        return self.linger > 0 and (self._places is None or self._places.room())

    def watch(self, attempt: Any, began: int) -> Watch | None:
        """Watch an *attempt*, begun then, that has timed out, if there is a place."""
        until = began + to_ns(self.between[1])
        if self.linger == 0 or self._now.monotonic_ns() >= until:
            return None
        with self._lock:
            if self._places is None:
                self._places = Places(self.linger)
        watch = Watch(attempt, began, until, self._ended)
        return watch if self._places.take(watch, self.max_lingering) else None

    def _ended(self, watch: Watch, how: str) -> None:
        """An attempt that was watched has come to its end; called by its thread or event loop."""
        assert self._places is not None
        self._places.leave(watch)
        now = self._now.monotonic_ns()
        age = max(1, now - watch.began)
        with self._lock:
            self._work_in(now)
            if how == "cut":
                self._estimator.absorb((-age,), now)
            elif how == "lost" or now > watch.until:
                self._estimator.lost(now)
            else:
                self._estimator.late(age, now)
        if now >= self.due:
            self.refresh(now)

    def follow(self, share: float) -> float | None:
        """`quantile` as of the last refresh, for those who ask at every call."""
        followed = self._followed
        if followed is None or share not in followed:
            with self._lock:
                # A new one each time, for refreshing walks over it.
                self._followed = followed = {**(followed or {}), share: self._quantile(share)}
        return followed[share]

    # -- used by people ------------------------------------------------------------------------------------------------

    def observe(self, seconds: float, *, timed_out: bool = False) -> None:
        """Count an answer that took *seconds*, measured elsewhere; or an attempt given up after them (*timed_out*).

        Raises:
            ConfigError: *seconds* is out of range.
        """
        duration = to_ns(_checks.seconds("seconds", seconds, zero=True))
        if _checks.flag("timed_out", timed_out):
            self.count("timed_out")
        self.record(duration, self._now.monotonic_ns(), censored=timed_out)

    def timeout(self) -> float:
        """The timeout for an attempt that begins now, in seconds; brought up to date if that is due."""
        now = self._now.monotonic_ns()
        if now >= self.due:
            self.refresh(now)
        return self.current

    def quantile(self, p: float) -> float | None:
        """The time in which the share *p* of the answers comes, in seconds: measured, not padded.

        ``None`` while fewer than 30 answers are known. If it lies above all that was let go on, it is where the
        attempts were cut off.

        Raises:
            ConfigError: *p* is not between 0 and 1.
        """
        p = _checks.ratio("p", p, one=False)
        with self._lock:
            self._work_in(self._now.monotonic_ns())
            return self._quantile(p)

    def quantiles(self, shares: Sequence[float]) -> list[float]:
        """What `quantile` says of each of the *shares*, not checked, once its policies were read; none if too few."""
        with self._lock:
            if self._samples or self._quick:
                self._work_in(self._now.monotonic_ns())
            return [found / NS for found in self._estimator.quantiles(shares)]

    def _quantile(self, p: float) -> float | None:
        found = self._estimator.quantile(p)
        return None if found is None else found / NS

    def explain(self) -> Explanation:
        """Why the timeout is what it is: as data, and in words by ``str()``."""
        now = self._now.monotonic_ns()
        with self._lock:
            return self._estimator.explain(now, self._counts["timed_out"])

    @property
    def counters(self) -> dict[str, int | float]:
        """Those of every timeout, and what is learned.

        ``seconds``: the timeout now. ``lingering``: attempts being watched. ``answered_late`` and ``never_answered``:
        how those watched so far ended. ``false_timeouts``: the share of all attempts that was cut off falsely,
        estimated from these; 0 while there are none.
        """
        with self._lock:
            late, lost, false_timeouts = self._estimator.verdicts(self._counts["timed_out"])
        return {
            **super().counters,
            "seconds": self.current,
            "lingering": 0 if self._places is None else len(self._places),
            "answered_late": late,
            "never_answered": lost,
            "false_timeouts": false_timeouts or 0.0,
        }
