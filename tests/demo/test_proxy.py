"""The fault proxy does to real sockets what it is told to."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from resilience.demo.faults import (
    Capacity,
    Dribble,
    Hang,
    Reset,
    Stall,
    Status,
    Throttle,
)
from resilience.demo.proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 0.15
DYNAMODB = {"X-Amz-Target": "DynamoDB_20120810.GetItem"}
SQS = {"X-Amz-Target": "AmazonSQS.SendMessage"}


class Echo(BaseHTTPRequestHandler):
    """Answers with what it was sent: the method, the path and the body."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """Answer any method."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = f"{self.command} {self.path} ".encode() + body
        self.send_response(204 if self.path == "/nothing" else 200)
        if self.path == "/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(answer), answer))
            return
        if self.path == "/unsized":
            self.end_headers()
            self.wfile.write(answer)
            self.close_connection = True
            return
        if self.path != "/nothing":
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.path != "/nothing" and self.command != "HEAD":
            self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class says so
        """Say nothing."""


for verb in ("GET", "PUT", "HEAD"):
    setattr(Echo, f"do_{verb}", Echo.do_POST)


@pytest.fixture(scope="module")
def upstream() -> Iterator[int]:
    """The port of an echoing HTTP server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(upstream: int) -> Iterator[FaultProxy]:
    """A proxy before that server."""
    with FaultProxy(upstream, seed=7) as made:
        yield made


@contextlib.contextmanager
def connected(proxy: FaultProxy, timeout: float = 2.0) -> Iterator[http.client.HTTPConnection]:
    """A client connection that is closed in the end."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=timeout)
    try:
        yield connection
    finally:
        connection.close()


def ask(
    proxy: FaultProxy,
    path: str = "/x",
    *,
    method: str = "POST",
    body: bytes = b"hello",
    headers: dict[str, str] | None = None,
    timeout: float = 2.0,
) -> tuple[int, bytes, http.client.HTTPResponse]:
    """One request over a connection of its own: the status, the body and the response."""
    with connected(proxy, timeout) as connection:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read(), response


@pytest.mark.parametrize("path", ["/x", "/chunked", "/unsized"])
def test_fair_weather_passes_requests_and_answers_unchanged(proxy: FaultProxy, path: str) -> None:
    """Without faults the client gets what the server says, however the server delimits it."""
    status, body, _ = ask(proxy, path)
    assert (200, f"POST {path} hello".encode()) == (status, body)


def test_answers_without_a_body_pass(proxy: FaultProxy) -> None:
    """A 204 and the answer to HEAD have no body, and do not make the proxy wait for one."""
    assert ask(proxy, "/nothing")[:2] == (204, b"")
    status, body, response = ask(proxy, method="HEAD", body=b"")
    assert (status, body, response.headers["content-length"]) == (200, b"", "8")


def test_connections_are_kept_alive(proxy: FaultProxy) -> None:
    """Many requests go over one client connection, unless the client says close."""
    with connected(proxy) as connection:
        for _ in range(3):
            connection.request("GET", "/again")
            connection.getresponse().read()
            first = connection.sock
            assert first is not None
        connection.request("GET", "/again", headers={"Connection": "close"})
        connection.getresponse().read()
        assert first.recv(1) == b""


def test_expect_continue_and_chunked_bodies_are_understood(proxy: FaultProxy) -> None:
    """A client that waits for 100 Continue is told to go on, and a chunked body arrives whole."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=2.0) as raw:
        raw.sendall(b"PUT /c HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert raw.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.sendall(b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n")
        response = http.client.HTTPResponse(raw)
        response.begin()
        assert response.read() == b"PUT /c abcde"


def test_delay_is_waited_before_the_answer(proxy: FaultProxy) -> None:
    """A fixed delay is added to the answer, which then is the right one."""
    proxy.set(delay=0.1)
    start = time.monotonic()
    status, body, _ = ask(proxy)
    assert (status, body) == (200, b"POST /x hello")
    assert 0.1 <= time.monotonic() - start < 1.0


def test_hang_never_answers(proxy: FaultProxy) -> None:
    """A hanging request gets no byte, is counted, and does not reach the server."""
    proxy.set(Hang())
    with pytest.raises(TimeoutError):
        ask(proxy, timeout=PATIENCE)
    assert (
        proxy.counts.arrived,
        proxy.counts.passed_on,
        proxy.counts.outcomes,
    ) == (1, 0, {"hang": 1})


def test_hang_holds_up_no_other_connection(proxy: FaultProxy) -> None:
    """While some requests hang, requests on other connections are answered."""
    proxy.set(Hang())
    with connected(proxy) as stuck:
        stuck.request("GET", "/stuck")
        while proxy.counts.arrived == 0:
            time.sleep(0.001)
        proxy.set()
        assert ask(proxy)[0] == 200


def test_reset_is_a_reset(proxy: FaultProxy) -> None:
    """The client sees RST, not an orderly end."""
    proxy.set(Reset())
    with pytest.raises(ConnectionResetError):
        ask(proxy)


def test_stall_stops_half_way_through_the_body(proxy: FaultProxy) -> None:
    """The head and half the body come, and then nothing more."""
    proxy.set(Stall())
    with connected(proxy, PATIENCE) as connection:
        connection.request("POST", "/x", b"hello")
        response = connection.getresponse()
        assert (response.status, response.headers["content-length"]) == (200, "13")
        assert response.read1(6) == b"POST /"
        with pytest.raises(TimeoutError):
            response.read1(1)
    assert proxy.counts.passed_on == 1


def test_stall_without_a_body_stops_in_the_head(proxy: FaultProxy) -> None:
    """An answer that has no body is not complete either."""
    proxy.set(Stall())
    with pytest.raises(TimeoutError):
        ask(proxy, "/nothing", timeout=PATIENCE)


def test_dribble_outlasts_a_timeout_for_each_read(proxy: FaultProxy) -> None:
    """Slow bytes take longer in all than the client's timeout, and yet no read times out."""
    proxy.set(Dribble(rate=800.0))
    start = time.monotonic()
    status, body, _ = ask(proxy, timeout=PATIENCE)
    assert (status, body) == (200, b"POST /x hello")
    assert time.monotonic() - start > PATIENCE


