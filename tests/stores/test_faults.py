"""The store is slow, down, read-only, forgetful, or away: calls go on, none waits longer than the store's timeout."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import resilience as rs
from aws.servers import blackhole
from resilience.events import StoreDegraded, StoreRecovered
from resilience.stores import RedisStore, StoreUnavailable
from stores import engines
from stores.wire import Proxy

TIMEOUT = 0.05
GRACE = 0.5
"""Seconds for a machine that is busy with other tests; what the wire is made to do would take longer."""
WAYS = ["delay", "dribble", "mute", "cut", "refuse"]


@pytest.fixture
def proxy(redis_server: engines.Redis) -> Iterator[Proxy]:
    with Proxy(redis_server.port) as proxy:
        yield proxy


def blocking(policy: rs.Policy, times: int) -> list[float]:
    """So many calls one after another; how long each took. What they raise is raised."""
    took = []
    for _ in range(times):
        began = time.monotonic()
        assert policy.call(lambda: "done") == "done"
        took.append(time.monotonic() - began)
    return took


def in_tasks(policy: rs.Policy, times: int) -> list[float]:
    """The same by coroutines of one event loop."""

    async def done() -> str:
        return "done"

    async def main() -> list[float]:
        took = []
        for _ in range(times):
            began = time.monotonic()
            assert await policy.acall(done) == "done"
            took.append(time.monotonic() - began)
        await policy.limiter.aclose()  # type: ignore[union-attr]
        await policy.limiter.store.aclose()  # type: ignore[union-attr]
        return took

    return asyncio.run(main())


@pytest.mark.parametrize("run", [blocking, in_tasks])
@pytest.mark.parametrize("way", WAYS)
def test_no_call_fails_or_waits_because_of_the_wire(
    proxy: Proxy, prefix: str, way: str, run: Callable[[rs.Policy, int], list[float]]
) -> None:
    """Whatever happens to the bytes, fail-open calls all pass; a few wait for the timeout, the rest not at all."""
    with RedisStore(proxy.redis, prefix=prefix, timeout=TIMEOUT) as store:
        bucket = rs.TokenBucket(1, burst=1000, store=store, key="a", on_store_failure="open", lease=0)
        run(rs.Policy(limiter=bucket), 3)
        proxy.way = way
        took = run(rs.Policy(limiter=bucket), 100)
        assert max(took) < TIMEOUT + GRACE
        assert sum(seconds > 0.9 * TIMEOUT for seconds in took) <= 6
        assert store.degraded
        proxy.way = "pass"
        ends = time.monotonic() + 10
        while store.degraded and time.monotonic() < ends:
            run(rs.Policy(limiter=bucket), 1)
            time.sleep(0.02)
        assert not store.degraded


def test_a_connection_that_dribbles_from_the_first_byte_is_given_up_in_time(proxy: Proxy, prefix: str) -> None:
    """The handshake of a new connection is under the same timeout as the exchange."""
    proxy.way = "dribble"
    with RedisStore(proxy.redis.replace("//", "//:secret@"), prefix=prefix, timeout=TIMEOUT) as store:
        bucket = rs.TokenBucket(1, store=store, key="a", on_store_failure="open")
        assert max(blocking(rs.Policy(limiter=bucket), 5)) < TIMEOUT + GRACE


@pytest.mark.parametrize("run", [blocking, in_tasks])
def test_a_host_that_drops_all_packets_is_given_up_in_time(
    prefix: str, run: Callable[[rs.Policy, int], list[float]]
) -> None:
    """Connecting is under the timeout too."""
    with blackhole() as port, RedisStore(f"redis://127.0.0.1:{port}", prefix=prefix, timeout=TIMEOUT) as store:
        bucket = rs.TokenBucket(1, store=store, key="a", on_store_failure="open")
        took = run(rs.Policy(limiter=bucket), 20)
        assert max(took) < TIMEOUT + GRACE
        assert sum(seconds > 0.9 * TIMEOUT for seconds in took) <= 6


def refused(bucket: rs.TokenBucket) -> bool:
    try:
        rs.Policy(limiter=bucket).call(lambda: None)
    except rs.RateLimited:
        return True
    return False


def test_failing_closed_refuses_with_the_error_of_a_limiter(own_redis: engines.Redis, prefix: str) -> None:
    """The caller who asked for it gets RateLimited, that says why; the cause is the store's error to nobody else."""
    with RedisStore(own_redis.url, prefix=prefix, timeout=TIMEOUT) as store:
        bucket = rs.TokenBucket(1000, burst=1000, store=store, key="a", on_store_failure="closed", lease=0)
        assert not refused(bucket)
        with own_redis.paused():
            with pytest.raises(rs.RateLimited, match="store of the shared limit is down"):
                bucket.acquire()
            assert not bucket.try_acquire()


