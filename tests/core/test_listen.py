"""Listening: who hears what, and what a listener may do."""

from __future__ import annotations

import functools
import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resilience as rs
from resilience import events
from resilience._listen import LISTENERS, tell
from resilience.events import KINDS, Event
from resilience.testing import VirtualClock, record_events
from together import outcomes

EVENTS: dict[type[Event], Event] = {
    events.AttemptFailed: events.AttemptFailed("p", 1, KeyError(), None),
    events.AttemptTimedOut: events.AttemptTimedOut("p", 1, KeyError(), None, 1.0),
    events.AttemptRejected: events.AttemptRejected("p", 1, "rejected", KeyError(), None),
    events.Retrying: events.Retrying("p", 1, None, "poor", 1.0, 1.0),
    events.GaveUp: events.GaveUp("p", "failed", 1, KeyError(), 1.0),
    events.BudgetExhausted: events.BudgetExhausted("p", "retry", 0.0),
    events.CircuitChanged: events.CircuitChanged("p", rs.State.OPEN, rs.State.CLOSED, "reset"),
    events.Waited: events.Waited("p", "limiter", 1.0),
    events.Hedged: events.Hedged("p", 1.0),
    events.HedgeWon: events.HedgeWon("p"),
    events.FellBack: events.FellBack("p", KeyError()),
    events.TimeoutRevised: events.TimeoutRevised("p", 1.0, 2.0, "measured"),
    events.RateRevised: events.RateRevised("p", 1.0, 2.0, throttled=True),
    events.BudgetBurning: events.BudgetBurning("p", shedding=True, burn=9.0),
    events.StoreDegraded: events.StoreDegraded("redis", ConnectionError()),
    events.StoreRecovered: events.StoreRecovered("redis", 3.0),
}
assert set(EVENTS) == set(KINDS)


def fail() -> None:
    raise KeyError("x")


def failing(name: str = "p", **parts: Any) -> Callable[[], None]:
    """A decorated function that fails, under a policy that makes one event of it besides `GaveUp`."""
    return rs.Policy(name, clock=VirtualClock(), registry=rs.Registry(), **parts)(fail)


def call(guarded: Callable[[], object]) -> None:
    with pytest.raises(KeyError):
        guarded()


@pytest.fixture(autouse=True)
def _nobody_stays() -> Iterator[None]:
    """Each test leaves the table as it found it."""
    before = dict(LISTENERS)
    yield
    assert before == LISTENERS


# -- who hears what ----------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([Event, *KINDS]), min_size=1, max_size=4))
def test_a_class_means_its_subclasses_too(to: list[type[Event]]) -> None:
    """Each event once, however many of the classes it is one of."""
    with record_events(tuple(to)) as told:
        for event in EVENTS.values():
            tell(event)
    assert told == [event for event in EVENTS.values() if isinstance(event, tuple(to))]


@pytest.mark.parametrize(
    ("policy", "heard"),
    [
        (None, {"db", "db['eu']", "web", "web[1][2]", "odd[x]", "["}),
        ("db", {"db", "db['eu']"}),
        (("db", "web"), {"db", "db['eu']", "web", "web[1][2]"}),
        ("db['eu']", {"db['eu']"}),
        ("odd[x]", {"odd[x]"}),
        ("odd", {"odd[x]"}),
        ((), {"db", "db['eu']", "web", "web[1][2]", "odd[x]", "["}),
        ("d", set()),
    ],
    ids=lambda value: "heard" if isinstance(value, set) else repr(value),
)
def test_a_name_means_the_parts_of_its_keys_too(policy: Any, heard: set[str]) -> None:
    """And a name with brackets, of a policy or of the part of a key, means itself."""
    with record_events(policy=policy) as told:
        for name in ("db", "db['eu']", "web", "web[1][2]", "odd[x]", "["):
            tell(events.HedgeWon(name))
    assert {event.policy for event in told} == heard


def test_listeners_hear_in_the_order_they_came() -> None:
    """All of them; one that leaves does not change the order of the others."""
    heard: list[str] = []
    first = rs.listen(lambda event: heard.append("first"))
    second = rs.listen(lambda event: heard.append("second"), events.HedgeWon)
    third = rs.listen(lambda event: heard.append("third"))
    tell(events.HedgeWon("p"))
    second.stop()
    tell(events.HedgeWon("p"))
    first.stop()
    third.stop()
    tell(events.HedgeWon("p"))
    assert heard == ["first", "second", "third", "first", "third"]


def test_the_same_function_may_listen_twice() -> None:
    """Each listening is its own, and ends by itself."""
    heard: list[Event] = []
    with rs.listen(heard.append), rs.listen(heard.append) as other:
        tell(events.HedgeWon("p"))
        other.stop()
        tell(events.HedgeWon("p"))
    assert len(heard) == 3


def test_stop_may_be_called_again() -> None:
    """Also by the end of its block, and when others have come to listen since."""
    heard: list[Event] = []
    with rs.listen(heard.append) as listening:
        listening.stop()
        listening.stop()
        with record_events() as told:
            tell(events.HedgeWon("p"))
            listening.stop()
            tell(events.HedgeWon("p"))
    assert heard == []
    assert len(told) == 2


def test_a_listener_may_stop_itself_and_others_while_it_is_told() -> None:
    """Those who listened when the event was made all hear it; the next event only those who are left."""
    heard: list[str] = []

    def hear(event: Event) -> None:
        heard.append("once")
        mine.stop()
        others.stop()

    mine = rs.listen(hear)
    others = rs.listen(lambda event: heard.append("other"))
    tell(events.HedgeWon("p"))
    tell(events.HedgeWon("p"))
    assert heard == ["once", "other"]


