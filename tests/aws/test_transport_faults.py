"""Servers that behave badly: a call ends at its limit, from one thread and from fifty, and leaves nothing behind."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ConnectionClosedError, ConnectTimeoutError, ReadTimeoutError

from aws import servers
from aws.certificates import Certificate
from aws.limited import client, cut, nothing_left, within
from aws.servers import Behavior, Peer, Server, blackhole
from together import outcomes

SECONDS = 0.2
MANY = 50
SOON = 1.0
SLOW = [
    servers.mute,
    servers.hangs,
    servers.dribbles_headers,
    servers.dribbles_body,
    servers.dribbles_chunks,
    servers.stalls,
]
BROKEN = [servers.half_closes, servers.half_closes_midway, servers.resets]
NAMES = {getattr(servers, name): name for name in dir(servers) if callable(getattr(servers, name))}


def named(behavior: Behavior) -> str:
    return NAMES[behavior]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.made(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """No socket and no thread is left by what a test does."""
    with nothing_left():
        yield


@pytest.mark.parametrize("behavior", SLOW, ids=named)
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_slow_server_is_left_at_the_limit(behavior: Behavior, tls: bool, certificate: Certificate) -> None:
    """However a server delays its answer, the call ends at its limit, as a read timeout."""
    context = certificate.server() if tls else None
    with Server(behavior, tls=context) as server, client(server.url, verify=certificate.cert) as dynamodb:
        ended = cut(dynamodb.list_tables, SECONDS)
        assert ended.on_time(SECONDS), ended
        assert isinstance(ended.error, ReadTimeoutError)
        assert server.connections == 1


@pytest.mark.parametrize("behavior", SLOW, ids=named)
def test_slow_server_is_left_by_many_threads(behavior: Behavior) -> None:
    """Fifty threads that share a client are each cut at their own limit."""
    with Server(behavior) as server, client(server.url, max_pool_connections=MANY) as dynamodb:
        _all_on_time(dynamodb, 0.4)
        assert server.connections == MANY


def test_blackhole_is_left_by_many_threads() -> None:
    """So are those whom nobody answers when they connect."""
    with blackhole() as port, client(f"http://{servers.HOST}:{port}", max_pool_connections=MANY) as dynamodb:
        _all_on_time(dynamodb, 0.4)


def test_handshake_is_left_by_many_threads(certificate: Certificate) -> None:
    """So are those whose TLS handshake never ends."""
    with Server(servers.mute) as server:
        url = server.url.replace("http:", "https:")
        with client(url, verify=certificate.cert, max_pool_connections=MANY) as dynamodb:
            _all_on_time(dynamodb, 0.8)


def _all_on_time(dynamodb: Any, seconds: float) -> None:
    """Half of them within 50 ms; and those who have to wait for their turn to run, on a busy machine, within 150."""
    ended, errors = outcomes(lambda _: cut(dynamodb.list_tables, seconds), MANY)
    assert not errors
    assert sum(one.on_time(seconds, 0.05) for one in ended) >= MANY / 2
    assert [one for one in ended if not one.on_time(seconds, 0.15)] == []


@pytest.mark.parametrize("behavior", BROKEN, ids=named)
def test_broken_connection_is_noticed_at_once(behavior: Behavior) -> None:
    """Where the server ends the connection, nobody waits for the limit."""
    with Server(behavior) as server, client(server.url) as dynamodb:
        ended = cut(dynamodb.list_tables, 5)
        assert ended.after < SOON
        assert isinstance(ended.error, ConnectionClosedError)


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("file", [False, True], ids=["bytes", "file"])
def test_upload_to_who_does_not_read(tls: bool, file: bool, certificate: Certificate) -> None:
    """Sending ends at the limit too, botocore's wait for 100 Continue included."""
    context = certificate.server() if tls else None
    data = b"x" * 20_000_000
    with Server(servers.never_reads, tls=context) as server, client(server.url, "s3", verify=certificate.cert) as s3:
        body = io.BytesIO(data) if file else data
        ended = cut(lambda: s3.put_object(Bucket="b", Key="k", Body=body), 0.6)
        assert ended.on_time(0.6), ended
        assert isinstance(ended.error, ConnectionClosedError)