def test_a_local_limiter_takes_over_at_the_share_this_client_had(own_redis: engines.Redis, prefix: str) -> None:
    """With a quarter of the traffic a client goes on at a quarter of the rate, and of the burst."""
    with RedisStore(own_redis.url, prefix=prefix, timeout=TIMEOUT) as store:
        bucket = rs.TokenBucket(20, burst=8, store=store, key="a", lease=0)
        shared = bucket._shared
        assert shared is not None
        shared._lease._share = 0.25
        own_redis.kill()
        assert [bucket.try_acquire() for _ in range(4)] == [True, True, False, False]
        began = time.monotonic()
        for _ in range(3):
            bucket.acquire()
        assert 0.4 < time.monotonic() - began < 1.0
        assert not bucket.try_acquire(3)  # more than its share of the burst
        assert bucket.reserve().delay > 0
        assert bucket.wait_time() == 0.0 and bucket.tokens == 0
        bucket.close()


def test_leased_tokens_are_spent_while_the_store_is_away(own_redis: engines.Redis, prefix: str) -> None:
    """They are this client's already."""
    with RedisStore(own_redis.url, prefix=prefix, timeout=TIMEOUT) as store:
        bucket = rs.TokenBucket(1, burst=10_000, store=store, key="a", on_store_failure="closed", lease=60)
        while bucket.counters["tokens"] < 10:
            assert bucket.try_acquire()
        with own_redis.paused():
            assert all(bucket.try_acquire() for _ in range(int(bucket.counters["tokens"])))
            assert not bucket.try_acquire()


def test_a_restarted_server_begins_anew_and_all_agree_again(own_redis: engines.Redis, prefix: str) -> None:
    """After a restart with an empty memory the bucket is full once more, and it is one bucket for all clients."""
    with (
        RedisStore(own_redis.url, prefix=prefix, timeout=TIMEOUT) as first,
        RedisStore(own_redis.url, prefix=prefix, timeout=TIMEOUT) as second,
    ):
        settings: Any = {"burst": 6, "key": "a", "lease": 0, "on_store_failure": "closed"}
        one = rs.TokenBucket(0.01, store=first, **settings)
        two = rs.TokenBucket(0.01, store=second, **settings)
        assert sum(bucket.try_acquire() for bucket in [one, two] * 6) == 6
        own_redis.kill()
        assert not any(bucket.try_acquire() for bucket in [one, two] * 6)
        own_redis.start()
        granted, ends = 0, time.monotonic() + 3
        while time.monotonic() < ends and (granted < 6 or first.degraded or second.degraded):
            granted += one.try_acquire() + two.try_acquire()
            time.sleep(0.02)
        assert granted == 6
        assert not one.try_acquire() and not two.try_acquire()


def test_loss_and_return_of_a_store_are_told_once_each(own_redis: engines.Redis, prefix: str) -> None:
    """However many calls find it down, there is one event when it is lost, and one when it is back."""
    told: list[rs.Event] = []
    with (
        rs.listen(told.append, (StoreDegraded, StoreRecovered)),
        RedisStore(own_redis.url, prefix=prefix, timeout=TIMEOUT, name="shared state") as store,
    ):
        bucket = rs.TokenBucket(1000, store=store, key="a", on_store_failure="open", lease=0)
        policy = rs.Policy(limiter=bucket)
        with own_redis.paused():
            blocking(policy, 50)
            assert [type(event) for event in told] == [StoreDegraded]
            assert "shared state: the store of shared state is down" in str(told[0])
            time.sleep(1)
            blocking(policy, 5)
        ends = time.monotonic() + 10
        while store.degraded and time.monotonic() < ends:
            policy.call(lambda: None)
            time.sleep(0.02)
        assert [type(event) for event in told] == [StoreDegraded, StoreRecovered]
        assert told[1].data()["seconds"] > 0.5


