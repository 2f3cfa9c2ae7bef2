"""botocore's blocking HTTP layer, made to obey the limit of the call it is used for.

botocore sends through pools of urllib3's connections. `install` puts subclasses of a client's pools in their place:
when a connection is taken from a pool, it is given the limit found in the scope (``_scope.py``), and keeps to it while
it connects (all addresses of the host together), shakes hands with a TLS server or a proxy, sends, waits for an answer
and reads it. The client's own connect and read timeouts go on to apply where they are shorter. Without a limit all is
as ever. What comes out are botocore's own errors; the caller tells by the clock whether the limit was the reason.

Connections are reused as ever: the next user of one brings a limit of its own. One that was given up while in use is
closed by urllib3, like after any error.

Known to work with urllib3 1.26 and 2.x. What cannot be interrupted: name resolution; credential providers, which run
before anything is sent; a body of the user's that is slow to read.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import weakref
from typing import TYPE_CHECKING, Any

from urllib3.exceptions import ConnectTimeoutError, EmptyPoolError
from urllib3.util import connection as urllib3_connection
from urllib3.util import wait_for_read

from .._scope import current
from ._wire import ABORT, Abort, Wire, aborting, allowed, reach, seconds

if TYPE_CHECKING:
    import queue
    from collections.abc import Iterator

    from urllib3.connection import HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool

    from .._scope import Limit
else:  # what stands beside them among the bases has all of it
    HTTPConnectionPool = HTTPSConnection = object

__all__ = ["Abort", "aborting", "hand_over", "install", "installed", "remove"]

_EXPECT = 1.0
"""Seconds that botocore waits for ``100 Continue`` before it sends the body all the same."""


# -- connections -------------------------------------------------------------------------------------------------------


class _Connection(HTTPSConnection):
    """What is added to a connection class of urllib3's."""

    _limit: Limit | None = None
    _abort: Abort | None = None
    _wire: Wire | None = None
    _held = False
    """Whether the wire obeys something else than the client's timeouts."""
    _dials = False
    """Whether it opens sockets in the way that urllib3 does."""

    def _begin(self, limit: Limit | None) -> None:
        """A request begins that is held to *limit*."""
        self._limit = limit
        self._held = limit is not None
        if self.sock is not None and self._wire is not None:
            self._wire.hold(limit)

    def connect(self) -> None:
        self._wire = None
        super().connect()
        if self._wire is None:
            wire = Wire(self.sock, seconds(self.timeout), self._limit)
            self.sock = self._wire = wire

    def _new_conn(self) -> Any:
        limit = self._limit
        if limit is None and self._abort is None:
            return super()._new_conn()
        if self._dials and urllib3_connection.create_connection.__module__ == urllib3_connection.__name__:
            return reach(self, limit, self._abort)
        # Another's way to open a socket: all that can be done is to give it the time that is left.
        if limit is None:
            return super()._new_conn()
        own = self.timeout
        self.timeout = allowed(seconds(own), limit)
        try:
            sock = super()._new_conn()
        finally:
            self.timeout = own
        self._arm(sock)
        return sock

    def _arm(self, sock: Any) -> None:
        """What follows on the plain socket has the time that is left."""
        if self._limit is not None:
            sock.settimeout(allowed(seconds(self.timeout), self._limit))

    def _connect_tls_proxy(self, hostname: str, sock: Any) -> Any:
        sock = super()._connect_tls_proxy(hostname, sock)
        if self._tunnel_host is None:
            return sock
        # TLS within TLS is an object of urllib3's with many receives and sends to one of its own: it stands on a wire.
        self._wire = Wire(sock, seconds(self.timeout), self._limit)
        return self._wire

    def _tunnel(self) -> None:
        if self._limit is None or self._wire is not None:
            super()._tunnel()
            return
        plain = self.sock
        wire = Wire(plain, seconds(self.timeout), self._limit)
        self.sock = wire
        try:
            super()._tunnel()
        finally:
            if self.sock is wire:
                self.sock = plain
        self._arm(plain)

    def _send_output(self, message_body: Any = None, *args: Any, **kwargs: Any) -> None:
        limit = self._limit
        if limit is not None and getattr(self, "_expect_header_set", False):
            left = limit.left(limit.clock.monotonic_ns())
            if left < 2 * _EXPECT:  # botocore's wait would leave too little for the body
                self._expect_header_set = False
                super()._send_output(None, *args, **kwargs)  # type: ignore[misc]
                if wait_for_read(self.sock, max(0.0, left / 2)):
                    self._handle_expect_response(message_body)  # type: ignore[attr-defined]
                elif message_body is not None:
                    self.send(message_body)
                return
        super()._send_output(message_body, *args, **kwargs)  # type: ignore[misc]


@functools.cache
def _bounded_connection(base: type) -> type:
    if not issubclass(base, http.client.HTTPConnection) or issubclass(base, _Connection):
        return base  # a test's stand-in, say
    finder = next(cls for cls in base.__mro__ if "_new_conn" in vars(cls))
    return type(base.__name__, (_Connection, base), {"_dials": finder.__module__ == "urllib3.connection"})


