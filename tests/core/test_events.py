"""What is told of calls: each kind of event, by every way to make a call.

The cases are in ``told.py``. They are run by each way; with nobody listening; with listeners that call back, or end the
program; and to see where events are told.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import itertools
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import resilience as rs
from core.told import CASES, PAIRS, SYNC, Case, breaker, plain, use, word
from resilience import events
from resilience.events import KINDS, Event
from resilience.telemetry.reading import latency, numbers
from resilience.testing import VirtualClock, record_events


@pytest.mark.parametrize(("case", "way"), PAIRS)
def test_each_way_tells_the_same(case: Case, way: str) -> None:
    """The right events with the right fields, each once, in order; `AttemptFailed` alone may lack its seconds."""
    clock = VirtualClock(start=100.0)
    policy = case.policy(clock)
    with record_events() as told:
        use(policy, case, way, clock)
    assert [plain(event) for event in told] == case.told


def test_the_table_has_every_kind() -> None:
    """A new kind of event must get a case; those of stores are tested there (``tests/stores/test_faults.py``)."""
    of_stores = {"store_degraded", "store_recovered"}
    assert {told[0] for case in CASES.values() for told in case.told} | of_stores == set(map(word, KINDS))
    assert set(KINDS) == {
        kind
        for kind in vars(events).values()
        if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
    }


def test_the_page_has_every_kind_with_its_fields() -> None:
    """The table of ``docs/how-to/events.md`` is complete and in order."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "events.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]*)\|$", page, re.MULTILINE)
    assert [(name, re.findall(r"`(\w+)`", fields)) for name, fields in rows] == [
        (kind.__name__, [one.name for one in dataclasses.fields(kind) if one.name != "policy"]) for kind in KINDS
    ]


def test_a_mere_retry_reads_no_clock_for_the_seconds() -> None:
    """On the short way of a policy that keeps no time, how long the first attempt took is not known."""
    turns = iter([KeyError("x")])

    @rs.retry(on=KeyError, backoff=0.0, clock=VirtualClock())
    def work() -> None:
        for error in turns:
            raise error

    with record_events() as told:
        work()
    assert [plain(event) for event in told] == [
        ("attempt_failed", "Retry", 1, "KeyError", None),
        ("retrying", "Retry", 1, "KeyError", None, 0.0, 0.0),
    ]


def poll(ready: Callable[[], object]) -> None:
    """Wait for another thread."""
    end = time.monotonic() + 30
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_full_house_of_abandoned_calls_is_a_refusal() -> None:
    """What never reached the dependency is told and counted as no attempt."""
    clock = VirtualClock()
    timeout = rs.Timeout(1.0, mode="thread", max_abandoned=1)
    policy = rs.Policy("p", timeout=timeout, bulkhead=rs.Bulkhead(9), clock=clock, registry=rs.Registry())
    end = threading.Event()
    with record_events() as told:
        for _ in range(2):
            with pytest.raises((rs.TimedOut, rs.BulkheadFull)):
                policy.call(end.wait, 60)
    end.set()
    assert [plain(event) for event in told] == [
        ("attempt_timed_out", "p", 1, "TimedOut", 1.0, 1.0),
        ("gave_up", "p", "timed_out", 1, "TimedOut", 1.0),
        ("attempt_rejected", "p", 1, "bulkhead_full", "BulkheadFull", None),
        ("gave_up", "p", "rejected", 1, "BulkheadFull", 0.0),
    ]
    assert policy.counters["attempts"] == 1
    assert numbers(policy)["bulkhead"]["in_use"] == 0


@pytest.mark.parametrize("way", ["call", "acall"])
def test_a_wait_for_a_slot_is_told(way: str) -> None:
    """Once, with its length, when the slot is there; in threads as among tasks."""
    clock = VirtualClock()
    bulkhead = rs.Bulkhead(1, queue=1, max_wait=float("inf"), clock=clock)
    with record_events() as told:
        if way == "call":
            assert bulkhead.try_enter()
            waiting = threading.Thread(target=lambda: bulkhead.call(lambda: None), daemon=True)
            waiting.start()
            poll(lambda: bulkhead.counters["queued"])
            clock.advance(3.0)
            bulkhead.leave()
            waiting.join()
        else:

            async def main() -> None:
                await asyncio.gather(*(bulkhead.acall(asyncio.sleep, 3.0) for _ in range(2)))

            clock.run(main())
    assert [plain(event) for event in told] == [("waited", "Bulkhead", "bulkhead", 3.0)]


