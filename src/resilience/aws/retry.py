"""Retrying calls of AWS clients: the SDKs' standard, botocore's modes to the letter, and our own way.

`AwsRetry` is a `Retry` that reads its numbers off the operation called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import _checks
from .._hooks import log
from ..errors import ConfigError
from ..policies.retry import Retry, Series
from ..policies.retry_budget import RetryBudget
from ._rules import RULES, Numbers, classify
from .kinds import Kind, header, not_taken_effect, retry_after
from .operations import Operation
from .retry_quota import RetryQuota

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping

    from .._runtime import Call
    from .._scope import Limit
    from ..clock import Clock
    from ..events import Retrying

__all__ = ["AwsRetry", "RetryQuota"]

RETRY_AFTER_SPAN = 5.0
"""Seconds beyond its own backoff that the standard lets a server prolong a wait by."""

_ALWAYS, _SAFE = "always", "safe"


class AwsRetry(Retry):
    """Call an AWS operation again by the rules of the AWS SDKs.

    The wait before retry i (from 0, all of a call's retries counted) is random between 0 and
    ``min(cap, base * 2**i)``, with *throttling_base* instead of *base* if the last error was a throttle. Numbers left
    at ``None`` are those of *rules* for the service called.

    Args:
        rules: whose errors and numbers: "sdk" (all that the AWS SDKs repeat, clock skew too, with the numbers of 2.1),
            or to the letter those of botocore's modes: "2.1" (standard since botocore 1.44: 3 attempts, base 50 ms,
            1 s after a throttle; DynamoDB 4 attempts, 25 ms), "2.0" (standard before: 3 attempts, 1 s), "legacy"
            (5 attempts, 1 s, no cap; DynamoDB 10 attempts, 50 ms without jitter).
        repeat: "safe": operations that may not be repeated (see `Operation.is_safe`) are called again only if the last
            request surely did not take effect (see `not_taken_effect`), and so are functions of which no operation is
            known; "always": as botocore does. Or a function that is given the `Operation` and the call's parameters
            and says whether it may be repeated.
        on: errors to repeat besides those of the rules: classes, or a function of the error. *repeat* holds for them
            too.
        attempts: the most attempts, the first included.
        base: seconds, see above.
        throttling_base: seconds; by default that of the rules, or *base* if that is longer or the rules have one base.
        cap: seconds no backoff exceeds; may be infinite.
        retry_after: "clamp": as standard mode does, wait what ``x-amz-retry-after`` says, but no less than the
            backoff and no more than 5 s longer; "minimum": wait what the service asks by any header (see
            `retry_after`) and the backoff on top of it, lest all come back at once; ``None``: ignore it; "default":
            as the rules say ("minimum" for "sdk", "clamp" for "2.1", else ``None``).
        max_retry_after: with "minimum", a service that asks for more than this many seconds is not called again.
        quota: what retries are paid from: a `RetryQuota` or a `RetryBudget`, each of which may be shared; "own": a
            quota for this object, with the costs of the rules (none for "legacy"); "budget": a budget for this object;
            ``None``: none.
        elapsed: seconds after the start of the call from which no further attempt is begun.
        nested, wrap, on_retry, rng, name, shadow, clock: see `Retry`.

    With rules "sdk" and "2.1" an operation that long-polls waits its backoff even when the quota is spent, before its
    error is raised: otherwise its caller, who polls in a loop, would be back at once.

    Raises:
        ConfigError: an argument is out of range.
        TypeError: an argument is of the wrong type.

    Thread-safe. Sources: the AWS SDKs' reference for retry behavior, and botocore's ``retries`` and ``retryhandler``.
    """

    def __init__(
        self,
        *,
        rules: str = "sdk",
        repeat: str | Callable[[Operation, Mapping[str, Any]], bool] = _SAFE,
        on: type[BaseException] | tuple[type[BaseException], ...] | Callable[[Any], bool] | None = None,
        attempts: int | None = None,
        base: float | None = None,
        throttling_base: float | None = None,
        cap: float | None = None,
        retry_after: str | None = "default",
        max_retry_after: float = 60.0,
        quota: RetryQuota | RetryBudget | str | None = "own",
        elapsed: float | None = None,
        nested: bool = False,
        wrap: bool = False,
        on_retry: Callable[[Retrying], object] | None = None,
        rng: random.Random | None = None,
        name: str | None = None,
        shadow: bool = False,
        clock: Clock | None = None,
    ) -> None:
        if isinstance(quota, str):
            _checks.one_of("quota", quota, ("own", "budget"))
        elif quota is not None and not isinstance(quota, (RetryQuota, RetryBudget)):
            raise TypeError(f"quota must be a RetryQuota, a RetryBudget, 'own', 'budget' or None, not {quota!r}")
        super().__init__(
            on=Exception if on is None else on,
            attempts=1 if attempts is None else attempts,  # what it is for a service, the series knows
            elapsed=elapsed,
            retry_after=None,
            max_retry_after=max_retry_after,
            budget=quota if isinstance(quota, RetryBudget) else "own" if quota == "budget" else None,
            nested=nested,
            wrap=wrap,
            on_retry=on_retry,
            rng=rng,
            name=name,
            shadow=shadow,
            clock=clock,
        )
        self.attempts = None if attempts is None else self.attempts
        self.rules = _checks.one_of("rules", rules, tuple(RULES))
        self._rules = RULES[rules]
        self.on = on  # type: ignore[assignment]
        self._more = None if on is None else self._failures
        self.repeat = _checks.one_of("repeat", repeat, (_SAFE, _ALWAYS)) if not callable(repeat) else repeat
        self.base = None if base is None else _checks.seconds("base", base)
        self.throttling_base = None if throttling_base is None else _checks.seconds("throttling_base", throttling_base)
        self.cap = None if cap is None else _checks.seconds("cap", cap, inf=True)
        for argument in ("base", "throttling_base"):
            if self.cap is not None and (getattr(self, argument) or 0) > self.cap:
                raise ConfigError(f"cap must be at least {argument} ({getattr(self, argument):g} s), not {cap!r}")
        self.retry_after = retry_after
        if retry_after is not None:
            _checks.one_of("retry_after", retry_after, ("clamp", "minimum", "default"))
        self._asking = self._rules.retry_after if retry_after == "default" else retry_after
        self.quota = quota
        self._counts["unsafe"] = 0
        self._quota: RetryQuota | None = quota if isinstance(quota, RetryQuota) else None
        if quota == "own" and self._rules.costs is not None:
            cost, throttling, timeout = self._rules.costs
            self._quota = RetryQuota(cost=cost, throttling_cost=throttling, timeout_cost=timeout)

    @property
    def counters(self) -> dict[str, int | float]:
        """Those of `Retry`; the tokens of the quota; errors not repeated as the request may have taken effect."""
        counts = super().counters
        if self._quota is not None:
            counts["quota"] = self._quota.available
        return counts

    def attempts_for(self, operation: Operation | None) -> int:
        """The most attempts a call of *operation* is given."""
        return self.numbers_for(operation).attempts

    def numbers_for(self, operation: Operation | None) -> Numbers:
        """Attempts, bases and cap for a call of *operation*."""
        usual = self._rules.numbers(None if operation is None else operation.service)
        base = usual.base if self.base is None else self.base
        throttling = self.throttling_base
        if throttling is None:
            one = usual.throttling_base == usual.base
            throttling = base if one else max(usual.throttling_base, base)
        attempts = usual.attempts if self.attempts is None else self.attempts
        return Numbers(attempts, base, throttling, usual.cap if self.cap is None else self.cap, usual.jitter)

    def may_repeat(self, operation: Operation | None, params: Mapping[str, Any]) -> bool:
        """Whether a call may be sent again even if its last request may have taken effect."""
        if self.repeat == _ALWAYS:
            return True
        if operation is None:
            return False
        if not callable(self.repeat):
            return operation.is_safe(params)
        try:
            return bool(self.repeat(operation, params))
        except Exception:
            log.exception("repeat=%r failed; taken as no", self.repeat)
            return False

    def spared(self) -> None:
        """A call went well at its first attempt: the quota is given back what it is due."""
        if self._quota is not None:
            self._quota.release()

    def series(
        self, who: str, began: int, limit: Limit | None, *, outer: bool, exact: bool = True, call: Call | None = None
    ) -> Series:
        """The retrying of one call, an `AwsCall`; of a plain `Call` no operation is known."""
        return _AwsSeries(self, who, began, limit, outer=outer, exact=exact, call=call)


class _AwsSeries(Series):
    """The retrying of one call of an AWS operation. Used by one call only, hence without a lock."""

    __slots__ = ("_aws", "_kind", "_numbers", "_operation", "_params", "_taken")

    def __init__(
        self,
        retry: AwsRetry,
        who: str,
        began: int,
        limit: Limit | None,
        *,
        outer: bool,
        exact: bool,
        call: Call | None,
    ) -> None:
        super().__init__(retry, who, began, limit, outer=outer, exact=exact)
        self._aws = retry
        operation = getattr(call, "operation", None)
        self._operation: Operation | None = operation if isinstance(operation, Operation) else None
        self._params: Mapping[str, Any] = {} if call is None else call.kwargs
        self._numbers: Numbers | None = None
        self._kind = Kind.OTHER
        self._taken = 0

    def after_result(self, result: object, now: int) -> float | None:
        """Always ``None``: return *result*. The quota is given back what it is due."""
        if self._aws._quota is not None:
            self._aws._quota.release(self._taken)
        return super().after_result(result, now)

    def _covers(self, error: Exception) -> bool:
        retry = self._aws
        self._kind = classify(retry.rules, error, retry._now.time(), self._operation)
        if self._kind is Kind.OTHER and (retry._more is None or not retry._more.cover(error)):
            return False
        if retry.may_repeat(self._operation, self._params) or not_taken_effect(error):
            return True
        retry._count("unsafe")
        return False

    def _delay(self, error: Exception | None) -> tuple[float | None, str]:
        retry = self._aws
        numbers = self._numbers
        if numbers is None:
            numbers = self._numbers = retry.numbers_for(self._operation)
        if self.number >= numbers.attempts:
            return None, "no attempts left"
        base = numbers.throttling_base if self._kind is Kind.THROTTLING else numbers.base
        delay = min(numbers.cap, base * 2.0 ** min(self.number - 1, 64), _checks.LONGEST)
        if numbers.jitter:
            delay *= retry._random()
        if error is None or retry._asking is None:
            return delay, ""
        if retry._asking == "clamp":
            return _clamped(delay, error), ""
        asked = retry_after(error, retry._now.time())
        if asked is None:
            return delay, ""
        if asked > retry.max_retry_after:
            return None, f"the service asks to wait {asked:g} s"
        return asked + delay, ""

    def _pay(self, error: Exception | None, delay: float) -> bool:
        retry = self._aws
        if retry._quota is None:
            granted = super()._pay(error, delay)
        else:
            taken = retry._quota.acquire(self._kind)
            granted = taken > 0
            if granted:
                self._taken = taken
        if not granted and retry._rules.long_polling and self._operation is not None and self._operation.long_polling:
            self.parting = delay  # the limit lies beyond it, or it would not have come to paying
        return granted


def _clamped(delay: float, error: Exception) -> float:
    """The wait by ``x-amz-retry-after``, held between the backoff and 5 s more. Read as botocore reads it."""
    asked = header(error, "x-amz-retry-after")
    try:
        seconds = int(asked) / 1000
    except (TypeError, ValueError, OverflowError):
        return delay
    return max(delay, min(seconds, delay + RETRY_AFTER_SPAN))  # a negative wish counts for nothing
