"""Retry policies read from and written to the ``Retry`` block of a state machine (Amazon States Language).

Delay before the n-th retry that one retrier grants: ``min(MaxDelaySeconds, IntervalSeconds * BackoffRate^(n-1))``, or
from 0 to that with JitterStrategy FULL. The first retrier whose ErrorEquals names the error decides, and each counts
its own retries. What one side cannot say is refused, never approximated. Source: Amazon States Language specification
(states-language.net), "Retrying after error", and the limits of AWS Step Functions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from .. import _checks
from .._hooks import ask
from ..backoff import Constant, Exponential
from ..errors import ConfigError
from ..policies.retry import Failures, Retry, Series
from ._asl import ALL, JITTER, LONGEST_DELAY, MOST, TASK_FAILED, TIMEOUT, Retrier, matcher, read

if TYPE_CHECKING:
    import random

    from .._runtime import Call
    from .._scope import Limit
    from ..clock import Clock
    from ..events import Retrying

__all__ = ["AslRetry", "from_asl", "to_asl"]

Errors = Mapping[str, "type[BaseException] | tuple[type[BaseException], ...] | Callable[[Any], bool]"]
"""Which of this program's errors an error name of the state machine stands for."""


class AslRetry(Retry):
    """A `Retry` that decides as Step Functions does by a ``Retry`` block, each retrier with its own count and delays.

    Args:
        block: the list of retriers, a single one, or the JSON of either.
        errors: for error names of the block, which errors of this program they stand for: exception classes, or a
            function of the error. By default a name stands for the errors whose class has just that name, as Lambda
            reports them, and for botocore errors with that code ("DynamoDb.ThrottlingException": the code
            "ThrottlingException" or "Throttling", of whatever service). "States.ALL" stands for all errors,
            "States.Timeout" for ``TimeoutError`` and botocore's time-outs, "States.TaskFailed" for all but these; a
            `Rejected` is covered only where it is named. Other names that begin with "States." need an entry.
        nested, wrap, on_retry, rng, name, shadow, clock: as in `Retry`.

    Raises:
        ConfigError: a field of the block is out of range, unknown, or has no counterpart here.
        TypeError: an argument is of the wrong type.

    A retrier with MaxAttempts 0 means that its errors are not retried. There is no retry budget and no heed of
    Retry-After, for Step Functions has neither. Thread-safe.
    """

    def __init__(
        self,
        block: Sequence[Mapping[str, Any]] | Mapping[str, Any] | str,
        *,
        errors: Errors | None = None,
        nested: bool = False,
        wrap: bool = False,
        on_retry: Callable[[Retrying], object] | None = None,
        rng: random.Random | None = None,
        name: str | None = None,
        shadow: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self._retriers = read(block)
        self.errors = None if errors is None else dict(errors)
        self._matchers = [self._matching(retrier, place) for place, retrier in enumerate(self._retriers)]
        used = {name for retrier in self._retriers for name in retrier.error_equals}
        for unused in set(self.errors or ()) - used:
            raise ConfigError(f"errors must name errors of the block ({', '.join(sorted(used))}), not {unused!r}")
        super().__init__(
            on=self._matched,
            attempts=1 + sum(retrier.max_attempts for retrier in self._retriers),
            backoff=self._retriers[0].backoff,
            retry_after=None,
            budget=None,
            nested=nested,
            wrap=wrap,
            on_retry=on_retry,
            rng=rng,
            name=name,
            shadow=shadow,
            clock=clock,
        )

    @property
    def block(self) -> list[dict[str, Any]]:
        """The block with every field written out; a new list each time."""
        return [retrier.written() for retrier in self._retriers]

    def _matching(self, retrier: Retrier, place: int) -> list[Callable[[Exception], bool]]:
        found: list[Callable[[Exception], bool]] = []
        for name in retrier.error_equals:
            if self.errors is not None and name in self.errors:
                failures = Failures(f"errors[{name!r}]", self.errors[name])
                found.append(failures.cover)
            elif name.startswith("States.") and name not in (ALL, TIMEOUT, TASK_FAILED):
                raise ConfigError(
                    f"Retry[{place}].ErrorEquals: {name!r} has no counterpart here; say in errors= what it stands for"
                )
            else:
                found.append(matcher(name))
        return found

    def _which(self, error: Exception) -> int | None:
        """The place of the retrier that decides about *error*."""
        for place, matchers in enumerate(self._matchers):
            if any(ask(matches, error) for matches in matchers):
                return place
        return None

    def _matched(self, error: Exception) -> bool:
        place = self._which(error)
        return place is not None and self._retriers[place].max_attempts > 0

    def series(
        self, who: str, began: int, limit: Limit | None, *, outer: bool, exact: bool = True, call: Call | None = None
    ) -> Series:
        """See `Retry.series`."""
        return _AslSeries(self, who, began, limit, outer=outer, exact=exact)


class _AslSeries(Series):
    """One call's retrying, counted for each retrier."""

    __slots__ = ("_place", "_rows")

    def __init__(
        self, retry: AslRetry, who: str, began: int, limit: Limit | None, *, outer: bool, exact: bool = True
    ) -> None:
        super().__init__(retry, who, began, limit, outer=outer, exact=exact)
        self._place: int | None = None
        self._rows: dict[int, Iterator[float]] = {}

    def _covers(self, error: Exception) -> bool:
        retry = self._retry
        assert isinstance(retry, AslRetry)
        self._place = retry._which(error)
        return self._place is not None and retry._retriers[self._place].max_attempts > 0

    def _delay(self, error: Exception | None) -> tuple[float | None, str]:
        retry, place = self._retry, self._place
        assert isinstance(retry, AslRetry)
        assert place is not None
        if place not in self._rows:
            retrier = retry._retriers[place]
            self._rows[place] = islice(retrier.backoff.delays(retry._random), retrier.max_attempts)
        delay = next(self._rows[place], None)
        return (None, f"no attempts left of Retry[{place}]") if delay is None else (delay, "")


def from_asl(block: Sequence[Mapping[str, Any]] | Mapping[str, Any] | str, **settings: Any) -> AslRetry:
    """The retry policy of a ``Retry`` block: its list, one retrier, or the JSON of either.

    *settings* and errors are those of `AslRetry`.
    """
    return AslRetry(block, **settings)


def to_asl(
    retry: Retry, *, error_equals: Sequence[str] | None = None, drop: Collection[str] = ()
) -> list[dict[str, Any]]:
    """The ``Retry`` block that does in a state machine what *retry* does here, with every field written out.

    Args:
        retry: the policy.
        error_equals: the error names it is to cover there; needed, for error names match exactly while exception
            classes cover their subclasses. Not for an `AslRetry`, which has them.
        drop: settings to leave out knowingly, of "budget", "retry_after", "elapsed" and "on_result".

    Raises:
        ConfigError: a setting has no counterpart; the message names it and its value.
        TypeError: an argument is of the wrong type.
    """
    if not isinstance(retry, Retry):
        raise TypeError(f"retry must be a Retry, not {retry!r}")
    if retry.shadow:
        raise ConfigError("shadow must be False: a state machine cannot only count, not True")
    if isinstance(retry, AslRetry):
        if error_equals is not None:
            raise ConfigError(f"error_equals must be None for an AslRetry, which has its own, not {error_equals!r}")
        return retry.block
    if type(retry) is not Retry:
        raise ConfigError(
            f"retry must be a plain Retry or an AslRetry, for others decide by rules of their own: {retry!r}"
        )
    if error_equals is None:
        raise ConfigError(f"error_equals must name the errors that on={retry.on!r} stands for, not None")
    dropped = {_checks.one_of("each of drop", name, ("budget", "retry_after", "elapsed", "on_result")) for name in drop}
    for name in ("elapsed", "on_result", "budget", "retry_after"):
        value = getattr(retry, name)
        if value is not None and name not in dropped:
            raise ConfigError(
                f"{name} has no counterpart in a Retry block, so it must be None, not {value!r}; "
                f"to leave it out knowingly say drop=[{name!r}]"
            )
    if retry.attempts is None:
        raise ConfigError("attempts must be a number, for MaxAttempts is one, not None")
    attempts = _checks.count("attempts", retry.attempts) - 1
    if attempts > MOST:
        raise ConfigError(f"attempts must be at most {MOST + 1}, not {retry.attempts!r}")
    block = [{"ErrorEquals": error_equals, "MaxAttempts": attempts, **_delays(retry, attempts)}]
    return [retrier.written() for retrier in read(block)]


def _delays(retry: Retry, retries: int) -> dict[str, Any]:
    """The fields that say how long to wait."""
    backoff = retry._backoff
    jitters = {ours: theirs for theirs, ours in JITTER.items()}
    if not isinstance(backoff, (Constant, Exponential)):
        raise ConfigError(f"backoff must be Exponential or Constant, for a Retry block knows no other, not {backoff!r}")
    if backoff.jitter not in jitters:
        raise ConfigError(f"backoff.jitter must be 'none' or 'full', not {backoff.jitter!r}")
    fields: dict[str, Any] = {"JitterStrategy": jitters[backoff.jitter]}
    if isinstance(backoff, Constant):
        return {**fields, "IntervalSeconds": _whole_seconds("backoff.delay", backoff.delay, MOST), "BackoffRate": 1.0}
    fields["IntervalSeconds"] = _whole_seconds("backoff.base", backoff.base, MOST)
    if backoff.cap == backoff.base:  # never grows; MaxDelaySeconds must be greater than IntervalSeconds
        return {**fields, "BackoffRate": 1.0}
    fields["BackoffRate"] = backoff.factor
    if retries and backoff.ceiling(retries) >= backoff.cap:  # else no wait ever reaches it
        fields["MaxDelaySeconds"] = _whole_seconds("backoff.cap", backoff.cap, LONGEST_DELAY)
    return fields


def _whole_seconds(name: str, value: float, most: int) -> int:
    if value != int(value) or not 1 <= value <= most:
        raise ConfigError(f"{name} must be a whole number of seconds from 1 to {most}, not {value!r}")
    return int(value)
