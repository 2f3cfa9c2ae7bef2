"""Consumers: what fails comes back later and later; in order, within SQS's limits, and never in a hot loop."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resilience as rs
from aws.queues import URL, FakeQueue, rejecting
from resilience.aws import sqs
from resilience.testing import VirtualClock

FLAT: dict[str, Any] = {"backoff": rs.Exponential(2, cap=1000, jitter="none")}


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Failures are logged; these tests are full of them."""
    caplog.set_level(logging.CRITICAL, logger="resilience")


class Handler:
    """Fails so many times for each body; keeps what it was given, and when."""

    def __init__(self, clock: VirtualClock, failures: dict[str, int] | None = None, takes: float = 0.0) -> None:
        self.clock = clock
        self.left = dict(failures or {})
        self.takes = takes
        self.seen: list[tuple[float, str]] = []
        self.done: list[str] = []

    def __call__(self, message: dict[str, Any]) -> None:
        body = message["Body"]
        self.seen.append((self.clock.now, body))
        self.clock.advance(self.takes)
        if self.left.get(body, 0) > 0:
            self.left[body] -= 1
            raise ValueError(body)
        self.done.append(body)


def consumer(queue: FakeQueue, handler: Callable[[dict[str, Any]], Any], **settings: Any) -> sqs.Consumer:
    return sqs.Consumer(queue, queue.url, handler, clock=queue.clock, **settings)


def bounded(queue: FakeQueue, seconds: float) -> Callable[[], bool]:
    """Stop when the queue is empty, or after so long."""
    end = queue.clock.now + seconds
    return lambda: not queue.messages or queue.clock.now > end


def test_what_fails_comes_back_after_the_delay_of_its_receive_count() -> None:
    """2, 4, 8, 16 seconds; the others are deleted the first time."""
    clock = VirtualClock()
    queue = FakeQueue(clock)
    queue.send("good", "bad")
    handler = Handler(clock, {"bad": 4})
    consumer(queue, handler, **FLAT).run(bounded(queue, 1000))
    times = [at for at, body in handler.seen if body == "bad"]
    assert [b - a for a, b in itertools.pairwise(times)] == [2, 4, 8, 16]
    assert queue.deleted == ["good", "bad"]
    assert [body for _, body in handler.seen].count("good") == 1


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=25),
    st.integers(1, 10),
    st.sampled_from([1, 3]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_every_message_of_a_fifo_queue_is_handled_in_its_order(
    work: list[tuple[str, int]], batch: int, workers: int, is_async: bool, rng: random.Random
) -> None:
    """Whatever fails how often: groups are never overtaken, and nothing is lost or handled well twice."""
    clock = VirtualClock()
    queue = FakeQueue(clock, fifo=True)
    for number, (group, _) in enumerate(work):
        queue.send(f"{group}{number}", group=group)
    handler = Handler(clock, {f"{group}{n}": failures for n, (group, failures) in enumerate(work)})
    settings = {"batch": batch, "workers": workers, "rng": rng, "backoff": rs.Exponential(2, cap=60)}
    if is_async:
        run_async(queue, handler, bounded(queue, 10_000), **settings)
    else:
        consumer(queue, handler, **settings).run(bounded(queue, 10_000))
    assert queue.messages == []
    assert sorted(handler.done) == sorted(f"{group}{n}" for n, (group, _) in enumerate(work))
    for group in "abc":
        done = [int(body[1:]) for body in handler.done if body[0] == group]
        assert done == sorted(done)


class Async:
    """The queue as an aiobotocore client sees it."""

    def __init__(self, queue: FakeQueue) -> None:
        self.queue = queue

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.queue, name)

        async def call(**parameters: Any) -> Any:
            await asyncio.sleep(0)
            return method(**parameters)

        return call


def run_async(
    queue: FakeQueue, handler: Callable[[dict[str, Any]], Any], stop: Any, **settings: Any
) -> sqs.AsyncConsumer:
    async def main() -> sqs.AsyncConsumer:
        made = sqs.AsyncConsumer(Async(queue), queue.url, handler, clock=queue.clock, **settings)
        await made.run(stop)
        return made

    return queue.clock.run(main())


