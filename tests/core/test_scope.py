"""Where a limit is seen: in tasks and workers begun below it, nowhere else, and nowhere after it has ended."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import TYPE_CHECKING

import pytest

import resilience as rs
from resilience.testing import VirtualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def test_tasks_and_workers_inherit_a_limit_and_other_threads_do_not() -> None:
    """What this library or asyncio starts sees the time left; a thread of the caller's own sees nothing."""
    clock = VirtualClock()
    seen: dict[str, float | None] = {}

    async def tasks() -> None:
        seen["task"] = await asyncio.create_task(look())

    async def look() -> float | None:
        return rs.remaining()

    with rs.Deadline(5.0, clock=clock):
        clock.run(tasks())
        seen["worker"] = rs.Timeout(9.0, mode="thread", clock=clock).call(rs.remaining)
        thread = threading.Thread(target=lambda: seen.update(thread=rs.remaining()))
        thread.start()
        thread.join()
    assert seen == {"task": 5.0, "worker": 5.0, "thread": None}


def test_what_a_task_sets_its_parent_does_not_see() -> None:
    """A limit in one task is none of its siblings'."""
    clock = VirtualClock()

    async def limited() -> float | None:
        async with rs.Deadline(1.0, clock=clock):
            await asyncio.sleep(0.5)
            return rs.remaining()

    async def free() -> float | None:
        await asyncio.sleep(0.25)
        return rs.remaining()

    async def main() -> tuple[float | None, float | None]:
        first, second = await asyncio.gather(limited(), free())
        return first, second

    inside, outside = clock.run(main())
    assert inside == pytest.approx(0.5)
    assert outside is None


def test_an_abandoned_asynchronous_generator_takes_its_limit_with_it() -> None:
    """Asyncio closes it in a task of its own; the task that left the loop over it is free again, and so is the slot."""
    clock = VirtualClock()
    bulkhead = rs.Bulkhead(1)
    policy = rs.Policy(deadline=1.0, bulkhead=bulkhead, clock=clock)

    async def rows() -> AsyncIterator[int]:
        async with policy:
            for row in range(3):
                yield row

    async def main() -> tuple[float | None, str]:
        async for _ in rows():
            break
        gc.collect()
        await asyncio.sleep(0.1)
        await asyncio.sleep(5.0)
        return rs.remaining(), await policy.acall(answer)

    async def answer() -> str:
        return "answered"

    assert clock.run(main()) == (None, "answered")
    assert bulkhead.counters["in_use"] == 0


def test_a_passed_limit_shows_no_time_left_and_names_its_owner() -> None:
    """`remaining` never goes below zero, and the checkpoint says whose limit it was, how long, and since when."""
    clock = VirtualClock()
    with rs.Deadline(1.0, name="page", clock=clock):
        clock.advance(2.5)
        assert rs.remaining() == 0.0
        with pytest.raises(rs.DeadlineExceeded, match="page: the deadline of 1 s has passed") as caught:
            rs.check_deadline()
    assert (caught.value.policy, caught.value.timeout, caught.value.elapsed) == ("page", 1.0, 2.5)


def test_the_nearest_of_several_limits_is_the_one_that_speaks() -> None:
    """An inner timeout before the outer deadline, the outer deadline before an inner timeout."""
    clock = VirtualClock()
    inner = rs.Policy("inner", timeout=rs.Timeout(2.0, mode="cooperative"), clock=clock)

    def work() -> None:
        clock.advance(4.0)
        rs.check_deadline()

    with rs.Deadline(3.0, name="outer", clock=clock), pytest.raises(rs.TimedOut) as caught:
        inner.call(work)
    assert (type(caught.value), caught.value.policy) == (rs.TimedOut, "inner")
    with rs.Deadline(1.0, name="outer", clock=clock), pytest.raises(rs.TimedOut) as caught:
        inner.call(work)
    assert (type(caught.value), caught.value.policy) == (rs.DeadlineExceeded, "outer")
