"""What is read after its call, and what is ended by another thread."""

from __future__ import annotations

import contextvars
import io
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3
from botocore.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from aws import servers
from aws.limited import PROMPT, Ended, client, cut, idle, limit, nothing_left, within
from aws.servers import Peer, Server, blackhole
from resilience.aws._transport import aborting, hand_over


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """No socket and no thread is left by what a test does."""
    with nothing_left():
        yield


@servers.each
def slow(peer: Peer) -> None:
    """Answer after 0.2 s."""
    peer.wait(0.2)
    peer.send(servers.head(2) + b"{}")


# -- bodies that are read later ----------------------------------------------------------------------------------------


def streamed(seconds: float, s3: Any) -> Any:
    with within(seconds):
        return s3.get_object(Bucket="b", Key="k")["Body"]


def read(body: Any) -> Ended:
    began = time.monotonic()
    error = None
    try:
        body.read()
    except ReadTimeoutError as raised:
        error = raised
    return Ended(time.monotonic() - began, error)


def dribbling(count: int) -> servers.Behavior:
    @servers.each
    def serve(peer: Peer) -> None:
        peer.send(servers.head(count))
        peer.dribble(b"x" * count)

    return serve


def test_body_is_cut_at_its_new_limit() -> None:
    """A body that dribbles in is cut at the limit handed over, from another thread as well."""
    with Server(servers.dribbles_body) as server, client(server.url, "s3") as s3:
        for threaded in (False, True):
            body = streamed(5, s3)
            hand_over(body._raw_stream, limit=limit(0.3), stall=0.2)
            ended: list[Ended] = []
            if threaded:
                thread = threading.Thread(target=lambda one=body, kept=ended: kept.append(read(one)))
                thread.start()
                thread.join()
            else:
                ended.append(read(body))
            assert ended[0].error is not None
            assert 0.25 <= ended[0].after <= 0.3 + PROMPT
        assert server.connections == 2


@pytest.mark.parametrize("bounded", [False, True])
def test_body_that_stalls(bounded: bool) -> None:
    """A body that stops is cut after so many seconds without a byte."""
    with Server(servers.stalls) as server, client(server.url, "s3") as s3:
        body = streamed(5, s3)
        hand_over(body._raw_stream, limit=limit(5) if bounded else None, stall=0.2)
        assert read(body).on_time(0.2)
        assert all(conn.sock is None for conn in idle(s3, server.url))


def test_body_outlives_the_limit_of_its_call() -> None:
    """Handed over without a limit, a body may take longer than the call could; then the client's timeout holds."""
    with Server(dribbling(6)) as server, client(server.url, "s3") as s3:
        body = streamed(0.15, s3)
        hand_over(body._raw_stream, limit=None, stall=None)
        assert body.read() == b"xxxxxx"
        assert server.connections == 1
    with Server(servers.stalls) as server, client(server.url, "s3", read_timeout=0.2) as s3:
        body = streamed(0.1, s3)
        hand_over(body._raw_stream, limit=None, stall=None)
        assert read(body).on_time(0.2)


def test_body_not_handed_over_keeps_the_limit() -> None:
    """Until somebody hands it over, a body is read under the limit of its call."""
    with Server(servers.dribbles_body) as server, client(server.url, "s3") as s3:
        began = time.monotonic()
        error = read(streamed(0.2, s3)).error
        assert Ended(time.monotonic() - began, error).on_time(0.2)


def test_stall_is_not_the_next_users() -> None:
    """When a body has been read, the next call on the same connection has the client's timeouts again."""
    with Server(dribbling(2)) as server, client(server.url, "s3") as s3:
        for given in (None, limit(5)):
            body = streamed(5, s3)
            hand_over(body._raw_stream, limit=given, stall=1.0)
            assert body.read() == b"xx"
            hand_over(body._raw_stream, limit=limit(0), stall=0.0001)  # read to its end: not its connection any more
            assert s3.get_object(Bucket="b", Key="k")["Body"].read() == b"xx"
        assert server.connections == 1


def test_next_user_waits_longer_than_the_stall() -> None:
    """A short stall of one user does not cut the next one's slow answer."""

    def serve(peer: Peer) -> None:
        peer.request()
        peer.send(servers.head(2) + b"{}")
        slow(peer)

    with Server(serve) as server, client(server.url, "s3") as s3:
        body = streamed(5, s3)
        hand_over(body._raw_stream, limit=limit(5), stall=0.05)
        body.read()
        assert s3.get_object(Bucket="b", Key="k")["Body"].read() == b"{}"
        with within(5):
            s3.get_object(Bucket="b", Key="k")["Body"].read()
        assert server.connections == 1


def test_limit_of_a_body_is_not_the_next_users() -> None:
    """The limit of a body whose call had none ends with that body too."""
    with Server(dribbling(1)) as server, client(server.url, "s3") as s3:
        body = s3.get_object(Bucket="b", Key="k")["Body"]
        hand_over(body._raw_stream, limit=limit(0.1), stall=None)
        assert body.read() == b"x"
        time.sleep(0.1)
        assert s3.get_object(Bucket="b", Key="k")["Body"].read() == b"x"
        assert server.connections == 1


