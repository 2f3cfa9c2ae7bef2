"""Retrying: which failures, how often, after which wait.

`Retry` holds the settings, `Series` the course of one call's retrying. Both only decide. Who sleeps and
who calls is the story's business, so decorated functions, blocks and loops, blocking and async, retry alike.
"""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING, Any

from .. import _checks
from .._checks import NS
from .._hooks import ask, log, notify
from .._listen import LISTENERS, tell
from .._part import Part
from .._retry_after import hint
from ..backoff import Backoff, Exponential, as_backoff
from ..errors import ConfigError, DeadlineExceeded, Rejected, RetriesExhausted
from ..events import BudgetExhausted, Retrying, brief
from .retry_budget import RetryBudget

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from .._guard import Attempt
    from .._runtime import Call
    from .._scope import Limit
    from ..clock import Clock

__all__ = ["Failures", "Retry", "Series"]

OWN_BUDGET = "own"


class Failures:
    """Which errors count: classes, or a predicate. Not a `Rejected`, unless a class names it."""

    __slots__ = ("classes", "names_rejected", "predicate")

    def __init__(
        self,
        name: str,
        on: type[BaseException] | Iterable[type[BaseException]] | Callable[[Exception], bool],
    ) -> None:
        self.predicate: Callable[[Exception], bool] | None = None
        if isinstance(on, type):
            on = (on,)
        if isinstance(on, (tuple, list, set, frozenset)):
            classes = tuple(on)
            for kind in classes:
                if not (isinstance(kind, type) and issubclass(kind, BaseException)):
                    raise TypeError(f"{name} must hold exception classes, not {kind!r}")
                if kind is not BaseException and not issubclass(kind, Exception):
                    raise ConfigError(f"{name} must not hold {kind!r}: it means stop, not failure")
            if not classes:
                raise ConfigError(f"{name} must name at least one exception class, not {on!r}")
            self.classes = tuple(Exception if kind is BaseException else kind for kind in classes)
        elif callable(on):
            self.classes = (Exception,)
            self.predicate = on
        else:
            raise TypeError(f"{name} must be exception classes or a function of the error, not {on!r}")
        self.names_rejected = any(issubclass(kind, Rejected) for kind in self.classes)

    def cover(self, error: BaseException) -> bool:
        """Whether *error* counts."""
        if not isinstance(error, self.classes):
            return False
        if self.predicate is not None:
            return ask(self.predicate, error)
        return self.names_rejected or not isinstance(error, Rejected)


