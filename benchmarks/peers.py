"""One successful call through this library and through others, in one run.

    python benchmarks/peers.py

Needs the peers: ``pip install -e '.[bench]'``. Each is set up as its own documentation recommends, and does one job
that is asked of ours too; many do more in other places, and ours do. The cases are timed in turn, many short rounds
each, and the best round counts; the ratios mean something, the nanoseconds belong to one machine.
"""

from __future__ import annotations

import platform
import timeit
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import resilience as rs

from paths import callee, lock_pair, wrapped

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 25
SECONDS = 0.004
"""A round lasts about this long, whatever one call costs."""


def cases() -> dict[str, list[tuple[str, Callable[[], object]]]]:
    """The calls by job; the first of each job is ours."""
    import backoff
    import circuitbreaker
    import limits
    import pybreaker
    import pyrate_limiter
    import stamina
    import tenacity

    def on(fn: Any) -> Callable[[], object]:
        return lambda: fn(1)

    many = 1_000_000_000
    fixed = limits.strategies.FixedWindowRateLimiter(limits.storage.MemoryStorage())
    item = limits.RateLimitItemPerSecond(many)
    pyrate = pyrate_limiter.Limiter(pyrate_limiter.Rate(many, pyrate_limiter.Duration.SECOND))
    bucket = rs.TokenBucket(1e9, burst=1_000_000)

    tenacious = tenacity.retry(
        retry=tenacity.retry_if_exception_type(ConnectionError),
        stop=tenacity.stop_after_attempt(3),
        wait=tenacity.wait_random_exponential(0.1),
    )(callee)
    backed_off = backoff.on_exception(backoff.expo, ConnectionError, max_tries=3)(callee)
    typical = tenacity.retry(stop=tenacity.stop_after_attempt(3))(pybreaker.CircuitBreaker()(callee))

    def typical_stack() -> object:
        pyrate.try_acquire("x")
        return typical(1)

    quick = backoff.on_exception(backoff.expo, ConnectionError, max_tries=3)(circuitbreaker.circuit()(callee))

    def quick_stack() -> object:
        fixed.hit(item, "x")
        return quick(1)

    stack = rs.Policy(
        retry=rs.Retry(on=ConnectionError), breaker=rs.CircuitBreaker(), limiter=rs.TokenBucket(1e9, burst=1_000_000)
    )
    return {
        "yardsticks": [
            ("hand-written try/except wrapper", on(wrapped)),
            ("lock acquired and released", lock_pair),
        ],
        "retry": [
            ("resilience @retry", on(rs.retry(on=ConnectionError)(callee))),
            ("backoff", on(backed_off)),
            ("stamina", on(stamina.retry(on=ConnectionError)(callee))),
            ("tenacity", on(tenacious)),
        ],
        "circuit breaker": [
            ("resilience @circuit_breaker", on(rs.circuit_breaker()(callee))),
            ("circuitbreaker (failures in a row only)", on(circuitbreaker.circuit()(callee))),
            ("pybreaker (failures in a row only)", on(pybreaker.CircuitBreaker()(callee))),
        ],
        "rate limiter": [
            ("resilience TokenBucket.try_acquire", bucket.try_acquire),
            ("limits, fixed window", lambda: fixed.hit(item, "x")),
            ("pyrate-limiter", lambda: pyrate.try_acquire("x")),
        ],
        "retry + breaker + limiter": [
            ("resilience Policy", on(stack(callee))),
            ("backoff + circuitbreaker + limits", quick_stack),
            ("tenacity + pybreaker + pyrate-limiter", typical_stack),
        ],
    }


def measure(paths: list[Callable[[], object]]) -> list[float]:
    """Nanoseconds a call of each, the paths taking turns."""
    timers = [timeit.Timer(path) for path in paths]
    calls = [max(10, int(SECONDS / (timer.timeit(200) / 200))) for timer in timers]
    best = [float("inf")] * len(paths)
    for _ in range(ROUNDS):
        for index, timer in enumerate(timers):
            best[index] = min(best[index], timer.timeit(calls[index]) / calls[index])
    return [seconds * 1e9 for seconds in best]


def main() -> None:
    """Measure everything and print it as a table."""
    peers = ("tenacity", "stamina", "backoff", "pybreaker", "circuitbreaker", "limits", "pyrate-limiter")
    print(f"CPython {platform.python_version()}; " + ", ".join(f"{p} {version(p)}" for p in peers))
    print("\n| job | one successful call | ns | times ours |\n|---|---|--:|--:|")
    for job, rows in cases().items():
        ours = None
        for (name, _), ns in zip(rows, measure([path for _, path in rows]), strict=True):
            ours = ours or ns
            times = "" if job == "yardsticks" else f"{ns / ours:.1f}"
            print(f"| {job} | {name} | {ns:.0f} | {times} |")


if __name__ == "__main__":
    main()
