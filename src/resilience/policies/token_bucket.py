"""The rate limiter: lock, clock and words around `resilience.machines.bucket.Lane`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import _checks
from .._checks import NS
from .._runtime import Asyncio, Blocking, drive
from ..errors import ConfigError
from ..machines.bucket import Lane, Rate
from ._line import Limiter, Line, Reservation, check_timeout, wake
from ._sharing import check_sharing

if TYPE_CHECKING:
    from collections.abc import Callable
    from fractions import Fraction

    from .._runtime import Call, Runtime
    from .._scope import Limit
    from ..clock import Clock
    from ..machines import bucket
    from ..stores import Store
    from ._promise import SharedReservation
    from ._shared import Front, SharedBucket

__all__ = ["TokenBucket"]


class TokenBucket(Limiter, Line):
    """Let *rate* calls pass every *per* seconds, and up to *burst* at once after a quiet time.

    Exact: in any stretch of t seconds at most ``burst + rate * t / per`` tokens are given out, a caller who paces
    itself at exactly the rate is never refused, and nothing is lost to rounding, however long it runs. (All arithmetic
    is in integers; a clock reading stands for the nanosecond it names.) Waiting is first come, first served; a heavy
    request is not overtaken by light ones, and one that is cancelled lets those behind it move up.

    Args:
        rate: tokens per *per*; any positive number.
        per: seconds.
        burst: the most tokens that can be saved up.
        max_wait: in a policy, seconds that a call may wait for its token; never beyond its deadline. 0: never wait.
        name: shown in messages; the policy's name by default.
        shadow: let everyone pass, and count who would have been refused.
        clock: where time comes from; the machine's clock by default.
        store: where the bucket is, for all processes that share it, such as a `resilience.stores.RedisStore`; by
            default it is here. Then ``acquire``, ``try_acquire`` and so on may ask the store, which takes at most the
            store's timeout, and the bound is that of all processes together.
        key: with a store, the name of the bucket in it; *name* by default. All that share it give the same rate.
        lease: with a store, seconds for which a batch of tokens may be spent without asking again, at most 60. What
            a process that dies has leased is lost for so long. 0: ask each time.
        on_store_failure: while the store is down, ``"local"``: limit by this process's share, as it was lately;
            ``"open"``: let everyone pass; ``"closed"``: refuse.

    Raises:
        ConfigError: an argument is out of range, or cannot be reckoned with exactly in a store.

    Thread-safe, across threads and event loops. The algorithm is GCRA (ITU-T I.371), which is a token bucket.
    """

    def __init__(
        self,
        rate: float | Fraction,
        *,
        per: float = 1.0,
        burst: int = 1,
        max_wait: float = 1.0,
        name: str | None = None,
        shadow: bool = False,
        clock: Clock | None = None,
        store: Store | None = None,
        key: str | None = None,
        lease: float = 1.0,
        on_store_failure: str = "local",
    ) -> None:
        super().__init__(
            rate, per=per, burst=burst, max_wait=max_wait, name=name, shadow=shadow, clock=clock, lease=lease,
            on_store_failure=on_store_failure,
        )  # fmt: skip
        self.store = store
        self.key = None if key is None else _checks.text("key", key)
        self._lane = Lane(self._rate)
        self._shared: SharedBucket | None = None
        check_sharing(store, self.key, self.name, lease, on_store_failure)
        if store is None:
            self.try_acquire = _taker(self)  # type: ignore[method-assign,assignment]
        else:
            from ..stores import safe_key
            from ._shared import SharedBucket

            self._shared = SharedBucket(self, store, safe_key(self.key or self.name), type(self).__name__)
            self.try_acquire = self._shared.try_acquire  # type: ignore[method-assign]

    def of(self, call: Call | None) -> TokenBucket | Front:  # type: ignore[override]
        """What a call asks; with a store, a face that answers at once where it can."""
        return self if self._shared is None else self._shared.front

    def try_acquire(self, n: int = 1) -> bool:
        """Take *n* tokens now, or none and return False.

        Raises:
            ConfigError: *n* is larger than the burst, and could never pass.
        """
        raise NotImplementedError  # each bucket has its own, see _taker()

    @property
    def tokens(self) -> int:
        """Whole tokens that could be taken now."""
        if self._shared is not None:
            return self._shared.tokens
        with self._lock:
            return self._lane.available(self.now())

    def wait_time(self, n: int = 1) -> float:
        """Seconds that a request for *n* tokens made now would have to wait; takes nothing."""
        if self._shared is not None:
            return self._shared.wait_time(n)
        self._check_n(n)
        with self._lock:
            return self._lane.wait(n, self.now()) / NS

    def reserve(self, n: int = 1, *, timeout: float | None = None) -> Reservation | SharedReservation:
        """Take a place in the line for *n* tokens; the caller does the waiting (``reservation.wait``).

        Args:
            n: how many tokens; at most the burst.
            timeout: the longest wait accepted, in seconds; ``None`` for any.

        Raises:
            RateLimited: it would take longer; nothing was taken.
        """
        if self._shared is not None:
            return self._shared.reserve(n, timeout=timeout)
        self._check_n(n)
        return self.place(n, timeout, type(self).__name__)

    def acquire(self, n: int = 1, *, timeout: float | None = None) -> float:
        """Take *n* tokens, waiting for them at most *timeout* seconds (``None``: as long as it takes).

        Returns:
            The seconds waited.

        Raises:
            RateLimited: it would take longer. Known at once, so nothing is waited for in vain.
        """
        if self._shared is not None:
            return self._shared.acquire(n, timeout=timeout)
        check_timeout(timeout)
        if self.try_acquire(n):
            return 0.0
        return drive(self.queue(Blocking(self._now), n, timeout, type(self).__name__))

    async def aacquire(self, n: int = 1, *, timeout: float | None = None) -> float:
        """`acquire` without blocking the event loop. If cancelled, its place in the line is freed."""
        if self._shared is not None:
            return await self._shared.aacquire(n, timeout=timeout)
        check_timeout(timeout)
        if self.try_acquire(n):
            return 0.0
        return await self.queue(Asyncio(self._now), n, timeout, type(self).__name__)

    def set_rate(self, rate: float | Fraction, *, per: float | None = None, burst: int | None = None) -> None:
        """Change the rate while running; tokens that are missing stay missing.

        Args:
            rate: tokens per *per*.
            per: seconds; unchanged if ``None``.
            burst: the most tokens saved up; unchanged if ``None``. Waiting requests for more are refused.

        Raises:
            ConfigError: the bucket is shared, so its rate is not for one process to change.
        """
        if self._shared is not None:
            raise ConfigError("the rate of a shared bucket is what all its clients were made with; make another")
        per = self.per if per is None else per
        new = Rate(rate, per=per, burst=self.burst if burst is None else burst)
        with self._lock:
            self.rate, self.per, self.burst, self._rate = rate, per, new.burst, new
            moved = self._lane.rerate(new, self.now())
        wake(moved)

    @property
    def counters(self) -> dict[str, int | float]:
        """Tokens there now (of a shared bucket: leased here); requests refused, requests that waited."""
        if self._shared is not None:
            return {**self._counts, "tokens": self._shared.in_hand}
        with self._lock:
            return {**self._counts, "tokens": self._lane.available(self.now())}

    def book(self, n: int, most: int | None, waiter: object) -> tuple[bucket.Reservation | None, int, int]:
        """See `Line`."""
        with self._lock:
            now = self.now()
            inner = self._lane.reserve(n, now, most)
            if inner is None:
                return None, self._lane.wait(n, now), now
            inner.waiter = waiter
            return inner, 0, now

    def cancel(self, inner: bucket.Reservation) -> bool:
        """See `Reservation`."""
        with self._lock:
            moved = self._lane.cancel(inner, self.now())
            cancelled = inner.cancelled
        wake(moved)
        return cancelled

    async def enter(self, runtime: Runtime, who: str, limit: Limit | None) -> bool:
        """Wait for a token for a call. Returns whether that took time; not where shadow lets the call pass.

        Raises:
            RateLimited: there is none in time.
        """
        if self.shadow:
            self.note("shadow")
            return False
        return await self.queue(runtime, 1, self.max_wait, who, limit) > 0

    def close(self) -> None:
        """Give what is leased back to the store, which blocks for one exchange; nothing to do without a store."""
        if self._shared is not None:
            self._shared.close()

    async def aclose(self) -> None:
        """`close` without blocking the event loop."""
        if self._shared is not None:
            await self._shared.aclose()


def _taker(owner: TokenBucket) -> Callable[[int], bool]:
    """``try_acquire`` of one bucket, as a closure: it costs a third less than the method would.

    `resilience.machines.bucket.Lane.take` for one token is written out in it; a test holds the two equal.
    """
    lane = owner._lane
    acquire, release = owner._lock.acquire, owner._lock.release

    def try_acquire(n: int = 1) -> bool:
        if n != 1:
            owner._check_n(n)
            with owner._lock:
                return lane.take(n, owner.now())
        acquire()
        try:
            now = owner._now.monotonic_ns()
            if now < lane.last:
                now = lane.last
            else:
                lane.last = now
            if lane._scale != 1:
                now *= lane._scale
            tat = lane.tat
            tat = (tat if tat > now else now) + lane._interval
            if tat - now > lane._slack:
                return False
            lane.tat = tat
            return True
        finally:
            release()

    return try_acquire
