"""The face that all parts of a policy share.

A *part* (``Retry``, ``Timeout``, ``CircuitBreaker``, ...) can be put into a `resilience.Policy`, or be used
alone: as decorator, as ``with`` block where a block makes sense, and through ``call``. Alone means: as a policy that
has only this part. So there is one way a call is run, and this file adds none.
"""

from __future__ import annotations

import inspect
import threading
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar

from ._checks import text
from .clock import Clock, system
from .errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType
    from typing import Self

    from ._guard import Attempt
    from ._runtime import Call
    from .policy import Policy

__all__ = ["Described", "Part"]

P = ParamSpec("P")
R = TypeVar("R")


class Described:
    """A ``repr`` that can be pasted back, and ``replace``, both read off the constructor's signature.

    Each constructor argument is kept in the attribute of the same name.
    """

    __slots__ = ()

    def _settings(self) -> dict[str, Any]:
        """What this object was made with, without the arguments that were left at their defaults."""
        settings = {}
        for parameter in inspect.signature(type(self)).parameters.values():
            value = getattr(self, parameter.name)
            if not _same(value, parameter.default):
                settings[parameter.name] = value
        return settings

    def __repr__(self) -> str:
        settings = self._settings()
        shown: list[str] = []
        in_row = True
        for name, parameter in inspect.signature(type(self)).parameters.items():
            if parameter.kind is parameter.VAR_POSITIONAL:
                shown += map(_show, settings.get(name, ()))
            elif name not in settings:
                in_row = False
            elif in_row and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
                shown.append(_show(settings[name]))
            else:
                shown.append(f"{name}={_show(settings[name])}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def replace(self, **changes: Any) -> Self:
        """A new object with the same settings but for *changes*, and with a state of its own."""
        parameters = inspect.signature(type(self)).parameters
        settings = self._settings()
        row = next((n for n, p in parameters.items() if p.kind is p.VAR_POSITIONAL), None)
        return type(self)(*settings.pop(row or "", ()), **{**settings, **changes})


def _same(a: object, b: object) -> bool:
    return a is b or (type(a) is type(b) and bool(a == b))


def _show(value: object) -> str:
    """A value as one would write it in source."""
    if isinstance(value, type):
        return value.__qualname__
    if isinstance(value, (tuple, list)):
        inner = ", ".join(map(_show, value))
        if isinstance(value, list):
            return f"[{inner}]"
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if callable(value) and hasattr(value, "__qualname__"):
        return str(value.__qualname__)
    return repr(value)


class Part(Described):
    """One policy: what it decides lives in its subclass, how it is used lives here.

    Thread-safe, and safe under asyncio: state changes under ``_lock``, which is never held over the caller's code.
    """

    kind: ClassVar[str]
    """The name of the argument of ``Policy`` that this part belongs to."""

    gauges: ClassVar[frozenset[str]] = frozenset()
    """Those of its counters that cannot be added up over several parts."""

    levels: ClassVar[frozenset[str]] = frozenset()
    """Those of its counters that go up and down; the others only grow."""

    no_block: ClassVar[str | None] = None
    """Why this part cannot guard a ``with`` block, and what to write instead."""

    _known_as: str | None = None  # here, and not in each object: Python shares the names of only 30 attributes

    def __init__(self, *, name: str | None, clock: Clock | None) -> None:
        if name is not None:
            text("name", name)
        if clock is not None and not isinstance(clock, Clock):
            raise TypeError(f"clock must be a Clock, not {clock!r}")
        self.name = name
        self.clock = clock
        self._now = clock or system
        self._lock = threading.Lock()
        self._policy: Policy | None = None

    # -- used by the story -----------------------------------------------------------------------------------------

    def of(self, call: Call | None) -> Self:
        """The part responsible for this call; itself, unless there is one for each key."""
        return self

    @property
    def model(self) -> Part:
        """What it is set to: itself, or of a family of parts the one they are copies of."""
        return self

    def adopt(self, clock: Clock) -> None:
        """Take time from the clock of the policy this part is put into.

        Raises:
            ConfigError: it is part of a policy with another clock already.
        """
        if self._now is not system and self._now is not clock:
            raise ConfigError(f"{self!r} takes time from {self._now!r} already, not from {clock!r}")
        self._now = clock

    @property
    def title(self) -> str:
        """What events call it: its name, that of the first named policy it is a part of, or what it is."""
        return self.name or self._known_as or type(self).__name__

    def called(self, name: str) -> None:
        """It is part of a policy of this name."""
        if self._known_as is None:
            self._known_as = name

    # -- used alone --------------------------------------------------------------------------------------------------

    def _alone(self) -> Policy:
        """This part as a policy of its own."""
        if self._policy is None:
            from .policy import Policy

            with self._lock:  # a block must find the policy again that it was begun with
                if self._policy is None:
                    self._policy = Policy.of_part(self)
        return self._policy

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Decorate *fn*; its signature stays as it is, for people and for type checkers."""
        return self._alone()(fn)

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *fn* under this policy and return what it returns."""
        return self._alone().call(fn, *args, **kwargs)

    async def acall(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call and await *fn* under this policy and return what it returns."""
        return await self._alone().acall(fn, *args, **kwargs)

    def __enter__(self) -> Attempt:
        return self._alone().__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._alone().__exit__(kind, error, traceback)

    async def __aenter__(self) -> Attempt:
        return await self._alone().__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._alone().__aexit__(kind, error, traceback)

    @property
    def counters(self) -> dict[str, int | float]:
        """What happened so far, as plain numbers."""
        raise NotImplementedError
