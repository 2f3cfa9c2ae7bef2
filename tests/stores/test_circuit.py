"""The shared breaker on real stores: both twins of its step, its clients, and what they do when the store fails."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import resilience as rs
from resilience.events import CircuitChanged
from resilience.machines.shared_circuit import CLOSED, FORCED_OPEN, Ask, Reply, step
from resilience.stores import MemoryStore, RedisStore, Store, Transition, safe_key
from resilience.stores.protocol import lua
from resilience.stores.redis import script
from resilience.stores.transitions import CIRCUIT
from resilience.testing import VirtualClock
from stores import engines
from stores.wire import Proxy

START = 1_700_000_000_000_000
TIMEOUT = 0.05
GRACE = 0.5
"""Seconds for a machine that is busy with other tests; what the wire is made to do would take longer."""

Run = Callable[[rs.CircuitBreaker, Callable[[], object]], object]


# -- twins -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def twin(redis_server: engines.Redis) -> Iterator[Any]:
    """The Lua step on a real server, at a time that is handed in; it answers the time to live, and keeps to none."""
    frame = lua("frame")
    for was, now in (
        ("clock[1] * 1000000 + clock[2]", "table.remove(arguments, 1)"),
        (", 'PX', string.format('%.0f', ttl)", ""),
        ("return text(reply)", "reply[#reply + 1] = ttl\nreturn text(reply)"),
    ):
        assert was in frame
        frame = frame.replace(was, now)
    with redis_server.client() as client:
        run = client.register_script(script(CIRCUIT, frame))

        def step(now: int, ask: Ask) -> tuple[int, ...]:
            reply: Any = run(["circuit-twin"], [" ".join(map(str, (now, *ask)))])
            return tuple(map(int, reply.split()))

        step.client = client  # type: ignore[attr-defined]
        yield step


COUNTS = st.integers(0, 9) | st.just(2**29)
ASKS = st.lists(
    st.tuples(
        st.integers(0, 2) | st.just(10**6) | st.just(40 * 10**6),  # time that passes
        st.integers(-2, 0),  # how old the client's knowledge is
        st.builds(
            Ask,
            state=st.sampled_from([0, 0, 0, 1, 2, 3, 4]),
            by_hand=st.sampled_from([0, 0, 0, 0, 1]),
            wait=st.sampled_from([0, 2, 10**6]),
            total=COUNTS,
            failures=COUNTS,
            slow=COUNTS,
            minimum=st.sampled_from([1, 10, 10**9]),
            failure_rate=st.sampled_from([0, 333_333, 500_000, 10**6]),
            slow_rate=st.sampled_from([0, 500_000]),
            width=st.sampled_from([3, 10**6, 10**6]),
            first=st.just(5),
            again=st.just(10**6),
            probes=st.integers(1, 2),
            lease=st.sampled_from([1, 10**6]),
            wanted=st.sampled_from([0, 1, 2, 2**52]),
            number=st.sampled_from([0, 1, 2, 2**52]),
            verdict=st.integers(0, 3),
        ),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(ASKS)
def test_both_twins_do_the_same(twin: Any, asks: list[tuple[int, int, Ask]]) -> None:
    """After any history, Lua's reply, what it stored and for how long are those of the machine."""
    twin.client.delete("circuit-twin")
    state: tuple[int, ...] = ()
    now, known = START, 0
    for passed, lag, wish in asks:
        now += passed
        ask = wish._replace(generation=known and known + lag)
        after, ttl, reply = step(state, now, tuple(ask))
        assert twin(now, ask) == (*reply, ttl)
        state = after or state
        known = Reply(*reply).generation
        assert tuple(map(int, twin.client.get("circuit-twin").split())) == state


# -- clients -----------------------------------------------------------------------------------------------------------


def good() -> str:
    return "done"


def bad() -> str:
    raise OSError("down")


def blocking(breaker: rs.CircuitBreaker, fn: Callable[[], object]) -> object:
    """The result of a call, or the class of its error."""
    try:
        return breaker.call(fn)
    except (OSError, rs.CircuitOpen) as error:
        return type(error)


