"""Overrides and blocks that generators hold open: whatever the order in which they end, each ends with itself."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resilience as rs
from resilience._scope import SCOPE
from resilience.testing import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """No test inherits what another one left behind."""
    SCOPE.set(None)
    yield
    SCOPE.set(None)


def timeout_in_force(policy: rs.Policy) -> float:
    """The seconds that a call made here is handed."""

    def client(timeout: float = 0.0) -> float:
        return timeout

    return policy.call(client)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_overrides_that_do_not_nest_end_with_themselves(order: tuple[int, ...]) -> None:
    """While some are in force the innermost of these counts; when all have ended, none does."""
    policy = rs.Policy(timeout=rs.Timeout(9.0, mode="argument"), clock=VirtualClock())

    def hold(seconds: float) -> Generator[None, None, None]:
        with rs.override(timeout=seconds):
            yield

    held = {index: hold(float(index + 1)) for index in range(3)}
    for each in held.values():
        next(each)
    seen = [timeout_in_force(policy)]
    expected = [3.0]
    for index in order:  # nothing is asserted before all have ended, or one test's failure would be another's
        held.pop(index).close()
        seen.append(timeout_in_force(policy))
        expected.append(max(held) + 1.0 if held else 9.0)
    assert seen == expected


def test_a_limit_that_ends_inside_an_override_does_not_come_back() -> None:
    """Nor an override that ends inside a block: after both there is neither."""
    clock = VirtualClock()
    policy = rs.Policy(timeout=rs.Timeout(9.0, mode="argument"), clock=clock)

    def limited() -> Generator[None, None, None]:
        with rs.Deadline(1.0, clock=clock):
            yield

    held = limited()
    next(held)
    with rs.override(retry=None):
        held.close()
    assert rs.remaining() is None

    def overridden() -> Generator[None, None, None]:
        with rs.override(timeout=0.5):
            yield

    changed = overridden()
    next(changed)
    with rs.Deadline(5.0, clock=clock):
        changed.close()
    assert timeout_in_force(policy) == 9.0
    clock.advance(60.0)
    assert timeout_in_force(policy) == 9.0


@given(st.lists(st.sampled_from(["timeout", "deadline"]), min_size=1, max_size=6))
def test_nested_overrides_leave_what_they_found(kinds: list[str]) -> None:
    """However deep, the innermost of each kind counts, and outside everything is as before."""
    clock = VirtualClock()
    policy = rs.Policy(timeout=rs.Timeout(90.0, mode="argument"), deadline=100.0, clock=clock)

    def nest(rest: list[str], timeout: float, deadline: float) -> None:
        assert timeout_in_force(policy) == min(timeout, deadline)
        if rest:
            seconds = 10.0 * len(rest)
            with rs.override(**{rest[0]: seconds}):
                nest(
                    rest[1:],
                    seconds if rest[0] == "timeout" else timeout,
                    seconds if rest[0] == "deadline" else deadline,
                )
        assert timeout_in_force(policy) == min(timeout, deadline)

    nest(kinds, 90.0, 100.0)


def test_an_override_reaches_blocks_loops_and_forced_circuits() -> None:
    """What operations shut, one caller may pass; and only that caller."""
    policy = rs.Policy(
        breaker=rs.CircuitBreaker(), retry=rs.Retry(on=ConnectionError, backoff=0.0), clock=VirtualClock()
    )
    assert isinstance(policy.breaker, rs.CircuitBreaker)
    policy.breaker.force_open()
    numbers: list[int] = []
    with policy.override(breaker=None, retry=rs.Retry(on=ConnectionError, attempts=5, backoff=0.0)):
        assert policy.call(lambda: "passed") == "passed"
        with pytest.raises(ConnectionError):
            for attempt in policy:
                with attempt:
                    numbers.append(attempt.number)
                    raise ConnectionError
    assert numbers == [1, 2, 3, 4, 5]
    with pytest.raises(rs.CircuitOpen):
        policy.call(lambda: "refused")
