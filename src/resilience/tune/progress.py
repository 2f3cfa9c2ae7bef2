"""A bar on a terminal while a large file is worked on; elsewhere nothing.

Knows streams. Refuses to know what is going on.
"""

from __future__ import annotations

import sys
import time
from typing import TextIO

__all__ = ["Progress"]

_WIDTH = 30
_EVERY = 0.1
"""Seconds between two drawings, and before the first one: what is quick needs no bar."""


class Progress:
    """How far a task is. Not thread-safe."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._bar = self._stream.isatty()
        self._drawn = time.monotonic()
        self._dirty = False

    def show(self, label: str, done: float, total: float | None) -> None:
        """*done* of *total* is over; the total may be unknown."""
        if not self._bar or time.monotonic() - self._drawn < _EVERY:
            return
        self._drawn = time.monotonic()
        self._dirty = True
        share = min(1.0, done / total) if total else None
        full = 0 if share is None else round(share * _WIDTH)
        bar = "#" * full + "." * (_WIDTH - full)
        percent = "  ? %" if share is None else f"{share:4.0%} "
        self._stream.write(f"\r[{bar}] {percent} {label:<30.30}")
        self._stream.flush()

    def clear(self) -> None:
        """Take the bar away."""
        if self._dirty:
            self._stream.write("\r" + " " * (_WIDTH + 42) + "\r")
            self._stream.flush()
            self._dirty = False