@given(
    st.dictionaries(st.text("xyz", min_size=1, max_size=3), st.integers(0, 4), max_size=12),
    st.integers(1, 10),
    st.integers(0, 2**32),
)
def test_blocking_and_asyncio_do_the_same(failures: dict[str, int], batch: int, seed: int) -> None:
    """The same calls of the queue, the same counters, at the same time."""
    stories = []
    for is_async in (False, True):
        clock = VirtualClock(50.0)
        queue = FakeQueue(clock)
        queue.send(*failures)
        handler = Handler(clock, failures)
        settings = {"batch": batch, "rng": random.Random(seed)}
        if is_async:
            made: Any = run_async(queue, handler, bounded(queue, 20_000), **settings)
        else:
            made = consumer(queue, handler, **settings)
            made.run(bounded(queue, 20_000))
        seen = [(round(at, 3), body) for at, body in handler.seen]
        stories.append((queue.calls, made.counters, seen, queue.deleted))
    assert stories[0] == stories[1]
    assert stories[0][1]["handled"] == len(failures)
    assert stories[0][1]["failed"] == sum(failures.values())


def test_a_fifo_group_waits_behind_its_failure_and_is_given_back_at_once() -> None:
    """The failed one is hidden for its delay; those behind it are told 0, and other groups go on."""
    clock = VirtualClock()
    queue = FakeQueue(clock, fifo=True)
    queue.send("a1", "a2", "a3", group="a")
    queue.send("b1", group="b")
    handler = Handler(clock, {"a1": 1})
    outcome = consumer(queue, handler, **FLAT).run_once()
    assert outcome == sqs.Batch(received=4, handled=1, failed=1, untouched=2)
    assert [body for _, body in handler.seen] == ["a1", "b1"]
    assert {body: queue.find(body).delays for body in ("a1", "a2", "a3")} == {"a1": [2], "a2": [0], "a3": [0]}
    assert queue.deleted == ["b1"]


def test_the_queues_redrive_policy_has_the_last_word() -> None:
    """A message that always fails ends in the dead-letter queue after as many receives as the policy says."""
    clock = VirtualClock()
    queue = FakeQueue(clock, max_receives=3)
    queue.send("poison", "good")
    handler = Handler(clock, {"poison": 99})
    consumer(queue, handler, **FLAT).run(bounded(queue, 1000))
    assert [message.body for message in queue.dead] == ["poison"]
    assert queue.dead[0].delays == [2, 4, 8]
    assert queue.deleted == ["good"]


def test_a_rejected_message_goes_to_the_dead_letter_queue_without_waiting() -> None:
    """It is made visible at once until the redrive policy moves it."""
    clock = VirtualClock()
    queue = FakeQueue(clock, max_receives=3)
    queue.send("poison")
    consumer(queue, rejecting(), wait=0, **FLAT).run(bounded(queue, 100))
    assert [message.body for message in queue.dead] == ["poison"]
    assert queue.dead[0].delays == [0, 0, 0]
    assert clock.now <= 1
    queue = FakeQueue(clock, max_receives=3)
    queue.send("poison")
    consumer(queue, rejecting(), visibility=30, **FLAT).run_once()
    assert queue.messages[0].delays == [0]
    assert queue.calls.count("look") == 1


def test_a_rejected_message_is_no_hot_loop_where_nothing_moves_it() -> None:
    """Without a redrive policy, or without leave to read it, the backoff stays."""
    clock = VirtualClock()
    queue = FakeQueue(clock)
    queue.send("poison")
    consumer(queue, rejecting(), **FLAT).run(bounded(queue, 100))
    assert queue.find("poison").delays == [2, 4, 8, 16, 32, 64]
    queue = FakeQueue(clock, max_receives=3)
    queue.refuse["look"] = [PermissionError("AccessDenied")] * 99
    queue.send("poison")
    made = consumer(queue, rejecting(), **FLAT)
    made.run(bounded(queue, 100))
    assert queue.dead[0].delays == [2, 4, 8]
    assert made.counters["errors"] == queue.calls.count("look") <= 3


