"""Whatever a service does to a call of a wrapped client, the call ends on time, rightly, and leaves nothing behind.

The whole of it: a client, `aws.wrap` and a policy of real parts, against real sockets.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError

import resilience as rs
from aws import servers
from aws.certificates import Certificate
from aws.faults import DEADLINE, LATE, TIMEOUT, call, guarded, held, nothing_left, refuses, sockets_to, timed
from aws.servers import Behavior, Server
from resilience import aws


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """No thread and no descriptor outlives its test."""
    with nothing_left():
        yield


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.made(tmp_path_factory.mktemp("tls"))


@dataclass(frozen=True)
class Fault:
    """What a service does, and what is to come of a call.

    Attributes:
        behavior: of the server; ``None``: nobody answers who connects.
        error: what the caller gets.
        requests: how many arrive; connections, where it does not come to requests.
        least: seconds that the call takes at least: less would be giving up too early.
        kept: whether the connection is good for another call.
        tls: whether the client wants TLS.
        code: the code of a `ClientError`.
    """

    behavior: Behavior | None
    error: type[BaseException]
    requests: int = 3
    least: float = 0.0
    kept: bool = False
    tls: bool = False
    code: str | None = None


def refused(status: str, code: str, *headers: str, requests: int = 3, least: float = 0.0) -> Fault:
    return Fault(refuses(status, code, *headers), ClientError, requests, least, kept=True, code=code)


THROUGHPUT = "ProvisionedThroughputExceededException"

FAULTS = {
    # Two attempts are cut by their timeout, the third by the deadline.
    "hang": Fault(servers.hangs, rs.DeadlineExceeded, 3, DEADLINE),
    "headers dribble": Fault(servers.dribbles_headers, rs.DeadlineExceeded, 3, DEADLINE),
    "body dribbles": Fault(servers.dribbles_body, rs.DeadlineExceeded, 3, DEADLINE),
    "chunks dribble": Fault(servers.dribbles_chunks, rs.DeadlineExceeded, 3, DEADLINE),
    "stall in the body": Fault(servers.stalls, rs.DeadlineExceeded, 3, DEADLINE),
    "TLS stalls": Fault(servers.mute, rs.DeadlineExceeded, 3, DEADLINE, tls=True),
    "blackhole": Fault(None, rs.DeadlineExceeded, 0, DEADLINE),
    # These are known at once.
    "half closed": Fault(servers.half_closes, ConnectionClosedError),
    "half closed in the body": Fault(servers.half_closes_midway, ConnectionClosedError),
    "reset": Fault(servers.resets, ConnectionClosedError),
    "500": refused("500 Internal Server Error", "InternalServerError"),
    "503": refused("503 Service Unavailable", "ServiceUnavailable"),
    "429": refused("429 Too Many Requests", "TooManyRequests"),
    "throughput exceeded": refused("400 Bad Request", THROUGHPUT),
    # The service asks for a tenth of a second, each time; or for more than there is, and is not asked again.
    "500, x-amz-retry-after": refused("500 Error", "InternalServerError", "x-amz-retry-after: 100", least=0.2),
    "503, Retry-After": refused("503 Service Unavailable", "ServiceUnavailable", "Retry-After: 5", requests=1),
    "429, Retry-After": refused("429 Too Many Requests", "TooManyRequests", "Retry-After: 5", requests=1),
    "429, Retry-After 0": refused("429 Too Many Requests", "TooManyRequests", "Retry-After: 0"),
    "throughput exceeded, x-amz-retry-after": refused(
        "400 Bad Request", THROUGHPUT, "x-amz-retry-after: 100", least=0.2
    ),
    "throughput exceeded, Retry-After": refused("400 Bad Request", THROUGHPUT, "Retry-After: 5", requests=1),
}


@contextlib.contextmanager
def serving(fault: Fault) -> Iterator[tuple[str, int, Server | None]]:
    """Where to call, and the server behind if there is one."""
    if fault.behavior is None:
        with servers.blackhole() as port:
            yield f"http://127.0.0.1:{port}", port, None
    else:
        with Server(fault.behavior) as server:
            yield f"{'https' if fault.tls else 'http'}://127.0.0.1:{server.port}", server.port, server


def arrived(fault: Fault, server: Server | None) -> int:
    if server is None:
        return 0
    return server.connections if fault.tls else server.requests


def is_right(fault: Fault, error: BaseException | None) -> bool:
    if not isinstance(error, fault.error):
        return False
    return fault.code is None or (isinstance(error, ClientError) and error.response["Error"]["Code"] == fault.code)


@pytest.fixture(autouse=True)
def _few_authorities(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    """For each TLS connection botocore reads the bundle of all authorities: 20 ms that nothing can cut."""
    monkeypatch.setenv("AWS_CA_BUNDLE", certificate.cert)


@pytest.mark.parametrize("name", FAULTS)
def test_a_call_ends_on_time(make: Callable[..., Any], name: str) -> None:
    """At its deadline at the latest, with the error that says why; and connection, slot and thread are given back."""
    fault, policy = FAULTS[name], guarded()
    with serving(fault) as (url, port, server):
        client = aws.wrap(make(url), policy)
        filled = sockets_to(port)
        took, error = call(client)
        assert is_right(fault, error), repr(error)
        assert fault.least <= took <= DEADLINE + LATE
        assert arrived(fault, server) == fault.requests
        assert sockets_to(port) - filled == fault.kept
        client.close()
        assert sockets_to(port) == filled
    assert held(policy) == 0


@pytest.mark.parametrize("name", FAULTS)
def test_many_calls_end_on_time(make: Callable[..., Any], name: str) -> None:
    """From fifty threads at once too: each by the same rules, and nothing is held when all have ended.

    They end at one moment, and with the server's threads they share one interpreter and perhaps two busy processors, of
    which a call needs a millisecond to say that it is over. So half of them may be later than the rest.
    """
    fault, threads = FAULTS[name], 50
    # Where an attempt is late there is no time for the last one, and the one before gives the error.
    late = (rs.TimedOut,) if fault.error is rs.DeadlineExceeded else ()
    # What is known at once may take long where fifty know it at once; its attempts have all the time there is.
    policy = guarded() if late else guarded(timeout=rs.Timeout(DEADLINE, mode="cooperative"))
    with serving(fault) as (url, port, server):
        client = aws.wrap(make(url, max_pool_connections=threads), policy)
        filled = sockets_to(port)
        with ThreadPoolExecutor(threads) as pool:
            ends = list(pool.map(lambda _: call(client), range(threads)))
        assert all(is_right(fault, error) or isinstance(error, late) for _, error in ends), ends
        took = sorted(seconds for seconds, _ in ends)
        assert fault.least - TIMEOUT * bool(late) <= took[0]
        assert took[threads // 2] <= DEADLINE + LATE
        assert took[-1] <= DEADLINE + 3 * LATE
        most = threads * fault.requests
        assert (most * 2 // 3 if late else most) <= arrived(fault, server) <= most
        assert fault.kept <= sockets_to(port) - filled <= threads * fault.kept
        client.close()
        assert sockets_to(port) == filled
    assert held(policy) == 0


# -- names -------------------------------------------------------------------------------------------------------------


def resolver(monkeypatch: pytest.MonkeyPatch, seconds: float = 0.0) -> list[str]:
    """No name is known, which it takes *seconds* to find out; returns the names asked for."""
    asked: list[str] = []
    known = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if not str(host).endswith(".invalid"):
            return known(host, *args, **kwargs)
        asked.append(host)
        time.sleep(seconds)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


@pytest.mark.parametrize("threads", [1, 50])
def test_an_unknown_name(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    """Is asked for again at each attempt, and told as botocore tells it."""
    asked, policy = resolver(monkeypatch), guarded()
    client = aws.wrap(make("http://nowhere.invalid"), policy)
    with ThreadPoolExecutor(threads) as pool:
        ends = list(pool.map(lambda _: call(client), range(threads)))
    assert {type(error) for _, error in ends} == {EndpointConnectionError}
    assert max(took for took, _ in ends) <= DEADLINE + LATE
    assert len(asked) == 3 * threads
    assert held(policy) == 0


def test_a_slow_resolver(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Cannot be interrupted; the call ends as soon as it has answered, and does not ask again."""
    asked = resolver(monkeypatch, DEADLINE + 0.1)
    client = aws.wrap(make("http://nowhere.invalid"), guarded())
    took, error = call(client)
    assert isinstance(error, rs.TimedOut)
    assert DEADLINE + 0.1 <= took <= DEADLINE + 0.1 + LATE
    assert len(asked) == 1


