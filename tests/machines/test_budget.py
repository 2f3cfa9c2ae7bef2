"""The retry budget: its bound over any history, the amplification it allows, and its floor."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resilience.machines.budget import BudgetMachine

SECOND = 1_000_000_000
EVENTS = st.lists(st.tuples(st.booleans(), st.integers(-5 * SECOND, 30 * SECOND)), max_size=200)


@given(EVENTS, st.integers(1, 20), st.sampled_from([0.0, 0.1, 0.2, 1.0]), st.sampled_from([None, 10 * SECOND]))
@example([(False, 0), (False, -11), (False, 10 * SECOND)], 1, 0.0, 10 * SECOND)
def test_retries_never_exceed_the_budget(
    events: list[tuple[bool, int]], capacity: int, deposit: float, floor: int | None
) -> None:
    """Granted <= capacity + deposit * successes + elapsed / floor + 1, over any history and clock."""
    budget = BudgetMachine(capacity=capacity, deposit=deposit, floor_interval=floor)
    now = successes = granted = latest = 0
    for success, gap in events:
        now += gap
        latest = max(latest, now)
        if success:
            budget.deposit()
            successes += 1
        else:
            granted += budget.withdraw(now)
        assert 0 <= budget.level <= budget.full
        extra = latest / floor + 1 if floor else 0
        assert granted <= capacity + deposit * successes + extra + 1e-9
    assert granted == budget.withdrawn


@pytest.mark.parametrize("failing", [0.1, 0.3, 0.5, 1.0])
def test_amplification_is_that_of_the_formula(failing: float) -> None:
    """Under steady failures of probability f, attempts per call settle at 1 / (1 - r (1 - f)), or below."""
    rng = random.Random(1)
    budget = BudgetMachine(capacity=10, deposit=0.1, floor_interval=None)
    attempts = calls = 0
    for _ in range(60_000):
        calls += 1
        for _ in range(4):
            attempts += 1
            if rng.random() >= failing:
                budget.deposit()
                break
            if not budget.withdraw(0):
                break
    assert attempts / calls == pytest.approx(1 / (1 - 0.1 * (1 - failing)), rel=0.01)


def test_ten_successes_earn_one_retry() -> None:
    """Tenths are counted in whole numbers: nothing is lost to rounding."""
    budget = BudgetMachine(capacity=10, deposit=0.1, floor_interval=None)
    for _ in range(10):
        assert budget.withdraw(0)
    for _ in range(9):
        budget.deposit()
        assert not budget.withdraw(0)
    budget.deposit()
    assert budget.withdraw(0)


def test_a_rarely_called_dependency_gets_one_retry_now_and_then() -> None:
    """From an empty bucket the floor grants one retry per interval."""
    budget = BudgetMachine(capacity=1, deposit=0.0, floor_interval=10 * SECOND)
    assert [budget.withdraw(t * SECOND) for t in (0, 0, 1, 9, 10, 11, 25)] == [
        True, True, False, False, True, False, True,
    ]  # fmt: skip