def test_a_rejected_message_is_deleted_if_the_handler_says_so() -> None:
    """And the rest of its group goes on."""
    clock = VirtualClock()
    queue = FakeQueue(clock, fifo=True)
    queue.send("a1", "a2", group="a")

    def handler(message: dict[str, Any]) -> None:
        if message["Body"] == "a1":
            raise sqs.Reject(delete=True)

    assert consumer(queue, handler).run_once() == sqs.Batch(received=2, handled=1, failed=1)
    assert queue.deleted == ["a1", "a2"]


def test_from_max_receives_on_a_failure_is_final() -> None:
    """The backoff ends there, and the redrive policy gets it sooner."""
    clock = VirtualClock()
    queue = FakeQueue(clock, max_receives=5)
    queue.send("poison")
    consumer(queue, Handler(clock, {"poison": 99}), max_receives=3, **FLAT).run(bounded(queue, 1000))
    assert queue.dead[0].delays == [2, 4, 0, 0, 0]


def test_what_an_error_asks_to_wait_is_waited_for() -> None:
    """An open circuit knows when a call has a chance again; the backoff's jitter comes on top."""
    clock = VirtualClock()
    queue = FakeQueue(clock)
    queue.send("x")

    def handler(message: dict[str, Any]) -> None:
        raise rs.CircuitOpen("open", retry_after=45.2)

    consumer(queue, handler, **FLAT).run_once()
    assert queue.find("x").delays == [48]  # 45.2 + 2, rounded up


def test_delays_end_twelve_hours_after_the_receive() -> None:
    """Also when most of that went into the handler."""
    clock = VirtualClock()
    queue = FakeQueue(clock)
    queue.send("x")
    handler = Handler(clock, {"x": 9}, takes=40_000)
    outcome = consumer(queue, handler, visibility=43_200, backoff=86_400).run_once()
    assert outcome.unsettled == 0
    assert queue.find("x").delays == [3_199]


def test_a_message_is_begun_only_with_half_of_its_time_left() -> None:
    """Serial handlers of a batch do not run into each other's visibility: it is renewed in time, done ones deleted."""
    clock = VirtualClock()
    queue = FakeQueue(clock, visibility=30)
    queue.send(*"abcdefghij")
    handler = Handler(clock, takes=12)
    outcome = consumer(queue, handler).run_once()
    assert outcome.handled == 10 - outcome.lost
    assert outcome.lost > 0  # 30 s are over by the third
    assert len(queue.deleted) == outcome.handled
    assert queue.deleted == [body for _, body in handler.seen]


def test_what_was_lost_is_handled_by_the_next_receive() -> None:
    """A batch too slow for its visibility loses nothing for good, and handles nothing twice."""
    clock = VirtualClock()
    queue = FakeQueue(clock, visibility=30)
    queue.send(*"abcdefghij")
    handler = Handler(clock, takes=12)
    consumer(queue, handler).run(bounded(queue, 3000))
    assert sorted(handler.done) == sorted("abcdefghij")
    assert queue.messages == []


def test_behind_a_lost_message_of_a_group_nothing_is_touched() -> None:
    """Their time is over too: the queue is not told of receipts that are no longer good."""
    clock = VirtualClock()
    queue = FakeQueue(clock, fifo=True, visibility=30)
    queue.send("a1", "a2", "a3", group="a")
    assert consumer(queue, Handler(clock, takes=40)).run_once() == sqs.Batch(received=3, handled=1, lost=2, unsettled=1)
    assert queue.calls == ["look", "receive", "delete"]


def test_renewing_that_fails_gives_the_message_up() -> None:
    """Rather unhandled now than twice."""
    clock = VirtualClock()
    queue = FakeQueue(clock, visibility=30)
    queue.send("a", "b", "c")
    queue.refuse["renew"] = [OSError("down")]
    made = consumer(queue, Handler(clock, takes=16))
    assert made.run_once() == sqs.Batch(received=3, handled=2, lost=1)
    assert made.counters["errors"] == 1


