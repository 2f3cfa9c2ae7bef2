"""How long to wait before each retry.

A backoff is a description; ``delays()`` starts one call's own endless row of waits, so nothing is shared between calls.
The first wait is the one before the first retry: ``Exponential(0.1)`` has the ceilings 0.1, 0.2, 0.4, ... seconds
(AWS's simulator starts one step later).

Jitter is drawn below the cap, so it is never lost there. ("Decorrelated" jitter as it was published clips the draw
instead: after many attempts over a quarter of all clients wait exactly the cap, and come back together.)

This file knows no clock and draws no random numbers; they are handed in. Formulas: Marc Brooker, "Exponential Backoff
And Jitter", AWS Architecture Blog (2015).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from typing import Any, Protocol, runtime_checkable

from . import _checks
from .errors import ConfigError

__all__ = ["Backoff", "Constant", "Exponential", "Linear", "as_backoff"]

Random = Callable[[], float]
"""Returns a number in [0, 1)."""


@runtime_checkable
class Backoff(Protocol):
    """Anything that can start a row of waits."""

    def delays(self, random: Random) -> Iterator[float]:
        """A new row of waits in seconds, for one call. If it ends, so does the retrying."""


def _spread(ceiling: float, jitter: str, random: Random) -> float:
    if jitter == "full":
        return ceiling * random()
    if jitter == "equal":
        return ceiling / 2 + ceiling / 2 * random()
    return ceiling


@dataclass(frozen=True, slots=True)
class Constant:
    """Wait the same each time.

    Args:
        delay: seconds, >= 0.
        jitter: "none", "full" (from 0 to the delay) or "equal" (from half of it).

    Raises:
        ConfigError: an argument is out of range.
    """

    delay: float
    _: KW_ONLY
    jitter: str = "none"

    def __post_init__(self) -> None:
        object.__setattr__(self, "delay", _checks.seconds("delay", self.delay, zero=True))
        _jitter(self.jitter, decorrelated=False)

    def delays(self, random: Random) -> Iterator[float]:
        """See `Backoff`."""
        while True:
            yield _spread(self.delay, self.jitter, random)


@dataclass(frozen=True, slots=True)
class Linear:
    """Wait a step longer each time: start, start + step, start + 2 step, ... up to the cap.

    Args:
        start: seconds before the first retry, >= 0.
        step: seconds added each time; by default the same as *start*.
        cap: seconds that no wait exceeds.
        jitter: "none", "full" (from 0 to the wait) or "equal" (from half of it).

    Raises:
        ConfigError: an argument is out of range.
    """

    start: float
    step: float | None = None
    _: KW_ONLY
    cap: float = 60.0
    jitter: str = "none"

    def __post_init__(self) -> None:
        start = _checks.seconds("start", self.start, zero=True)
        object.__setattr__(self, "start", start)
        if self.step is not None:
            object.__setattr__(self, "step", _checks.seconds("step", self.step))
        elif start == 0:
            raise ConfigError(f"start must be a number of seconds > 0 where no step is given, not {self.start!r}")
        object.__setattr__(self, "cap", _cap(self.cap, "start", start))
        _jitter(self.jitter, decorrelated=False)

    def ceiling(self, n: int) -> float:
        """Seconds before the *n*-th retry (from 1), before jitter."""
        step = self.start if self.step is None else self.step
        return min(self.cap, self.start + min(n - 1, self.cap / step) * step)

    def delays(self, random: Random) -> Iterator[float]:
        """See `Backoff`."""
        n = 0
        while True:
            n += 1
            yield _spread(self.ceiling(n), self.jitter, random)


@dataclass(frozen=True, slots=True)
class Exponential:
    """Wait longer by a factor each time: base, base * factor, base * factor^2, ... up to the cap.

    Args:
        base: seconds before the first retry, > 0.
        factor: what each wait is multiplied by, >= 1.
        cap: seconds that no wait exceeds.
        jitter: "full" (from 0 to the wait: the fewest calls under contention), "equal" (from half of it),
            "decorrelated" (from the base to three times the previous wait; *factor* plays no part), or "none".

    Raises:
        ConfigError: an argument is out of range.
    """

    base: float
    factor: float = 2.0
    _: KW_ONLY
    cap: float = 20.0
    jitter: str = "full"

    def __post_init__(self) -> None:
        base = _checks.seconds("base", self.base)
        object.__setattr__(self, "base", base)
        object.__setattr__(self, "factor", _checks.number("factor", self.factor, minimum=1))
        object.__setattr__(self, "cap", _cap(self.cap, "base", base))
        _jitter(self.jitter, decorrelated=True)

    def ceiling(self, n: int) -> float:
        """Seconds that the wait before the *n*-th retry (from 1) does not exceed."""
        try:
            if self.jitter == "decorrelated":
                return min(self.cap, self.base * 3.0**n)
            return min(self.cap, self.base * self.factor ** (n - 1))
        except OverflowError:  # beyond any cap
            return self.cap

    def delays(self, random: Random) -> Iterator[float]:
        """See `Backoff`."""
        if self.jitter == "decorrelated":
            delay = self.base
            while True:
                delay = self.base + (min(self.cap, 3 * delay) - self.base) * random()
                yield delay
        n = 0
        while True:
            n += 1
            yield _spread(self.ceiling(n), self.jitter, random)


@dataclass(frozen=True, slots=True)
class _Listed:
    """The waits somebody wrote down; when they end, so does the retrying."""

    values: Iterable[float]

    def delays(self, random: Random) -> Iterator[float]:
        for value in self.values:
            yield _checks.seconds(f"a delay of backoff {self.values!r}", value, zero=True)


@dataclass(frozen=True, slots=True)
class _Computed:
    """Waits from a function of the retry's number."""

    function: Callable[[int], float]

    def delays(self, random: Random) -> Iterator[float]:
        n = 0
        while True:
            n += 1
            yield _checks.seconds(f"the delay {n} of backoff {self.function!r}", self.function(n), zero=True)


