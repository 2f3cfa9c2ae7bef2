"""Asynchronous clients of servers on loopback, and tests that are coroutines."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, ParamSpec, Self

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

import resilience as rs
from aws.conftest import KEYS
from aws.servers import sockets_open

P = ParamSpec("P")

MODES = ("legacy", "standard", "adaptive")


@functools.cache
def _session() -> AioSession:
    """One for most tests: it reads the models of the services once."""
    return AioSession()


def config(*, mode: str = "standard", **settings: Any) -> AioConfig:
    return AioConfig(**{"retries": {"mode": mode}, "s3": {"addressing_style": "path"}, **settings})


@contextlib.asynccontextmanager
async def client(
    url: str,
    service: str = "dynamodb",
    *,
    region: str = "eu-west-1",
    session: AioSession | None = None,
    verify: str | bool | None = None,
    **settings: Any,
) -> AsyncIterator[Any]:
    """A client of *url* that is closed in the end."""
    keys = {**KEYS, "region_name": region, "endpoint_url": url, "config": config(**settings), "verify": verify}
    async with (session or _session()).create_client(service, **keys) as made:
        yield made


def flaky(attempts: int = 3, **parts: Any) -> rs.Policy:
    """A policy that retries everything at once."""
    retry = rs.Retry(on=Exception, attempts=attempts, backoff=0.0, budget=None)
    return rs.Policy(**{"retry": retry, "registry": None, **parts})


class Lag:
    """How late the event loop was at the worst, in seconds: what busy neighbors cost is no fault of a timeout's."""

    worst = 0.0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + 0.002
            await asyncio.sleep(0.002)
            self.worst = max(self.worst, loop.time() - due)


async def settled(condition: Callable[[], bool], within: float = 1.0) -> bool:
    """Whether *condition* comes true in time; sockets, for one, are closed some turns of the loop later."""
    loop = asyncio.get_running_loop()
    until = loop.time() + within
    while not condition():
        if loop.time() >= until:
            return False
        await asyncio.sleep(0.005)
    return True


def run(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test in an event loop of its own; in the end no task, timer of ours or socket may be left."""

    @functools.wraps(test)
    def body(*args: P.args, **kwargs: P.kwargs) -> None:
        async def main() -> None:
            complaints: list[Any] = []
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: complaints.append(context))
            before = sockets_open()
            async with asyncio.timeout(20.0):
                await test(*args, **kwargs)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left
            assert await settled(lambda: sockets_open() <= before), "a socket is left"
            assert not complaints

        asyncio.run(main())

    return body
