"""A rate limiter that finds its rate: lock, clock and words around `resilience.machines.adaptive_rate`."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .. import _checks
from .._checks import NS, to_ns
from .._hooks import notify
from .._listen import LISTENERS, tell
from ..errors import ConfigError, RateLimited
from ..events import RateRevised
from ..machines.adaptive_rate import Aimd, Cubic, RateChange
from ..machines.lane import Rate, Reservation
from ._line import bounded, wake
from .retry import Failures
from .token_bucket import TokenBucket

if TYPE_CHECKING:
    from collections.abc import Callable
    from fractions import Fraction

    from .._runtime import Runtime, Waiter
    from .._scope import Limit
    from ..clock import Clock
    from ..machines.adaptive_rate import Rule

__all__ = ["AdaptiveTokenBucket", "RateChange", "too_many_requests"]

_WORTH = 0.01  # a change by less is not worth waking those who wait; a cut always is


def too_many_requests(error: BaseException) -> bool:
    """Whether *error* carries HTTP status 429 (RFC 6585), where the usual clients put a status.

    Looked at: ``status``, ``status_code`` and ``code`` of the error and of its ``response`` (urllib, requests, httpx,
    aiohttp and their like), and the status in a botocore error's response. Never raises.
    """
    try:
        response = getattr(error, "response", None)
        if isinstance(response, Mapping):
            return bool(response["ResponseMetadata"]["HTTPStatusCode"] == 429)
        names = ("status", "status_code", "code")
        return any(getattr(place, name, None) == 429 for place in (error, response) for name in names)
    except Exception:
        return False


class AdaptiveTokenBucket(TokenBucket):
    """A `TokenBucket` whose rate follows what the server bears: down when it throttles, up again when it does not.

    In a policy it hears how each attempt came out that it let pass. Until one is throttled it lets everything pass,
    unless *rate* is given. From then on it limits; callers wait for their token, first come, first served, but never
    longer than *max_wait*, nor past their deadline: where the wait would be longer, or becomes longer because the rate
    falls, the call is refused at once.

    Rules: ``"cubic"`` is that of the AWS SDKs' adaptive retry mode (see `resilience.machines.adaptive_rate.Cubic`):
    quick to react and quick to come back, yet tied to twice what is being sent. ``"aimd"`` adds slowly and cuts by a
    factor, at most once per window (`resilience.machines.adaptive_rate.Aimd`): steadier, and better where a server lets
    through hundreds of calls a second.

    One for each DynamoDB partition key, tenant or host: ``PerKey(AdaptiveTokenBucket(...), key=...)``.

    Args:
        rate: tokens per second to start with, for instance a known quota; ``None``: unlimited until the first throttle.
        rule: ``"cubic"`` or ``"aimd"``.
        throttled: which errors are throttles: exception classes, or a function of the error; by default those with HTTP
            status 429. For AWS use ``resilience.aws.is_throttle``.
        minimum: tokens per second that are never gone below.
        maximum: tokens per second that are never gone beyond; ``None``: no bound.
        increase: for ``"aimd"``: tokens per second added each second; ``None``: 5 % of the rate.
        decrease: for ``"aimd"``: what a throttle leaves of the rate, between 0 and 1; ``None``: 0.85.
        window: for ``"aimd"``: seconds after a cut in which there is no other; ``None``: 0.5.
        burst: the most tokens that can be saved up; ``None``: those of one second, at least one.
        max_wait: in a policy, seconds that a call may wait for its token; never beyond its deadline. 0: never wait.
        on_change: called with a `RateChange` after the rate has changed, outside all locks; its errors are logged,
            never raised.
        name: shown in messages; the policy's name by default.
        shadow: learn, but let everyone pass, and count who would have had to wait.
        clock: where time comes from; the machine's clock by default.

    Raises:
        ConfigError: an argument is out of range, or belongs to the other rule.

    Thread-safe, across threads and event loops. Outside of policies call `heard` after each call.
    """

    learns = True
    rate: float | Fraction | None  # type: ignore[assignment]
    burst: int | None  # type: ignore[assignment]
    gauge: Any = None
    """Who tells how near a quota it sends, where its rate came from one (``resilience.aws.limiter_from_quota``)."""

    def __init__(
        self,
        rate: float | Fraction | None = None,
        *,
        rule: str = "cubic",
        throttled: type[BaseException] | tuple[type[BaseException], ...] | Callable[[Any], bool] = too_many_requests,
        minimum: float = 0.5,
        maximum: float | None = None,
        increase: float | None = None,
        decrease: float | None = None,
        window: float | None = None,
        burst: int | None = None,
        max_wait: float = 1.0,
        on_change: Callable[[RateChange], object] | None = None,
        name: str | None = None,
        shadow: bool = False,
        clock: Clock | None = None,
    ) -> None:
        start = None if rate is None else _checks.number("rate", rate, above=0)
        whole = None if burst is None else _checks.count("burst", burst)
        first = 1.0 if start is None else start
        super().__init__(first, burst=_burst(whole, first), max_wait=max_wait, name=name, shadow=shadow, clock=clock)
        self.rate = rate
        self.burst = whole
        self.rule = _checks.one_of("rule", rule, ("cubic", "aimd"))
        self.throttled = throttled
        self._throttles = Failures("throttled", throttled)
        self.minimum = _checks.number("minimum", minimum, above=0)
        self.maximum = None if maximum is None else _checks.number("maximum", maximum, above=0)
        self.increase = None if increase is None else _checks.number("increase", increase, above=0)
        self.decrease = None if decrease is None else _checks.ratio("decrease", decrease, one=False)
        self.window = None if window is None else _checks.span("window", window)
        self.on_change = None if on_change is None else _checks.function("on_change", on_change)
        self._most = math.inf if self.maximum is None else self.maximum
        if self._most < self.minimum:
            raise ConfigError(f"maximum must be at least minimum ({self.minimum:g}), not {maximum!r}")
        self._check_rate(start)
        self._machine: Rule = self._make(start)
        self._counts["throttled"] = 0
        self._limits = start is not None
        self.try_acquire = _gate(self)  # type: ignore[method-assign,assignment]

    def _make(self, start: float | None) -> Rule:
        if self.rule == "aimd":
            return Aimd(
                start=start,
                minimum=self.minimum,
                maximum=self._most,
                increase=self.increase,
                decrease=0.85 if self.decrease is None else self.decrease,
                window=to_ns(0.5 if self.window is None else self.window),
            )
        for name in ("increase", "decrease", "window"):
            if (value := getattr(self, name)) is not None:
                raise ConfigError(f"{name} belongs to rule='aimd', not to rule='cubic' ({name}={value!r})")
        return Cubic(start=start, minimum=self.minimum, maximum=self._most)

    def _check_rate(self, rate: float | None) -> None:
        if rate is not None and not self.minimum <= rate <= self._most:
            raise ConfigError(f"rate must be from minimum ({self.minimum:g}) to maximum ({self._most:g}), not {rate!r}")

    # -- for people --------------------------------------------------------------------------------------------------

    @property
    def enabled(self) -> bool:
        """Whether it limits: from the first throttle on, or from the start where a rate was given."""
        return self._limits

    @property
    def current_rate(self) -> float:
        """Tokens per second now; ``inf`` while it lets everything pass."""
        with self._lock:
            return self._in_force()

    @property
    def sending_rate(self) -> float:
        """Answers per second, as measured over the last second or so; with ``"aimd"`` without those throttled."""
        with self._lock:
            return self._machine.meter.read(self.now())

    @property
    def idle(self) -> bool:
        """Whether nobody would miss it: it lets everything pass, or its bucket is full."""
        with self._lock:
            return not self._limits or self._lane.idle(self.now())

    @property
    def counters(self) -> dict[str, int | float]:
        """Throttles heard; the rate (0 while unlimited) and whether it limits; and those of `TokenBucket`."""
        with self._lock:
            rate = self._in_force() if self._limits else 0.0
            tokens = self._lane.available(self.now())
            return {**self._counts, "tokens": tokens, "rate": rate, "enabled": int(self._limits)}

    def set_rate(self, rate: float | Fraction, *, per: float | None = None, burst: int | None = None) -> None:
        """Forget what was learned and go on from *rate*; tokens that are missing stay missing.

        Args:
            rate: tokens per *per*.
            per: seconds; 1 if ``None``.
            burst: the most tokens saved up; as before if ``None``. Waiting requests for more are refused.

        Raises:
            ConfigError: the rate is not between the minimum and the maximum.
        """
        value = _checks.number("rate", rate, above=0) / (1.0 if per is None else _checks.seconds("per", per))
        self._check_rate(value)
        whole = self.burst if burst is None else _checks.count("burst", burst)
        with self._lock:
            old = self._in_force()
            self.rate, self.burst = value, whole
            self._machine.restart(value)
            moved = self._adopt(value, self.now())
        self._tell(moved, old, value, throttled=False)

    def heard(self, error: Exception | None, now: int | None = None) -> None:
        """A call that was let pass came out well (``None``) or in *error*; a policy tells by itself.

        Args:
            error: what the call ended in. Errors that are no throttles count as answers: the server bore the call.
            now: the clock's reading, in nanoseconds; ``None``: read it.
        """
        throttled = error is not None and self._throttles.cover(error)
        with self._lock:
            if now is None:
                now = self.now()
            old = self._in_force()
            if throttled:
                self._counts["throttled"] += 1
            new = self._machine.heard(throttled, now)
            if not self._machine.enabled or (new is None and self._limits):
                return
            new = self._machine.rate
            if not throttled and abs(new - old) < _WORTH * old and new not in (self.minimum, self._most):
                return
            moved = self._adopt(new, now)
        self._tell(moved, old, new, throttled=throttled)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _in_force(self) -> float:
        return float(self._rate.rate) if self._limits else math.inf

    def _adopt(self, rate: float, now: int) -> list[Reservation]:
        """Put another rate into force; returns whom to wake. Under the lock."""
        new = self._rate = Rate(rate, burst=_burst(self.burst, rate))
        lane = self._lane
        if not self._limits:  # after a throttle nothing has been saved up
            moved = lane.rerate(new, now)
            lane.tat = lane.last * new.scale + new.burst * new.interval
            self._limits = True
            return moved
        more = (new.burst - lane.rate.burst) * lane.rate.interval
        if more > 0 and self.burst is None:
            # The bucket grows with the rate, but not what is in it: a Lane keeps how many tokens are missing.
            lane.tat = max(lane.tat, max(now, lane.last) * lane.rate.scale) + more
            for promise in lane.pending:
                promise.tat_after += more
        return lane.rerate(new, now)

    def _tell(self, moved: list[Reservation], old: float, new: float, *, throttled: bool) -> None:
        """Outside the lock: wake those whose turn has moved, and the listener, who may call back."""
        wake(moved)
        if old == new:
            return
        if self.on_change is not None:
            notify(self.on_change, RateChange(self.name or type(self).__name__, old, new, throttled))
        if RateRevised in LISTENERS:
            tell(RateRevised(self.title, old, new, throttled))

    def _check_n(self, n: int) -> None:
        _checks.count("n", n)
        if self._limits and n > self._rate.burst:
            raise ConfigError(f"n must be at most the burst ({self._rate.burst}), not {n!r}")

    def wait_time(self, n: int = 1) -> float:
        """Seconds that a request for *n* tokens made now would have to wait; takes nothing."""
        return super().wait_time(n) if self._limits else 0.0

    def book(self, n: int, most: int | None, waiter: object) -> tuple[Reservation | None, int, int]:
        """See `Line`."""
        if self._limits:
            return super().book(n, most, waiter)
        now = self.now()
        free = Reservation(n, now, 0, self._rate)
        free.shared = True  # of no lane
        return free, 0, now

    def cancel(self, inner: Reservation) -> bool:
        """See `Reservation`."""
        if inner.shared:
            inner.cancelled = True
            return True
        return super().cancel(inner)

    def refusal(self, who: str, wait: float | None, why: str) -> RateLimited:
        """The error for a caller who gets no token."""
        name = self.name or who
        rate = f"{self._in_force():.3g} a second, as learned"
        return RateLimited(f"{name}: over {rate}; {why}", policy=name, retry_after=wait)

    async def queue(
        self, runtime: Runtime, n: int, timeout: float | None, who: str, limit: Limit | None = None
    ) -> float:
        """Wait for *n* tokens; the seconds that took. Unlike with a fixed rate, the turn can move back while one waits.

        Raises:
            RateLimited: the turn does not come, or no longer comes, in time.
        """
        began = self.now()
        timeout = bounded(timeout, limit, began)
        waiter = runtime.waiter()
        place = self.place(n, timeout, who, waiter)
        if place.delay == 0.0:
            return 0.0
        self.note("waited")
        end = math.inf if timeout is None or timeout == math.inf else began + to_ns(timeout)
        try:
            while (seconds := place.wait) > 0:
                if place._inner.start > end:
                    self.note("refused")
                    raise self.refusal(who, seconds, f"the rate has fallen, and the next token is {seconds:.3g} s away")
                if await self._pause(runtime, seconds, waiter):
                    waiter = runtime.waiter()
                    self.renew(place._inner, waiter)
        except BaseException:
            place.cancel()
            raise
        return self.passed(who, (self.now() - began) / NS)

    async def _pause(self, runtime: Runtime, seconds: float, waiter: Waiter) -> bool:
        """Let time pass until the turn, or until it has moved (True). Threads too are woken: it can move by seconds."""
        if not runtime.cancels and runtime.clock.sleep is time.sleep:
            return await waiter.wait(seconds)
        return await runtime.pace(seconds, waiter)  # a test's clock passes time in its own way


def _burst(given: int | None, rate: float) -> int:
    """AWS's capacity, in whole tokens."""
    return max(1, int(rate)) if given is None else given


def _gate(owner: AdaptiveTokenBucket) -> Callable[[int], bool]:
    """``try_acquire`` of one bucket: while nothing was throttled it costs next to nothing."""
    take = owner.try_acquire

    def try_acquire(n: int = 1) -> bool:
        if owner._limits:
            return take(n)
        if n != 1:
            owner._check_n(n)
        return True

    return try_acquire
