"""Where time comes from.

Every policy is handed its clock. The default is `system`, the machine's own; ``resilience.testing`` puts another
one in its place, or one can be given to a policy as ``clock=``.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Coroutine, Iterator

__all__ = ["Clock", "SystemClock", "system"]


@runtime_checkable
class Clock(Protocol):
    """What a policy needs to know of time.

    Implementations must be safe to use from several threads.
    """

    def monotonic_ns(self) -> int:
        """A point in time in nanoseconds; only differences mean anything."""

    def time(self) -> float:
        """Wall-clock time in seconds since 1970, for dates sent by a server."""

    def sleep(self, seconds: float, /) -> object:
        """Let *seconds* pass on this clock."""

    def asleep(self, seconds: float, /) -> Coroutine[Any, Any, None]:
        """Let *seconds* pass on this clock without blocking the event loop."""

    def wait(self, event: threading.Event, seconds: float | None, /) -> bool:
        """Block until *event* is set (True) or *seconds* have passed (False)."""


async def _asleep(seconds: float) -> None:
    import asyncio  # costs as much to import as the rest of the library; sync users never pay

    await asyncio.sleep(seconds)


def _wait(event: threading.Event, seconds: float | None) -> bool:
    return event.wait(seconds)


class SystemClock:
    """The machine's clock, as one object whose functions can be exchanged while the program runs.

    Policies read a slot of this object at each call. Hence a test can put a virtual clock below functions that were
    decorated long ago (`installed`), and production pays one slot read for it.
    """

    __slots__ = ("asleep", "monotonic_ns", "sleep", "time", "wait")

    monotonic_ns: Callable[[], int]
    time: Callable[[], float]
    sleep: Callable[[float], object]
    asleep: Callable[[float], Coroutine[Any, Any, None]]
    wait: Callable[[threading.Event, float | None], bool]

    def __init__(self) -> None:
        self.monotonic_ns = time.monotonic_ns
        self.time = time.time
        self.sleep = time.sleep
        self.asleep = _asleep
        self.wait = _wait

    @contextmanager
    def installed(self, clock: Clock) -> Iterator[None]:
        """Take time from *clock* inside the block, in every thread. For tests; blocks may be nested."""
        before = {name: getattr(self, name) for name in self.__slots__}
        for name in before:
            setattr(self, name, getattr(clock, name))
        try:
            yield
        finally:
            for name, function in before.items():
                setattr(self, name, function)

    def __repr__(self) -> str:
        return "system"


system = SystemClock()
"""The clock of every policy that was not given another one."""