def decorated(breaker: rs.CircuitBreaker, fn: Callable[[], object]) -> object:
    """The same by the short way."""
    try:
        return breaker(fn)()
    except (OSError, rs.CircuitOpen) as error:
        return type(error)


def by_block(breaker: rs.CircuitBreaker, fn: Callable[[], object]) -> object:
    """The same by a block."""
    try:
        with breaker:
            return fn()
    except (OSError, rs.CircuitOpen) as error:
        return type(error)


def in_task(breaker: rs.CircuitBreaker, fn: Callable[[], object]) -> object:
    """The same in an event loop of its own."""

    async def call() -> object:
        return fn()

    async def main() -> object:
        try:
            return await breaker.acall(call)
        except (OSError, rs.CircuitOpen) as error:
            return type(error)
        finally:
            assert breaker.store is not None
            await breaker.store.aclose()

    return asyncio.run(main())


def in_async_block(breaker: rs.CircuitBreaker, fn: Callable[[], object]) -> object:
    """The same by a block in an event loop."""

    async def main() -> object:
        try:
            async with breaker:
                return fn()
        except (OSError, rs.CircuitOpen) as error:
            return type(error)
        finally:
            assert breaker.store is not None
            await breaker.store.aclose()

    return asyncio.run(main())


WAYS = [blocking, decorated, by_block, in_task, in_async_block]


def breaker(store: Store, **changes: Any) -> rs.CircuitBreaker:
    given: dict[str, Any] = {
        "minimum": 4, "probes": 1, "open_for": 0.2, "jitter": 0.0, "key": "a", "sync_every": 0.01, "store": store,
    }  # fmt: skip
    return rs.CircuitBreaker(**{**given, **changes})


def virtual(count: int, **changes: Any) -> tuple[VirtualClock, list[rs.CircuitBreaker]]:
    """So many clients of one store in memory, on a clock of their own."""
    clock = VirtualClock()
    store = MemoryStore(clock=clock)
    return clock, [breaker(store, clock=clock, **changes) for _ in range(count)]


def trip(client: rs.CircuitBreaker, run: Run = blocking) -> None:
    """Let calls fail until one is refused."""
    for _ in range(50):
        if run(client, bad) is rs.CircuitOpen:
            return
    pytest.fail("it does not open")


@pytest.mark.parametrize("run", WAYS)
def test_a_trip_of_one_opens_all_and_a_probe_of_one_closes_all(store: Store, run: Run) -> None:
    """Whatever way calls are made, on every engine."""
    for open_for in (0.2, 1.0, 5.0):  # a machine that is too busy for the first gets another
        one, two = (breaker(store, open_for=open_for, max_open=open_for, key=f"a{open_for}") for _ in range(2))
        assert run(two, good) == "done"
        began = time.monotonic()
        trip(one, run)
        time.sleep(0.02)
        answer = run(two, good)
        if time.monotonic() - began < open_for:
            break
    assert answer is rs.CircuitOpen
    time.sleep(open_for)
    assert run(two, good) == "done"
    assert two.state is rs.State.CLOSED
    time.sleep(0.02)
    assert run(one, good) == "done"
    assert one.state is rs.State.CLOSED


def test_all_know_within_sync_every_of_the_trip() -> None:
    """The stated time: a client's first call that begins so long after the trip, or later, is refused."""
    clock, clients = virtual(5, sync_every=0.5, open_for=60)
    for client in clients:
        blocking(client, good)
        clock.advance(0.07)
    trip(clients[0])
    clock.advance(0.5)
    assert [blocking(client, good) for client in clients] == [rs.CircuitOpen] * 5


