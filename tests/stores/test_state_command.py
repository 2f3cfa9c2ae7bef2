"""`resilience state`: what an operator sees of a real Redis, and can do to it."""

from __future__ import annotations

import json
from typing import Any

import pytest

import resilience as rs
from resilience.__main__ import main
from resilience.stores import RedisStore
from resilience.stores.command import _without_password
from stores import engines

Capture = pytest.CaptureFixture[str]


def settings(store: RedisStore, key: str) -> dict[str, Any]:
    return {"store": store, "key": key, "sync_every": 0.001, "open_for": 60.0, "consecutive": 2, "jitter": 0.0}


def good() -> None:
    """A call that goes well."""


def bad() -> None:
    raise OSError


@pytest.fixture
def used(redis_store: RedisStore) -> dict[str, rs.CircuitBreaker]:
    """Two breakers, one of them open, and a limiter; as a fleet would leave them."""
    breakers = {name: rs.CircuitBreaker(**settings(redis_store, name)) for name in ("ledger", "pay ments/1")}
    for breaker in breakers.values():
        breaker.call(good)
    for _ in range(2):
        with pytest.raises(OSError):
            breakers["ledger"].call(bad)
    assert rs.TokenBucket(1, burst=10, store=redis_store, key="quota", lease=0).try_acquire()
    return breakers


def seen(store: RedisStore, redis_server: engines.Redis, capsys: Capture, *options: str) -> str:
    assert main(["state", redis_server.url, "--prefix", store.prefix, *options]) == 0
    return capsys.readouterr().out


def test_a_table_shows_what_is_shared(
    used: dict[str, rs.CircuitBreaker], redis_store: RedisStore, redis_server: engines.Redis, capsys: Capture
) -> None:
    """Names as they were given, states, windows and levels, one a line."""
    lines = seen(redis_store, redis_server, capsys).splitlines()
    assert [line.split("  ")[0] for line in lines] == ["KIND", "breaker", "breaker", "limiter"]
    assert "ledger" in lines[1]
    assert " open " in lines[1]
    assert "a probe in" in lines[1]
    assert "pay ments/1" in lines[2]
    assert "closed" in lines[2]
    assert "9 tokens" in lines[3]


def test_json_shows_the_same_to_programs(
    used: dict[str, rs.CircuitBreaker], redis_store: RedisStore, redis_server: engines.Redis, capsys: Capture
) -> None:
    """Numbers are numbers, durations are seconds."""
    rows = {row["name"]: row for row in json.loads(seen(redis_store, redis_server, capsys, "--json"))}
    assert rows.keys() == {"ledger", "pay ments/1", "quota"}
    assert rows["ledger"]["state"] == "open"
    assert 55 < rows["ledger"]["wait"] <= 60
    assert rows["quota"] == {
        "kind": "limiter", "name": "quota", "key": "quota", "tokens": 9, "leased": 0, "total": 1,
    }  # fmt: skip


def test_a_breaker_is_forced_open_and_reset_for_all(
    used: dict[str, rs.CircuitBreaker], redis_store: RedisStore, redis_server: engines.Redis, capsys: Capture
) -> None:
    """Each process follows at its next exchange."""
    assert "forced-open" in seen(redis_store, redis_server, capsys, "--force-open", "pay ments/1")
    engines.wait_for(lambda: _refused(used["pay ments/1"]), 5.0)
    assert used["pay ments/1"].state is rs.State.FORCED_OPEN
    assert "closed" in seen(redis_store, redis_server, capsys, "--reset", "pay ments/1")
    engines.wait_for(lambda: not _refused(used["pay ments/1"]), 5.0)
    assert _refused(used["ledger"])


def _refused(breaker: rs.CircuitBreaker) -> bool:
    try:
        breaker.call(good)
    except rs.CircuitOpen:
        return True
    return False


def test_a_breaker_can_be_forced_open_before_anybody_used_it(
    redis_store: RedisStore, redis_server: engines.Redis, capsys: Capture
) -> None:
    """A switch may be thrown before the fleet comes up; but what is not there cannot be reset."""
    assert main(["state", redis_server.url, "--prefix", redis_store.prefix, "--reset", "new one"]) == 1
    assert "no breaker 'new one'" in capsys.readouterr().err
    seen(redis_store, redis_server, capsys, "--force-open", "new one")
    assert _refused(rs.CircuitBreaker(**settings(redis_store, "new one")))


def test_the_server_is_scanned_and_never_asked_for_all_its_keys(own_redis: engines.Redis, capsys: Capture) -> None:
    """KEYS would hold up everybody else; other programs' keys are not read."""
    with RedisStore(own_redis.url, timeout=5.0) as store, own_redis.client() as client:
        rs.CircuitBreaker(**settings(store, "a")).call(good)
        client.set("somebody:else", "1")
        client.config_resetstat()
        assert main(["state", own_redis.url]) == 0
        commands: Any = client.info("commandstats")
    assert "cmdstat_keys" not in commands
    assert commands["cmdstat_scan"]["calls"] >= 1
    assert commands["cmdstat_get"]["calls"] == 1
    assert "somebody" not in capsys.readouterr().out


@pytest.mark.parametrize("password", ["secret", "se%40cr%2Fet"])
def test_a_password_is_not_shown(capsys: Capture, password: str) -> None:
    """Neither as it was written nor as it is meant, when the server cannot be reached or the address is wrong."""
    port = engines.free_port()
    assert main(["state", f"redis://me:{password}@127.0.0.1:{port}", "--timeout", "0.2"]) == 1
    assert main(["state", f"http://me:{password}@127.0.0.1:{port}"]) == 2
    said = capsys.readouterr().err
    assert "127.0.0.1" in said
    assert password not in said
    assert "se@cr/et" not in said
    assert password not in _without_password(f"redis://:{password}@[::1", f"redis://:{password}@[::1")


def test_nothing_is_said_of_an_empty_server(own_redis: engines.Redis, capsys: Capture) -> None:
    """But that."""
    assert main(["state", own_redis.url]) == 0
    assert capsys.readouterr().out == "nothing stored\n"
