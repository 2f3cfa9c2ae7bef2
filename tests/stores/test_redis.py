"""What is special about Redis: how it is reached, who may, and what a cluster does."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

import resilience as rs
from aws.certificates import Certificate
from resilience.machines.shared_bucket import Ask
from resilience.policies._shared import BUCKET
from resilience.stores import RedisStore, StoreUnavailable
from stores import engines
from stores.conftest import needs

ASK = Ask(0, 10**9, 1, 1000, n=1)  # slow to fill


def works(store: RedisStore) -> bool:
    """Both in a thread and under asyncio."""

    async def main() -> bool:
        async with store:
            return bool((await store.aexchange("a", BUCKET, ASK))[0])

    with store:
        return bool(store.exchange("a", BUCKET, ASK)[0]) and asyncio.run(main())


def test_a_client_of_redis_py_is_taken_as_an_example(redis_server: engines.Redis, prefix: str) -> None:
    """Blocking or asyncio, with whatever decoding: its address is used, its connections are not."""
    clients: list[Any] = [
        redis.Redis(port=redis_server.port, db=3, decode_responses=True, socket_timeout=99),
        redis.Redis(port=redis_server.port, protocol=3),
        redis.asyncio.Redis(port=redis_server.port, db=3),
    ]
    for client in clients:
        assert works(RedisStore(client, prefix=prefix, timeout=5.0))
        assert not client.connection_pool._available_connections
    with redis_server.client(db=3) as client:
        assert client.keys("*") == [f"{prefix}:{{a}}:bucket:1"]


def test_tls_users_and_passwords_pass_through(tmp_path: Path, prefix: str) -> None:
    """``rediss://user:password@``: the certificate is checked, and who is not let in is a store that is down."""
    made = Certificate.made(tmp_path)
    port = engines.free_port()
    tls = ["--tls-port", str(port), "--tls-cert-file", made.cert, "--tls-key-file", made.key]
    options = [*tls, "--tls-ca-cert-file", made.cert, "--tls-auth-clients", "no"]
    with engines.running(needs("redis-server"), *options) as server:
        with server.client() as client:
            client.execute_command(
                "ACL", "SETUSER", "limiter", "on", ">pass word", f"~{prefix}:*", "+eval", "+evalsha", "+get", "+set",
                "+del", "+time", "&*", "+ping", "+client",
            )  # fmt: skip
        good = f"rediss://limiter:pass%20word@127.0.0.1:{port}?ssl_ca_certs={made.cert}"
        assert works(RedisStore(good, prefix=prefix, timeout=5.0))
        for bad in (good.replace("pass%20", "wrong"), f"rediss://limiter:pass%20word@127.0.0.1:{port}"):
            with RedisStore(bad, prefix=prefix, timeout=5.0) as store, pytest.raises(StoreUnavailable) as refused:
                store.exchange("a", BUCKET, ASK)
            assert "pass word" not in str(refused.value)


def test_a_unix_socket_can_be_used(tmp_path: Path, prefix: str) -> None:
    """``unix://`` takes a path."""
    with engines.running(needs("redis-server"), "--unixsocket", str(tmp_path / "r.sock")):
        assert works(RedisStore(f"unix://{tmp_path / 'r.sock'}", prefix=prefix, timeout=5.0))


@pytest.mark.parametrize("prefix", ["", "a:b", "a b", "{a}", "ä", "a*"])
def test_a_prefix_that_could_be_mistaken_is_refused(prefix: str) -> None:
    """It must not make keys that another prefix makes too, or match patterns."""
    with pytest.raises(ValueError, match="prefix"):
        RedisStore("redis://localhost", prefix=prefix)


@pytest.mark.parametrize("at", [1, None, object(), b"redis://localhost"])
def test_what_is_no_address_is_refused(at: Any) -> None:
    """With its value."""
    with pytest.raises(TypeError, match="URL"):
        RedisStore(at)


def test_stores_of_two_prefixes_share_nothing(redis_server: engines.Redis, prefix: str) -> None:
    """Nor do they see each other; also where one prefix begins with the other."""
    one = RedisStore(redis_server.url, prefix=prefix + "x", timeout=5.0)
    two = RedisStore(redis_server.url, prefix=prefix + "x.y", timeout=5.0)
    with one, two:
        one.exchange("a", BUCKET, ASK)
        assert two.exchange("a", BUCKET, ASK)[4] == 1
        assert [len(list(store.survey())) for store in (one, two)] == [1, 1]