# -- what must not happen twice ----------------------------------------------------------------------------------------


def write(client: Any) -> tuple[float, BaseException | None]:
    return timed(
        lambda: client.update_item(
            TableName="table",
            Key={"id": {"S": "1"}},
            UpdateExpression="ADD n :one",
            ExpressionAttributeValues={":one": {"N": "1"}},
        )
    )


@pytest.mark.parametrize(
    ("fault", "error", "requests"),
    [
        (servers.hangs, rs.TimedOut, 1),
        (servers.dribbles_headers, rs.TimedOut, 1),
        (servers.resets, ConnectionClosedError, 1),
        (refuses("500 Error", "InternalServerError"), ClientError, 1),
        (refuses("400 Bad Request", THROUGHPUT), ClientError, 3),
        (servers.mute, rs.TimedOut, 1),
    ],
)
def test_a_write_is_repeated_only_if_it_was_surely_not_done(
    make: Callable[..., Any], fault: Behavior, error: type[BaseException], requests: int
) -> None:
    """What adds one must not add two. Where TLS stalls nobody can tell from botocore's error, so it is not repeated."""
    tls = fault is servers.mute
    with Server(fault) as server:
        client = aws.wrap(make(f"{'https' if tls else 'http'}://127.0.0.1:{server.port}"), guarded())
        took, found = write(client)
        assert isinstance(found, error)
        assert took <= TIMEOUT + LATE
        assert (server.connections if tls else server.requests) == requests


def test_a_write_is_repeated_if_no_connection_was_made(make: Callable[..., Any]) -> None:
    """A connection that is not made in time has brought nothing."""
    policy = guarded()
    with servers.blackhole() as port:
        took, error = write(aws.wrap(make(f"http://127.0.0.1:{port}"), policy))
    assert isinstance(error, rs.DeadlineExceeded) and DEADLINE <= took <= DEADLINE + LATE
    counters: Any = policy.counters
    assert counters["retry"]["retries"] == 2
