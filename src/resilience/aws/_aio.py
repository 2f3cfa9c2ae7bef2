"""What is left of a limit for the body of an asynchronous answer, which is read after the call has returned.

While the call runs, asyncio cancels it on time. A body is read by the caller's own code later, so its reader is put
behind one that keeps time: aiohttp's, or that of httpx, whichever session aiobotocore was told to use. A timer runs
only while somebody waits for bytes, so nothing is left behind by a body that was read, or never read.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import weakref
from typing import TYPE_CHECKING, Any

from .._runtime import Asyncio, Call
from .._scope import Limit, tighter
from ..clock import system

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ["close", "hand_over", "is_async"]


def is_async(client: Any) -> bool:
    """Whether *client* is one of aiobotocore's."""
    return inspect.iscoroutinefunction(inspect.unwrap(type(client)._make_api_call))


def hand_over(raw: Any, *, limit: Limit | None, stall: float | None) -> None:
    """Hold the reading of *raw*, a response of aiohttp's or httpx's, to *limit*, and each wait to *stall* seconds.

    Reading that is cut raises what a read timeout raises: aiobotocore's ``AioReadTimeoutError`` (a botocore
    ``ReadTimeoutError`` and a ``TimeoutError``) from a streaming body, `TimedOut` or `DeadlineExceeded` from an event
    stream. The connection is closed then, as it is after any error while reading. What has arrived completely is given
    out whatever the time; a response of another kind is left alone.
    """
    if limit is None and stall is None:
        return
    pace = _Pace(limit, stall)
    if hasattr(raw, "aiter_raw"):
        if not raw.is_closed:
            raw.stream = _timed_stream(type(raw).__module__.partition(".")[0])(raw.stream, pace)
        return
    content: Any = getattr(raw, "content", None)
    if hasattr(content, "readchunk") and not content.is_eof():
        raw.content = _Reader(content, raw, pace)


async def close(raw: Any) -> None:
    """Close a response that nobody will read."""
    shut = getattr(raw, "aclose", None)
    if shut is None:
        raw.close()
    else:
        await shut()


class _Pace:
    """How long reading may take. Immutable."""

    __slots__ = ("_limit", "_runtime", "_stall")

    def __init__(self, limit: Limit | None, stall: float | None) -> None:
        self._limit = limit
        self._stall = None if stall is None else round(stall * 1e9)
        self._runtime = Asyncio(system if limit is None else limit.clock)

    def check(self) -> int:
        """The time.

        Raises:
            TimedOut: the limit has passed.
        """
        now = self._runtime.clock.monotonic_ns()
        if self._limit is not None and now >= self._limit.at:
            raise self._limit.error(now)
        return now

    async def wait(self, read: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """One wait for bytes."""
        now = self.check()
        clock, stall = self._runtime.clock, None
        if self._stall is not None:
            stall = Limit(now + self._stall, self._stall / 1e9, "reading the body", clock, deadline=False)
        return await self._runtime.attempt(Call(read, args, {}), tighter(self._limit, stall), None)


class _Reader:
    """Stands in for the reader of a response of aiohttp's; belongs to the event loop, like that."""

    __slots__ = ("_inner", "_pace", "_raw")

    def __init__(self, inner: Any, raw: Any, pace: _Pace) -> None:
        self._inner = inner
        self._raw = weakref.ref(raw)  # it has us; a cycle would keep the connection of one that nobody reads
        self._pace = pace

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def _wait(self, read: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        if self._inner.is_eof():
            return await read(*args)
        try:
            return await self._pace.wait(read, *args)
        except Exception:
            raw = self._raw()
            if raw is not None:
                raw.close()
            raise

    async def read(self, n: int = -1) -> bytes:
        if n < 0:
            return b"".join([data async for data in self.iter_any()])
        return await self._wait(self._inner.read, n)  # type: ignore[no-any-return]

    async def readany(self) -> bytes:
        return await self._wait(self._inner.readany)  # type: ignore[no-any-return]

    async def readchunk(self) -> tuple[bytes, bool]:
        return await self._wait(self._inner.readchunk)  # type: ignore[no-any-return]

    async def readline(self, **settings: Any) -> bytes:
        return await self._wait(functools.partial(self._inner.readline, **settings))  # type: ignore[no-any-return]

    async def readuntil(self, separator: bytes = b"\n", **settings: Any) -> bytes:
        read = functools.partial(self._inner.readuntil, separator, **settings)
        return await self._wait(read)  # type: ignore[no-any-return]

    async def readexactly(self, n: int) -> bytes:
        return await self._wait(self._inner.readexactly, n)  # type: ignore[no-any-return]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while line := await self.readline():
            yield line

    async def iter_any(self) -> AsyncIterator[bytes]:
        while data := await self.readany():
            yield data

    async def iter_chunked(self, n: int) -> AsyncIterator[bytes]:
        while data := await self.read(n):
            yield data

    async def iter_chunks(self) -> AsyncIterator[tuple[bytes, bool]]:
        while (chunk := await self.readchunk()) != (b"", False):
            yield chunk


@functools.cache
def _timed_stream(package: str) -> type:
    """The class of streams that stands in for those of *package*, httpx or its successor."""
    httpx = importlib.import_module(package)

    class Timed(httpx.AsyncByteStream):  # type: ignore[misc, name-defined]
        def __init__(self, inner: Any, pace: _Pace) -> None:
            self._inner = inner
            self._pace = pace

        async def __aiter__(self) -> AsyncIterator[bytes]:
            stream = self._inner.__aiter__()
            try:
                while True:
                    try:
                        yield await self._pace.wait(stream.__anext__)
                    except StopAsyncIteration:
                        return
                    except TimeoutError as error:
                        raise httpx.ReadTimeout(str(error)) from error
            finally:
                await stream.aclose()

        async def aclose(self) -> None:
            await self._inner.aclose()

    return Timed
