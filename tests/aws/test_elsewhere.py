"""Answers from elsewhere: a second attempt beside the first, a fallback, another region."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

import resilience as rs
from aws.scripted import Answer, Asked, Scripted, error
from resilience import aws
from resilience.testing import virtual_clock

DOWN = error(500, "InternalServerError")


def retrying(attempts: int = 3, **parts: Any) -> rs.Policy:
    retry = rs.Retry(on=Exception, attempts=attempts, backoff=0.0, budget=None)
    return rs.Policy(**{"retry": retry, "registry": None, **parts})


# -- hedges, fallbacks, other regions ----------------------------------------------------------------------------------


def slow_first(*answers: Answer) -> list[Callable[[Asked], Answer]]:
    gate = threading.Event()

    def first(_: Asked) -> Answer:
        gate.wait(1.0)
        return answers[0]

    return [first, lambda _: answers[-1]]


def test_a_slow_read_is_hedged(make: Callable[..., Any]) -> None:
    """The second attempt's answer is the call's, signed for itself, and the first is dropped."""
    one, two = Answer(body=b'{"Item": {"n": {"S": "1"}}}'), Answer(body=b'{"Item": {"n": {"S": "2"}}}')
    with Scripted(*slow_first(one, two)) as server:
        policy = rs.Policy(hedge=rs.Hedge(0.05), registry=None)
        client = aws.wrap(make(server.url), policy)
        began = time.monotonic()
        answer = client.get_item(TableName="tbl", Key={})
        took = time.monotonic() - began
        assert answer["Item"] == {"n": {"S": "2"}} and took < 0.8
    assert policy.counters["hedge"]["won"] == 1  # type: ignore[index]
    assert len(server.asked) == 2


def test_only_reads_are_hedged_unless_the_operation_is_named(make: Callable[..., Any]) -> None:
    """A write sent twice is two writes; who names the operation knows that it is not."""
    for given, times in (
        (rs.Policy(hedge=rs.Hedge(0.05), registry=None), 1),
        ({"UpdateItem": rs.Policy(hedge=rs.Hedge(0.05), registry=None)}, 2),
    ):
        with Scripted(*slow_first(Answer(), Answer())) as server:
            client = aws.wrap(make(server.url), given)
            client.update_item(TableName="tbl", Key={})
        assert len(server.asked) == times


def test_a_fallback_answers_in_place_of_the_call(make: Callable[..., Any]) -> None:
    """A value, or a function of operation and parameters; whatever the call failed with."""
    with Scripted(DOWN) as server:
        client = make(server.url)
        aws.wrap(client, rs.Policy(fallback=rs.Fallback(value={"Item": None}), registry=None))
        assert client.get_item(TableName="tbl", Key={}) == {"Item": None}
        told: list[Any] = []

        def answer(operation: str, **params: Any) -> dict[str, Any]:
            told.append((operation, params))
            return {}

        aws.wrap(client, retrying(2, fallback=rs.Fallback(answer)))
        assert client.get_item(TableName="tbl", Key={"id": {"S": "1"}}) == {}
    assert told == [("GetItem", {"TableName": "tbl", "Key": {"id": {"S": "1"}}})]
    assert len(server.asked) == 3


def test_reads_go_to_another_region_while_the_circuit_is_open(make: Callable[..., Any]) -> None:
    """Writes do not; and when the first region is back, its probes bring the reads home."""
    health = {"first": False}
    here, there = Answer(body=b'{"Item": {"r": {"S": "1"}}}'), Answer(body=b'{"Item": {"r": {"S": "2"}}}')
    with (
        virtual_clock() as clock,
        Scripted(lambda _: here if health["first"] else DOWN) as first,
        Scripted(there) as second,
    ):
        other = aws.wrap(make(second.url, region="eu-west-3"), rs.Policy(registry=None, deadline=1.0))
        breaker = rs.CircuitBreaker(consecutive=2, open_for=5.0, jitter=0.0, probes=1, ramp=0.0)
        policy = rs.Policy(breaker=breaker, fallback=aws.Failover(other), registry=None)
        client = aws.wrap(make(first.url), policy)

        def read() -> str:
            return client.get_item(TableName="tbl", Key={})["Item"]["r"]["S"]  # type: ignore[no-any-return]

        for _ in range(2):
            with pytest.raises(ClientError):  # not yet open
                read()
        assert [read() for _ in range(3)] == ["2"] * 3
        with pytest.raises(rs.CircuitOpen):
            client.put_item(TableName="tbl", Item={})
        assert len(first.asked) == 2
        clock.advance(5.1)
        with pytest.raises(ClientError):  # the probe, still in vain
            read()
        assert read() == "2"
        health["first"] = True
        clock.advance(30.0)
        assert [read() for _ in range(3)] == ["1"] * 3
        client.put_item(TableName="tbl", Item={})


def test_failover_refuses_what_is_no_client(make: Callable[..., Any]) -> None:
    """At construction, and without any client as well."""
    with pytest.raises(TypeError, match="clients must be botocore clients"):
        aws.Failover("eu-west-3")
    with pytest.raises(rs.ConfigError):
        aws.Failover()


def test_a_hedge_that_lost_is_ended(make: Callable[..., Any]) -> None:
    """Its thread does not wait for an answer that nobody will read."""
    release = threading.Event()

    def never(_: Asked) -> Answer:
        release.wait(10.0)
        return Answer()

    ended = threading.Event()
    with Scripted(never, Answer(body=b'{"Item": {}}')) as server:
        client = make(server.url)
        client.meta.events.register("response-received", lambda exception, **_: exception is not None and ended.set())
        aws.wrap(client, rs.Policy(hedge=rs.Hedge(0.02), registry=None))
        client.get_item(TableName="tbl", Key={})
        assert ended.wait(2.0)
        release.set()
