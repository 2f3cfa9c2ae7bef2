"""The shared limiter on real stores: both twins of its step, and its clients."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import resilience as rs
from resilience.machines.lane import Rate
from resilience.machines.shared_bucket import Ask, Reply, Scale, step
from resilience.policies._shared import BUCKET
from resilience.stores import MemoryStore, RedisStore, Store
from resilience.stores.protocol import lua
from resilience.stores.redis import script
from resilience.testing import VirtualClock
from stores import engines

START = 1_700_000_000_000_000
CLOCK = "clock[1] * 1000000 + clock[2]"


@pytest.fixture(scope="module")
def twin(redis_server: engines.Redis) -> Iterator[Any]:
    """The Lua step on a real server, at a time that is handed in; it answers the time to live, and keeps to none."""
    frame = lua("frame")
    for was, now in (
        (CLOCK, "table.remove(arguments, 1)"),
        (", 'PX', string.format('%.0f', ttl)", ""),
        ("return text(reply)", "reply[#reply + 1] = ttl\nreturn text(reply)"),
    ):
        assert was in frame
        frame = frame.replace(was, now)
    with redis_server.client() as client:
        run = client.register_script(script(BUCKET, frame))

        def step(now: int, ask: Ask) -> tuple[int, ...]:
            reply: Any = run(["twin"], [" ".join(map(str, (now, *ask)))])
            return tuple(map(int, reply.split()))

        step.client = client  # type: ignore[attr-defined]
        yield step


SCALES = st.builds(
    lambda rate, burst: Scale.of(Rate(rate, burst=burst)),
    st.sampled_from([1, 3, 0.1, 250, 33.3, 1e6, 10**9]),
    st.sampled_from([1, 2, 7, 100, 100_000]),
) | st.just(Scale(1000, 0, 10))
ASKS = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 0, 1]),  # op
        st.integers(0, 9) | st.integers(0, 120_000),  # n
        st.sampled_from([0, 1000, 10**6, 4 * 10**15]),  # most
        st.integers(0, 60),  # batch
        st.sampled_from([0, 3, 10**5, 10**6]),  # lease
        st.integers(0, 40),  # spent
        st.integers(0, 40),  # unspent
        st.integers(-2, 7),  # which slot, of those seen
        st.sampled_from([0, 0, 1, 1500]),  # gift
        st.integers(-1000, 10**6) | st.integers(0, 3) | st.just(10**12),  # time that passes
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(SCALES, SCALES, ASKS)
def test_both_twins_do_the_same(twin: Any, scale: Scale, other: Scale, asks: list[tuple[int, ...]]) -> None:
    """After any history, Lua's reply and what it stored are those of the machine; also when the rate is changed."""
    twin.client.delete("twin")
    state: tuple[int, ...] = ()
    now, ends, seen = START, 0, [0]
    for i, (op, n, most, batch, lease, spent, unspent, which, gift, passed) in enumerate(asks):
        now += passed
        if now >= ends:
            state = ()
            twin.client.delete("twin")
        slot = seen[which % len(seen)]
        ask = Ask(op, *(scale if i < 15 else other), n, most, batch, lease, spent, unspent, slot, gift)
        after, ttl, reply = step(state, now, tuple(ask))
        assert twin(now, ask) == (*reply, ttl)
        if after is not None:
            state, ends = after, now + 1000 * ttl
        stored = twin.client.get("twin")
        assert tuple(map(int, stored.split())) == state if state else stored is None
        seen += [reply[3], reply[5] + reply[1]]


def test_a_reply_of_the_largest_numbers_is_exact(twin: Any) -> None:
    """Near 2**52 nothing is rounded: what Lua reckons in doubles is what Python reckons in integers."""
    scale = Scale(2**32 - 5, 2**20 - 3, 2**20 - 1)
    twin.client.delete("twin")
    state: tuple[int, ...] = ()
    for passed, n in ((0, 2**20 - 1), (7, 1), (2**31, 3), (10**12 + 1, 2**20 - 1), (1, 1)):
        ask = Ask(0, *scale, n=n, most=10**9, batch=2**19, lease=10**6)
        after, _, reply = step(state, START + passed, tuple(ask))
        state = state if after is None else after
        assert twin(START + passed, ask)[:-1] == reply


# -- clients -----------------------------------------------------------------------------------------------------------


def test_two_clients_share_one_bucket(store: Store) -> None:
    """What one takes the other does not get."""
    one, two = (rs.TokenBucket(0.01, burst=4, store=store, key="a") for _ in range(2))
    assert [bucket.try_acquire() for bucket in (one, two, one, two, one, two)] == [True] * 4 + [False] * 2
    assert rs.TokenBucket(0.01, burst=4, store=store, key="b").try_acquire()


