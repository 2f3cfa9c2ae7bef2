"""Open-loop load: calls that start when they are meant to, however the calls before them fare.

Knows start times, worker threads and outcomes. Refuses to know AWS, faults and policies.

The start times are fixed before the run. A call that finds no free worker waits, and its latency
counts from when it was meant to start; otherwise a stalled system would be asked, and blamed, less
the slower it is (co-ordinated omission).
"""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from .clients import Operation

__all__ = ["Call", "Workers", "plan"]


@dataclass(slots=True)
class Call:
    """One wanted call and what came of it; times in seconds from the start of the run.

    Attributes:
        at: when it is meant to start.
        operation: what is called.
        key: the number of the item, object or message.
        began: when a worker took it up; ``None`` when none ever did.
        ended: when it had an answer or an error; ``None`` while it has neither.
        error: the class of the error; ``None`` for an answer.
    """

    at: float
    operation: Operation
    key: int
    began: float | None = None
    ended: float | None = None
    error: str | None = None


def plan(operations: Sequence[Operation], keys: int, rate: float, seconds: float, dice: random.Random) -> list[Call]:
    """``round(rate * seconds)`` calls in order of their start times, which are random."""
    starts = sorted(dice.uniform(0.0, seconds) for _ in range(round(rate * seconds)))
    weights = [operation.weight for operation in operations]
    kinds = dice.choices(operations, weights, k=len(starts))
    return [Call(at, operation, dice.randrange(keys)) for at, operation in zip(starts, kinds, strict=True)]


class Workers:
    """A fixed number of threads that take calls from a queue, like those of a web server.

    Args:
        size: how many threads.
        perform: makes the call, and raises when it fails.
        start: the moment of ``time.monotonic()`` from which times are counted.

    One thread hands calls in; a `Call` belongs to its worker until it has ended.
    """

    def __init__(self, size: int, perform: Callable[[Call], object], start: float) -> None:
        self._perform = perform
        self._start = start
        self._queue: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"demo-{number}", daemon=True) for number in range(size)
        ]
        for thread in self._threads:
            thread.start()

    def hand_in(self, call: Call) -> None:
        """Queue a call; it begins as soon as a worker is free."""
        self._queue.put(call)

    def close(self, timeout: float) -> int:
        """Begin no further call, and wait up to *timeout* seconds for those that have begun.

        Returns how many threads are still stuck in theirs.
        """
        self._closed = True
        for _ in self._threads:
            self._queue.put(None)
        patience = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, patience - time.monotonic()))
        return sum(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while (call := self._queue.get()) is not None:
            if self._closed:
                continue
            call.began = time.monotonic() - self._start
            try:
                self._perform(call)
            except Exception as error:  # an outcome like any other
                call.error = type(error).__name__
            call.ended = time.monotonic() - self._start
