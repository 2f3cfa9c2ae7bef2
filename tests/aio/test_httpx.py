"""aiobotocore's other session, that of httpx: calls and bodies are held to their time all the same."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from aiobotocore.httpxsession import HttpxSession
from botocore.exceptions import ReadTimeoutError

import resilience as rs
from aio.support import client, flaky, run
from aws.scripted import Answer, Scripted, error, s3_error
from aws.servers import Peer, Server, answers, dribbles_body, each, hangs, head
from resilience import aws

# httpx itself is deprecated as a session by aiobotocore, in favor of its successor httpx2; older ones know only httpx.
pytestmark = pytest.mark.filterwarnings("ignore:aiobotocore's httpx backend now prefers:DeprecationWarning")

LIMIT = 0.2
SLACK = 0.05


@pytest.fixture
def session() -> dict[str, Any]:
    return {"http_session_cls": HttpxSession}


def calls_made(made: Any) -> list[Any]:
    return list(made._endpoint.http_session._session._transport._pool.connections)


@run
async def test_attempts_are_those_of_the_policy(session: dict[str, Any]) -> None:
    """Neither more nor less."""
    with Scripted(error(500, "InternalServerError")) as server:
        async with client(server.url, **session) as made:
            aws.wrap(made, flaky(3))
            with pytest.raises(made.exceptions.ClientError):
                await made.list_tables()
    assert len(server.asked) == 3


@pytest.mark.parametrize("behavior", [hangs, dribbles_body], ids=["hangs", "dribbles_body"])
@run
async def test_a_slow_server_is_left_on_time(behavior: Any, session: dict[str, Any]) -> None:
    """And its connection is closed."""
    with Server(behavior) as server:
        async with client(server.url, **session) as made:
            aws.wrap(made, rs.Policy(timeout=LIMIT, registry=None))
            began = time.monotonic()
            with pytest.raises(rs.TimedOut):
                await made.list_tables()
            assert time.monotonic() - began <= LIMIT + 2 * SLACK
            assert calls_made(made) == []


@each
def pauses(peer: Peer) -> None:
    """Stop in the middle for longer than is allowed."""
    peer.send(head(60) + b"x" * 30)
    if not peer.wait(1.0):
        peer.send(b"x" * 30)


@each
def trickles(peer: Peer) -> None:
    peer.send(head(1000))
    peer.dribble(b"x" * 1000, 0.02)


@pytest.mark.parametrize("part", ["stall", "deadline"])
@run
async def test_a_body_is_held_to_its_time(part: str, session: dict[str, Any]) -> None:
    """A stall, and the deadline around: botocore's timeout, and the connection is closed."""
    with Server(pauses if part == "stall" else trickles) as server:
        async with client(server.url, "s3", **session) as made:
            aws.wrap(made, rs.Policy(timeout=LIMIT, registry=None))
            began = time.monotonic()
            with pytest.raises((ReadTimeoutError, rs.DeadlineExceeded)) as caught, rs.deadline(0.3):
                body = (await made.get_object(Bucket="b", Key="k"))["Body"]
                await body.read()
            assert (0.3 if part == "deadline" else LIMIT) <= time.monotonic() - began <= 0.3 + SLACK
            assert isinstance(caught.value, TimeoutError)
            assert calls_made(made) == []


@run
async def test_bodies_that_come_in_time_are_whole(session: dict[str, Any]) -> None:
    """Read at once or in pieces; one connection does for all of them."""
    with Server(answers(b"x" * 300_000)) as server:
        async with client(server.url, "s3", **session) as made:
            aws.wrap(made, flaky(deadline=9.0, timeout=5.0))
            for _ in range(3):
                body = (await made.get_object(Bucket="b", Key="k"))["Body"]
                assert len(await body.read()) == 300_000
            body = (await made.get_object(Bucket="b", Key="k"))["Body"]
            assert sum([len(piece) async for piece in body.iter_chunks(7_000)]) == 300_000
            assert server.connections == 1


@run
async def test_streams_nobody_reads_are_closed(session: dict[str, Any]) -> None:
    """Of an answer that was not good enough, before an error."""
    answer = Answer(body=b"x" * 3_000_000)
    with Scripted(answer, s3_error(500, "InternalError")) as server:
        retry = rs.Retry(on=KeyError, on_result=lambda _: True, attempts=2, backoff=0.0)
        async with client(server.url, "s3", **session) as made:
            aws.wrap(made, rs.Policy(retry=retry, registry=None))
            with pytest.raises(made.exceptions.ClientError):
                await made.get_object(Bucket="b", Key="k")
            await asyncio.sleep(0)
            assert len(calls_made(made)) <= 1
    assert len(server.asked) == 2
