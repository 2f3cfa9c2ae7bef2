"""Attempts that timed out, until an answer tells what they were: slow, or asked in an outage.

An answer vouches for what began no later than its own attempt: that timed out because it was slow. A long row of
timeouts without any answer is a blackout, and says nothing of the latency. The last answers to what was asked before
an outage come during that, late; so what counts as a sign of life is when the answered attempt *began*.

This file knows ages, buckets and points in time that are handed in. It refuses to know what is made of the counts.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Silence"]

_BLACKOUT = 10
"""Timeouts in a row without an answer. With as many as half of all calls too slow, chance makes one in a thousand."""

_ROWS = 64
"""So many rows of timeouts without an answer between them are kept; more of them are an outage anyway."""

_NEVER = -(1 << 62)


class Silence:
    """What timed out since the last answer. All times are integer nanoseconds. Not thread-safe.

    Args:
        edges: the upper border of each bucket, ns.
        delay: how long after its end a result may be handed in, ns.

    Attributes:
        run: how many attempts in a row timed out, or were lost, without an answer.
        dark: whether that is a blackout.
        waited: how long the first one waited that timed out since the last answer in time, ns: the timeout in force
            when that silence began.
        left_out: how many timeouts were left out of account since the beginning.
    """

    __slots__ = (
        "_alive",
        "_dark_at",
        "_delay",
        "_edges",
        "_heard_at",
        "_over_at",
        "_rows",
        "_slow_at",
        "_stood",
        "dark",
        "left_out",
        "run",
        "waited",
    )

    def __init__(self, edges: Sequence[int], delay: int) -> None:
        self._edges = edges
        self._delay = delay
        self.left_out = 0
        self._over_at = _NEVER  # what began before that says nothing
        self.clear()

    def clear(self) -> None:
        """Begin anew, with nothing heard."""
        # When, in which bucket, and how many, thrice as many numbers as rows; nothing while there are none: in an
        # outage ten thousand keys may have some.
        self._rows: array[int] | None = None
        self._alive = _NEVER  # when the latest attempt that was answered began
        self._slow_at = _NEVER  # the same, of those that were answered late
        self._heard_at: int | None = None
        self.run = self.waited = 0
        self.dark = False
        self._dark_at = self._stood = 0

    @property
    def waiting(self) -> int:
        """How many timeouts no answer has told about."""
        return 0 if self._rows is None else sum(self._rows[2::3])

    def clock(self, now: int) -> int:
        """A time that stands still while it is dark: nothing that was learned grows old then."""
        return (self._dark_at if self.dark else now) - self._stood

    def timed_out(self, age: int, bucket: int, now: int, *, counts: bool) -> None:
        """An attempt was given up at this age; *counts* as a sign of an outage."""
        if now - age <= self._over_at:
            self.left_out += 1
            return
        rows = self._rows
        if rows is None:
            rows = self._rows = array("q")
        if rows and rows[-3] == now and rows[-2] == bucket:
            rows[-1] += 1
        else:
            rows.extend((now, bucket, 1))
            if len(rows) > 3 * _ROWS:
                self.left_out += rows[2]
                del rows[:3]
        if counts:
            self.waited = self.waited or age
            self.run += 1

    def answered(self, now: int, patience: int, slow: dict[int, int]) -> None:
        """An answer came in time: add what timed out before it to *slow*, or leave it out."""
        if not self.run and self._rows is None:
            return
        if self.run < _BLACKOUT or now - self._slow_at <= patience:
            self._vouch(now, slow)
        else:
            self._leave_out(now)
        self.run = self.waited = 0

    def heard(self, age: int, now: int) -> None:
        """Some were answered in time, the quickest at this age."""
        self._alive = max(self._alive, now - age)
        self._heard_at = now
        self._over(now)

    def late(self, age: int, now: int, patience: int) -> dict[int, int] | None:
        """An attempt that was watched was answered: what timed out and was slow; ``None`` if it says nothing at all.

        After silence for longer than *patience* it was a standstill, now over.
        """
        began = now - age
        sign = began > self._alive
        if self.dark and not sign:
            return None
        slow: dict[int, int] = {}
        silent = 0 if self._heard_at is None else now - self._heard_at
        if sign and self.run >= _BLACKOUT and silent > patience:
            self._leave_out(now)
        else:
            self._vouch(began, slow)
        if sign:
            self._alive = self._slow_at = began
            self._heard_at = now
            self.run = 0
            self._over(now)
        return slow

    def lost(self, age: int, now: int) -> bool:
        """An attempt that was watched was never answered: whether that says anything of times without an outage."""
        self.run += 1
        return not self.dark and now - age > self._over_at

    def look(self, now: int, patience: int) -> bool:
        """Whether it is dark from now on, and was not before. What answered late, not long ago, is slow instead."""
        if self.run < _BLACKOUT or self.dark or now - self._slow_at <= patience:
            return False
        self.dark = True
        self._dark_at = now
        return True

    def _over(self, now: int) -> None:
        """It is not dark, or not any more."""
        if self.dark:
            self.dark = False
            self._stood += now - self._dark_at

    def _vouch(self, until: int, slow: dict[int, int]) -> None:
        """What began by *until* was slow."""
        if self._rows is None:
            return
        kept = array("q")
        row = iter(self._rows)
        for at, bucket, count in zip(row, row, row, strict=True):
            if at - self._edges[min(bucket, len(self._edges) - 1)] <= until:
                slow[bucket] = slow.get(bucket, 0) + count
            else:
                kept.extend((at, bucket, count))
        self._rows = kept or None

    def _leave_out(self, now: int) -> None:
        """What timed out says nothing; nor does what is still to time out of that time."""
        self.left_out += self.waiting
        self._rows = None
        self._over_at = now + self._delay
