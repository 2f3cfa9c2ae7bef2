"""Token buckets, one for each key (`Table`), in bounded memory.

This file knows how to remember many buckets and which of them may be forgotten; the bucket itself
(`Rate`, `Lane`, `Reservation`, to be had from here too) is in `resilience.machines.lane`. Like
that one it knows nothing of clocks, sleeping, locks or wake-ups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._checks import count
from .lane import DAWN, Lane, Rate, Reservation, impossible

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["Lane", "Rate", "Reservation", "Table"]

# How many keys the hand looks at for each new one. While it goes round k keys, k / 3 new ones come,
# so no more than those can be full and not yet found: at most 1.5 times as many keys are kept as
# have a debt. (With 3 it would be 2 times.)
_SWEEP = 4
# The same when there is no room.
_SEARCH = 32


class Table:
    """A bucket for each key, all of one `Rate`, remembering at most *max_keys* keys.

    Each key keeps only its TAT, an integer; one whose callers wait has a `Lane` for as long as they
    do. A full bucket differs in nothing from a fresh one, so a hand goes round the keys, a few
    steps for each new key, and forgets the full ones: no debt is ever lost, and an operation takes
    O(1) steps (`cancel`: O(waiting for that key)).

    If those steps free no room, a new key is served by the overflow bucket, one for all such keys.
    It has the same rate, so the bound of each of them holds; they only get less than they could. A
    new key starts with the overflow bucket's debt, because part of that may be its own.

    Readings and n are as for `Lane`. Keys compare as in a dict. Not thread-safe: the caller holds a
    lock.

    Attributes:
        evictions: how many full buckets were forgotten.
        overflows: how many requests the overflow bucket granted or promised.

    Raises:
        TypeError, ConfigError: max_keys is not a whole number >= 1.
    """

    __slots__ = (
        "_burst",
        "_hand",
        "_interval",
        "_lanes",
        "_overflow",
        "_ring",
        "_scale",
        "_slack",
        "_tats",
        "evictions",
        "last",
        "max_keys",
        "overflows",
        "rate",
    )

    def __init__(self, rate: Rate, max_keys: int) -> None:
        self.max_keys = count("max_keys", max_keys)
        self.rate = rate
        self._burst = rate.burst
        self._interval = rate.interval
        self._scale = rate.scale
        self._slack = rate.slack
        self.last = DAWN
        self.evictions = 0
        self.overflows = 0
        # A known key is in exactly one of these two, and once in the ring (in no order), where the
        # hand goes round: 8 bytes a key, and unlike a dict it can be walked while it changes.
        self._tats: dict[Hashable, int] = {}
        self._lanes: dict[Hashable, Lane] = {}
        self._ring: list[Hashable] = []
        self._hand = 0
        self._overflow = Lane(rate)

    def __len__(self) -> int:
        return len(self._ring)

    def take(self, key: Hashable, n: int, now: int) -> bool:
        """As `Lane.take`, for *key*."""
        # The hot path, which is Lane.take written out.
        if n > self._burst:
            raise impossible(n, self._burst)
        if now < self.last:
            now = self.last
        else:
            self.last = now
        tat = self._tats.get(key)
        if tat is None:
            return self._take_unusual(key, n, now)
        now *= self._scale
        tat = (tat if tat > now else now) + n * self._interval
        if tat - now > self._slack:
            return False
        self._tats[key] = tat
        return True

    def _take_unusual(self, key: Hashable, n: int, now: int) -> bool:
        """Take for a key that is new or for which someone waits, or waited."""
        if key in self._lanes:
            lane = self._find(key)
            taken = lane.take(n, now)
            self._store(key, lane)
            return taken
        unit = now * self._scale
        tat = max(self._overflow.tat, unit) + n * self._interval
        if tat - unit > self._slack:
            return False
        if self._room(unit):
            self._ring.append(key)
            self._tats[key] = tat
        else:
            self._overflow.take(n, now)
            self.overflows += 1
        return True

    def wait(self, key: Hashable, n: int, now: int) -> int:
        """As `Lane.wait`, for *key*."""
        return self._find(key).wait(n, now)

    def available(self, key: Hashable, now: int) -> int:
        """As `Lane.available`, for *key*."""
        return self._find(key).available(now)

    def waiting(self, key: Hashable, now: int) -> int:
        """As `Lane.waiting`, for *key*; those in the overflow bucket are not counted."""
        self.last = max(now, self.last)
        return self._find(key).waiting(self.last)

    def reserve(self, key: Hashable, n: int, now: int, max_wait: int | None) -> Reservation | None:
        """As `Lane.reserve`, for *key*. Give it back with the same key."""
        self.last = max(now, self.last)
        lane = self._find(key)
        promise = lane.reserve(n, now, max_wait)
        if promise is None:
            return None
        if key not in self._tats and key not in self._lanes:
            if not self._room(self.last * self._scale):
                # The bucket just asked had the overflow bucket's TAT, so the answer is the same.
                promise = self._overflow.reserve(n, self.last, None)
                assert promise is not None
                promise.shared = True
                self.overflows += 1
                return promise
            self._ring.append(key)
        self._store(key, lane)
        return promise

    def cancel(self, key: Hashable, reservation: Reservation, now: int) -> list[Reservation]:
        """As `Lane.cancel`, for a reservation of *key*."""
        self.last = max(now, self.last)
        if reservation.shared:
            return self._overflow.cancel(reservation, self.last)
        if key not in self._tats and key not in self._lanes:
            return []  # forgotten, so its bucket is full
        lane = self._find(key)
        moved = lane.cancel(reservation, self.last)
        self._store(key, lane)
        return moved

    def refund(self, key: Hashable, reservation: Reservation, now: int) -> bool:
        """As `Lane.refund`, for a reservation of *key*."""
        self.last = max(now, self.last)
        if reservation.cancelled or reservation.start > self.last:
            return False
        self.cancel(key, reservation, self.last)
        return reservation.cancelled

    def promoted(self) -> int:
        """How many keys have a `Lane`, because someone waits, or waited when it was last seen."""
        return len(self._lanes)

    def _find(self, key: Hashable) -> Lane:
        """The key's bucket. If only its TAT is kept, or not even that, a copy to be stored."""
        lane = self._lanes.get(key)
        if lane is None:
            lane = Lane(self.rate, self._tats.get(key, self._overflow.tat))
        lane.last = self.last
        return lane

    def _store(self, key: Hashable, lane: Lane) -> None:
        """Keep a bucket in the smaller way that will do."""
        if lane.waiting(self.last):
            self._tats.pop(key, None)
            self._lanes[key] = lane
        else:
            self._lanes.pop(key, None)
            self._tats[key] = lane.tat

    def _room(self, unit: int) -> bool:
        """Sweep, and say whether there is room for one more key."""
        self._sweep(_SWEEP, unit)
        if len(self._ring) >= self.max_keys:
            self._sweep(_SEARCH, unit)
        return len(self._ring) < self.max_keys

    def _sweep(self, steps: int, unit: int) -> None:
        """Move the hand on, forgetting full buckets, and lanes in which nobody waits any more."""
        ring, tats, hand = self._ring, self._tats, self._hand
        for _ in range(min(steps, len(ring))):
            if hand >= len(ring):
                hand = 0
            key = ring[hand]
            tat = tats.get(key)
            if tat is None:
                lane = self._lanes[key]
                if lane.waiting(self.last):
                    hand += 1
                    continue
                del self._lanes[key]
                tat = tats[key] = lane.tat
            if tat > unit:
                hand += 1
                continue
            del tats[key]
            final = ring.pop()
            if hand < len(ring):
                ring[hand] = final
            self.evictions += 1
        self._hand = hand