def test_a_listener_that_has_stopped_is_let_go() -> None:
    """Nothing holds it, nor what it holds."""

    class Listener:
        def __call__(self, event: Event) -> None: ...

    listener = Listener()
    gone = weakref.ref(listener)
    rs.listen(listener).stop()
    del listener
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"listener": None}, "listener"),
        ({"listener": "print"}, "listener"),
        ({"to": "HedgeWon"}, "to"),
        ({"to": ()}, "to"),
        ({"to": [events.HedgeWon]}, "to"),
        ({"to": (events.HedgeWon, int)}, "to"),
        ({"to": EVENTS[events.HedgeWon]}, "to"),
        ({"to": int}, "to"),
        ({"policy": 1}, "policy"),
        ({"policy": ["p"]}, "policy"),
        ({"policy": ("p", 1)}, "policy"),
    ],
    ids=repr,
)
def test_bad_input_is_refused_by_name(arguments: dict[str, Any], named: str) -> None:
    """As everywhere in the library, and nobody listens then."""
    with pytest.raises(TypeError, match=f"^{named} must be"):
        rs.listen(**{"listener": print, **arguments})


class AsyncCall:
    async def __call__(self, event: Event) -> None: ...


async def coroutine(*args: object) -> None: ...


class Methods:
    async def hear(self, event: Event) -> None: ...


@pytest.mark.parametrize(
    "listener",
    [coroutine, functools.partial(coroutine, 1), Methods().hear, AsyncCall()],
    ids=["function", "partial", "method", "object"],
)
def test_what_would_have_to_be_awaited_is_refused(listener: Any) -> None:
    """Nobody would await it: coroutine functions, partials and methods of them, and objects called like one."""
    with pytest.raises(TypeError, match="coroutine"):
        rs.listen(listener)


def test_a_listening_says_who_hears_what() -> None:
    """For debugging."""
    with rs.listen(print, events.AttemptFailed) as listening:
        assert repr(listening) == f"<Listening {print!r} to AttemptFailed, AttemptTimedOut>"


# -- what a listener may do --------------------------------------------------------------------------------------------


def test_what_a_listener_raises_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """With its traceback, for each listener; the call, and those who listen after it, notice nothing."""

    def broken(event: Event) -> None:
        raise RuntimeError("broken")

    guarded = failing(retry=rs.Retry(on=KeyError, attempts=3, backoff=0.0))
    with rs.listen(broken) as first, rs.listen(broken) as second, record_events() as told:
        call(guarded)
    assert len(told) == first.failures == second.failures == 6
    assert [record.name for record in caplog.records] == ["resilience"] * 2
    assert all(record.exc_info and "broken" in str(record.exc_info[1]) for record in caplog.records)


def test_a_log_handler_that_raises_does_not_break_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither does an event whose error cannot be shown."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

        __repr__ = __str__

    def hear(event: Event) -> None:
        raise RuntimeError("broken")

    def mute() -> None:
        raise Mute

    monkeypatch.setattr(logging, "raiseExceptions", False)
    policy = rs.Policy("p", registry=None)
    with rs.listen(hear), pytest.raises(Mute):
        policy.call(mute)


def test_a_listeners_own_calls_are_told_to_nobody() -> None:
    """Or it would be told of them without end. Those of other threads meanwhile are."""
    inner, outer = failing("inner"), failing("outer")
    heard: list[str] = []

    def hear(event: Event) -> None:
        heard.append(event.policy)
        if event.policy == "outer":
            call(inner)
            thread = threading.Thread(target=call, args=(inner,))
            thread.start()
            thread.join()

    with rs.listen(hear, events.AttemptFailed) as listening:
        call(outer)
        assert listening.failures == 0
        call(inner)
    assert heard == ["outer", "inner", "inner"]


def test_after_a_listener_broke_off_events_are_told_again() -> None:
    """KeyboardInterrupt goes through to the caller, once, and leaves nothing behind."""
    guarded = failing(retry=rs.Retry(on=KeyError, attempts=2, backoff=0.0))

    def stop(event: Event) -> None:
        raise KeyboardInterrupt

    with rs.listen(stop) as listening, pytest.raises(KeyboardInterrupt):
        guarded()
    assert listening.failures == 0
    with record_events() as told:
        call(guarded)
    assert [event.kind for event in told] == ["attempt_failed", "retrying", "attempt_failed", "gave_up"]


@pytest.mark.usefixtures("switch_often")
def test_listeners_come_and_go_while_events_are_told() -> None:
    """Nobody is told after having stopped; who listens all the time misses nothing; the table is empty in the end."""
    guarded = failing()
    calls = 100

    def work(index: int) -> int:
        late = 0
        for turn in range(calls):
            if index % 2:
                call(guarded)
                continue
            heard: list[Event] = []
            with rs.listen(heard.append, KINDS[turn % len(KINDS)]):
                call(guarded)
            before = len(heard)
            call(guarded)
            late += len(heard) > before + 7  # at most those being told in the other threads when it stopped
        return late

    with record_events(events.AttemptFailed) as told:
        results, errors = outcomes(work, 8)
    assert errors == []
    assert results == [0] * 8
    assert len(told) == 4 * calls + 4 * 2 * calls


def test_nobody_is_told_of_another_policys_events_by_a_filter() -> None:
    """A filter by policy and by class together."""
    guarded = [failing("a"), failing("b")]
    with record_events(events.GaveUp, policy="b") as told:
        for one in guarded:
            call(one)
    assert [(event.kind, event.policy) for event in told] == [("gave_up", "b")]
