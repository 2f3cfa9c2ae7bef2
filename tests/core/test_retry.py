"""Retrying: what is raised, how long is waited, what stops it, and what the callee and the hooks get to know."""

from __future__ import annotations

import logging
import random
import traceback
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resilience as rs
from resilience.testing import VirtualClock


class Failing:
    """Fails so many times, then answers with the number of the attempt."""

    def __init__(self, times: int, error: BaseException | type[BaseException] = ConnectionError) -> None:
        self.times = times
        self.error = error
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return rs.current_attempt()


def test_the_last_error_is_raised_as_it_was() -> None:
    """The same object, with the caller's frame in its traceback and one note of what was tried."""
    clock = VirtualClock()
    errors = [ConnectionError("first"), ConnectionError("second"), ConnectionError("third")]
    left = list(errors)

    def deepest() -> None:
        raise left.pop(0)

    with pytest.raises(ConnectionError) as caught:
        rs.Retry(on=ConnectionError, backoff=[0.5, 2.0], clock=clock).call(deepest)
    assert caught.value is errors[2]
    assert "deepest" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    (note,) = caught.value.__notes__
    assert note.startswith("resilience: Retry: gave up after 3 attempts in 2.5 s: no attempts left")
    assert "attempt 1: ConnectionError: first, then waited 0.5 s" in note
    assert "attempt 2: ConnectionError: second, then waited 2 s" in note
    assert clock.sleeps == [0.5, 2.0]


def test_an_error_raised_again_and_again_collects_no_notes() -> None:
    """One shared exception object does not grow; other notes on it stay."""
    error = ConnectionError("shared")
    error.add_note("mine")
    guarded = rs.Retry(on=ConnectionError, backoff=0.0, budget=None)(Failing(10**6, error))
    for _ in range(5):
        with pytest.raises(ConnectionError):
            guarded()
    assert len(error.__notes__) == 2
    assert error.__notes__[0] == "mine"


def test_an_error_that_is_not_retried_comes_without_a_note() -> None:
    """Nothing was tried, nothing is said."""
    with pytest.raises(KeyError) as caught:
        rs.Retry(on=ConnectionError).call(Failing(1, KeyError))
    assert not hasattr(caught.value, "__notes__")


def test_wrapping_is_done_only_when_asked_for() -> None:
    """RetriesExhausted carries the number of attempts, and the last error as its cause."""
    with pytest.raises(rs.RetriesExhausted, match="after 2 attempts") as caught:
        rs.Retry(on=ConnectionError, attempts=2, backoff=0.0, wrap=True).call(Failing(5))
    assert caught.value.attempts == 2
    assert isinstance(caught.value.__cause__, ConnectionError)


def test_results_can_be_retried() -> None:
    """A poor result is asked for again; the last one is returned, or wrapped if asked for."""
    answers = iter(["busy", "busy", "done"])
    retry = rs.Retry(on=ConnectionError, backoff=0.0, on_result=lambda result: result == "busy")
    assert retry.call(lambda: next(answers)) == "done"
    assert retry.call(lambda: "busy") == "busy"
    with pytest.raises(rs.RetriesExhausted) as caught:
        retry.replace(wrap=True).call(lambda: "busy")
    assert caught.value.result == "busy"
    assert retry.counters["recovered"] == 1


@given(st.integers(1, 8), st.integers(0, 10))
def test_attempts_are_counted_and_told_to_the_callee(attempts: int, failures: int) -> None:
    """At most so many calls; the callee sees its number, the caller the result or the error."""
    callee = Failing(failures)
    retry = rs.Retry(on=ConnectionError, attempts=attempts, backoff=0.0)
    if failures < attempts:
        assert retry.call(callee) == failures + 1
    else:
        with pytest.raises(ConnectionError):
            retry.call(callee)
    assert callee.calls == min(attempts, failures + 1)
    assert rs.current_attempt() == 1


def test_elapsed_time_bounds_the_retrying() -> None:
    """No attempt begins after so many seconds from the start of the call."""
    clock = VirtualClock()
    callee = Failing(10**6)
    retry = rs.Retry(on=ConnectionError, attempts=None, elapsed=10.0, backoff=rs.Constant(3.0), clock=clock)
    with pytest.raises(ConnectionError) as caught:
        retry.call(callee)
    assert callee.calls == 4
    assert clock.now == pytest.approx(9.0)
    assert "10 s would have passed" in caught.value.__notes__[0]


