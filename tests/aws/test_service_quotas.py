"""Rates that begin at what Service Quotas grants: moto's server, and one that answers as told."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

import resilience as rs
from aws.scripted import Answer, Scripted, error
from resilience.aws.service_quotas import MeasuredTokenBucket, Quota, QuotaGauge, limiter_from_quota, quota_rate
from resilience.policies.adaptive_token_bucket import AdaptiveTokenBucket
from resilience.testing import VirtualClock

PEERING = "L-7E9ECCDB"
QUICK = {"retries": {"mode": "standard", "max_attempts": 1}, "connect_timeout": 1, "read_timeout": 1}
NOWHERE = "http://127.0.0.1:1"


def answer(value: float | None = 1000.0, period: tuple[int, str] | None = None, **more: Any) -> Answer:
    quota: dict[str, Any] = {"QuotaName": "Rate of GetItem", "Unit": "None", "Adjustable": True, **more}
    if value is not None:
        quota["Value"] = value
    if period is not None:
        quota["Period"] = {"PeriodValue": period[0], "PeriodUnit": period[1]}
    return Answer(body=json.dumps({"Quota": quota}).encode())


def test_moto_answers_with_a_quota_of_its_own(moto: str, make: Any) -> None:
    """The value, its name, and no period; a share is a share."""
    client = make(moto, "service-quotas", **QUICK)
    quota = quota_rate(client, "vpc", PEERING, share=0.5)
    assert (quota.value, quota.period, quota.adjustable, quota.applied) == (50.0, None, True, True)
    assert quota.name == "Active VPC peering connections per VPC"
    assert (quota.total, quota.rate) == (50.0, 25.0)
    assert quota_rate(client, "vpc", PEERING, per=60.0).rate == pytest.approx(50 / 60)
    limiter = limiter_from_quota(client, "vpc", PEERING, share=0.2, max_wait=0.0)
    assert limiter.rate == 10.0
    with pytest.raises(ClientError):
        quota_rate(client, "nothing", PEERING)


@pytest.mark.parametrize(
    ("period", "rate"),
    [
        ((1, "SECOND"), 1000.0),
        ((5, "MINUTE"), 1000 / 300),
        ((1, "HOUR"), 1000 / 3600),
        ((1, "DAY"), 1000 / 86400),
        ((2, "WEEK"), 1000 / 1209600),
        ((100, "MILLISECOND"), 10_000.0),
        ((500_000, "MICROSECOND"), 2000.0),
        ((1, "FORTNIGHT"), 1000.0),
        ((0, "SECOND"), 1000.0),
        (None, 1000.0),
    ],
)
def test_a_quota_is_turned_into_calls_a_second(make: Any, period: tuple[int, str] | None, rate: float) -> None:
    """By its period; without one, or with one that is not known, per second."""
    with Scripted(answer(1000.0, period)) as server:
        quota = quota_rate(make(server.url, "service-quotas", **QUICK), "dynamodb", "L-1")
    assert quota.rate == pytest.approx(rate)


@pytest.mark.parametrize("first", [error(400, "NoSuchResourceException"), answer(None)])
def test_without_an_applied_quota_there_is_awss_default(make: Any, first: Answer) -> None:
    """Asked for second; the quota says so."""
    with Scripted(first, answer(20.0, (1, "SECOND"))) as server:
        quota = quota_rate(make(server.url, "service-quotas", **QUICK), "dynamodb", "L-1")
    assert (quota.rate, quota.applied) == (20.0, False)
    targets = [asked.headers["X-Amz-Target"].rpartition(".")[2] for asked in server.asked]
    assert targets == ["GetServiceQuota", "GetAWSDefaultServiceQuota"]
    assert json.loads(server.asked[1].body) == {"ServiceCode": "dynamodb", "QuotaCode": "L-1"}


def test_a_quota_without_a_number_says_why(make: Any) -> None:
    """With the reason that Service Quotas gives."""
    why = {"ErrorCode": "DEPENDENCY_ACCESS_DENIED_ERROR", "ErrorMessage": "not for you"}
    with Scripted(answer(None), answer(None, ErrorReason=why)) as server:
        client = make(server.url, "service-quotas", **QUICK)
        with pytest.raises(rs.ConfigError, match="no value for dynamodb/L-1: not for you"):
            quota_rate(client, "dynamodb", "L-1")


@pytest.mark.parametrize(
    "trouble",
    [
        None,
        error(400, "AccessDeniedException"),
        error(500, "ServiceException"),
        answer(0.0),
        answer(None),
        Answer(body=b"{}"),
        Answer(body=b"<html>"),
    ],
)
def test_trouble_with_service_quotas_means_the_fallback(
    make: Any, trouble: Answer | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Unreachable, refused or useless: a limiter at the fallback, without a gauge, and one line in the log."""
    with Scripted(trouble or Answer()) as server:
        client = make(server.url if trouble else NOWHERE, "service-quotas", **QUICK)
        with caplog.at_level(logging.WARNING, logger="resilience"):
            limiter = limiter_from_quota(client, "dynamodb", "L-1", fallback_rate=7.0)
    assert isinstance(limiter, AdaptiveTokenBucket)
    assert (limiter.current_rate, limiter.maximum, limiter.gauge) == (7.0, None, None)
    assert [record.name for record in caplog.records] == ["resilience"]
    assert "no usable quota dynamodb/L-1" in caplog.text