@pytest.mark.parametrize(
    "command",
    [
        ("REPLICAOF", "127.0.0.1", "1"),  # READONLY, as after a failover
        ("CONFIG", "SET", "maxmemory", "1"),  # OOM
        ("CONFIG", "SET", "requirepass", "x"),  # NOAUTH for new connections
        ("CONFIG", "SET", "min-replicas-to-write", "3"),  # NOREPLICAS
    ],
    ids=lambda command: command[-2],
)
def test_a_server_that_refuses_to_write_is_a_store_that_is_down(
    own_redis: engines.Redis, prefix: str, command: tuple[str, ...]
) -> None:
    """READONLY, OOM and the like reach no caller; the local policy decides, and lasts as long as they do."""
    with RedisStore(own_redis.url, prefix=prefix, timeout=1.0) as store:
        bucket = rs.TokenBucket(1, burst=1000, store=store, key="a", on_store_failure="open", lease=0)
        policy = rs.Policy(limiter=bucket)
        blocking(policy, 1)
        with own_redis.client() as client:
            client.execute_command(*command)
        store.close()  # new connections
        blocking(policy, 20)
        assert store.degraded


def test_a_server_that_forgot_scripts_or_state_is_taught_again(own_redis: engines.Redis, prefix: str) -> None:
    """SCRIPT FLUSH costs nothing but the script's way; FLUSHALL fills the bucket once more. Neither is a failure."""
    with RedisStore(own_redis.url, prefix=prefix, timeout=1.0) as store, own_redis.client() as client:
        bucket = rs.TokenBucket(0.01, burst=2, store=store, key="a", on_store_failure="closed", lease=0)
        assert bucket.try_acquire()
        client.script_flush()
        assert bucket.try_acquire()
        assert not bucket.try_acquire()
        client.flushall()
        time.sleep(0.11)  # a refusal is remembered for a tenth of a second
        assert [bucket.try_acquire() for _ in range(3)] == [True, True, False]
        assert not store.degraded


def test_a_child_process_does_not_spend_what_its_parent_leased(own_redis: engines.Redis, prefix: str) -> None:
    """After a fork (as of gunicorn with preload) the tokens are the parent's; both go on, each on its connections."""
    with RedisStore(own_redis.url, prefix=prefix, timeout=1.0) as store:
        bucket = rs.TokenBucket(0.01, burst=1000, store=store, key="a", on_store_failure="closed", lease=60)
        while bucket.counters["tokens"] < 5:
            bucket.try_acquire()
        held = bucket.counters["tokens"]
        bucket._lock.acquire()  # as another thread might have
        child = os.fork()
        if child == 0:
            try:
                good = bucket._shared.in_hand == 0 and bucket._shared.try_acquire()  # type: ignore[union-attr]
                os._exit(0 if good else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        bucket._lock.release()
        assert bucket.counters["tokens"] == held
        assert bucket.try_acquire()


def test_who_uses_a_store_directly_is_told(own_redis: engines.Redis, prefix: str) -> None:
    """Operators who call ``exchange`` themselves get `StoreUnavailable`; and after a few, at once."""
    from resilience.policies._shared import BUCKET

    with RedisStore(own_redis.url, prefix=prefix, timeout=TIMEOUT) as store, own_redis.paused():
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="Timeout"):
                store.exchange("a", BUCKET, (0, 1, 1, 1, *[0] * 8))
        with pytest.raises(StoreUnavailable, match="is down"):
            store.exchange("a", BUCKET, (0, 1, 1, 1, *[0] * 8))
        with pytest.raises(ValueError, match="safe_key"):
            store.exchange("a}:b", BUCKET, ())


def test_threads_do_not_queue_up_behind_a_store_that_is_slow(proxy: Proxy, prefix: str) -> None:
    """Fifty threads at once wait side by side, for one timeout and not for fifty."""
    from concurrent.futures import ThreadPoolExecutor

    with RedisStore(proxy.redis, prefix=prefix, timeout=0.2) as store:
        bucket = rs.TokenBucket(1, store=store, key="a", on_store_failure="open", lease=0)
        proxy.way = "mute"
        with ThreadPoolExecutor(50) as pool:
            took = list(pool.map(lambda _: max(blocking(rs.Policy(limiter=bucket), 2)), range(50)))
        assert max(took) < 0.2 + 2.0  # fifty timeouts would be ten seconds
