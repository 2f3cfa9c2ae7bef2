"""How many retries and hedges a dependency may cost on top of the calls that were wanted."""

from __future__ import annotations

import threading

from .. import _checks
from .._part import Described
from ..clock import Clock, system
from ..errors import ConfigError
from ..machines.budget import BudgetMachine

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

    Raises:
        ConfigError: an argument is out of range.

    Thread-safe. The scheme is Marc Brooker's ("Fixing retries with token buckets and circuit breakers", 2022).
    """

    def __init__(
        self,
        capacity: float = 10.0,
        *,
        per_success: float = 0.1,
        floor: float | None = 10.0,
        clock: Clock | None = None,
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

    def adopt(self, clock: Clock) -> None:
        """Take time from the clock of the policy this budget is used in, unless it was given one."""
        if self.clock is None:
            self._now = clock

    @property
    def level(self) -> float:
        """Retries that could be made now."""
        return self._machine.level / 1000

    def deposit(self) -> None:
        """A call went well."""
        machine = self._machine
        if machine.level < machine.full:  # a full bucket, the healthy case, needs no lock
            with self._lock:
                machine.deposit()

    def withdraw(self) -> bool:
        """Ask for one retry or hedge; False if it would be one too many."""
        now = self._now.monotonic_ns()
        with self._lock:
            return self._machine.withdraw(now)

    @property
    def counters(self) -> dict[str, int | float]:
        """The level, and how many retries were granted and refused so far."""
        with self._lock:
            machine = self._machine
            return {
                "level": machine.level / 1000,
                "granted": machine.withdrawn,
                "refused": machine.refused,
                "floored": machine.floored,
            }
