"""Attempts that timed out, until an answer tells what they were: slow, or asked in an outage.

An answer vouches for what began no later than its own attempt: that timed out because it was slow. A long row of
timeouts without any answer is a blackout, and says nothing of the latency. The last answers to what was asked before
an outage come during that, late; so what counts as a sign of life is when the answered attempt *began*.

This file knows ages, buckets and points in time that are handed in. It refuses to know what is made of the counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Silence"]

_BLACKOUT = 10
"""Timeouts in a row without an answer. With as many as half of all calls too slow, chance makes one in a thousand."""

_BATCHES = 64
"""So many batches of timeouts without an answer between them are kept; a longer row of them is an outage anyway."""

_NEVER = -(1 << 62)


class Silence:
    """What timed out since the last answer. All times are integer nanoseconds. Not thread-safe.

    Args:
        edges: the upper border of each bucket, ns.
        delay: how long after its end a result may be handed in, ns.

    Attributes:
        run: how many attempts in a row timed out, or were lost, without an answer.
        dark: whether that is a blackout.
        since: when that began, or when it was last confirmed.
        left_out: how many timeouts were left out of account since the beginning.
    """

    __slots__ = (
        "_alive",
        "_batches",
        "_delay",
        "_edges",
        "_heard_at",
        "_over_at",
        "_slow_at",
        "dark",
        "left_out",
        "run",
        "since",
    )

    def __init__(self, edges: Sequence[int], delay: int) -> None:
        self._edges = edges
        self._delay = delay
        self.left_out = self.since = 0
        self._over_at = _NEVER  # what began before that says nothing
        self.clear()

    def clear(self) -> None:
        """Begin anew, with nothing heard."""
        self._batches: list[tuple[int, dict[int, int]]] = []
        self._alive = _NEVER  # when the latest attempt that was answered began
        self._slow_at = _NEVER  # the same, of those that were answered late
        self._heard_at: int | None = None
        self.run = 0
        self.dark = False

    @property
    def waiting(self) -> int:
        """How many timeouts no answer has told about."""
        return sum(sum(counts.values()) for _, counts in self._batches)

    def timed_out(self, age: int, bucket: int, now: int, *, counts: bool) -> None:
        """An attempt was given up at this age; *counts* as a sign of an outage."""
        if now - age <= self._over_at:
            self.left_out += 1
            return
        if not self._batches or self._batches[-1][0] != now:
            self._batches.append((now, {}))
            if len(self._batches) > _BATCHES:
                self.left_out += sum(self._batches.pop(0)[1].values())
        batch = self._batches[-1][1]
        batch[bucket] = batch.get(bucket, 0) + 1
        self.run += counts

    def answered(self, now: int, patience: int, slow: dict[int, int]) -> None:
        """An answer came in time: add what timed out before it to *slow*, or leave it out."""
        if not self.run and not self._batches:
            return
        if self.run < _BLACKOUT or now - self._slow_at <= patience:
            self._vouch(now, slow)
        else:
            self._outage_over(now)
        self.run = 0

    def heard(self, age: int, now: int) -> None:
        """Some were answered in time, the quickest at this age."""
        self._alive = max(self._alive, now - age)
        self._heard_at = now
        self.dark = False

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
            self._outage_over(now)
        else:
            self._vouch(began, slow)
        if sign:
            self._alive = self._slow_at = began
            self._heard_at = now
            self.run = 0
            self.dark = False
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
        return True

    def _vouch(self, until: int, slow: dict[int, int]) -> None:
        """What began by *until* was slow."""
        kept = []
        for at, counts in self._batches:
            left = {}
            for bucket, count in counts.items():
                if at - self._edges[min(bucket, len(self._edges) - 1)] <= until:
                    slow[bucket] = slow.get(bucket, 0) + count
                else:
                    left[bucket] = count
            if left:
                kept.append((at, left))
        self._batches = kept

    def _outage_over(self, now: int) -> None:
        """What timed out says nothing; nor does what is still to time out of that time."""
        self.left_out += self.waiting
        self._batches = []
        self._over_at = now + self._delay
