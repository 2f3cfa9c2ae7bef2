"""Combinations that cannot make sense, found when a policy is built or stacked rather than in production."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from .errors import ConfigError, ResilienceWarning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._plan import Plan

__all__ = ["lint", "lint_stack"]


def _warn(message: str, depth: int) -> None:
    warnings.warn(message, ResilienceWarning, stacklevel=depth)


def lint(plan: Plan, depth: int = 4) -> None:
    """Refuse or warn about parts that do not fit together.

    Raises:
        ConfigError: a part could never do what it is there for.
    """
    who = plan.who
    timeout = None if plan.timeout is None or plan.timeout.shadow else plan.timeout.model.most
    deadline = None if plan.deadline is None or plan.deadline.shadow else plan.deadline.seconds
    if timeout is not None and deadline is not None and timeout > deadline:
        raise ConfigError(
            f"{who}: timeout of one attempt ({timeout:g} s) is beyond the deadline of the whole call ({deadline:g} s), "
            "so it could never be the one that ends it"
        )
    if plan.hedge is not None and plan.hedge.quantile is not None:
        if plan.timeout is None or not plan.timeout.model.learns:
            raise ConfigError(
                f"{who}: hedge.quantile ({plan.hedge.quantile:g}) needs a PercentileTimeout in the same policy, whose "
                "samples it follows"
            )
    elif plan.hedge is not None:
        for limit, what in ((timeout, "timeout"), (deadline, "deadline")):
            if limit is not None and plan.hedge.delay is not None and plan.hedge.delay >= limit:
                raise ConfigError(
                    f"{who}: hedge.delay ({plan.hedge.delay:g} s) is not below the {what} ({limit:g} s), "
                    "so no hedge could ever start"
                )
    retry = plan.retry
    elapsed = None if retry is None else retry.elapsed
    if elapsed is not None and deadline is not None and elapsed > deadline:
        _warn(
            f"{who}: retry.elapsed ({elapsed:g} s) is beyond the deadline ({deadline:g} s), which ends the retrying "
            "earlier",
            depth,
        )
    breaker = plan.breaker
    if breaker is not None and timeout is not None:
        slow = getattr(breaker.model, "slow_call", None)
        if isinstance(slow, float) and slow >= timeout:
            _warn(
                f"{who}: breaker.slow_call ({slow:g} s) is not below the timeout ({timeout:g} s): a call is cut before "
                "it is slow",
                depth,
            )


def lint_stack(outer: Plan, inner: Sequence[Plan], depth: int = 4) -> None:
    """The same for a policy that is put over a function which has others already.

    Raises:
        ConfigError: the outer policy could never see what it is there for.
    """
    for plan in inner:
        if outer.retry is not None and plan.retry is not None:
            _warn(
                f"{outer.who} retries what {plan.who} retries already; while {outer.who} is retrying, {plan.who} "
                "stands down (unless nested=True)",
                depth,
            )
        if outer.retry is not None and plan.fallback is not None and plan.fallback.on is Exception:
            raise ConfigError(
                f"{outer.who} retries around the fallback of {plan.who}, which answers every error: no error would "
                "ever reach the retry. Put the fallback outside, or give it on="
            )
        most = None if plan.timeout is None else plan.timeout.model.most
        if outer.deadline is not None and most is not None and most > outer.deadline.seconds:
            _warn(
                f"the timeout of {plan.who} ({most:g} s) is beyond the deadline of {outer.who} "
                f"({outer.deadline.seconds:g} s)",
                depth,
            )
