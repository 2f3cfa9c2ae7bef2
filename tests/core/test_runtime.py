"""What both worlds promise of exceptions that Python itself changes on their way through a coroutine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import resilience as rs
from resilience._fast import build_plain
from resilience._runtime import Blocking, drive
from resilience.testing import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

WAYS: dict[str, Callable[[rs.Policy, Callable[[], Any]], Callable[[], Any]]] = {
    "decorated": lambda policy, fn: policy(fn),
    "story": lambda policy, fn: build_plain(policy, fn, is_async=False),
    "call": lambda policy, fn: lambda: policy.call(fn),
}


class Ending:
    """Raises StopIteration so many times, then answers."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.times:
            raise StopIteration("mine")
        return "ok"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("parts", ["retry", "bulkhead", "hedge", "thread"])
def test_a_runtime_error_of_the_callers_stays_one(way: str, parts: str) -> None:
    """Also one that Python made of a StopIteration inside a generator of theirs: the same object comes out."""
    policy = {
        "retry": rs.Policy(retry=rs.Retry(on=ConnectionError)),
        "bulkhead": rs.Policy(bulkhead=rs.Bulkhead(1)),
        "hedge": rs.Policy(hedge=rs.Hedge(9.0)),
        "thread": rs.Policy(timeout=rs.Timeout(9.0, mode="thread")),
    }[parts]
    raised: list[RuntimeError] = []

    def items() -> Iterator[str]:
        yield next(iter([]))

    def consume() -> list[str]:
        try:
            return list(items())
        except RuntimeError as error:
            raised.append(error)
            raise

    with pytest.raises(RuntimeError, match="generator raised StopIteration") as caught:
        WAYS[way](policy, consume)()
    assert caught.value is raised[-1]


@pytest.mark.parametrize("way", WAYS)
def test_a_stop_iteration_is_retried_like_any_other_error(way: str) -> None:
    """By its own class, at the first attempt and at later ones."""
    callee = Ending(2)
    retry = rs.Policy(retry=rs.Retry(on=StopIteration, attempts=3, backoff=0.0))
    assert WAYS[way](retry, callee)() == "ok"
    assert callee.calls == 3
    spent = Ending(9)
    with pytest.raises(StopIteration, match="mine") as caught:
        WAYS[way](retry, spent)()
    assert spent.calls == 3
    assert "attempt 1: StopIteration: mine" in caught.value.__notes__[0]
    other = Ending(9)
    with pytest.raises(StopIteration):
        WAYS[way](rs.Policy(retry=rs.Retry(on=RuntimeError, attempts=3, backoff=0.0)), other)()
    assert other.calls == 1


@pytest.mark.parametrize("way", WAYS)
def test_a_stop_iteration_is_weighed_like_any_other_error(way: str) -> None:
    """By breaker and fallback, which are told of it by its own class."""
    breaker = rs.CircuitBreaker(consecutive=1, on=StopIteration)
    with pytest.raises(StopIteration):
        WAYS[way](rs.Policy(breaker=breaker), Ending(1))()
    assert breaker.state == "open"
    saved = rs.Policy(fallback=rs.Fallback(value="saved", on=StopIteration))
    assert WAYS[way](saved, Ending(1))() == "saved"


def test_a_fallback_that_ends_in_stop_iteration_says_so() -> None:
    """The error of the last function, as it was."""
    with pytest.raises(StopIteration, match="mine"):
        rs.Fallback(Ending(1)).call(lambda: 1 / 0)


def test_a_blocking_call_that_would_suspend_is_an_error() -> None:
    """The mistake is named, nothing hangs, and the coroutine is closed."""
    closed: list[str] = []

    class Suspends:
        def __await__(self) -> Generator[None, None, None]:
            yield

    async def story() -> None:
        try:
            await Suspends()
        finally:
            closed.append("closed")

    with pytest.raises(RuntimeError, match="acall"):
        drive(story())
    assert closed == ["closed"]


def test_no_time_is_slept_for_no_time() -> None:
    """A wait of zero does not reach the clock."""
    clock = VirtualClock()
    drive(Blocking(clock).sleep(0.0))
    drive(Blocking(clock).sleep(2.0))
    assert clock.sleeps == [2.0]
