"""Servers that keep an asynchronous client waiting: every call ends on time, and leaves nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import BotoCoreError, ReadTimeoutError

import resilience as rs
from aio.support import Lag, client, run, settled
from aws.servers import (
    Behavior,
    Peer,
    Server,
    answers,
    blackhole,
    dribbles_body,
    dribbles_chunks,
    dribbles_headers,
    each,
    half_closes,
    half_closes_midway,
    hangs,
    head,
    mute,
    never_reads,
    resets,
    sockets_open,
    stalls,
)
from resilience import aws

if TYPE_CHECKING:
    from aws.certificates import Certificate

LIMIT = 0.2
SLACK = 0.05
MANY = 50
SLOW = {
    "mute": mute,
    "hangs": hangs,
    "dribbles_headers": dribbles_headers,
    "dribbles_body": dribbles_body,
    "dribbles_chunks": dribbles_chunks,
    "stalls": stalls,
}
BROKEN = {"half_closes": half_closes, "half_closes_midway": half_closes_midway, "resets": resets}


async def took(call: Any) -> tuple[float, BaseException | None]:
    """Seconds until *call* ended, and what it raised."""
    began = time.monotonic()
    try:
        await call
    except Exception as error:
        return time.monotonic() - began, error
    return time.monotonic() - began, None


async def at_once(call: Callable[[], Any], tasks: int) -> tuple[list[tuple[float, BaseException | None]], float]:
    """How that many calls made at once ended, and how many seconds late they may have been."""
    async with Lag() as lag:
        ended = await asyncio.gather(*(took(call()) for _ in range(tasks)))
    return ended, SLACK + lag.worst


def longest(ended: list[tuple[float, BaseException | None]]) -> float:
    """The longest that an attempt or call went on, by what it was ended with."""
    return max(error.elapsed or 0.0 for _, error in ended if isinstance(error, rs.TimedOut))


@pytest.mark.parametrize("tasks", [1, MANY])
@pytest.mark.parametrize("behavior", SLOW.values(), ids=SLOW)
@run
async def test_a_slow_server_is_left_on_time(behavior: Behavior, tasks: int) -> None:
    """However it keeps the client waiting, and from many tasks as from one; the connection is closed, not kept."""
    with Server(behavior) as server:
        async with client(server.url, max_pool_connections=tasks) as made:
            before = sockets_open()
            policy = rs.Policy(timeout=LIMIT, bulkhead=rs.Bulkhead(tasks), registry=None)
            aws.wrap(made, policy)
            ended, slack = await at_once(lambda: made.get_item(TableName="t", Key={}), tasks)
            # 50 requests made at once have to be signed one after the other; each attempt's own time is what counts.
            assert all(type(error) is rs.TimedOut for _, error in ended)
            assert longest(ended) <= LIMIT + slack
            if tasks == 1:
                assert LIMIT <= ended[0][0] <= LIMIT + slack
            # Those of the server's side live in this process as well.
            assert await settled(lambda: not _connector(made)._acquired)
            assert not any(_connector(made)._conns.values())
    assert policy.counters["bulkhead"]["in_use"] == 0  # type: ignore[index]
    assert sockets_open() <= before


def _connector(made: Any) -> Any:
    (session,) = made._endpoint.http_session._sessions.values()
    return session.connector


@pytest.mark.parametrize("tasks", [1, MANY])
@pytest.mark.parametrize("behavior", [hangs, dribbles_body], ids=["hangs", "dribbles_body"])
@run
async def test_a_deadline_ends_the_retries_as_well(behavior: Behavior, tasks: int) -> None:
    """Attempts shorter than the deadline are made until it is over, and not longer."""
    with Server(behavior) as server:
        async with client(server.url, max_pool_connections=2 * tasks) as made:
            retry = rs.Retry(on=Exception, attempts=99, backoff=0.0, budget=None)
            aws.wrap(made, rs.Policy(deadline=0.5, timeout=LIMIT, retry=retry, registry=None))
            ended, slack = await at_once(lambda: made.get_item(TableName="t", Key={}), tasks)
            assert all(isinstance(error, rs.TimedOut) for _, error in ended)
            assert tasks > 1 or ended[0][0] <= 0.5 + slack
            assert longest(ended) <= 0.5 + slack
            assert 3 * tasks >= server.connections >= 2 * tasks


@pytest.mark.parametrize("behavior", BROKEN.values(), ids=BROKEN)
@run
async def test_a_broken_connection_is_an_error_of_botocores(behavior: Behavior) -> None:
    """At once, not at the end of the time; as often as the policy says, each time on a new connection."""
    with Server(behavior) as server:
        async with client(server.url) as made:
            retry = rs.Retry(on=BotoCoreError, attempts=3, backoff=0.0, budget=None)
            aws.wrap(made, rs.Policy(deadline=5.0, timeout=2.0, retry=retry, registry=None))
            seconds, error = await took(made.get_item(TableName="t", Key={}))
            assert seconds < 1.0 and isinstance(error, BotoCoreError)
            assert server.connections == 3


@pytest.mark.parametrize("tasks", [1, MANY])
@run
async def test_a_tls_handshake_that_stalls_is_left_on_time(tasks: int) -> None:
    """The server takes the connection and says nothing, ever."""
    with Server(mute) as server:
        async with client(f"https://127.0.0.1:{server.port}", verify=False, max_pool_connections=tasks) as made:
            aws.wrap(made, rs.Policy(timeout=LIMIT, registry=None))
            ended, slack = await at_once(made.list_tables, tasks)
            assert all(type(error) is rs.TimedOut for _, error in ended)
            assert longest(ended) <= LIMIT + slack


@pytest.mark.parametrize("tasks", [1, MANY])
@run
async def test_a_connection_that_is_never_made_is_left_on_time(tasks: int) -> None:
    """Nobody answers to the first packet."""
    with blackhole() as port:
        async with client(f"http://127.0.0.1:{port}", max_pool_connections=tasks) as made:
            aws.wrap(made, rs.Policy(timeout=LIMIT, registry=None))
            ended, slack = await at_once(made.list_tables, tasks)
            assert all(type(error) is rs.TimedOut for _, error in ended)
            assert longest(ended) <= LIMIT + slack


@run
async def test_a_body_nobody_takes_is_left_on_time() -> None:
    """Sending waits for the peer too."""
    with Server(never_reads) as server:
        async with client(server.url, "s3", request_checksum_calculation="when_required") as made:
            aws.wrap(made, rs.Policy(timeout=LIMIT, registry=None))
            seconds, error = await took(made.put_object(Bucket="b", Key="k", Body=b"x" * 20_000_000))
            assert (
                longest([(seconds, error)]) <= LIMIT + 2 * SLACK and seconds < 1.0
            )  # 20 MB are hashed without a pause


@run
async def test_a_place_in_the_pool_is_waited_for_no_longer_than_the_limit() -> None:
    """One connection is allowed, and it hangs."""
    with Server(hangs) as server:
        async with client(server.url, max_pool_connections=1) as made:
            aws.wrap(made, rs.Policy(timeout=LIMIT, registry=None))
            ended, slack = await at_once(made.list_tables, 3)
            assert all(type(error) is rs.TimedOut for _, error in ended)
            assert max(seconds for seconds, _ in ended) <= LIMIT + slack


@run
async def test_connections_are_reused_unless_they_were_given_up(certificate: Certificate) -> None:
    """Over TLS as well: ten calls, one connection; after one that was given up, a second."""
    slow = asyncio.Event()

    @each
    def behavior(peer: Peer) -> None:
        if slow.is_set():
            slow.clear()
            peer.wait()
        peer.send(head(2) + b"{}")

    for tls in (None, certificate.server()):
        with Server(behavior, tls=tls) as server:
            async with client(server.url, verify=certificate.cert if tls else None) as made:
                aws.wrap(made, rs.Policy(timeout=1.0, registry=None))
                for _ in range(10):
                    await made.list_tables()
                assert server.connections == 1
                slow.set()
                with rs.override(timeout=LIMIT), pytest.raises(rs.TimedOut):
                    await made.list_tables()
                for _ in range(3):
                    await made.list_tables()
                assert server.connections == 2


# -- bodies ------------------------------------------------------------------------------------------------------------


def trickles(pieces: int, every: float, *, then: float | None = None, chunked: bool = False) -> Behavior:
    """A body in so many pieces; *then* stop for good, or go on after so many seconds."""
    piece = b"a\r\n" + b"x" * 10 + b"\r\n" if chunked else b"x" * 10

    @each
    def behavior(peer: Peer) -> None:
        peer.send(head(None if chunked else 20 * pieces))
        for number in range(2 * pieces):
            if number == pieces and peer.wait(then):
                return
            peer.send(piece)
            if peer.wait(every):
                return
        if chunked:
            peer.send(b"0\r\n\r\n")

    return behavior


@contextlib.asynccontextmanager
async def opened(behavior: Behavior, **settings: Any) -> AsyncIterator[tuple[Any, Server]]:
    """An S3 client, and the server it knows."""
    with Server(behavior) as server:
        async with client(server.url, "s3", **settings) as made:
            yield made, server


def handles() -> int:
    """The timers of the event loop that are still to go off."""
    scheduled = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return sum(not handle.cancelled() for handle in scheduled)


@pytest.mark.parametrize("chunked", [False, True])
@run
async def test_a_body_that_stalls_is_left_after_the_attempts_timeout(chunked: bool) -> None:
    """The call has returned long ago; the reader gets botocore's timeout, and the connection is closed, not reused."""
    async with opened(trickles(3, 0.12, chunked=chunked)) as (made, server):
        aws.wrap(made, rs.Policy(timeout=LIMIT, registry=None))
        body = (await made.get_object(Bucket="b", Key="k"))["Body"]
        began, data = time.monotonic(), b""
        with pytest.raises(ReadTimeoutError) as caught:
            while piece := await body.read(7):
                data += piece
                last = time.monotonic()
        assert data == b"x" * 30 and time.monotonic() - began > 2 * 0.12  # each piece has its own time
        assert time.monotonic() - last <= LIMIT + SLACK
        assert isinstance(caught.value, TimeoutError) and isinstance(caught.value.__context__, rs.TimedOut)
        assert not _connector(made)._acquired and not any(_connector(made)._conns.values())
        assert server.connections == 1


