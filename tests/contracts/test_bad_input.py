"""Every constructor argument that is out of range or of the wrong type is refused, in words that name it.

The table says of each argument what kind of value it takes; the kind says what is bad. An argument without a row fails.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest

import resilience as rs
from resilience import aws
from resilience.stores import MemoryStore

NOT_NUMBERS: list[Any] = ["1", None, [], object(), True, False, 1j]
BAD: dict[str, list[Any]] = {
    "seconds": [*NOT_NUMBERS, math.nan, math.inf, -math.inf, -1, 0, 0.0, -0.001],
    "seconds or 0": [*NOT_NUMBERS, math.nan, math.inf, -math.inf, -1, -0.001],
    "seconds or inf": [*NOT_NUMBERS, math.nan, -math.inf, -1, 0],
    "seconds, 0 or inf": [*NOT_NUMBERS, math.nan, -math.inf, -1],
    "positive": [*NOT_NUMBERS, math.nan, math.inf, -math.inf, -1, 0],
    "at least 1": [*NOT_NUMBERS, math.nan, math.inf, -1, 0, 0.99],
    "count": [*NOT_NUMBERS, math.nan, math.inf, 1.5, 1.0, -1, 0],
    "count or 0": [*NOT_NUMBERS, math.nan, math.inf, 1.5, 1.0, -1],
    "ratio": [*NOT_NUMBERS, math.nan, math.inf, -0.1, 0, 1.1],
    "ratio or 0": [*NOT_NUMBERS, math.nan, math.inf, -0.1, 1.1],
    "open ratio": [*NOT_NUMBERS, math.nan, math.inf, -0.1, 0, 1, 1.1],
    "open ratio or 0": [*NOT_NUMBERS, math.nan, math.inf, -0.1, 1, 1.1],
    "flag": [None, 0, 1, "yes", []],
    "text": [1, True, b"x", "", []],
    "function": [1, "x", [], True],
    "errors": [1, "x", (), [], (1,), (int,), ("x",), KeyboardInterrupt, (ValueError, SystemExit)],
    "mode": [1, "", "cancel", True],
    "jitter": [1, "", "half", True, None],
    "clock": [1, "x", object(), True],
    "rng": [1, "x", object(), True],
    "store": [1, "redis://localhost", object(), True],
    "budget": [1, "x", object(), True],
    "backoff": [True, "x", b"x", object(), math.nan, math.inf, -1, [-1], [math.nan], ["x"], iter([1.0])],
    "between": [1, "ab", (1,), (1, 2, 3), (2, 1), (0, 1), (1, math.inf), ("a", "b"), (True, 2)],
    "template": [1, "x", object()],
    "retry_after": [1, "x", True],
    "repeat": [1, "", "never", True, None],
    "wish": [1, "", "maximum", True],
    "any": [],
    "checked elsewhere": [],
}
OPTIONAL = " or None"

ROWS: dict[type, dict[str, str]] = {
    rs.Constant: {"delay": "seconds or 0", "jitter": "jitter"},
    rs.Linear: {"start": "seconds or 0", "step": "seconds or None", "cap": "seconds", "jitter": "jitter"},
    rs.Exponential: {"base": "seconds", "factor": "at least 1", "cap": "seconds", "jitter": "jitter"},
    rs.RetryBudget: {
        "capacity": "at least 1", "per_success": "ratio or 0", "floor": "seconds or None", "clock": "clock or None",
        "store": "store or None", "key": "text or None",
    },
    rs.Retry: {
        "on": "errors", "attempts": "count or None", "elapsed": "seconds or None", "backoff": "backoff",
        "on_result": "function or None", "retry_after": "retry_after or None", "max_retry_after": "seconds or inf",
        "budget": "budget or None", "nested": "flag", "wrap": "flag", "on_retry": "function or None",
        "rng": "rng or None", "name": "text or None", "shadow": "flag", "clock": "clock or None",
    },
    rs.Timeout: {
        "seconds": "seconds", "mode": "mode or None", "argument": "text", "max_abandoned": "count",
        "name": "text or None", "shadow": "flag", "clock": "clock or None",
    },
    rs.PercentileTimeout: {
        "percentile": "open ratio", "false_timeouts": "open ratio or None", "between": "between",
        "initial": "seconds or None", "padding": "at least 1", "least_padding": "seconds or 0", "window": "seconds",
        "window_samples": "count or None", "max_age": "seconds", "linger": "count or 0",
        "mode": "mode or None", "argument": "text", "max_abandoned": "count", "name": "text or None", "shadow": "flag",
        "clock": "clock or None",
    },
    rs.Deadline: {"seconds": "seconds", "name": "text or None", "shadow": "flag", "clock": "clock or None"},
    rs.CircuitBreaker: {
        "failure_rate": "ratio or None", "minimum": "count", "consecutive": "count or None",
        "slow_rate": "ratio or None",
        "slow_call": "seconds or None", "window_calls": "count or None", "window_seconds": "seconds or None",
        "open_for": "seconds", "max_open": "seconds or None", "growth": "at least 1", "jitter": "open ratio or 0",
        "probes": "count", "probe_timeout": "seconds", "ramp": "seconds or 0", "ramp_start": "ratio", "on": "errors",
        "ignore": "errors or None",
        "on_result": "function or None", "on_change": "function or None", "rng": "rng or None", "name": "text or None",
        "shadow": "flag", "clock": "clock or None",
        "store": "store or None", "key": "text or None", "sync_every": "seconds",
    },
    rs.TokenBucket: {
        "rate": "positive", "per": "seconds", "burst": "count", "max_wait": "seconds, 0 or inf", "name": "text or None",
        "shadow": "flag", "clock": "clock or None", "store": "store or None", "key": "text or None",
        "lease": "seconds or 0", "on_store_failure": "mode",
    },
    rs.AdaptiveTokenBucket: {
        "rate": "positive or None", "rule": "mode", "throttled": "errors", "minimum": "positive",
        "maximum": "positive or None", "increase": "positive or None", "decrease": "open ratio or None",
        "window": "seconds or None", "burst": "count or None", "max_wait": "seconds, 0 or inf",
        "on_change": "function or None", "name": "text or None", "shadow": "flag", "clock": "clock or None",
    },
    rs.KeyedTokenBucket: {
        "rate": "positive", "per": "seconds", "burst": "count", "key": "function or None", "max_keys": "count",
        "max_wait": "seconds, 0 or inf", "name": "text or None", "shadow": "flag", "clock": "clock or None",
        "store": "store or None", "lease": "seconds or 0", "on_store_failure": "mode",
    },
    rs.Bulkhead: {
        "limit": "count", "queue": "count or 0", "max_wait": "seconds or inf", "name": "text or None", "shadow": "flag",
        "clock": "clock or None",
    },
    rs.Hedge: {
        "delay": "seconds", "quantile": "open ratio or None", "extra": "count", "budget": "budget or None",
        "name": "text or None", "shadow": "flag",
        "clock": "clock or None",
    },
    rs.Fallback: {
        "functions": "checked elsewhere", "value": "any", "on": "errors", "name": "text or None", "shadow": "flag",
        "clock": "clock or None",
    },
    rs.PerKey: {"template": "template", "key": "function", "max_keys": "count"},
    aws.RetryQuota: {
        "capacity": "count", "cost": "count", "throttling_cost": "count", "timeout_cost": "count or None",
        "success": "count or 0",
    },
    aws.AwsRetry: {
        "rules": "mode", "repeat": "repeat", "on": "errors or None", "attempts": "count or None",
        "base": "seconds or None", "throttling_base": "seconds or None", "cap": "seconds or inf or None",
        "retry_after": "wish or None", "max_retry_after": "seconds or inf", "quota": "budget or None",
        "elapsed": "seconds or None", "nested": "flag", "wrap": "flag", "on_retry": "function or None",
        "rng": "rng or None", "name": "text or None", "shadow": "flag", "clock": "clock or None",
    },
    rs.Policy: {
        "name": "text or None", "clock": "clock or None", "registry": "checked elsewhere",
        "timeout": "seconds or None", "deadline": "seconds or None", "retry": "function or None",
        "hedge": "function or None", "breaker": "function or None", "limiter": "function or None",
        "bulkhead": "function or None", "fallback": "function or None", "slo": "open ratio or None",
    },
    rs.SLO: {
        "objective": "open ratio", "within": "seconds or None", "window": "seconds", "shed_above": "positive or None",
        "resume_below": "positive or None", "minimum_bad": "count", "spans": "checked elsewhere",
    },
}  # fmt: skip
GOOD: dict[type, dict[str, Any]] = {
    rs.Constant: {"delay": 1}, rs.Linear: {"start": 1}, rs.Exponential: {"base": 1}, rs.RetryBudget: {},
    rs.Retry: {"on": ValueError}, rs.Timeout: {"seconds": 1}, rs.Deadline: {"seconds": 1}, rs.CircuitBreaker: {},
    rs.PercentileTimeout: {"percentile": 0.9, "between": (0.1, 1)}, rs.TokenBucket: {"rate": 1},
    rs.AdaptiveTokenBucket: {}, rs.KeyedTokenBucket: {"rate": 1}, rs.Bulkhead: {"limit": 1}, rs.Hedge: {"delay": 1},
    rs.Fallback: {"value": 1},
    rs.PerKey: {"template": rs.CircuitBreaker(), "key": hash}, rs.Policy: {},
    rs.SLO: {"objective": 0.9}, aws.RetryQuota: {}, aws.AwsRetry: {},
}  # fmt: skip
CASES = [(kind, name) for kind, row in ROWS.items() for name in row]


@pytest.mark.parametrize(("kind", "name"), CASES, ids=lambda value: getattr(value, "__name__", value))
def test_bad_values_are_refused_by_name(kind: type, name: str) -> None:
    """A TypeError or ValueError that names the argument and shows the value; and nothing is made."""
    row = ROWS[kind][name]
    for value in BAD[row.removesuffix(OPTIONAL)]:
        if value is None and row.endswith(OPTIONAL):
            continue
        with pytest.raises((TypeError, ValueError)) as caught:
            kind(**{**GOOD[kind], name: value})
        message = str(caught.value)
        assert name in message, (value, message)
        if not isinstance(value, (tuple, list)):
            assert repr(value) in message, (value, message)


@pytest.mark.parametrize("kind", ROWS, ids=lambda kind: kind.__name__)
def test_every_argument_has_a_row(kind: type) -> None:
    """A new argument comes with its bad values."""
    assert set(inspect.signature(kind).parameters) == set(ROWS[kind])
    assert kind(**GOOD[kind])


def test_every_public_class_that_is_configured_has_rows() -> None:
    """Classes without a row are the ones that users do not make, or that take no settings."""
    made_by_others = {
        rs.Attempt, rs.Explanation, rs.RateChange, rs.Reservation, rs.Retrying, rs.State, rs.Transition, rs.Clock,
        rs.Backoff, rs.Registry, rs.Event, rs.Listening, rs.ServiceLevelReading,
    }  # fmt: skip
    classes = {thing for thing in vars(rs).values() if inspect.isclass(thing) and not issubclass(thing, BaseException)}
    assert classes - made_by_others == {kind for kind in ROWS if kind.__module__.split(".")[1] != "aws"}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: rs.Retry(on=ValueError, attempts=None), "elapsed"),
        (lambda: rs.Linear(0), "step"),
        (lambda: rs.Exponential(10, cap=1), "cap"),
        (lambda: rs.Constant(1, jitter="decorrelated"), "Exponential"),
        (lambda: rs.CircuitBreaker(failure_rate=None), "nothing could open"),
        (lambda: rs.CircuitBreaker(slow_rate=0.5), "slow_call"),
        (lambda: rs.CircuitBreaker(window_calls=5, window_seconds=5), "exclude"),
        (lambda: rs.CircuitBreaker(window_calls=5, minimum=6), "minimum"),
        (lambda: rs.CircuitBreaker(open_for=5, max_open=1), "max_open"),
        (lambda: rs.CircuitBreaker(store=MemoryStore()), "key= or name="),
        (lambda: rs.CircuitBreaker(key="a"), "there is none"),
        (lambda: rs.CircuitBreaker(window_calls=50, store=MemoryStore(), key="a"), "window_calls cannot be shared"),
        (lambda: rs.CircuitBreaker(probe_timeout=4e7, store=MemoryStore(), key="a"), "366 days"),
        (lambda: rs.TokenBucket(1, store=MemoryStore()), "key= or name="),
        (lambda: rs.TokenBucket(1, key="a"), "there is none"),
        (lambda: rs.TokenBucket(1, lease=61), "lease"),
        (lambda: rs.TokenBucket(1 / 3, burst=1000, store=MemoryStore(), key="a"), "fewer digits"),
        (lambda: rs.TokenBucket(1, store=MemoryStore(), key="a").set_rate(2), "shared"),
        (lambda: rs.RetryBudget(store=MemoryStore()), "key="),
        (lambda: rs.RetryBudget(2.5, store=MemoryStore(), key="a"), "whole number"),
        (lambda: rs.RetryBudget(floor=1 / 3, store=MemoryStore(), key="a"), "fewer digits"),
        (rs.Fallback, "value="),
        (lambda: rs.Fallback(1), "functions"),  # type: ignore[arg-type]
        (lambda: rs.PercentileTimeout(0.9, between=(1, 2), initial=3), "initial"),
        (lambda: rs.PerKey(rs.TokenBucket(1), key=hash), "KeyedTokenBucket"),  # type: ignore[type-var]
        (lambda: rs.TokenBucket(1, burst=2).try_acquire(3), "burst"),
        (lambda: rs.TokenBucket(1, burst=2).try_acquire(0), "n "),
        (lambda: rs.TokenBucket(1, burst=2).acquire(timeout=-1), "timeout"),
        (lambda: rs.Policy(timeout=2, deadline=1), "deadline"),
        (lambda: rs.Policy(hedge=rs.Hedge(1), timeout=1), "hedge"),
        (lambda: rs.Policy(hedge=rs.Hedge(1), deadline=1), "hedge"),
        (lambda: rs.Policy(hedge=rs.Hedge(quantile=0.9), timeout=1), "needs a PercentileTimeout"),
        (lambda: rs.Hedge(quantile=0.9)(hash), "needs a PercentileTimeout"),
        (lambda: rs.Hedge(1.0, quantile=0.9), "one of delay and quantile"),
        (lambda: rs.PercentileTimeout(0.9, false_timeouts=0.1, between=(1, 2)), "one of percentile and false_timeouts"),
        (lambda: rs.PercentileTimeout(0.9, between=(1, 2), window=1e-9), "window"),
        (lambda: rs.PercentileTimeout(0.9, between=(1, 2), window=60, max_age=30), "max_age"),
        (lambda: rs.Policy(retry=rs.TokenBucket(1)), "retry"),  # type: ignore[arg-type]
        (lambda: rs.CircuitBreaker(window_seconds=1e-10), "window_seconds"),
        (lambda: rs.CircuitBreaker(probe_timeout=1e-10), "probe_timeout"),
        (lambda: rs.RetryBudget(1e308), "capacity"),
        (lambda: rs.RetryBudget(per_success=0.0004), "per_success"),
        (lambda: rs.RetryBudget(floor=1e-10), "floor"),
        (lambda: rs.Timeout(1e300), "seconds"),
        (lambda: rs.Retry(on=ValueError, backoff=1e300), "backoff"),
        (lambda: rs.override(nonsense=1), "nonsense"),
        (lambda: rs.override(retry=1), "retry"),
        (lambda: rs.Policy().override(retry=None), "no retry"),
    ],
)
def test_settings_that_cannot_work_together_are_refused(make: Any, words: str) -> None:
    """The message says which ones, and often what to do instead."""
    with pytest.raises((ValueError, TypeError), match=words):
        make()