def test_upload_dribbled_away_is_left_at_the_limit(certificate: Certificate) -> None:
    """A server that takes a little again and again does not put off the end of sending, under TLS neither."""

    def sips(peer: servers.Peer) -> None:
        peer.request(body=False)
        while not peer.wait(0.02):
            peer.sock.recv(20_000)

    for context in (None, certificate.server()):
        with Server(sips, tls=context) as server, client(server.url, "s3", verify=certificate.cert) as s3:
            ended = cut(lambda one=s3: one.put_object(Bucket="b", Key="k", Body=b"x" * 20_000_000), 0.6)
            assert ended.on_time(0.6), ended


def test_expect_leaves_time_for_the_body() -> None:
    """Where botocore would wait a second for 100 Continue, it waits half of what is left, and then sends the body."""
    kept: list[bytes] = []

    def silent(peer: Peer) -> None:
        while peer.request(continues=False):
            kept.append(peer.body)
            peer.send(servers.head(0))

    with Server(silent) as server, client(server.url, "s3") as s3:
        ended = cut(lambda: s3.put_object(Bucket="b", Key="k", Body=io.BytesIO(b"data")), 0.6)
        assert ended.error is None
        assert 0.2 < ended.after < 0.6
        assert b"data" in kept[0]


@pytest.mark.parametrize("seconds", [0.8, 8])
def test_expect_is_answered(seconds: float) -> None:
    """A server that says 100 Continue is sent the body at once; one that refuses, nothing."""
    with Server(servers.answers(b"")) as server, client(server.url, "s3") as s3:
        ended = cut(lambda: s3.put_object(Bucket="b", Key="k", Body=io.BytesIO(b"data")), seconds)
        assert ended.error is None
        assert ended.after < 0.4

    def refuses(peer: Peer) -> None:
        peer.request(body=False)
        peer.send(servers.head(0, "403 Forbidden"))
        assert not peer.request(body=False)

    with Server(refuses) as server, client(server.url, "s3") as s3:
        with within(seconds), pytest.raises(s3.exceptions.ClientError):
            s3.put_object(Bucket="b", Key="k", Body=io.BytesIO(b"data"))
        assert server.requests == 1


@pytest.mark.parametrize("addresses", [1, 3])
def test_all_addresses_share_the_limit(addresses: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with three addresses where nobody answers takes no longer than one with one."""
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: real(*args, **kwargs) * addresses)
    with blackhole() as port, client(f"http://{servers.HOST}:{port}") as dynamodb:
        ended = cut(dynamodb.list_tables, SECONDS)
        assert ended.on_time(SECONDS), ended
        assert isinstance(ended.error, ConnectTimeoutError)


def test_next_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that does not answer within the client's own connect timeout gives way to the next."""
    with Server(servers.answers()) as server, blackhole() as port:
        first, second = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (servers.HOST, number)) for number in (port, server.port)
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: [first, second])
        with client(f"http://{servers.HOST}:{port}", connect_timeout=0.1) as dynamodb:
            ended = cut(dynamodb.list_tables, 5)
            assert ended.error is None
            assert 0.1 <= ended.after < SOON


def test_unresolved_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that has no address, and one where nobody listens, are botocore's usual connection errors."""
    with socket.create_server((servers.HOST, 0)) as listener:
        port = listener.getsockname()[1]

    def fails(*_args: Any, **_kwargs: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "no such host")

    with client(f"http://{servers.HOST}:{port}") as dynamodb:
        plain = _error(dynamodb, None)
        assert type(_error(dynamodb, 5)) is type(plain)
        monkeypatch.setattr(socket, "getaddrinfo", fails)
        assert type(_error(dynamodb, 5)) is type(_error(dynamodb, None)) is type(plain)


def _error(dynamodb: Any, seconds: float | None) -> BaseException | None:
    if seconds is not None:
        return cut(dynamodb.list_tables, seconds).error
    try:
        dynamodb.list_tables()
    except Exception as error:
        return error
    return None
