"""The two ways to run the one story: blocking, and under asyncio.

A runtime supplies the verbs that touch the world: sleep, wait for one's turn, make an attempt under a limit, run
attempts side by side. The story (``_story.py``) decides; nothing here does. In the blocking runtime no verb ever
suspends, so `drive` finishes a story in a single step.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from . import _workers
from ._attend import attended
from .errors import Boxed

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Mapping

    from ._scope import Limit
    from .clock import Clock
    from .policies.timeout import TimeoutPart
    from .stores.protocol import Numbers, Store, Transition

__all__ = ["Asyncio", "Blocking", "Call", "Runtime", "Waiter", "drive"]

T = TypeVar("T")


class Call:
    """The caller's function and what it is to be called with.

    Attributes:
        tries: how many attempts were made so far, the one under way included.
    """

    __slots__ = ("args", "fn", "kwargs", "tries")

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.tries = 1


class Waiter(Protocol):
    """Somebody in a queue, whom any thread can wake."""

    def wake(self) -> bool:
        """Wake it; False if it is gone for good (its event loop was closed)."""

    async def wait(self, seconds: float | None) -> bool:
        """Until woken (True) or *seconds* have passed (False)."""


class Runtime(Protocol):
    """The verbs of one world, on one clock."""

    clock: Clock
    cancels: bool
    """Whether an attempt can be stopped from outside."""

    async def sleep(self, seconds: float) -> None:
        """Let *seconds* pass."""

    async def pace(self, seconds: float, waiter: Waiter) -> bool:
        """Let *seconds* pass (False), or less if *waiter* is woken before (True)."""

    def waiter(self) -> Waiter:
        """A new place in some queue."""

    async def attempt(self, call: Call, limit: Limit | None, timeout: TimeoutPart | None) -> Any:
        """Call once, held to *limit* in the way *timeout* names."""

    async def race(
        self,
        start: Callable[[], Coroutine[Any, Any, Any]],
        delay: float,
        extra: int,
        allow: Callable[[], bool],
        limit: Limit | None,
    ) -> tuple[Any, int]:
        """Start, and start up to *extra* more, each after *delay* seconds without an answer, if *allow* says so.

        Returns the first good answer, and which of the attempts gave it (from 0).
        """

    async def result(self, value: Any) -> Any:
        """What a function of the user's returned, awaited if this world can."""

    async def exchange(self, store: Store, key: str, transition: Transition, arguments: Numbers) -> Numbers:
        """One step of shared state, see `resilience.stores.Store.exchange`."""


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    except Boxed as boxed:
        raise boxed.error from None
    coroutine.close()
    raise RuntimeError("a blocking call tried to suspend; use the async form (acall, async with)")


class _ThreadWaiter:
    __slots__ = ("clock", "event")

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.event = threading.Event()

    def wake(self) -> bool:
        self.event.set()
        return True

    async def wait(self, seconds: float | None) -> bool:
        return self.clock.wait(self.event, seconds)


class Blocking:
    """Threads: sleeping blocks, and a call can be left behind but never stopped."""

    __slots__ = ("clock",)
    cancels = False

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    async def sleep(self, seconds: float) -> None:
        if seconds > 0:  # sleeping for no time takes the system some 50 us
            self.clock.sleep(seconds)

    async def pace(self, seconds: float, waiter: Waiter) -> bool:
        # Not woken early when somebody ahead leaves the queue: later than necessary, never too early.
        self.clock.sleep(seconds)
        return False

    def waiter(self) -> Waiter:
        return _ThreadWaiter(self.clock)

    async def attempt(self, call: Call, limit: Limit | None, timeout: TimeoutPart | None) -> Any:
        try:
            return self._attempt(call, limit, timeout)
        except StopIteration as error:
            raise Boxed(error) from None

    def _attempt(self, call: Call, limit: Limit | None, timeout: TimeoutPart | None) -> Any:
        if limit is None or timeout is None or timeout.shadow or timeout.mode == "cooperative":
            return call.fn(*call.args, **call.kwargs)
        left = limit.left(self.clock.monotonic_ns())
        if timeout.mode == "argument":
            place = timeout.position(call.fn) if call.args else None
            if place is not None and place < len(call.args):
                before, given, after = call.args[:place], call.args[place], call.args[place + 1 :]
                return call.fn(*before, _less(left, given), *after, **call.kwargs)
            left = _less(left, call.kwargs.get(timeout.argument))
            return call.fn(*call.args, **{**call.kwargs, timeout.argument: left})
        if timeout.mode is None:
            timeout.check(call.fn, is_async=False)
        job = _workers.start(lambda: call.fn(*call.args, **call.kwargs))
        if self.clock.wait(job.done, left):
            return job.outcome()
        timeout.abandon(job)
        watch = None if limit.lingerer is None else limit.lingerer.watch(job)
        if watch is not None:
            job.when_done(lambda: watch.broke_off() if job.failed else watch.answered())
        raise limit.error(self.clock.monotonic_ns())

    async def race(
        self,
        start: Callable[[], Coroutine[Any, Any, Any]],
        delay: float,
        extra: int,
        allow: Callable[[], bool],
        limit: Limit | None,
    ) -> tuple[Any, int]:
        bell = threading.Event()
        jobs = [_workers.start(lambda: drive(start()), bell.set)]
        while True:
            bell.clear()  # before looking, so that no answer is missed
            pending = False
            for index, job in enumerate(jobs):
                if not job.done.is_set():
                    pending = True
                elif job.error is None:
                    return job.result, index
            if not pending:
                try:
                    return jobs[0].outcome(), 0
                except StopIteration as error:
                    raise Boxed(error) from None
            wait = delay if extra else None
            if limit is not None:
                left = limit.left(self.clock.monotonic_ns())
                if left <= 0:
                    raise limit.error(self.clock.monotonic_ns())
                wait = left if wait is None else min(wait, left)
            if not self.clock.wait(bell, wait) and extra and wait == delay:
                extra -= 1
                if allow():
                    jobs.append(_workers.start(lambda: drive(start()), bell.set))
                else:
                    extra = 0

    async def result(self, value: Any) -> Any:
        return value

    async def exchange(self, store: Store, key: str, transition: Transition, arguments: Numbers) -> Numbers:
        return store.exchange(key, transition, arguments)