@run
async def test_reading_all_of_a_body_waits_for_each_piece_alone() -> None:
    """A long body that keeps coming is no stall; one that stops is."""
    async with opened(trickles(4, 0.1, then=0.0)) as (made, _):
        aws.wrap(made, rs.Policy(timeout=LIMIT, registry=None))
        body = (await made.get_object(Bucket="b", Key="k"))["Body"]
        assert await body.read() == b"x" * 80
    async with opened(trickles(2, 0.1)) as (made, _):
        aws.wrap(made, rs.Policy(timeout=LIMIT, registry=None))
        body = (await made.get_object(Bucket="b", Key="k"))["Body"]
        began = time.monotonic()
        with pytest.raises(ReadTimeoutError):
            await body.read()
        assert 0.1 + LIMIT <= time.monotonic() - began <= 0.1 + LIMIT + 2 * SLACK


@pytest.mark.parametrize("tasks", [1, MANY])
@run
async def test_a_deadline_around_the_call_holds_for_the_body(tasks: int) -> None:
    """Bytes that go on coming do not help, and neither does a reader that takes its time."""
    async with opened(trickles(50, 0.02, then=0.0), max_pool_connections=tasks) as (made, _):
        aws.wrap(made, rs.Policy(timeout=5.0, registry=None))

        async def read(number: int) -> tuple[float, BaseException | None]:
            async def whole() -> None:
                body = (await made.get_object(Bucket="b", Key="k"))["Body"]
                async for _ in body.iter_chunks(10):
                    await asyncio.sleep(0.03 if number % 2 else 0.0)

            try:
                with rs.deadline(0.4):
                    return await took(whole())
            except rs.DeadlineExceeded as error:  # the block has its own word
                return 0.0, error

        before = handles()
        async with Lag() as lag:
            ended = await asyncio.gather(*map(read, range(tasks)))
        assert all(isinstance(error, (ReadTimeoutError, rs.DeadlineExceeded)) for _, error in ended)
        assert max(seconds for seconds, _ in ended) <= 0.4 + SLACK + lag.worst
        assert await settled(lambda: not _connector(made)._acquired)
        assert handles() <= before + 1  # the connector's own