def test_without_a_fallback_the_trouble_is_raised(make: Any) -> None:
    """Botocore's own error, or ours for a quota that allows nothing."""
    with pytest.raises(EndpointConnectionError):
        limiter_from_quota(make(NOWHERE, "service-quotas", **QUICK), "dynamodb", "L-1")
    with Scripted(answer(0.0)) as server, pytest.raises(rs.ConfigError, match="the quota dynamodb/L-1 must be"):
        limiter_from_quota(make(server.url, "service-quotas", **QUICK), "dynamodb", "L-1")


def test_the_limiter_starts_at_the_share_and_comes_back_to_it(make: Any) -> None:
    """An AWS throttle slows it; it never goes beyond the share; other settings are passed on."""
    clock = VirtualClock()
    with Scripted(answer(100.0, (1, "SECOND"))) as server:
        client = make(server.url, "service-quotas", **QUICK)
        limiter = limiter_from_quota(client, "dynamodb", "L-1", share=0.4, rule="aimd", max_wait=5.0, clock=clock)
    assert isinstance(limiter, AdaptiveTokenBucket)
    assert (limiter.current_rate, limiter.maximum, limiter.max_wait) == (40.0, 40.0, 5.0)
    response: Any = {"Error": {"Code": "ThrottlingException"}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    policy = rs.Policy(limiter=limiter)

    def refused() -> None:
        raise ClientError(response, "GetItem")

    with pytest.raises(ClientError):
        policy.call(refused)
    assert limiter.current_rate == pytest.approx(34.0)
    for _ in range(1000):
        policy.call(lambda: None)
    assert limiter.current_rate == 40.0


def test_a_gauge_reads_how_near_the_quota_one_sends(make: Any) -> None:
    """A quarter of the account's quota at 25 calls a second of 100; whatever the share; and it falls in silence."""
    clock = VirtualClock()
    with Scripted(answer(100.0, (1, "SECOND"))) as server:
        client = make(server.url, "service-quotas", **QUICK)
        for adaptive in (True, False):
            limiter = limiter_from_quota(client, "dynamodb", "L-1", share=0.5, adaptive=adaptive, clock=clock)
            assert isinstance(limiter, AdaptiveTokenBucket if adaptive else MeasuredTokenBucket)
            policy = rs.Policy(limiter=limiter)
            gauge = limiter.gauge
            assert isinstance(gauge, QuotaGauge)
            for _ in range(100):
                policy.call(clock.advance, 0.04)
            assert gauge.usage == pytest.approx(0.25, abs=0.03)
            assert repr(gauge).startswith("<QuotaGauge dynamodb/L-1: 2")
            clock.advance(60.0)
            assert gauge.usage < 0.001
            limiter.replace()


def test_a_quota_of_nothing_is_never_near() -> None:
    """No division by zero in a metrics collector."""
    quota = Quota("s", "q", "name", 0.0, "None", None, adjustable=False, applied=True)
    assert quota.usage(MeasuredTokenBucket(1)) == 0.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share": 0}, "share"),
        ({"share": 1.5}, "share"),
        ({"per": 0}, "per"),
        ({"fallback_rate": 0}, "fallback_rate"),
        ({"adaptive": "yes"}, "adaptive"),
        ({"service_code": ""}, "service_code"),
        ({"quota_code": 7}, "quota_code"),
        ({"max_wait": -1, "fallback_rate": 1.0}, "max_wait"),
    ],
)
def test_bad_arguments_are_refused_and_not_taken_for_trouble(make: Any, settings: dict[str, Any], message: str) -> None:
    """Named, before or after asking; a fallback does not hide them."""
    arguments = {"service_code": "dynamodb", "quota_code": "L-1", **settings}
    with pytest.raises((TypeError, ValueError), match=message):
        limiter_from_quota(make(NOWHERE, "service-quotas", **QUICK), **arguments)
