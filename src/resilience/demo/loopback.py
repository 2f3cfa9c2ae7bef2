"""A TCP server on the loopback interface, in a thread of its own, that can be cruel.

Knows connections and bytes: how to accept, reset, fall silent, dribble, and how to leave nothing
behind. Refuses to know any protocol; a subclass reads and answers in `LoopbackServer.handle`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["LoopbackServer", "dribble", "reset"]

_LINGER_ZERO = struct.pack("ii", 1, 0)
_TICK = 0.05
"""Seconds between two pieces of a dribble."""


def reset(writer: asyncio.StreamWriter) -> None:
    """Close the connection so that the peer sees a reset (RST) and not an orderly end."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    writer.transport.abort()


async def dribble(writer: asyncio.StreamWriter, data: bytes, rate: float) -> None:
    """Send *data* at *rate* bytes a second, so that no single read of the peer's waits long."""
    step = max(1, round(rate * _TICK))
    for start in range(0, len(data), step):
        piece = data[start : start + step]
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(len(piece) / rate)


class LoopbackServer(ABC):
    """Listens on a free port of 127.0.0.1 from entering the ``with`` block until leaving it.

    Leaving resets every open connection, whatever state it is in, and ends the thread. The methods
    are thread-safe, `handle` runs on the server's own thread. A server runs once: it cannot
    be entered again.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._port = 0
        self._failure: BaseException | None = None
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._main, name=type(self).__name__, daemon=True)

    @property
    def port(self) -> int:
        """The TCP port listened on, above zero."""
        if not self._port:
            raise RuntimeError("the server has no port before its with block is entered")
        return self._port

    @property
    def url(self) -> str:
        """``http://127.0.0.1:port``, for the protocols that go by it."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._listening.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._stop is not None:
            self._on_loop(self._stop.set)
        self._thread.join()

    @abstractmethod
    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends; it is closed in order when this returns."""

    def _on_loop(self, step: object) -> None:
        """Run *step* on the server's thread soon; nothing happens when the server is gone."""
        if self._loop is not None and callable(step):
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(step)

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # handed to the thread that waits in __enter__
            self._failure = error
        finally:
            self._listening.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1024)
        self._port = server.sockets[0].getsockname()[1]
        self._listening.set()
        try:
            await self._stop.wait()
        finally:
            server.close()
            for connection in list(self._connections):
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self.handle(reader, writer)
            writer.close()
        except (OSError, EOFError):
            writer.transport.abort()  # the peer left first
        except asyncio.CancelledError:
            reset(writer)  # the server is closing; not re-raised, for nobody awaits this task but the server
        finally:
            self._connections.discard(task)
