"""Attempts that are watched beyond their timeout: late or lost? And nothing is held, leaked or reported by it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import warnings
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resilience as rs
from resilience._runtime import Asyncio, Call
from resilience._story import tell
from resilience.policies import _lingering
from resilience.testing import VirtualClock


def learned(**more: Any) -> rs.PercentileTimeout:
    """A timeout of one second, whose longest is ten."""
    return rs.PercentileTimeout(0.9, **{"between": (0.1, 10.0), "initial": 1.0, **more})


class Service:
    """Takes so long; notes how its calls ended, and when."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.ended: list[tuple[str, float]] = []
        self.running = 0

    async def __call__(self, seconds: float, error: Exception | None = None) -> str:
        how = "answered"
        self.running += 1
        try:
            await asyncio.sleep(seconds)
            if error is not None:
                how = "failed"
                raise error
        except asyncio.CancelledError:
            how = "cancelled"
            raise
        finally:
            self.running -= 1
            self.ended.append((how, round(self.clock.now, 2)))
        return "answer"


@pytest.fixture(autouse=True)
def _no_place_is_left_taken() -> Any:
    yield
    gc.collect()
    with _lingering._lock:
        taken = {watch for watch in _lingering._everywhere if not watch.gone()}
    assert not taken


def test_a_late_answer_is_a_false_timeout_and_the_caller_did_not_wait_for_it() -> None:
    """TimedOut comes on time; the attempt goes on, and its whole duration becomes a sample."""
    clock = VirtualClock()
    service, timeout = Service(clock), learned()
    policy = rs.Policy(timeout=timeout, clock=clock)

    async def main() -> None:
        with pytest.raises(rs.TimedOut, match="1 s has passed"):
            await policy.acall(service, 3.0)
        assert clock.now == pytest.approx(1.0)
        assert timeout.counters["lingering"] == 1
        assert service.ended == []
        await asyncio.sleep(5.0)

    clock.run(main())
    assert service.ended == [("answered", 3.0)]
    counters = timeout.counters
    assert (counters["timed_out"], counters["answered_late"], counters["never_answered"]) == (1, 1, 0)
    assert (counters["lingering"], counters["false_timeouts"]) == (0, 1.0)
    why = timeout.explain()
    assert (why.samples, why.censored, why.watched, why.late) == (1, 0.0, 1, 1)
    window = timeout._estimator._window
    assert [window.edge(bucket) / 1e9 for bucket in window.sums()[0]] == [pytest.approx(3.0, rel=0.03)]


def test_one_that_never_answers_is_ended_at_the_longest_timeout() -> None:
    """It counts as lost, which is no false timeout."""
    clock = VirtualClock()
    service, timeout = Service(clock), learned()
    policy = rs.Policy(timeout=timeout, clock=clock)

    async def main() -> None:
        with pytest.raises(rs.TimedOut):
            await policy.acall(service, 1e6)
        await asyncio.sleep(20.0)

    clock.run(main())
    assert service.ended == [("cancelled", 10.0)]
    counters = timeout.counters
    assert (counters["answered_late"], counters["never_answered"], counters["false_timeouts"]) == (0, 1, 0.0)


