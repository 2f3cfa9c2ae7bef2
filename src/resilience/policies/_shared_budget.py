"""A retry budget that many processes share: what successes earn is collected here, and sent about once a second.

A retry asks the store, which is nothing beside the wait before it. In a policy the story does that, in its own colour,
before the budget is asked (`SharedBudget.reach`); so a token is in hand when it is. The deposits of a process that has
no failures travel by a worker thread. While the store is down, each process has its own budget.
"""

from __future__ import annotations

import threading
from fractions import Fraction
from math import inf, lcm
from typing import TYPE_CHECKING

from .. import _workers
from .._checks import NS
from ..errors import ConfigError
from ..machines.budget import UNIT
from ..machines.shared_bucket import ACQUIRE, Ask, Reply, Scale, step
from ..stores import StoreUnavailable, Transition, safe_key
from ..stores.forking import survive

if TYPE_CHECKING:
    from .._runtime import Runtime
    from ..machines.budget import BudgetMachine
    from ..stores import Store
    from .retry_budget import RetryBudget

__all__ = ["BUDGET", "SharedBudget"]

BUDGET = Transition("budget", 1, step, source="bucket")
_EVERY_NS = NS
"""How often deposits are sent at most."""


class SharedBudget:
    """The store's side of a `RetryBudget`. Thread-safe, and safe on both sides of a fork.

    Args:
        owner: whose settings, clock and local budget are used.
        store, key: where the budget is.

    Attributes:
        level: what it holds, as the store last said.
        granted, refused: retries, by the store.
    """

    full = inf
    """For the short way, which tells a budget only of successes that it has room for: here, of each."""

    def __init__(self, owner: RetryBudget, store: Store, key: str) -> None:
        if owner.capacity != int(owner.capacity):
            raise ConfigError(f"capacity must be a whole number to be shared, not {owner.capacity!r}")
        each = Fraction(0) if owner.floor is None else 1 / (Fraction(repr(owner.floor)) * 1_000_000)
        unit = lcm(UNIT, each.denominator)
        self._scale = Scale(unit, int(each * unit), int(owner.capacity))
        if max(unit * self._scale.burst, self._scale.fill) >= 2**52:
            raise ConfigError(f"floor must have fewer digits to be shared, or capacity be smaller: {owner.floor!r}")
        self._parts = unit // UNIT
        self._owner = owner
        self._store = store
        self._key = safe_key(key)
        self._lock = threading.Lock()
        self._earned = 0  # in thousandths, since they were sent
        self._sent: int | None = None
        self._hand = 0  # granted by the store, and not used yet: at most one for each caller on its way
        self.level = owner.capacity
        self.granted = self.refused = 0
        survive(self)

    def forked(self) -> None:
        """See `resilience.stores.forking`: what is in hand is the parent's, and so is what it earned."""
        self._lock = threading.Lock()
        self._hand = self._earned = 0

    def deposit(self, thousandths: int, now: int) -> None:
        """A call went well."""
        with self._lock:
            self._earned = min(self._earned + thousandths, self._scale.burst * UNIT)
            due = self._sent is None or now - self._sent >= _EVERY_NS
            if due:
                self._sent = now
        if due:
            _workers.start(self._send)

    async def reach(self, runtime: Runtime) -> None:
        """Have a token in hand, if the store grants one; called when a retry may be wanted."""
        if self._hand < 1:
            ask = self._ask(1)
            try:
                self._heard(await runtime.exchange(self._store, self._key, BUDGET, ask))
            except StoreUnavailable:
                return  # withdraw() will see

    def withdraw(self, local: BudgetMachine, now: int) -> bool:
        """One retry, from hand or from the store; by the *local* budget, under the owner's lock, while that is down.

        An event loop is not blocked: there, only what is in hand is given, and more is fetched for the next.
        """
        if self._take():
            return True
        if _in_loop():
            if not self._store.degraded:
                _workers.start(self._fetch)
                return self._count(granted=False)
        else:
            try:
                self._heard(self._store.exchange(self._key, BUDGET, self._ask(1)))
            except StoreUnavailable:
                pass
            else:
                return self._take() or self._count(granted=False)
        with self._owner._lock:
            return local.withdraw(now)

    def _take(self) -> bool:
        with self._lock:
            if self._hand < 1:
                return False
            self._hand -= 1
            self.granted += 1
            return True

    def _count(self, *, granted: bool) -> bool:
        with self._lock:
            self.refused += not granted
        return granted

    def _ask(self, n: int) -> Ask:
        with self._lock:
            gift, self._earned = self._earned * self._parts, 0
        return Ask(ACQUIRE, *self._scale, n, gift=gift)

    def _heard(self, numbers: tuple[int, ...]) -> None:
        reply = Reply(*numbers)
        with self._lock:
            self._hand += reply.granted
            self.level = max(0, reply.level) / self._scale.unit

    def _fetch(self) -> None:
        if self._hand < 1:
            try:
                self._heard(self._store.exchange(self._key, BUDGET, self._ask(1)))
            except StoreUnavailable:
                return

    def _send(self) -> None:
        ask = self._ask(0)
        if ask.gift:
            try:
                reply = Reply(*self._store.exchange(self._key, BUDGET, ask))
            except StoreUnavailable:
                return
            self.level = max(0, reply.level) / self._scale.unit


def _in_loop() -> bool:
    """Whether an event loop runs in this thread."""
    try:
        from asyncio import get_running_loop

        get_running_loop()
    except RuntimeError:
        return False
    return True
