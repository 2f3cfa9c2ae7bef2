"""What there is to see: complete, exact, quick, and not to be broken by one bad policy."""

from __future__ import annotations

import json
import os
import platform
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resilience as rs
from dashboard.asking import attempt, full, payments
from resilience.dashboard import snapshot
from resilience.machines.distribution import Distribution
from resilience.testing import VirtualClock


def test_a_snapshot_is_data_for_json_and_says_which_process() -> None:
    """Every part, its settings as they can be pasted, its levels and what they are levels of."""
    registry = rs.Registry()
    policy = full(registry)
    policy.call(lambda timeout: None, 1.0)
    found = json.loads(json.dumps(snapshot(registry), allow_nan=False))
    assert found["version"] == 1
    assert abs(found["time"] - time.time()) < 5
    process = found["process"]
    assert process["pid"] == os.getpid()
    assert process["python"] == platform.python_version()
    assert process["resilience"] == rs.__version__
    assert 0 < process["uptime"] < 1e6
    (shown,) = found["policies"]
    assert shown["name"] == "orders"
    assert shown["parts"] == list(policy.parts)
    assert shown["settings"] == {**{kind: repr(part) for kind, part in policy.parts.items()}, "slo": repr(policy.slo)}
    assert shown["numbers"][""]["succeeded"] == 1
    assert shown["limits"] == {"burst": 30, "queue": 9, "budget": 7.0}
    assert shown["circuit"]["state"] == "closed"
    assert shown["timeout"]["learned"]
    assert shown["timeout"]["basis"] == "initial"
    assert shown["timeout"]["words"].startswith("timeout 2 s")
    assert shown["slo"]["within"] == 0.5
    assert found["events"] == []


@given(st.lists(st.integers(1, 10**11), max_size=60), st.lists(st.integers(1, 10**11), max_size=60))
def test_the_distribution_holds_every_call_once(good: list[int], bad: list[int]) -> None:
    """Rows ascend, add up to all calls, and each holds what is at most its border, to the width of a row."""
    registry = rs.Registry()
    policy = rs.Policy("db", registry=registry)
    policy._plan.stats._good.add(good)
    policy._plan.stats._bad.add(bad)
    told = snapshot(registry)["policies"][0]["latency"]
    uppers = [row[0] for row in told["buckets"]]
    assert uppers == sorted(uppers)
    assert sum(row[1] for row in told["buckets"]) == len(good)
    assert sum(row[2] for row in told["buckets"]) == len(bad)
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        if good:
            exact = Distribution()
            exact.add(good)
            value = exact.quantile(share)
            assert value is not None
            # 4 g are rounded up to the row's end, and its border is written with four digits
            assert value / 1e9 * 0.999 <= told[name] <= value / 1e9 * 1.09 + 1e-8
        else:
            assert told[name] is None


def test_the_circuit_is_told_with_its_time() -> None:
    """The state, for how long, and when there is a chance again."""
    clock, registry = VirtualClock(), rs.Registry()
    policy = payments(registry, clock=clock)
    attempt(policy, 3)
    clock.advance(7.0)
    circuit = snapshot(registry)["policies"][0]["circuit"]
    assert circuit["state"] == "open"
    assert circuit["seconds"] == pytest.approx(7.0)
    assert 30 < circuit["retry_after"] < 80
    assert circuit["states"] == {"open": 1}
    assert circuit["keys"] == []


def test_of_circuits_by_key_those_are_told_that_are_not_closed() -> None:
    """The worst state stands for all of them; and no more than twenty are named."""
    registry = rs.Registry()
    breaker = rs.PerKey(rs.CircuitBreaker(consecutive=1, failure_rate=None), key=str)
    policy = rs.Policy("shards", breaker=breaker, registry=registry)
    for key in range(60):
        breaker[f"shard {key}"].reset()
    for key in range(30):
        breaker[f"shard {key}"].force_open()
    breaker["shard 7"].trip()
    circuit = snapshot(registry)["policies"][0]["circuit"]
    assert circuit["state"] == "open"
    assert circuit["states"] == {"open": 1, "forced_open": 29, "closed": 30}
    assert circuit["keys"][0] == {"key": "shard 7", "state": "open", "seconds": circuit["keys"][0]["seconds"]}
    assert len(circuit["keys"]) == 20
    assert policy.name == "shards"


def test_settings_are_told_only_of_those_that_are_asked_for() -> None:
    """Which is what keeps a thousand policies quick."""
    registry = rs.Registry()
    kept = [full(registry, name) for name in ("a", "b")]
    told = {one["name"]: "settings" in one for one in snapshot(registry, settings=["b", "gone"])["policies"]}
    assert told == {"a": False, "b": True}
    assert len(kept) == 2


def test_a_policy_that_cannot_be_read_is_shown_as_such() -> None:
    """The others are shown all the same; the user's own repr is the user's code."""

    class Odd:
        def __call__(self, error: Exception) -> bool:
            return True

        def __repr__(self) -> str:
            raise RuntimeError("no words")

    registry = rs.Registry()
    kept = [rs.Policy("a", retry=rs.Retry(on=Odd()), registry=registry), payments(registry, "b")]
    bad, good = snapshot(registry)["policies"]
    assert bad == {"name": "a", "parts": [], "error": "RuntimeError: no words"}
    assert good["numbers"][""]["calls"] == 0
    assert len(kept) == 2


def test_the_parts_of_a_policy_by_key_have_their_numbers() -> None:
    """Families of timeouts, bulkheads and limiters are read too."""
    registry = rs.Registry()
    policy = rs.Policy(
        "tenants",
        timeout=rs.PerKey(rs.PercentileTimeout(0.99, between=(0.05, 2.0), mode="argument"), key=str),
        bulkhead=rs.PerKey(rs.Bulkhead(3), key=str),
        limiter=rs.KeyedTokenBucket(5, burst=10),
        registry=registry,
    )
    (shown,) = snapshot(registry)["policies"]
    assert shown["timeout"] == {"learned": True}
    assert shown["numbers"]["timeout"]["most"] == 2.0
    assert policy.name == "tenants"
