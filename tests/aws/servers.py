"""Raw TCP servers on loopback that behave badly, or well, and count what reaches them.

``with Server(hangs) as server: ... server.url``. A behavior is a function that is given a `Peer`, one connection, and
is run once for each, in a thread of its own; ``each(...)`` makes one of what is to be done for each request. When the
block ends, everything is shut: no thread and no socket is left.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

HOST = "127.0.0.1"
EVERY = 0.05
"""Seconds between the bytes of a dribble."""


class Peer:
    """One connection to a `Server`."""

    def __init__(self, server: Server, sock: Any) -> None:
        self.server = server
        self.sock = sock
        self.head = b""
        self.body = b""
        self._buffer = bytearray()

    def request(self, *, body: bool = True, continues: bool = True) -> bool:
        """Read a request; false if the client has gone. Only its head unless *body*.

        A client that asks whether to send its body is told so, if *continues*, or else left to wait.
        """
        try:
            while b"\r\n\r\n" not in self._buffer:
                self._more()
            self.head = self._take(self._buffer.index(b"\r\n\r\n") + 4)
            self.server.count("requests")
            self.body = self._read_body(continues=continues) if body else b""
        except (OSError, EOFError):
            return False
        return True

    def header(self, name: str) -> str | None:
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.strip().lower() == name.lower().encode():
                return value.strip().decode("latin-1")
        return None

    def _more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError
        self._buffer += data

    def _take(self, length: int) -> bytes:
        taken = bytes(self._buffer[:length])
        del self._buffer[:length]
        return taken

    def _read_body(self, *, continues: bool) -> bytes:
        if continues and (self.header("Expect") or "").lower() == "100-continue":
            self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if (self.header("Transfer-Encoding") or "").lower() == "chunked":
            while not self._buffer.endswith(b"\r\n\r\n"):  # of a body that is no text; trailers end like this too
                self._more()
            return self._take(len(self._buffer))
        length = int(self.header("Content-Length") or 0)
        while len(self._buffer) < length:
            self._more()
        return self._take(length)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def dribble(self, data: bytes, every: float = EVERY) -> None:
        """Send byte after byte until the client goes or the server is to end."""
        for octet in data:
            if self.server.ending.wait(every):
                return
            self.sock.sendall(bytes([octet]))

    def wait(self, seconds: float | None = None) -> bool:
        """Do nothing for some time, or until the server is to end: then true."""
        return self.server.ending.wait(seconds)


Behavior = Callable[[Peer], None]


class Server:
    """Listens on a free port of loopback. ``connections`` and ``requests`` count; thread-safe."""

    def __init__(self, behavior: Behavior, *, tls: ssl.SSLContext | None = None) -> None:
        self.behavior = behavior
        self.tls = tls
        self.connections = self.requests = 0
        self.ending = threading.Event()
        self._lock = threading.Lock()
        self._open: set[Any] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._listener = socket.create_server((HOST, 0), backlog=256)
        self._wake, self._waker = socket.socketpair()
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if self.tls else 'http'}://{HOST}:{self.port}"
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.ending.set()
        self._waker.close()
        self._accepting.join()
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        assert not any(thread.is_alive() for thread in self._threads), "a server's thread does not end"
        self._listener.close()
        self._wake.close()

    def count(self, what: str) -> None:
        with self._lock:
            setattr(self, what, getattr(self, what) + 1)

    @contextlib.contextmanager
    def holding(self, sock: Any) -> Iterator[Any]:
        """*sock* is shut down when the server ends, and closed with this block."""
        with self._lock:
            self._open.add(sock)
        try:
            yield sock
        finally:
            with self._lock:
                self._open.discard(sock)
            sock.close()

    def _accept(self) -> None:
        while True:
            ready, _, _ = select.select([self._listener, self._wake], [], [])
            if self._wake in ready:
                return
            sock, _ = self._listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.count("connections")
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: Any) -> None:
        with contextlib.suppress(OSError, EOFError), self.holding(sock):
            if self.tls is None:
                self.behavior(Peer(self, sock))
                return
            secure = self.tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            with self.holding(secure):  # from here on the file descriptor is its own
                secure.do_handshake()
                self.behavior(Peer(self, secure))


@contextlib.contextmanager
def blackhole() -> Iterator[int]:
    """A port where nobody answers: its queue is full, so the kernel drops whoever comes."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((HOST, 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


