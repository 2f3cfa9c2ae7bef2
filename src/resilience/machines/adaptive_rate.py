"""How fast to send, learned from which calls the server throttles.

Two rules with one face. Each is told of every answer, throttled or not, and says when the rate at which to send has
changed; somebody else holds the sending to it (`resilience.machines.lane`). `Cubic` is the rule of AWS's SDKs in
adaptive mode. `Aimd` is the older one: up by steps, down by a factor.

Every `now` is an integer reading in nanoseconds; of a clock that steps back the latest reading counts. Rates are
floats, in tokens per second. This file knows nothing of clocks, sleeping, locks or randomness.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from .._checks import NS

__all__ = ["Aimd", "Cubic", "Meter", "RateChange", "Rule"]

_BUCKET = NS // 2  # the measured rate is brought up to date so often
_SMOOTHING = 0.8  # how much the newest bucket weighs
_CALM = 0.3  # the same where it holds few answers
_SCALE = 0.4  # AWS's constants of the cubic
_BETA = 0.7
_AHEAD = 2.0  # how many times the measured rate the rate may be: permission that is not used proves nothing
_FEW = 10  # answers in a bucket, below which their number is mostly chance
_STEP = 0.05  # of the rate, each second
_NUDGE = 0.01  # of the rate, each answer: with few calls a second, a throttle would be a large share of them
_STALE = 1.25  # times the rate that was last refused: what was learned there is out of date


class Rule(Protocol):
    """What `Cubic` and `Aimd` have in common. Not thread-safe: the caller holds a lock."""

    enabled: bool
    """Whether sending is limited: from the first throttle on, or from the start if a rate was given."""
    rate: float
    """Tokens per second; ``inf`` until enabled."""
    throttles: int
    """How many answers were throttles."""
    meter: Meter

    def heard(self, throttled: bool, now: int) -> float | None:
        """An answer came: the new rate if that changes it, else ``None``."""

    def restart(self, rate: float) -> None:
        """Forget what was learned, and go on from *rate*."""


class Meter:
    """How many answers a second there are.

    They are counted in buckets of half a second, and the buckets averaged: the newest weighs 0.8, all before it the
    rest. A span without any answer counts as one long bucket.

    Args:
        rate: what is taken for the rate before anything was counted.
        few: while fewer than so many are expected in a bucket, the newest weighs 0.3: chance must not look like change.

    Attributes:
        rate: answers per second, as of the last full bucket.
        count: answers since then.

    Source: the measured rate of the AWS SDKs' adaptive retry mode (botocore, ``RateClocker``).
    """

    __slots__ = ("_bucket", "_few", "count", "rate")

    def __init__(self, rate: float = 0.0, few: float = 0.0) -> None:
        self.rate = rate
        self._few = few * NS / _BUCKET
        self.count = 0
        self._bucket: int | None = None

    def add(self, n: int, now: int) -> float:
        """*n* answers came. Returns the rate."""
        bucket = now // _BUCKET
        if self._bucket is None:
            self._bucket = bucket - bucket % 2  # the first one begins with a whole second, as AWS's does
        self.count += n
        if bucket > self._bucket:
            self.rate = self._average(bucket - self._bucket)
            self.count = 0
            self._bucket = bucket
        return self.rate

    def read(self, now: int) -> float:
        """The rate with what came since the last full bucket, fading in the silence since. Changes nothing."""
        passed = 0 if self._bucket is None else now // _BUCKET - self._bucket
        if passed <= 0:
            return self.rate
        return self._average(1) * (1 - _SMOOTHING) ** min(passed - 1, 100)

    def _average(self, buckets: int) -> float:
        newest = self.count / (buckets * (_BUCKET / NS))
        weight = _SMOOTHING if self.rate >= self._few else _CALM
        return newest * weight + self.rate * (1 - weight)


@dataclass(frozen=True, slots=True)
class RateChange:
    """What a listener is told after the rate has changed.

    Attributes:
        name: the limiter's name, or its kind.
        old: tokens per second before; ``inf`` when nothing was limited.
        new: tokens per second from now on.
        throttled: whether a throttle made the change.
    """

    name: str
    old: float
    new: float
    throttled: bool


class Cubic:
    """AWS's rule: after a throttle 0.7 of the rate, then along a cubic back to it, and beyond.

    The rate at which the throttle came is taken for what the server can bear. The way back is quick at first, slow near
    that rate, and quick again once it has proved too low. It is never above twice the measured rate: so a client that
    sends little has little permission, and after a quiet time has to work its way up.

    Each throttle cuts, also several of one moment.

    Args:
        start: the rate before anything is learned; ``None``: unlimited until the first throttle. Given, the rate does
            not fall below it before the first throttle, and rises only where it is used.
        minimum, maximum: bounds of the rate.

    Attributes:
        ceiling: the rate at the last throttle (``w_max``).

    Source: the AWS SDKs' adaptive retry mode (botocore 1.44, ``retries.throttling``), after TCP CUBIC (RFC 9438).
    Without *start* it equals that one, answer by answer, up to rounding.
    """

    __slots__ = ("_failed", "_k", "_last", "_maximum", "_minimum", "ceiling", "enabled", "meter", "rate", "throttles")

    def __init__(self, *, start: float | None = None, minimum: float = 0.5, maximum: float = math.inf) -> None:
        self._minimum = minimum
        self._maximum = maximum
        self._last: int | None = None
        self.throttles = 0
        self.restart(start)

    def restart(self, rate: float | None) -> None:
        """Forget what was learned, and go on from *rate*."""
        self.enabled = rate is not None
        self.rate = math.inf if rate is None else rate
        self.ceiling = rate or 0.0
        self._k = _zero(self.ceiling)
        self._failed: int | None = None  # when the curve begins: at the last throttle, or the first answer
        self.meter = Meter(self.ceiling)
        self.throttles = 0

    def heard(self, throttled: bool, now: int) -> float | None:
        """An answer came: the new rate if that changes it, else ``None``."""
        now = self._last = now if self._last is None else max(now, self._last)
        measured = self.meter.add(1, now)
        if throttled:
            self.ceiling = min(measured, self.rate)
            self._k = _zero(self.ceiling)
            self._failed = now
            self.enabled = True
            self.throttles += 1
            wanted = self.ceiling * _BETA
        elif not self.enabled:
            return None
        else:
            if self._failed is None:
                self._failed = now
            wanted = _SCALE * ((now - self._failed) / NS - self._k) ** 3 + self.ceiling
        wanted = min(wanted, _AHEAD * measured)
        if not self.throttles:
            wanted = max(wanted, self.rate)
        return _change(self, max(min(wanted, self._maximum), self._minimum))


def _zero(ceiling: float) -> float:
    """Seconds after which the cubic is back at *ceiling*."""
    return math.cbrt(ceiling * (1 - _BETA) / _SCALE)


class Aimd:
    """Up by steps while calls go well, down by a factor when one is throttled, at most once per *window*.

    One cut per window, because the throttles of one moment are one piece of news. Where less than half of the rate gets
    through, the cut starts from what does get through. The rate rises only while more than half of it is used.

    Args:
        start: the rate before anything is learned; ``None``: unlimited until the first throttle, which then cuts what
            got through.
        minimum, maximum: bounds of the rate.
        increase: tokens per second that are added each second. ``None``: 5 % of the rate (at most 1 % at each answer),
            for any scale alike; and, from a quarter above what was last refused, it doubles each second, for what was
            learned there is out of date.
        decrease: what a throttle leaves of the rate.
        window: nanoseconds after a cut in which there is no other.

    Attributes:
        ceiling: the rate at the last throttle.

    With a fixed *increase* clients that share a server come to equal shares (Chiu and Jain, "Analysis of the increase
    and decrease algorithms for congestion avoidance in computer networks", 1989); without, they keep the shares that
    they have found.
    """

    __slots__ = (
        "_decrease",
        "_increase",
        "_last",
        "_maximum",
        "_minimum",
        "_quiet_until",
        "_window",
        "ceiling",
        "enabled",
        "meter",
        "rate",
        "throttles",
    )

    def __init__(
        self,
        *,
        start: float | None = None,
        minimum: float = 0.5,
        maximum: float = math.inf,
        increase: float | None = None,
        decrease: float = 0.85,
        window: int = NS // 2,
    ) -> None:
        self._minimum = minimum
        self._maximum = maximum
        self._increase = increase
        self._decrease = decrease
        self._window = window
        self._last: int | None = None
        self.restart(start)

    def restart(self, rate: float | None) -> None:
        """Forget what was learned, and go on from *rate*."""
        self.enabled = rate is not None
        self.rate = math.inf if rate is None else rate
        self.ceiling = rate or 0.0
        self._quiet_until: int | None = None
        self.meter = Meter(self.ceiling, _FEW)  # of what gets through
        self.throttles = 0

    def heard(self, throttled: bool, now: int) -> float | None:
        """An answer came: the new rate if that changes it, else ``None``."""
        before = now if self._last is None else self._last
        now = self._last = max(now, before)
        passed = now - before
        through = self.meter.add(not throttled, now)
        if throttled:
            self.throttles += 1
            if self._quiet_until is not None and now < self._quiet_until:
                return None
            self._quiet_until = now + self._window
            # Before the first bucket is full, what has got through so far, as if it were one.
            through = max(through, self.meter.count * NS / _BUCKET)
            self.ceiling = self.rate if self.rate <= _AHEAD * through else max(through, self._minimum)
            self.enabled = True
            wanted = self.ceiling * self._decrease
        elif not self.enabled or self.rate >= _AHEAD * through:
            return None
        else:
            seconds = min(passed / NS, 1.0)
            if self._increase is not None:
                wanted = self.rate + self._increase * seconds
            elif self.rate > _STALE * self.ceiling:
                wanted = self.rate * (1 + seconds)
            else:
                wanted = self.rate * (1 + min(_STEP * seconds, _NUDGE))
        return _change(self, max(min(wanted, self._maximum), self._minimum))


def _change(rule: Cubic | Aimd, rate: float) -> float | None:
    """Set the rate; it, if that is another one."""
    if rate == rule.rate:
        return None
    rule.rate = rate
    return rate
