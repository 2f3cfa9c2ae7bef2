"""What a token of a shared limiter costs: leased, and asked for; beside other libraries on the same Redis.

    python -m pytest benchmarks/test_stores.py -s -q

Needs ``redis-server``; the peers (``pip install -e '.[bench]'``) are left out, with a word, where they are missing.
The calls are timed in turn, one of each at a time, so that a busy neighbour disturbs all alike; ratios are of the lower
quartiles. A goal that is missed is measured again, some moments later, before it counts as missed.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis

import resilience as rs
from resilience.policies._shared import BUCKET
from resilience.stores import RedisStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytest.importorskip("stores.engines")

ROUNDS = 3000
LEASED = 50
"""A leased token is at least so many times cheaper than a round trip."""
ASKED = 1.3
"""One that is asked for costs at most so many times a bare EVALSHA."""
NOISE = 1.25
"""What two processes on two busy cores may add to that."""
RATE = 1_000_000


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    from stores import engines

    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("NOT MEASURED: redis-server is not installed")
    with engines.running(program) as server:
        yield server.url


def measure(paths: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Microseconds that each takes, as the lower quartile of calls made in turn."""
    clock = time.perf_counter
    took: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(rounds):
        for name, path in paths.items():
            began = clock()
            path()
            took[name].append(clock() - began)
    return {name: sorted(found)[rounds // 4] * 1e6 for name, found in took.items()}


def bare(store: RedisStore, client: Any) -> Callable[[], object]:
    """The limiter's own script, sent by redis-py and nothing else."""
    _, digest = store._script(BUCKET)
    bucket = rs.TokenBucket(RATE, burst=RATE, store=store, key="bare", lease=0)
    assert bucket.try_acquire()
    assert bucket._shared is not None
    text = " ".join(map(str, (0, *bucket._shared._lease.scale, 1, 0, 0, 0, 0, 0, 0, 0)))
    return lambda: client.evalsha(digest, 1, "resilience:{bare}:bucket:1", text)


def test_a_token_that_is_asked_for_costs_little_more_than_the_round_trip(url: str) -> None:
    """Timeout, breaker, lease and words around a bare EVALSHA: at most 1.3 times as much."""
    with RedisStore(url, timeout=1.0) as store, redis.Redis.from_url(url) as client:
        asked = rs.TokenBucket(RATE, burst=RATE, store=store, key="asked", lease=0)
        paths = {"asked": asked.try_acquire, "bare EVALSHA": bare(store, client)}
        for _ in range(10):
            found = measure(paths)
            ratio = found["asked"] / found["bare EVALSHA"]
            if ratio <= ASKED * NOISE:
                break
            time.sleep(1.0)
    print(f"\nasked for: {found['asked']:.1f} us, {ratio:.2f} times a bare EVALSHA, at most {ASKED}")
    assert ratio <= ASKED * NOISE


def leased(store: RedisStore) -> tuple[float, int]:
    """Microseconds of a token that is leased, at best of many short rounds; and how many there were in a lease."""
    bucket = rs.TokenBucket(10 * RATE, burst=10 * RATE, store=store, key="leased")
    best, size = float("inf"), 0
    for _ in range(200):
        while bucket.counters["tokens"] < 1000:
            bucket.try_acquire()
        size = max(size, int(bucket.counters["tokens"]))
        began = time.perf_counter()
        for _ in range(500):
            bucket.try_acquire()
        best = min(best, (time.perf_counter() - began) / 500 * 1e6)
    bucket.close()
    return best, size


def test_a_leased_token_is_far_cheaper_than_a_round_trip(url: str) -> None:
    """At least fifty times."""
    with RedisStore(url, timeout=1.0) as store, redis.Redis.from_url(url) as client:
        trip = bare(store, client)
        for _ in range(10):
            token, size = leased(store)
            ratio = measure({"": trip})[""] / token
            if ratio >= LEASED:
                break
            time.sleep(1.0)
    print(f"\nleased: {token:.2f} us, a {ratio:.0f}th of a round trip, at least {LEASED}; up to {size} in a lease")
    assert ratio >= LEASED


def test_with_all_that_leases_cost_a_busy_client_still_gains(url: str) -> None:
    """Over a second of hammering, exchanges and all: a tenth of a round trip, or a fifth on a busy machine."""
    with RedisStore(url, timeout=1.0) as store, redis.Redis.from_url(url) as client:
        trip = measure({"": bare(store, client)})[""]
        bucket = rs.TokenBucket(10 * RATE, burst=10 * RATE, store=store, key="busy")
        began, tokens = time.perf_counter(), 0
        while time.perf_counter() - began < 1.0:
            tokens += bucket.try_acquire()
        each = 1e6 / tokens
    print(f"\nhammering for a second: {each:.2f} us a token, exchanges included; a round trip {trip:.1f} us")
    assert each < trip / 5


def peers(url: str, client: Any) -> Iterator[tuple[str, Callable[[], object]]]:
    """A token of others' limiters, on the same server, by their own documentation."""
    with contextlib.suppress(ImportError):
        import limits

        limiter = limits.strategies.SlidingWindowCounterRateLimiter(limits.storage.RedisStorage(url))
        item = limits.RateLimitItemPerSecond(RATE)
        yield "limits, sliding window counter", lambda: limiter.hit(item, "peer")
        fixed = limits.strategies.FixedWindowRateLimiter(limits.storage.RedisStorage(url))
        yield "limits, fixed window", lambda: fixed.hit(item, "fixed")
    with contextlib.suppress(ImportError):
        import pyrate_limiter

        rates = [pyrate_limiter.Rate(10_000, pyrate_limiter.Duration.SECOND)]
        paced = pyrate_limiter.Limiter(pyrate_limiter.RedisBucket.init(rates, client, "pyrate"))
        yield "pyrate-limiter", lambda: paced.try_acquire("peer", blocking=False)
    with contextlib.suppress(ImportError):
        import throttled

        throttle = throttled.Throttled(
            key="peer", using=throttled.RateLimiterType.GCRA.value, quota=throttled.per_sec(RATE, burst=RATE),
            store=throttled.RedisStore(server=url),
        )  # fmt: skip
        yield "throttled-py, GCRA", throttle.limit


def test_beside_others_on_the_same_server(url: str) -> None:
    """No goal but the picture: what one token costs with each, all in the same run."""
    with RedisStore(url, timeout=1.0) as store, redis.Redis.from_url(url) as client:
        asked = rs.TokenBucket(RATE, burst=RATE, store=store, key="asked", lease=0)
        paths = {"bare EVALSHA": bare(store, client), "ours, asked for": asked.try_acquire, **dict(peers(url, client))}
        found = measure(paths, 1500)
        token, _ = leased(store)
    found["ours, leased"] = token
    print()
    for name, micros in sorted(found.items(), key=lambda pair: pair[1]):
        print(f"{name:32} {micros:8.2f} us  {micros / found['bare EVALSHA']:6.2f} times a bare EVALSHA")
    assert found["ours, leased"] < found["ours, asked for"]
