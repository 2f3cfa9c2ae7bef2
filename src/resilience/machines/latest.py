"""Whether the latest attempts, some hundred of them, tell of a change that the window will only show later.

This file knows how many there were and how many took too long. It refuses to know how long, and what is made of it.
"""

from __future__ import annotations

from .sketch import chance

__all__ = ["Latest"]

_ALARM = 1e-3
"""It is a change if chance alone would make so many attempts too late as rarely as that."""

_ENOUGH, _MANY = 200, 1000
"""About so many attempts are the latest. Of more, their share counts as if it were one of *_MANY*."""


class Latest:
    """The latest attempts. Not thread-safe.

    Attributes:
        late: how many of those that took too long were watched, and answered after all.
    """

    __slots__ = ("_over", "_seen", "late")

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._seen = self._over = self.late = 0

    def count(self, seen: int, over: int, late: int = 0) -> None:
        """Count attempts that ended; *over* of them took too long, and *late* of these were answered."""
        self._seen += seen
        self._over += over
        self.late += late

    def due(self, share: float) -> bool:
        """Whether ``look`` can say anything, where this *share* may take too long."""
        return self._seen >= _ENOUGH or self._alarm(share)

    def look(self, share: float) -> float | None:
        """How large a share took too long, if more than this *share*, and chance, explain; then it begins anew.

        0.0 if there were enough attempts and no more than the *share* took too long; else ``None``.
        """
        if self._alarm(share):
            found = self._over / self._seen
            self._clear()
            return found
        if self._seen < _ENOUGH:
            return None
        calm = self._over <= share * self._seen
        self._seen, self._over, self.late = self._seen // 2, self._over // 2, 0
        return 0.0 if calm else None

    def _alarm(self, share: float) -> bool:
        n, over = self._seen, self._over
        if n > _MANY:
            n, over = _MANY, over * _MANY // n
        return chance(over, n, share) < _ALARM
