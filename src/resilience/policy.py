"""The front door: one object for one dependency."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from . import _fast, _guard
from ._checks import ratio, text
from ._guard import Attempt, Attempts
from ._lint import lint, lint_stack
from ._override import Override, apply, as_part, check_targets
from ._part import Described, Part
from ._plan import PARTS, Plan
from ._registry import Registry, registry
from ._runtime import Asyncio, Blocking, Call, drive
from ._scope import current
from ._stats import Stats
from ._story import tell
from .clock import Clock, system
from .errors import ConfigError
from .policies.slo import SLO

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from types import TracebackType
    from typing import Self

    from .policies.adaptive_token_bucket import AdaptiveTokenBucket
    from .policies.bulkhead import Bulkhead
    from .policies.circuit_breaker import CircuitBreaker
    from .policies.fallback import Fallback
    from .policies.hedge import Hedge
    from .policies.keyed_token_bucket import KeyedTokenBucket
    from .policies.per_key import PerKey
    from .policies.percentile_timeout import PercentileTimeout
    from .policies.retry import Retry
    from .policies.slo import ServiceLevelReading
    from .policies.timeout import Deadline, TimeoutPart
    from .policies.token_bucket import TokenBucket

__all__ = ["Policy"]

P = ParamSpec("P")
R = TypeVar("R")
_REGISTRY = registry
_NOT_PLAIN = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


class Policy(Described):
    """Everything that stands between the code and one dependency.

    The parts are put together in one order, outermost first: fallback, deadline, retry, hedge, breaker, limiter,
    bulkhead, timeout. Each attempt asks the breaker, pays the limiter, holds a slot of the bulkhead, and has a timeout
    of its own; retries and waits count against the deadline. For another order, stack policies as decorators.

    A policy has one state, shared by everything it protects. It is used as decorator (``@policy``), through
    ``policy.call(f, ...)`` and ``await policy.acall(f, ...)``, as ``with policy:`` or ``async with policy:`` for one
    attempt, and as ``for attempt in policy: with attempt: ...`` for as many as its retry makes. Functions and
    coroutine functions, methods included.

    Args:
        name: what messages, metrics and the registry call it.
        timeout: for one attempt; a `Timeout` or `PercentileTimeout`, or seconds.
        deadline: for the whole call; a `Deadline`, or seconds.
        retry, hedge, breaker, limiter, bulkhead, fallback: the parts; ``None`` for without. A part given to two
            policies is one state, shared by both.
        slo: what its calls are held against: an `SLO`, or the share of calls promised to be good.
        clock: where all its parts take time from; the machine's clock by default.
        registry: where a named policy is entered; ``None`` for nowhere.

    Raises:
        ConfigError: the parts cannot work together.
        TypeError: an argument is of the wrong type.

    Thread-safe, and safe under asyncio.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        timeout: TimeoutPart | PerKey[PercentileTimeout] | float | None = None,
        deadline: Deadline | float | None = None,
        retry: Retry | None = None,
        hedge: Hedge | None = None,
        breaker: CircuitBreaker | PerKey[CircuitBreaker] | None = None,
        limiter: TokenBucket | KeyedTokenBucket | PerKey[AdaptiveTokenBucket] | None = None,
        bulkhead: Bulkhead | PerKey[Bulkhead] | None = None,
        fallback: Fallback | None = None,
        slo: SLO | float | None = None,
        clock: Clock | None = None,
        registry: Registry | None = _REGISTRY,
    ) -> None:
        self.name = None if name is None else text("name", name)
        self.timeout = cast("TimeoutPart | None", as_part("timeout", timeout))
        self.deadline = cast("Deadline | None", as_part("deadline", deadline))
        self.retry = cast("Retry | None", as_part("retry", retry))
        self.hedge = cast("Hedge | None", as_part("hedge", hedge))
        self.breaker = cast("CircuitBreaker | None", as_part("breaker", breaker))
        self.limiter = cast("TokenBucket | None", as_part("limiter", limiter))
        self.bulkhead = cast("Bulkhead | None", as_part("bulkhead", bulkhead))
        self.fallback = cast("Fallback | None", as_part("fallback", fallback))
        self.clock = clock
        self.registry = registry
        self.alone = False
        """Whether this is a part used by itself: nobody can ask for its calls, so the short way counts none."""
        settings: dict[str, Any] = dict(self.parts)
        if slo is not None and not isinstance(slo, SLO):
            slo = SLO(ratio("slo", slo, one=False))
        self.slo = slo
        observed = slo is not None or (name is not None and registry is not None)
        stats = Stats(observed=observed, slo=slo)
        self._plan = Plan(self.who, self._one_clock(), stats, **settings)
        lint(self._plan)
        if self.name is not None:
            for part in self.parts.values():
                part.called(self.name)
            if registry is not None:
                registry.add(self)

    @classmethod
    def of_part(cls, part: Part) -> Policy:
        """A policy that has only this part."""
        settings: dict[str, Any] = {part.kind: part}
        policy = cls(part.name, registry=None, **settings)
        policy.alone = True
        return policy

    def _one_clock(self) -> Clock:
        """The clock of all parts.

        Raises:
            ConfigError: they have different ones.
        """
        if self.clock is not None and not isinstance(self.clock, Clock):
            raise TypeError(f"clock must be a Clock, not {self.clock!r}")
        given = (self.clock, *(part.clock for part in self.parts.values()))
        clocks = {id(clock): clock for clock in given if clock is not None}
        if len(clocks) > 1:
            raise ConfigError(f"{self.who}: clock must be one for all parts, not {list(clocks.values())!r}")
        if not clocks:
            return system
        (clock,) = clocks.values()
        for part in self.parts.values():
            part.adopt(clock)
        return clock

    # -- looking ---------------------------------------------------------------------------------------------------

    @property
    def who(self) -> str:
        """The name, or what messages say instead of one."""
        if self.name is not None:
            return self.name
        parts = list(self.parts.values())
        return type(parts[0]).__name__ if len(parts) == 1 else "Policy"

    @property
    def parts(self) -> dict[str, Part]:
        """The parts it has, outermost first."""
        found = {kind: getattr(self, kind) for kind in PARTS}
        return {kind: part for kind, part in found.items() if part is not None}

    @property
    def service_level(self) -> ServiceLevelReading | None:
        """How the objective is kept, now; ``None`` without one."""
        if self.slo is None:
            return None
        stats, now = self._plan.stats, self._plan.clock.monotonic_ns()
        stats.read(now)
        return self.slo.reading(now)

    @property
    def counters(self) -> dict[str, int | float | dict[str, int | float]]:
        """Calls begun, how many ended in which bad way, and the counters of each part by its kind."""
        counts: dict[str, int | float | dict[str, int | float]] = {
            **self._plan.stats.read(self._plan.clock.monotonic_ns())
        }
        for kind, part in self.parts.items():
            counts[kind] = part.counters
        return counts

    # -- deriving --------------------------------------------------------------------------------------------------

    def replace(self, **changes: Any) -> Self:
        """A policy with other parts and the same state in those that stay. It is not entered into the registry."""
        settings: dict[str, Any] = {"name": self.name, "slo": self.slo, "clock": self.clock, "registry": None}
        for kind in PARTS:
            settings[kind] = getattr(self, kind)
        for kind in ("timeout", "deadline"):
            if kind in changes:
                changes[kind] = as_part(kind, changes[kind], settings[kind])
        return type(self)(**{**settings, **changes})

    def override(self, **changes: Any) -> Override:
        """Other settings for this policy's calls inside a ``with`` block: ``with policy.override(timeout=0.2): ...``.

        Raises:
            ConfigError: the policy has no such part, so that nothing would change.
            TypeError: the value is not such a part.
        """
        check_targets(self, changes)
        return Override(self, changes)

    def _in_force(self) -> Plan:
        """The plan for a call made here and now."""
        scope = current()
        if scope is None or not scope.overrides:
            return self._plan
        return apply(self, self._plan, scope.overrides)

    # -- calling ---------------------------------------------------------------------------------------------------

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Decorate *fn*; its signature stays as it is, for people and for type checkers.

        Raises:
            TypeError: *fn* is a generator function, a class, or nothing to call.
            ConfigError: its timeout could not bite, or the policies of *fn* and this one exclude each other.
        """
        if isinstance(fn, (staticmethod, classmethod)):
            return cast("Callable[P, R]", type(fn)(self(fn.__func__)))
        is_async = self._colour(fn)
        if self.timeout is not None:
            self.timeout.model.check(fn, is_async=is_async)
        inner: tuple[Policy, ...] = getattr(fn, "__resilience__", ())
        lint_stack(self._plan, [policy._plan for policy in inner])
        wrapper: Any = functools.update_wrapper(_fast.build(self, fn, is_async=is_async), fn)
        wrapper.__resilience__ = (self, *inner)
        return cast("Callable[P, R]", wrapper)

    def _colour(self, fn: Callable[..., Any]) -> bool:
        """Whether *fn* is asynchronous.

        Raises:
            TypeError: it is something that a call cannot guard.
        """
        code = getattr(fn, "__code__", None)
        if code is not None and not code.co_flags & _NOT_PLAIN and not hasattr(fn, "_is_coroutine_mark"):
            return False  # the common case, ten times as fast as asking inspect
        if isinstance(fn, type) or not callable(fn):
            raise TypeError(f"{self.who} decorates functions, not {fn!r}")
        plain = _plain(fn)
        if inspect.isgeneratorfunction(plain) or inspect.isasyncgenfunction(plain):
            raise TypeError(
                f"{fn!r} is a generator function: calling it does nothing yet, so there would be nothing to guard. "
                "Guard the calls it makes, or the function that consumes it"
            )
        return inspect.iscoroutinefunction(plain)

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *fn* under this policy and return what it returns.

        Raises:
            TypeError: *fn* is a coroutine or generator function.
        """
        if self._colour(fn):
            raise TypeError(f"{fn!r} is a coroutine function; use `await policy.acall(...)`")
        plan = self._in_force()
        if plan.timeout is not None and plan.timeout.model.mode is None:
            plan.timeout.model.check(fn, is_async=False)  # before anything is taken or retried
        plan.stats.begin()
        return cast("R", drive(tell(plan, Blocking(plan.clock), Call(fn, args, kwargs))))

    async def acall(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call and await *fn* under this policy and return what it returns.

        Raises:
            TypeError: *fn* is a generator function, or what it returns cannot be awaited.
        """
        self._colour(fn)
        plan = self._in_force()
        plan.stats.begin()
        return cast("R", await tell(plan, Asyncio(plan.clock), Call(fn, args, kwargs)))

    # -- blocks ----------------------------------------------------------------------------------------------------

    def attempt(self) -> Attempt:
        """One attempt as a block: ``with policy.attempt() as attempt: http.get(url, timeout=attempt.timeout)``.

        Raises:
            ConfigError: a part of the policy needs to repeat or replace the call, which a block cannot be.
        """
        for part in self.parts.values():
            if part.no_block is not None:
                what = self.name or part.kind
                raise ConfigError(f"{part!r} cannot guard a with-block: {part.no_block.format(what)}")
        return Attempt(self._in_force())

    def __iter__(self) -> Iterator[Attempt]:
        """``for attempt in policy: with attempt: ...``: as many attempts as the retry makes."""
        return Attempts(self._in_force())

    def __aiter__(self) -> AsyncIterator[Attempt]:
        """``async for attempt in policy: async with attempt: ...``."""
        return aiter(Attempts(self._in_force()))

    def __enter__(self) -> Attempt:
        attempt = self.attempt()
        attempt.__enter__()
        _guard.push(self, attempt)
        return attempt

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _guard.pop(self).__exit__(kind, error, traceback)

    async def __aenter__(self) -> Attempt:
        attempt = self.attempt()
        await attempt.__aenter__()
        _guard.push(self, attempt)
        return attempt

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await _guard.pop(self).__aexit__(kind, error, traceback)


def _plain(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function whose code tells what kind it is: without partials, of a callable object its ``__call__``."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    if inspect.isroutine(fn):
        return fn
    return cast("Callable[..., Any]", getattr(type(fn), "__call__", fn))  # noqa: B004 - the method is wanted
