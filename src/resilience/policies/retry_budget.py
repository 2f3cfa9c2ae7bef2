"""How many retries and hedges a dependency may cost on top of the calls that were wanted."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from .. import _checks
from .._part import Described
from ..clock import Clock, system
from ..errors import ConfigError
from ..machines.budget import UNIT, BudgetMachine
from ._sharing import check_sharing

if TYPE_CHECKING:
    from ..stores import Store
    from ._shared_budget import SharedBudget

__all__ = ["RetryBudget"]


class RetryBudget(Described):
    """A bucket that successes fill and retries drain, so that retries stay a share of the load.

    A success adds *per_success*, a retry or a hedge takes 1. While a dependency is healthy the bucket is full and some
    failures are retried; when everything fails it runs dry, and the load falls back to the calls that were wanted.
    With failure probability f per attempt, attempts per call are at most 1 / (1 - per_success * (1 - f)).
    Share one budget among all policies that call the same dependency.

    Args:
        capacity: the most retries saved up; also the size of the one burst that a client can add to an outage.
        per_success: what one success earns, as a share of a retry.
        floor: seconds after which one retry is allowed even from an empty bucket, for dependencies that are called
            rarely; ``None`` switches that off.
        clock: where time comes from; the machine's clock by default.
        store: where the budget is, for all processes that share it, such as a `resilience.stores.RedisStore`. Each
            retry then asks the store; what successes earn is sent about once a second. The *floor* is a refill of one
            retry in so many seconds, at most to the capacity, which must be a whole number. While the store is down,
            this process goes by a budget of its own.
        key: with a store, the name of the budget in it.

    Raises:
        ConfigError: an argument is out of range, or cannot be reckoned with exactly in a store.

    Thread-safe. The scheme is Marc Brooker's ("Fixing retries with token buckets and circuit breakers", 2022).
    """

    def __init__(
        self,
        capacity: float = 10.0,
        *,
        per_success: float = 0.1,
        floor: float | None = 10.0,
        clock: Clock | None = None,
        store: Store | None = None,
        key: str | None = None,
    ) -> None:
        self.capacity = _checks.number("capacity", capacity, minimum=1)
        if self.capacity > 1e9:
            raise ConfigError(f"capacity must be at most 1e9, not {capacity!r}")
        self.per_success = _checks.ratio("per_success", per_success, zero=True)
        if 0 < self.per_success < 0.001:  # tokens are counted in thousandths
            raise ConfigError(f"per_success must be 0 or at least 0.001, not {per_success!r}")
        self.floor = None if floor is None else _checks.seconds("floor", floor)
        if self.floor is not None and self.floor < 1e-3:
            raise ConfigError(f"floor must be at least a millisecond, not {floor!r}")
        if clock is not None and not isinstance(clock, Clock):
            raise TypeError(f"clock must be a Clock, not {clock!r}")
        self.clock = clock
        self._now = clock or system
        self._lock = threading.Lock()
        self._machine = BudgetMachine(
            capacity=self.capacity,
            deposit=self.per_success,
            floor_interval=None if self.floor is None else _checks.to_ns(self.floor),
        )

        self.store = store
        self.key = None if key is None else _checks.text("key", key)
        self._shared: SharedBudget | None = None
        check_sharing(store, self.key, None, 0.0, "local")
        if store is not None:
            from ._shared_budget import SharedBudget

            assert self.key is not None
            self._shared = SharedBudget(self, store, self.key)

    def adopt(self, clock: Clock) -> None:
        """Take time from the clock of the policy this budget is used in, unless it was given one."""
        if self.clock is None:
            self._now = clock

    @property
    def level(self) -> float:
        """Retries that could be made now; of a shared budget, as the store last said."""
        if self._shared is not None:
            return self._shared.level
        return self._machine.level / 1000

    def deposit(self) -> None:
        """A call went well."""
        machine = self._machine
        if self._shared is not None:
            self._shared.deposit(round(self.per_success * UNIT), self._now.monotonic_ns())
        if machine.level < machine.full:  # a full bucket, the healthy case, needs no lock
            with self._lock:
                machine.deposit()

    def withdraw(self) -> bool:
        """Ask for one retry or hedge; False if it would be one too many."""
        now = self._now.monotonic_ns()
        if self._shared is not None:
            return self._shared.withdraw(self._machine, now)
        with self._lock:
            return self._machine.withdraw(now)

    @property
    def counters(self) -> dict[str, int | float]:
        """The level, and how many retries were granted and refused so far."""
        with self._lock:
            machine, shared = self._machine, self._shared
            return {
                "level": self.level,
                "granted": machine.withdrawn + (0 if shared is None else shared.granted),
                "refused": machine.refused + (0 if shared is None else shared.refused),
                "floored": machine.floored,
            }