@pytest.mark.parametrize(("linger", "everywhere"), [(2, 64), (0, 64), (5, 3)])
def test_no_more_are_watched_than_allowed(linger: int, everywhere: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By one timeout, and by all of them together; the others are cancelled at once, as ever."""
    monkeypatch.setattr(rs.PercentileTimeout, "max_lingering", everywhere)
    clock = VirtualClock()
    service = Service(clock)
    timeouts = [learned(linger=linger) for _ in range(2)]
    policies = [rs.Policy(timeout=timeout, clock=clock) for timeout in timeouts]

    async def main() -> None:
        calls = [policy.acall(service, 5.0) for policy in policies for _ in range(4)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results] == [rs.TimedOut] * 8
        watched = [timeout.counters["lingering"] for timeout in timeouts]
        assert max(watched) <= linger
        assert sum(watched) == service.running == min(2 * linger, everywhere)
        await asyncio.sleep(30.0)
        assert [timeout.counters["lingering"] for timeout in timeouts] == [0, 0]

    clock.run(main())
    watched = min(2 * linger, everywhere)
    assert service.ended == [("cancelled", 1.0)] * (8 - watched) + [("answered", 5.0)] * watched


def test_it_holds_nothing_while_it_lingers() -> None:
    """Slot and permit are free as soon as the caller is told; the breaker has counted the timeout."""
    clock = VirtualClock()
    service = Service(clock)
    bulkhead, breaker = rs.Bulkhead(1), rs.CircuitBreaker(consecutive=2)
    policy = rs.Policy(timeout=learned(), bulkhead=bulkhead, breaker=breaker, clock=clock)

    async def main() -> None:
        for _ in range(2):
            with pytest.raises(rs.TimedOut):
                await policy.acall(service, 5.0)
            assert bulkhead.counters["in_use"] == 0
        assert breaker.state is rs.State.OPEN
        await asyncio.sleep(10.0)
        assert breaker.state is rs.State.OPEN  # a late answer is no success

    clock.run(main())


def test_cancelling_the_caller_cancels_the_attempt_at_once() -> None:
    """And waits until it has ended; its age is a sample that was cut off."""
    clock = VirtualClock()
    service, timeout = Service(clock), learned()
    policy = rs.Policy(timeout=timeout, clock=clock)

    async def main() -> None:
        task = asyncio.create_task(policy.acall(service, 5.0))
        await asyncio.sleep(0.5)
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await task
        assert service.ended == [("cancelled", 0.5)]
        assert timeout.counters["lingering"] == 0

    clock.run(main())
    timeout.quantile(0.5)
    assert timeout.explain().watched == 0
    assert timeout.counters["timed_out"] == 0
    assert timeout._estimator._silence.waiting == 1


@pytest.mark.parametrize("why", ["hedged", "deadline"])
def test_what_is_hedged_or_runs_into_a_deadline_does_not_linger(why: str) -> None:
    """The loser of a hedge is ended with the call; so is what the caller has no time for."""
    clock = VirtualClock()
    service, timeout = Service(clock), learned(between=(0.1, 2.5))
    hedge = rs.Hedge(0.2) if why == "hedged" else None
    policy = rs.Policy(timeout=timeout, hedge=hedge, clock=clock)

    async def main() -> None:
        outer = rs.Deadline(0.5, clock=clock) if why == "deadline" else contextlib.nullcontext()
        with pytest.raises(rs.TimedOut):
            async with outer:
                await policy.acall(service, 5.0)
        assert service.running == 0

    clock.run(main())
    assert timeout.counters["lingering"] == timeout.explain().watched == 0


def test_an_error_of_an_attempt_that_lingers_goes_nowhere() -> None:
    """No report of an exception nobody asked for; what is known is that it took longer than that."""
    clock = VirtualClock()
    service, timeout = Service(clock), learned()
    policy = rs.Policy(timeout=timeout, clock=clock)
    reports: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
        with pytest.raises(rs.TimedOut):
            await policy.acall(service, 3.0, ConnectionError("reset"))
        await asyncio.sleep(5.0)
        gc.collect()

    clock.run(main())
    assert reports == []
    assert service.ended == [("failed", 3.0)]
    assert timeout.explain().watched == 0
    assert timeout._estimator._silence.waiting == 1


@pytest.mark.parametrize("way", ["run", "close"])
def test_closing_the_loop_ends_them_without_a_word(way: str, caplog: pytest.LogCaptureFixture) -> None:
    """``asyncio.run`` cancels what still runs; a loop that is closed just so drops it. The places are free again."""
    clock = VirtualClock()
    service, timeout = Service(clock), learned(linger=1)
    policy = rs.Policy(timeout=timeout, clock=clock)
    tasks: list[weakref.ref[asyncio.Task[Any]]] = []

    async def main() -> None:
        with pytest.raises(rs.TimedOut):
            await policy.acall(service, 1e6)
        assert service.running == 1
        tasks.extend(weakref.ref(task) for task in asyncio.all_tasks() - {asyncio.current_task()})

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            if way == "run":
                clock.run(main())
            else:
                from resilience.testing import VirtualLoop

                loop = VirtualLoop(clock)
                loop.run_until_complete(main())
                loop.close()
                assert timeout._places is not None
                assert timeout._places.room()  # also before anything is collected
            gc.collect()
    assert len(tasks) == 3
    assert [task() for task in tasks] == [None] * 3
    assert service.running == 0
    assert caplog.records == []


class Telling(rs.PercentileTimeout):
    """Says when an attempt that was watched has ended."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.told = threading.Event()

    def _ended(self, watch: _lingering.Watch, how: str) -> None:
        super()._ended(watch, how)
        self.told.set()


def test_in_a_worker_thread_the_abandoned_call_is_watched() -> None:
    """It goes on anyway; how it ends is told by its thread."""
    clock = VirtualClock()
    timeout = Telling(0.9, between=(0.1, 10.0), initial=1.0, mode="thread")
    policy = rs.Policy(timeout=timeout, clock=clock)
    go = threading.Event()

    def work(fail: bool) -> None:
        go.wait(10.0)
        if fail:
            raise ConnectionError("reset")

    for fail, late in ((False, 1), (True, 1)):
        go.clear()
        with pytest.raises(rs.TimedOut):
            policy.call(work, fail)
        assert timeout.counters["lingering"] == 1
        clock.advance(2.0)
        go.set()
        assert timeout.told.wait(10.0)
        timeout.told.clear()
        counters = timeout.counters
        assert (counters["lingering"], counters["answered_late"], counters["never_answered"]) == (0, late, 0)


def test_a_thread_that_never_comes_back_is_lost_and_gives_its_place_back() -> None:
    """There is no timer; the next refresh sees it. What comes later counts nowhere."""
    clock = VirtualClock()
    timeout = learned(mode="thread", linger=1)
    policy = rs.Policy(timeout=timeout, clock=clock)
    go = threading.Event()
    with pytest.raises(rs.TimedOut):
        policy.call(go.wait, 10.0)
    clock.advance(20.0)
    timeout.timeout()
    counters = timeout.counters
    assert (counters["lingering"], counters["never_answered"], counters["abandoned"]) == (0, 1, 1)
    (job,) = timeout._abandoned
    go.set()
    assert job.done.wait(10.0)
    assert timeout.counters["abandoned"] == timeout.counters["answered_late"] == 0


def test_an_answer_after_the_longest_timeout_is_no_late_answer() -> None:
    """No timeout could have waited for it, so it is lost; also if nobody looked meanwhile."""
    clock = VirtualClock()
    timeout = Telling(0.9, between=(0.1, 10.0), initial=1.0, mode="thread")
    go = threading.Event()
    with pytest.raises(rs.TimedOut):
        rs.Policy(timeout=timeout, clock=clock).call(go.wait, 10.0)
    clock.advance(20.0)
    go.set()
    assert timeout.told.wait(10.0)
    assert (timeout.counters["answered_late"], timeout.counters["never_answered"]) == (0, 1)


def test_attempts_that_share_something_do_not_linger() -> None:
    """Calls of another kind, such as those of AWS clients, whose attempts belong to one request, are ended on time."""
    clock = VirtualClock()
    service, timeout = Service(clock), learned()
    plan = rs.Policy(timeout=timeout, clock=clock)._plan

    class Shared(Call):
        __slots__ = ()

    async def main() -> None:
        with pytest.raises(rs.TimedOut):
            await tell(plan, Asyncio(clock), Shared(service, (5.0,), {}))

    clock.run(main())
    assert service.ended == [("cancelled", 1.0)]


def test_the_other_modes_end_with_their_time() -> None:
    """A client that was handed the time stops by itself: nothing is watched."""
    clock = VirtualClock()
    timeout = learned(mode="argument")

    def get(timeout: float) -> None:
        clock.advance(timeout)
        raise TimeoutError

    with pytest.raises(TimeoutError):
        rs.Policy(timeout=timeout, clock=clock).call(get)  # type: ignore[call-arg]
    assert timeout.counters["lingering"] == 0


class Full(rs.PercentileTimeout):
    """There seems to be a place, and is none when time is up."""

    def room(self) -> bool:
        return True

    def watch(self, attempt: Any, began: int) -> None:
        return None


@given(
    takes=st.sampled_from([0.0, 0.5, 3.0]),
    ending=st.sampled_from(["answer", "ValueError", "TimeoutError", "CancelledError"]),
    on_cancel=st.sampled_from(["obey", "refuse", "linger", "fail", "time out"]),
    cancels=st.lists(st.sampled_from([0.0, 0.25, 1.0, 1.125, 1.5]), max_size=2),
)
def test_an_attempt_that_could_have_lingered_is_like_any_other(
    takes: float, ending: str, on_cancel: str, cancels: list[float]
) -> None:
    """Without a place when its time is up: the same outcome at the same time, however it takes being cancelled."""

    def outcome(timeout: rs.PercentileTimeout) -> tuple[str, float]:
        clock = VirtualClock()
        policy = rs.Policy(timeout=timeout, clock=clock)

        async def work() -> str:
            try:
                await asyncio.sleep(takes)
            except asyncio.CancelledError:
                if on_cancel == "refuse":
                    return "refused"
                if on_cancel == "linger":
                    await asyncio.sleep(0.25)
                if on_cancel == "fail":
                    raise ValueError from None
                if on_cancel == "time out":
                    raise TimeoutError from None
                raise
            if ending != "answer":
                raise {"ValueError": ValueError, "TimeoutError": TimeoutError}.get(ending, asyncio.CancelledError)
            return ending

        async def main() -> str:
            task = asyncio.create_task(policy.acall(work))
            for when in sorted(cancels):
                asyncio.get_running_loop().call_at(when, task.cancel)
            try:
                return await task
            except BaseException as error:
                return type(error).__name__

        found = clock.run(main())
        return found, round(clock.now, 3)

    settings = {"between": (0.1, 10.0), "initial": 1.0}
    assert outcome(Full(0.9, **settings)) == outcome(rs.PercentileTimeout(0.9, linger=0, **settings))  # type: ignore[arg-type]
