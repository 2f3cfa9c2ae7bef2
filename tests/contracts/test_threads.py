"""Threads that meet in moments the core's own test does not reach: the first use of a part, eviction, resizing."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import pytest

import resilience as rs
from resilience import Policy
from together import outcomes

if TYPE_CHECKING:
    from collections.abc import Callable

THREADS = 16


pytestmark = pytest.mark.usefixtures("switch_often")


def together(work: Callable[[int], object], threads: int = THREADS) -> list[BaseException]:
    """The errors that some of many threads ended in."""
    return outcomes(work, threads)[1]


def test_threads_that_first_use_a_part_use_one_and_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a part that many threads enter for the first time at once give back what they took."""
    meeting = threading.Barrier(2)
    make = Policy.of_part

    def slowly(part: rs.Bulkhead) -> Policy:
        with contextlib.suppress(threading.BrokenBarrierError):
            meeting.wait(0.2)  # both threads are here, unless one has to wait for the other
        return make(part)

    monkeypatch.setattr(Policy, "of_part", slowly)
    bulkhead = rs.Bulkhead(2)
    inside = threading.Barrier(2)

    def block(_: int) -> None:
        with bulkhead:
            inside.wait(5.0)  # neither leaves before both have entered

    assert together(block, threads=2) == []
    assert bulkhead.counters["in_use"] == 0


def test_keys_are_made_once_and_evicted_without_loss() -> None:
    """Threads that meet at a key share its part; more keys than are kept do no harm, and no slot is kept."""
    family = rs.PerKey(rs.Bulkhead(THREADS), key=lambda key: key, max_keys=4)
    policy = rs.Policy(bulkhead=family)
    errors = together(lambda index: [policy.call(lambda key: key, key) for key in [index % 7] * 100 + list(range(20))])
    assert errors == []
    assert len(family) <= 4
    assert family.counters["in_use"] == family.counters["queued"] == 0
    seen: list[rs.Bulkhead] = []
    assert together(lambda _: seen.append(family["new"])) == []
    assert len(set(map(id, seen))) == 1


def test_a_bulkhead_resized_under_load_keeps_its_bound_and_loses_nobody() -> None:
    """Never more inside than the largest limit; when all have left, none is in use and none is queued."""
    bulkhead = rs.Bulkhead(1, queue=THREADS, max_wait=30.0)
    lock = threading.Lock()
    inside = most = 0

    def work() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        with lock:
            inside -= 1

    def body(index: int) -> None:
        for turn in range(40):
            if index == 0:
                bulkhead.resize(1 + turn % 4)
            else:
                bulkhead.call(work)

    assert together(body) == []
    assert most <= 4
    assert bulkhead.counters["in_use"] == bulkhead.counters["queued"] == 0