# -- pools -------------------------------------------------------------------------------------------------------------


class _Late(EmptyPoolError, ConnectTimeoutError):
    """There is no time left to connect. Being the former as well, it makes urllib3 leave the pool alone."""


class _Pool(HTTPConnectionPool):
    """What is added to a pool class of urllib3's."""

    def _get_conn(self, timeout: float | None = None) -> Any:
        scope = current()
        limit = None if scope is None else scope.limit
        abort = ABORT.get()
        if limit is not None and limit.left(limit.clock.monotonic_ns()) <= 0:
            raise _Late(self, "No time is left to connect.")
        conn = super()._get_conn(timeout)
        if isinstance(conn, _Connection):
            if limit is not None or conn._held:
                conn._begin(limit)
            if abort is not None:
                self._abortable(conn, abort)
        return conn

    def _abortable(self, conn: _Connection, abort: Abort) -> None:
        conn._abort = abort
        if abort.aborted or (conn.sock is not None and not abort.watch(conn._wire)):
            self._put_conn(conn)
            raise _Late(self, "Aborted.")

    def _put_conn(self, conn: Any) -> None:
        abort = getattr(conn, "_abort", None)
        if abort is not None:
            abort.forget()
            conn._abort = None
        super()._put_conn(conn)


class _ConnectionCls:
    """The pool's class of connections: made of the one that the class below has now, as some tools exchange it."""

    def __init__(self, base: Any) -> None:
        self._base = base

    def __get__(self, instance: object, owner: type | None = None) -> type:
        return _bounded_connection(self._base.ConnectionCls)


@functools.cache
def _bounded_pool(base: type) -> type:
    return type(base.__name__, (_Pool, base), {"ConnectionCls": _ConnectionCls(base), "_below": base})


# -- a client's session ------------------------------------------------------------------------------------------------


def install(http_session: Any) -> None:
    """Make *http_session*, the ``URLLib3Session`` of a client, obey limits.

    Connections that lie idle in its pools are closed; those in use go on and are closed after it. A session of another
    kind is left alone (see `installed`). Doing it again changes nothing. May be done while other threads make calls.
    """
    found = False
    for classes in _tables(http_session):
        for scheme, pool in tuple(classes.items()):
            if "_below" not in vars(pool):
                classes[scheme] = _bounded_pool(pool)
                found = True
    if found:
        _clear(http_session)


def remove(http_session: Any) -> None:
    """Take back what `install` did: the very classes that were there are there again. Safe at any time, as it is."""
    found = False
    for classes in _tables(http_session):
        for scheme, pool in tuple(classes.items()):
            if "_below" in vars(pool):
                classes[scheme] = pool._below
                found = True
    if found:
        _clear(http_session)


def installed(http_session: Any) -> bool:
    """Whether *http_session* obeys limits."""
    return any("_below" in vars(pool) for classes in _tables(http_session) for pool in classes.values())


def _managers(http_session: Any) -> Iterator[Any]:
    yield http_session._manager
    yield from tuple(http_session._proxy_managers.values())


def _tables(http_session: Any) -> list[dict[str, Any]]:
    """Where the classes stand. It is one dict, also of managers that are made later, unless somebody changed it."""
    own = getattr(http_session, "_pool_classes_by_scheme", None)
    if own is None:
        return []
    tables = [own, *(manager.pool_classes_by_scheme for manager in _managers(http_session))]
    return list({id(table): table for table in tables}.values())


def _clear(http_session: Any) -> None:
    """Forget the pools there are. Older ones of urllib3 would close them under those who are about to use one."""
    for manager in _managers(http_session):
        pools = manager.pools
        gone = [pools.get(key) for key in tuple(pools.keys())]
        dispose, pools.dispose_func = pools.dispose_func, None
        try:
            pools.clear()
        finally:
            pools.dispose_func = dispose
        for pool in gone:
            if pool is not None and pool.pool is not None:
                _drain(pool.pool)
                weakref.finalize(pool, _drain, pool.pool)  # what is in use now comes back to it


def _drain(idle: queue.LifoQueue[Any]) -> None:
    while not idle.empty():
        conn = idle.get(block=False)
        if conn is not None:
            conn.close()


def hand_over(raw: Any, *, limit: Limit | None, stall: float | None) -> None:
    """The call has returned; its body, not read yet, is the user's from now on.

    Args:
        raw: the urllib3 response of an answer whose body is a stream or an event stream. One that is of another kind,
            or has been read to its end, is left alone.
        limit: what reading is held to as a whole; ``None`` for nothing.
        stall: seconds that a read waits for the next byte (under TLS: for the next record); ``None`` for the client's
            read timeout.

    Reading may be done by another thread. A read that is cut raises what a read timeout raises: botocore's
    ``ReadTimeoutError`` from a streaming body; the connection is closed then.
    """
    conn = getattr(raw, "connection", None)
    if isinstance(conn, _Connection) and conn._wire is not None:
        conn._held = True
        with contextlib.suppress(OSError):  # closed already
            conn._wire.hold(limit, stall)
