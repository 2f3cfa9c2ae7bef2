"""Proxies and TLS: they work as ever, and what is slow about them is left at the limit."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3.util.connection

from aws import servers
from aws.certificates import Certificate
from aws.limited import client, cut, nothing_left, within
from aws.servers import Behavior, Server

SECONDS = 0.2


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.made(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """No socket and no thread is left by what a test does."""
    with nothing_left():
        yield


# -- proxies -----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[False, True], ids=["proxy", "tls-proxy"])
def through(request: pytest.FixtureRequest, certificate: Certificate) -> Any:
    """``through(url, behavior)``: a proxy, and a client that uses it."""

    @contextlib.contextmanager
    def use(url: str, behavior: Behavior, **config: Any) -> Iterator[tuple[Server, Any]]:
        with Server(behavior, tls=certificate.server() if request.param else None) as proxy:
            settings = {"proxy_ca_bundle": certificate.cert, **config} if request.param else None
            proxies = {"http": proxy.url, "https": proxy.url}
            with client(url, verify=certificate.cert, proxies=proxies, proxies_config=settings) as dynamodb:
                yield proxy, dynamodb

    return use


def test_tunnel_works_and_is_reused(through: Any, certificate: Certificate) -> None:
    """A CONNECT proxy is passed through as ever, and its tunnel is used again."""
    with (
        Server(servers.answers(), tls=certificate.server()) as target,
        through(target.url, servers.tunnels()) as (proxy, dynamodb),
    ):
        assert [cut(dynamodb.list_tables, 5).error for _ in range(3)] == [None] * 3
        assert (proxy.connections, target.connections, target.requests) == (1, 1, 3)


@pytest.mark.parametrize("behavior", [servers.tunnels(9), servers.tunnels(0, 0.05)], ids=["late", "dribbled"])
def test_slow_tunnel(behavior: Behavior, through: Any, certificate: Certificate) -> None:
    """A proxy that opens its tunnel late, or says so byte by byte, is left at the limit."""
    with (
        Server(servers.answers(), tls=certificate.server()) as target,
        through(target.url, behavior) as (_, dynamodb),
    ):
        ended = cut(dynamodb.list_tables, SECONDS)
        assert ended.on_time(SECONDS), ended


def test_handshake_and_answer_in_a_tunnel(through: Any, certificate: Certificate) -> None:
    """What is slow behind a proxy is left at the limit: the handshake, and the answer."""
    with (
        Server(servers.mute) as target,
        through(f"https://{servers.HOST}:{target.port}", servers.tunnels()) as (_, dynamodb),
    ):
        ended = cut(dynamodb.list_tables, SECONDS)
        assert ended.on_time(SECONDS), ended
    with (
        Server(servers.dribbles_body, tls=certificate.server()) as target,
        through(target.url, servers.tunnels()) as (_, dynamodb),
    ):
        ended = cut(dynamodb.list_tables, SECONDS)
        assert ended.on_time(SECONDS), ended
        assert target.requests == 1


def test_handshake_after_a_slow_tunnel(through: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that opening a tunnel took is not given to the handshake again, whoever opened the socket."""
    real = urllib3.util.connection.create_connection
    monkeypatch.setattr(urllib3.util.connection, "create_connection", functools.partial(real))
    with (
        Server(servers.mute) as target,
        through(f"https://{servers.HOST}:{target.port}", servers.tunnels(0.2)) as (_, dynamodb),
    ):
        ended = cut(dynamodb.list_tables, 0.4)
        assert ended.on_time(0.4), ended
        assert target.connections == 1


def test_handshake_dribbled_in_a_tunnel(through: Any, certificate: Certificate) -> None:
    """So is a handshake that comes byte by byte through a tunnel, which may be TLS within TLS."""
    with (
        Server(servers.answers(), tls=certificate.server()) as target,
        Server(servers.relays(target.port, 0.02)) as relay,
        through(f"https://{servers.HOST}:{relay.port}", servers.tunnels()) as (_, dynamodb),
    ):
        ended = cut(dynamodb.list_tables, SECONDS)
        assert ended.on_time(SECONDS), ended


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")  # urllib3 before 2.2 means the proxy
def test_forwarding_proxy(through: Any) -> None:
    """A proxy that forwards works as ever, and is left at the limit when it does not."""
    with through("http://192.0.2.1", servers.answers()) as (proxy, dynamodb):
        assert [cut(dynamodb.list_tables, 5).error for _ in range(3)] == [None] * 3
        assert (proxy.connections, proxy.requests) == (1, 3)
    with through("http://192.0.2.1", servers.dribbles_headers) as (_, dynamodb):
        ended = cut(dynamodb.list_tables, SECONDS)
        assert ended.on_time(SECONDS), ended


@pytest.mark.filterwarnings("ignore:Passing ssl_context:FutureWarning")  # botocore's business
def test_forwarding_proxy_for_https(certificate: Certificate) -> None:
    """So does a TLS proxy that is trusted to forward what is https."""
    settings = {"proxy_ca_bundle": certificate.cert, "proxy_use_forwarding_for_https": True}
    with (
        Server(servers.answers(), tls=certificate.server()) as proxy,
        client(
            "https://192.0.2.1", verify=certificate.cert, proxies={"https": proxy.url}, proxies_config=settings
        ) as dynamodb,
    ):
        assert cut(dynamodb.list_tables, 5).error is None
        assert proxy.requests == 1


# -- TLS ---------------------------------------------------------------------------------------------------------------


def test_tls_handshake_dribbled(certificate: Certificate) -> None:
    """A TLS handshake that comes byte by byte is cut at the limit."""
    with (
        Server(servers.answers(), tls=certificate.server()) as target,
        Server(servers.relays(target.port, 0.02)) as relay,
        client(f"https://{servers.HOST}:{relay.port}", verify=certificate.cert) as dynamodb,
    ):
        ended = cut(dynamodb.list_tables, SECONDS)
        assert ended.on_time(SECONDS), ended
        assert target.requests == 0


def test_certificates_are_verified(certificate: Certificate, tmp_path: Path) -> None:
    """A server that nobody vouches for is refused; a client shows the certificate it was given."""
    pair = (certificate.cert, certificate.key)
    with Server(servers.answers(), tls=certificate.server(asks=True)) as server:
        with client(server.url) as dynamodb:
            assert "CERTIFICATE_VERIFY_FAILED" in str(cut(dynamodb.list_tables, 5).error)
        with client(server.url, verify=certificate.cert, client_cert=pair) as dynamodb:
            assert cut(dynamodb.list_tables, 5).error is None
        assert server.requests == 1


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_much_data(tls: bool, certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sent under a limit arrives whole, in pieces or not, and a long answer is read whole."""
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")  # or the body is framed by botocore
    data = bytes(range(256)) * 20_000
    kept: list[bytes] = []

    @servers.each
    def keeps(peer: servers.Peer) -> None:
        kept.append(peer.body)
        peer.send(servers.head(len(data)) + data if peer.head.startswith(b"GET") else servers.head(0))

    context = certificate.server() if tls else None
    with Server(keeps, tls=context) as server, client(server.url, "s3", verify=certificate.cert) as s3:
        with within(10):
            assert s3.get_object(Bucket="b", Key="k")["Body"].read() == data
            for body in (data, io.BytesIO(data)):
                s3.upload_part(Bucket="b", Key="k", PartNumber=1, UploadId="u", Body=body)
        assert kept == [b"", data, data]
        assert server.connections == 1
