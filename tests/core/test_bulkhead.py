"""The queue of a bulkhead: in order, bounded, and not a slot lost in the moment in which one changes hands."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resilience as rs
from resilience.testing import VirtualClock


def test_a_slot_handed_to_a_task_that_is_cancelled_goes_on_to_the_next() -> None:
    """Woken and cancelled in the same turn of the loop: the next in line has the slot, nobody waits in vain."""
    clock = VirtualClock()
    bulkhead = rs.Bulkhead(1, queue=5, max_wait=100.0, clock=clock)
    served: list[str] = []

    async def user(name: str) -> None:
        async with bulkhead:
            served.append(name)

    async def main() -> None:
        async with bulkhead:
            second, third = (asyncio.create_task(user(name)) for name in ("second", "third"))
            await asyncio.sleep(0.5)
            assert bulkhead.counters["queued"] == 2
        second.cancel()  # it was woken when the block ended, and has not run since
        with pytest.raises(asyncio.CancelledError):
            await second
        await third

    clock.run(main())
    assert served == ["third"]
    assert clock.now == pytest.approx(0.5, abs=1e-6)
    assert bulkhead.counters["in_use"] == bulkhead.counters["queued"] == 0


def test_a_bulkhead_made_smaller_empties_down_to_its_new_size_first() -> None:
    """Nobody inside is put out; those who wait enter only when fewer than the new limit are left inside."""
    clock = VirtualClock()
    bulkhead = rs.Bulkhead(3, queue=5, max_wait=100.0, clock=clock)
    entered: list[tuple[int, float]] = []

    async def user(number: int, seconds: float) -> None:
        async with bulkhead:
            entered.append((number, round(clock.now, 3)))
            await asyncio.sleep(seconds)

    async def main() -> None:
        tasks = [asyncio.create_task(user(number, float(number + 1))) for number in range(5)]
        await asyncio.sleep(0.5)
        bulkhead.resize(1)
        await asyncio.gather(*tasks)

    clock.run(main())
    assert entered == [(0, 0.0), (1, 0.0), (2, 0.0), (3, 3.0), (4, 7.0)]
    assert bulkhead.counters["in_use"] == bulkhead.counters["queued"] == 0


VISITS = st.lists(
    st.tuples(
        st.integers(0, 20).map(lambda n: n / 2),  # arrives
        st.integers(0, 8).map(lambda n: n / 2),  # stays
        st.one_of(st.none(), st.integers(1, 12).map(lambda n: n / 2 + 0.25)),  # is cancelled, after so long
    ),
    min_size=1,
    max_size=15,
)


@given(VISITS, st.integers(1, 3), st.integers(0, 6), st.sampled_from([0.75, 3.25, 1e6]))
def test_visitors_enter_in_order_and_leave_nothing_behind(
    visits: list[tuple[float, float, float | None]], limit: int, queue: int, max_wait: float
) -> None:
    """Whoever comes, stays and is cancelled when: never too many inside or queued, first come first served."""
    clock = VirtualClock()
    bulkhead = rs.Bulkhead(limit, queue=queue, max_wait=max_wait, clock=clock)
    came: list[int] = []
    entered: dict[int, float] = {}
    refused: list[tuple[float, float]] = []
    inside = most = 0

    async def visit(index: int, arrives: float, stays: float) -> None:
        nonlocal inside, most
        await asyncio.sleep(arrives)
        came.append(index)
        try:
            async with bulkhead:
                entered[index] = round(clock.now, 3)
                inside += 1
                most = max(most, inside)
                assert bulkhead.counters["queued"] <= queue
                try:
                    await asyncio.sleep(stays)
                finally:
                    inside -= 1
        except rs.BulkheadFull:
            refused.append((clock.now, arrives))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        tasks = []
        for index, (arrives, stays, cancelled) in enumerate(sorted(visits, key=lambda visit: visit[0])):
            tasks.append(asyncio.create_task(visit(index, arrives, stays)))
            if cancelled is not None:
                loop.call_later(arrives + cancelled, tasks[-1].cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not any(isinstance(task.exception(), AssertionError) for task in tasks if not task.cancelled())

    clock.run(main())
    assert most <= limit
    times = [entered[index] for index in came if index in entered]  # of one moment all may be first
    assert times == sorted(times)
    assert all(
        now == pytest.approx(came, abs=1e-4) or now == pytest.approx(came + max_wait, abs=1e-4) for now, came in refused
    )
    assert bulkhead.counters["in_use"] == bulkhead.counters["queued"] == 0
    assert bulkhead.counters["refused"] == len(refused)
    assert not bulkhead._gate.granted
