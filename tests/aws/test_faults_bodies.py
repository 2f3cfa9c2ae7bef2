"""What is read after a call has returned, bodies and event streams, does not stall its reader either."""

from __future__ import annotations

import binascii
import contextlib
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

import resilience as rs
from aws.faults import DEADLINE, LATE, TIMEOUT, guarded, held, nothing_left, sockets_to, timed
from aws.servers import Behavior, Peer, Server, answers, each, head
from resilience import aws


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """No thread and no descriptor outlives its test."""
    with nothing_left():
        yield


# -- S3 ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [(), ("x-amz-retry-after: 100",)])
def test_slow_down(make: Callable[..., Any], headers: tuple[str, ...]) -> None:
    """S3 throttles by 503, and may say for how long."""
    body = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>scripted</Message></Error>"
    with Server(answers(body, "503 Slow Down", *headers)) as server:
        client = aws.wrap(make(server.url, "s3"), guarded())
        took, error = timed(lambda: client.get_object(Bucket="bucket", Key="key"))
        assert isinstance(error, ClientError) and error.response["Error"]["Code"] == "SlowDown"
        assert 0.2 * len(headers) <= took <= DEADLINE + LATE
        assert server.requests == 3


@each
def stops(peer: Peer) -> None:
    """Half a body, and no more."""
    peer.send(head(20) + b"0123456789")
    peer.wait()


@each
def dribbles(peer: Peer) -> None:
    peer.send(head(1000))
    peer.dribble(b" " * 1000, every=0.02)


def test_a_body_that_stalls_is_cut(make: Callable[..., Any]) -> None:
    """The call has returned; what is read after it waits for the next byte as long as an attempt may take."""
    with Server(stops) as server:
        client = aws.wrap(make(server.url, "s3"), guarded())
        body = client.get_object(Bucket="bucket", Key="key")["Body"]
        time.sleep(2 * TIMEOUT)  # the reader's time, not the service's
        assert body.read(10) == b"0123456789"
        took, error = timed(body.read)
        assert isinstance(error, ReadTimeoutError)
        assert TIMEOUT <= took <= TIMEOUT + LATE
        body.close()
        assert sockets_to(server.port) == 0
        assert server.requests == 1


def test_a_body_that_dribbles_is_cut_by_the_deadline_around_it(make: Callable[..., Any]) -> None:
    """Bytes come all the time; but there is a time by which the whole must be there."""
    with Server(dribbles) as server:
        client = aws.wrap(make(server.url, "s3"), guarded())
        began = time.monotonic()
        with rs.Deadline(0.5):
            body = client.get_object(Bucket="bucket", Key="key")["Body"]
            with pytest.raises((ReadTimeoutError, rs.DeadlineExceeded)):
                body.read()
        assert 0.5 <= time.monotonic() - began <= 0.5 + LATE
        body.close()
        assert sockets_to(server.port) == 0


def test_many_bodies_that_stall_are_cut(make: Callable[..., Any]) -> None:
    """Fifty readers, and no connection left."""
    threads, policy = 50, guarded()

    def one(_: int) -> tuple[float, BaseException | None]:
        body = client.get_object(Bucket="bucket", Key="key")["Body"]
        with contextlib.closing(body):
            return timed(body.read)

    with Server(stops) as server:
        client = aws.wrap(make(server.url, "s3", max_pool_connections=threads), policy)
        with ThreadPoolExecutor(threads) as pool:
            ends = list(pool.map(one, range(threads)))
        assert all(isinstance(error, ReadTimeoutError) for _, error in ends)
        took = sorted(seconds for seconds, _ in ends)
        assert took[0] >= TIMEOUT and took[threads // 2] <= TIMEOUT + LATE and took[-1] <= TIMEOUT + 3 * LATE
        assert sockets_to(server.port) == 0
    assert held(policy) == 0


# -- event streams -----------------------------------------------------------------------------------------------------


def event(kind: str, payload: bytes, content: str = "application/octet-stream") -> bytes:
    """A message of an AWS event stream."""
    headers = {":message-type": "event", ":event-type": kind, ":content-type": content}
    packed = b"".join(
        struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", 7, len(value)) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", 16 + len(packed) + len(payload), len(packed))
    message = prelude + struct.pack(">I", binascii.crc32(prelude)) + packed + payload
    return message + struct.pack(">I", binascii.crc32(message))


def streams(*events: bytes) -> Behavior:
    """These events, half of another, and no more."""

    @each
    def serve(peer: Peer) -> None:
        kind = "Content-Type: application/vnd.amazon.eventstream"
        peer.send(f"HTTP/1.1 200 OK\r\n{kind}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for data in (*events, event("Records", b"never")[:20]):
            peer.send(b"%x\r\n%s\r\n" % (len(data), data))
        peer.wait()

    return serve


def select(client: Any) -> Any:
    return client.select_object_content(
        Bucket="bucket",
        Key="key",
        Expression="select * from s3object",
        ExpressionType="SQL",
        InputSerialization={"CSV": {}},
        OutputSerialization={"CSV": {}},
    )["Payload"]


def subscribe(client: Any) -> Any:
    return client.subscribe_to_shard(
        ConsumerARN="arn:aws:kinesis:eu-west-1:123456789012:stream/s/consumer/c:1",
        ShardId="shardId-000000000000",
        StartingPosition={"Type": "LATEST"},
    )["EventStream"]


RECORDS = b'{"Records": [], "ContinuationSequenceNumber": "1", "MillisBehindLatest": 0}'


@pytest.mark.parametrize(
    ("service", "begin", "events"),
    [
        ("s3", select, [event("Records", b"one"), event("Records", b"two")]),
        (
            "kinesis",
            subscribe,
            [event("initial-response", b"{}"), event("SubscribeToShardEvent", RECORDS, "application/x-amz-json-1.1")],
        ),
    ],
)
def test_an_event_stream_that_stalls_is_cut(
    make: Callable[..., Any], service: str, begin: Callable[[Any], Any], events: list[bytes]
) -> None:
    """In the middle of an event, after some that arrived; the connection is given up."""
    with Server(streams(*events)) as server:
        client = aws.wrap(make(server.url, service, inject_host_prefix=False), guarded())
        with contextlib.closing(begin(client)) as stream:
            stopwatch = time.monotonic()
            arrived = []
            with pytest.raises(Exception, match=r"(?i)timed out|timeout"):
                for one in stream:
                    arrived.append(one)
                    stopwatch = time.monotonic()
            took = time.monotonic() - stopwatch
        assert len(arrived) == sum(b"initial-response" not in one for one in events)
        assert TIMEOUT - LATE <= took <= TIMEOUT + LATE
        assert sockets_to(server.port) == 0
        assert server.requests == 1


def test_an_event_stream_that_never_begins(make: Callable[..., Any]) -> None:
    """The first event of Kinesis belongs to the call, and is held to the call's times."""
    policy = guarded()
    with Server(streams()) as server:
        client = aws.wrap(make(server.url, "kinesis"), policy)
        took, error = timed(lambda: subscribe(client))
        assert isinstance(error, rs.TimedOut)
        assert took <= DEADLINE + LATE
        client.close()
        assert sockets_to(server.port) == 0
    assert held(policy) == 0
