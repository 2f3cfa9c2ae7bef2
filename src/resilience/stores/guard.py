"""Whether a store is asked at all: the breaker that stands before each of them.

A store is a dependency like any other, and the one that must not take the others down with it. After a few failures in
a row nobody waits for it any more; one exchange at a time tries whether it is back. This file knows nothing of engines.
"""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

from .._checks import NS
from .._hooks import log
from .._listen import LISTENERS, tell
from ..errors import ResilienceError
from ..events import StoreDegraded, StoreRecovered
from ..machines.circuit import FAILURE, IGNORED, SUCCESS, Circuit, Settings, State
from .forking import survive

if TYPE_CHECKING:
    from ..clock import Clock
    from ..machines.circuit import Outcome, Permit, Transition

__all__ = ["Guard", "StoreUnavailable"]

SETTINGS = Settings(
    consecutive=3, minimum=3, open_for_ns=NS // 2, max_open_ns=5 * NS, probes=1, probe_timeout_ns=5 * NS
)
"""Three failures in a row; then tried again after half a second, and after at most five (a quarter more or less)."""


class StoreUnavailable(ResilienceError):
    """A store could not be asked, or did not answer in time.

    Users of a policy do not see this: it does what its ``on_store_failure`` says.
    """


class Guard:
    """The breaker of one store. Thread-safe.

    Args:
        name: of the store, for events.
        clock: where time comes from.
    """

    def __init__(self, name: str, clock: Clock) -> None:
        self._name = name
        self._clock = clock
        self._circuit = Circuit(SETTINGS)
        self._since: int | None = None  # when it was lost
        self._lock = threading.Lock()
        survive(self)

    def forked(self) -> None:
        """In a child process: the lock may have been held by a thread that is not here."""
        self._lock = threading.Lock()

    @property
    def degraded(self) -> bool:
        """Whether it is lost, and tried only now and then."""
        return self._since is not None

    def admit(self) -> Permit:
        """The permit for one exchange.

        Raises:
            StoreUnavailable: not now.
        """
        circuit = self._circuit
        if circuit.open_gate:
            return circuit.generation
        with self._lock:
            permit = circuit.admit(self._clock.monotonic_ns(), random.random)
        if permit is None:
            raise StoreUnavailable(f"store {self._name} is down, and is tried again before long")
        return permit

    def went_well(self, permit: Permit) -> None:
        """The exchange was answered."""
        if self._circuit.run or not isinstance(permit, int):  # otherwise there is nothing to change
            self._settle(permit, SUCCESS, None)

    def ignored(self, permit: Permit) -> None:
        """The exchange was broken off by its caller."""
        self._settle(permit, IGNORED, None)

    def failed(self, permit: Permit, error: Exception) -> StoreUnavailable:
        """The exchange failed; returns what to raise."""
        self._settle(permit, FAILURE, error)
        return StoreUnavailable(f"store {self._name}: {type(error).__name__}: {error}")

    def _settle(self, permit: Permit, outcome: Outcome, error: Exception | None) -> None:
        event: StoreDegraded | StoreRecovered | None = None
        with self._lock:
            now = self._clock.monotonic_ns()
            moved: Transition | None = self._circuit.settle(permit, outcome, False, now, random.random)
            if moved is None:
                return
            if moved.new is State.OPEN and self._since is None:
                assert error is not None
                self._since = now
                event = StoreDegraded(self._name, error)
            elif moved.new is State.CLOSED and self._since is not None:
                event = StoreRecovered(self._name, (now - self._since) / NS)
                self._since = None
        if event is not None:
            log.warning("%s", event)
            if type(event) in LISTENERS:
                tell(event)
