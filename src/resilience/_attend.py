"""An attempt under asyncio that may go on when its time is up, for somebody who wants to know how it ends.

It runs in a task of its own from the start, for a task that waits for it cannot leave it. Apart from that nothing is
different from a cancelled attempt: whoever cancels the caller cancels the attempt, and waits until it has ended.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ._checks import NS

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine

    from ._scope import Limit
    from .clock import Clock
    from .policies._lingering import Lingerer, Watch

__all__ = ["attended"]


async def attended(attempt: Coroutine[Any, Any, Any], limit: Limit, lingerer: Lingerer, clock: Clock) -> Any:
    """What *attempt* comes to, if it does before *limit*; after it, *lingerer* may let it go on.

    Raises:
        TimedOut: the limit has passed.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    task = loop.create_task(attempt)
    bell = loop.create_future()

    def ring(_: object = None) -> None:
        if not bell.done():
            bell.set_result(None)

    timer = loop.call_later(limit.left(clock.monotonic_ns()), ring)
    task.add_done_callback(ring)
    try:
        await bell
    except asyncio.CancelledError as error:
        task.cancel(*error.args)
        return await task  # it may take its time over it, or refuse
    except BaseException:
        task.cancel()
        raise
    finally:
        timer.cancel()
    if task.done():
        return task.result()
    watch = lingerer.watch(task)
    if watch is not None:
        _linger(task, watch, clock)
        raise limit.error(clock.monotonic_ns())
    me = asyncio.current_task()
    before = 0 if me is None else me.cancelling()
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError as error:
        if not task.cancelled() or (me is not None and me.cancelling() > before):
            raise
        raise limit.error(clock.monotonic_ns()) from error


def _linger(task: asyncio.Task[Any], watch: Watch, clock: Clock) -> None:
    """Let *task* go on, up to the end of *watch*."""

    def over() -> None:
        watch.lost()
        task.cancel()

    def ended(_: object) -> None:
        timer.cancel()
        if task.cancelled() or task.exception() is not None:
            watch.broke_off()
        else:
            watch.answered()

    # The timer belongs to the loop, and holds the task: both go when the loop is closed, which is no accident.
    timer = task.get_loop().call_later((watch.until - clock.monotonic_ns()) / NS, over)
    task.add_done_callback(ended)
    with suppress(AttributeError):  # tasks of another make may not have it, and then say nothing either
        task._log_destroy_pending = False  # type: ignore[attr-defined]