def test_what_a_client_knows_is_as_old_as_its_question() -> None:
    """A reply that was long on its way, or not looked at, does not put off the next question."""
    clock = VirtualClock()
    slow = Slow(clock=clock)
    one, two = (breaker(slow, clock=clock, sync_every=0.5, open_for=60) for _ in range(2))
    slow.answers = lambda: clock.advance(0.3)
    assert blocking(two, good) == "done"
    slow.answers = lambda: None
    trip(one)
    clock.advance(0.2)
    assert blocking(two, good) is rs.CircuitOpen


class Slow(MemoryStore):
    """Its answers take what ``answers`` does with the time."""

    answers: Callable[[], None] = staticmethod(lambda: None)

    def exchange(self, key: str, transition: Transition, arguments: tuple[int, ...]) -> tuple[int, ...]:
        reply = super().exchange(key, transition, arguments)
        self.answers()
        return reply


def test_failures_of_many_add_up() -> None:
    """Four clients with two calls each have together seen the eight that are needed."""
    clock, clients = virtual(4, minimum=8)
    for client in clients:
        blocking(client, good)
    for client in clients:
        assert blocking(client, bad) is OSError
    clock.advance(0.01)
    assert [blocking(client, good) for client in clients[:3]] == ["done"] * 3  # each tells of its failure
    assert [blocking(client, good) for client in clients[::-1]] == [rs.CircuitOpen, "done", "done", "done"]
    clock.advance(0.01)
    assert [blocking(client, good) for client in clients] == [rs.CircuitOpen] * 4
    assert clients[0].snapshot.failures == 4


def test_one_sick_client_is_not_the_fleet() -> None:
    """All of its calls fail and those of the others go well: the circuit stays closed, for it too."""
    clock, (sick, well) = virtual(2, sync_every=0.1)
    for _ in range(200):
        blocking(well, good)
        clock.advance(0.01)
    for _ in range(50):
        assert blocking(sick, bad) is OSError
        assert blocking(well, good) == "done"
        clock.advance(0.01)
    assert (sick.snapshot.total, sick.counters["window_total"]) != (0, 0)
    assert sick.snapshot.total > 2 * sick.counters["window_total"]


def test_a_run_of_failures_at_one_opens_all() -> None:
    """``consecutive`` is weighed by each client, and counts for all."""
    clock, (one, two) = virtual(2, consecutive=3, failure_rate=None, open_for=10)
    for _ in range(3):
        blocking(two, good)
        assert blocking(one, bad) is OSError
    clock.advance(0.01)
    assert [blocking(client, good) for client in (one, two)] == [rs.CircuitOpen] * 2


def test_while_one_probes_nobody_else_does() -> None:
    """In any client, also the prober's own; a cancelled probe gives the place back."""
    clock, (one, two) = virtual(2)
    trip(one)
    clock.advance(0.2)
    inside: list[object] = []

    def probe() -> None:
        for client in (one, two, two):
            inside.append(blocking(client, good))
            clock.advance(0.01)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one.call(probe)
    assert inside == [rs.CircuitOpen] * 3
    blocking(one, good)  # it is given back by the next call
    clock.advance(0.01)
    assert one.state is rs.State.HALF_OPEN
    assert [blocking(two, good), two.state] == ["done", rs.State.CLOSED]


def test_a_prober_that_is_gone_blocks_nobody_for_longer_than_its_lease() -> None:
    """After ``probe_timeout`` another one probes, and what the first one reports then changes nothing."""
    clock, (one, two) = virtual(2, probe_timeout=1.0)
    trip(one)
    clock.advance(0.2)
    attempt = one._alone()._plan  # its call never ends: the ticket is kept and not settled
    from resilience._runtime import Blocking, drive
    from resilience._story import enter

    ticket = drive(enter(attempt, Blocking(clock), None, None))
    clock.advance(0.99)
    assert blocking(two, good) is rs.CircuitOpen
    clock.advance(0.02)
    assert blocking(two, good) == "done"
    assert two.state is rs.State.CLOSED
    ticket.start(None, 0)
    ticket.fail(OSError())
    clock.advance(0.01)
    assert [blocking(client, good) for client in (one, two)] == ["done"] * 2


