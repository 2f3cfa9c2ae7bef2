"""Time under a test's control, for this library's tests and for its users'.

* `VirtualClock`: time that passes only when something waits for it. A day of backoff runs in milliseconds. Give
  it to a policy (``clock=``), or put it under all policies with `virtual_clock`.
* `no_waiting`: a switch for a whole test suite: nothing sleeps, time jumps instead.
* `record_events`: what policies told while the code under test ran.

``resilience.pytest_plugin`` offers both as fixtures.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from . import _checks
from ._checks import NS
from ._listen import listen
from .clock import system
from .events import Event

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

__all__ = ["JumpingClock", "VirtualClock", "VirtualLoop", "no_waiting", "record_events", "virtual_clock"]

T = TypeVar("T")


class VirtualClock:
    """A clock that stands still until somebody waits on it, or `advance` moves it.

    Sleeping advances it at once. For asyncio run the code with `run`: its event loop takes its time from this
    clock, and jumps to the next timer when every task waits; so tasks interleave as they would in real time, and
    ``asyncio.sleep`` and ``asyncio.timeout`` obey it too. In another event loop ``asleep`` advances the clock and lets
    other tasks run once.

    Args:
        start: the first reading, in seconds.
        epoch: the wall-clock time at that moment, in seconds since 1970.

    Thread-safe. ``sleeps`` lists the seconds of every sleep, for assertions.
    """

    def __init__(self, start: float = 0.0, *, epoch: float = 1_700_000_000.0) -> None:
        self._ns = _checks.to_ns(_checks.seconds("start", start, zero=True))
        self._epoch = _checks.seconds("epoch", epoch, zero=True) - start
        self._lock = threading.Lock()
        self.sleeps: list[float] = []

    @property
    def now(self) -> float:
        """The reading, in seconds."""
        return self._ns / NS

    def monotonic_ns(self) -> int:
        """The reading, in nanoseconds."""
        return self._ns

    def time(self) -> float:
        """Wall-clock time, in seconds since 1970."""
        return self._epoch + self._ns / NS

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass."""
        self._pass(_checks.to_ns(_checks.seconds("seconds", seconds, zero=True)))

    def _pass(self, ns: int) -> None:
        with self._lock:
            self._ns += max(0, ns)

    def set_back(self, seconds: float) -> None:
        """Step back, as no monotonic clock should; for tests of what happens then."""
        with self._lock:
            self._ns -= _checks.to_ns(_checks.seconds("seconds", seconds, zero=True))

    def sleep(self, seconds: float) -> None:
        """Pass *seconds* at once."""
        self.sleeps.append(seconds)
        self._pass(_checks.to_ns(seconds))

    async def asleep(self, seconds: float) -> None:
        """Pass *seconds* at once, or in the virtual event loop when all tasks wait."""
        self.sleeps.append(seconds)
        loop = asyncio.get_running_loop()
        if isinstance(loop, VirtualLoop) and loop.clock is self:
            await asyncio.sleep(seconds)
        else:
            self._pass(_checks.to_ns(seconds))
            await asyncio.sleep(0)

    def wait(self, event: threading.Event, seconds: float | None) -> bool:
        """Whether *event* is set; if not, other threads get a moment of real time before *seconds* pass at once."""
        if seconds is None:
            return event.wait()
        if event.wait(0.02):
            return True
        self._pass(_checks.to_ns(seconds))
        return event.is_set()

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run *main* to its end in an event loop that takes its time from this clock."""
        with asyncio.Runner(loop_factory=lambda: VirtualLoop(self)) as runner:
            return runner.run(main)

    def __repr__(self) -> str:
        return f"<VirtualClock at {self.now:g} s>"


class _Selector(selectors.DefaultSelector):
    """Does not wait for the next timer: it moves the clock there. Real input and output is looked at first."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:  # no timer: only another thread or real input can wake the loop
            return super().select(None)
        ready = super().select(0)
        if not ready and timeout > 0:
            # Up to the nanosecond after the timer: floats of a large reading are coarser than the timer's own.
            self._clock._pass(_checks.to_ns(timeout) + 1)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop in the time of a `VirtualClock`."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(_Selector(clock))
        self.clock = clock

    def time(self) -> float:
        """The clock's reading, in seconds."""
        return self.clock.monotonic_ns() / NS


class JumpingClock:
    """The machine's clock, but sleeping jumps ahead instead of waiting. Thread-safe."""

    def __init__(self) -> None:
        self._ahead = 0
        self._lock = threading.Lock()

    def monotonic_ns(self) -> int:
        """Real time plus all jumps, in nanoseconds."""
        return time.monotonic_ns() + self._ahead

    def time(self) -> float:
        """Wall-clock time plus all jumps, in seconds since 1970."""
        return time.time() + self._ahead / NS

    def sleep(self, seconds: float) -> None:
        """Jump *seconds* ahead."""
        with self._lock:
            self._ahead += _checks.to_ns(seconds)

    async def asleep(self, seconds: float) -> None:
        """Jump *seconds* ahead, and let other tasks run once."""
        self.sleep(seconds)
        await asyncio.sleep(0)

    def wait(self, event: threading.Event, seconds: float | None) -> bool:
        """Wait for *event* in real time: somebody is really working on it."""
        return event.wait(seconds)

    def __repr__(self) -> str:
        return f"<JumpingClock {self._ahead / NS:g} s ahead>"


@contextlib.contextmanager
def virtual_clock(clock: VirtualClock | None = None) -> Iterator[VirtualClock]:
    """Every policy on the machine's clock takes its time from a virtual one inside the block, in all threads."""
    clock = clock or VirtualClock(start=1000.0)
    with system.installed(clock):
        yield clock


@contextlib.contextmanager
def no_waiting() -> Iterator[JumpingClock]:
    """No policy waits inside the block: backoffs and limiters jump ahead in time instead. In all threads.

    Timeouts of running calls and queues of a bulkhead stay real: there somebody is really working.
    """
    clock = JumpingClock()
    with system.installed(clock):
        yield clock


@contextlib.contextmanager
def record_events(
    to: type[Event] | tuple[type[Event], ...] = Event, *, policy: str | tuple[str, ...] | None = None
) -> Iterator[list[Any]]:
    """A list of the events that are told inside the block, in all threads, in their order; it stays afterwards.

    Args:
        to: a class of events, or several, as for `resilience.listen`. All by default.
        policy: names of the policies or parts to hear about; all by default.

    Raises:
        TypeError: an argument is of the wrong type.
    """
    events: list[Any] = []
    with listen(events.append, to, policy=policy):
        yield events
