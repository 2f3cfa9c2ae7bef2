"""The last events: in words, few, and never those that matter pushed out by those that come by the thousand."""

from __future__ import annotations

import contextlib
import gc
import threading
import weakref
from typing import TYPE_CHECKING

import pytest

import resilience as rs
from dashboard.asking import attempt, payments
from resilience._listen import LISTENERS
from resilience.dashboard.recent import Recent

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def recent() -> Iterator[Recent]:
    """Listens during one test."""
    found = Recent()
    yield found
    found.stop()


def test_events_are_told_in_their_order_and_words(recent: Recent) -> None:
    """Each with its policy, kind, time and sentence."""
    policy = payments(rs.Registry())
    attempt(policy, 3)
    told = recent.entries()
    assert [one["number"] for one in told] == sorted(one["number"] for one in told)
    (opened,) = [one for one in told if one["kind"] == "circuit_changed"]
    assert opened["policy"] == "payments"
    assert opened["text"] == "payments: the circuit is open, no longer closed (tripped)"
    assert opened["time"] > 1.7e9


def test_of_one_kind_and_policy_one_is_written_down_a_second(recent: Recent, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are counted with it; a second later there is a line again."""
    now = [1000.0]
    monkeypatch.setattr("resilience.dashboard.recent.time.time", lambda: now[0])
    policy = rs.Policy("db", registry=None)
    attempt(policy, 40)
    now[0] += 1.0
    attempt(policy, 2)
    failed = [(one["time"], one["count"]) for one in recent.entries() if one["kind"] == "attempt_failed"]
    assert failed == [(1000.0, 40), (1001.0, 2)]


def test_a_storm_pushes_out_no_change_of_state(recent: Recent) -> None:
    """However many policies fail; and no more is kept than there is room for."""
    attempt(payments(rs.Registry()), 3)
    for number in range(700):
        attempt(rs.Policy(f"shard {number}", registry=None))
    told = recent.entries()
    assert sum(one["kind"] == "circuit_changed" for one in told) == 1
    assert len(told) <= 301
    assert len(recent._last) <= 200


def test_an_error_is_not_kept_alive(recent: Recent) -> None:
    """What is remembered is text: the frames of an error, and all that is in them, go when their call is over."""

    class Heavy(ConnectionError):
        pass

    def fall() -> None:
        error = Heavy("x")
        seen.append(weakref.ref(error))
        raise error

    seen: list[weakref.ref[Heavy]] = []
    policy = rs.Policy("db", registry=None)
    with contextlib.suppress(Heavy):
        policy.call(fall)
    gc.collect()
    assert seen[0]() is None
    assert "Heavy: x" in recent.entries()[0]["text"]


def test_long_texts_are_cut(recent: Recent) -> None:
    """A name as long as a book makes no page as long as one."""
    attempt(rs.Policy("n" * 5000, registry=None))
    assert all(len(one["text"]) <= 300 for one in recent.entries())


def test_after_stopping_nobody_listens() -> None:
    """Events are not even made then."""
    before = dict(LISTENERS)
    found = Recent()
    found.stop()
    assert before == LISTENERS


def test_threads_lose_no_event(recent: Recent, switch_often: None) -> None:
    """Their counts add up, whatever the lines they ended in."""
    policy = rs.Policy("db", registry=None)
    threads = [threading.Thread(target=attempt, args=(policy, 200)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counted = sum(one["count"] for one in recent.entries() if one["kind"] == "attempt_failed")
    assert counted == 800
