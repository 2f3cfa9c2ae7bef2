"""What waiting for tokens is, whether from one bucket or from that of a key.

The pure machine (`resilience.machines.bucket`) promises moments; here they are waited for, without a lock.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from .. import _checks
from .._checks import NS, to_ns
from .._listen import LISTENERS, tell
from .._part import Part
from ..errors import ConfigError, RateLimited
from ..events import Waited
from ..machines.bucket import Rate

if TYPE_CHECKING:
    from collections.abc import Iterable
    from fractions import Fraction

    from .._runtime import Runtime
    from .._scope import Limit
    from ..clock import Clock
    from ..machines import bucket

__all__ = ["Limiter", "Line", "Reservation", "bounded", "check_timeout", "wake"]


def check_timeout(timeout: float | None) -> None:
    """Refuse a timeout that is none, even where it does not come to waiting."""
    if timeout is not None:
        _checks.seconds("timeout", timeout, zero=True, inf=True)


def bounded(timeout: float | None, limit: Limit | None, now: int) -> float | None:
    """The seconds that may be waited from *now* on: *timeout*, or what *limit* leaves if that is less."""
    if limit is None:
        return timeout
    left = max(0.0, limit.left(now))
    return left if timeout is None else min(timeout, left)


def wake(moved: Iterable[bucket.Reservation]) -> None:
    """Tell those whose moment has changed; outside the lock."""
    for reservation in moved:
        if reservation.waiter is not None:
            reservation.waiter.wake()  # type: ignore[attr-defined]


class Reservation:
    """A place in the line: tokens that are yours at a known moment. Use it once; thread-safe.

    Attributes:
        n: how many tokens.
        delay: seconds that had to be waited when it was made; 0.0 if none.
    """

    __slots__ = ("_inner", "_owner", "delay", "n")

    def __init__(self, owner: Line, inner: bucket.Reservation, delay: float) -> None:
        self._owner = owner
        self._inner = inner
        self.n = inner.n
        self.delay = delay

    @property
    def wait(self) -> float:
        """Seconds still to wait from now.

        Raises:
            RateLimited: the tokens can never come, because the burst was made smaller than *n* meanwhile.
        """
        if self._inner.cancelled:
            raise self._owner.refusal("TokenBucket", None, "this reservation was cancelled")
        return max(0.0, (self._inner.start - self._owner.now()) / NS)

    def cancel(self) -> bool:
        """Give the tokens back. False if that is no longer possible.

        Before its moment has come, the reservation is simply taken out of the line, and those behind move up. After it,
        the tokens can be restored only if nobody took any since; otherwise they are lost, for restoring them could let
        through more than the rate allows.
        """
        return self._owner.cancel(self._inner)

    def __repr__(self) -> str:
        left = "cancelled" if self._inner.cancelled else f"wait {self.wait:.3g} s"
        return f"<Reservation of {self.n}, {left}>"


class Line:
    """How one waits for tokens, whether from the one bucket or from that of a key."""

    learns: ClassVar[bool] = False
    """Whether it wants to hear how the attempts it let pass came out."""

    def heard(self, error: Exception | None, now: int) -> None:
        """An attempt it let pass came out well, or in *error*; only asked where it learns."""

    def now(self) -> int:
        raise NotImplementedError

    def book(self, n: int, most: int | None, waiter: object) -> tuple[bucket.Reservation | None, int, int]:
        """A reservation, or ``None`` and the ns it would have to wait; and the time it was made."""
        raise NotImplementedError

    def cancel(self, inner: bucket.Reservation) -> bool:
        raise NotImplementedError

    def refusal(self, who: str, wait: float | None, why: str) -> RateLimited:
        raise NotImplementedError

    def note(self, what: str) -> None:
        raise NotImplementedError

    def passed(self, who: str, seconds: float) -> float:
        """Somebody has waited so long, and got what they waited for; returns the seconds."""
        raise NotImplementedError

    def renew(self, inner: bucket.Reservation, waiter: object) -> None:
        raise NotImplementedError

    def place(self, n: int, timeout: float | None, who: str, waiter: object = None) -> Reservation:
        most = None
        if timeout is not None and timeout != math.inf:
            most = to_ns(_checks.seconds("timeout", timeout, zero=True))
        inner, wait, now = self.book(n, most, waiter)
        if inner is None:
            self.note("refused")
            seconds = wait / NS
            raise self.refusal(who, seconds, f"the next token is {seconds:.3g} s away")
        return Reservation(self, inner, max(0, inner.start - now) / NS)

    async def queue(
        self, runtime: Runtime, n: int, timeout: float | None, who: str, limit: Limit | None = None
    ) -> float:
        """Wait for *n* tokens; the seconds that took. Whoever is cancelled leaves the line."""
        began = self.now()
        timeout = bounded(timeout, limit, began)
        waiter = runtime.waiter()
        reservation = self.place(n, timeout, who, waiter)
        if reservation.delay == 0.0:
            return 0.0
        self.note("waited")
        try:
            while (seconds := reservation.wait) > 0:
                if await runtime.pace(seconds, waiter):  # somebody ahead has left
                    waiter = runtime.waiter()
                    self.renew(reservation._inner, waiter)
        except BaseException:
            reservation.cancel()
            raise
        return self.passed(who, (self.now() - began) / NS)


class Limiter(Part):
    """Settings and counters that both limiters have."""

    kind = "limiter"
    levels = frozenset({"tokens", "keys", "rate", "enabled"})

    def __init__(
        self,
        rate: float | Fraction,
        *,
        per: float,
        burst: int,
        max_wait: float,
        name: str | None,
        shadow: bool,
        clock: Clock | None,
        lease: float = 1.0,
        on_store_failure: str = "local",
    ) -> None:
        super().__init__(name=name, clock=clock)
        self.rate = rate
        self.per = per
        self.burst = burst
        self._rate = Rate(rate, per=per, burst=burst)
        self.max_wait = _checks.seconds("max_wait", max_wait, zero=True, inf=True)
        self.shadow = _checks.flag("shadow", shadow)
        self.lease = lease
        self.on_store_failure = on_store_failure
        self._counts: dict[str, int | float] = dict.fromkeys(("refused", "waited", "shadow"), 0)
        self._counts["waited_seconds"] = 0.0

    def now(self) -> int:
        """The time."""
        return self._now.monotonic_ns()

    def note(self, what: str) -> None:
        """Add one to a counter."""
        with self._lock:
            self._counts[what] += 1

    def passed(self, who: str, seconds: float) -> float:
        """Somebody has waited so long, and got what they waited for; returns the seconds."""
        with self._lock:
            self._counts["waited_seconds"] += seconds
        if Waited in LISTENERS:
            tell(Waited(self.name or who, "limiter", seconds))
        return seconds

    def renew(self, inner: bucket.Reservation, waiter: object) -> None:
        """Another waiter for a reservation, after the first was woken."""
        with self._lock:
            inner.waiter = waiter

    def refusal(self, who: str, wait: float | None, why: str) -> RateLimited:
        """The error for a caller who gets no token."""
        name = self.name or who
        rate = f"{float(self.rate):g} per {float(self.per):g} s"
        return RateLimited(f"{name}: over {rate}; {why}", policy=name, retry_after=wait)

    def _check_n(self, n: int) -> None:
        _checks.count("n", n)
        if n > self.burst:
            raise ConfigError(f"n must be at most the burst ({self.burst}), not {n!r}: it could never pass")
