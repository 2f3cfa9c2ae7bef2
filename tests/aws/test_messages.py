"""What becomes of a message: whole seconds within SQS's limits, by its receive count, in the order of its group."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resilience as rs
from resilience.aws import _messages
from resilience.backoff import as_backoff


@given(st.floats(0, 1e6), st.floats(0, 90_000))
def test_a_visibility_timeout_is_one_that_sqs_takes(delay: float, held: float) -> None:
    """Whole seconds from 0, never sooner than asked, and never beyond 12 hours after the receive."""
    seconds = _messages.hidden(delay, held)
    assert type(seconds) is int
    assert seconds >= 0
    assert held + seconds <= max(43_200, held)
    if delay + held < 43_000:
        assert delay <= seconds <= delay + 1


@given(st.integers(1, 400), st.integers(0, 2**32), st.sampled_from(["none", "full", "equal", "decorrelated"]))
def test_the_nth_receive_gets_the_nth_delay(n: int, seed: int, jitter: str) -> None:
    """With the same randomness, the one that a call retried in memory would wait before its n-th retry."""
    backoff = rs.Exponential(0.5, cap=900, jitter=jitter)
    row = backoff.delays(random.Random(seed).random)
    for _ in range(n):
        expected = next(row)
    assert _messages.nth(backoff, n, random.Random(seed).random) == expected


def test_a_row_that_ends_stays_at_its_last_delay() -> None:
    """A list of delays is for as many receives as it says; and a count without bound costs no more than a large one."""
    assert [_messages.nth(as_backoff([1, 5, 30]), n, random.random) for n in (1, 2, 3, 4, 99)] == [1, 5, 30, 30, 30]
    asked: list[int] = []
    _messages.nth(as_backoff(lambda n: asked.append(n) or 1.0), 10**9, random.random)
    assert len(asked) == 1000


@given(st.lists(st.sampled_from("abc") | st.none(), max_size=10))
def test_lanes_keep_every_group_in_order(groups: list[str | None]) -> None:
    """Nothing is lost, and what is of one group is in one lane; without groups everything may run side by side."""
    messages: list[dict[str, Any]] = [
        {"MessageId": n, "Attributes": {} if group is None else {"MessageGroupId": group}}
        for n, group in enumerate(groups)
    ]
    lanes = _messages.lanes(messages, fifo=True)
    assert sorted(m["MessageId"] for lane in lanes for m in lane) == list(range(len(groups)))
    for lane in lanes:
        assert len({_messages.group(m) for m in lane}) == 1
        assert [m["MessageId"] for m in lane] == sorted(m["MessageId"] for m in lane)
    assert len(lanes) == len(set(groups))
    assert len(_messages.lanes(messages, fifo=False)) == len(groups)


@pytest.mark.parametrize(
    "attributes", [None, {}, {"ApproximateReceiveCount": "many"}, {"ApproximateReceiveCount": "0"}]
)
def test_a_message_that_does_not_tell_was_received_once(attributes: Any) -> None:
    """Whatever stands there."""
    assert _messages.receives({"Attributes": attributes}) == 1
