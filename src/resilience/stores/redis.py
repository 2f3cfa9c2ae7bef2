"""A store on Redis or Valkey, alone or as a cluster, by redis-py.

A transition is a script that the server runs alone (EVALSHA), at the server's own time. Each key has one hash tag, so
a cluster needs nothing special. Knows redis-py and the shape of a script; how long an answer may take is kept in
`_bounded`, whether it is asked at all in `guard`.
"""

from __future__ import annotations

import threading
from hashlib import sha1
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from .. import _checks
from .forking import survive
from .keys import check_prefix
from .protocol import Entry, Store, Transition, lua

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from .protocol import Numbers

__all__ = ["RedisStore"]


class RedisStore(Store):
    """State shared through a Redis or Valkey server, version 5 or newer.

    Args:
        at: a URL (``redis://``, ``rediss://`` for TLS, ``unix://``), or a client of redis-py, blocking or asyncio:
            its settings are taken over (address, TLS, user, password), its connections are not used.
        cluster: whether the URL is that of one node of a Redis Cluster.
        prefix: what all keys begin with; letters, digits, ``_``, ``.`` and ``-``.
        timeout: seconds that one exchange may take, connecting included (but for the look-up of a host name, which
            in blocking programs cannot be bounded). An exchange that fails is not repeated.
        name: what events call it; the prefix by default.

    Raises:
        ConfigError: an argument is out of range.
        ImportError: redis-py (``resilience-client[redis]``) is not installed.

    Thread-safe; each event loop has connections of its own, and so has each side of a fork.
    """

    def __init__(
        self,
        at: str | Any,
        *,
        cluster: bool = False,
        prefix: str = "resilience",
        timeout: float = 0.05,
        name: str | None = None,
    ) -> None:
        self.prefix = check_prefix(prefix)
        super().__init__(name=prefix if name is None else name, timeout=timeout)
        self.cluster = _checks.flag("cluster", cluster)
        from ._bounded import Connections

        self._connections = Connections(at, cluster=cluster, timeout=self.timeout)
        self._client: Any = None
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()
        self._opening: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[Any]] = WeakKeyDictionary()
        self._lock = threading.Lock()
        self._scripts: dict[Transition, tuple[str, str]] = {}
        survive(self)

    def forked(self) -> None:
        """See `forking`: the parent's connections are the parent's."""
        self._lock = threading.Lock()
        self._client = None
        self._loops = WeakKeyDictionary()
        self._opening = WeakKeyDictionary()

    def _exchange(self, key: str, transition: Transition, arguments: Numbers) -> Numbers:
        client = self._client or self._connect()
        source, digest = self._scripts.get(transition) or self._script(transition)
        name = f"{self.prefix}:{{{key}}}:{transition.name}:{transition.version}"
        text = " ".join(map(str, arguments))
        with self._connections.until():
            try:
                reply = client.execute_command("EVALSHA", digest, 1, name, text)
            except self._connections.unknown_script:
                reply = client.execute_command("EVAL", source, 1, name, text)
        return tuple(map(int, reply.split()))

    async def _aexchange(self, key: str, transition: Transition, arguments: Numbers) -> Numbers:
        from asyncio import get_running_loop

        client = self._loops.get(get_running_loop()) or await self._aconnect()
        source, digest = self._scripts.get(transition) or self._script(transition)
        name = f"{self.prefix}:{{{key}}}:{transition.name}:{transition.version}"
        text = " ".join(map(str, arguments))
        try:
            reply = await client.execute_command("EVALSHA", digest, 1, name, text)
        except self._connections.unknown_script:
            reply = await client.execute_command("EVAL", source, 1, name, text)
        return tuple(map(int, reply.split()))

    def _script(self, transition: Transition) -> tuple[str, str]:
        source = script(transition)
        found = source, sha1(source.encode(), usedforsecurity=False).hexdigest()
        self._scripts[transition] = found
        return found

    def _connect(self) -> Any:
        with self._lock:
            if self._client is None:
                with self._connections.until():  # a cluster is asked for its nodes
                    self._client = self._connections.blocking()
            return self._client

    async def _aconnect(self) -> Any:
        from asyncio import get_running_loop, shield

        loop = get_running_loop()
        if not self.cluster:
            client = self._loops[loop] = self._connections.asyncio()
            return client
        # A cluster's client that learns of the nodes for one task closes the connections of others that came at once.
        opening = self._opening.get(loop)
        if opening is None:
            opening = self._opening[loop] = loop.create_task(self._connections.asyncio().initialize())
            opening.add_done_callback(self._opened)
        return await shield(opening)

    def _opened(self, opening: asyncio.Task[Any]) -> None:
        loop = opening.get_loop()
        self._opening.pop(loop, None)
        if not opening.cancelled() and opening.exception() is None:
            self._loops[loop] = opening.result()

    def survey(self) -> Iterator[Entry]:
        """See `Store.survey`."""
        client = self._connect()
        with self._connections.until(60.0):
            for name in client.scan_iter(match=f"{self.prefix}:{{*}}:*:*", count=1000):
                text = name.decode()
                key, _, rest = text[len(self.prefix) + 2 :].partition("}:")
                kind, _, version = rest.partition(":")
                value = client.get(name)
                if value is not None and version.isdigit():
                    yield Entry(key, kind, int(version), tuple(map(int, value.split())))

    def close(self) -> None:
        """See `Store.close`. Connections of event loops are closed by `aclose`, in each of them."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    async def aclose(self) -> None:
        """See `Store.aclose`."""
        from asyncio import get_running_loop

        client = self._loops.pop(get_running_loop(), None)
        if client is not None:
            await client.aclose()
        self.close()


def script(transition: Transition, frame: str | None = None) -> str:
    """The whole script of a transition."""
    if frame is None:
        frame = lua("frame")
    return f"{transition.twin()}\n{frame}"
