"""SQS: consumers whose failed messages come back after a backoff, and partial-batch results for Lambda.

The public names. The course of events is in ``_consuming.py``, the decisions are in ``_messages.py``; what is here
knows threads and tasks.
"""

from __future__ import annotations

import contextvars
import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from .._runtime import Asyncio, Blocking, drive
from ._consuming import Consuming
from ._lambda_batch import partial_batch
from ._messages import Batch, Desk, Failed, Held, Reject

if TYPE_CHECKING:
    import asyncio
    import threading
    from collections.abc import Callable

    from .._runtime import Runtime
    from ..clock import Clock

__all__ = ["AsyncConsumer", "Batch", "Consumer", "Failed", "Reject", "partial_batch"]


class Consumer(Consuming):
    """Receive messages from an SQS queue and hand each to a function; what fails comes back after a backoff.

    A message whose handler returns is deleted. One whose handler raises is hidden for the delay that belongs to its
    receive count (the second receive gets the second delay of *backoff*, rounded up to whole seconds, within SQS's
    limit of 12 hours), plus what the error itself asks for (``retry_after``, as a `CircuitOpen` or an HTTP answer
    has). In a FIFO queue the messages behind it in its group are given back at once, unhandled and in order. Handlers'
    errors are logged and never end the loop; `Reject` says that trying again is in vain.

    A message is begun only with at least half of its visibility timeout left (it is renewed before otherwise), so let
    the queue's visibility timeout be at least twice the longest time a handler takes. As everywhere with SQS, a
    message may come twice.

    Args:
        client: an SQS client. Wrap it, and its calls run under your policy; its read timeout must exceed *wait*.
        queue_url: the queue. A name that ends in ".fifo" is a FIFO queue.
        handler: called with each message, a dict as ``receive_message`` returns it, with all attributes.
        backoff: the delays by receive count: a `Backoff`, seconds, a list of them (the last one stays), or a function
            of the count.
        max_receives: from this receive on a failure is final, as if `Reject` had been raised; by default only the
            queue's own redrive policy decides.
        batch: messages asked for at once, 1 to 10.
        wait: seconds that SQS may wait for messages, 0 to 20, whole ones. Also the longest time until a `stop` is
            noticed on an empty queue.
        visibility: seconds that received messages are hidden, 1 to 43200, whole ones; by default the queue's own.
        workers: how many messages (of a FIFO queue: groups) of a batch are handled at the same time.
        on_error: called with a `Failed` after each failure of a handler; its errors are logged, never raised.
        rng: the randomness of the jitter, a ``random.Random``.
        clock: where time comes from; the machine's clock by default.

    Raises:
        ConfigError: an argument is out of range.
        TypeError: an argument is of the wrong type, or *handler* is a coroutine function.

    Needs leave for ReceiveMessage, DeleteMessage and ChangeMessageVisibility; GetQueueAttributes, if granted, tells
    the visibility timeout and whether there is a redrive policy. Thread-safe: several threads may run one consumer.
    """

    def _check(self, handler: Any) -> None:
        if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None)):  # noqa: B004
            raise TypeError(f"handler must be a plain function here; for {handler!r} use AsyncConsumer")

    def _world(self, clock: Clock) -> Runtime:
        return Blocking(clock)

    def run_once(self) -> Batch:
        """Receive one batch, handle it, settle it; returns what became of it, all zeros if the queue was empty.

        Raises:
            Exception: what the client raised on receiving. Trouble in settling is counted, not raised.
        """
        return drive(self._once(None))

    def run(self, stop: threading.Event | Callable[[], object] | None = None) -> None:
        """Batch after batch until *stop* is set, or returns true.

        Once told so, it begins no further message, gives back what it holds, and returns: after the handlers that are
        running, or the poll that is under way. An error of SQS is logged, counted, and followed by a pause that
        grows from 1 to 30 s. ``KeyboardInterrupt`` gives the messages back too.

        Raises:
            TypeError: *stop* is neither.
        """
        drive(self._run(stop))

    async def _spread(self, desk: Desk, stop: Any) -> None:
        width = min(self.workers, desk.width)
        if width == 1:
            await self._work(desk, stop)
            return
        with ThreadPoolExecutor(width, thread_name_prefix="resilience-sqs") as pool:
            try:
                jobs = [
                    pool.submit(contextvars.copy_context().run, lambda: drive(self._work(desk, stop)))
                    for _ in range(width)
                ]
                for job in jobs:
                    job.result()
            except BaseException:
                desk.stopped = True  # or the way out of this block would wait for all that was not begun
                raise


class AsyncConsumer(Consuming):
    """`Consumer` for asyncio: an aiobotocore client, and a handler that may be a coroutine function.

    Arguments and behavior are those of `Consumer`, *workers* being tasks. Cancelling `run` or `run_once` cancels the
    handlers and gives back what is held; messages that an interrupted poll had already been given come back when
    their visibility timeout ends.
    """

    def _world(self, clock: Clock) -> Runtime:
        return Asyncio(clock)

    async def run_once(self) -> Batch:
        """See `Consumer.run_once`."""
        return await self._once(None)

    async def run(self, stop: asyncio.Event | Callable[[], object] | None = None) -> None:
        """See `Consumer.run`."""
        await self._run(stop)

    async def _spread(self, desk: Desk, stop: Any) -> None:
        width = min(self.workers, desk.width)
        if width == 1:
            await self._work(desk, stop)
            return
        import asyncio

        async with asyncio.TaskGroup() as tasks:
            for _ in range(width):
                tasks.create_task(self._work(desk, stop))

    async def _handle(self, desk: Desk, held: Held) -> bool:
        import asyncio

        try:
            return await super()._handle(desk, held)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            failure = RuntimeError("the handler was cancelled from within")
            failure.__cause__ = error
            return await self._failed(desk, held, failure)