def as_backoff(value: object) -> Backoff:
    """What a user wrote for a backoff: one, seconds, a list of seconds, or a function of the retry's number (from 1).

    Raises:
        TypeError: it is none of these.
        ConfigError: it is an iterator, which could serve one call only, or seconds out of range.
    """
    # A class has the method as well, but no settings: `backoff=Exponential` written for `backoff=Exponential(0.1)`.
    if isinstance(value, type):
        raise TypeError(f"backoff must be an object such as Exponential(0.1), not the class {value!r}")
    if isinstance(value, Backoff):
        return value
    if isinstance(value, timedelta) or (hasattr(value, "__float__") and not isinstance(value, bool)):
        return Constant(_checks.seconds("backoff", value, zero=True))
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes, bytearray, Mapping, AbstractSet)):
        if isinstance(value, Iterator) or iter(value) is iter(value):
            raise ConfigError(
                f"backoff must not be an iterator, such as {value!r}: calls that run at the same time would share it "
                "and take each other's waits; give a list, or a function of the retry's number"
            )
        if isinstance(value, (list, tuple)):
            if not value:
                raise ConfigError(f"backoff must hold at least one delay, not {value!r}; for no retry say attempts=1")
            for delay in value:
                _checks.seconds("each delay of backoff", delay, zero=True)
        return _Listed(value)
    if callable(value):
        # They return no seconds; found at the first failure, that would stand in for the caller's own error.
        if any(kind(value) for kind in (inspect.iscoroutinefunction, inspect.isgeneratorfunction)):
            raise TypeError(f"backoff must be a plain function of the retry's number, not {value!r}")
        function: Any = value
        return _Computed(function)
    raise TypeError(f"backoff must be a Backoff, seconds, a list of seconds or a function, not {value!r}")


def _jitter(value: object, *, decorrelated: bool) -> None:
    if value == "decorrelated" and not decorrelated:
        raise ConfigError(
            "jitter must be 'none', 'full' or 'equal' here, not 'decorrelated': that grows from wait to wait by "
            "itself; use Exponential"
        )
    _checks.one_of("jitter", value, ("none", "full", "equal", "decorrelated"))


def _cap(value: object, name: str, least: float) -> float:
    cap = _checks.seconds("cap", value)
    if cap < least:
        raise ConfigError(f"cap must be at least {name} ({least:g} s), not {value!r}")
    return cap
