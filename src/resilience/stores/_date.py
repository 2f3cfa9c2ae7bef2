"""What time it is at a server whose only clock is the date in its answers.

An answer dated 12:00:07 was made at a moment from 12:00:07 to 12:00:08, and between the request and the answer by the
local clock. So the difference of the two clocks lies in an interval of a second and a round trip; several answers have
intervals that it lies in all of. The local clock is believed where it can be right, and is taken to the nearest end of
the interval where it cannot.
"""

from __future__ import annotations

import threading
import time
from email.utils import parsedate_to_datetime

__all__ = ["Dated"]

_S = 1_000_000
_LASTS = 600 * _S
"""So long an answer says something: the speeds of two clocks differ too. A hundred parts in a million are 60 ms."""


def _micros() -> int:
    return time.monotonic_ns() // 1000


class Dated:
    """The server's time, in microseconds since 1970. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._guess = time.time_ns() // 1000 - _micros()
        self._low, self._high = self._guess, self._guess
        self._since: int | None = None

    def local(self) -> int:
        """A reading of the local clock, for `heard`."""
        return _micros()

    def heard(self, date: str, sent: int, received: int) -> None:
        """An answer with this ``Date`` header came to a request; the times are readings of `local`."""
        try:
            server = int(parsedate_to_datetime(date).timestamp()) * _S
        except ValueError:
            return
        low, high = server - received, server + _S - sent
        with self._lock:
            stale = self._since is None or received - self._since > _LASTS
            if stale or low > self._high or high < self._low:
                self._low, self._high, self._since = low, high, received
            else:
                self._low, self._high = max(self._low, low), min(self._high, high)

    def now(self) -> int:
        """The server's time, within a second and a round trip once something was heard."""
        with self._lock:
            return _micros() + min(max(self._guess, self._low), self._high)