@run
async def test_a_body_read_to_its_end_leaves_no_timer_and_its_connection() -> None:
    """Nor does one that is closed early; one that has come completely may be read when all time is over."""
    async with opened(answers(b"x" * 300_000)) as (made, server):
        aws.wrap(made, rs.Policy(timeout=30.0, registry=None))
        await (await made.get_object(Bucket="b", Key="k"))["Body"].read()
        before = handles()
        with rs.deadline(60.0):
            for _ in range(3):
                body = (await made.get_object(Bucket="b", Key="k"))["Body"]
                assert len(await body.read()) == 300_000
            assert server.connections == 1 and handles() <= before
            body = (await made.get_object(Bucket="b", Key="k"))["Body"]
            body.close()
            assert not _connector(made)._acquired
            assert handles() <= before
        with Server(answers(b"short")) as short:
            async with client(short.url, "s3") as other:
                aws.wrap(other, rs.Policy(timeout=30.0, registry=None))
                with rs.deadline(LIMIT):
                    body = (await other.get_object(Bucket="b", Key="k"))["Body"]
                await asyncio.sleep(LIMIT)
                assert await body.read() == b"short"


@run
async def test_a_body_that_breaks_is_an_error_of_botocores() -> None:
    """Reading on after the server went is no timeout, and the connection is closed."""

    def breaks(peer: Peer) -> None:
        peer.request()
        peer.send(head(100) + b"x" * 10)

    async with opened(breaks) as (made, _):
        aws.wrap(made, rs.Policy(timeout=1.0, registry=None))
        body = (await made.get_object(Bucket="b", Key="k"))["Body"]
        with pytest.raises(Exception, match=r"(?i)payload|incomplete|connection|read") as caught:
            await body.read()
        assert not isinstance(caught.value, TimeoutError)
        assert not _connector(made)._acquired


