"""The consumer over an asynchronous client and a real queue."""

from __future__ import annotations

import asyncio
from typing import Any

import resilience as rs
from aio.support import client, run
from resilience import aws
from resilience.aws.sqs import AsyncConsumer


@run
async def test_failed_messages_come_back_and_the_others_are_gone(moto: str) -> None:
    """One that fails at its first receive is handled at the second; the consumer's calls run under the policy."""
    handled: list[tuple[str, int]] = []
    done = asyncio.Event()

    async def handle(message: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        handled.append((message["Body"], int(message["Attributes"]["ApproximateReceiveCount"])))
        if handled[-1] == ("fails once", 1):
            raise ValueError("not yet")
        if handled[-1] == ("fails once", 2):
            done.set()

    async with client(moto, "sqs") as sqs:
        aws.wrap(sqs, policy := rs.Policy("queue", deadline=10.0, registry=None))
        queue = (await sqs.create_queue(QueueName="aio"))["QueueUrl"]
        for body in ("fine", "fails once"):
            await sqs.send_message(QueueUrl=queue, MessageBody=body)
        stop = asyncio.Event()
        consumer = AsyncConsumer(sqs, queue, handle, backoff=0.0, wait=1, workers=2)
        running = asyncio.create_task(consumer.run(stop))
        async with asyncio.timeout(15):
            await done.wait()
        stop.set()
        await running
        assert sorted(handled) == [("fails once", 1), ("fails once", 2), ("fine", 1)]
        left = (await sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"]))["Attributes"]
        assert left["ApproximateNumberOfMessages"] == left["ApproximateNumberOfMessagesNotVisible"] == "0"
        assert policy.counters["calls"] >= 6  # type: ignore[operator]
