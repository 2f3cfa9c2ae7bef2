"""The published numbers and sequences of the SDKs' standard mode, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError
from hypothesis import given
from hypothesis import strategies as st

import resilience as rs
from aws.awsretry import OK, Bench, Fixed, failed, operation
from resilience.aws.presets import standard
from resilience.aws.retry import AwsRetry
from resilience.aws.retry_quota import RetryQuota

E500, E502, E400 = (failed(None, status) for status in (500, 502, 400))
SLOW = failed("SlowDown", 503)
READ_TIMEOUT = ReadTimeoutError(endpoint_url="x")
TABLE = operation("dynamodb", "GetItem")
POLL = operation("sqs", "ReceiveMessage")


def bench(version: str = "2.1", quota: int | RetryQuota | None = 500, **changes: Any) -> Bench:
    """Botocore's retrying of a version, with its random numbers fixed at 1."""
    if isinstance(quota, int):
        costs = {"cost": 14} if version == "2.1" else {"cost": 5, "timeout_cost": 10}
        quota = RetryQuota(quota, **costs)
    return Bench(standard(version, quota=quota, **{"rng": Fixed(), **changes}))


SEQUENCES: list[tuple[str, dict[str, Any], Any, list[Any], list[float], int]] = [
    # version, changes, operation, outcomes (the last one is how it ends), waits, quota left
    ("2.1", {}, None, [E500, E500, OK], [0.05, 0.1], 486),
    ("2.1", {}, None, [E502, E502, E502], [0.05, 0.1], 472),
    ("2.1", {}, None, [OK], [], 500),
    ("2.1", {"quota": RetryQuota(14)}, None, [E500, E500], [0.05], 0),
    ("2.1", {"attempts": 5}, None, [E500] * 5, [0.05, 0.1, 0.2, 0.4], 444),
    ("2.1", {"attempts": 5, "cap": 0.2}, None, [E500] * 5, [0.05, 0.1, 0.2, 0.2], 444),
    ("2.1", {"attempts": 8}, None, [SLOW] * 8, [1, 2, 4, 8, 16, 20, 20], 465),
    ("2.1", {}, None, [SLOW, SLOW, OK], [1, 2], 495),
    ("2.1", {}, None, [E500, SLOW, OK], [0.05, 2], 486),  # the exponent counts all retries
    ("2.1", {}, None, [SLOW, E500, OK], [1, 0.1], 495),
    ("2.1", {}, None, [E400], [], 500),
    ("2.1", {}, None, [E500, E400], [0.05], 486),
    ("2.1", {}, None, [READ_TIMEOUT, OK], [0.05], 500),
    ("2.1", {}, None, [failed(None, 429), OK], [1], 500),
    ("2.1", {}, TABLE, [E500] * 4, [0.025, 0.05, 0.1], 458),
    ("2.1", {}, TABLE, [failed("ProvisionedThroughputExceededException")] * 4, [1, 2, 4], 485),
    ("2.1", {}, operation("dynamodbstreams", "GetRecords"), [E500] * 4, [0.025, 0.05, 0.1], 458),
    ("2.1", {"attempts": 2}, TABLE, [E500] * 2, [0.025], 486),
    ("2.0", {}, None, [E500, E500, OK], [1, 2], 495),
    ("2.0", {}, None, [E502, E502, E502], [1, 2], 490),
    ("2.0", {"quota": RetryQuota(5, cost=5)}, None, [E500, E502], [1], 0),
    ("2.0", {"attempts": 5}, None, [E500] * 5, [1, 2, 4, 8], 480),
    ("2.0", {"attempts": 5, "cap": 3}, None, [E500] * 5, [1, 2, 3, 3], 480),
    ("2.0", {}, None, [SLOW, SLOW, SLOW], [1, 2], 490),
    ("2.0", {}, None, [READ_TIMEOUT, ConnectTimeoutError(endpoint_url="x"), E500], [1, 2], 480),
    ("2.0", {}, None, [rs.TimedOut("x"), OK], [1], 500),
    ("2.0", {}, None, [failed(None, 429)], [], 500),
    ("2.0", {}, TABLE, [E500] * 3, [1, 2], 490),
    ("2.0", {"quota": RetryQuota(5, cost=5)}, POLL, [E500, E500], [1], 0),
]


@pytest.mark.parametrize(("version", "changes", "op", "outcomes", "waits", "left"), SEQUENCES)
def test_sequences(
    version: str, changes: dict[str, Any], op: Any, outcomes: list[Any], waits: list[float], left: int
) -> None:
    """Attempts, waits and the quota are those the standard publishes, with its random numbers fixed at 1."""
    if isinstance(changes.get("quota"), RetryQuota):  # the table's must stay full
        changes = {**changes, "quota": changes["quota"].replace()}
    under = bench(version, **changes)
    end, slept = under.call(outcomes, op)
    assert end is outcomes[-1]
    assert slept == pytest.approx(waits)
    assert under.retry._quota is not None and under.retry._quota.available == left


