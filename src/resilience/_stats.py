"""What is known of the calls of a policy: how many, how they ended, and how long they took.

A policy that others can look up (one with a name, in a registry) is *observed*: of each of its calls the duration is
kept, exactly, since the beginning. On the short way that is one ``append`` to a list, which is worked in some times a
second, or when somebody reads. So no lock is taken, and no call is lost: appending is one step also without the GIL,
and whoever works in takes out just what they have copied.
"""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, TypeVar

from .errors import Rejected, TimedOut
from .machines.distribution import Distribution, binned

if TYPE_CHECKING:
    from collections.abc import Callable

    from .policies.slo import SLO
    from .policies.timeout import TimeoutPart

__all__ = ["Stats", "outcome"]

T = TypeVar("T")

_EVERY = 100_000_000
"""Nanoseconds between two times of working in."""

_MANY = 256
"""So many durations from the story are worked in at once, due or not."""

ENDS = ("poor", "failed", "rejected", "timed_out", "cancelled")
"""How calls end that do not go well."""


def outcome(error: BaseException) -> str:
    """How a call ended that ended in *error*."""
    if isinstance(error, Rejected):
        return "rejected"
    if isinstance(error, TimedOut):
        return "timed_out"
    return "failed" if isinstance(error, Exception) else "cancelled"


def _standing(counter: itertools.count[int]) -> int:
    """How often it was drawn from; a count shows that only in its repr."""
    return int(repr(counter)[6:-1])


class Stats:
    """The counts and durations of one policy's calls. Thread-safe.

    Attributes:
        observed: whether durations are kept.
        begin: counts a call that begins. ``next()`` of a count is one step of C code, atomic also without the GIL
            (since 3.13).
        attempt: counts an attempt made by the story; those of the short way are in the durations.
        keep: takes the duration (ns) of a call that went well on the short way.
        due: when what was kept is to be worked in, ns.
        learner: the timeout that learns from the short way's durations too.
        slo: what the calls are held against.
    """

    __slots__ = (
        "__weakref__", "_attempts", "_bad", "_calls", "_counts", "_fresh", "_good", "_lock", "_short", "_told",
        "attempt", "begin", "due", "keep", "learner", "observed", "slo",
    )  # fmt: skip

    def __init__(self, *, observed: bool = False, slo: SLO | None = None) -> None:
        self.observed = observed
        self._calls = itertools.count()
        self.begin: Callable[[], int] = self._calls.__next__
        self._attempts = itertools.count()
        self.attempt: Callable[[], int] = self._attempts.__next__
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(ENDS, 0)
        self._fresh: list[int] = []
        self._told: list[int] = []
        self._short = 0
        self.keep: Callable[[int], None] = self._fresh.append
        self.due = 0
        self._good = Distribution()
        self._bad = Distribution()
        self.learner: TimeoutPart | None = None
        self.slo = slo

    def succeeded(self, duration: int, now: int) -> None:
        """A call went well after *duration* ns, told by the story."""
        if self.observed:
            self._told.append(duration)
            if now >= self.due or len(self._told) >= _MANY:
                self.refresh(now)

    def ended(self, error: BaseException | None, duration: int, now: int) -> None:
        """A call ended in *error* after *duration* ns; ``None``: with a result that was not good enough."""
        what = "poor" if error is None else outcome(error)
        with self._lock:
            self._counts[what] += 1
            if self.observed and what not in ("rejected", "cancelled"):
                self._bad.add((duration,))
        if self.slo is not None and what != "cancelled":
            self._pull(now)  # the good ones before it, or for a second the bad ones would seem to be more
            self.slo.count(0, 1, now)

    def refresh(self, now: int) -> None:
        """Work in what was kept. One caller does; others go on meanwhile."""
        self.due = now + _EVERY
        self._pull(now)

    def drain(self, now: int) -> tuple[list[int], dict[int, int]]:
        """Work in what was kept, and return what came from the short way, with its counts by bucket."""
        with self._lock:
            # All that is there now; others may go on appending.
            fresh, told = self._fresh[:], self._told[:]
            del self._fresh[: len(fresh)], self._told[: len(told)]
            bins = binned(fresh)
            if fresh:
                self._short += len(fresh)
                self._good.add(fresh, bins)
            if told:
                self._good.add(told)
        if self.slo is not None and (fresh or told):
            within = self.slo.within_ns
            slow = 0 if within is None else sum(map(within.__le__, fresh)) + sum(map(within.__le__, told))
            self.slo.count(len(fresh) + len(told) - slow, slow, now)
        return fresh, bins

    def _pull(self, now: int) -> None:
        if not self._fresh and not self._told:  # whoever works in the last ones holds the lock until that is done
            return
        if self.learner is None:
            self.drain(now)
        else:
            self.learner.pull(self, now)

    def read(self, now: int) -> dict[str, int | float]:
        """Calls begun, and how many of them ended in which way.

        If observed, also ``in_flight``, how many have not ended, and ``attempts``, how many were made.
        """
        if self.observed:
            self._pull(now)
        with self._lock:
            good, counts = self._good.count, dict(self._counts)
            attempts = self._short + _standing(self._attempts)
        calls = _standing(self._calls)  # read last, or more could have ended than had begun
        if not self.observed:
            return {"calls": calls, **counts}
        in_flight = calls - good - sum(counts.values())
        return {"calls": calls, "succeeded": good, **counts, "in_flight": in_flight, "attempts": attempts}

    def latency(self, now: int) -> tuple[Distribution, Distribution]:
        """How long calls took that went well, and those that failed, were poor or timed out; empty if unobserved."""
        self._pull(now)
        return self.look(Distribution.copy)

    def look(self, view: Callable[[Distribution], T]) -> tuple[T, T]:
        """What *view* makes of both, under the lock; without what was not worked in yet, such as since ``read``."""
        with self._lock:
            return view(self._good), view(self._bad)
