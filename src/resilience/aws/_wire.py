"""A socket that obeys a limit: before each receive and send it is told anew how long it may wait.

A socket's own timeout starts again with every byte, so a peer that dribbles can hold a call for ever. Here the timeout
is the client's own or the time left, whichever is less, computed again for each operation; so the call ends at its
limit whatever the peer does, and no thread has to watch it.

Where one operation of Python's is many of the socket's, that one is cut into pieces unless it keeps to its timeout as a
whole. ``socket.sendall``, a TLS handshake, and reading or writing one TLS record do; ``SSLSocket.sendall`` does not.

What cannot be cut: name resolution (``getaddrinfo``), and reading a body that is a file of the user's. Where they last
too long, the call ends right after them.
"""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
import sys
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util import connection as urllib3_connection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._scope import Limit

__all__ = ["ABORT", "Abort", "Wire", "aborting", "allowed", "reach", "seconds"]

_RECORD = 16384
"""The most that one TLS record holds: what one ``SSLSocket.send`` sends under one timeout."""


def allowed(own: float | None, limit: Limit) -> float:
    """How long the next operation may wait: *own*, or the time left if that is less.

    Raises:
        TimeoutError: none is left.
    """
    left = limit.left(limit.clock.monotonic_ns())
    if left <= 0:
        raise TimeoutError("timed out")
    return left if own is None or left < own else own


def seconds(timeout: object) -> float | None:
    """The number in a timeout of urllib3's, which has a mark of its own for Python's default."""
    return timeout if timeout is None or isinstance(timeout, (int, float)) else socket.getdefaulttimeout()


class Wire:
    """The connected socket of one connection, in the place of the plain one (or below TLS in TLS).

    One thread uses it at a time: the caller's, later perhaps another one that reads the body.
    """

    __slots__ = ("_armed", "_decref_socketios", "_pieces", "_sock", "_stall", "_timeout", "fileno", "limit", "shutdown")

    def __init__(self, sock: Any, timeout: float | None, limit: Limit | None) -> None:
        self._sock = sock
        self._pieces = isinstance(sock, ssl.SSLSocket)
        self._timeout = timeout  # the client's
        self._stall: float | None = None
        self._armed = sock.gettimeout()  # what the socket was told last
        self.limit = limit
        # Asked for at each request, so they are at hand. Everything else is looked for in the socket.
        self.fileno = sock.fileno
        self.shutdown = sock.shutdown
        self._decref_socketios = sock._decref_socketios

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def hold(self, limit: Limit | None, stall: float | None = None) -> None:
        """From now on obey *limit*; and wait *stall* seconds for the next byte, if given, not the client's timeout."""
        self.limit = limit
        self._stall = stall
        if limit is None:
            self._arm(self._timeout if stall is None else stall)

    def settimeout(self, timeout: float | None) -> None:
        """The client's timeout for what comes next."""
        self._timeout = timeout
        self._stall = None
        if self.limit is None and timeout != self._armed:
            self._arm(timeout)

    def _arm(self, timeout: float | None) -> None:
        if timeout != self._armed:  # it would be a system call
            self._sock.settimeout(timeout)
            self._armed = timeout

    def recv_into(self, buffer: Any) -> int:
        limit = self.limit
        if limit is not None:
            self._arm(allowed(self._timeout if self._stall is None else self._stall, limit))
        received: int = self._sock.recv_into(buffer)
        return received

    def recv(self, size: int) -> bytes:
        limit = self.limit
        if limit is not None:
            self._arm(allowed(self._timeout if self._stall is None else self._stall, limit))
        received: bytes = self._sock.recv(size)
        return received

    def sendall(self, data: Any) -> None:
        limit = self.limit
        if limit is None:
            self._sock.sendall(data)
        elif not self._pieces:
            self._arm(allowed(self._timeout, limit))
            self._sock.sendall(data)
        else:
            with memoryview(data) as view, view.cast("B") as octets:
                sent = 0
                while sent < len(octets):
                    self._arm(allowed(self._timeout, limit))
                    sent += self._sock.send(octets[sent : sent + _RECORD])

    def makefile(self, mode: str = "r", buffering: int | None = None, **kwargs: Any) -> Any:
        """A file that reads through this object."""
        if mode != "rb":
            return type(self._sock).makefile(self, mode, buffering, **kwargs)
        raw = socket.SocketIO(self, "r")  # type: ignore[arg-type]
        self._sock._io_refs += 1
        return raw if buffering == 0 else io.BufferedReader(raw)

    # How many files there are is what the socket counts: it closes with the last one.

    @property
    def _io_refs(self) -> int:
        count: int = self._sock._io_refs
        return count

    @_io_refs.setter
    def _io_refs(self, count: int) -> None:
        self._sock._io_refs = count


