"""Watchers: who is around each attempt, by every way to make one, and how decorated functions come to be watched."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import resilience as rs
from resilience import _fast
from resilience._listen import WATCHERS
from resilience.testing import VirtualClock
from together import outcomes


@pytest.fixture(autouse=True)
def _nobody_stays() -> Iterator[None]:
    """Each test leaves none behind."""
    yield
    assert WATCHERS == []


class Spy:
    """Notes what it is around."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []
        self.threads: set[tuple[int, int]] = set()

    def begin(self, policy: str, attempt: int) -> tuple[str, int, int]:
        self.seen.append(("begin", policy, attempt))
        return policy, attempt, threading.get_ident()

    def end(self, begun: tuple[str, int, int], error: BaseException | None) -> None:
        policy, attempt, thread = begun
        self.threads.add((thread, threading.get_ident()))
        self.seen.append(("end", policy, attempt, None if error is None else type(error).__name__))


class Watching:
    """Watchers at work, as telemetry puts them there."""

    def __init__(self, *watchers: Any) -> None:
        self.watchers = watchers

    def __enter__(self) -> None:
        WATCHERS.extend(self.watchers)
        _fast.detour(everything=True)

    def __exit__(self, *error: object) -> None:
        for watcher in self.watchers:
            WATCHERS.remove(watcher)
        _fast.detour(everything=bool(WATCHERS))


def script(*turns: object) -> tuple[Callable[[], object], Callable[[], Any]]:
    """A function and a coroutine function that follow a script."""
    left = iter(turns)

    def work() -> object:
        turn = next(left)
        if isinstance(turn, BaseException):
            raise turn
        return turn

    async def task() -> object:
        await asyncio.sleep(0)
        return work()

    return work, task


WAYS = ("decorated", "call", "loop", "adecorated", "acall", "aloop")


def use(policy: rs.Policy, way: str, clock: VirtualClock, *turns: object) -> object:
    work, task = script(*turns)

    def loop() -> None:
        for attempt in policy:
            with attempt:
                work()

    async def aloop() -> None:
        async for attempt in policy:
            async with attempt:
                await task()

    ways: dict[str, Callable[[], Any]] = {
        "decorated": policy(work), "call": lambda: policy.call(work), "loop": loop,
        "adecorated": policy(task), "acall": lambda: policy.acall(task), "aloop": aloop,
    }  # fmt: skip
    return clock.run(ways[way]()) if way.startswith("a") else ways[way]()


@pytest.mark.parametrize("way", WAYS)
def test_a_watcher_is_around_each_attempt(way: str) -> None:
    """With its number and its error, in the thread of the call; refused attempts are none."""
    clock = VirtualClock()
    spy = Spy()
    retry = rs.Retry(on=KeyError, attempts=3, backoff=1.0)
    policy = rs.Policy("p", retry=retry, breaker=rs.CircuitBreaker(), clock=clock, registry=None)
    with Watching(spy):
        use(policy, way, clock, KeyError("x"), "ok")
        assert isinstance(policy.breaker, rs.CircuitBreaker)
        policy.breaker.force_open()
        with pytest.raises(rs.CircuitOpen):
            use(policy, way, clock)
    assert spy.seen == [("begin", "p", 1), ("end", "p", 1, "KeyError"), ("begin", "p", 2), ("end", "p", 2, None)]
    assert spy.threads == {(threading.get_ident(), threading.get_ident())}


@pytest.mark.parametrize("way", ["block", "ablock"])
def test_a_watcher_is_around_a_block(way: str) -> None:
    """And the error of the block leaves it with its traceback."""
    clock, spy = VirtualClock(), Spy()
    policy = rs.Policy("p", clock=clock, registry=None)
    error = KeyError("x")

    def block() -> None:
        with policy:
            raise error

    async def ablock() -> None:
        async with policy:
            raise error

    with Watching(spy), pytest.raises(KeyError) as caught:
        clock.run(ablock()) if way == "ablock" else block()
    assert caught.value is error
    assert caught.traceback[-1].name == way
    assert spy.seen == [("begin", "p", 1), ("end", "p", 1, "KeyError")]


def test_a_watcher_is_around_a_call_in_a_worker_thread() -> None:
    """In the caller's thread; what timed out has ended for it when the caller goes on."""
    clock, spy = VirtualClock(), Spy()
    policy = rs.Policy("p", timeout=rs.Timeout(1.0, mode="thread"), clock=clock, registry=None)
    end = threading.Event()
    with Watching(spy):
        assert policy.call(lambda: "ok") == "ok"
        with pytest.raises(rs.TimedOut):
            policy.call(end.wait, 60)
    end.set()
    assert spy.seen[1::2] == [("end", "p", 1, None), ("end", "p", 1, "TimedOut")]
    assert spy.threads == {(threading.get_ident(), threading.get_ident())}


def test_a_watcher_is_around_each_attempt_of_a_hedge() -> None:
    """Winner and loser; the loser ends cancelled."""
    clock, spy = VirtualClock(), Spy()
    policy = rs.Policy("p", hedge=rs.Hedge(0.25), clock=clock, registry=None)
    seconds = iter([10.0, 0.5])
    with Watching(spy):
        clock.run(policy.acall(lambda: asyncio.sleep(next(seconds))))
    assert spy.seen == [
        ("begin", "p", 1), ("begin", "p", 1), ("end", "p", 1, None), ("end", "p", 1, "CancelledError"),
    ]  # fmt: skip


