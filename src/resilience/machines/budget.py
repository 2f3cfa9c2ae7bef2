"""The bucket that successes fill and retries drain.

Tokens are counted in whole thousandths, so that ten deposits of 0.1 are one retry. This file knows no clock and no
lock: the time is brought, and the caller holds the lock.
"""

from __future__ import annotations

__all__ = ["UNIT", "BudgetMachine"]

UNIT = 1000
"""Parts of a retry."""


class BudgetMachine:
    """A retry budget. Not thread-safe: the caller holds a lock; ``level`` and ``full`` may be read without.

    Over any history at most ``capacity + deposit * successes + elapsed / floor_interval + 1`` retries are granted. With
    failure probability f per attempt, attempts per call are at most 1 / (1 - deposit * (1 - f)).

    Args:
        capacity: retries saved up at most; it starts full.
        deposit: what a success earns.
        floor_interval: nanoseconds after which one retry is granted even from an empty bucket; ``None``: never.

    Source: Marc Brooker, "Fixing retries with token buckets and circuit breakers" (2022).
    """

    __slots__ = ("_deposit", "_floor", "_floor_at", "_latest", "floored", "full", "level", "refused", "withdrawn")

    def __init__(self, *, capacity: float, deposit: float, floor_interval: int | None) -> None:
        self.full = self.level = round(capacity * UNIT)
        self._deposit = round(deposit * UNIT)
        self._floor = floor_interval
        self._floor_at: int | None = None
        self._latest: int | None = None
        self.withdrawn = 0
        self.refused = 0
        self.floored = 0

    def deposit(self) -> None:
        """A call went well."""
        self.level = min(self.full, self.level + self._deposit)

    def withdraw(self, now: int) -> bool:
        """Grant one retry, or refuse it. A time before an earlier one counts as that."""
        if self._latest is None or now > self._latest:
            self._latest = now
        else:
            now = self._latest
        if self.level >= UNIT:
            self.level -= UNIT
        elif self._floor is not None and (self._floor_at is None or now >= self._floor_at):
            self._floor_at = now + self._floor
            self.floored += 1
        else:
            self.refused += 1
            return False
        self.withdrawn += 1
        return True