class Retry(Part):
    """Call again what failed, after a wait, a bounded number of times.

    The last error is raised as it was, with a note of what was tried. A `Rejected` (open circuit, rate limit) is
    not retried unless *on* names it. Inside a call that is being retried further out, a retry stands down, so that
    layers add attempts instead of multiplying them.

    Args:
        on: the errors worth another attempt: exception classes, or a function that is given the error. There is no
            default: repeating a call whose failure will not pass, or that must not happen twice, does harm.
        attempts: the most attempts, the first included; ``None`` for no limit but the others.
        elapsed: seconds after the start of the call from which no further attempt is begun.
        backoff: the waits: a `Backoff`, a number of seconds, a list of them, or a function of the retry's
            number.
        on_result: a function of the result that says whether it is not good enough; when attempts run out the last
            result is returned.
        retry_after: how to read from an error how long the server asks to wait, in seconds; by default from
            ``error.retry_after`` and from the Retry-After header of the response it carries. The wait is then at least
            that; ``None`` ignores such wishes.
        max_retry_after: a server that asks for more than this many seconds is not called again by this call.
        budget: the `RetryBudget` that every retry must be granted by. "own" makes one for this object (none if
            attempts is ``None``); ``None`` does without.
        nested: retry even inside a call that is being retried further out.
        wrap: raise `RetriesExhausted` from the last error instead of the error itself.
        on_retry: called with a `Retrying` before each wait; its errors are logged, never raised.
        rng: the randomness of the jitter, a ``random.Random``; seed it to repeat a run.
        name: shown in messages; the policy's name by default.
        shadow: only count what would have been retried.
        clock: where time comes from; the machine's clock by default.

    Raises:
        ConfigError: an argument is out of range, or nothing bounds the retrying.
        TypeError: an argument is of the wrong type.

    Thread-safe.
    """

    kind = "retry"
    levels = frozenset({"budget"})
    no_block = "a with-block cannot be run twice; write `for attempt in {0}: with attempt: ...`"

    def __init__(
        self,
        *,
        on: type[BaseException] | tuple[type[BaseException], ...] | Callable[[Any], bool],
        attempts: int | None = 3,
        elapsed: float | None = None,
        backoff: Backoff | float | Iterable[float] | Callable[[int], float] = Exponential(0.1),  # noqa: B008 - frozen
        on_result: Callable[[Any], bool] | None = None,
        retry_after: Callable[[Exception], float | None] | str | None = "default",
        max_retry_after: float = 60.0,
        budget: RetryBudget | str | None = OWN_BUDGET,
        nested: bool = False,
        wrap: bool = False,
        on_retry: Callable[[Retrying], object] | None = None,
        rng: random.Random | None = None,
        name: str | None = None,
        shadow: bool = False,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(name=name, clock=clock)
        self.on = on
        self._failures = Failures("on", on)
        self.attempts = None if attempts is None else _checks.count("attempts", attempts)
        self.elapsed = None if elapsed is None else _checks.seconds("elapsed", elapsed)
        self.backoff = backoff
        self._backoff = as_backoff(backoff)
        self.on_result = None if on_result is None else _checks.function("on_result", on_result)
        if isinstance(retry_after, str):
            _checks.one_of("retry_after", retry_after, ("default",))
        elif retry_after is not None:
            _checks.function("retry_after", retry_after)
        self.retry_after = retry_after
        self.max_retry_after = _checks.seconds("max_retry_after", max_retry_after, inf=True)
        if isinstance(budget, str):
            _checks.one_of("budget", budget, (OWN_BUDGET,))
        elif budget is not None and not isinstance(budget, RetryBudget):
            raise TypeError(f"budget must be a RetryBudget, 'own' or None, not {budget!r}")
        self.budget = budget
        self.nested = _checks.flag("nested", nested)
        self.wrap = _checks.flag("wrap", wrap)
        self.on_retry = None if on_retry is None else _checks.function("on_retry", on_retry)
        if rng is not None and not callable(getattr(rng, "random", None)):
            raise TypeError(f"rng must be a random.Random, not {rng!r}")
        self.rng = rng
        self._random = random.random if rng is None else rng.random
        self.shadow = _checks.flag("shadow", shadow)
        if attempts is None and elapsed is None and not isinstance(budget, RetryBudget):
            raise ConfigError("attempts=None needs elapsed= or a budget=, or retrying never ends")
        self._budget: RetryBudget | None = None
        if isinstance(budget, RetryBudget):
            self._budget = budget
        elif budget == OWN_BUDGET and self.attempts is not None:
            # A single call must be able to use the attempts it was promised.
            self._budget = RetryBudget(max(10.0, self.attempts - 1), clock=clock)
        self._counts = dict.fromkeys(
            ("retries", "recovered", "exhausted", "refused_by_budget", "stood_down", "shadow"), 0
        )

    @property
    def counters(self) -> dict[str, int | float]:
        """Retries made, calls recovered by them, calls given up, retries refused by the budget or by nesting."""
        with self._lock:
            counts: dict[str, int | float] = dict(self._counts)
        if self._budget is not None:
            counts["budget"] = self._budget.level
        return counts

    def _count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1

    def _hint(self, error: Exception) -> float | None:
        if self.retry_after is None:
            return None
        if not callable(self.retry_after):
            return hint(error, self._now.time())
        try:
            asked = self.retry_after(error)
            if asked is None:
                return None
            return min(_checks.seconds("retry_after", asked, zero=True, inf=True), _checks.LONGEST)
        except Exception:
            log.exception("retry_after=%r failed; ignored", self.retry_after)
            return None

    def adopt(self, clock: Clock) -> None:
        """Take time from the clock of the policy this part is put into; its budget too."""
        super().adopt(clock)
        if self._budget is not None:
            self._budget.adopt(clock)

    def series(
        self, who: str, began: int, limit: Limit | None, *, outer: bool, exact: bool = True, call: Call | None = None
    ) -> Series:
        """The retrying of one call, begun at *began*; *outer* says that a call around it is being retried."""
        return Series(self, who, began, limit, outer=outer, exact=exact)

    def spared(self) -> None:
        """A call went well at its first attempt, and no `Series` was made for it."""

    def __iter__(self) -> Iterator[Attempt]:
        return iter(self._alone())

    def __aiter__(self) -> AsyncIterator[Attempt]:
        return aiter(self._alone())


class Series:
    """The retrying of one call: after each attempt it says how long to wait for the next, or that there is none.

    Used by one call only, hence without a lock.
    """

    __slots__ = (
        "_began", "_delays", "_exact", "_limit", "_outer", "_retry", "_tried", "_who", "number",
        "parting", "poor",
    )  # fmt: skip

    def __init__(
        self, retry: Retry, who: str, began: int, limit: Limit | None, *, outer: bool, exact: bool = True
    ) -> None:
        self._retry = retry
        self._who = who
        self._began = began
        self._limit = limit
        self._outer = outer and not retry.nested
        self._exact = exact
        self._delays: Iterator[float] | None = None
        self._tried: list[str] = []
        self.number = 1
        self.poor = False
        """Whether the result the call ends with was not good enough."""
        self.parting = 0.0
        """Seconds to wait before the error is raised, where giving up at once would make callers call at once again."""

    def after_error(self, error: Exception, now: int) -> float | None:
        """Seconds to wait before the next attempt, or ``None``: raise *error*."""
        retry = self._retry
        if not self._covers(error):
            if self._tried:
                self._close(error, now, "this error is not retried")
            return None
        delay, reason = self._next(now, error)
        if delay is None:
            self._close(error, now, reason)
            if retry.wrap and not retry.shadow:
                raise self._exhausted(reason) from error
            return None
        self._proceed(now, delay, error, None)
        return delay

    def after_result(self, result: object, now: int) -> float | None:
        """Seconds to wait before the next attempt, or ``None``: return *result*."""
        retry = self._retry
        if retry.on_result is None or not ask(retry.on_result, result):
            if self.number > 1:
                retry._count("recovered")
            return None
        delay, reason = self._next(now, None)
        if delay is None:
            self.poor = True
            if retry.wrap and not retry.shadow:
                raise self._exhausted(reason, result)
            return None
        self._proceed(now, delay, None, result)
        return delay

    def wants(self, error: Exception) -> bool:
        """Whether it may come to asking the budget, after *error*."""
        retry = self._retry
        more = retry.attempts is None or self.number < retry.attempts
        return more and not self._outer and not retry.shadow and self._covers(error)

    def _covers(self, error: Exception) -> bool:
        """Whether *error* is worth another attempt."""
        return self._retry._failures.cover(error)

    def _next(self, now: int, error: Exception | None) -> tuple[float | None, str]:
        """The wait, or why there is none. Cheap refusals come first; the budget is asked last, for it pays."""
        retry = self._retry
        if retry.attempts is not None and self.number >= retry.attempts:
            retry._count("exhausted")
            return None, "no attempts left"
        if self._outer:
            retry._count("stood_down")
            return None, "a call further out is retrying already"
        if retry.shadow:
            retry._count("shadow")
            return None, "shadow"
        delay, reason = self._delay(error)
        if delay is None:
            retry._count("exhausted")
            return None, reason
        at = now + round(delay * NS)
        if retry.elapsed is not None and at >= self._began + round(retry.elapsed * NS):
            retry._count("exhausted")
            return None, f"{retry.elapsed:g} s would have passed before the next attempt"
        if self._limit is not None and at >= self._limit.at:
            retry._count("exhausted")
            return None, "the deadline would pass before the next attempt"
        if not self._pay(error, delay):
            retry._count("refused_by_budget")
            if BudgetExhausted in LISTENERS:
                level = 0.0 if retry._budget is None else retry._budget.level
                tell(BudgetExhausted(retry.name or self._who, "retry", level))
            return None, "the retry budget is spent"
        return delay, ""

    def _delay(self, error: Exception | None) -> tuple[float | None, str]:
        """Seconds by the backoff and the server's wish, or why there is no such wait."""
        retry = self._retry
        if self._delays is None:
            self._delays = retry._backoff.delays(retry._random)
        try:
            delay = next(self._delays)
        except StopIteration:
            return None, "the backoff has no further delay"
        except Exception:  # one of the user's own; the error of the call goes before it
            log.exception("backoff=%r failed; no further attempt", retry.backoff)
            return None, "the backoff failed"
        asked = None if error is None or retry.retry_after is None else retry._hint(error)
        if asked is not None:
            if asked > retry.max_retry_after:
                return None, f"the server asks to wait {asked:g} s"
            # At least what was asked for, and jitter above it, or all clients come back at once.
            delay += max(0.0, asked)
        return delay, ""

    def _pay(self, error: Exception | None, delay: float) -> bool:
        """Whether the budget grants the retry that is to follow after *delay* seconds."""
        return self._retry._budget is None or self._retry._budget.withdraw()

    def _proceed(self, now: int, delay: float, error: Exception | None, result: object) -> None:
        retry = self._retry
        retry._count("retries")
        if retry.on_retry is not None or Retrying in LISTENERS:
            event = Retrying(self._who, self.number, error, result, delay, (now - self._began) / NS)
            if retry.on_retry is not None:
                notify(retry.on_retry, event)
            tell(event)
        if len(self._tried) < 20:  # a note is for people
            came_to = brief(result if error is None else error)
            self._tried.append(f"attempt {self.number}: {came_to}, then waited {delay:.3g} s")
        self.number += 1

    def _exhausted(self, reason: str, result: object = None) -> RetriesExhausted:
        return RetriesExhausted(
            f"{self._who}: gave up after {self.number} attempts: {reason}",
            attempts=self.number,
            result=result,
        )

    def _close(self, error: Exception, now: int, reason: str) -> None:
        """Write on the error what was tried."""
        if self._retry.shadow or isinstance(error, DeadlineExceeded):
            return
        if self.number == 1 and self._retry.attempts == 1:
            return
        mark = f"resilience: {self._who}: "
        times = "1 attempt" if self.number == 1 else f"{self.number} attempts"
        took = f" in {(now - self._began) / NS:.3g} s" if self._exact else ""
        note = f"{mark}gave up after {times}{took}: {reason}"
        # Some errors cannot carry notes (frozen dataclasses); some are raised again and again, and collect none.
        with contextlib.suppress(Exception):
            kept = [n for n in getattr(error, "__notes__", ()) if not str(n).startswith(mark)]
            error.__notes__ = [*kept, "\n  ".join([note, *self._tried])]