@given(st.floats(0.1, 20), st.lists(st.floats(0, 10), min_size=1, max_size=8))
def test_it_never_sleeps_past_the_deadline(deadline: float, waits: list[float]) -> None:
    """Where the next wait would end after it, it fails at once, with the last error and the reason."""
    clock = VirtualClock()
    policy = rs.Policy(
        deadline=deadline, retry=rs.Retry(on=ConnectionError, attempts=9, backoff=waits, budget=None), clock=clock
    )
    with pytest.raises(ConnectionError):
        policy.call(Failing(100))
    assert clock.now < deadline
    assert sum(clock.sleeps) < deadline


def test_a_day_of_backoff_takes_no_time() -> None:
    """Virtual time: a thousand retries over more than a day."""
    clock = VirtualClock()
    retry = rs.Retry(on=ConnectionError, attempts=1001, backoff=rs.Constant(90.0), clock=clock)
    assert retry.call(Failing(1000)) == 1001
    assert clock.now == pytest.approx(90_000)


class Busy(Exception):
    """A server's answer that says when to come back."""

    def __init__(self, retry_after: object) -> None:
        super().__init__("busy")
        self.retry_after = retry_after


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [(7, 7.0), ("7", 7.0), ("nonsense", 0.0), (None, 0.0), (-5, 0.0)],
)
def test_retry_after_is_the_least_that_is_waited(asked: object, seconds: float) -> None:
    """Seconds as number or text; what makes no sense is ignored; the backoff comes on top."""
    clock = VirtualClock()
    rs.Retry(on=Busy, backoff=rs.Constant(1.0), clock=clock).call(Failing(1, Busy(asked)))
    assert clock.sleeps == [pytest.approx(seconds + 1.0)]


def test_retry_after_may_be_a_date() -> None:
    """An HTTP date is read against the clock of the wall."""
    clock = VirtualClock(epoch=1_700_000_000.0)
    date = formatdate(1_700_000_030, usegmt=True)
    rs.Retry(on=Busy, backoff=0.0, clock=clock).call(Failing(1, Busy(date)))
    assert clock.sleeps == [pytest.approx(30.0, abs=1.0)]


def test_who_asks_for_too_long_is_not_called_again() -> None:
    """More than max_retry_after ends the retrying, for calling earlier would be wrong."""
    callee = Failing(5, Busy(61))
    with pytest.raises(Busy) as caught:
        rs.Retry(on=Busy, clock=VirtualClock()).call(callee)
    assert callee.calls == 1
    assert "asks to wait 61 s" in caught.value.__notes__[0]


def test_retry_after_can_be_read_in_other_ways_or_not_at_all(caplog: pytest.LogCaptureFixture) -> None:
    """A function of one's own; None for no heed; one that raises is logged and ignored."""
    clock = VirtualClock()
    rs.Retry(
        on=Busy, backoff=0.0, retry_after=lambda error: 2.0 * float(str(vars(error)["retry_after"])), clock=clock
    ).call(Failing(1, Busy(3)))
    rs.Retry(on=Busy, backoff=1.0, retry_after=None, clock=clock).call(Failing(1, Busy(3)))
    with caplog.at_level(logging.ERROR, "resilience"):
        rs.Retry(on=Busy, backoff=2.0, retry_after=lambda _: 1 / 0, clock=clock).call(Failing(1, Busy(3)))
    assert clock.sleeps == [6.0, 1.0, 2.0]
    assert "ignored" in caplog.text


def test_a_budget_shared_by_two_policies_bounds_both() -> None:
    """One dependency, one budget: retries of one leave fewer to the other; successes earn them back."""
    budget = rs.RetryBudget(2, floor=None)
    one, two = (rs.Retry(on=ConnectionError, attempts=2, backoff=0.0, budget=budget) for _ in range(2))
    assert one.call(Failing(1)) == two.call(Failing(1)) == 2
    spent = Failing(1)
    with pytest.raises(ConnectionError) as caught:
        two.call(spent)
    assert spent.calls == 1
    assert "budget is spent" in caught.value.__notes__[0]
    for _ in range(10):
        one(lambda: None)()
    assert two.call(Failing(1)) == 2
    assert budget.counters["refused"] == 1


def test_one_call_can_use_all_the_attempts_it_was_promised() -> None:
    """The budget that a retry makes for itself is never smaller than its attempts."""
    assert rs.Retry(on=ConnectionError, attempts=50, backoff=0.0).call(Failing(49)) == 50


def test_an_inner_retry_stands_down_while_an_outer_one_is_retrying() -> None:
    """Layers add attempts instead of multiplying them; unless told otherwise."""

    def attempts(nested: bool) -> int:
        callee = Failing(10**6)
        inner = rs.Retry(on=ConnectionError, attempts=3, backoff=0.0, budget=None, nested=nested)
        outer = rs.Retry(on=ConnectionError, attempts=3, backoff=0.0, budget=None)
        with pytest.raises(ConnectionError):
            outer.call(lambda: inner.call(callee))
        return callee.calls

    assert attempts(nested=False) == 3 + 1 + 1
    assert attempts(nested=True) == 9


