from __future__ import annotations

import random
import time
from typing import Any

import pytest

import resilience as rs
from aws.awsretry import OK, Bench, Fixed, OneCall, failed, operation
from resilience import registry
from resilience._runtime import Blocking, drive
from resilience._story import tell
from resilience.aws.kinds import Kind
from resilience.aws.presets import recommended, standard, standard_policy
from resilience.aws.retry import AwsRetry
from resilience.aws.retry_quota import RetryQuota
from resilience.testing import VirtualClock

E503, SLOW = failed(None, 503), failed("SlowDown", 503)


def run(policy: rs.Policy, clock: VirtualClock, outcomes: list[Any]) -> Any:
    try:
        return drive(tell(policy._plan, Blocking(clock), OneCall(operation(), outcomes, {})))
    except Exception as error:
        return error


def test_standard() -> None:
    """The presets are botocore's modes: everything is repeated, paid from a quota of their own."""
    assert (standard().rules, standard().repeat) == ("2.1", "always")
    assert standard("legacy")._quota is None
    for version, costs in (("2.1", [14, 5, 14]), ("2.0", [5, 5, 10])):
        quota = standard(version)._quota
        assert quota is not None and quota.capacity == 500
        assert [quota.cost_of(kind) for kind in (Kind.TRANSIENT, Kind.THROTTLING, Kind.TIMEOUT)] == costs
    first, second = standard(), standard()
    assert first._quota is not second._quota is not None
    shared = RetryQuota()
    assert standard(quota=shared)._quota is shared
    with pytest.raises(rs.ConfigError, match="version"):
        standard("sdk")
    with pytest.raises(TypeError):
        standard(colour="blue")


def test_standard_policy() -> None:
    """A policy with botocore's retrying and nothing else, entered nowhere."""
    policy = standard_policy("2.0", name="as before", attempts=5)
    assert list(policy.parts) == ["retry"] and policy not in list(registry)
    assert policy.retry is not None and policy.retry.attempts == 5


def test_recommended_parts() -> None:
    """All parts are there by default; each can be left out; nothing is registered."""
    policy = recommended("tables")
    assert set(policy.parts) == {"deadline", "retry", "breaker", "bulkhead", "timeout"}
    assert set(recommended(rate=100).parts) - set(policy.parts) == {"limiter"}
    assert policy not in list(registry)
    bare = recommended(deadline=None, timeout=None, failure_rate=None, concurrency=None)
    assert list(bare.parts) == ["retry"]


def test_recommended_timeouts_fit_the_deadline() -> None:
    """Three attempts of the longest timeout fit into any deadline."""
    for deadline, bounds in ((15, (0.5, 5)), (3.0, (0.5, 1.0)), (0.6, (0.1, 0.2)), (60, (0.5, 5)), (None, (0.5, 5))):
        policy: Any = recommended(deadline=deadline)
        assert policy.timeout.between == pytest.approx(bounds)
    with pytest.raises(rs.ConfigError, match="timeout"):
        recommended(timeout="short")


def test_recommended_limiter() -> None:
    """Free until throttled, for each operation and its table; or no faster than a rate, adaptive or not."""
    free: Any = recommended(adaptive=True).limiter
    assert isinstance(free, rs.PerKey) and not free.template.enabled
    assert free.key("GetItem", TableName="t", Key={}) != free.key("PutItem", TableName="t", Item={})
    assert free.key("GetItem", TableName="t", Key={}) != free.key("GetItem", TableName="u", Key={})
    assert free.key("ListTables") == free.key("ListTables", Limit=3)
    bound: Any = recommended(rate=40, adaptive=True).limiter
    assert isinstance(bound, rs.AdaptiveTokenBucket) and bound.maximum == 40
    assert type(recommended(rate=40).limiter) is rs.TokenBucket


