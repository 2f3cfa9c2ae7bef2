"""A store in this process: for tests, and for programs that share state among threads and event loops only."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ..clock import Clock, system
from .forking import survive
from .protocol import Entry, Store, check_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .protocol import Numbers, Transition

__all__ = ["MemoryStore"]


class MemoryStore(Store):
    """Shared state in memory; the reference for all other stores.

    Args:
        clock: where time comes from; the machine's clock by default.

    Thread-safe. A child process has a copy that goes its own way.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        super().__init__(name="memory", timeout=1.0)
        if clock is not None and not isinstance(clock, Clock):
            raise TypeError(f"clock must be a Clock, not {clock!r}")
        self._clock = clock or system
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str, int], tuple[Numbers, int]] = {}
        self._sweep_at = 1000  # keys
        survive(self)

    def forked(self) -> None:
        """See `forking`."""
        self._lock = threading.Lock()

    def exchange(self, key: str, transition: Transition, arguments: Numbers) -> Numbers:
        """See `Store.exchange`; never unavailable."""
        check_key(key)
        return self._exchange(key, transition, arguments)

    async def aexchange(self, key: str, transition: Transition, arguments: Numbers) -> Numbers:
        """See `Store.aexchange`; never suspends."""
        return self.exchange(key, transition, arguments)

    def _exchange(self, key: str, transition: Transition, arguments: Numbers) -> Numbers:
        place = key, transition.name, transition.version
        with self._lock:
            now = self._clock.monotonic_ns() // 1000
            state, ends = self._kept.get(place, ((), 0))
            if ends <= now:
                state = ()
            after, ttl, reply = transition.step(state, now, arguments)
            if after is None:
                return reply
            if not after:
                self._kept.pop(place, None)
                return reply
            self._kept[place] = after, now + ttl * 1000
            if len(self._kept) > self._sweep_at:  # each key pays for one look at another
                self._kept = {place: kept for place, kept in self._kept.items() if kept[1] > now}
                self._sweep_at = max(1000, 2 * len(self._kept))
        return reply

    async def _aexchange(self, key: str, transition: Transition, arguments: Numbers) -> Numbers:
        return self._exchange(key, transition, arguments)

    def survey(self) -> Iterator[Entry]:
        """See `Store.survey`."""
        with self._lock:
            now = self._clock.monotonic_ns() // 1000
            found = [Entry(*place, state) for place, (state, ends) in self._kept.items() if ends > now]
        return iter(found)
