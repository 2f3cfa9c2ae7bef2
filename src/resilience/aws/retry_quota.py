"""The bucket of the AWS SDKs that retries are paid from."""

from __future__ import annotations

import threading

from .. import _checks
from .._part import Described
from ..errors import ConfigError
from .kinds import Kind

__all__ = ["RetryQuota"]


class RetryQuota(Described):
    """The retry quota of the AWS SDKs: a bucket from which each retry is paid, by the kind of the error before it.

    It starts full. A call that succeeds gives back what its last retry took, or *success* if it needed none; a call
    that fails gives nothing back. So it runs dry only while calls fail, and then calls are made once. Share one among
    clients (put it into several `AwsRetry`) to bound their retries together.

    Args:
        capacity: tokens when full.
        cost: what a retry takes; more than 0.
        throttling_cost: what a retry of a throttled request takes.
        timeout_cost: what a retry after a timeout takes; by default *cost*.
        success: what a call without retries gives back; 0 or more.

    Raises:
        ConfigError: an argument is out of range, or a cost is beyond the capacity.

    Thread-safe.
    """

    def __init__(
        self,
        capacity: int = 500,
        *,
        cost: int = 14,
        throttling_cost: int = 5,
        timeout_cost: int | None = None,
        success: int = 1,
    ) -> None:
        self.capacity = _checks.count("capacity", capacity)
        self.cost = _checks.count("cost", cost)
        self.throttling_cost = _checks.count("throttling_cost", throttling_cost)
        self.timeout_cost = None if timeout_cost is None else _checks.count("timeout_cost", timeout_cost)
        self.success = _checks.count("success", success, minimum=0)
        self._timeout_cost = self.cost if self.timeout_cost is None else self.timeout_cost
        for name in ("cost", "throttling_cost", "timeout_cost"):
            if (getattr(self, name) or 0) > self.capacity:
                raise ConfigError(f"{name} must be at most the capacity ({capacity}), not {getattr(self, name)!r}")
        self._lock = threading.Lock()
        self._available = self.capacity
        self._counts = dict.fromkeys(("granted", "refused", "taken", "returned"), 0)

    @property
    def available(self) -> int:
        """Tokens there now."""
        return self._available

    def cost_of(self, kind: Kind) -> int:
        """What a retry takes after an error of this kind."""
        if kind is Kind.THROTTLING:
            return self.throttling_cost
        return self._timeout_cost if kind is Kind.TIMEOUT else self.cost

    def acquire(self, kind: Kind) -> int:
        """Pay for a retry after an error of this kind: the tokens taken, or 0 if there are too few."""
        cost = self.cost_of(kind)
        with self._lock:
            if cost > self._available:
                self._counts["refused"] += 1
                return 0
            self._available -= cost
            self._counts["granted"] += 1
            self._counts["taken"] += cost
        return cost

    def release(self, taken: int = 0) -> None:
        """A call succeeded whose last retry had taken *taken* tokens; 0 if it had made none."""
        if self._available == self.capacity:  # the healthy case needs no lock
            return
        with self._lock:
            back = min(taken or self.success, self.capacity - self._available)
            self._available += back
            self._counts["returned"] += back

    @property
    def counters(self) -> dict[str, int | float]:
        """Tokens there now, retries granted and refused, tokens taken and given back."""
        with self._lock:
            return {"available": self._available, **self._counts}
