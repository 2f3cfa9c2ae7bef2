"""Limits and the pools of a client: who uses which connection next, under whose limit, and how all is taken back."""

from __future__ import annotations

import gc
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import botocore.awsrequest
import pytest
import urllib3.util.connection
from botocore.exceptions import (
    ConnectTimeoutError,
    ReadTimeoutError,
)

from aws import servers
from aws.limited import PROMPT, client, cut, idle, nothing_left, session_of, within
from aws.servers import Peer, Server, blackhole
from resilience.aws import _transport
from resilience.aws._transport import install, installed, remove


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


# -- limits ------------------------------------------------------------------------------------------------------------


def test_connection_is_reused() -> None:
    """Healthy calls share one connection, whether they have limits or none."""
    with Server(servers.answers()) as server, client(server.url) as dynamodb:
        for _ in range(5):
            with within(5):
                dynamodb.list_tables()
            dynamodb.list_tables()
        assert (server.connections, server.requests) == (1, 10)


@pytest.mark.parametrize("read_timeout", [60, 0.3])
def test_next_user_has_its_own_limit(read_timeout: float) -> None:
    """A connection forgets the limit of its last user: the next call may take longer, or is cut earlier."""
    with Server(slow) as server, client(server.url, read_timeout=read_timeout) as dynamodb:
        assert cut(dynamodb.list_tables, 0.28).error is None
        dynamodb.list_tables()
        assert cut(dynamodb.list_tables, 5).error is None
        assert cut(dynamodb.list_tables, 0.1).on_time(0.1)
        assert server.connections == 1


def test_connection_given_up_is_not_reused() -> None:
    """What was cut in the middle of an answer is closed: the next call has a connection of its own."""
    with Server(slow) as server, client(server.url) as dynamodb:
        assert cut(dynamodb.list_tables, 0.1).error is not None
        assert all(conn.sock is None for conn in idle(dynamodb, server.url))
        dynamodb.list_tables()
        assert server.connections == 2


def test_passed_limit_touches_nothing() -> None:
    """A call whose time is over before it is sent fails at once, without a connection, and without losing one."""
    with Server(servers.answers()) as server, client(server.url, max_pool_connections=2) as dynamodb:
        for _ in range(3):
            ended = cut(dynamodb.list_tables, -1)
            assert isinstance(ended.error, ConnectTimeoutError)
            assert ended.after < PROMPT
        assert server.connections == 0
        dynamodb.list_tables()
        for _ in range(3):
            cut(dynamodb.list_tables, 0)
        dynamodb.list_tables()
        assert (server.connections, server.requests) == (1, 2)


def test_passed_limit_keeps_idle_connections_within_reach() -> None:
    """Also while other connections are in use: the idle one is the next to be taken, as before."""
    with Server(servers.answers()) as server, client(server.url, "s3", max_pool_connections=2) as s3:

        def get() -> Any:
            return s3.get_object(Bucket="b", Key="k")["Body"]

        used = get()
        get().read()
        for _ in range(3):
            assert isinstance(cut(get, -1).error, ConnectTimeoutError)
        get().read()
        assert server.connections == 2
        used.close()


def test_own_timeouts_still_hold() -> None:
    """The client's connect and read timeouts cut earlier than a later limit, as they do without one."""
    with Server(servers.hangs) as server, client(server.url, read_timeout=0.1) as dynamodb:
        ended = cut(dynamodb.list_tables, 5)
        assert ended.on_time(0.1)
        assert isinstance(ended.error, ReadTimeoutError)
    with blackhole() as port, client(f"http://{servers.HOST}:{port}", connect_timeout=0.1) as dynamodb:
        ended = cut(dynamodb.list_tables, 5)
        assert ended.on_time(0.1)
        assert isinstance(ended.error, ConnectTimeoutError)


def test_no_timeouts_of_its_own() -> None:
    """A client that would wait for ever is held to the limit all the same, and without one waits as ever."""
    with Server(slow) as server, client(server.url, connect_timeout=None, read_timeout=None) as dynamodb:
        assert cut(dynamodb.list_tables, 0.1).on_time(0.1)
        dynamodb.list_tables()


