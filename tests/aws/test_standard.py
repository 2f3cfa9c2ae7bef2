"""The SDKs' standard through real clients: attempts, waits, quota."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ChecksumError, ClientError

import resilience as rs
from aws.scripted import Answer, Scripted, error
from resilience import aws
from resilience.testing import virtual_clock

DOWN = error(500, "InternalServerError")


class One:
    """Randomness that is always its upper end."""

    def random(self) -> float:
        return 1.0


THROTTLED = error(400, "ThrottlingException")
ASKED = error(500, "InternalServerError", x_amz_retry_after="400")


@pytest.mark.parametrize(
    ("service", "answers", "waits"),
    [
        ("kinesis", [DOWN], [0.05, 0.1]),
        ("kinesis", [THROTTLED], [1.0, 2.0]),
        ("kinesis", [DOWN, THROTTLED, Answer(body=b"{}")], [0.05, 2.0]),
        ("kinesis", [ASKED], [0.4, 0.4]),
        ("kinesis", [error(400, "ValidationException")], []),
        ("dynamodb", [DOWN], [0.025, 0.05, 0.1]),
        ("dynamodb", [error(400, "ProvisionedThroughputExceededException")], [1.0, 2.0, 4.0]),
    ],
)
def test_a_client_under_the_standard_waits_as_botocore_does(
    make: Callable[..., Any], service: str, answers: list[Answer], waits: list[float]
) -> None:
    """Attempts and delays of the SDKs' standard, with random fixed at 1, through a real client and server."""
    with virtual_clock() as clock, Scripted(*answers) as server:
        policy = aws.standard_policy(rng=One())
        client = aws.wrap(make(server.url, service), policy)
        with contextlib.suppress(ClientError):
            client.list_tables() if service == "dynamodb" else client.list_streams()
        assert clock.sleeps == pytest.approx(waits)
    assert len(server.asked) == len(waits) + 1


def test_a_quota_shared_by_two_clients_is_spent_by_both(make: Callable[..., Any]) -> None:
    """Costs of 14 and of 5 for a throttle, until less is left; then each call is made once."""
    quota = aws.RetryQuota(50)
    with virtual_clock(), Scripted(DOWN) as down, Scripted(THROTTLED) as throttled:
        for url, left, requests in (
            (down.url, 22, 3),
            (throttled.url, 12, 3),
            (down.url, 12, 1),
            (throttled.url, 2, 3),
        ):
            client = aws.wrap(make(url, "kinesis"), aws.standard_policy(quota=quota))
            before = len(down.asked) + len(throttled.asked)
            with pytest.raises(ClientError):
                client.list_streams()
            assert (quota.available, len(down.asked) + len(throttled.asked) - before) == (left, requests)


def test_a_corrupt_answer_of_dynamodb_is_asked_for_again(make: Callable[..., Any]) -> None:
    """Its checksum is looked at, as botocore's retry handlers do; one that stays wrong is an error."""
    good = Answer(body=b'{"Item": {}}', headers={"x-amz-crc32": str(zlib.crc32(b'{"Item": {}}'))})
    bad = Answer(body=b'{"Item": {"x": {"S": "?"}}}', headers=good.headers)
    with Scripted(bad, good, bad) as server:
        client = aws.wrap(make(server.url), rs.Policy(retry=aws.AwsRetry(base=0.001), registry=None))
        assert client.get_item(TableName="tbl", Key={})["Item"] == {}
        assert len(server.asked) == 2
        with pytest.raises(ChecksumError):
            client.get_item(TableName="tbl", Key={})
        assert len(server.asked) == 2 + 4
