"""The client's side of a bucket that many processes share: lock, clock and words around `Lease` and the store.

Whoever asks first looks at the tokens leased; if there are none, one exchange with the store takes what is needed, and
a new lease with it. While the store is down, ``on_store_failure`` decides. Nothing runs in the background.
"""

from __future__ import annotations

import threading
from fractions import Fraction
from typing import TYPE_CHECKING

from .._checks import NS
from .._runtime import Asyncio, Blocking, drive
from ..machines.bucket import Lane, Rate
from ..machines.shared_bucket import CANCEL, Ask, Reply, Scale, step
from ..stores import StoreUnavailable, Transition
from ..stores.forking import survive
from ._lease import Lease
from ._line import Line, bounded, check_timeout
from ._promise import Grant, SharedReservation, microseconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._runtime import Runtime
    from .._scope import Limit
    from ..errors import RateLimited
    from ..stores import Store
    from ._line import Limiter

__all__ = ["BUCKET", "Front", "SharedBucket"]

BUCKET = Transition("bucket", 1, step)


class SharedBucket(Line):
    """One shared bucket, as this process sees it: what `TokenBucket` and `KeyLimiter` offer, with a store behind.

    Args:
        owner: the part whose settings, clock, counters and words it uses.
        store, key: where the bucket is.
        who: what messages call it.
        about: what messages add, such as the key of a family.

    Thread-safe, and safe to use on both sides of a fork.
    """

    def __init__(self, owner: Limiter, store: Store, key: str, who: str, about: str = "") -> None:
        self._owner = owner
        self._store = store
        self._key = key
        self._who = who
        self._about = about
        self._rate = owner._rate
        self._lock = threading.Lock()
        self._lease = Lease(Scale.of(owner._rate), owner.lease)
        self._local: Lane | None = None
        self._lost = False  # whether the store is out of reach, as far as this bucket knows
        self.spend = _spender(self)
        self.front = Front(self)
        survive(self)

    def forked(self) -> None:
        """See `resilience.stores.forking`: what was leased is the parent's."""
        self._lock = threading.Lock()
        self._lease.drop()
        self.spend = _spender(self)
        self.front.try_acquire = self.spend

    # -- as Line ---------------------------------------------------------------------------------------------------

    def now(self) -> int:
        """The time."""
        return self._owner.now()

    def note(self, what: str) -> None:
        """Add one to a counter of the owner's."""
        self._owner.note(what)

    def passed(self, who: str, seconds: float) -> float:
        """Somebody has waited so long, and got what they waited for; returns the seconds."""
        return self._owner.passed(who, seconds)

    def refusal(self, who: str, wait: float | None, why: str) -> RateLimited:
        """The error for a caller who gets no token."""
        return self._owner.refusal(who, wait, why + self._about)

    # -- what callers ask for ---------------------------------------------------------------------------------------

    def try_acquire(self, n: int = 1) -> bool:
        """Take *n* tokens now, or none and return False; asks the store, blocking, if no lease has them."""
        if n != 1:
            self._owner._check_n(n)
        return self.spend(n) or drive(self._take(Blocking(self._owner._now), n, 0)).granted

    def acquire(self, n: int = 1, *, timeout: float | None = None) -> float:
        """See `TokenBucket.acquire`."""
        check_timeout(timeout)
        self._owner._check_n(n)
        return 0.0 if self.spend(n) else drive(self.queue(Blocking(self._owner._now), n, timeout, self._who))

    async def aacquire(self, n: int = 1, *, timeout: float | None = None) -> float:
        """See `TokenBucket.aacquire`."""
        check_timeout(timeout)
        self._owner._check_n(n)
        return 0.0 if self.spend(n) else await self.queue(Asyncio(self._owner._now), n, timeout, self._who)

    def reserve(self, n: int = 1, *, timeout: float | None = None) -> SharedReservation:
        """See `TokenBucket.reserve`; blocks for the exchange."""
        check_timeout(timeout)
        self._owner._check_n(n)
        if self.spend(n):
            return SharedReservation(self, n, 0, self.now(), bool)
        runtime = Blocking(self._owner._now)
        grant = drive(self._take(runtime, n, microseconds(timeout)))
        if not grant.granted:
            raise self._refused(self._who, grant)
        return SharedReservation(self, n, grant.wait, grant.at, lambda: drive(self._back(runtime, grant)))

    @property
    def in_hand(self) -> int:
        """Tokens leased here."""
        with self._lock:
            return self._lease.left if self.now() < self._lease.ends else 0

    @property
    def tokens(self) -> int:
        """Whole tokens that could be taken now; asks the store, blocking. Those leased here while it is down."""
        left = self.in_hand
        try:
            reply = self._look(0)
        except StoreUnavailable:
            return left
        return left + max(0, reply.level // self._lease.scale.unit)

    def wait_time(self, n: int = 1) -> float:
        """Seconds that a request for *n* tokens made now would have to wait; asks the store, blocking.

        Unknown while that is down: 0.0, as nobody is known to be before.
        """
        self._owner._check_n(n)
        try:
            level = self._look(0).level
        except StoreUnavailable:
            return 0.0
        short = n * self._lease.scale.unit - level
        return max(0, -(-short // self._lease.scale.fill)) / 1e6

    async def enter(self, runtime: Runtime, who: str, limit: Limit | None) -> bool:
        """See `TokenBucket.enter`."""
        if self._owner.shadow:
            granted = (await self._take(runtime, 1, 0)).granted
            if not granted:
                self.note("shadow")
            return False
        return await self.queue(runtime, 1, self._owner.max_wait, who, limit) > 0

    def close(self) -> None:
        """Give back what is leased; blocks for one exchange. The bucket may be used again."""
        ask = self._leaving()
        if ask is not None:
            try:
                self._store.exchange(self._key, BUCKET, ask)
            except StoreUnavailable:
                return  # it expires

    async def aclose(self) -> None:
        """`close` without blocking the event loop."""
        ask = self._leaving()
        if ask is not None:
            try:
                await self._store.aexchange(self._key, BUCKET, ask)
            except StoreUnavailable:
                return

    # -- how it is had -----------------------------------------------------------------------------------------------

    async def queue(
        self, runtime: Runtime, n: int, timeout: float | None, who: str, limit: Limit | None = None
    ) -> float:
        """See `Line.queue`."""
        began = self.now()
        timeout = bounded(timeout, limit, began)
        most = microseconds(timeout)
        while True:
            grant = await self._take(runtime, n, most)
            if grant.granted:
                break
            spent = (self.now() - began) // 1000
            if grant.wait < 0 or grant.wait // 1000 > microseconds(timeout) - spent:
                self.note("refused")
                raise self._refused(who, grant)
            # Leases leave no room for so many tokens at once: ask again when one has ended.
            await runtime.sleep(max(grant.wait / NS, 0.001))
            most = max(0, microseconds(timeout) - (self.now() - began) // 1000)
        if grant.wait == 0:
            return 0.0
        self.note("waited")
        try:
            while (ahead := grant.at - self.now()) > 0:
                await runtime.sleep(ahead / NS)
        except BaseException:
            await self._back(runtime, grant)
            raise
        return self.passed(who, (self.now() - began) / NS)

    async def _take(self, runtime: Runtime, n: int, most: int) -> Grant:
        """Ask for *n* tokens within *most* microseconds."""
        with self._lock:
            sent = self.now()
            if sent + most * 1000 < self._lease.dry:
                return Grant(False, n, self._lease.expected - sent, 0, 0, None)
            ask, leasing = self._lease.ask(n, most, sent)
        try:
            reply = Reply(*await runtime.exchange(self._store, self._key, BUCKET, ask))
        except StoreUnavailable as error:
            return self._without(n, most, leasing, error)
        except BaseException:
            with self._lock:
                self._lease.failed(leasing)
            raise
        with self._lock:
            self._lost = False
            self._lease.answered(ask, leasing, reply, sent)
        at = self.now() + reply.wait * 1000  # counted from the answer, so never too early
        return Grant(bool(reply.granted), n, reply.wait * 1000, at, reply.now + reply.wait, None)

    def _without(self, n: int, most: int, leasing: bool, error: StoreUnavailable) -> Grant:
        """What a caller gets while there is no store."""
        choice = self._owner.on_store_failure
        with self._lock:
            self._lease.failed(leasing)
            now = self.now()
            if choice != "local":
                return Grant(choice == "open", n, 0 if choice == "open" else -1, now, 0, None)
            lane = self._lane(now)
            if n > lane.rate.burst:
                return Grant(False, n, -1, 0, 0, None)
            promise = lane.reserve(n, now, most * 1000)
            if promise is None:
                return Grant(False, n, lane.wait(n, now), 0, 0, None)
            return Grant(True, n, max(0, promise.start - now), promise.start, 0, promise)

    def _lane(self, now: int) -> Lane:
        """The local bucket, at this client's share; made at the first failure and kept, so it is full only once."""
        if self._local is None or not self._lost:
            share = Fraction(self._lease.share).limit_denominator(1000)
            whole = Fraction(self._rate.scale * NS, self._rate.interval)
            rate = Rate(whole * share, burst=max(1, int(self._rate.burst * share)))
            if self._local is None:
                self._local = Lane(rate)
            else:
                self._local.rerate(rate, now)
            self._lost = True
        return self._local

    async def _back(self, runtime: Runtime, grant: Grant) -> bool:
        """Give a promise back that is not due."""
        if grant.promise is not None:
            with self._lock:
                assert self._local is not None
                self._local.cancel(grant.promise, self.now())
                return grant.promise.cancelled
        ask = Ask(CANCEL, *self._lease.scale, n=grant.n, slot=grant.due)
        try:
            return bool((await runtime.exchange(self._store, self._key, BUCKET, ask))[0])
        except StoreUnavailable:
            return False

    def _look(self, n: int) -> Reply:
        return Reply(*self._store.exchange(self._key, BUCKET, Ask(0, *self._lease.scale, n)))

    def _leaving(self) -> Ask | None:
        with self._lock:
            return self._lease.give_back() if self.now() < self._lease.ends else None

    def _refused(self, who: str, grant: Grant) -> RateLimited:
        if grant.wait < 0:
            return self.refusal(who, None, "the store of the shared limit is down")
        seconds = grant.wait / NS
        return self.refusal(who, seconds, f"the next token is {seconds:.3g} s away")


class Front(Line):
    """What the story sees of a shared bucket: asking without I/O first, and then with it."""

    def __init__(self, shared: SharedBucket) -> None:
        self.try_acquire = shared.spend
        self.enter = shared.enter


def _spender(owner: SharedBucket) -> Callable[..., bool]:
    """Takes tokens that are leased, without I/O; a closure, for that costs a third less than the method would."""
    lease = owner._lease
    acquire, release = owner._lock.acquire, owner._lock.release
    part = owner._owner

    def spend(n: int = 1) -> bool:
        acquire()
        try:
            left = lease.left - n
            if left < 0 or part._now.monotonic_ns() >= lease.ends:
                return False
            lease.left = left
            return True
        finally:
            release()

    return spend
