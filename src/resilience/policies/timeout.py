"""Timeouts of an attempt and deadlines of a whole call.

Under asyncio both cancel for real. A synchronous call cannot be stopped from outside, so there one must say *how* it is
held to its time (``mode``); a timeout without one is refused when the function is decorated, for it would do nothing.
"""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, Any, ClassVar

from .. import _checks
from .._checks import NS
from .._part import Part
from .._scope import Limit
from ..errors import ConfigError, ResilienceWarning

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._stats import Stats
    from .._workers import Job
    from ..clock import Clock
    from ._lingering import Lingerer, Watch

__all__ = ["MODES", "Deadline", "Timeout", "TimeoutPart"]

MODES = ("argument", "thread", "cooperative")

_HOW = (
    "a synchronous call cannot be interrupted, so say how it is to be held to its time: "
    'mode="argument" (hand the seconds left to a parameter of the function), '
    'mode="thread" (run it in a worker thread, and abandon it there when time is up), or '
    'mode="cooperative" (the function asks remaining() or check_deadline())'
)


class TimeoutPart(Part):
    """What fixed and learned timeouts have in common."""

    kind = "timeout"
    levels = frozenset({"abandoned"})
    learns: ClassVar[bool] = False

    current: float
    """The limit for the first attempt of a call made now, in seconds."""

    due: int
    """The time (ns) of the next `refresh`."""

    def __init__(
        self,
        *,
        mode: str | None,
        argument: str,
        max_abandoned: int,
        name: str | None,
        shadow: bool,
        clock: Clock | None,
    ) -> None:
        super().__init__(name=name, clock=clock)
        self.mode = None if mode is None else _checks.one_of("mode", mode, MODES)
        self.argument = _checks.text("argument", argument)
        self.max_abandoned = _checks.count("max_abandoned", max_abandoned)
        self.shadow = _checks.flag("shadow", shadow)
        self._counts = dict.fromkeys(("timed_out", "late", "shadow"), 0)
        self._abandoned: tuple[Job, ...] = ()
        self._warned = False

    @property
    def most(self) -> float:
        """The longest limit this timeout can set, in seconds."""
        raise NotImplementedError

    def seconds_for(self, cut: int) -> float:
        """The limit for the next attempt of a call of which *cut* attempts ended by this timeout."""
        raise NotImplementedError

    def record(self, duration: int, now: int, *, censored: bool) -> None:
        """An attempt took *duration* ns, or was given up after them (*censored*)."""

    def recorder(self) -> Callable[[int], object] | None:
        """What the short way is to call with the duration of each good attempt (ns), if anything."""
        return None

    def refresh(self, now: int) -> None:
        """Called on the short way when *now* has reached ``due``."""

    def learn_from(self, source: Stats) -> bool:
        """Take samples from the durations a policy keeps, too; False: no, this timeout does not learn."""
        return False

    def pull(self, source: Stats, now: int) -> None:
        """Take what this source has now; only of one that learns."""

    def limit(self, now: int, who: str, cut: int, lingerer: Lingerer | None = None) -> Limit:
        """The point in time an attempt begun *now* must not pass."""
        seconds = self.seconds_for(cut)
        at = now + _checks.to_ns(seconds)
        return Limit(at, seconds, who, self._now, deadline=False, lingerer=lingerer)

    @property
    def model(self) -> TimeoutPart:
        """Itself."""
        return self

    def follow(self, share: float) -> float | None:
        """The time in which this *share* of the answers comes, in seconds, if it is known."""
        return None

    def room(self) -> bool:
        """Whether an attempt that times out would be watched, to learn from it."""
        return False

    def watch(self, attempt: Any, began: int) -> Watch | None:
        """Watch an *attempt*, begun then, that has timed out; ``None``: no, it may end."""
        return None

    def check(self, fn: Callable[..., Any], *, is_async: bool) -> None:
        """Refuse a function on which this timeout could not bite."""
        if is_async or self.shadow:
            return
        if self.mode is None:
            raise ConfigError(f"{self!r} on {_name(fn)}: {_HOW}")
        if self.mode == "argument" and not accepts(fn, self.argument):
            raise ConfigError(
                f"{self!r} on {_name(fn)}: it has no parameter {self.argument!r} to hand the time to; "
                "name another one with argument=, or choose another mode"
            )

    def position(self, fn: Callable[..., Any]) -> int | None:
        """Where among the positional arguments of *fn* the parameter is that receives the time."""
        code = getattr(fn, "__code__", None)
        if code is not None and not code.co_flags & inspect.CO_VARARGS:
            # The usual case, on the way of each attempt: forty times as fast as asking for the signature.
            named = code.co_varnames[: code.co_argcount]
            if self.argument not in named:
                return None
            place: int = named.index(self.argument)
            return None if place < code.co_posonlyargcount else place - inspect.ismethod(fn)
        try:
            parameters = inspect.signature(fn).parameters
        except (TypeError, ValueError):
            return None
        found = parameters.get(self.argument)
        if found is None or found.kind is not found.POSITIONAL_OR_KEYWORD:
            return None
        return list(parameters).index(self.argument)

    def count(self, what: str) -> None:
        """Add one to a counter."""
        with self._lock:
            self._counts[what] += 1

    def late(self, who: str, duration: int) -> None:
        """A cooperative call came back *duration* ns after it began, too late."""
        self.count("late")
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"{self.name or who}: a cooperative timeout was passed unnoticed (it took {duration / NS:.3g} s); "
                "let the function ask remaining() or check_deadline(), or choose another mode",
                ResilienceWarning,
                stacklevel=2,
            )

    def abandon(self, job: Job) -> None:
        """A call goes on in its worker thread after its time."""
        with self._lock:
            self._abandoned += (job,)

    @property
    def abandoned(self) -> int:
        """How many abandoned calls are still running."""
        if not self._abandoned:
            return 0
        with self._lock:
            self._abandoned = tuple(job for job in self._abandoned if not job.done.is_set())
            return len(self._abandoned)

    @property
    def counters(self) -> dict[str, int | float]:
        """Attempts timed out, late results of cooperative calls, and abandoned calls that still run."""
        with self._lock:
            counts: dict[str, int | float] = dict(self._counts)
        counts["abandoned"] = self.abandoned
        return counts