def test_user_may_set_a_timeout_of_a_body() -> None:
    """``set_socket_timeout`` of a streaming body works as ever, and goes before the stall handed over."""
    with Server(servers.stalls) as server, client(server.url, "s3") as s3:
        for given in (None, limit(5)):
            body = streamed(5, s3)
            hand_over(body._raw_stream, limit=given, stall=3)
            body.set_socket_timeout(0.1)
            assert read(body).on_time(0.1)


def test_connection_that_is_to_be_closed_is_bounded_as_well() -> None:
    """Where the server announces to close, the body is bounded just the same."""

    def serve(peer: Peer) -> None:
        peer.request()
        peer.send(servers.head(100, "200 OK", "Connection: close") + b"x")
        peer.wait()

    with Server(serve) as server, client(server.url, "s3") as s3:
        body = streamed(5, s3)
        hand_over(body._raw_stream, limit=None, stall=0.1)
        assert read(body).on_time(0.1)


def test_event_stream_is_cut() -> None:
    """An event stream is cut too; urllib3's error comes through, or botocore's where botocore translates it."""
    with Server(servers.stalls) as server, client(server.url, "lambda") as lambda_:
        with within(5):
            events = lambda_.invoke_with_response_stream(FunctionName="f")["EventStream"]
        hand_over(events._raw_stream, limit=None, stall=0.2)
        began = time.monotonic()
        with pytest.raises((urllib3.exceptions.ReadTimeoutError, ReadTimeoutError)):
            list(events)
        assert 0.2 <= time.monotonic() - began <= 0.2 + PROMPT


def test_others_cannot_be_handed_over() -> None:
    """Raw responses of stubs have no connection: they are left alone."""
    hand_over(io.BytesIO(b""), limit=limit(1), stall=1)


# -- ended by another thread -------------------------------------------------------------------------------------------


def aborted(made: Any, after: float) -> Ended:
    """Make a call in this thread that another one aborts: how long after that it ended."""
    aborts: list[float] = []

    def abort() -> None:
        aborts.append(time.monotonic())
        handle.abort()

    with aborting() as handle:
        timer = threading.Timer(after, abort)
        timer.start()
        error = cut(made.list_tables, 5).error
        ended = Ended(time.monotonic() - aborts[0], error)
        timer.join()
    return ended


def test_attempt_is_aborted_wherever_it_is() -> None:
    """Whether it waits for an answer, shakes hands or connects: it ends at once, as a connection error."""
    with Server(servers.hangs) as server, client(server.url) as dynamodb:
        ended = aborted(dynamodb, 0.1)
        assert ended.on_time(0)
        assert isinstance(ended.error, ConnectionClosedError)
        assert server.connections == 1
    with Server(servers.mute) as server, client(server.url.replace("http:", "https:"), verify=False) as dynamodb:
        ended = aborted(dynamodb, 0.1)
        assert ended.on_time(0)
    with blackhole() as port, client(f"http://{servers.HOST}:{port}") as dynamodb:
        ended = aborted(dynamodb, 0.1)
        assert ended.on_time(0)
        assert isinstance(ended.error, (ConnectTimeoutError, EndpointConnectionError))


def test_abort_without_a_limit() -> None:
    """It needs no limit; and a connection that was idle before is found as well."""
    answered = servers.head(2) + b"{}"

    def serve(peer: Peer) -> None:
        peer.request()
        peer.send(answered)
        servers.hangs(peer)

    with Server(serve) as server, client(server.url) as dynamodb:
        dynamodb.list_tables()
        with aborting() as handle:
            timer = threading.Timer(0.1, handle.abort)
            timer.start()
            with pytest.raises(ConnectionClosedError):
                dynamodb.list_tables()
            timer.join()
        assert server.connections == 1


def test_aborted_before_it_began() -> None:
    """An attempt that was aborted makes no request any more, and takes no connection from others."""
    with Server(servers.answers()) as server, client(server.url) as dynamodb:
        dynamodb.list_tables()
        with aborting() as handle:
            handle.abort()
            with pytest.raises(ConnectTimeoutError):
                dynamodb.list_tables()
        dynamodb.list_tables()
        assert (server.connections, server.requests) == (1, 2)


def test_abort_harms_nobody_else() -> None:
    """A connection that went back to the pool is no longer the attempt's: aborting then does nothing to it."""
    with Server(servers.answers()) as server, client(server.url) as dynamodb:
        elsewhere = contextvars.copy_context()
        with aborting() as handle:
            dynamodb.list_tables()
            handle.abort()
            elsewhere.run(dynamodb.list_tables)
        handle.abort()
        dynamodb.list_tables()
        assert (server.connections, server.requests) == (1, 3)