def test_open_times_grow_for_all_and_begin_anew_after_a_healthy_window() -> None:
    """Whoever probes in vain makes the next open time longer for everybody."""
    clock, (one, two) = virtual(2, open_for=1.0, window_seconds=2)
    trip(one)
    for client, seconds in ((two, 1.0), (one, 2.0), (two, 4.0)):
        clock.advance(0.01)
        blocking(client, good)
        assert client.snapshot.retry_after == pytest.approx(seconds - 0.01)
        clock.advance(seconds)
        assert blocking(client, bad) is OSError
    clock.advance(8.0)
    assert blocking(one, good) == "done"
    clock.advance(2.1)
    blocking(one, good)
    trip(one)
    assert one.snapshot.retry_after == pytest.approx(1.0)


@pytest.mark.parametrize("verb", ["force_open", "disable", "trip"])
def test_steering_one_steers_all(store: Store, verb: str) -> None:
    """At once in the store, and for each client at its next exchange; ``reset`` undoes it for all."""
    one, two = breaker(store, open_for=60), breaker(store, open_for=60)
    blocking(two, good)
    getattr(one, verb)()
    time.sleep(0.02)
    assert blocking(two, good) == ("done" if verb == "disable" else rs.CircuitOpen)
    assert two.state is one.state is not rs.State.CLOSED
    two.reset()
    time.sleep(0.02)
    assert blocking(one, good) == "done"
    assert one.state is two.state is rs.State.CLOSED


def test_each_client_tells_its_listeners_of_the_fleets_changes() -> None:
    """By the arrows of the diagram, so that what listens to a breaker of its own need not change."""
    clock, (one, two) = virtual(2)
    told: list[tuple[str, str]] = []
    blocking(two, good)
    with rs.listen(lambda event: told.append((event.data()["old"], event.data()["new"])), CircuitChanged):
        trip(one)
        clock.advance(0.2)
        assert blocking(one, good) == "done"
        told.clear()
        two.reset()  # it had not noticed any of it
        assert told == []
        one.force_open()
        clock.advance(0.01)
        blocking(two, good)
    assert told == [("closed", "forced_open")] * 2


def test_each_key_of_a_family_has_a_circuit_of_its_own() -> None:
    """What is down for one shard is down for that shard in every client, and for no other."""
    clock = VirtualClock()
    store = MemoryStore(clock=clock)
    families = [rs.PerKey(breaker(store, clock=clock), key=lambda shard: shard) for _ in range(2)]
    blocking(families[1]["b"], good)
    trip(families[0]["a"])
    clock.advance(0.02)
    assert blocking(families[1]["a"], good) is rs.CircuitOpen
    assert blocking(families[1]["b"], good) == "done"


# -- when the store fails -------------------------------------------------------------------------------------------


def test_without_a_store_each_is_on_its_own_and_with_it_they_agree_again(own_redis: engines.Redis, prefix: str) -> None:
    """A dead store fails no call; a client that opened alone meanwhile opens all when it is back, empty or not."""
    with RedisStore(own_redis.url, prefix=prefix, timeout=TIMEOUT) as store:
        one, two = breaker(store, open_for=60), breaker(store, open_for=60)
        assert [blocking(client, good) for client in (one, two)] == ["done"] * 2
        own_redis.kill()
        until = time.monotonic() + 5
        while not store.degraded and time.monotonic() < until:
            assert blocking(two, good) == "done"
            time.sleep(0.005)
        for _ in range(3):
            time.sleep(0.011)
            assert blocking(two, good) == "done"
            blocking(one, bad)
        trip(one)
        assert blocking(two, good) == "done"
        own_redis.start()
        until = time.monotonic() + 10
        while blocking(two, good) == "done" and time.monotonic() < until:
            blocking(one, good)
            time.sleep(0.01)
        assert blocking(two, good) is rs.CircuitOpen