def _less(left: float, given: object) -> float:
    """What is handed over, where the caller asked for *given*."""
    return min(left, given) if isinstance(given, (int, float)) else left


class _TaskWaiter:
    __slots__ = ("future", "loop", "thread")

    def __init__(self) -> None:
        import asyncio

        self.loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()
        self.future: asyncio.Future[None] = self.loop.create_future()

    def _set(self) -> None:
        if not self.future.done():
            self.future.set_result(None)

    def wake(self) -> bool:
        if self.loop.is_closed():
            return False  # nobody waits there any more
        if threading.get_ident() == self.thread:
            self._set()
            return True
        try:
            self.loop.call_soon_threadsafe(self._set)
        except RuntimeError:  # closed just now
            return False
        return True

    async def wait(self, seconds: float | None) -> bool:
        import asyncio

        done, _ = await asyncio.wait({self.future}, timeout=seconds)
        return bool(done)


async def _made(call: Call) -> Any:
    return await call.fn(*call.args, **call.kwargs)


class Asyncio:
    """Tasks: a call that takes too long is cancelled for real."""

    __slots__ = ("clock",)
    cancels = True

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    async def sleep(self, seconds: float) -> None:
        await self.clock.asleep(seconds)

    async def pace(self, seconds: float, waiter: Waiter) -> bool:
        import asyncio

        assert isinstance(waiter, _TaskWaiter)
        nap: asyncio.Task[None] = asyncio.create_task(self.clock.asleep(seconds))
        try:
            await asyncio.wait({nap, waiter.future}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            nap.cancel()
        return waiter.future.done()

    def waiter(self) -> Waiter:
        return _TaskWaiter()

    async def attempt(self, call: Call, limit: Limit | None, timeout: TimeoutPart | None) -> Any:
        if limit is None:
            return await call.fn(*call.args, **call.kwargs)
        if limit.lingerer is not None and type(call) is Call and limit.lingerer.room():
            return await attended(_made(call), limit, limit.lingerer, self.clock)
        import asyncio

        left = limit.left(self.clock.monotonic_ns())
        theirs: TimeoutError | None = None
        try:
            async with asyncio.timeout(left) as cut:
                try:
                    return await call.fn(*call.args, **call.kwargs)
                except TimeoutError as error:
                    theirs = error
                    raise
        except TimeoutError as error:
            if cut.expired() and error is not theirs:
                raise limit.error(self.clock.monotonic_ns()) from error
            raise

    async def race(
        self,
        start: Callable[[], Coroutine[Any, Any, Any]],
        delay: float,
        extra: int,
        allow: Callable[[], bool],
        limit: Limit | None,
    ) -> tuple[Any, int]:
        import asyncio

        tasks = [asyncio.create_task(start())]
        pending = set(tasks)
        try:
            while True:
                done, pending = await asyncio.wait(
                    pending,
                    timeout=delay if extra else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    if not task.cancelled() and task.exception() is None:
                        return task.result(), tasks.index(task)
                if not pending:
                    return tasks[0].result(), 0
                if not done:
                    extra -= 1
                    if allow():
                        tasks.append(asyncio.create_task(start()))
                        pending.add(tasks[-1])
                    else:
                        extra = 0
        finally:
            # Nothing of this call runs on after it has answered.
            for task in pending:
                task.cancel()
            if pending:
                await asyncio.wait(pending)
            for task in tasks:
                if task.done() and not task.cancelled():
                    task.exception()  # seen; or asyncio reports it as never retrieved

    async def result(self, value: Any) -> Any:
        return await value if hasattr(value, "__await__") else value

    async def exchange(self, store: Store, key: str, transition: Transition, arguments: Numbers) -> Numbers:
        return await store.aexchange(key, transition, arguments)