def test_what_is_done_is_deleted_before_a_slow_batch_ends() -> None:
    """Not each by itself where handlers are quick, but never long before the next is begun."""
    clock = VirtualClock()
    queue = FakeQueue(clock, visibility=600)
    queue.send(*"abcd")
    gone: list[list[str]] = []

    def handler(message: dict[str, Any]) -> None:
        gone.append(list(queue.deleted))
        clock.advance(0.6)

    consumer(queue, handler).run_once()
    assert gone == [[], [], [], ["a", "b", "c"]]
    assert queue.calls.count("delete") == 2


def test_entries_that_sqs_could_not_take_are_sent_again() -> None:
    """Partial failures of a batch, as long as they are not ours."""
    clock = VirtualClock()
    queue = FakeQueue(clock)
    queue.send("a", "b")
    queue.refuse["delete"] = [{"a": "InternalError"}, {"a": "InternalError"}]
    assert consumer(queue, Handler(clock)).run_once() == sqs.Batch(received=2, handled=2)
    assert queue.deleted == ["b", "a"]
    assert queue.calls.count("delete") == 3
    assert 0 < sum(clock.sleeps) < 1


def test_entries_that_sqs_never_takes_are_counted() -> None:
    """After three times; so are receipts that are no longer good, and a call that fails altogether."""
    clock = VirtualClock()
    queue = FakeQueue(clock)
    queue.send("a", "b")
    queue.refuse["delete"] = [{"a": "InternalError"}] * 3
    assert consumer(queue, Handler(clock)).run_once() == sqs.Batch(received=2, handled=2, unsettled=1)
    queue = FakeQueue(clock)
    queue.send("a")
    queue.refuse["delete"] = [OSError("down")]
    made = consumer(queue, Handler(clock))
    assert made.run_once() == sqs.Batch(received=1, handled=1, unsettled=1)
    assert made.counters["errors"] == 1
    queue = FakeQueue(clock, visibility=5)
    queue.send("slow")
    assert consumer(queue, Handler(clock, takes=6)).run_once() == sqs.Batch(received=1, handled=1, unsettled=1)
    assert queue.calls.count("delete") == 1


def test_a_queue_in_trouble_is_asked_less_and_less() -> None:
    """No hot loop: pauses grow from 1 to 30 s, and end when it answers again."""
    clock = VirtualClock()
    queue = FakeQueue(clock)
    queue.send("x")
    queue.refuse["receive"] = [OSError("down")] * 12
    handler = Handler(clock)
    made = consumer(queue, handler)
    made.run(bounded(queue, 10_000))
    assert handler.done == ["x"]
    assert made.counters["errors"] == 12
    assert 12 * 5 < clock.now < 12 * 30


def test_trouble_in_settling_slows_the_loop_as_well() -> None:
    """Whatever makes trouble, receiving or deleting."""
    clock = VirtualClock()
    queue = FakeQueue(clock, visibility=1)
    queue.send("x")
    queue.refuse["delete"] = [OSError("down")] * 8
    consumer(queue, Handler(clock)).run(bounded(queue, 10_000))
    assert queue.calls.count("receive") == 9
    assert clock.now > 8 * 5


def test_an_empty_queue_without_long_polling_is_no_hot_loop() -> None:
    """About one receive a second."""
    clock = VirtualClock()
    queue = FakeQueue(clock)
    end = clock.now + 60
    consumer(queue, Handler(clock), wait=0).run(lambda: clock.now >= end)
    assert 55 <= queue.calls.count("receive") <= 62


def test_stop_gives_back_what_was_not_begun() -> None:
    """At once, so that others can have it; what is running ends and is deleted."""
    clock = VirtualClock()
    queue = FakeQueue(clock)
    queue.send(*"abcde")
    stop = threading.Event()

    def handler(message: dict[str, Any]) -> None:
        if message["Body"] == "b":
            stop.set()

    made = consumer(queue, handler)
    made.run(stop)
    assert queue.deleted == ["a", "b"]
    assert [queue.find(body).delays for body in "cde"] == [[0], [0], [0]]
    assert made.counters["untouched"] == 3