def test_after_a_flush_those_who_are_open_say_so(own_redis: engines.Redis, prefix: str) -> None:
    """FLUSHALL closes the circuit of nobody who knows better, and the others hear of it."""
    with RedisStore(own_redis.url, prefix=prefix, timeout=1.0) as store, own_redis.client() as client:
        one, two = breaker(store, open_for=60), breaker(store, open_for=60)
        blocking(two, good)
        trip(one)
        client.flushall()
        time.sleep(0.02)
        assert blocking(two, good) == "done"  # it asks first, and nobody knows better yet
        assert blocking(one, good) is rs.CircuitOpen
        time.sleep(0.02)
        assert blocking(two, good) is rs.CircuitOpen


@pytest.mark.parametrize("run", [blocking, in_task])
@pytest.mark.parametrize("way", ["delay", "dribble", "mute", "cut", "refuse"])
def test_no_call_fails_or_waits_because_of_the_wire(
    redis_server: engines.Redis, prefix: str, way: str, run: Run
) -> None:
    """Whatever happens to the bytes, all calls pass; a few wait for one timeout, the rest not at all."""
    with Proxy(redis_server.port) as proxy, RedisStore(proxy.redis, prefix=prefix, timeout=TIMEOUT) as store:
        client = breaker(store, sync_every=0.1)
        assert run(client, good) == "done"
        proxy.way = way
        took = []
        for _ in range(60):
            began = time.monotonic()
            assert run(client, good) == "done"
            took.append(time.monotonic() - began)
            time.sleep(0.01)
        assert max(took) < TIMEOUT + GRACE
        assert sum(seconds > 0.9 * TIMEOUT for seconds in took) <= 8
        assert store.degraded


def test_threads_of_a_paused_server_wait_for_one_timeout_at_most(own_redis: engines.Redis, prefix: str) -> None:
    """Only one of them tries the store; the others go by what is known."""
    with RedisStore(own_redis.url, prefix=prefix, timeout=0.5) as store:
        client = breaker(store)
        blocking(client, good)
        waited: list[float] = []

        line = threading.Barrier(20)

        def call() -> None:
            line.wait()
            began = time.monotonic()
            assert blocking(client, good) == "done"
            waited.append(time.monotonic() - began)

        with own_redis.paused():
            time.sleep(0.02)
            threads = [threading.Thread(target=call) for _ in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert max(waited) < 0.5 + GRACE
        assert sum(seconds > 0.4 for seconds in waited) == 1


def test_what_was_steered_while_the_store_was_down_is_told_when_it_is_back(
    own_redis: engines.Redis, prefix: str
) -> None:
    """An operator's word is not lost."""
    with RedisStore(own_redis.url, prefix=prefix, timeout=TIMEOUT) as store:
        one, two = breaker(store), breaker(store)
        blocking(one, good)
        own_redis.kill()
        one.force_open()
        assert one.state is rs.State.FORCED_OPEN
        own_redis.start()
        until = time.monotonic() + 10
        while two.state is not rs.State.FORCED_OPEN and time.monotonic() < until:
            blocking(one, good)
            blocking(two, good)
            time.sleep(0.01)
        assert two.state is rs.State.FORCED_OPEN


def test_a_child_process_has_not_the_lease_of_its_parent() -> None:
    """After a fork the parent's probe is the parent's to report."""
    clock, (one,) = virtual(1)
    trip(one)
    clock.advance(0.2)

    def fork() -> int:
        child = os.fork()
        if child == 0:
            shared = one.shared
            assert shared is not None
            os._exit(0 if shared._probe is None and shared.due == 0 else 1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert one.call(fork) == 0
    assert one.state is rs.State.CLOSED


def test_what_is_exchanged_has_names() -> None:
    """An operator's exchange is one of the same kind as a client's."""
    store = MemoryStore()
    assert Reply(*store.exchange(safe_key("a"), CIRCUIT, Ask(state=FORCED_OPEN, by_hand=1))).state == FORCED_OPEN
    assert Reply(*store.exchange(safe_key("a"), CIRCUIT, Ask(by_hand=1))).state == CLOSED