def test_clock_of_the_limit() -> None:
    """The limit's own clock says what is left; when it stands still, so does the limit."""

    class Still:
        now = 0

        def monotonic_ns(self) -> int:
            return self.now

    clock: Any = Still()
    with Server(slow) as server, client(server.url) as dynamodb:
        with within(0.25, clock):
            time.sleep(0.3)
            dynamodb.list_tables()
            clock.now = 250_000_000
            with pytest.raises(ConnectTimeoutError):
                dynamodb.list_tables()
        assert server.requests == 1


def test_socket_options_and_pool_size() -> None:
    """Keep-alive of TCP and the size of the pool are what the client's settings say."""
    with (
        Server(servers.answers()) as server,
        client(server.url, tcp_keepalive=True, max_pool_connections=3) as dynamodb,
    ):
        assert cut(dynamodb.list_tables, 5).error is None
        (conn,) = idle(dynamodb, server.url)
        assert conn.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert session_of(dynamodb)._manager.connection_from_url(server.url).pool.maxsize == 3


# -- what others put in the place of urllib3's parts -------------------------------------------------------------------


def test_way_to_connect_of_others_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program's own ``create_connection`` is used, and given no more time than is left."""
    with Server(servers.answers()) as server, client("http://elsewhere.invalid") as dynamodb:
        given: list[Any] = []
        target = server.port

        def pinned(address: Any, timeout: Any = None, **kwargs: Any) -> socket.socket:
            given.append(timeout)
            return real((servers.HOST, target), timeout, **kwargs)

        real = urllib3.util.connection.create_connection
        monkeypatch.setattr(urllib3.util.connection, "create_connection", pinned)
        assert cut(dynamodb.list_tables, 5).error is None
        assert 4 < given[0] <= 5
    with blackhole() as port, client("http://elsewhere.invalid") as dynamodb:
        target = port
        ended = cut(dynamodb.list_tables, 0.2)
        assert ended.on_time(0.2)
        assert isinstance(ended.error, ConnectTimeoutError)


def test_pool_classes_of_others_are_kept() -> None:
    """Pool classes that somebody put there before go on to do what they do, and are put back as they were."""
    with Server(servers.dribbles_body) as server, client("http://elsewhere.invalid", install=False) as dynamodb:

        class Connection(botocore.awsrequest.AWSHTTPConnection):
            def _new_conn(self) -> socket.socket:
                return socket.create_connection((servers.HOST, server.port))

        class Pool(botocore.awsrequest.AWSHTTPConnectionPool):
            ConnectionCls = Connection

        classes = session_of(dynamodb)._pool_classes_by_scheme
        classes["http"] = Pool
        install(session_of(dynamodb))
        assert issubclass(classes["http"], Pool)
        assert cut(dynamodb.list_tables, 0.2).on_time(0.2)
        remove(session_of(dynamodb))
        assert classes["http"] is Pool


def test_connection_class_that_is_exchanged_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tools that record HTTP exchange the pool's connection class for a time: theirs is used, as it is."""

    class Recorded:
        sock = None
        proxy = None
        is_closed = False
        used = 0

        def __init__(self, **_: Any) -> None: ...

        def request(self, *_: Any, **__: Any) -> None:
            Recorded.used += 1
            raise TimeoutError

        def close(self) -> None: ...

    with Server(servers.answers()) as server, client(server.url) as dynamodb:
        with monkeypatch.context() as patch:
            patch.setattr(botocore.awsrequest.AWSHTTPConnectionPool, "ConnectionCls", Recorded)
            assert cut(dynamodb.list_tables, 5).error is not None
            assert (Recorded.used, server.connections) == (1, 0)
        assert cut(dynamodb.list_tables, 5).error is None


# -- put on and taken off ----------------------------------------------------------------------------------------------