def test_it_can_be_asked_under_asyncio(store: Store) -> None:
    """Coroutines take from the same bucket; event loops may come and go."""
    bucket = rs.TokenBucket(0.01, burst=3, store=store, key="a", max_wait=0)

    async def one() -> str:
        async def fetch() -> str:
            return "fetched"

        try:
            return await rs.Policy(limiter=bucket).acall(fetch)
        except rs.RateLimited:
            return "refused"
        finally:
            await bucket.aclose()
            await store.aclose()

    assert [asyncio.run(one()) for _ in range(4)] == ["fetched"] * 3 + ["refused"]


def test_a_call_waits_for_a_token_of_the_store(store: Store) -> None:
    """In a policy, a call waits as with a local bucket, and is refused with the time to come back."""
    bucket = rs.TokenBucket(20, store=store, key="a", max_wait=0.2, lease=0)
    assert bucket.acquire() == 0.0
    assert 0.03 < bucket.acquire() < 0.15
    assert bucket.counters["waited"] == 1
    slow = rs.TokenBucket(0.1, store=store, key="b", max_wait=1)
    slow.acquire()
    with pytest.raises(rs.RateLimited, match=r"over 0\.1 per 1 s") as refused:
        rs.Policy(limiter=slow).call(lambda: 0)
    assert refused.value.retry_after == pytest.approx(10, abs=1)


def test_shadow_lets_everyone_pass_and_counts(store: Store) -> None:
    """Who would have been refused passes, and is counted."""
    bucket = rs.TokenBucket(0.01, store=store, key="a", shadow=True)
    assert [rs.Policy(limiter=bucket).call(lambda: 0) for _ in range(3)] == [0, 0, 0]
    assert bucket.counters["shadow"] == 2


def test_each_key_has_its_own_bucket(store: Store) -> None:
    """Keys share nothing, 1 and "1" and True are three, and what is in a key cannot reach another bucket."""
    family = rs.KeyedTokenBucket(0.01, store=store, name="users", key=lambda user: user, max_wait=0)
    keys: list[Any] = [
        1,
        "1",
        True,
        None,
        b"1",
        ("1",),
        ("1", 2),
        "",
        "a/b",
        ("a", "b"),
        "x}:bucket:1",
        "{y}",
        "é",
        "*",
    ]
    assert all(family.try_acquire(key) for key in keys)
    assert not any(family.try_acquire(key) for key in keys)
    assert len({entry.key for entry in store.survey()}) == len(keys)
    policy = rs.Policy(limiter=family)
    assert policy.call(lambda user: user, "new") == "new"
    with pytest.raises(rs.RateLimited, match="key 'new'"):
        policy.call(lambda user: user, "new")
    with pytest.raises(TypeError, match="shared between processes"):
        family.try_acquire(1.5)


def test_tokens_and_wait_time_take_nothing(store: Store) -> None:
    """Looking changes nothing, and is near the truth."""
    bucket = rs.TokenBucket(0.5, burst=3, store=store, key="a")
    assert [bucket.tokens, bucket.tokens] == [3, 3]
    bucket.try_acquire(2)
    assert bucket.tokens == 1
    assert bucket.wait_time() == 0.0
    assert 1 < bucket.wait_time(2) <= 2


def test_a_reservation_is_waited_for_by_its_caller_and_can_be_given_back(store: Store) -> None:
    """The last in the line can leave it; its tokens can be had by the next."""
    bucket = rs.TokenBucket(0.5, store=store, key="a", lease=0)
    now, later = bucket.reserve(), bucket.reserve()
    assert now.delay == 0.0 and not now.cancel()
    assert 1.5 < later.wait <= later.delay + 0.001
    assert "wait" in repr(later)
    assert later.cancel() and not later.cancel()
    assert "cancelled" in repr(later)
    with pytest.raises(rs.RateLimited, match="cancelled"):
        later.wait  # noqa: B018
    assert bucket.reserve().delay < 2.1
    with pytest.raises(rs.RateLimited):
        bucket.reserve(timeout=1)


def test_a_waiting_task_that_is_cancelled_leaves_the_line(redis_store: RedisStore) -> None:
    """Cancellation gives the place back, if nobody stands behind."""
    bucket = rs.TokenBucket(1, store=redis_store, key="a", lease=0)

    async def main() -> None:
        await bucket.aacquire()
        task = asyncio.create_task(bucket.aacquire())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await redis_store.aclose()

    asyncio.run(main())
    assert bucket.wait_time() <= 1.0


