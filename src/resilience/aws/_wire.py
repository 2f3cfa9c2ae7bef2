"""A socket that obeys a limit: before each receive and send it is told anew how long it may wait.

A socket's own timeout starts again with every byte, so a peer that dribbles can hold a call for ever. Here the timeout
is the client's own or the time left, whichever is less, computed again for each operation; so the call ends at its
limit whatever the peer does, and no thread has to watch it.

Sending a whole body is one operation that keeps to its timeout as a whole, and so are a TLS handshake and reading one
TLS record.

What cannot be cut: name resolution (``getaddrinfo``), and reading a body that is a file of the user's. Where they last
too long, the call ends right after them.
"""

from __future__ import annotations

import contextlib
import functools
import io
import socket
import sys
import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util import connection as urllib3_connection

from .._checks import NS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._scope import Limit

__all__ = ["ABORT", "Abort", "Wire", "aborting", "allowed", "reach", "seconds"]


_SLACK = 0.005
"""Seconds that a socket may wait beyond the limit rather than be told anew: most calls are over in less."""


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

    __slots__ = (
        "_armed", "_decref_socketios", "_due", "_now", "_recv_into", "_sock", "_stall", "_timeout", "fileno", "limit",
        "shutdown",
    )  # fmt: skip

    def __init__(self, sock: Any, timeout: float | None, limit: Limit | None) -> None:
        self._sock = sock
        self._timeout = timeout  # the client's
        self._stall: float | None = None
        # What the socket was told last. Under a limit a new one does not say: it tells what is left now (`_Telling`).
        self._armed: float | None = sock.gettimeout() if limit is None else -1.0
        self.limit = limit
        self._now = time.monotonic_ns if limit is None else limit.clock.monotonic_ns
        self._due = 0  # the time (ns) from which the socket must be told anew
        # Asked for at each request, so they are at hand. Everything else is looked for in the socket.
        self._recv_into = sock.recv_into
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
        else:
            self._now = limit.clock.monotonic_ns
            self._due = 0

    def settimeout(self, timeout: float | None) -> None:
        """The client's timeout for what comes next."""
        if self.limit is None:
            self._timeout = timeout
            self._stall = None
            if timeout != self._armed:
                self._arm(timeout)
        elif timeout != self._timeout or self._stall is not None:
            self._timeout = timeout
            self._stall = None
            self._due = 0

    def _arm(self, timeout: float | None) -> None:
        if timeout != self._armed:  # it would be a system call
            self._sock.settimeout(timeout)
            self._armed = timeout

    def _obey(self, limit: Limit) -> None:
        """Tell the socket how long the next operation may wait, if it has been told something else.

        Raises:
            TimeoutError: no time is left.
        """
        now = self._now()
        own = self._timeout if self._stall is None else self._stall
        left = limit.left(now)
        if left <= 0:
            raise TimeoutError("timed out")
        timeout = left if own is None or left < own else own
        armed = self._armed
        if armed is None or not timeout <= armed <= timeout + _SLACK:
            self._sock.settimeout(timeout)
            self._armed = armed = timeout
        if timeout == own:  # until less than that is left
            self._due = limit.at - round(own * NS)
        else:
            self._due = min(limit.at, now + round((timeout + _SLACK - armed) * NS))

    def recv_into(self, buffer: Any) -> int:
        limit = self.limit
        if limit is not None and self._now() >= self._due:
            self._obey(limit)
        return self._recv_into(buffer)  # type: ignore[no-any-return]

    def recv(self, size: int) -> bytes:
        limit = self.limit
        if limit is not None and self._now() >= self._due:
            self._obey(limit)
        received: bytes = self._sock.recv(size)
        return received

    def sendall(self, data: Any) -> None:
        limit = self.limit
        if limit is not None and self._now() >= self._due:
            self._obey(limit)
        self._sock.sendall(data)

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
    sock: socket.socket = _telling(socket.socket)(family, type_, proto)
    try:
        sock.tell = own, limit  # type: ignore[attr-defined]
        for option in conn.socket_options or ():
            sock.setsockopt(*option)
        if conn.source_address:
            sock.bind(conn.source_address)
        if abort is not None and not abort.watch(sock):
            raise TimeoutError("aborted")
        sock.settimeout(own if limit is None else allowed(own, limit))
        sock.connect(address)
        if limit is not None:
            sock.settimeout(allowed(own, limit))
    except BaseException:
        sock.close()
        raise
    return sock


class _Telling:
    """A socket that is asked for its timeout by TLS when that, at last, begins to shake hands: it tells what is left.

    Reading a bundle of certificates comes between connecting and shaking hands, and takes a while.
    """

    __slots__ = ()
    tell: tuple[float | None, Limit | None]

    def gettimeout(self) -> float | None:
        own, limit = self.tell
        try:
            return own if limit is None else allowed(own, limit)
        except TimeoutError:
            return 1e-9  # the least there is


@functools.cache
def _telling(base: type) -> Any:
    return type(base.__name__, (_Telling, base), {"__slots__": ("tell",)})


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