def reach(conn: Any, limit: Limit | None, abort: Abort | None) -> socket.socket:
    """A connected socket for *conn*, a connection of urllib3's: all the addresses of its host share the time left.

    (urllib3 gives the timeout to each of them.)

    Raises:
        ConnectTimeoutError: the limit has passed, or the last address did not answer.
        NewConnectionError: the host has no address, or the last one refused.
    """
    own = seconds(conn.timeout)
    failure: OSError = OSError("getaddrinfo returns an empty list")
    try:
        family = urllib3_connection.allowed_gai_family()
        host = conn._dns_host.strip("[]")
        for kind in socket.getaddrinfo(host, conn.port, family, socket.SOCK_STREAM):
            if limit is not None:
                allowed(own, limit)
            try:
                sock = _dial(conn, kind, own, limit, abort)
            except OSError as error:
                failure = error
                continue
            sys.audit("http.client.connect", conn, conn.host, conn.port)
            return sock
        raise failure
    except TimeoutError as error:
        raise ConnectTimeoutError(conn, f"Connection to {conn.host} timed out.") from error
    except OSError as error:  # socket.gaierror as well
        raise NewConnectionError(conn, f"Failed to establish a new connection: {error}") from error
    finally:
        del failure  # its traceback holds this frame


def _dial(conn: Any, kind: Any, own: float | None, limit: Limit | None, abort: Abort | None) -> socket.socket:
    family, type_, proto, _, address = kind
    sock = socket.socket(family, type_, proto)
    try:
        for option in conn.socket_options or ():
            sock.setsockopt(*option)
        if conn.source_address:
            sock.bind(conn.source_address)
        if abort is not None and not abort.watch(sock):
            raise TimeoutError("aborted")
        sock.settimeout(own if limit is None else allowed(own, limit))
        sock.connect(address)
        if limit is not None:
            sock.settimeout(allowed(own, limit))  # for the handshake that may follow
    except BaseException:
        sock.close()
        raise
    return sock


class Abort:
    """Ends, from any thread, what one attempt is doing on the network. Thread-safe."""

    __slots__ = ("_lock", "_sock", "aborted")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None
        self.aborted = False

    def abort(self) -> None:
        """Shut down the socket that the attempt uses, or the next one it would use: it fails at once."""
        with self._lock:
            self.aborted = True
            if self._sock is not None:
                with contextlib.suppress(OSError):
                    self._sock.shutdown(socket.SHUT_RDWR)

    def watch(self, sock: Any) -> bool:
        """The attempt uses *sock* now; false if it is not to. Holds a duplicate: TLS takes the original away."""
        with self._lock:
            if self._sock is not None:
                self._sock.close()
                self._sock = None
            if not self.aborted:
                self._sock = socket.fromfd(sock.fileno(), sock.family, sock.type)
            return not self.aborted

    def forget(self) -> None:
        """The socket is no longer the attempt's."""
        with self._lock:
            if self._sock is not None:
                self._sock.close()
                self._sock = None


ABORT: ContextVar[Abort | None] = ContextVar("resilience.aws.abort", default=None)


@contextlib.contextmanager
def aborting() -> Iterator[Abort]:
    """Requests made in the block can be ended from another thread, by ``abort()`` of what the block is given."""
    handle = Abort()
    token = ABORT.set(handle)
    try:
        yield handle
    finally:
        ABORT.reset(token)
        handle.forget()