def test_quota_over_calls() -> None:
    """The quota outlasts the call: spent by one, it is missing to the next; a success gives back what it took or 1."""
    under = bench(quota=30)
    quota = under.retry._quota
    assert quota is not None
    levels = []
    for outcomes in ([E500, E500, E500], [E500], [OK], [OK], [SLOW], [OK], [OK], [SLOW, OK], [OK]):
        under.call(outcomes)
        levels.append(quota.available)
    assert levels == [2, 2, 3, 4, 4, 5, 6, 6, 7]


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("1500", 1.5), ("0", 0.05), ("10000", 5.05), ("20", 0.05), ("invalid", 0.05), ("-1", 0.05), ("1.5", 0.05),
        ("", 0.05), ("9" * 5000, 0.05),
    ],
)  # fmt: skip
def test_clamp(header: str, wait: float) -> None:
    """Standard mode holds the service's wish between its own backoff and five seconds more."""
    _, slept = bench().call([failed(None, 500, {"x-amz-retry-after": header}), OK])
    assert slept == pytest.approx([wait])


def test_clamp_only_knows_amazon() -> None:
    """Standard mode ignores Retry-After, and 2.0 both headers."""
    assert bench().call([failed(None, 500, {"retry-after": "3"}), OK])[1] == [0.05]
    assert bench("2.0").call([failed(None, 500, {"x-amz-retry-after": "3000"}), OK])[1] == [1.0]


def test_long_polling() -> None:
    """With the quota spent, a poll waits its backoff before it fails, and other calls fail at once."""
    under = bench(quota=RetryQuota(14))
    assert under.call([E500, E500], POLL) == (E500, [0.05, 0.1])
    assert under.call([E500]) == (E500, [])
    assert under.call([E500], POLL) == (E500, [0.05])
    assert under.call([failed(None, 500, {"x-amz-retry-after": "3000"})], POLL)[1] == [3.0]


def test_long_polling_within_the_deadline() -> None:
    """Not even a poll waits beyond its deadline before it fails."""
    under = Bench(standard(quota=RetryQuota(14), rng=Fixed()), deadline=0.12)
    assert under.call([E500, E500], POLL) == (E500, [0.05])  # 0.05 and 0.1 would be too long


@pytest.mark.parametrize(
    ("op", "outcomes", "waits"),
    [
        (None, [E500] * 5, [1, 2, 4, 8]),
        (None, [failed("Throttling", 400), OK], [1]),
        (None, [failed("SlowDown", 400)], []),
        (None, [failed(None, 509), READ_TIMEOUT, OK], [1, 2]),
        (TABLE, [E500] * 10, [0.05 * 2**i for i in range(9)]),
    ],
)
def test_legacy(op: Any, outcomes: list[Any], waits: list[float]) -> None:
    """Legacy mode: 5 attempts and no cap; for DynamoDB 10, from 50 ms, without jitter."""
    under = bench("legacy", quota=None)
    assert under.call(outcomes, op) == (outcomes[-1], pytest.approx(waits))
    assert bench("legacy", quota=None, rng=Fixed(0.0)).call([E500] * 10, TABLE)[1][0] == 0.05


OUTCOMES = st.sampled_from([E500, SLOW, READ_TIMEOUT, failed("SlowDown", 503, {"x-amz-retry-after": "2500"}), E400, OK])


@given(
    st.sampled_from(["sdk", "2.1", "2.0", "legacy"]),
    st.lists(st.lists(OUTCOMES, min_size=12, max_size=12), min_size=1, max_size=5),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from([operation(), TABLE, POLL]),
)
def test_bounds(rules: str, calls: list[list[Any]], u: float, op: Any) -> None:
    """Whatever happens: attempts and waits stay within the numbers, and the quota within its capacity."""
    under = Bench(AwsRetry(rules=rules, repeat="always", rng=Fixed(u), quota=RetryQuota(60)))
    numbers = under.retry.numbers_for(op)
    for outcomes in calls:
        _, slept = under.call(outcomes, op)
        assert len(slept) < numbers.attempts
        for index, wait in enumerate(slept):
            most = min(numbers.cap, max(numbers.base, numbers.throttling_base) * 2.0**index)
            assert 0 <= wait <= most + 5 + 1e-9
        assert under.retry._quota is not None and 0 <= under.retry._quota.available <= 60