@pytest.mark.parametrize("code", [429, 500, 503])
def test_status_is_answered_in_the_form_of_the_service(proxy: FaultProxy, code: int) -> None:
    """An error status comes with an AWS error body, JSON or XML, and reaches no server."""
    proxy.set(Status(code))
    status, body, response = ask(proxy, headers=DYNAMODB)
    assert code == status
    assert b'"__type"' in body
    assert response.headers["x-amzn-errortype"]
    assert response.headers["retry-after"] is None
    status, body, _ = ask(proxy)
    assert code == status
    assert b"<Error><Code>" in body
    assert proxy.counts.passed_on == 0


def test_retry_after_is_sent_when_asked_for(proxy: FaultProxy) -> None:
    """429 can carry a Retry-After header in seconds."""
    proxy.set(Status(429, retry_after=3))
    assert ask(proxy)[2].headers["retry-after"] == "3"


def test_throttling_is_worded_as_each_service_does(proxy: FaultProxy) -> None:
    """DynamoDB and SQS throttle by a JSON error of status 400, S3 by an XML error of status 503."""
    proxy.set(Throttle())
    status, body, response = ask(proxy, headers=DYNAMODB)
    assert status == 400
    assert b"#ProvisionedThroughputExceededException" in body
    assert "ProvisionedThroughputExceeded" in response.headers["x-amzn-errortype"]
    status, body, _ = ask(proxy, headers=SQS)
    assert status == 400
    assert b"#RequestThrottled" in body
    status, body, _ = ask(proxy, headers={"X-Amz-Target": "Kinesis_20131202.PutRecord"})
    assert status == 400
    assert b"ThrottlingException" in body
    status, body, _ = ask(proxy)
    assert status == 503
    assert b"<Code>SlowDown</Code>" in body
    assert ask(proxy, method="HEAD", body=b"")[:2] == (503, b"")


def test_beyond_its_capacity_the_server_throttles(proxy: FaultProxy) -> None:
    """Of a sudden crowd only the burst is served, and the rest is throttled."""
    proxy.set(capacity=Capacity(rate=4.0))
    statuses = Counter(ask(proxy)[0] for _ in range(10))
    served = statuses[200]
    assert 1 <= served < 10
    assert {"ok": served, "capacity": 10 - served} == proxy.counts.outcomes
    assert served == proxy.counts.passed_on


def test_every_request_is_counted_and_told(upstream: int) -> None:
    """The counts and the hook agree, and the counts can be set back."""
    told: list[str] = []
    with FaultProxy(upstream, seed=3, on_request=told.append) as proxy:
        proxy.set(Status(500, 0.5))
        statuses = Counter(ask(proxy)[0] for _ in range(30))
        assert {"status": statuses[500], "ok": statuses[200]} == proxy.counts.outcomes
        assert Counter(told) == Counter(proxy.counts.outcomes)
        assert statuses[200] == proxy.counts.passed_on
        proxy.count_afresh()
        assert (
            proxy.counts.arrived,
            proxy.counts.passed_on,
            proxy.counts.outcomes,
        ) == (0, 0, {})


def test_draining_frees_hanging_clients(proxy: FaultProxy) -> None:
    """Clients that hang get an error that is not worth a retry, and so do all later ones."""
    proxy.set(Hang())
    with connected(proxy) as connection:
        connection.request("GET", "/stuck")
        while proxy.counts.arrived == 0:
            time.sleep(0.001)
        proxy.drain()
        assert connection.getresponse().status == 400
    assert ask(proxy)[0] == 400
    assert proxy.counts.outcomes == {"hang": 1, "drained": 1}


def test_closing_leaves_no_thread_and_no_connection(upstream: int) -> None:
    """Leaving the block resets hanging clients, closes the port and ends the thread."""
    with FaultProxy(upstream) as proxy:
        proxy.set(Hang())
        port = proxy.port
        stuck = socket.create_connection(("127.0.0.1", port), timeout=2.0)
        stuck.sendall(b"GET / HTTP/1.1\r\n\r\n")
        while proxy.counts.arrived == 0:
            time.sleep(0.001)
    with stuck, pytest.raises(ConnectionResetError):
        stuck.recv(1)
    assert not [t for t in threading.enumerate() if t.name == "FaultProxy"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=2.0)


def test_garbage_and_a_dead_server_end_the_connection() -> None:
    """What is no HTTP, and a request that cannot be passed on, end in a closed connection."""
    with socket.create_server(("127.0.0.1", 0)) as spare:
        unused = spare.getsockname()[1]
    with FaultProxy(unused) as proxy:
        for garbage in (
            b"what is this\r\n",
            b"?\r\n",
            b"GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        ):
            with socket.create_connection(("127.0.0.1", proxy.port), timeout=2.0) as raw:
                raw.sendall(garbage)
                with contextlib.suppress(ConnectionResetError):
                    assert raw.recv(1) == b""
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            ask(proxy)
        assert proxy.counts.arrived == 1
