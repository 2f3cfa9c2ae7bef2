"""An exact token bucket, as one integer.

That integer is the theoretical arrival time ("TAT"), when the bucket would be full again, as in the
generic cell rate algorithm (GCRA) of ITU-T I.371. A token costs per/rate seconds, an exact fraction
P/c of a nanosecond, so time is counted in units of 1/c ns, in which a token costs P: nothing is
ever rounded, at any rate.

What holds, with tokens counted at the reading at which they were granted (tokens that were given
back not at all):

* in any span from reading s to reading e at most ``burst + rate * (e - s + 1 ns)`` are granted. The
  nanosecond is there because a reading t stands for any moment in [t, t + 1): a caller whose own
  arithmetic (floats, floor, round) puts it one nanosecond early is not refused. It does not add up:
  the TAT advances by exact costs;
* a clock that steps back changes nothing: until it has caught up, the latest reading at which
  something was asked for, promised or given back counts as the time.

This file knows nothing of clocks, sleeping, locks or wake-ups: the caller brings the time, waits,
and wakes the others. A bucket for each key is in `resilience.machines.bucket`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import islice
from numbers import Rational

from .._checks import NS, count, number, seconds
from ..errors import ConfigError

__all__ = ["Lane", "Rate", "Reservation"]

# Earlier than any clock's reading (146 years before its origin): where a full bucket's TAT starts.
DAWN = -(1 << 62)


def _exact(value: object) -> Fraction:
    """The number its author wrote down: the float 0.1 means 1/10."""
    if isinstance(value, timedelta):
        return Fraction(value // timedelta(microseconds=1), 1_000_000)
    if isinstance(value, Rational | Decimal):
        return Fraction(value)
    return Fraction(repr(float(value)))  # type: ignore[arg-type]  # checked before


def impossible(n: int, burst: int) -> ConfigError:
    """The error for more tokens than the bucket can hold."""
    return ConfigError(f"n must be at most burst ({burst}), not {n!r}: it could never pass")


@dataclass(frozen=True, slots=True)
class Rate:
    """*rate* tokens every *per* seconds, of which up to *burst* can be saved up.

    Args:
        rate: tokens per *per* seconds; finite, > 0, may be below 1. A float means the decimal it
            prints as, so 0.1 is exactly a tenth.
        per: seconds (or a ``timedelta``); finite, > 0.
        burst: the size of the bucket in tokens; a whole number >= 1.

    Raises:
        TypeError, ConfigError: an argument of the wrong type, or out of its range.

    Immutable, so any number of threads and buckets may share it.
    """

    rate: float | Fraction | Decimal
    per: float | Fraction | timedelta = 1.0
    burst: int = 1
    scale: int = field(init=False, repr=False, compare=False)
    """c: units of time in a nanosecond."""
    interval: int = field(init=False, repr=False, compare=False)
    """P: what one token costs, in units."""
    slack: int = field(init=False, repr=False, compare=False)
    """How far the TAT may lie ahead of a reading: burst tokens and one nanosecond, in units."""

    def __post_init__(self) -> None:
        number("rate", self.rate, above=0)
        seconds("per", self.per)
        burst = count("burst", self.burst)
        cost = _exact(self.per) * NS / _exact(self.rate)
        put = object.__setattr__
        put(self, "burst", burst)
        put(self, "scale", cost.denominator)
        put(self, "interval", cost.numerator)
        put(self, "slack", burst * cost.numerator + cost.denominator)


class Reservation:
    """Tokens promised for a moment.

    Not thread-safe: read it under the lock of its `Lane` or `Table`, which alone writes it (except
    for `waiter`).

    Attributes:
        n: how many tokens.
        start: the reading (ns) from which they may be used. It can change while it lies ahead.
        tat_after: the bucket's TAT right after them, in the units of `rate`.
        rate: the `Rate` under which they were promised.
        cancelled: they were given back, or can never come (see `Lane.rerate`): not to be used.
        shared: promised by a `Table`'s overflow bucket.
        waiter: whatever the driver wants to find here, such as what wakes the one who waits.
    """

    __slots__ = ("cancelled", "n", "rate", "shared", "start", "tat_after", "waiter")

    def __init__(self, n: int, start: int, tat_after: int, rate: Rate) -> None:
        self.n = n
        self.start = start
        self.tat_after = tat_after
        self.rate = rate
        self.cancelled = False
        self.shared = False
        self.waiter: object = None

    def __repr__(self) -> str:
        end = ", cancelled" if self.cancelled else ""
        return f"<Reservation n={self.n} start={self.start}{end}>"


class Lane:
    """One bucket's moving part: its TAT, and the reservations that wait, in order of arrival.

    Full when fresh. Every `now` is an integer reading in nanoseconds, of a clock that may step
    back; every n a whole number >= 1 (the caller has checked); n above the burst raises
    ConfigError, since it could never pass. Not thread-safe: the caller holds a lock.
    """

    __slots__ = ("_burst", "_interval", "_scale", "_slack", "last", "pending", "rate", "tat")

    def __init__(self, rate: Rate, tat: int | None = None) -> None:
        self._adopt(rate)
        self.tat = DAWN * rate.scale if tat is None else tat
        self.last = DAWN
        self.pending: deque[Reservation] = deque()

    def _adopt(self, rate: Rate) -> None:
        self.rate = rate
        self._burst = rate.burst
        self._interval = rate.interval
        self._scale = rate.scale
        self._slack = rate.slack

    def take(self, n: int, now: int) -> bool:
        """Take n tokens at once, or none: False while they are missing or someone waits. O(1)."""
        # The hot path, so no calls. Waiters cannot be overtaken: they have moved the TAT.
        if n > self._burst:
            raise impossible(n, self._burst)
        if now < self.last:
            now = self.last
        else:
            self.last = now
        now *= self._scale
        tat = self.tat
        tat = (tat if tat > now else now) + n * self._interval
        if tat - now > self._slack:
            return False
        self.tat = tat
        return True

    def wait(self, n: int, now: int) -> int:
        """Nanoseconds from *now* until n tokens reserved now could be used; 0 if `take` gives them.

        It leads to the first or second reading at which `take` succeeds, if nobody else comes.
        """
        clock = max(now, self.last)
        start = self._place(n, self.tat, clock)[0]
        return start - now if start > clock else 0

    def reserve(self, n: int, now: int, max_wait: int | None) -> Reservation | None:
        """Promise n tokens, behind all earlier promises; at once if `take` would give them.

        None, and nothing changed, if that would be over *max_wait* ns after *now*. O(1) on average.
        """
        clock = self.last = max(now, self.last)
        start, tat = self._place(n, self.tat, clock)
        if max_wait is not None and start > clock and start - now > max_wait:
            return None
        self._prune()
        self.tat = tat
        promise = Reservation(n, start, tat, self.rate)
        if start > clock:
            self.pending.append(promise)
        return promise

    def _place(self, n: int, tat: int, clock: int) -> tuple[int, int]:
        """Place n tokens behind *tat*: the reading at which they may go, and the TAT after them."""
        if n > self._burst:
            raise impossible(n, self._burst)
        unit = clock * self._scale
        tat = max(tat, unit) + n * self._interval
        if tat - unit <= self._slack:
            return clock, tat
        # Rounded down, to the reading that contains the moment. Rounding up would let a late start
        # and an early next one (by the tolerated nanosecond) come too close and break the bound.
        return (tat - self._burst * self._interval) // self._scale, tat

    def _prune(self) -> None:
        pending, last = self.pending, self.last
        while pending and pending[0].start <= last:
            pending.popleft()

    def _replan(self, index: int, tat: int) -> list[Reservation]:
        """Place the pending from *index* on anew, as if they all arrived now; those that moved."""
        # `_place` written out, for a *tat* not behind the clock: whenever one of a crowd gives up,
        # all behind come through here.
        moved = []
        last, interval, scale = self.last, self._interval, self._scale
        unit, whole = last * scale, self._burst * interval
        for promise in islice(self.pending, index, None):
            tat += promise.n * interval
            start = last if tat - unit <= self._slack else (tat - whole) // scale
            promise.tat_after = tat
            promise.rate = self.rate
            if start != promise.start:
                promise.start = start
                moved.append(promise)
        self.tat = tat
        return moved

    def cancel(self, reservation: Reservation, now: int) -> list[Reservation]:
        """Give a promise back; returns those whose start moved, for the caller to wake. O(pending).

        Not started: its tokens are free again, and all later promises move up, as if they had all
        arrived now. Started: as `refund`, and nobody moves. Cancelled already: nothing happens.

        Raises:
            ValueError: it has not started and is not this lane's.
        """
        self.last = max(now, self.last)
        self._prune()
        if reservation.cancelled:
            return []
        if reservation.start <= self.last:
            self.refund(reservation, now)
            return []
        index = self.pending.index(reservation)
        del self.pending[index]
        reservation.cancelled = True
        # It has to wait, so the TAT before it lies ahead of the clock: this is that TAT.
        return self._replan(index, reservation.tat_after - reservation.n * self._interval)

    def refund(self, reservation: Reservation, now: int) -> bool:
        """Give the tokens of a started but unused reservation back, if nobody got any since.

        False otherwise, and nothing changes, because the credit could break the bound. With burst 2
        and a token a second: A goes at 0 (full again at 1), B at 1.5 (full again at 2.5). If A's
        token were put back at 1.5, two more could go there, three at one moment: A's place had been
        filled again by 1, so there was nothing left to give back.
        """
        self.last = max(now, self.last)
        if (
            reservation.cancelled
            or reservation.start > self.last
            or reservation.tat_after != self.tat
            or reservation.rate is not self.rate
        ):
            return False
        self.tat -= reservation.n * self._interval
        reservation.cancelled = True
        return True

    def available(self, now: int) -> int:
        """How many tokens `take` could get now: 0 to burst."""
        unit = max(now, self.last) * self._scale
        free = (self._slack - max(self.tat - unit, 0)) // self._interval
        return min(max(free, 0), self._burst)

    def started(self, reservation: Reservation, now: int) -> bool:
        """Whether its tokens may be used: its time has come and it was not cancelled."""
        return not reservation.cancelled and reservation.start <= max(now, self.last)

    def waiting(self, now: int) -> int:
        """How many reservations have not started."""
        self.last = max(now, self.last)
        self._prune()
        return len(self.pending)

    def idle(self, now: int) -> bool:
        """Whether the bucket is full: then it differs in nothing from a fresh one."""
        return self.tat <= max(now, self.last) * self._scale

    def rerate(self, rate: Rate, now: int) -> list[Reservation]:
        """Change rate and burst; returns whom to wake: whose start moved, or who was cancelled.

        Kept: how many tokens (and parts of one) are missing from the bucket, though never more than
        the new burst. So over a span with a change inside, no more is granted than the larger burst
        plus what each rate yields in its part of the span and one nanosecond. Promises that wait
        are placed anew, earlier or later, whatever max_wait was; those of more tokens than the new
        burst are cancelled. What has started under another rate cannot be refunded. O(pending).
        """
        self.last = max(now, self.last)
        self._prune()
        first = next(iter(self.pending), None)
        tat = self.tat if first is None else first.tat_after - first.n * self._interval
        missing = max(tat - self.last * self._scale, 0)
        missing = -(-missing * rate.interval // self._interval)  # rounded up: never in excess
        self._adopt(rate)
        lost = [promise for promise in self.pending if promise.n > rate.burst]
        for promise in lost:
            promise.cancelled = True
        self.pending = deque(promise for promise in self.pending if not promise.cancelled)
        tat = self.last * rate.scale + min(missing, rate.burst * rate.interval)
        return lost + self._replan(0, tat)
