"""What asking a shared bucket came to, and the reservation that callers get of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .._checks import NS, to_ns

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..machines import bucket
    from ._shared import SharedBucket

__all__ = ["Grant", "SharedReservation", "microseconds"]

LONGEST_US = 4 * 10**15
"""More than a century; and below 2**53."""


def microseconds(timeout: float | None) -> int:
    """A timeout as the store takes it."""
    if timeout is None or timeout == math.inf:
        return LONGEST_US
    return min(LONGEST_US, to_ns(timeout) // 1000)


class Grant:
    """What came of asking for *n* tokens: *wait* ns to go, until *at*; *due* is that moment by the store's clock."""

    __slots__ = ("at", "due", "granted", "n", "promise", "wait")

    def __init__(self, granted: bool, n: int, wait: int, at: int, due: int, promise: bucket.Reservation | None) -> None:
        self.granted = granted
        self.n = n
        self.wait = wait
        self.at = at
        self.due = due
        self.promise = promise


class SharedReservation:
    """Tokens that are this client's at a known moment; as `resilience.Reservation`. Thread-safe."""

    __slots__ = ("_at", "_back", "_cancelled", "_owner", "delay", "n")

    def __init__(self, owner: SharedBucket, n: int, wait: int, at: int, back: Callable[[], bool]) -> None:
        self._owner = owner
        self._at = at
        self._back = back
        self._cancelled = False
        self.n = n
        self.delay = wait / NS

    @property
    def wait(self) -> float:
        """Seconds still to wait from now."""
        if self._cancelled:
            raise self._owner.refusal("TokenBucket", None, "this reservation was cancelled")
        return max(0.0, (self._at - self._owner.now()) / NS)

    def cancel(self) -> bool:
        """Give the tokens back, which takes an exchange with the store. False if that is no longer possible.

        Possible before their moment, and if nobody stands behind in the line.
        """
        if self._cancelled or self._owner.now() >= self._at:
            return False
        self._cancelled = self._back()
        return self._cancelled

    def __repr__(self) -> str:
        left = "cancelled" if self._cancelled else f"wait {self.wait:.3g} s"
        return f"<Reservation of {self.n}, {left}>"
