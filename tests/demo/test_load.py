"""Calls start when they are meant to, or are known not to have."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.demo.clients import OPERATIONS
from resilience.demo.load import Call, Workers, plan

if TYPE_CHECKING:
    from collections.abc import Iterator


@given(rate=st.floats(1, 200), seconds=st.floats(0.1, 30), seed=st.integers(0, 99))
def test_a_plan_is_fixed_by_its_seed(rate: float, seconds: float, seed: int) -> None:
    """A plan holds the wanted number of calls, in order, the same for the same seed."""
    made = plan(OPERATIONS, 10, rate, seconds, random.Random(seed))
    assert round(rate * seconds) == len(made)
    assert sorted(call.at for call in made) == [call.at for call in made]
    assert all(0 <= call.at <= seconds for call in made)
    assert made == plan(OPERATIONS, 10, rate, seconds, random.Random(seed))


@pytest.fixture
def busy() -> Iterator[tuple[Workers, threading.Event]]:
    """One worker thread whose first call ends when told to."""
    free = threading.Event()
    workers = Workers(1, lambda call: free.wait(5.0) if call.key == 0 else None, time.monotonic())
    yield workers, free
    free.set()
    workers.close(5.0)


def test_a_call_that_finds_no_thread_never_begins(busy: tuple[Workers, threading.Event]) -> None:
    """Calls behind a stuck one are dropped on closing, and the stuck one is reported."""
    workers, free = busy
    first, second = Call(0.0, OPERATIONS[0], 0), Call(0.0, OPERATIONS[0], 1)
    workers.hand_in(first)
    workers.hand_in(second)
    while first.began is None:
        time.sleep(0.001)
    assert workers.close(0.05) == 1
    free.set()
    assert workers.close(5.0) == 0
    assert first.ended is not None
    assert second.began is None


def test_an_error_is_an_outcome() -> None:
    """A call that raises is recorded with its error, and the thread goes on to the next."""

    def perform(call: Call) -> None:
        if call.key:
            raise KeyError(call.key)

    workers = Workers(1, perform, time.monotonic())
    calls = [Call(0.0, OPERATIONS[0], key) for key in (1, 0)]
    for wanted in calls:
        workers.hand_in(wanted)
    while calls[1].ended is None:
        time.sleep(0.001)
    assert workers.close(5.0) == 0
    assert [made.error for made in calls] == ["KeyError", None]
