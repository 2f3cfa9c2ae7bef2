"""The one boundary where a user's values become numbers.

Each check returns the value in the type the code works with, or raises an error that names the argument, shows the
value and says what is allowed. A bool is never taken for a number.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from .errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "LONGEST",
    "NS",
    "count",
    "flag",
    "function",
    "number",
    "one_of",
    "ratio",
    "seconds",
    "span",
    "text",
    "to_ns",
]

NS = 1_000_000_000
"""Nanoseconds in a second: points in time are integer nanoseconds inside the library."""

LONGEST = 4e9
"""The longest finite duration that is accepted, in seconds: more than a century, and safe to reckon with."""

_F = TypeVar("_F")


def to_ns(value: float) -> int:
    """Seconds to the nearest integer nanosecond."""
    return round(value * NS)


def _real(name: str, value: object, allowed: str) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} must be {allowed}, not {value!r}")
    try:
        return float(value)
    except TypeError:
        raise TypeError(f"{name} must be {allowed}, not {value!r}") from None
    except (OverflowError, ValueError):
        raise ConfigError(f"{name} must be {allowed}, not {value!r}") from None


def seconds(name: str, value: object, *, zero: bool = False, inf: bool = False) -> float:
    """A duration in seconds: a number or a ``timedelta``; above zero; at most `LONGEST`, or infinite if *inf*."""
    allowed = f"a number of seconds {'>= 0' if zero else '> 0'} and <= {LONGEST:g}{', or inf' if inf else ''}"
    result = _real(name, value, allowed)
    if inf and result == math.inf:
        return result
    if not 0 <= result <= LONGEST or (result == 0 and not zero):  # NaN is refused by the first
        raise ConfigError(f"{name} must be {allowed}, not {value!r}")
    return result


def span(name: str, value: object) -> float:
    """A duration that is reckoned with in whole nanoseconds: at least one of them."""
    result = seconds(name, value)
    if to_ns(result) < 1:
        raise ConfigError(f"{name} must be at least a nanosecond, not {value!r}")
    return result


def number(name: str, value: object, *, minimum: float | None = None, above: float | None = None) -> float:
    """A finite number, optionally at least *minimum* or strictly above *above*."""
    allowed = "a finite number"
    if minimum is not None:
        allowed += f" >= {minimum:g}"
    if above is not None:
        allowed += f" > {above:g}"
    if isinstance(value, timedelta):
        raise TypeError(f"{name} must be {allowed}, not {value!r}")
    result = _real(name, value, allowed)
    if (
        not math.isfinite(result)
        or (minimum is not None and result < minimum)
        or (above is not None and result <= above)
    ):
        raise ConfigError(f"{name} must be {allowed}, not {value!r}")
    return result


def ratio(name: str, value: object, *, zero: bool = False, one: bool = True) -> float:
    """A share between 0 and 1; *zero* and *one* say whether the ends belong to it."""
    allowed = f"a ratio in {'[' if zero else '('}0, 1{']' if one else ')'}"
    if isinstance(value, timedelta):
        raise TypeError(f"{name} must be {allowed}, not {value!r}")
    result = _real(name, value, allowed)
    low = result >= 0 if zero else result > 0
    high = result <= 1 if one else result < 1
    if not (low and high):
        raise ConfigError(f"{name} must be {allowed}, not {value!r}")
    return result


def count(name: str, value: object, *, minimum: int = 1) -> int:
    """A whole number, at least *minimum*."""
    allowed = f"a whole number >= {minimum}"
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be {allowed}, not {value!r}")
    try:
        result = int(value.__index__())
    except TypeError:
        raise TypeError(f"{name} must be {allowed}, not {value!r}") from None
    if result < minimum:
        raise ConfigError(f"{name} must be {allowed}, not {value!r}")
    return result


def flag(name: str, value: object) -> bool:
    """True or False, and nothing that merely behaves like it."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return value


def text(name: str, value: object) -> str:
    """A non-empty string."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {value!r}")
    if not value:
        raise ConfigError(f"{name} must be a non-empty string, not {value!r}")
    return value


def one_of(name: str, value: object, allowed: tuple[str, ...]) -> str:
    """One of a few words."""
    words = " or ".join(map(repr, allowed))
    if not isinstance(value, str):
        raise TypeError(f"{name} must be {words}, not {value!r}")
    if value not in allowed:
        raise ConfigError(f"{name} must be {words}, not {value!r}")
    return value


def function(name: str, value: Callable[..., _F]) -> Callable[..., _F]:
    """Something that can be called."""
    if not callable(value):
        raise TypeError(f"{name} must be callable, not {value!r}")
    return value
