"""Lambda's own remaining time as the deadline of what a function does.

Lambda kills a function when its time is up, wherever it stands: no error handler runs, and no message is given back.
`lambda_deadline` ends it some moments earlier, by an error that it can still answer. Knows the one method of Lambda's
context object that tells the time left; nothing of events.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, TypeVar, cast

from .. import _checks
from .._part import Described
from ..clock import Clock
from ..errors import DeadlineExceeded
from ..policies.timeout import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from .._guard import Attempt

__all__ = ["LambdaDeadline", "lambda_deadline", "lambda_handler"]

_F = TypeVar("_F", bound="Callable[..., Any]")

_LEAST = 1e-3
"""Seconds below which no work is begun: Lambda tells its time in milliseconds."""


class LambdaDeadline(Described):
    """A block that ends *reserve* seconds before Lambda would end the function.

    The time left is asked when the block is entered. Inside, it is the deadline that retries, limiters and wrapped
    clients obey, and that ``remaining()`` tells. Synchronous code is not interrupted, ``async with`` cancels.

    Args:
        context: what Lambda hands to the function beside the event: anything with ``get_remaining_time_in_millis``.
        reserve: seconds, >= 0, kept back for the function's own answer to the lack of time, logging and the way back.
        clock: where the block takes time from; the machine's clock by default.

    Raises:
        TypeError: *context* cannot tell the time left, or an argument is of the wrong type.
        ConfigError: *reserve* is out of range.
        DeadlineExceeded: on entering, when no more than *reserve* is left.

    Entered by one thread or task at a time; Lambda makes one context for each invocation.
    """

    def __init__(self, context: Any, *, reserve: float = 0.5, clock: Clock | None = None) -> None:
        if not callable(getattr(context, "get_remaining_time_in_millis", None)):
            raise TypeError(f"context must have get_remaining_time_in_millis(), as Lambda's has, not {context!r}")
        if clock is not None and not isinstance(clock, Clock):
            raise TypeError(f"clock must be a Clock, not {clock!r}")
        self.context = context
        self.reserve = _checks.seconds("reserve", reserve, zero=True)
        self.clock = clock
        self._block: Deadline | None = None

    @property
    def left(self) -> float:
        """Seconds of work that are left now, the reserve taken off; negative when it is used up."""
        return float(self.context.get_remaining_time_in_millis()) / 1000 - self.reserve

    def _begin(self) -> Deadline:
        left = self.left
        if left < _LEAST:
            raise DeadlineExceeded(
                f"lambda: {left + self.reserve:.3f} s are left of the invocation, and {self.reserve:g} s are kept back",
                policy="lambda",
                timeout=max(0.0, left),
                elapsed=0.0,
            )
        self._block = Deadline(min(left, _checks.LONGEST), name="lambda", clock=self.clock)
        return self._block

    def __enter__(self) -> Attempt:
        return self._begin().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._block is not None
        self._block.__exit__(kind, error, traceback)

    async def __aenter__(self) -> Attempt:
        return await self._begin().__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._block is not None
        await self._block.__aexit__(kind, error, traceback)


def lambda_deadline(context: Any, *, reserve: float = 0.5, clock: Clock | None = None) -> LambdaDeadline:
    """A block whose deadline is Lambda's, less *reserve* seconds.

    ``with lambda_deadline(context): ...``. See `LambdaDeadline` for the arguments and errors.
    """
    return LambdaDeadline(context, reserve=reserve, clock=clock)


def lambda_handler(*, reserve: float = 0.5, clock: Clock | None = None) -> Callable[[_F], _F]:
    """Decorate a function of (event, context), so that all of it runs inside `lambda_deadline`.

    Args:
        reserve: seconds, >= 0, kept back from the time that Lambda gives.
        clock: where time comes from; the machine's clock by default.

    Raises:
        ConfigError: *reserve* is out of range.
        TypeError: what is decorated is no function; or, when called, the context cannot tell the time left.
        DeadlineExceeded: when called with no more than *reserve* left; the function is not begun then.

    A coroutine function is cancelled at the deadline; a synchronous one goes on to its end, but what it calls through
    this library is held to the time left. Thread-safe.
    """
    _checks.seconds("reserve", reserve, zero=True)
    if clock is not None and not isinstance(clock, Clock):
        raise TypeError(f"clock must be a Clock, not {clock!r}")

    def decorate(fn: _F) -> _F:
        _checks.function("what lambda_handler decorates", fn)
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            raise TypeError(f"lambda_handler decorates functions that return the answer, not the generator {fn!r}")
        if inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None)):  # noqa: B004

            @functools.wraps(fn)
            async def waiting(event: Any, context: Any) -> Any:
                async with LambdaDeadline(context, reserve=reserve, clock=clock):
                    return await fn(event, context)

            return cast("_F", waiting)

        @functools.wraps(fn)
        def blocking(event: Any, context: Any) -> Any:
            with LambdaDeadline(context, reserve=reserve, clock=clock):
                return fn(event, context)

        return cast("_F", blocking)

    return decorate