@run
async def test_a_reader_may_be_cancelled_and_go_on() -> None:
    """The caller's own timeout around one read is none of ours: the body stays open."""
    async with opened(trickles(2, 0.1, then=0.0)) as (made, _):
        aws.wrap(made, rs.Policy(timeout=1.0, registry=None))
        body = (await made.get_object(Bucket="b", Key="k"))["Body"]
        assert await body.read(10) == b"x" * 10
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.02):
                await body.read(10)
        assert type(caught.value) is TimeoutError
        assert await body.read() == b"x" * 30


@run
async def test_the_other_ways_to_read_are_timed_too() -> None:
    """The reader of aiohttp's below a body has more of them."""
    async with opened(trickles(3, 0.0)) as (made, _):
        aws.wrap(made, rs.Policy(timeout=LIMIT, registry=None))

        async def reader() -> Any:
            body = (await made.get_object(Bucket="b", Key="k"))["Body"]
            return body, (getattr(body, "_raw_stream", None) or body.__wrapped__).content

        async def collect(pieces: Any) -> list[Any]:
            return [piece async for piece in pieces]

        async def cut(way: Callable[[Any], Any]) -> None:
            body, content = await reader()
            began = time.monotonic()
            with pytest.raises(rs.TimedOut):
                await way(content)
            assert time.monotonic() - began <= LIMIT + 2 * SLACK
            assert not content.at_eof() and content.total_bytes == 30
            del body

        await asyncio.gather(
            cut(lambda content: content.readline()),
            cut(lambda content: content.readuntil(b"y")),
            cut(lambda content: content.readexactly(50)),
            cut(collect),
            cut(lambda content: collect(content.iter_any())),
            cut(lambda content: collect(content.iter_chunked(10))),
            cut(lambda content: collect(content.iter_chunks())),
        )
        assert not _connector(made)._acquired


# -- event streams -----------------------------------------------------------------------------------------------------


def event(name: str, payload: bytes) -> bytes:
    """One message of an event stream."""
    from binascii import crc32

    def header(key: str, value: str) -> bytes:
        return bytes([len(key)]) + key.encode() + b"\x07" + len(value).to_bytes(2, "big") + value.encode()

    headers = header(":message-type", "event") + header(":event-type", name)
    prelude = (16 + len(headers) + len(payload)).to_bytes(4, "big") + len(headers).to_bytes(4, "big")
    message = prelude + crc32(prelude).to_bytes(4, "big") + headers + payload
    return message + crc32(message).to_bytes(4, "big")


@pytest.mark.parametrize("whole", [True, False])
@run
async def test_event_streams_are_timed(whole: bool) -> None:
    """Events come as they are sent; when none comes for too long, or the deadline is over, the stream ends."""

    @each
    def behavior(peer: Peer) -> None:
        peer.send(head(None))
        for number in range(3):
            data = event("Records", b"%d" % number)
            peer.send(b"%x\r\n%s\r\n" % (len(data), data))
        if whole or not peer.wait():
            peer.send(b"0\r\n\r\n")

    selection: dict[str, Any] = {"InputSerialization": {"CSV": {}}, "OutputSerialization": {"CSV": {}}}
    async with opened(behavior) as (made, server):
        aws.wrap(made, rs.Policy(timeout=LIMIT, registry=None))
        answer = await made.select_object_content(
            Bucket="b", Key="k", Expression="SELECT", ExpressionType="SQL", **selection
        )
        seen: list[bytes] = []
        began = time.monotonic()
        with contextlib.nullcontext() if whole else pytest.raises(rs.TimedOut):
            async for one in answer["Payload"]:
                seen += [one["Records"]["Payload"]]
        assert seen == [b"0", b"1", b"2"]
        assert time.monotonic() - began <= LIMIT + SLACK
        assert not _connector(made)._acquired and server.connections == 1