# -- behaviors ---------------------------------------------------------------------------------------------------------


def head(length: int | None, status: str = "200 OK", *headers: str) -> bytes:
    """The head of an answer; chunked without a length."""
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return "\r\n".join([f"HTTP/1.1 {status}", "Content-Type: application/json", framing, *headers, "", ""]).encode()


def each(answer: Behavior) -> Behavior:
    """Keep alive: *answer* for each request."""

    def serve(peer: Peer) -> None:
        while peer.request():
            answer(peer)

    return serve


def answers(body: bytes = b"{}", status: str = "200 OK", *headers: str) -> Behavior:
    """A healthy server that always says the same."""
    data = head(len(body), status, *headers) + body
    return each(lambda peer: peer.send(data))


def mute(peer: Peer) -> None:
    """Accept, and neither read nor write: no TLS handshake gets anywhere either."""
    peer.wait()


@each
def hangs(peer: Peer) -> None:
    """Take the request and never answer."""
    peer.wait()


@each
def dribbles_headers(peer: Peer) -> None:
    peer.dribble(head(2) + b"{}")


@each
def dribbles_body(peer: Peer) -> None:
    peer.send(head(1000))
    peer.dribble(b" " * 1000)


@each
def dribbles_chunks(peer: Peer) -> None:
    peer.send(head(None))
    peer.dribble(b"1\r\n \r\n" * 200)


@each
def stalls(peer: Peer) -> None:
    """Stop in the middle of the body."""
    peer.send(head(1000) + b" " * 10)
    peer.wait()


def half_closes(peer: Peer) -> None:
    """Take the request, end the own half of the connection without a word, and leave the other open."""
    peer.request()
    peer.sock.shutdown(socket.SHUT_WR)
    peer.wait()


def half_closes_midway(peer: Peer) -> None:
    """The same in the middle of a chunked body."""
    peer.request()
    peer.send(head(None) + b"10\r\n1234")
    peer.sock.shutdown(socket.SHUT_WR)
    peer.wait()


def resets(peer: Peer) -> None:
    peer.request()
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def never_reads(peer: Peer) -> None:
    """Take the head of a request, and never its body."""
    peer.request(body=False)
    peer.wait()


def tunnels(delay: float = 0, every: float | None = None) -> Behavior:
    """A CONNECT proxy: its answer comes *delay* seconds late, byte after byte if *every* says so."""

    def serve(peer: Peer) -> None:
        if not peer.request() or peer.wait(delay):
            return
        host, _, port = peer.head.split()[1].decode().rpartition(":")
        answer = b"HTTP/1.1 200 Connection established\r\n\r\n"
        if every is None:
            peer.send(answer)
        else:
            peer.dribble(answer, every)
        _pump(peer, host, int(port))

    return serve


def relays(port: int, every: float | None = None) -> Behavior:
    """Pass everything on to *port*; what comes back, byte after byte if *every* says so."""
    return lambda peer: _pump(peer, HOST, port, every)


def _pump(peer: Peer, host: str, port: int, every: float | None = None) -> None:
    with peer.server.holding(socket.create_connection((host, port))) as upstream:
        while True:
            waiting = isinstance(peer.sock, ssl.SSLSocket) and peer.sock.pending()
            ready = [peer.sock] if waiting else select.select([peer.sock, upstream], [], [])[0]
            for sock in ready:
                data = sock.recv(16384)
                if not data:
                    return
                if sock is peer.sock:
                    upstream.sendall(data)
                elif every is None:
                    peer.send(data)
                else:
                    peer.dribble(data, every)


def sockets_open() -> int:
    """How many sockets this process has open."""
    count = 0
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            count += str(fd.readlink()).startswith("socket:")
    return count
