"""What to answer when the call could not be answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import _checks
from .._listen import LISTENERS, tell
from .._part import Part
from ..errors import Boxed, ConfigError, Rejected
from ..events import FellBack
from .retry import Failures

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._runtime import Call, Runtime
    from ..clock import Clock

__all__ = ["Fallback"]


class _Unset:
    def __repr__(self) -> str:
        return "<no value>"


_UNSET: Any = _Unset()


class Fallback(Part):
    """Answer with something else when the call fails for good.

    Give a *value*, a *function*, or functions and a value: the functions are tried in order, then the value is given.
    A function is called with the arguments of the call; the error it stands in for is ``sys.exception()``. In
    asynchronous calls it may be a coroutine function. If all functions fail, the last one's error is raised, with the
    call's own as its context.

    Args:
        functions: what to call instead, in order.
        value: what to answer after them, or at once if there are none.
        on: the errors to step in for; by default every ``Exception``, rejections included.
        name: shown in messages; the policy's name by default.
        shadow: only count where it would have stepped in.
        clock: where time comes from; the machine's clock by default.

    Raises:
        ConfigError: there is neither a function nor a value.

    Thread-safe.
    """

    kind = "fallback"
    no_block = "a with-block has no result to replace; use `{0}.call(function)` or the decorator"

    def __init__(
        self,
        *functions: Callable[..., Any],
        value: Any = _UNSET,
        on: type[BaseException] | tuple[type[BaseException], ...] | Callable[[Any], bool] = Exception,
        name: str | None = None,
        shadow: bool = False,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(name=name, clock=clock)
        if not functions and value is _UNSET:
            raise ConfigError("Fallback needs a function or value=")
        for function in functions:
            _checks.function("each of functions", function)
        self.functions = functions
        self.value = value
        self.on = on
        self._failures = Failures("on", on)
        if on is Exception:
            self._failures.names_rejected = True
        self.shadow = _checks.flag("shadow", shadow)
        self._counts = dict.fromkeys(("answered", "failed", "shadow"), 0)

    @property
    def has_value(self) -> bool:
        """Whether a value ends the chain, so that nothing can fail."""
        return self.value is not _UNSET

    @property
    def counters(self) -> dict[str, int | float]:
        """Calls answered, calls for which every alternative failed too, and would-have-answered."""
        with self._lock:
            return dict(self._counts)

    def _count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1

    def covers(self, error: Exception) -> bool:
        """Whether this fallback steps in for *error*."""
        if not (self._failures.cover(error) or (self.on is Exception and isinstance(error, Rejected))):
            return False
        if self.shadow:
            self._count("shadow")
        return not self.shadow

    async def answer(self, runtime: Runtime, call: Call, who: str, failure: Exception) -> Any:
        """The answer in place of that of a *call* which ended in *failure*."""
        for index, function in enumerate(self.functions):
            try:
                result = await runtime.result(function(*call.args, **call.kwargs))
            except Exception as error:
                if index + 1 < len(self.functions) or self.has_value:
                    continue
                self._count("failed")
                if isinstance(error, StopIteration):
                    raise Boxed(error) from None
                raise
            self._answered(who, failure)
            return result
        self._answered(who, failure)
        return self.value

    def _answered(self, who: str, failure: Exception) -> None:
        self._count("answered")
        if FellBack in LISTENERS:
            tell(FellBack(self.name or who, failure))