class Timeout(TimeoutPart):
    """Give one attempt at most *seconds*.

    Asynchronous calls are cancelled. For synchronous ones *mode* says how:

    - "argument": the seconds left are passed as the argument named by *argument*, and the function's own client
      enforces them with its own error. Cheap and exact; as good as that client's timeout. `remaining` tells only of
      other limits then.
    - "thread": the call runs in a worker thread; when time is up the caller gets `TimedOut` and the call is
      abandoned: it goes on in the background and its result is dropped. Costs some 50 µs a call. No more than
      *max_abandoned* such calls may be running, further calls are refused with `BulkheadFull`.
    - "cooperative": the function looks at `remaining` or calls `check_deadline`. One that never looks is
      not interrupted; its late result is returned, counted as ``late``, and warned about once.

    Args:
        seconds: the limit, in seconds.
        mode: how a synchronous call is held to it. Asynchronous calls are always cancelled.
        argument: the parameter that receives the seconds in mode "argument".
        max_abandoned: how many abandoned calls may be running in mode "thread".
        name: shown in messages; the policy's name by default.
        shadow: only count what would have timed out.
        clock: where time comes from; the machine's clock by default.

    Raises:
        ConfigError: an argument is out of range; or, when a synchronous function is decorated, the timeout could not
            bite.

    Thread-safe.
    """

    def __init__(
        self,
        seconds: float,
        *,
        mode: str | None = None,
        argument: str = "timeout",
        max_abandoned: int = 64,
        name: str | None = None,
        shadow: bool = False,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(
            mode=mode,
            argument=argument,
            max_abandoned=max_abandoned,
            name=name,
            shadow=shadow,
            clock=clock,
        )
        self.seconds = self.current = _checks.seconds("seconds", seconds)

    @property
    def most(self) -> float:
        """Always the same."""
        return self.seconds

    def seconds_for(self, cut: int) -> float:
        """Always the same."""
        return self.seconds


class Deadline(Part):
    """Give the whole call, with its retries and waits, at most *seconds*.

    Deadlines nest and only shrink. Retries and limiters never wait past one; code below sees it as `remaining`.
    Asynchronous attempts are cancelled by it. A synchronous attempt is cut to it only as far as its `Timeout`
    has a mode; without one the deadline bounds the waits between attempts and is handed down, no more.

    Args:
        seconds: the limit, in seconds.
        name: shown in messages; the policy's name by default.
        shadow: only count what would have been late.
        clock: where time comes from; the machine's clock by default.

    Raises:
        ConfigError: *seconds* is out of range.

    Thread-safe.
    """

    kind = "deadline"

    def __init__(
        self,
        seconds: float,
        *,
        name: str | None = None,
        shadow: bool = False,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(name=name, clock=clock)
        self.seconds = _checks.seconds("seconds", seconds)
        self.shadow = _checks.flag("shadow", shadow)
        self._span = _checks.to_ns(self.seconds)
        self._counts = dict.fromkeys(("exceeded", "shadow"), 0)

    def limit(self, now: int, who: str) -> Limit:
        """The point in time that a call begun *now* must not pass."""
        return Limit(now + self._span, self.seconds, who, self._now, deadline=True)

    def count(self, what: str) -> None:
        """Add one to a counter."""
        with self._lock:
            self._counts[what] += 1

    @property
    def counters(self) -> dict[str, int | float]:
        """Calls that ran out of time, and those that would have."""
        with self._lock:
            return dict(self._counts)


def accepts(fn: Callable[..., Any], argument: str) -> bool:
    """Whether *fn* can be given *argument* by name."""
    try:
        parameters = inspect.signature(fn).parameters
    except (TypeError, ValueError):  # some builtins do not tell; the call itself will
        return True
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return True
    found = parameters.get(argument)
    return found is not None and found.kind is not found.POSITIONAL_ONLY


def _name(fn: Callable[..., Any]) -> str:
    return str(getattr(fn, "__qualname__", repr(fn)))
