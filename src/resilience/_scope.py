"""What a running call tells the code below it: how long it may take, and which attempt this is.

One context variable holds one immutable record, so the happy path reads one variable. Contexts are inherited by asyncio
tasks and by the worker threads of this library; threads started by others see nothing.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from ._checks import NS
from .errors import DeadlineExceeded, TimedOut

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .clock import Clock
    from .policies._lingering import Lingerer

__all__ = ["NOWHERE", "SCOPE", "BlockScope", "Limit", "Scope", "check_deadline", "current_attempt", "remaining"]


class Limit:
    """A point in time that the work below must not pass, and whose it is. Immutable.

    Attributes:
        at: the point in time, ns.
        seconds: how long that was from its beginning.
        owner: the name of the policy.
        clock: whose time it is.
        deadline: whether it is that of a whole call.
        lingerer: who would like to watch an attempt that passes it, to learn how long it takes.
    """

    __slots__ = ("at", "clock", "deadline", "lingerer", "owner", "seconds")

    def __init__(
        self,
        at: int,
        seconds: float,
        owner: str,
        clock: Clock,
        *,
        deadline: bool,
        lingerer: Lingerer | None = None,
    ) -> None:
        self.at = at
        self.seconds = seconds
        self.owner = owner
        self.clock = clock
        self.deadline = deadline
        self.lingerer = lingerer

    def on(self, clock: Clock) -> Limit:
        """The same limit as a point on another clock (clocks only share durations)."""
        if clock is self.clock:
            return self
        left = self.at - self.clock.monotonic_ns()
        return Limit(clock.monotonic_ns() + left, self.seconds, self.owner, clock, deadline=self.deadline)

    def left(self, now: int) -> float:
        """Seconds left; negative when it has passed."""
        return (self.at - now) / NS

    def error(self, now: int) -> TimedOut:
        """The error that says this limit was passed."""
        elapsed = self.seconds + (now - self.at) / NS
        kind = DeadlineExceeded if self.deadline else TimedOut
        what = "the deadline" if self.deadline else "the timeout"
        return kind(
            f"{self.owner}: {what} of {self.seconds:g} s has passed ({elapsed:.3f} s)",
            policy=self.owner,
            timeout=self.seconds,
            elapsed=elapsed,
        )


def tighter(a: Limit | None, b: Limit | None) -> Limit | None:
    """The limit that ends first. Nested limits only shrink."""
    if a is None:
        return b
    if b is None:
        return a
    return b if b.at < a.at else a


class Scope:
    """The record. Immutable: a change is a new record, set and reset around the work it is for."""

    __slots__ = ("attempt", "limit", "overrides", "retrying")

    def __init__(
        self,
        limit: Limit | None = None,
        attempt: int = 1,
        retrying: bool = False,  # noqa: FBT002 - private, and made on every attempt
        overrides: tuple[tuple[object, Mapping[str, Any]], ...] = (),
    ) -> None:
        self.limit = limit
        self.attempt = attempt
        self.retrying = retrying
        self.overrides = overrides

    def within(self, limit: Limit | None) -> Scope:
        """This scope with another limit."""
        return Scope(limit, self.attempt, self.retrying, self.overrides)


class BlockScope(Scope):
    """The scope of a ``with`` block. Blocks that generators hold open need not end in the order they began in."""

    __slots__ = ("_closed", "_outer")

    def __init__(
        self,
        outer: Scope | None,
        limit: Limit | None,
        attempt: int,
        overrides: tuple[tuple[object, Mapping[str, Any]], ...] | None = None,
    ) -> None:
        known = outer or NOWHERE
        super().__init__(
            limit, attempt, known.retrying or attempt > 1, known.overrides if overrides is None else overrides
        )
        self._outer = outer
        self._closed = False

    def close(self) -> None:
        """The block has ended: back to the innermost one that has not."""
        self._closed = True
        current()


def current() -> Scope | None:
    """The innermost scope that has not ended; those that have are forgotten here."""
    scope = found = SCOPE.get()
    while isinstance(found, BlockScope) and found._closed:
        found = found._outer
    if found is not scope:
        SCOPE.set(found)
    return found


SCOPE: ContextVar[Scope | None] = ContextVar("resilience", default=None)
NOWHERE = Scope()


def remaining() -> float | None:
    """Seconds left until the nearest deadline or timeout around this code; ``None`` without one.

    Zero when it has passed. Hand it to whatever you call: ``http.get(url, timeout=remaining())``.
    """
    scope = current()
    if scope is None or scope.limit is None:
        return None
    return max(0.0, scope.limit.left(scope.limit.clock.monotonic_ns()))


def check_deadline() -> None:
    """Give up here if the time allowed has passed: the checkpoint of cooperative timeouts.

    Raises:
        TimedOut: the timeout of the attempt around this code has passed.
        DeadlineExceeded: the deadline around this code has passed.
    """
    scope = current()
    if scope is not None and scope.limit is not None:
        now = scope.limit.clock.monotonic_ns()
        if now >= scope.limit.at:
            raise scope.limit.error(now)


def current_attempt() -> int:
    """The number of the attempt this code runs in, from 1; 1 outside any retrying as well."""
    scope = current()
    return 1 if scope is None else scope.attempt
