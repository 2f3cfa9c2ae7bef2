"""The short way of a call that goes well at once, held against the story: whatever happens, they come to the same."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ReadTimeoutError
from hypothesis import given, settings
from hypothesis import strategies as st

import resilience as rs
from aws.conftest import KEYS
from resilience import aws
from resilience.aws import _routes
from resilience.testing import VirtualClock

OUTCOMES = st.sampled_from(["ok", "ok", "ok", "down", "throttled", "refused", "lost", "stop", "late"])
STEPS = st.lists(st.tuples(OUTCOMES, st.sampled_from([0.0, 0.001, 0.2, 0.6, 3.0])), min_size=1, max_size=14)
PARTS = st.fixed_dictionaries(
    {},
    optional={
        "deadline": st.sampled_from([0.5, 2.0]),
        "timeout": st.sampled_from(["fixed", "learned"]),
        "retry": st.sampled_from(["plain", "sdk", "quota"]),
        "breaker": st.sampled_from(["one", "keyed"]),
        "limiter": st.sampled_from(["bucket", "adaptive", "keyed"]),
        "bulkhead": st.just("one"),
        "fallback": st.just("value"),
    },
)


class Body:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def stream(self, *_: object, **__: object) -> Iterator[bytes]:
        yield self._data


class Stop(BaseException):
    """What botocore does not catch."""


class World:
    """A client whose requests are answered by a script, in virtual time."""

    def __init__(self) -> None:
        self.client = boto3.client("dynamodb", **KEYS)
        self.client.meta.events.register("before-send", self._answer)

    def _answer(self, request: Any, **_: object) -> AWSResponse:
        what, seconds = next(self._steps)
        self.clock.advance(seconds)
        self.requests += 1
        if what == "lost":
            raise ReadTimeoutError(endpoint_url=request.url)
        if what == "stop":
            raise Stop
        status, code = {"down": (500, "InternalServerError"), "throttled": (400, "ThrottlingException")}.get(
            what, (400, "ValidationException") if what == "refused" else (200, "")
        )
        body = b"{}" if status == 200 else f'{{"__type": "x#{code}"}}'.encode()
        return AWSResponse(request.url, status, {}, Body(body))

    def run(self, parts: dict[str, Any], steps: list[tuple[str, float]]) -> list[Any]:
        """What came of the calls: their ends, the waits, and all counters."""
        self.clock = clock = VirtualClock()
        self.requests = 0
        self._steps = iter([*steps, *[("ok", 0.0)] * 60])
        policy = rs.Policy("p", clock=clock, registry=None, **made(parts))
        aws.wrap(self.client, policy)
        ends: list[Any] = []
        for number in range(6):
            clock.advance(0.05)
            try:
                answer = self.client.get_item(TableName=f"tb{number % 2}", Key={})
                ends.append(answer and answer["ResponseMetadata"]["RetryAttempts"])
            except (Exception, Stop) as error:
                ends.append((type(error), str(error), getattr(error, "__notes__", None)))
        ends.append((clock.monotonic_ns(), clock.sleeps, self.requests, policy.counters))
        if isinstance(policy.timeout, rs.PercentileTimeout):
            ends.append(aws.policies(self.client)["GetItem"].timeout.counters)  # type: ignore[union-attr]
        assert rs.remaining() is None
        return ends


def made(parts: dict[str, Any]) -> dict[str, Any]:
    def key(operation: str, **params: Any) -> str:
        return str(params["TableName"])

    breaker = rs.CircuitBreaker(consecutive=3, on=aws.is_unhealthy, open_for=0.3, rng=random.Random(1))
    choices: dict[str, dict[Any, Any]] = {
        "timeout": {"fixed": 0.5, "learned": rs.PercentileTimeout(0.9, between=(0.1, 0.5))},
        "retry": {
            "plain": rs.Retry(on=Exception, attempts=3, backoff=rs.Exponential(0.1), rng=random.Random(2)),
            "sdk": aws.AwsRetry(quota=rs.RetryBudget(3), rng=random.Random(3)),
            "quota": aws.AwsRetry(quota=aws.RetryQuota(40), repeat="always", rng=random.Random(4)),
        },
        "breaker": {"one": breaker, "keyed": rs.PerKey(breaker, key=key)},
        "limiter": {
            "bucket": rs.TokenBucket(4, burst=2, max_wait=0.3),
            "adaptive": rs.AdaptiveTokenBucket(throttled=aws.is_throttle, max_wait=0.3),
            "keyed": rs.KeyedTokenBucket(4, burst=1, key=key, max_wait=0.1),
        },
        "bulkhead": {"one": rs.Bulkhead(1)},
        "fallback": {"value": rs.Fallback(value={"ResponseMetadata": {"RetryAttempts": "none"}}, on=rs.Rejected)},
    }
    return {kind: choices[kind][value] if kind in choices else value for kind, value in parts.items()}


WORLD = World()


@given(PARTS, STEPS)
@settings(max_examples=150)
def test_the_short_way_comes_to_the_same_as_the_story(parts: dict[str, Any], steps: list[tuple[str, float]]) -> None:
    """Answers, errors with their notes, waits, requests, and every counter."""
    with pytest.MonkeyPatch.context() as patch:
        brief = WORLD.run(parts, steps)
        patch.setattr(_routes, "short", lambda plan: False)
        told = WORLD.run(parts, steps)
    assert brief == told


def test_the_short_way_is_taken() -> None:
    """Or the comparison above would compare the story with itself."""
    WORLD.run({"retry": "sdk", "breaker": "one", "timeout": "learned", "deadline": 2.0, "bulkhead": "one"}, [])
    route = WORLD.client._resilience.routes["GetItem"]
    assert route.plans().short