def test_a_hedge_in_threads_tells_the_same() -> None:
    """Another attempt is started in a second thread, and answers first."""
    clock = VirtualClock()
    policy = rs.Policy("p", hedge=rs.Hedge(0.25), clock=clock, registry=rs.Registry())
    end = threading.Event()
    turns: Iterator[Callable[[], object]] = iter([lambda: end.wait(60), lambda: "second"])
    with record_events() as told:
        assert policy.call(lambda: next(turns)()) == "second"  # noqa: PLW0108 - one turn for each attempt
    end.set()
    assert [plain(event) for event in told] == [("hedged", "p", 0.25), ("hedge_won", "p")]


def test_a_learned_timeout_tells_a_chain() -> None:
    """Each revision begins where the last one ended, and there is at most one a second."""
    clock = VirtualClock()
    timeout = rs.PercentileTimeout(0.9, between=(0.01, 1.0), mode="argument")
    policy = rs.Policy("p", timeout=timeout, clock=clock, registry=rs.Registry())
    rng = random.Random(3)
    at: list[float] = []
    moves: list[tuple[float, float]] = []

    def hear(event: events.TimeoutRevised) -> None:
        at.append(clock.now)
        moves.append((event.old, event.new))

    with rs.listen(hear, events.TimeoutRevised):
        for _ in range(2000):
            policy.call(lambda timeout=0.0: clock.advance(rng.expovariate(30)))
    assert len(moves) > 5
    assert moves[0][0] == 1.0
    assert [new for _, new in moves[:-1]] == [old for old, _ in moves[1:]]
    assert moves[-1][1] == timeout.current
    assert all(b - a >= 1.0 for a, b in itertools.pairwise(at))


def test_steering_a_breaker_is_told_and_what_changes_nothing_is_not() -> None:
    """By the name of the verb; a reset of a closed circuit is no change."""
    steered = rs.CircuitBreaker(name="b")
    with record_events() as told:
        for verb in ("reset", "trip", "trip", "force_open", "disable", "reset", "reset"):
            getattr(steered, verb)()
    assert [(event.policy, event.cause, event.new) for event in told] == [
        ("b", "trip", "open"),
        ("b", "force_open", "forced_open"),
        ("b", "disable", "disabled"),
        ("b", "reset", "closed"),
    ]


def everything(clock: VirtualClock) -> rs.Policy:
    return rs.Policy(
        "all", slo=0.999, timeout=rs.PercentileTimeout(0.99, between=(0.5, 2.0), mode="argument"), deadline=5.0,
        retry=rs.Retry(on=KeyError), breaker=breaker(), limiter=rs.TokenBucket(1000, burst=1000),
        fallback=rs.Fallback(value=None), bulkhead=rs.Bulkhead(5), clock=clock, registry=rs.Registry(),
    )  # fmt: skip


@pytest.mark.parametrize("way", ["decorated", "call", "adecorated", "acall"])
def test_calls_that_go_well_tell_nothing(way: str) -> None:
    """However many, under every part at once, as long as the timeout has not learned enough to move."""
    clock = VirtualClock()
    case = Case(dict, [(0.001, "ok")] * 50, [], calls=50)
    policy = everything(clock)
    with record_events() as told:
        assert use(policy, case, way, clock) == ["ok"] * 50
    assert told == []


def test_cancelled_calls_tell_nothing() -> None:
    """Neither the attempt nor the call failed: somebody went away."""
    clock = VirtualClock()
    policy = everything(clock)

    async def main() -> None:
        task = asyncio.create_task(policy.acall(asyncio.sleep, 60))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with record_events() as told:
        clock.run(main())
        with pytest.raises(KeyboardInterrupt):
            policy.call(lambda timeout=0.0: (_ for _ in ()).throw(KeyboardInterrupt))
    assert told == []
    assert policy.counters["cancelled"] == 2