@pytest.mark.parametrize("cluster", [False, True])
def test_closing_leaves_no_connection(request: pytest.FixtureRequest, prefix: str, *, cluster: bool) -> None:
    """The servers see none of a closed store's, whether it was used by threads, by an event loop, or by both."""
    nodes = request.getfixturevalue("redis_cluster") if cluster else [request.getfixturevalue("redis_server")]

    def connected() -> int:
        return sum(len(node.ask("CLIENT LIST")) for node in nodes)

    before = connected()
    with RedisStore(nodes[0].url, cluster=cluster, prefix=prefix, timeout=5.0) as store:

        async def some() -> None:
            async with store:
                for i in range(10):
                    await store.aexchange(f"key{i}", BUCKET, ASK)

        asyncio.run(some())
        for i in range(10):
            store.exchange(f"key{i}", BUCKET, ASK)
        assert connected() > before
    engines.wait_for(lambda: connected() <= before, 5.0)


def test_closing_breaks_off_no_exchange_of_another_thread(own_redis: engines.Redis, prefix: str) -> None:
    """It is answered, and its connection is closed then."""
    with ThreadPoolExecutor(1) as pool, RedisStore(own_redis.url, prefix=prefix, timeout=10.0) as store:
        store.exchange("a", BUCKET, ASK)
        with own_redis.paused():
            under_way = pool.submit(store.exchange, "a", BUCKET, ASK)
            time.sleep(0.2)
            store.close()
        assert under_way.result()[0]
    engines.wait_for(lambda: len(own_redis.ask("CLIENT LIST")) == 1, 5.0)


def test_a_key_has_one_hash_tag(redis_cluster: list[engines.Redis], prefix: str) -> None:
    """So that all of a limiter is in one slot, and limiters are spread over the nodes of a cluster."""
    with RedisStore(redis_cluster[1].url, cluster=True, prefix=prefix, timeout=5.0) as store:
        for i in range(30):
            store.exchange(f"key{i}", BUCKET, ASK)
        sizes = []
        for node in redis_cluster:
            with node.client() as client:
                sizes.append(len(client.keys(f"{prefix}:*")))
    assert sum(sizes) == 30 and all(sizes)


def test_a_slot_that_moves_is_followed(redis_cluster: list[engines.Redis], prefix: str) -> None:
    """MOVED costs another trip, and no failure."""
    with RedisStore(redis_cluster[0].url, cluster=True, prefix=prefix, timeout=5.0) as store:
        bucket = rs.TokenBucket(0.01, burst=3, store=store, key="a", on_store_failure="closed", lease=0)
        assert bucket.try_acquire()
        name = f"{prefix}:{{a}}:bucket:1"
        clients: list[Any] = [node.client() for node in redis_cluster]
        slot = clients[0].execute_command("CLUSTER KEYSLOT", name)
        source = next(client for client in clients if client.execute_command("CLUSTER COUNTKEYSINSLOT", slot))
        target = next(client for client in clients if client is not source)
        port = target.connection_pool.connection_kwargs["port"]
        mine, other = (client.execute_command("CLUSTER MYID") for client in (source, target))
        target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", mine)
        source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", other)
        source.execute_command("MIGRATE", "127.0.0.1", port, name, 0, 5000)
        assert bucket.try_acquire()  # ASK
        for client in clients:
            client.execute_command("CLUSTER SETSLOT", slot, "NODE", other)
        assert bucket.try_acquire()  # MOVED
        assert not bucket.try_acquire()
        assert not store.degraded
        for client in clients:
            client.close()


def test_state_is_plain_numbers(redis_store: RedisStore, redis_server: engines.Redis) -> None:
    """Nothing that is stored is ever run or unpickled: whole numbers with spaces between."""
    redis_store.exchange("a", BUCKET, ASK)
    with redis_server.client() as client:
        value = client.get(f"{redis_store.prefix}:{{a}}:bucket:1")
    assert isinstance(value, str)
    assert all(number.lstrip("-").isdigit() for number in value.split())