def test_install_and_remove() -> None:
    """What was there is there again, the same objects; idle connections are closed each time; twice is as once."""
    with Server(servers.answers()) as server, client(server.url, install=False) as dynamodb:
        session = session_of(dynamodb)
        classes = session._pool_classes_by_scheme
        before = dict(classes)
        dynamodb.list_tables()
        (plain,) = idle(dynamodb, server.url)
        assert not installed(session)

        install(session)
        assert installed(session)
        assert plain.sock is None
        ours = dict(classes)
        install(session)
        assert classes == ours != before
        assert all(issubclass(ours[scheme], before[scheme]) for scheme in before)
        dynamodb.list_tables()
        (conn,) = idle(dynamodb, server.url)

        remove(session)
        assert not installed(session)
        assert conn.sock is None
        assert session._pool_classes_by_scheme is classes
        assert list(classes.items()) == list(before.items())
        remove(session)
        dynamodb.list_tables()
        assert type(idle(dynamodb, server.url)[0]) is botocore.awsrequest.AWSHTTPConnection
        assert server.connections == 3


def test_proxies_of_now_and_later() -> None:
    """The managers of proxies obey limits too: those there are, and those made later."""
    with Server(servers.hangs) as proxy:
        for early in (True, False):
            with client("http://192.0.2.1", install=False, proxies={"http": proxy.url}) as dynamodb:
                if early:
                    session_of(dynamodb)._get_proxy_manager(proxy.url)
                install(session_of(dynamodb))
                assert cut(dynamodb.list_tables, 0.1).on_time(0.1)
                remove(session_of(dynamodb))
                assert session_of(dynamodb)._proxy_managers[proxy.url].pool_classes_by_scheme == {
                    "http": botocore.awsrequest.AWSHTTPConnectionPool,
                    "https": botocore.awsrequest.AWSHTTPSConnectionPool,
                }


@pytest.mark.parametrize("change", [install, remove])
def test_idle_connections_are_closed_at_once(change: Any) -> None:
    """Also while another connection of the same pool is in use; that one is closed when it comes back."""
    with Server(servers.answers()) as server, client(server.url, "s3", install=change is remove) as s3:
        used = s3.get_object(Bucket="b", Key="k")["Body"]
        s3.get_object(Bucket="b", Key="k")["Body"].read()
        (conn,) = idle(s3, server.url)
        change(session_of(s3))
        assert conn.sock is None
        raw = used._raw_stream.connection
        assert used.read() == b"{}"
        del used
        assert raw.sock is None
        assert idle(s3, server.url) == []


@pytest.mark.parametrize("change", [install, remove])
def test_call_that_has_its_pool_already(change: Any) -> None:
    """A call that is about to use a pool of before can do so, and nothing is left of it."""
    with Server(servers.answers()) as server, client(server.url, install=change is remove) as dynamodb:
        pool = session_of(dynamodb)._manager.connection_from_url(server.url)
        change(session_of(dynamodb))
        assert pool.urlopen("POST", "/", body=b"{}", retries=False).data == b"{}"
        (conn,) = [conn for conn in pool.pool.queue if conn is not None]
        del pool
        gc.collect()
        assert conn.sock is None


def test_calls_under_way_go_on() -> None:
    """Installing and removing while calls are made disturbs none of them, and leaves no connection behind."""
    with Server(slow) as server, client(server.url, install=False) as dynamodb:
        for change in (install, remove):
            done: list[Any] = []
            threads = [threading.Thread(target=lambda kept=done: kept.append(dynamodb.list_tables())) for _ in range(4)]
            for thread in threads:
                thread.start()
            time.sleep(0.1)
            change(session_of(dynamodb))
            for thread in threads:
                thread.join()
            assert len(done) == 4
            assert idle(dynamodb, server.url) == []
        assert server.connections == 8


def test_sessions_of_other_kinds_are_left_alone() -> None:
    """What is not botocore's own blocking session is not touched, and says so."""

    class Other:
        pass

    for change in (install, remove):
        change(Other())
    assert not installed(Other())


def test_names() -> None:
    """The module has what the rest of the package uses."""
    assert set(_transport.__all__) == {"Abort", "aborting", "hand_over", "install", "installed", "remove"}
