"""Attempts made by a ``with`` block instead of a function.

Python runs a block once, so a block is one attempt: admission on the way in, the verdict on the way out. For more than
one attempt a loop hands out blocks: ``for attempt in policy: with attempt: ...``. The decisions are those of the story;
only who calls is different.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from ._listen import WATCHERS, watched
from ._runtime import Asyncio, Blocking, drive
from ._scope import NOWHERE, SCOPE, BlockScope, current
from ._story import enter
from .errors import ConfigError

if TYPE_CHECKING:
    import asyncio
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Self

    from ._plan import Plan
    from ._runtime import Runtime
    from ._scope import Limit
    from ._story import Ticket
    from .policies.retry import Series

__all__ = ["Attempt", "Attempts", "pop", "push"]


class Attempt:
    """One guarded block. Use it in one ``with`` (or ``async with``), once.

    Attributes:
        number: which attempt of the loop this is, from 1.
    """

    __slots__ = (
        "_began",
        "_cut",
        "_limit",
        "_loop",
        "_plan",
        "_result",
        "_scope",
        "_ticket",
        "_used",
        "_watched",
        "number",
    )  # fmt: skip

    def __init__(self, plan: Plan, loop: Attempts | None = None, number: int = 1) -> None:
        self._plan = plan
        self._loop = loop
        self.number = number
        self._ticket: Ticket | None = None
        self._limit: Limit | None = None
        self._scope: BlockScope | None = None
        self._cut: asyncio.Timeout | None = None
        self._result: Any = None
        self._used = False
        self._watched: AbstractContextManager[None] | None = None

    @property
    def timeout(self) -> float | None:
        """Seconds this block has left; hand them to what you call. ``None``: no limit."""
        limit = self._limit
        return None if limit is None else max(0.0, limit.left(limit.clock.monotonic_ns()))

    def set_result(self, result: object) -> None:
        """Tell the loop what the block came to, to be judged by ``on_result``."""
        self._result = result

    async def _enter(self, runtime: Runtime) -> None:
        if self._used:
            raise RuntimeError("this attempt was made already; each block needs its own")
        self._used = True
        plan, loop = self._plan, self._loop
        outer = current() or NOWHERE
        self._began = now = runtime.clock.monotonic_ns()
        limit = plan.limit(outer, now) if loop is None else loop.limit
        if loop is None:
            plan.stats.begin()
        try:
            if limit is not None and now >= limit.at:
                raise limit.error(now)
            self._ticket = await enter(plan, runtime, None, limit, self.number)
            try:
                self._limit = self._ticket.start(limit, 0 if loop is None else loop.cut)
                seen = self._ticket.seen(runtime, limit)
            except BaseException as error:
                self._ticket.fail(error)
                raise
        except BaseException as error:
            ended = runtime.clock.monotonic_ns()
            plan.gave_up(limit, ended)
            plan.ended(error, self.number, now if loop is None else loop.began, ended)
            if loop is not None:
                loop.over = True
            raise
        self._scope = BlockScope(current(), seen, self.number)
        SCOPE.set(self._scope)
        if WATCHERS:
            self._watched = watched(plan.who, self.number)
            self._watched.__enter__()

    def _leave(self, error: BaseException | None) -> bool:
        """Settle; True if the loop makes another attempt, and the error is to be swallowed."""
        ticket, scope = self._ticket, self._scope
        assert ticket is not None
        assert scope is not None
        if self._watched is not None:
            how = (None, None, None) if error is None else (type(error), error, error.__traceback__)
            self._watched.__exit__(*how)
        scope.close()
        try:
            if error is None:
                ticket.succeed(self._result)
            else:
                ticket.fail(error)
        except BaseException as interrupt:  # a listener ends the program
            self._settled(interrupt)
            raise
        return self._settled(error)

    def _settled(self, error: BaseException | None) -> bool:
        plan = self._plan
        if self._loop is not None:
            return self._loop.settled(error, self._result)
        now = plan.clock.monotonic_ns()
        if error is None:
            plan.went_well(self._began, now)
        else:
            plan.gave_up(self._limit, now)
            plan.ended(error, 1, self._began, now)
        return False

    def __enter__(self) -> Self:
        timeout = self._plan.timeout
        if timeout is not None and not timeout.shadow and timeout.model.mode in (None, "thread"):
            raise ConfigError(
                f"{timeout!r} cannot interrupt a with-block: use mode='argument' and hand attempt.timeout to what you "
                "call, or mode='cooperative'; or put the code into a function; or use `async with`"
            )
        waits = any(part is not None for part in (self._plan.limiter, self._plan.bulkhead, timeout))
        if waits and self._loop is not None and self._loop.is_async:
            raise ConfigError(f"{self._plan.who} may wait or cancel here: in `async for` write `async with attempt:`")
        drive(self._enter(Blocking(self._plan.clock)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        again = self._leave(error)
        if self._ticket is not None and self._ticket.shared is not None:
            drive(self._ticket.shared.report(Blocking(self._plan.clock), error))
        return again

    async def __aenter__(self) -> Self:
        await self._enter(Asyncio(self._plan.clock))
        if self._limit is not None:
            import asyncio

            self._cut = asyncio.timeout(self.timeout)
            try:
                await self._cut.__aenter__()
            except BaseException as error:  # not in a task
                self._leave(error)
                raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        cut, limit = self._cut, self._limit
        if cut is None or limit is None:
            return await self._aleave(error)
        try:
            await cut.__aexit__(kind, error, traceback)
        except TimeoutError as expired:  # the cancellation was ours
            late = limit.error(limit.clock.monotonic_ns())
            if await self._aleave(late):
                return True
            raise late from expired
        return await self._aleave(error)

    async def _aleave(self, error: BaseException | None) -> bool:
        again = self._leave(error)
        if self._ticket is not None and self._ticket.shared is not None:
            await self._ticket.shared.report(Asyncio(self._plan.clock), error)
        return again


class Attempts:
    """The loop: hands out attempts until one goes well or the retrying ends. For one call; not to be shared."""

    __slots__ = ("_attempt", "_delay", "_plan", "_series", "began", "cut", "is_async", "limit", "over")

    def __init__(self, plan: Plan) -> None:
        if plan.hedge is not None or plan.fallback is not None:
            raise ConfigError(f"{plan.who}: a loop of blocks cannot be hedged or fall back; use call()")
        self._plan = plan
        outer = current() or NOWHERE
        self.began = plan.clock.monotonic_ns()
        self.limit = plan.limit(outer, self.began)
        self._series: Series | None = plan.series(outer, self.began, self.limit)
        self._attempt: Attempt | None = None
        self._delay = 0.0
        self.over = False
        self.cut = 0
        self.is_async = False
        plan.stats.begin()

    def _next(self) -> Attempt:
        if self._attempt is not None and self._attempt._scope is None:
            raise RuntimeError("the attempt was not used: write `for attempt in ...: with attempt: ...`")
        number = 1 if self._attempt is None else self._attempt.number + 1
        self._attempt = Attempt(self._plan, self, number)
        return self._attempt

    def settled(self, error: BaseException | None, result: object) -> bool:
        """An attempt has ended; True if there will be another one."""
        now = self._plan.clock.monotonic_ns()
        self.over = True  # also if the lines below raise
        try:
            delay = self._judge(error, result, now)
        except BaseException as wrapped:
            self._plan.gave_up(self.limit, now)
            self._over(wrapped, now)
            raise
        if delay is None:
            if error is not None:
                self._plan.gave_up(self.limit, now)
                self._over(error, now)
            return False
        self._delay = delay
        self.over = False
        return True

    def _judge(self, error: BaseException | None, result: object, now: int) -> float | None:
        delay = None
        if error is None:
            delay = None if self._series is None else self._series.after_result(result, now)
            if delay is None and self._series is not None and self._series.poor:
                self._plan.went_poorly(self.began, now)
            elif delay is None:
                self._plan.went_well(self.began, now)
        elif isinstance(error, Exception):
            self.cut += isinstance(error, TimeoutError)
            delay = None if self._series is None else self._series.after_error(error, now)
        return delay

    def _over(self, error: BaseException, now: int) -> None:
        self._plan.ended(error, 1 if self._attempt is None else self._attempt.number, self.began, now)

    def __iter__(self) -> Attempts:
        return self

    def __next__(self) -> Attempt:
        if self.over:
            raise StopIteration
        if self._attempt is not None and self._delay:
            try:
                self._plan.clock.sleep(self._delay)
            except BaseException as error:
                self.over = True
                self._over(error, self._plan.clock.monotonic_ns())
                raise
        return self._next()

    def __aiter__(self) -> Attempts:
        self.is_async = True
        return self

    async def __anext__(self) -> Attempt:
        if self.over:
            raise StopAsyncIteration
        if self._attempt is not None and self._delay:
            try:
                await self._plan.clock.asleep(self._delay)
            except BaseException as error:
                self.over = True
                self._over(error, self._plan.clock.monotonic_ns())
                raise
        return self._next()


# A policy used as a block directly (`with policy:`) has nowhere of its own to keep the attempt, for many threads and
# tasks may be inside at once. It is kept in the context, newest first.
_Stack = tuple[object, Attempt, Any]
_OPEN: ContextVar[_Stack | None] = ContextVar("resilience_blocks", default=None)


def push(owner: object, attempt: Attempt) -> None:
    """Remember the attempt of a block that *owner* guards."""
    _OPEN.set((owner, attempt, _OPEN.get()))


def pop(owner: object) -> Attempt:
    """The attempt of the innermost open block that *owner* guards."""
    passed: list[_Stack] = []
    stack = _OPEN.get()
    while stack is not None and stack[0] is not owner:
        passed.append(stack)
        stack = stack[2]
    if stack is None:
        raise RuntimeError("this block was left in another context than it was entered in")
    attempt = stack[1]
    rest = stack[2]
    for other in reversed(passed):  # blocks that are not nested (generators): keep the others
        rest = (other[0], other[1], rest)
    _OPEN.set(rest)
    return attempt
