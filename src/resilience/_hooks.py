"""Calling what users hang into the library, so that it can never break a call."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ask", "log", "notify"]

log = logging.getLogger("resilience")


def notify(hook: Callable[[Any], object], event: object) -> None:
    """Tell *hook* about *event*. What it raises is logged and goes no further."""
    try:
        hook(event)
    except Exception:
        log.exception("the hook %r failed on %r; the call goes on", hook, event)


def ask(predicate: Callable[[Any], object], value: object) -> bool:
    """What *predicate* says of *value*. If it raises, that is logged, and the answer is no."""
    try:
        return bool(predicate(value))
    except Exception:
        log.exception("the predicate %r failed; taken as no", predicate)
        return False
