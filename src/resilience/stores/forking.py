"""What must be made anew in a child process: locks that somebody may have held, tokens that belong to the parent."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet

__all__ = ["survive"]


class Survivor(Protocol):
    """Something that can be used on both sides of a fork."""

    def forked(self) -> None:
        """We are in the child, in its only thread."""


_survivors: WeakSet[Survivor] = WeakSet()


def survive(survivor: Survivor) -> None:
    """Have *survivor* told in each child process, for as long as it lives."""
    _survivors.add(survivor)


def _forked() -> None:
    for survivor in list(_survivors):
        survivor.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
