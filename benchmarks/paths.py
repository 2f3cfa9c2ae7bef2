"""The calls that are measured: ours, and the yardsticks they are compared with."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import resilience as rs

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PATHS", "callee", "lock_pair", "wrapped"]


def callee(x: int, timeout: float | None = None) -> int:  # noqa: ARG001 - for policies that hand one over
    """What is called: as little as possible."""
    return x


def _wrapped(fn: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return fn(*args, **kwargs)
        except ConnectionError:
            raise

    return wrapper


wrapped = _wrapped(callee)
"""The first yardstick: the try/except wrapper that one would write by hand."""

_lock = threading.Lock()
_acquire, _release = _lock.acquire, _lock.release


def lock_pair() -> None:
    """The second yardstick: a bare lock, acquired and released, bound beforehand."""
    _acquire()
    _release()


def _retry() -> rs.Retry:
    return rs.Retry(on=ConnectionError)


def _stack(**parts: Any) -> Callable[..., Any]:
    # A rate no benchmark reaches: the path of a token that is there.
    limiter = rs.TokenBucket(1e9, burst=1_000_000)
    policy = rs.Policy(retry=_retry(), breaker=rs.CircuitBreaker(), limiter=limiter, **parts)
    return policy(callee)


PATHS: dict[str, Callable[[], object]] = {}


def _path(name: str, fn: Callable[..., object], *args: object) -> None:
    PATHS[name] = lambda: fn(*args)


bucket = rs.TokenBucket(1e9, burst=1_000_000)
keyed = rs.KeyedTokenBucket(1e9, burst=1_000_000)

_path("bare call", callee, 1)
_path("hand-written wrapper", wrapped, 1)
_path("lock pair", lock_pair)
_path("@Retry", _retry()(callee), 1)
_path("@CircuitBreaker", rs.CircuitBreaker()(callee), 1)
_path("@TokenBucket", rs.TokenBucket(1e9, burst=1_000_000)(callee), 1)
_path("@Bulkhead", rs.Bulkhead(10)(callee), 1)
_path("TokenBucket.try_acquire", bucket.try_acquire)
_path("KeyedTokenBucket.try_acquire", keyed.try_acquire, "key")
_path("retry+breaker+limiter", _stack(), 1)
_path(
    "retry+breaker+limiter+latency", _stack(timeout=rs.PercentileTimeout(0.99, between=(0.01, 1.0), mode="argument")), 1
)
_path("the same with a deadline", _stack(deadline=5.0, timeout=rs.Timeout(1.0, mode="argument")), 1)