def test_a_watcher_is_around_the_attempts_of_threads() -> None:
    """A hedge in threads begins and ends its own in its own thread."""
    clock, spy = VirtualClock(), Spy()
    policy = rs.Policy("p", hedge=rs.Hedge(0.25), clock=clock, registry=None)
    end = threading.Event()
    turns: Iterator[Callable[[], object]] = iter([lambda: end.wait(60), lambda: "second"])
    with Watching(spy):
        assert policy.call(lambda: next(turns)()) == "second"  # noqa: PLW0108 - one turn for each attempt
        end.set()
        for _ in range(10_000):
            if len(spy.seen) == 4:
                break
            threading.Event().wait(0.001)
    assert sorted(spy.seen, key=lambda one: one[0]) == [("begin", "p", 1)] * 2 + [("end", "p", 1, None)] * 2
    assert len(spy.threads) == 2
    assert all(begun == ended for begun, ended in spy.threads)


@pytest.mark.parametrize("where", ["begin", "end"])
@pytest.mark.parametrize("way", WAYS)
def test_what_a_watcher_raises_is_logged(where: str, way: str, caplog: pytest.LogCaptureFixture) -> None:
    """The call has its result, and the others watch on, in the reverse order at the end."""
    clock, spy = VirtualClock(), Spy()

    class Broken(Spy):
        def begin(self, policy: str, attempt: int) -> tuple[str, int, int]:
            if where == "begin":
                raise RuntimeError("broken")
            return super().begin(policy, attempt)

        def end(self, begun: tuple[str, int, int], error: BaseException | None) -> None:
            raise RuntimeError("broken")

    policy = rs.Policy("p", clock=clock, registry=None, breaker=rs.CircuitBreaker())
    with Watching(Broken(), spy):
        use(policy, way, clock, "ok")
        with pytest.raises(KeyError):
            use(policy, way, clock, KeyError("x"))
    assert [one[-1] for one in spy.seen] == [1, None, 1, "KeyError"]
    assert len(caplog.records) == 2
    assert all("watcher" in record.message for record in caplog.records)


def test_watchers_end_in_reverse_order() -> None:
    """As contexts must be left."""
    order: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def begin(self, policy: str, attempt: int) -> str:
            order.append(f"+{self.name}")
            return self.name

        def end(self, begun: str, error: BaseException | None) -> None:
            order.append(f"-{begun}")

    with Watching(Named("a"), Named("b")):
        rs.Policy(registry=None).call(lambda: None)
    assert order == ["+a", "+b", "-b", "-a"]


def test_an_attempt_ends_for_those_who_saw_it_begin() -> None:
    """A watcher that comes or goes meanwhile changes nothing for it."""
    first, second = Spy(), Spy()
    policy = rs.Policy("p", registry=None)

    def work() -> None:
        WATCHERS.remove(first)
        WATCHERS.append(second)

    WATCHERS.append(first)
    policy.call(work)
    WATCHERS.remove(second)
    assert [one[0] for one in first.seen] == ["begin", "end"]
    assert second.seen == []


@pytest.mark.parametrize("is_async", [False, True])
def test_functions_decorated_before_are_watched_and_then_no_more(is_async: bool) -> None:
    """Whenever they were decorated; the same results and counts, with and without."""
    clock, spy = VirtualClock(), Spy()
    policy = rs.Policy(
        "p", breaker=rs.CircuitBreaker(), retry=rs.Retry(on=KeyError), clock=clock, registry=rs.Registry()
    )
    work, task = script(*range(9))
    before = policy(task if is_async else work)

    def call_it(guarded: Callable[[], Any]) -> object:
        return clock.run(guarded()) if is_async else guarded()

    assert call_it(before) == 0
    assert spy.seen == []
    with Watching(spy):
        during = policy(task if is_async else work)
        assert [call_it(before), call_it(during)] == [1, 2]
        assert len(spy.seen) == 4
    assert [call_it(before), call_it(during)] == [3, 4]
    assert len(spy.seen) == 4
    counters = policy.counters
    assert (counters["calls"], counters["succeeded"], counters["attempts"]) == (5, 5, 5)


@pytest.mark.usefixtures("switch_often")
def test_functions_may_be_decorated_while_watchers_come_and_go() -> None:
    """Each is watched at once if anybody watches, and nobody gets in another's way."""
    policy = rs.Policy("p", breaker=rs.CircuitBreaker(), registry=None)
    kept: list[Any] = []

    def work(index: int) -> None:
        for _ in range(300):
            if index:
                kept.append(policy(lambda: None))
            else:
                with Watching(Spy()):
                    pass

    _, errors = outcomes(work, 4)
    assert errors == []
    assert all(guarded.__globals__["_rs_scope"] is not _fast._elsewhere for guarded in kept)


def test_the_registry_of_functions_holds_none() -> None:
    """A decorated function that nobody has is let go."""
    guarded = rs.Policy("p", breaker=rs.CircuitBreaker(), registry=None)(lambda: None)
    gone = weakref.ref(guarded)
    assert guarded in _fast._WRAPPERS
    del guarded
    gc.collect()
    assert gone() is None