def test_stop_ends_a_group_as_well() -> None:
    """The next of the same group is not begun either."""
    clock = VirtualClock()
    queue = FakeQueue(clock, fifo=True)
    queue.send("a1", "a2", "a3", group="a")
    handler = Handler(clock)
    consumer(queue, handler).run(lambda: bool(handler.seen))
    assert handler.done == ["a1"]
    assert [message.delays for message in queue.messages] == [[0], [0]]


def test_an_interrupt_in_one_worker_stops_the_others() -> None:
    """They end what they are at, and begin nothing more."""
    clock = VirtualClock()
    queue = FakeQueue(clock)
    queue.send(*"abcdefghij")
    seen: list[str] = []
    raising = threading.Event()

    def handler(message: dict[str, Any]) -> None:
        seen.append(message["Body"])
        if message["Body"] == "a":
            raising.wait(5)
            raise KeyboardInterrupt
        raising.set()
        time.sleep(0.2)

    with pytest.raises(KeyboardInterrupt):
        consumer(queue, handler, workers=2).run()
    assert sorted(seen) == ["a", "b"]
    assert queue.deleted == ["b"]
    assert all(message.visible_at <= clock.now for message in queue.messages)


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_gives_everything_back(workers: int, kind: type[BaseException]) -> None:
    """The message it came in too; what was done is deleted."""
    clock = VirtualClock()
    queue = FakeQueue(clock)
    queue.send(*"abcdefgh")

    def handler(message: dict[str, Any]) -> None:
        if message["Body"] == "c":
            raise kind

    with pytest.raises(kind):
        consumer(queue, handler, workers=workers).run()
    assert all(message.delays == [0] for message in queue.messages)
    assert queue.find("c").visible_at <= clock.now
    assert set(queue.deleted) >= ({"a", "b"} if workers == 1 else set())


