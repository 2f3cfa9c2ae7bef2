"""Watching a few attempts beyond their timeout: were they late, or lost?

The caller has been told that time is up, and has got everything back that the attempt held. The attempt goes on, as a
task of the event loop or in its worker thread, up to the longest timeout; how it ends is a sample.

This file knows places: how many are watched by one timeout, and by all of them together. A place is free again when
the attempt has ended, when its event loop was closed, or when nobody holds the attempt any more; so nothing needs to
be called for a place to come back.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Lingerer", "Places", "Watch"]

_lock = threading.Lock()
_everywhere: set[Watch] = set()


class Lingerer(Protocol):
    """Who learns from attempts that are watched: the ticket of the attempt."""

    def room(self) -> bool:
        """Whether it is worth running the attempt so that it could be watched."""

    def watch(self, attempt: Any) -> Watch | None:
        """Watch *attempt*, whose time is up; ``None`` if there is no place."""


class Watch:
    """One attempt being watched. Its end is told once; what comes later, or from another thread, counts nowhere.

    Attributes:
        began: when the attempt began, ns.
        until: when it counts as lost, ns.
    """

    __slots__ = ("_attempt", "_tell", "began", "until")

    def __init__(self, attempt: Any, began: int, until: int, tell: Callable[[Watch, str], None]) -> None:
        self._attempt = weakref.ref(attempt)
        self._tell: Callable[[Watch, str], None] | None = tell
        self.began = began
        self.until = until

    def gone(self) -> bool:
        """Whether it can end no more: nobody has it, or its event loop was closed."""
        attempt = self._attempt()
        if attempt is None:
            return True
        get_loop = getattr(attempt, "get_loop", None)
        return get_loop is not None and get_loop().is_closed()

    def answered(self) -> None:
        """It was answered after all."""
        self._end("late")

    def lost(self) -> None:
        """It was watched for as long as a timeout can be."""
        self._end("lost")

    def broke_off(self) -> None:
        """It ended in an error, or was cancelled: longer than this, and no more is known."""
        self._end("cut")

    def _end(self, how: str) -> None:
        with _lock:
            tell, self._tell = self._tell, None
        if tell is not None:
            tell(self, how)


class Places:
    """The places of one timeout. Thread-safe.

    Args:
        most: how many attempts it may watch at once.
    """

    __slots__ = ("_most", "_watched")

    def __init__(self, most: int) -> None:
        self._most = most
        self._watched: set[Watch] = set()

    def __len__(self) -> int:
        return len(self._watched)

    def room(self) -> bool:
        """Whether a place seems to be free. No more than a hint: it is read without a lock."""
        if len(self._watched) < self._most:
            return True
        return any(watch.gone() for watch in tuple(self._watched))

    def take(self, watch: Watch, everywhere: int) -> bool:
        """Give *watch* a place, if there is one here and among the *everywhere* ones of all."""
        with _lock:
            for places, most in ((self._watched, self._most), (_everywhere, everywhere)):
                if len(places) >= most:
                    places -= {other for other in places if other.gone()}
                if len(places) >= most:
                    return False
            self._watched.add(watch)
            _everywhere.add(watch)
            return True

    def leave(self, watch: Watch) -> None:
        """The place is free again."""
        with _lock:
            self._watched.discard(watch)
            _everywhere.discard(watch)

    def overdue(self, now: int) -> list[Watch]:
        """Those whose time is up; a worker thread has no timer that would say so."""
        if not self._watched:
            return []
        with _lock:
            return [watch for watch in self._watched if now >= watch.until]