def test_a_busy_client_leases_and_gives_back_when_closed(redis_store: RedisStore) -> None:
    """After a few exchanges most tokens come without one; what is left comes back with ``close``."""
    bucket = rs.TokenBucket(100, burst=10_000, store=redis_store, key="a", lease=30)
    asked = 0
    exchange = redis_store.exchange

    def counted(*args: Any) -> Any:
        nonlocal asked
        asked += 1
        return exchange(*args)

    redis_store.exchange = counted  # type: ignore[assignment,method-assign]
    assert all(bucket.try_acquire() for _ in range(2000))
    assert asked < 100
    held = bucket.counters["tokens"]
    assert held > 0
    other = rs.TokenBucket(100, burst=10_000, store=redis_store, key="a")
    before = other.tokens
    bucket.close()
    assert other.tokens >= before + held
    bucket.close()


def test_a_burst_of_one_is_never_leased(redis_store: RedisStore) -> None:
    """There is nothing to share out: each token is asked for."""
    bucket = rs.TokenBucket(10_000, store=redis_store, key="a")
    for _ in range(200):
        bucket.try_acquire()
    assert bucket.counters["tokens"] == 0


def test_a_lease_is_not_spent_after_its_end() -> None:
    """Tokens that were leased too long ago are asked for anew, and the store takes them for spent."""
    clock = VirtualClock()
    store = MemoryStore(clock=clock)
    bucket = rs.TokenBucket(1, burst=1000, store=store, key="a", clock=clock)
    for _ in range(20):
        assert bucket.try_acquire()
        clock.sleep(0.01)
    held = bucket.counters["tokens"]
    assert held > 0
    clock.sleep(0.99)
    assert bucket.counters["tokens"] == 0
    assert bucket.tokens <= 1000 - 20 - held + 2


def test_who_is_refused_need_not_ask_again_at_once(redis_store: RedisStore) -> None:
    """A refusal is remembered for a moment: a crowd that hammers an empty bucket does not hammer the store."""
    bucket = rs.TokenBucket(0.1, store=redis_store, key="a")
    assert bucket.try_acquire() and not bucket.try_acquire()
    redis_store.exchange = None  # type: ignore[method-assign,assignment]
    assert not bucket.try_acquire()


def test_more_tokens_than_leases_leave_room_for_are_waited_for(redis_store: RedisStore) -> None:
    """A request for the whole burst waits until what others leased has expired."""
    leasing = rs.TokenBucket(10_000, burst=100, store=redis_store, key="a", lease=0.2)
    ask = Ask(0, *Scale.of(leasing._rate), batch=50, lease=200_000)
    redis_store.exchange("a", BUCKET, ask)
    assert 0.0 < leasing.acquire(100, timeout=5) < 1.0


def test_the_share_of_a_client_is_its_part_in_what_all_spent() -> None:
    """Two clients, one three times as busy as the other, know their shares after some seconds."""
    clock = VirtualClock()
    store = MemoryStore(clock=clock)
    busy, calm = (rs.TokenBucket(1000, burst=1000, store=store, key="a", clock=clock) for _ in range(2))
    for _ in range(1000):
        assert all(busy.try_acquire() for _ in range(3))
        assert calm.try_acquire()
        clock.sleep(0.01)
    shares = [bucket._shared._lease.share for bucket in (busy, calm)]  # type: ignore[union-attr]
    assert shares == pytest.approx([0.75, 0.25], abs=0.1)


def test_bad_requests_are_refused_as_without_a_store() -> None:
    """More than the burst, none at all, and a negative timeout are errors of the caller."""
    bucket = rs.TokenBucket(1, burst=2, store=MemoryStore(), key="a")
    for n in (0, 3):
        with pytest.raises(ValueError, match="n "):
            bucket.try_acquire(n)
    with pytest.raises(ValueError, match="timeout"):
        bucket.acquire(timeout=-1)


def test_what_is_stored_is_not_read_by_another_type(redis_store: RedisStore, redis_server: engines.Redis) -> None:
    """A key of another program's in the place is an error of the store, so the local policy decides."""
    with redis_server.client() as client:
        client.hset(f"{redis_store.prefix}:{{a}}:bucket:1", "x", "y")
        assert isinstance(client, redis.Redis)
    assert rs.TokenBucket(1, store=redis_store, key="a").try_acquire()
    assert not rs.TokenBucket(1, store=redis_store, key="a", on_store_failure="closed").try_acquire()


def test_a_reply_has_names() -> None:
    """The reply of the machine is what the client reads."""
    assert len(step((), START, tuple(Ask(0, 1, 1, 1)))[2]) == len(Reply._fields)
