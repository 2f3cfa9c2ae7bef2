"""Connections of redis-py that keep to a moment in time, however the bytes dribble in.

redis-py gives each read and each write a time of its own, so a server that sends a byte now and then holds a caller for
as long as it likes. Here every operation on the socket has what is left until one moment for the whole exchange. Under
asyncio the caller's ``asyncio.timeout`` does that.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

__all__ = ["Connections"]

_TAKEN = frozenset((
    "client_name", "credential_provider", "db", "host", "password", "path", "port", "redis_connect_func",
    "socket_keepalive", "socket_keepalive_options", "socket_type", "username",
))  # fmt: skip
"""Settings of a client that are taken over, beside those of TLS; times and repetitions are ours."""

_exchange = threading.local()


def _left() -> float:
    """Seconds left for the exchange under way in this thread."""
    left: float = getattr(_exchange, "until", time.monotonic() + 1.0) - time.monotonic()
    if left <= 0:
        raise TimeoutError("the exchange took too long")
    return left


class _Until:
    """The block of one exchange; as a class, for it is entered at each of them."""

    __slots__ = ("_seconds",)

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        _exchange.until = time.monotonic() + self._seconds

    def __exit__(self, *error: object) -> None:
        del _exchange.until


class _Socket:
    """A socket whose every operation ends with the exchange, to a millisecond."""

    __slots__ = ("_armed", "_sock", "_until", "_waits")

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._waits = True
        self._armed = self._until = 0.0

    def settimeout(self, seconds: float | None) -> None:
        """Only whether to wait at all is up to the caller."""
        self._waits = seconds != 0
        self._until = 0.0
        if self._waits:
            self._arm()
        else:
            self._sock.settimeout(0)

    def _arm(self) -> None:
        """Give the next operation the time that is left; setting it takes a system call, so not more often than needed.

        Outside an exchange, as when a connection is closed, there is a second.
        """
        now = time.monotonic()
        until = getattr(_exchange, "until", now + 1.0)
        if until != self._until or now - self._armed > 0.001:
            if until <= now:
                raise TimeoutError("the exchange took too long")
            self._sock.settimeout(until - now)
            self._until, self._armed = until, now

    def recv(self, size: int) -> bytes:
        if self._waits:
            self._arm()
        return self._sock.recv(size)  # type: ignore[no-any-return]

    def recv_into(self, buffer: Any) -> int:
        if self._waits:
            self._arm()
        return self._sock.recv_into(buffer)  # type: ignore[no-any-return]

    def sendall(self, data: Any) -> None:
        self._arm()
        self._sock.sendall(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def _ignore(connection: object, seconds: object) -> None:
    """redis-py sets these; they are ours."""


def _bounded(kind: type[Any]) -> type[Any]:
    """A connection class like *kind* that keeps to the moment."""

    class Bounded(kind):  # type: ignore[misc]
        socket_timeout = property(lambda _: _left(), _ignore)
        socket_connect_timeout = property(lambda _: _left(), _ignore)

        def _connect(self) -> Any:
            return _Socket(super()._connect())

    return Bounded


class _Pool(redis.ConnectionPool):
    def __init__(self, connection_class: type[Any] = redis.Connection, **settings: Any) -> None:
        self._leaving: set[Any] = set()
        super().__init__(_bounded(connection_class), **settings)

    def disconnect(self, inuse_connections: bool = True) -> None:  # noqa: FBT002 - redis-py's signature
        """Idle ones now, others as they come back: who closes must not break off what other threads are asking."""
        self._leaving.update(self._in_use_connections)
        super().disconnect(inuse_connections=False)

    def release(self, connection: Any) -> None:
        if connection in self._leaving:
            self._leaving.discard(connection)
            connection.disconnect()
        super().release(connection)


class _Cluster(redis.RedisCluster):
    """A cluster's client whose ``close`` closes: redis-py leaves pools of a class that was handed in to whoever did."""

    def close(self) -> None:
        super().close()
        for node in self.get_nodes():  # type: ignore[no-untyped-call]
            if node.redis_connection is not None:
                node.redis_connection.connection_pool.disconnect()


class Connections:
    """Makes clients, blocking or asyncio, from a URL or after the example of a client.

    Args:
        at: the URL or the client.
        cluster: whether it is one node of a cluster.
        timeout: seconds for one exchange.
    """

    unknown_script = redis.exceptions.NoScriptError

    def __init__(self, at: Any, *, cluster: bool, timeout: float) -> None:
        self._timeout = timeout
        self._url = ""
        pool: Any
        self._cluster = cluster
        self._settings: dict[str, Any] = {}
        if isinstance(at, str):
            pool = redis.ConnectionPool.from_url(at)
            self._url = at
        elif cluster or not isinstance(at, (redis.Redis, redis.asyncio.Redis)):
            raise TypeError(f"at must be a URL{'' if cluster else ', or a Redis client of redis-py'}, not {at!r}")
        else:
            pool = at.connection_pool
        given = pool.connection_kwargs.items()
        self._settings = {name: value for name, value in given if name in _TAKEN or name.startswith("ssl_")}
        self._kind = next(
            name
            for name in ("UnixDomainSocketConnection", "SSLConnection", "Connection")
            if issubclass(pool.connection_class, (getattr(redis, name), getattr(redis.asyncio, name)))
        )
        self._settings["protocol"] = 2  # the fewest round trips from nothing to the first answer

    def until(self, seconds: float | None = None) -> _Until:
        """All that is done in the block, in this thread, ends in time."""
        return _Until(self._timeout if seconds is None else seconds)

    def blocking(self) -> Any:
        """A blocking client."""
        if self._cluster:
            # Redirections are followed all the same.
            return _Cluster.from_url(self._url, connection_pool_class=_Pool, protocol=2, retry=Retry(NoBackoff(), 0))
        pool = _Pool(getattr(redis, self._kind), retry=Retry(NoBackoff(), 0), **self._settings)
        return redis.Redis.from_pool(pool)

    def asyncio(self) -> Any:
        """A client for the running event loop."""
        from redis.asyncio.retry import Retry as AsyncRetry

        if self._cluster:
            return redis.asyncio.RedisCluster.from_url(
                self._url, protocol=2, retry=AsyncRetry(NoBackoff(), 0), socket_timeout=self._timeout,
                socket_connect_timeout=self._timeout,
            )  # fmt: skip
        pool = redis.asyncio.ConnectionPool(
            getattr(redis.asyncio, self._kind), retry=AsyncRetry(NoBackoff(), 0), **self._settings
        )
        return redis.asyncio.Redis.from_pool(pool)
