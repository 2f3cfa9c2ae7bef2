"""What the last calls were like: exact counts over the last N calls or the last T seconds.

Both windows are built on one observation: nearly every call succeeds, so a success must cost next
to nothing. It is one integer increment, ``n += 1``, and nothing is stored for it. Forgetting and
summing happen when a call failed or was slow, or when somebody asks.

Both have the same face, so that their user need not know which one it holds:

* ``n``: calls recorded since the last ``clear``;
* ``edge``: nanoseconds; from then on ``rotate`` has to be called before ``n`` is increased;
* ``success``, ``record``, ``counts``, ``rotate``, ``clear``.

This file knows nothing of thresholds, states or clocks: the time is handed in, as monotonic integer
nanoseconds. Sizes are taken on trust: whoever builds a window has checked them.
"""

from __future__ import annotations

from collections import deque

__all__ = ["CallWindow", "TimeWindow"]

_NEVER = 1 << 63
"""Later than any monotonic clock will show: 292 years."""

_EMPTY = (0, 0, 0)


class CallWindow:
    """Exact counts over the last *size* calls, whatever time they took.

    A failure or slow call is remembered by its position in the sequence of calls; it belongs to the
    window while that position is above ``n - size``. Constant time, amortized; memory for at most
    *size* bad calls.

    Not thread-safe: the caller holds a lock.

    Args:
        size: how many calls the window holds, at least 1.
    """

    __slots__ = ("_bad", "_failures", "_size", "_slow", "edge", "n")

    def __init__(self, size: int) -> None:
        self._size = size
        self._bad: deque[tuple[int, bool, bool]] = deque()
        self._failures = 0
        self._slow = 0
        self.n = 0
        self.edge = _NEVER

    def success(self, now: int) -> None:
        """Record a call that was neither a failure nor slow."""
        self.n += 1

    def record(self, now: int, failed: bool, slow: bool) -> None:
        """Record any call; it may be a failure and slow at once."""
        self.n += 1
        if failed or slow:
            self._bad.append((self.n, failed, slow))
            self._failures += failed
            self._slow += slow
            self._forget()

    def counts(self, now: int) -> tuple[int, int, int]:
        """How many calls the window holds, how many of them failed, and how many were slow."""
        self._forget()
        return min(self.n, self._size), self._failures, self._slow

    def rotate(self, now: int) -> None:
        """Do nothing: time does not age a window of calls."""

    def clear(self) -> None:
        """Forget every call."""
        self._bad.clear()
        self._failures = self._slow = self.n = 0

    def _forget(self) -> None:
        last_out = self.n - self._size
        bad = self._bad
        while bad and bad[0][0] <= last_out:
            _, failed, slow = bad.popleft()
            self._failures -= failed
            self._slow -= slow


class TimeWindow:
    """Counts over the last *span* nanoseconds, however many calls they saw.

    Time is cut into cells of ``span / cells``, rounded up. The window is the cell of the newest
    time seen and the ``cells - 1`` before it, so it reaches back between ``span`` and a cell less.
    The ring keeps what the running counters showed at the beginning of each cell; a count is the
    difference of two readings. Constant time and memory.

    A clock that steps back changes nothing: such a call is recorded in the newest cell.

    Not thread-safe: the caller holds a lock.

    Args:
        span: nanoseconds, at least *cells*.
        cells: how finely the window moves on, at least 1.
    """

    __slots__ = ("_cell", "_failures", "_marks", "_slow", "_width", "edge", "n")

    def __init__(self, span: int, cells: int = 10) -> None:
        self._width = -(-span // cells)
        self._marks = deque([_EMPTY] * cells, cells)
        self._failures = 0
        self._slow = 0
        self._cell = 0
        self.n = 0
        self.edge = self._width

    def success(self, now: int) -> None:
        """Record a call that was neither a failure nor slow."""
        if now >= self.edge:
            self.rotate(now)
        self.n += 1

    def record(self, now: int, failed: bool, slow: bool) -> None:
        """Record any call; it may be a failure and slow at once."""
        self.success(now)
        self._failures += failed
        self._slow += slow

    def counts(self, now: int) -> tuple[int, int, int]:
        """How many calls the window holds, how many of them failed, and how many were slow."""
        if now >= self.edge:
            self.rotate(now)
        n, failures, slow = self._marks[0]
        return self.n - n, self._failures - failures, self._slow - slow

    @property
    def running(self) -> tuple[int, int, int]:
        """Calls, failures and slow calls since the last ``clear``."""
        return self.n, self._failures, self._slow

    def rotate(self, now: int) -> None:
        """Move on to the cell of *now*, which is at or after ``edge``."""
        cell = now // self._width
        marks = self._marks
        mark = (self.n, self._failures, self._slow)
        marks.extend([mark] * min(cell - self._cell, len(marks)))
        self._cell = cell
        self.edge = (cell + 1) * self._width

    def clear(self) -> None:
        """Forget every call, but not how late it is."""
        marks = self._marks
        marks.extend([_EMPTY] * len(marks))
        self._failures = self._slow = self.n = 0