def test_cancelling_an_async_consumer_gives_everything_back() -> None:
    """Handlers that are running are cancelled, and their messages visible at once."""
    clock = VirtualClock()
    queue = FakeQueue(clock)
    queue.send(*"abcdef")

    async def handler(message: dict[str, Any]) -> None:
        if message["Body"] != "a":
            await asyncio.sleep(1000)

    async def main() -> None:
        made = sqs.AsyncConsumer(Async(queue), queue.url, handler, workers=3, clock=clock)
        task = asyncio.create_task(made.run())
        await asyncio.sleep(5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    clock.run(main())
    assert queue.deleted == ["a"]
    assert [message.delays for message in queue.messages] == [[0]] * 5


def test_an_async_handler_that_cancels_itself_has_failed() -> None:
    """It does not end the loop, be there one worker or several."""
    for workers in (1, 3):
        clock = VirtualClock()
        queue = FakeQueue(clock)
        queue.send(*"abc")
        tries = {"b": 0}

        async def handler(message: dict[str, Any], tries: dict[str, int] = tries) -> None:
            if message["Body"] == "b":
                tries["b"] += 1
                if tries["b"] == 1:
                    raise asyncio.CancelledError

        made = run_async(queue, handler, bounded(queue, 100), workers=workers)
        assert sorted(queue.deleted) == list("abc")
        assert made.counters["failed"] == 1


def test_async_workers_run_side_by_side() -> None:
    """Four handlers of a second each take a second."""
    clock = VirtualClock()
    queue = FakeQueue(clock)
    queue.send(*"abcd")

    async def handler(message: dict[str, Any]) -> None:
        await asyncio.sleep(1)

    async def main() -> sqs.Batch:
        return await sqs.AsyncConsumer(Async(queue), queue.url, handler, workers=4, clock=clock).run_once()

    assert clock.run(main()) == sqs.Batch(received=4, handled=4)
    assert clock.now == pytest.approx(1, abs=0.01)


def test_workers_run_side_by_side_in_the_callers_context() -> None:
    """Threads meet at a barrier, see the deadline around the consumer, and are gone afterwards."""
    clock = VirtualClock()
    queue = FakeQueue(clock)
    queue.send(*"abcd")
    barrier = threading.Barrier(4)
    left: list[float | None] = []

    def handler(message: dict[str, Any]) -> None:
        barrier.wait(5)
        left.append(rs.remaining())

    before = threading.active_count()
    with rs.Deadline(9.0, clock=clock):
        assert consumer(queue, handler, workers=4).run_once().handled == 4
    assert left == [9.0] * 4
    assert threading.active_count() == before


def test_a_hook_is_told_of_each_failure() -> None:
    """With the message, the error, the count and the delay; its own errors go no further."""
    clock = VirtualClock()
    queue = FakeQueue(clock)
    queue.send("x")
    told: list[sqs.Failed] = []

    def hook(event: sqs.Failed) -> None:
        told.append(event)
        raise RuntimeError("the hook")

    consumer(queue, Handler(clock, {"x": 2}), on_error=hook, **FLAT).run(bounded(queue, 100))
    assert [(event.message["Body"], event.receives, event.delay) for event in told] == [("x", 1, 2), ("x", 2, 4)]
    assert all(isinstance(event.error, ValueError) for event in told)


def test_a_backoff_that_fails_does_not_take_the_message_along() -> None:
    """It comes back after half a minute."""
    clock = VirtualClock()
    queue = FakeQueue(clock)
    queue.send("x")
    consumer(queue, Handler(clock, {"x": 1}), backoff=lambda n: 1 / 0).run_once()
    assert queue.find("x").delays == [30]


@pytest.mark.parametrize("error", [StopIteration(), StopAsyncIteration(), TimeoutError()])
def test_any_error_of_a_handler_is_a_failure(error: Exception) -> None:
    """Also the ones that mean something to coroutines."""
    clock = VirtualClock()
    queue = FakeQueue(clock)
    queue.send("x")
    told: list[sqs.Failed] = []

    def handler(message: dict[str, Any]) -> None:
        raise error

    assert consumer(queue, handler, on_error=told.append).run_once().failed == 1
    assert told[0].error is error


def test_a_stored_batch_is_what_the_counters_add_up() -> None:
    """Each name of `Batch`, and the batches themselves; nothing of an empty receive."""
    clock = VirtualClock()
    queue = FakeQueue(clock)
    made = consumer(queue, Handler(clock, {"a": 1}), wait=0)
    assert made.run_once() == sqs.Batch()
    queue.send("a", "b")
    made.run_once()
    assert made.counters == {
        "received": 2, "handled": 1, "failed": 1, "untouched": 0, "lost": 0, "unsettled": 0, "batches": 2, "errors": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("client", object()), ("queue_url", ""), ("queue_url", 3), ("handler", "x"), ("backoff", "x"),
        ("max_receives", 0), ("batch", 0), ("batch", 11), ("wait", 21), ("wait", -1), ("wait", 1.5),
        ("visibility", 0), ("visibility", 43_201), ("workers", 0), ("on_error", 3), ("rng", 3), ("clock", 3),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused(name: str, value: Any) -> None:
    """When the consumer is made, with the argument's name."""
    clock = VirtualClock()
    settings: dict[str, Any] = {"client": FakeQueue(clock), "queue_url": URL, "handler": print, name: value}
    for kind in (sqs.Consumer, sqs.AsyncConsumer):
        with pytest.raises((rs.ConfigError, TypeError), match=name):
            kind(**settings)


def test_what_belongs_to_the_other_world_is_refused() -> None:
    """Coroutine functions, asynchronous clients, and a stop that cannot be asked."""
    clock = VirtualClock()
    queue = FakeQueue(clock)

    async def handler(message: dict[str, Any]) -> None:
        """Never called."""

    with pytest.raises(TypeError, match="AsyncConsumer"):
        consumer(queue, handler)
    made = sqs.Consumer(Async(queue), queue.url, print, clock=clock)
    with pytest.raises(rs.ConfigError, match="AsyncConsumer"):
        made.run()
    with pytest.raises(TypeError, match="stop"):
        consumer(queue, print).run(3)  # type: ignore[arg-type]


def test_a_consumer_can_be_shown_and_copied() -> None:
    """Its settings are its attributes."""
    queue = FakeQueue(VirtualClock())
    made = consumer(queue, print, batch=3)
    assert "batch=3" in repr(made)
    copy = made.replace(workers=2)
    assert (copy.batch, copy.workers, copy.client) == (3, 2, queue)
