"""Bounded concurrency: a slow dependency may fill its own compartment, not the ship."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .. import _checks
from .._checks import NS
from .._listen import LISTENERS, tell
from .._part import Part
from ..errors import BulkheadFull
from ..events import Waited
from ..machines.gate import Gate

if TYPE_CHECKING:
    from .._runtime import Runtime, Waiter
    from .._scope import Limit
    from ..clock import Clock

__all__ = ["Bulkhead"]


class Bulkhead(Part):
    """Let at most *limit* calls run at the same time; a few more may queue, for a while.

    The queue is first come, first served, for threads and tasks alike. A call that finds it full, or has waited
    *max_wait* seconds, is refused with `BulkheadFull`.

    Args:
        limit: the most calls inside.
        queue: the most calls waiting; 0 refuses at once.
        max_wait: seconds a call may wait for a slot; never beyond its deadline.
        name: shown in messages; the policy's name by default.
        shadow: let everyone pass, and count who would have been refused.
        clock: where time comes from; the machine's clock by default.

    Raises:
        ConfigError: an argument is out of range.

    Thread-safe, across threads and event loops.
    """

    kind = "bulkhead"
    levels = frozenset({"in_use", "queued"})

    def __init__(
        self,
        limit: int,
        *,
        queue: int = 0,
        max_wait: float = 1.0,
        name: str | None = None,
        shadow: bool = False,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(name=name, clock=clock)
        self.limit = _checks.count("limit", limit)
        self.queue = _checks.count("queue", queue, minimum=0)
        self.max_wait = _checks.seconds("max_wait", max_wait, inf=True)
        self.shadow = _checks.flag("shadow", shadow)
        self._gate: Gate[Waiter] = Gate(self.limit, self.queue)
        self._counts: dict[str, int | float] = dict.fromkeys(("refused", "waited", "shadow"), 0)
        self._counts["waited_seconds"] = 0.0

    @property
    def counters(self) -> dict[str, int | float]:
        """Slots in use, calls queued now; calls refused, calls that had to wait, and for how many seconds."""
        with self._lock:
            return {
                **self._counts,
                "in_use": self._gate.inside,
                "queued": len(self._gate.queue),
            }

    def resize(self, limit: int, *, queue: int | None = None) -> None:
        """Change the limits while running. Calls inside stay; those queued enter if there is room now."""
        limit = _checks.count("limit", limit)
        room = self.queue if queue is None else _checks.count("queue", queue, minimum=0)
        with self._lock:
            self.limit, self.queue = limit, room
            lucky = self._gate.resize(limit, room)
        for waiter in lucky:
            self._hand_to(waiter)

    def try_enter(self) -> bool:
        """Take a slot, if one is free and nobody waits for it."""
        with self._lock:
            return self._gate.enter()

    async def enter(self, runtime: Runtime, who: str, limit: Limit | None) -> bool:
        """Wait for a slot. False, without a slot, where shadow lets the call pass all the same.

        Raises:
            BulkheadFull: there was none in time.
        """
        gate = self._gate
        waiter = runtime.waiter()
        with self._lock:
            if gate.enter():  # one has come free since
                return True
            queued = not self.shadow and gate.join(waiter)
            if not queued:
                self._counts["shadow" if self.shadow else "refused"] += 1
        if self.shadow:
            return False
        if not queued:
            full = ", and the queue is full" if self.queue else ""
            raise self._refusal(who, f"all slots are taken{full}")
        seconds = self.max_wait
        if limit is not None:
            seconds = min(seconds, max(0.0, limit.left(runtime.clock.monotonic_ns())))
        began = runtime.clock.monotonic_ns()
        try:
            await waiter.wait(None if seconds == math.inf else seconds)
        except BaseException:  # cancelled, perhaps a moment after a slot was handed over
            with self._lock:
                got = gate.claim(waiter)
            if got:
                self.leave()
            raise
        with self._lock:
            got = gate.claim(waiter)
            self._counts["waited" if got else "refused"] += 1
            waited = (runtime.clock.monotonic_ns() - began) / NS
            self._counts["waited_seconds"] += waited if got else 0.0
        if not got:
            raise self._refusal(who, f"no slot came free in {seconds:.3g} s")
        if Waited in LISTENERS:
            try:
                tell(Waited(self.name or who, "bulkhead", waited))
            except BaseException:  # a listener ends the program
                self.leave()
                raise
        return True

    def leave(self) -> None:
        """Give the slot back, to the first in the queue if there is one."""
        with self._lock:
            waiter = self._gate.leave()
        if waiter is not None:
            self._hand_to(waiter)

    def _hand_to(self, waiter: Waiter) -> None:
        if not waiter.wake():  # its event loop is gone: the slot goes to the next one
            with self._lock:
                self._gate.claim(waiter)
            self.leave()

    def _refusal(self, who: str, why: str) -> BulkheadFull:
        name = self.name or who
        return BulkheadFull(f"{name}: {why} ({self.limit} at a time)", policy=name)
