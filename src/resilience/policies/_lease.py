"""What one client of a shared bucket knows by itself: the tokens it leased, how fast it spends, and its share.

Pure but for the lock its owner holds around every method: the time, in monotonic nanoseconds, is brought. How the
store reckons is in `resilience.machines.shared_bucket`; this is the other end of the line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._checks import NS
from ..machines.shared_bucket import ACQUIRE, Ask, Reply

if TYPE_CHECKING:
    from ..machines.shared_bucket import Scale

__all__ = ["Lease"]

_AIM = 0.15
"""Seconds that a batch should last: some seven exchanges a second for a busy client."""
_HINT_NS = NS // 10
"""For so long a refusal is remembered at most, for others may give tokens back."""


class Lease:
    """The tokens in hand. Not thread-safe: the caller holds a lock around every method.

    Args:
        scale: of the bucket.
        seconds: how long a lease lasts; 0 for none.

    Attributes:
        left: tokens that can be spent until *ends*.
        dry: until then a refusal holds, without asking again.
        expected: when the tokens that were refused can be there.
    """

    __slots__ = (
        "_asked", "_asking", "_mark", "_own", "_share", "_size", "_slot", "_us", "_used", "dry", "ends", "expected",
        "left", "scale",
    )  # fmt: skip

    def __init__(self, scale: Scale, seconds: float) -> None:
        self.scale = scale
        self._us = round(seconds * 1e6)
        self.left = self._size = self._slot = self.ends = self.dry = self.expected = 0
        self._used = 0  # tokens that callers got since the last exchange that could lease
        self._asked: int | None = None  # when that was
        self._asking = False
        self._own = 0  # tokens that callers got since the mark
        self._mark: tuple[int, int] | None = None  # the time, and all tokens spent by anybody
        self._share: float | None = None

    def drop(self) -> None:
        """Forget the tokens: they belong to another process, or to nobody."""
        self.left = self._size = 0
        self._asking = False

    @property
    def share(self) -> float:
        """This client's part in what all clients spent lately, from 0.01 to 1; 1 while nothing is known."""
        return 1.0 if self._share is None else min(1.0, max(0.01, self._share))

    def ask(self, n: int, most: int, now: int) -> tuple[Ask, bool]:
        """What to ask the store for: *n* tokens within *most* microseconds, and a new lease for the old.

        Also whether it is about the lease, which one exchange at a time is.
        """
        spent, unspent, slot, batch = 0, 0, 0, 0
        leasing = self._us > 0 and not self._asking
        if leasing:
            self._asking = True
            if self._size:
                spent, unspent, slot = self._size - self.left, self.left, self._slot
                self._used += spent
                self._own += spent if now < self.ends else self._size  # the store takes an expired lease for spent
                self.left = self._size = 0
            used = self._used + n
            if self._asked is not None and now > self._asked:
                # By no more than twice what was used: one quick call after another is no rate yet.
                batch = min(2 * used, int(used / (now - self._asked) * NS * _AIM))
            self._asked, self._used = now, 0
        return Ask(ACQUIRE, *self.scale, n, most, batch, self._us if batch else 0, spent, unspent, slot), leasing

    def answered(self, ask: Ask, leasing: bool, reply: Reply, sent: int) -> None:
        """The store said *reply* to an *ask* made at *sent*."""
        if leasing:
            self._asking = False
        if reply.leased:
            self.left = self._size = reply.leased
            self._slot = reply.slot
            # From before the store began to count, and a fiftieth shorter, for clocks differ in speed too.
            self.ends = sent + self._us * 980
        if reply.granted:
            self._own += ask.n
            if not leasing:
                self._used += ask.n
        elif reply.wait > 0 and ask.n:
            self.expected = sent + reply.wait * 1000
            self.dry = min(self.expected, sent + _HINT_NS)
        self._weigh(reply.total, sent)

    def failed(self, leasing: bool) -> None:
        """There was no answer; what was settled or leased is known to nobody, and expires."""
        if leasing:
            self._asking = False

    def _weigh(self, total: int, now: int) -> None:
        """Compare what was spent here with what was spent in all, about once a second."""
        if self._mark is None or total < self._mark[1]:  # the store has lost its memory
            self._mark, self._own = (now, total), 0
            return
        began, before = self._mark
        if now - began >= NS and total > before:
            share = self._own / (total - before)
            self._share = share if self._share is None else (self._share + share) / 2
            self._mark, self._own = (now, total), 0

    def give_back(self) -> Ask | None:
        """The exchange that returns what is left, if something is."""
        if not self._size or self._asking:
            return None
        ask = Ask(ACQUIRE, *self.scale, spent=self._size - self.left, unspent=self.left, slot=self._slot)
        self.drop()
        return ask
