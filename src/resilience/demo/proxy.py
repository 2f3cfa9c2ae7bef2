"""An HTTP proxy that makes a working server unreliable, for demos and tests.

Knows HTTP/1.1 and the error bodies of AWS services, as far as one proxy in front of one server
needs them. Refuses to know what the requests mean, who makes them, and policies.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .._checks import count
from .faults import Delay, Dribble, Hang, Reset, Stall, Status, Throttle, Weather
from .loopback import LoopbackServer, dribble, reset
from .wire import (
    Request,
    Response,
    error_response,
    read_request,
    read_response,
    throttle_response,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .faults import Capacity, Fault

__all__ = ["Counts", "FaultProxy"]


@dataclass(frozen=True, slots=True)
class Counts:
    """What the proxy has seen since it started or was last told to count afresh.

    Attributes:
        arrived: requests read whole from clients, whatever became of them.
        passed_on: those that were sent on to the server behind.
        outcomes: arrived requests by what befell them: ``ok``, ``hang``, ``reset``, ``stall``,
            ``dribble``, ``status``, ``throttle``, ``capacity`` (throttled because too many came) or
            ``drained``.
    """

    arrived: int = 0
    passed_on: int = 0
    outcomes: Mapping[str, int] = field(default_factory=dict)


class FaultProxy(LoopbackServer):
    """Stands between HTTP clients and the server at ``127.0.0.1:upstream``.

    Used as a ``with`` block; `set` changes the weather from any thread, for all requests read
    after it. Client connections are kept alive; the server behind is called over a connection per
    request. A client that leaves does not stop its request from being passed on: a real server does
    not notice either.

    Args:
        upstream: the server's port on 127.0.0.1.
        seed: of the dice that pick the faults; which request draws which number depends on their
            order of arrival.
        on_request: called with every request's fate as it arrives, on the proxy's thread; must be
            quick.
    """

    def __init__(
        self,
        upstream: int,
        *,
        seed: int = 0,
        on_request: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__()
        self._upstream = count("upstream", upstream)
        self._dice = random.Random(count("seed", seed, minimum=0))
        self._on_request = on_request
        self._weather = Weather()
        self._bucket = _Bucket()
        self._draining = False
        self._waiting: set[asyncio.Event] = set()
        self._lock = threading.Lock()  # guards the three counts
        self._arrived = 0
        self._passed_on = 0
        self._outcomes: Counter[str] = Counter()

    def set(self, *faults: Fault, delay: Delay | float | None = None, capacity: Capacity | None = None) -> None:
        """Put other faults in force instead of those before; with no argument, fair weather.

        Args:
            faults: of which at most one befalls a request, each with its share.
            delay: added to every request, in seconds or drawn.
            capacity: requests a second beyond which the proxy throttles.

        Raises:
            ConfigError: when the shares add up to more than one.
            TypeError: when an argument is of the wrong type.
        """
        if isinstance(delay, int | float):
            delay = Delay(delay)
        self._weather = Weather(faults, delay, capacity)

    def drain(self) -> None:
        """End hanging requests, and refuse these and all later ones; no client retries that."""
        self._draining = True
        self._on_loop(self._wake)

    @property
    def counts(self) -> Counts:
        """A copy of the counts as they stand."""
        with self._lock:
            return Counts(self._arrived, self._passed_on, dict(self._outcomes))

    def count_afresh(self) -> None:
        """Set all counts back to zero."""
        with self._lock:
            self._arrived = self._passed_on = 0
            self._outcomes.clear()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve the requests of one client connection, one after another."""
        while (request := await read_request(reader, writer)) is not None:
            await self._one(request, reader, writer)
            if writer.is_closing() or not request.keep_alive:
                return

    async def _one(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        weather = self._weather
        fault = weather.pick(self._dice.random)
        over = weather.capacity is not None and not self._bucket.take(weather.capacity, time.monotonic())
        fate = "drained" if self._draining else "capacity" if over else _name(fault)
        self._count(fate)
        if weather.delay is not None:
            await asyncio.sleep(weather.delay.draw(self._dice.gauss(0.0, 1.0)))
        if self._draining:
            writer.write(error_response(request, 400))
        elif over:
            writer.write(throttle_response(request))
        else:
            await self._befall(fault, request, reader, writer)
        await writer.drain()

    async def _befall(
        self,
        fault: Fault | None,
        request: Request,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        match fault:
            case Hang():
                await self._silence(reader)
                writer.write(error_response(request, 400))
            case Reset():
                reset(writer)
            case Status(code=code, retry_after=retry_after):
                writer.write(error_response(request, code, retry_after))
            case Throttle():
                writer.write(throttle_response(request))
            case Dribble(rate=rate):
                answer = await self._pass_on(request)
                await dribble(writer, answer.head + answer.body, rate)
            case Stall():
                answer = await self._pass_on(request)
                # an answer without a body stalls inside its head
                part = answer.head + answer.body[: len(answer.body) // 2]
                writer.write(part if answer.body else part[:-1])
                await writer.drain()
                await self._silence(reader)
                reset(writer)
            case None:
                answer = await self._pass_on(request)
                writer.write(answer.head + answer.body)

    async def _silence(self, reader: asyncio.StreamReader) -> None:
        """Say nothing until the client leaves or the proxy is drained."""
        drained = asyncio.Event()
        if self._draining:
            return
        self._waiting.add(drained)
        left = asyncio.ensure_future(reader.read())  # ends with the connection
        end = asyncio.ensure_future(drained.wait())
        try:
            await asyncio.wait((left, end), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiting.discard(drained)
            for waiter in (left, end):
                waiter.cancel()
            await asyncio.gather(left, end, return_exceptions=True)
        if not self._draining:
            raise ConnectionResetError("the client left")

    def _wake(self) -> None:
        for drained in self._waiting:
            drained.set()

    async def _pass_on(self, request: Request) -> Response:
        """The server's answer."""
        with self._lock:
            self._passed_on += 1
        reader, writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        try:
            writer.write(request.for_server())
            return await read_response(reader, asked=request.method)
        finally:
            writer.close()

    def _count(self, fate: str) -> None:
        with self._lock:
            self._arrived += 1
            self._outcomes[fate] += 1
        if self._on_request is not None:
            self._on_request(fate)


class _Bucket:
    """What is left of a `Capacity`. Not thread-safe: the proxy's thread alone uses it."""

    __slots__ = ("_at", "_capacity", "_left")

    def __init__(self) -> None:
        self._capacity: Capacity | None = None
        self._left = 0.0
        self._at = 0.0

    def take(self, capacity: Capacity, now: float) -> bool:
        if capacity is not self._capacity:
            self._capacity, self._left, self._at = capacity, capacity.burst, now
        self._left = min(capacity.burst, self._left + (now - self._at) * capacity.rate)
        self._at = now
        if self._left >= 1.0:
            self._left -= 1.0
            return True
        self._left = max(0.0, self._left - capacity.refusal)
        return False


def _name(fault: Fault | None) -> str:
    return "ok" if fault is None else type(fault).__name__.lower()
