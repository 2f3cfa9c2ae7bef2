"""Consumers against moto's queues over HTTP, with boto3's clients."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import resilience as rs
from aws.queues import rejecting
from resilience.aws import _messages, sqs


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Failures are logged; these tests are full of them."""
    caplog.set_level(logging.CRITICAL, logger="resilience")


@pytest.fixture
def client(moto: str, make: Callable[..., Any]) -> Any:
    return make(moto, "sqs")


def receive(client: Any, url: str, **more: Any) -> list[dict[str, Any]]:
    asked = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=["All"], **more)
    return list(asked.get("Messages") or ())


def test_a_real_queue_hides_failed_messages_for_the_delay(client: Any) -> None:
    """Not to be seen before, back after it with the next count, and the good ones are gone."""
    url = client.create_queue(QueueName="hides")["QueueUrl"]
    client.send_message_batch(QueueUrl=url, Entries=[{"Id": str(n), "MessageBody": str(n)} for n in range(6)])
    counts: list[int] = []

    def handler(message: dict[str, Any]) -> None:
        counts.append(_messages.receives(message))
        if message["Body"] in "135":
            raise ValueError

    made = sqs.Consumer(client, url, handler, backoff=rs.Constant(1), wait=0)
    began = time.monotonic()
    assert made.run_once() == sqs.Batch(received=6, handled=3, failed=3)
    assert made.run_once() == sqs.Batch()
    assert (
        client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"][
            "ApproximateNumberOfMessagesNotVisible"
        ]
        == "3"
    )
    while made.counters["failed"] < 6 and time.monotonic() < began + 5:
        made.run_once()
    assert time.monotonic() - began >= 1
    assert counts == [1] * 6 + [2] * 3


def test_a_real_redrive_policy_moves_rejected_messages_at_once(client: Any) -> None:
    """After as many receives as it says, with no waiting in between."""
    dead = client.create_queue(QueueName="dead")["QueueUrl"]
    arn = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = f'{{"deadLetterTargetArn": "{arn}", "maxReceiveCount": "3"}}'
    url = client.create_queue(QueueName="redrives", Attributes={"RedrivePolicy": policy})["QueueUrl"]
    client.send_message(QueueUrl=url, MessageBody="poison")
    made = sqs.Consumer(client, url, rejecting(), backoff=300, wait=0)
    began = time.monotonic()
    outcomes = []
    while not (found := receive(client, dead)) and time.monotonic() < began + 5:
        outcomes.append(made.run_once().failed)
    assert [message["Body"] for message in found] == ["poison"]
    assert sum(outcomes) == 3


def test_a_real_fifo_queue_stays_in_order(client: Any) -> None:
    """With failures in one group, every message of both is handled well once and in its order."""
    url = client.create_queue(
        QueueName="order.fifo", Attributes={"FifoQueue": "true", "ContentBasedDeduplication": "true"}
    )["QueueUrl"]
    for body in ("a1", "b1", "a2", "b2", "a3"):
        client.send_message(QueueUrl=url, MessageBody=body, MessageGroupId=body[0])
    left = {"a1": 1, "a2": 1}
    done: list[str] = []

    def handler(message: dict[str, Any]) -> None:
        if left.get(message["Body"], 0):
            left[message["Body"]] -= 1
            raise ValueError
        done.append(message["Body"])

    end = time.monotonic() + 10
    made = sqs.Consumer(client, url, handler, backoff=rs.Constant(1), wait=1, workers=2)
    made.run(lambda: len(done) == 5 or time.monotonic() > end)
    assert [body for body in done if body[0] == "a"] == ["a1", "a2", "a3"]
    assert [body for body in done if body[0] == "b"] == ["b1", "b2"]
    assert made.counters["failed"] == 2
    assert made.counters["errors"] == 0


def test_a_real_consumer_stops_within_its_poll(client: Any) -> None:
    """Four threads run one consumer: all end, and every message was handled (moto may give one to two of them)."""
    url = client.create_queue(QueueName="stops")["QueueUrl"]
    for first in range(0, 40, 10):
        entries = [{"Id": str(n), "MessageBody": str(n)} for n in range(first, first + 10)]
        client.send_message_batch(QueueUrl=url, Entries=entries)
    done: list[str] = []
    stop = threading.Event()
    made = sqs.Consumer(client, url, lambda message: done.append(message["Body"]), wait=1, workers=3)
    threads = [threading.Thread(target=made.run, args=(stop,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 10
    while len(done) < 40 and time.monotonic() < end:
        time.sleep(0.02)
    stop.set()
    began = time.monotonic()
    for thread in threads:
        thread.join(5)
    assert time.monotonic() - began < 3
    assert set(map(int, done)) == set(range(40))
    assert made.counters["unsettled"] == 0
