"""One rate limit for each of a million keys: lock, clock and words around `resilience.machines.bucket.Table`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import _checks
from .._checks import NS
from .._runtime import Asyncio, Blocking, drive
from ..errors import ConfigError
from ..machines.bucket import Table
from ._line import Limiter, Line, Reservation, check_timeout, wake
from ._sharing import check_sharing

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from fractions import Fraction

    from .._runtime import Call, Runtime
    from .._scope import Limit
    from ..clock import Clock
    from ..errors import RateLimited
    from ..machines import bucket
    from ..stores import Store
    from ._shared import Front, SharedBucket
    from ._shared_family import SharedFamily

__all__ = ["KeyLimiter", "KeyedTokenBucket"]


class KeyedTokenBucket(Limiter):
    """A `TokenBucket` of the same rate for each key, in bounded memory: some 100 bytes a key.

    A key whose bucket is full again is forgotten, which loses nothing. If *max_keys* keys are all in use, further keys
    share one bucket of the same rate: they get less than they could, and the bound of each holds all the same.

    Args:
        rate, per, burst, max_wait: as for `TokenBucket`, for each key.
        key: in a policy, a function of the call's arguments that returns the key; by default the first argument.
        max_keys: how many keys are remembered.
        name, shadow, clock: as for `TokenBucket`.
        store, lease, on_store_failure: as for `TokenBucket`; the buckets are shared under *name* and their key, which
            must be text, a whole number, bytes, or a tuple of those. This process remembers what it leased of at most
            *max_keys* of them; the store forgets those that are full.

    Raises:
        ConfigError: an argument is out of range, or cannot be reckoned with exactly in a store.

    Thread-safe: one lock for all keys, held for under a microsecond.
    """

    no_block = "the key comes from a call's arguments; use `{0}.at(key).acquire()` before the block"

    def __init__(
        self,
        rate: float | Fraction,
        *,
        per: float = 1.0,
        burst: int = 1,
        key: Callable[..., Hashable] | None = None,
        max_keys: int = 1_000_000,
        max_wait: float = 1.0,
        name: str | None = None,
        shadow: bool = False,
        clock: Clock | None = None,
        store: Store | None = None,
        lease: float = 1.0,
        on_store_failure: str = "local",
    ) -> None:
        super().__init__(
            rate, per=per, burst=burst, max_wait=max_wait, name=name, shadow=shadow, clock=clock, lease=lease,
            on_store_failure=on_store_failure,
        )  # fmt: skip
        self.key = None if key is None else _checks.function("key", key)
        self.max_keys = _checks.count("max_keys", max_keys)
        self._table = Table(self._rate, self.max_keys)
        self.store = store
        self._shared: SharedFamily | None = None
        check_sharing(store, None, self.name, lease, on_store_failure)
        if store is not None:
            from ._shared_family import SharedFamily

            self._shared = SharedFamily(self, store, self.name, self.max_keys)

    def at(self, key: Hashable) -> KeyLimiter | SharedBucket:
        """The limiter of one key: ``try_acquire``, ``acquire``, ``reserve`` and so on."""
        return KeyLimiter(self, key) if self._shared is None else self._shared[key]

    def of(self, call: Call | None) -> KeyLimiter | Front:  # type: ignore[override]
        """The limiter responsible for this call."""
        if call is None:
            raise ConfigError("a block has no arguments to take the key from; use limiter.at(key)")
        if self.key is not None:
            key = self.key(*call.args, **call.kwargs)
        elif call.args:
            key = call.args[0]
        else:
            raise ConfigError("the call has no first argument to be its key; give the limiter key=")
        return KeyLimiter(self, key) if self._shared is None else self._shared[key].front

    def try_acquire(self, key: Hashable, n: int = 1) -> bool:
        """Take *n* tokens of *key* now, or none and return False."""
        if self._shared is not None:
            return self._shared[key].try_acquire(n)
        self._check_n(n)
        with self._lock:
            return self._table.take(key, n, self.now())

    def close(self) -> None:
        """Give what is leased back to the store, which blocks for an exchange a key; nothing to do without a store."""
        for bucket in self._shared or ():
            bucket.close()

    async def aclose(self) -> None:
        """`close` without blocking the event loop."""
        for bucket in self._shared or ():
            await bucket.aclose()

    def __len__(self) -> int:
        return len(self._table if self._shared is None else self._shared)

    def __bool__(self) -> bool:
        return True

    @property
    def counters(self) -> dict[str, int | float]:
        """Keys remembered and forgotten; requests refused, that waited, and that shared the overflow bucket."""
        if self._shared is not None:
            return {**self._counts, "keys": len(self._shared), "evicted": self._shared.evicted, "overflowed": 0}
        with self._lock:
            table = self._table
            return {
                **self._counts,
                "keys": len(table),
                "evicted": table.evictions,
                "overflowed": table.overflows,
            }


class KeyLimiter(Line):
    """The limiter of one key of a `KeyedTokenBucket`; a view, made when needed. Thread-safe."""

    __slots__ = ("_family", "_key")

    def __init__(self, family: KeyedTokenBucket, key: Hashable) -> None:
        self._family = family
        self._key = key

    def try_acquire(self, n: int = 1) -> bool:
        """Take *n* tokens now, or none and return False."""
        return self._family.try_acquire(self._key, n)

    @property
    def tokens(self) -> int:
        """Whole tokens that could be taken now."""
        with self._family._lock:
            return self._family._table.available(self._key, self.now())

    def wait_time(self, n: int = 1) -> float:
        """Seconds that a request for *n* tokens made now would have to wait; takes nothing."""
        self._family._check_n(n)
        with self._family._lock:
            return self._family._table.wait(self._key, n, self.now()) / NS

    def reserve(self, n: int = 1, *, timeout: float | None = None) -> Reservation:
        """See `TokenBucket.reserve`."""
        self._family._check_n(n)
        return self.place(n, timeout, "KeyedTokenBucket")

    def acquire(self, n: int = 1, *, timeout: float | None = None) -> float:
        """See `TokenBucket.acquire`."""
        check_timeout(timeout)
        if self.try_acquire(n):
            return 0.0
        return drive(self.queue(Blocking(self._family._now), n, timeout, "KeyedTokenBucket"))

    async def aacquire(self, n: int = 1, *, timeout: float | None = None) -> float:
        """See `TokenBucket.aacquire`."""
        check_timeout(timeout)
        if self.try_acquire(n):
            return 0.0
        return await self.queue(Asyncio(self._family._now), n, timeout, "KeyedTokenBucket")

    async def enter(self, runtime: Runtime, who: str, limit: Limit | None) -> bool:
        """See `TokenBucket.enter`."""
        if self._family.shadow:
            self.note("shadow")
            return False
        return await self.queue(runtime, 1, self._family.max_wait, who, limit) > 0

    def now(self) -> int:
        """The time."""
        return self._family.now()

    def passed(self, who: str, seconds: float) -> float:
        """Somebody has waited so long, and got what they waited for; returns the seconds."""
        return self._family.passed(who, seconds)

    def note(self, what: str) -> None:
        """Add one to a counter of the family."""
        self._family.note(what)

    def renew(self, inner: bucket.Reservation, waiter: object) -> None:
        """See `Line`."""
        self._family.renew(inner, waiter)

    def refusal(self, who: str, wait: float | None, why: str) -> RateLimited:
        """The error for a caller who gets no token."""
        return self._family.refusal(who, wait, f"{why} (key {self._key!r})")

    def book(self, n: int, most: int | None, waiter: object) -> tuple[bucket.Reservation | None, int, int]:
        """See `Line`."""
        table = self._family._table
        with self._family._lock:
            now = self.now()
            inner = table.reserve(self._key, n, now, most)
            if inner is None:
                return None, table.wait(self._key, n, now), now
            inner.waiter = waiter
            return inner, 0, now

    def cancel(self, inner: bucket.Reservation) -> bool:
        """See `Reservation`."""
        with self._family._lock:
            moved = self._family._table.cancel(self._key, inner, self.now())
            cancelled = inner.cancelled
        wake(moved)
        return cancelled