def test_throttling_becomes_a_rate() -> None:
    """A throttle starts the limiter of that operation and table; the others stay free."""
    clock = VirtualClock()
    policy = recommended(clock=clock, rng=Fixed(), attempts=1, adaptive=True)
    for _ in range(3):
        run(policy, clock, [SLOW])
    limiter: Any = policy.limiter
    assert [limiter[key].enabled for key in limiter] == [True]
    assert limiter["PutItem", "other"].enabled is False


def test_recommended_arguments() -> None:
    """Every number reaches the part it is for, and what cannot work is refused."""
    policy = recommended(
        deadline=9, timeout=(1, 3), percentile=0.99, attempts=5, quota=None, failure_rate=0.2, minimum=7, open_for=2,
        concurrency=8, queue=3, max_wait=0.5, rate=40, burst=4,
    )  # fmt: skip
    parts: dict[str, Any] = policy.parts
    assert parts["deadline"].seconds == 9
    assert (parts["timeout"].between, parts["timeout"].percentile) == ((1, 3), 0.99)
    assert (parts["retry"].attempts, parts["retry"].quota, parts["retry"].repeat) == (5, None, "safe")
    assert (parts["breaker"].failure_rate, parts["breaker"].minimum, parts["breaker"].open_for) == (0.2, 7, 2)
    assert (parts["bulkhead"].limit, parts["bulkhead"].queue, parts["bulkhead"].max_wait) == (8, 3, 0.5)
    assert (parts["limiter"].rate, parts["limiter"].burst, parts["limiter"].max_wait) == (40, 4, 0.5)
    mine = AwsRetry(attempts=2)
    assert recommended(retry=mine).retry is mine
    assert recommended(rate=0.5).limiter.burst == 1  # type: ignore[union-attr]
    for bad in ({"retry": mine, "quota": None}, {"burst": 3}, {"timeout": (1, 30)}, {"concurrency": 0}):
        with pytest.raises(rs.ConfigError):
            recommended(**bad)


def test_recommended_breaker() -> None:
    """An outage opens the circuit after the first calls; throttling and refused requests never do."""
    for error, opens in ((E503, True), (rs.TimedOut("x"), True), (SLOW, False), (failed("AccessDenied", 403), False)):
        clock = VirtualClock()
        policy = recommended(clock=clock, rng=Fixed(0.5), attempts=1)
        ends = [run(policy, clock, [error]) for _ in range(40)]
        assert isinstance(ends[-1], rs.CircuitOpen) is opens, error


def test_a_client_that_hardly_calls_survives_a_throttle() -> None:
    """One call every five seconds, throttled at its first attempt: the second one gets its token in time."""
    for seed in range(50):
        clock = VirtualClock()
        policy = recommended(clock=clock, rng=random.Random(seed), adaptive=True)
        for _ in range(3):
            assert run(policy, clock, [SLOW, OK]) == OK
            clock.advance(5.0)


def test_recommended_burst_is_small() -> None:
    """Of 1000 calls into an outage without a breaker no more than the budget's ten are made twice."""
    clock = VirtualClock()
    policy = recommended(clock=clock, failure_rate=None)
    for _ in range(1000):
        run(policy, clock, [E503] * 3)
    assert policy.retry is not None
    assert policy.retry.counters["retries"] <= 12  # ten saved up, and one in ten seconds


def test_recommended_retries() -> None:
    """What passes is repeated, at the numbers of the SDKs."""
    clock = VirtualClock()
    policy = recommended(clock=clock, rng=Fixed())
    assert run(policy, clock, [E503, SLOW, OK]) == OK
    assert clock.sleeps == [0.05, 2.0]


def test_cheap() -> None:
    """Templates are cheap: making one takes well under a millisecond."""
    began = time.perf_counter()
    for _ in range(50):
        recommended()
    assert (time.perf_counter() - began) / 50 < 5e-3


def test_bench_is_what_clients_do() -> None:
    """The same policy object is used for many calls, and keeps its state."""
    bench = Bench(standard(rng=Fixed()))
    bench.call([E503, E503, E503])
    assert bench.retry.counters["quota"] == 472