def test_hooks_are_told_and_can_break_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Before each wait the hook learns attempt, error, delay; what it raises is logged."""
    told: list[rs.Retrying] = []

    def hook(event: rs.Retrying) -> None:
        told.append(event)
        raise RuntimeError("in the hook")

    clock = VirtualClock()
    policy = rs.Policy(
        "shop", retry=rs.Retry(on=ConnectionError, backoff=[1, 2], on_retry=hook), clock=clock, registry=None
    )
    with caplog.at_level(logging.ERROR, "resilience"):
        assert policy.call(Failing(2)) == 3
    assert [(e.policy, e.attempt, type(e.error), e.delay, e.elapsed) for e in told] == [
        ("shop", 1, ConnectionError, 1.0, 0.0), ("shop", 2, ConnectionError, 2.0, 1.0),
    ]  # fmt: skip
    assert caplog.text.count("the call goes on") == 2


def test_a_predicate_chooses_errors_and_one_that_fails_means_no(caplog: pytest.LogCaptureFixture) -> None:
    """A function of the error; if it raises, the caller still gets the error of the call."""
    transient = rs.Retry(on=lambda error: "later" in str(error), backoff=0.0)
    assert transient.call(Failing(1, ValueError("later"))) == 2
    with pytest.raises(ValueError, match="never"):
        transient.call(Failing(1, ValueError("never")))
    broken: Any = lambda error: error.nothing  # noqa: E731
    with caplog.at_level(logging.ERROR, "resilience"), pytest.raises(ConnectionError):
        rs.Retry(on=broken).call(Failing(1))
    assert "taken as no" in caplog.text


def test_rejections_are_retried_only_when_named() -> None:
    """on=Exception leaves an open circuit alone; on=CircuitOpen does not."""
    clock = VirtualClock()
    breaker = rs.CircuitBreaker(clock=clock, open_for=1.0, jitter=0.0)
    breaker.trip()
    policy = rs.Policy(retry=rs.Retry(on=Exception, backoff=2.0), breaker=breaker)
    with pytest.raises(rs.CircuitOpen):
        policy.call(lambda: 1)
    assert clock.sleeps == []
    assert policy.replace(retry=rs.Retry(on=rs.CircuitOpen, backoff=0.0)).call(lambda: 1) == 1
    assert clock.sleeps == [pytest.approx(1.0)]  # the breaker says when, and is heard


def test_a_backoff_of_the_users_that_fails_does_not_hide_the_error(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, the retrying ends, and the caller gets the error of the call; endless wishes are no trouble."""
    with caplog.at_level(logging.ERROR, "resilience"), pytest.raises(ConnectionError) as caught:
        rs.Retry(on=ConnectionError, backoff=lambda n: 1 / 0).call(Failing(5))
    assert "the backoff failed" in caught.value.__notes__[0]
    assert "no further attempt" in caplog.text
    with pytest.raises(Busy):
        rs.Retry(on=Busy, retry_after=lambda _: float("inf"), max_retry_after=float("inf"), elapsed=5.0).call(
            Failing(5, Busy(None))
        )


def test_a_seed_repeats_the_jitter() -> None:
    """The same seed, the same waits."""

    def waits(seed: int) -> list[float]:
        clock = VirtualClock()
        retry = rs.Retry(on=ConnectionError, attempts=6, rng=random.Random(seed), clock=clock)
        retry.call(Failing(5))
        return clock.sleeps

    assert waits(1) == waits(1) != waits(2)


def test_a_stop_iteration_of_the_caller_stays_one() -> None:
    """Though coroutines turn it into something else on the way."""
    policy = rs.Policy(retry=rs.Retry(on=ConnectionError), bulkhead=rs.Bulkhead(1))
    with pytest.raises(StopIteration):
        policy.call(next, iter([]))
    with pytest.raises(StopIteration):
        policy(lambda: next(iter([])))()


def test_shadow_only_counts() -> None:
    """The first error is raised, and what would have been retried is counted."""
    retry = rs.Retry(on=ConnectionError, shadow=True)
    callee = Failing(5)
    with pytest.raises(ConnectionError) as caught:
        retry.call(callee)
    assert (callee.calls, retry.counters["shadow"], retry.counters["retries"]) == (1, 1, 0)
    assert not hasattr(caught.value, "__notes__")
