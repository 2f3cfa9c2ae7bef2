"""How many calls were good and how many bad, over any span up to a month, in a few kilobytes.

The totals are exact. A span is answered by the difference of two readings of them: now, and at its beginning. The past
readings are kept in rings of slices, each ring six times as coarse as the one before, so that a minute and a month are
both there. A call costs nothing but the addition, unless it is the first one in a slice.

Every `now` is an integer reading in nanoseconds; of a clock that steps back the latest reading counts. This file knows
nothing of clocks, locks, policies, or of what makes a call bad.
"""

from __future__ import annotations

from array import array

from .. import _checks
from .._checks import NS
from ..errors import ConfigError

__all__ = ["ServiceLevel"]

_SLICES = 60
_COARSER = 6  # times as coarse as the ring before; so a slice is at most a tenth of the spans that its ring answers
_LONG_AGO = -(1 << 63)  # earlier than any clock shows


class ServiceLevel:
    """Good and bad calls, held against an objective.

    The calls of a span are counted back to the beginning of a slice: all calls of the span are in the count, and at
    most a slice more. A slice is at most a tenth of the span, or a second if that is longer; see `slice_ns`. Calls
    belong to the moment in which they are added.

    Constant memory, whatever the traffic: for 30 days 7 rings, about 9 kB. `add` is a comparison or two and two
    additions; once a slice of the finest ring, so at most about once a second, it sets a mark in one ring, seldom
    in more. After a silence it sets at most 61 in each. An answer costs one subtraction.

    Not thread-safe: the caller holds a lock.

    Args:
        objective: the share of calls that is to be good, above 0 and below 1.
        window_ns: the longest span that can be asked for, ns; at least 1.

    Attributes:
        good, bad: all calls since it was made.

    Raises:
        ConfigError: an argument is out of range.
        TypeError: an argument has the wrong type.

    Source: burn rate and error budget as in "The Site Reliability Workbook" (Google, 2018), chapter 5, "Alerting on
    SLOs".
    """

    __slots__ = ("_budget", "_edge", "_now", "_rings", "_window", "bad", "good")

    def __init__(self, objective: float, window_ns: int) -> None:
        self._budget = 1 - _checks.ratio("objective", objective, one=False)
        self._window = _checks.count("window_ns", window_ns)
        slices = _SLICES
        widths = [1]
        while -(-self._window // slices) > NS:
            slices *= _COARSER
            widths.append(widths[-1] * _COARSER)
        finest = -(-self._window // slices)
        self._rings = [_Ring(finest * width) for width in widths]
        self._now = self._edge = _LONG_AGO
        self.good = 0
        self.bad = 0

    def add(self, good: int, bad: int, now: int) -> None:
        """Count so many good and so many bad calls."""
        if now > self._now:
            self._now = now
            if now >= self._edge:
                self._turn()
        self.good += good
        self.bad += bad

    def counted(self, span_ns: int, now: int) -> tuple[int, int]:
        """Good and bad calls of the last *span_ns* ns, and of at most `slice_ns` before that.

        Raises:
            ConfigError: the span is not between 1 and the window.
        """
        ring = self._ring(span_ns)
        self.add(0, 0, now)
        place = (self._now - span_ns) // ring.width % len(ring.good)
        return self.good - ring.good[place], self.bad - ring.bad[place]

    def slice_ns(self, span_ns: int) -> int:
        """By how much, at most, the count over a span reaches back too far: a tenth of it or less, or a second."""
        return self._ring(span_ns).width

    def burn(self, span_ns: int, now: int) -> float:
        """How fast the error budget is spent: 1.0 uses it up in just the window, 0.0 is no bad call, or none at all."""
        good, bad = self.counted(span_ns, now)
        return bad / (good + bad) / self._budget if bad else 0.0

    def left(self, now: int) -> float:
        """The part of the error budget left, of what the calls in the window allow: 1.0 is all of it, below 0 debt."""
        return 1 - self.burn(self._window, now)

    def _ring(self, span_ns: int) -> _Ring:
        """The finest ring that reaches back so far."""
        if 1 <= span_ns <= self._window:
            for ring in self._rings:
                if span_ns <= _SLICES * ring.width:
                    return ring
        raise ConfigError(f"span_ns must be between 1 and {self._window}, not {span_ns!r}")

    def _turn(self) -> None:
        """Mark the beginning of a slice in each ring that has come to one."""
        for ring in self._rings:
            if not ring.turn(self._now, self.good, self.bad):
                break  # the coarser slices are whole multiples of these
        finest = self._rings[0]
        self._edge = (finest.slice + 1) * finest.width


class _Ring:
    """What the totals were at the beginning of the newest slice and of the 60 before it."""

    __slots__ = ("bad", "good", "slice", "width")

    def __init__(self, width: int) -> None:
        self.width = width
        self.slice = _LONG_AGO
        self.good = array("q", bytes(8 * (_SLICES + 1)))
        self.bad = array("q", bytes(8 * (_SLICES + 1)))

    def turn(self, now: int, good: int, bad: int) -> bool:
        """Come to the slice of *now*, up to which the totals were these; False if it is the newest already."""
        before, self.slice = self.slice, now // self.width
        size = len(self.good)
        for passed in range(max(before, self.slice - size) + 1, self.slice + 1):
            self.good[passed % size] = good
            self.bad[passed % size] = bad
        return self.slice > before
