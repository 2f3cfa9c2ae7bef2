"""What can be done to a request, as values.

Knows the faults and their odds. Refuses to know sockets, HTTP and the clock.

A `Weather` is a set of faults in force. At most one of them befalls a request: the shares
are parts of one whole, and what is left of it passes unharmed. `Delay` alone is added to
whatever else happens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from .._checks import count, number, ratio, seconds
from ..errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Capacity",
    "Delay",
    "Dribble",
    "Fault",
    "Hang",
    "Reset",
    "Stall",
    "Status",
    "Throttle",
    "Weather",
]


@dataclass(frozen=True, slots=True)
class Delay:
    """Wait before the request is dealt with.

    Log-normal around *median* seconds (>= 0); *sigma* (>= 0) 0 makes it fixed.
    """

    median: float
    sigma: float = 0.0

    def __post_init__(self) -> None:
        seconds("median", self.median, zero=True)
        number("sigma", self.sigma, minimum=0)

    def draw(self, normal: float) -> float:
        """The wait in seconds for a standard normal number."""
        return self.median * math.exp(self.sigma * normal)


@dataclass(frozen=True, slots=True)
class Hang:
    """Take the request and never answer, like a host whose packets are lost."""

    share: float = 1.0

    def __post_init__(self) -> None:
        ratio("share", self.share, zero=True)


@dataclass(frozen=True, slots=True)
class Reset:
    """Read the request, then reset the connection."""

    share: float = 1.0

    def __post_init__(self) -> None:
        ratio("share", self.share, zero=True)


@dataclass(frozen=True, slots=True)
class Stall:
    """Pass the request on, send the answer's head and half its body, then fall silent."""

    share: float = 1.0

    def __post_init__(self) -> None:
        ratio("share", self.share, zero=True)


@dataclass(frozen=True, slots=True)
class Dribble:
    """Pass the request on and send the answer at *rate* bytes a second (> 0)."""

    share: float = 1.0
    rate: float = 200.0

    def __post_init__(self) -> None:
        ratio("share", self.share, zero=True)
        number("rate", self.rate, above=0)


@dataclass(frozen=True, slots=True)
class Status:
    """Answer with an HTTP error status (400..599) and the service's own error code; not passed on.

    *retry_after*, in whole seconds, adds the header of that name.
    """

    code: int = 503
    share: float = 1.0
    retry_after: int | None = None

    def __post_init__(self) -> None:
        ratio("share", self.share, zero=True)
        if not 400 <= count("code", self.code) <= 599:
            raise ConfigError(f"code must be an HTTP error status, 400 to 599, not {self.code!r}")
        if self.retry_after is not None:
            count("retry_after", self.retry_after, minimum=0)


@dataclass(frozen=True, slots=True)
class Throttle:
    """Answer as the AWS service does when it throttles; not passed on."""

    share: float = 1.0

    def __post_init__(self) -> None:
        ratio("share", self.share, zero=True)


Fault: TypeAlias = Hang | Reset | Stall | Dribble | Status | Throttle


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the dependency can serve: *rate* requests a second, beyond which it throttles.

    Saying no costs it *refusal* (0..1) of what serving costs, which is how a storm of retries takes
    capacity away from requests that could have been served. Up to *rate* / 4 unused requests are
    saved up.
    """

    rate: float
    refusal: float = 0.0

    def __post_init__(self) -> None:
        number("rate", self.rate, above=0)
        ratio("refusal", self.refusal, zero=True)

    @property
    def burst(self) -> float:
        """How many requests may come at once, at least one."""
        return max(1.0, self.rate / 4)


@dataclass(frozen=True, slots=True)
class Weather:
    """The faults in force together; the shares must not add up to more than one."""

    faults: tuple[Fault, ...] = ()
    delay: Delay | None = None
    capacity: Capacity | None = None

    def __post_init__(self) -> None:
        for fault in self.faults:
            if not isinstance(fault, Fault):
                raise TypeError(f"faults must be faults such as Hang(0.1), not {fault!r}")
        if not isinstance(self.delay, Delay | None):
            raise TypeError(f"delay must be a Delay or None, not {self.delay!r}")
        if not isinstance(self.capacity, Capacity | None):
            raise TypeError(f"capacity must be a Capacity or None, not {self.capacity!r}")
        total = sum(fault.share for fault in self.faults)
        if total > 1 + 1e-9:
            raise ConfigError(f"the shares of the faults must add up to at most 1, not {total:g}")

    def pick(self, random: Callable[[], float]) -> Fault | None:
        """The fault that befalls one request, for a number drawn from [0, 1)."""
        left = random()
        for fault in self.faults:
            if left < fault.share:
                return fault
            left -= fault.share
        return None
