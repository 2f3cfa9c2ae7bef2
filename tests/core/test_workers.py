"""Worker threads: they end when idle, miss no job at that moment, and keep nothing alive."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

import resilience as rs
from resilience import _workers

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> _workers._Pool:
    """A pool of its own, whose workers end after five idle milliseconds."""
    monkeypatch.setattr(_workers, "IDLE_SECONDS", 0.005)
    monkeypatch.setattr(_workers, "_pool", _workers._Pool())
    return _workers._pool


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("resilience-worker")]


def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Give other threads time until *holds* does."""
    nap = threading.Event()
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends
        nap.wait(0.001)


def test_idle_workers_end(pool: _workers._Pool) -> None:
    """A burst of calls leaves no threads behind, and the next call starts a new one."""
    before = set(workers())
    release = threading.Event()
    jobs = [_workers.start(release.wait) for _ in range(8)]
    assert len(set(workers()) - before) == 8
    release.set()
    for job in jobs:
        assert job.done.wait(10.0)
    until(lambda: not set(workers()) - before)
    assert not pool.idle
    again = _workers.start(lambda: "served")
    assert again.done.wait(10.0)
    assert again.outcome() == "served"
    assert pool.started == 9


def test_no_job_is_lost_to_a_worker_that_is_about_to_end(pool: _workers._Pool) -> None:
    """Jobs that come just as workers tire of waiting are all done."""
    for turn in range(60):
        job = _workers.start(lambda turn=turn: turn)
        assert job.done.wait(10.0)
        assert job.outcome() == turn
        threading.Event().wait(0.0045 + turn % 3 * 0.0005)
    assert pool.started <= 60


def test_a_worker_that_tires_with_a_job_on_its_way_waits_for_it(
    pool: _workers._Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was taken from the idle ones, so a job will come, however late."""
    monkeypatch.setattr(_workers, "IDLE_SECONDS", 0.3)  # long enough to be seen idle on a busy machine
    first = _workers.start(lambda: None)
    assert first.done.wait(10.0)
    until(lambda: bool(pool.idle))
    with pool.lock:
        inbox = pool.idle.pop()  # as submit() does before it hands the job over
    threading.Event().wait(0.35)
    late = _workers.Job(lambda: "late")
    inbox.put(late)
    assert late.done.wait(10.0)
    assert late.outcome() == "late"


def test_context_given_to_a_worker_is_a_copy() -> None:
    """What the function sets stays in the worker's copy; what the caller set is seen."""
    from contextvars import ContextVar

    variable: ContextVar[str] = ContextVar("variable", default="none")
    variable.set("caller's")

    def work() -> str:
        seen = variable.get()
        variable.set("worker's")
        return seen

    timeout = rs.Timeout(9.0, mode="thread")
    assert timeout.call(work) == timeout.call(work) == "caller's"
    assert variable.get() == "caller's"