@pytest.mark.parametrize(("case", "way"), PAIRS)
def test_nothing_is_built_for_nobody(case: Case, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same calls come to the same, and no event is made; nor if only another kind is listened for."""
    clock = VirtualClock(start=100.0)
    with record_events():
        wanted = use(case.policy(clock), case, way, clock)
    made: list[str] = []
    for kind in KINDS:
        monkeypatch.setattr(kind, "__init__", lambda self, *args: made.append(type(self).__name__))
    clock = VirtualClock(start=100.0)
    assert list(map(repr, use(case.policy(clock), case, way, clock))) == list(map(repr, wanted))
    assert made == []
    names = {told[0] for told in case.told}
    told = tuple(kind for kind in KINDS if word(kind) in names)
    others = tuple(kind for kind in KINDS if not any(issubclass(one, kind) for one in told))
    clock = VirtualClock(start=100.0)
    policy = case.policy(clock)
    with rs.listen(lambda event: made.append(event.kind), others):
        use(policy, case, way, clock)
    assert made == []


@pytest.mark.parametrize(("case", "way"), PAIRS)
def test_a_listener_may_call_back(case: Case, way: str) -> None:
    """No lock is held while it is told: it reads all there is, steers, and makes calls of its own."""
    clock = VirtualClock(start=100.0)
    policy = case.policy(clock)
    heard: list[Event] = []

    def meddle(event: Event) -> None:
        heard.append(event)
        numbers(policy), latency(policy), policy.counters, policy.service_level
        for part in policy.parts.values():
            part.counters, repr(part)
        if isinstance(policy.breaker, rs.CircuitBreaker):
            policy.breaker.snapshot, policy.breaker.time_in(), policy.breaker.reset()
        if isinstance(policy.limiter, rs.TokenBucket):
            policy.limiter.try_acquire()
        if isinstance(policy.timeout, rs.PercentileTimeout):
            policy.timeout.explain(), policy.timeout.load(policy.timeout.save())
        if isinstance(policy.bulkhead, rs.Bulkhead):
            policy.bulkhead.resize(2)
        if way in SYNC and not policy.limiter:
            with contextlib.suppress(Exception):
                policy.call(lambda timeout=0: clock.advance(0.001))

    worker = threading.Thread(target=lambda: use(policy, case, way, clock), daemon=True)
    with rs.listen(meddle) as listening:
        worker.start()
        worker.join(30)
    assert not worker.is_alive(), "a lock was held"
    assert listening.failures == 0
    assert heard


class Stop(BaseException):
    """Ends the program, as SystemExit does."""


@pytest.mark.parametrize(("case", "way"), PAIRS)
def test_a_listener_may_end_the_program(case: Case, way: str) -> None:
    """What is no Exception passes through; permits and slots are given back, and each call counts as ended."""
    for nth, bulkhead in itertools.product(range(len(case.told)), (False, True)):  # without one, by the short way
        clock = VirtualClock(start=100.0)
        parts = case.parts()
        if bulkhead:
            parts.setdefault("bulkhead", rs.Bulkhead(3))
        policy = rs.Policy("p", clock=clock, registry=rs.Registry(), **parts)
        case.before(policy, clock)
        held = numbers(policy).get("bulkhead", {}).get("in_use")
        left = iter(range(nth))

        def stop(event: Event, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise Stop

        with rs.listen(stop), pytest.raises(Stop):
            use(policy, case, way, clock)
        counts = numbers(policy)
        assert counts.get("bulkhead", {}).get("in_use") == held
        assert counts[""]["in_flight"] == 0, case.told[nth]
        if isinstance(policy.breaker, rs.CircuitBreaker):
            assert policy.breaker.snapshot.live == 0


def test_a_slot_that_was_waited_for_is_given_back_when_the_program_ends() -> None:
    """The listener that is told of the wait breaks off the call that has the slot."""
    clock = VirtualClock()
    bulkhead = rs.Bulkhead(1, queue=1, max_wait=9.0, clock=clock)

    def stop(event: Event) -> None:
        raise Stop

    async def main() -> list[object]:
        calls = (bulkhead.acall(asyncio.sleep, 3.0) for _ in range(2))
        return list(await asyncio.gather(*calls, return_exceptions=True))

    with rs.listen(stop, events.Waited):
        first, second = clock.run(main())
    assert first is None
    assert isinstance(second, Stop)
    assert bulkhead.counters["in_use"] == bulkhead.counters["queued"] == 0


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="outside")


@pytest.mark.parametrize(("case", "way"), PAIRS)
def test_events_are_told_where_the_call_is_made(case: Case, way: str) -> None:
    """In the thread and the context of the caller; tasks of a hedge have a copy of it."""
    clock = VirtualClock(start=100.0)
    policy = case.policy(clock)
    where: set[tuple[int, str]] = set()
    token = VARIABLE.set("inside")
    with rs.listen(lambda event: where.add((threading.get_ident(), VARIABLE.get()))):
        use(policy, case, way, clock)
    VARIABLE.reset(token)
    assert where == {(threading.get_ident(), "inside")}
