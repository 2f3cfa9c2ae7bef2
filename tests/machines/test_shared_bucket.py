"""The bucket that many share: `resilience.machines.shared_bucket`, driven by clients that spend, die and come late."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilience.errors import ConfigError
from resilience.machines.lane import Rate
from resilience.machines.shared_bucket import ACQUIRE, CANCEL, KEEP_MS, SLOTS, Ask, Reply, Scale, step

SECOND = 1_000_000
SCALES = st.sampled_from([
    Scale.of(Rate(rate, burst=burst))
    for rate in (1000, 3, 7.5, Fraction(1000, 7))
    for burst in (1, 2, 5, 40)
])  # fmt: skip


@dataclass
class Lease:
    left: int
    slot: int
    ends: int
    spent: int = 0


@dataclass
class World:
    """A bucket, its clients, and every token that was ever spent, with its moment."""

    scale: Scale
    lease: int = SECOND
    now: int = 1_700_000_000 * SECOND
    state: tuple[int, ...] = ()
    expires: int = 0
    leases: dict[int, Lease] = field(default_factory=dict)
    promises: list[tuple[int, int]] = field(default_factory=list)
    spent: list[tuple[int, int]] = field(default_factory=list)

    def ask(self, **wishes: int) -> Reply:
        """One exchange, on a store that forgets what has expired."""
        if self.now >= self.expires:
            self.state = ()
        ask = Ask(wishes.pop("op", ACQUIRE), *self.scale, **wishes)
        after, ttl, reply = step(self.state, self.now, tuple(ask))
        if after is not None:
            self.state, self.expires = after, self.now + ttl * 1000
        return Reply(*reply)

    def exchange(self, who: int, n: int, most: int, batch: int, used: bool) -> Reply:
        """A client settles its lease (or, if it died, does not), asks for tokens, and gets another."""
        old = self.leases.pop(who, None)
        if old is None or not used:
            old = Lease(0, 0, 0)
        reply = self.ask(
            n=n, most=most, batch=batch, lease=self.lease, spent=old.spent, unspent=old.left, slot=old.slot
        )
        if reply.granted and n:
            if reply.wait:
                self.promises.append((self.now + reply.wait, n))
            else:
                self.spent.append((self.now, n))
        if reply.leased:
            self.leases[who] = Lease(reply.leased, reply.slot, self.now + self.lease)
        return reply

    def spend(self, who: int) -> None:
        """A client spends one of its own, if its lease lasts."""
        lease = self.leases.get(who)
        if lease is not None and lease.left and self.now < lease.ends:
            lease.left -= 1
            lease.spent += 1
            self.spent.append((self.now, 1))

    def cancel(self, which: int) -> None:
        """Somebody who waits gives up."""
        if self.promises:
            due, n = promise = self.promises[which % len(self.promises)]
            if due > self.now:
                self.promises.remove(promise)
                self.ask(op=CANCEL, n=n, slot=due)

    def check(self) -> None:
        """In no window were more than ``burst + rate * t`` spent: a plain bucket would have let all of it pass.

        The moments of promises are whole microseconds, so with promises it is ``t + 1`` microseconds.
        """
        unit, fill, burst = self.scale
        full = burst * unit + (fill if self.promises else 0)
        level, last = full, None
        for at, n in sorted(self.spent + self.promises):
            if last is not None:
                level = min(full, level + (at - last) * fill)
            level, last = level - n * unit, at
            assert level >= 0, (at, n, level)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(0, 2_000_000)),
        st.tuples(st.just("wait"), st.integers(0, 3000)),
        st.tuples(st.just("spend"), st.integers(0, 3), st.integers(1, 9)),
        st.tuples(
            st.just("ask"), st.integers(0, 3), st.integers(0, 3), st.sampled_from([0, 0, 2000, 10**7]),
            st.integers(0, 50), st.booleans(),
        ),
        st.tuples(st.just("cancel"), st.integers(0, 9)),
    ),
    max_size=80,
)  # fmt: skip


def run(world: World, steps: list[Any]) -> World:
    for kind, *more in steps:
        if kind == "wait":
            world.now += more[0]
        elif kind == "spend":
            for _ in range(more[1]):
                world.spend(more[0])
        elif kind == "ask":
            who, n, most, batch, used = more
            world.exchange(who, min(n, world.scale.burst), most, batch, used)
        else:
            world.cancel(more[0])
    return world


@settings(max_examples=400)
@given(SCALES, STEPS, st.sampled_from([SECOND, 10_000, 3]))
def test_no_window_sees_more_than_the_burst_and_the_rate(scale: Scale, steps: list[Any], lease: int) -> None:
    """With leases spent late, given back, never settled, and promises cancelled: the plain bucket's bound holds."""
    run(World(scale, lease), steps).check()


@settings(max_examples=200)
@given(SCALES, STEPS)
def test_what_is_out_and_what_is_left_never_exceed_the_burst(scale: Scale, steps: list[Any]) -> None:
    """Level and leases together are at most the burst, in at most `SLOTS` slots, in order of expiry."""
    world = World(scale)
    for one in steps:
        run(world, [one])
        if world.state:
            _, unit, level, _, *slots = world.state
            out = sum(slots[1::2])
            assert level + out * unit <= scale.burst * unit
            assert len(slots) <= 2 * SLOTS and slots[::2] == sorted(slots[::2])
            assert out <= scale.burst // 2


@settings(max_examples=200)
@given(SCALES, STEPS)
def test_an_idle_bucket_forgets_nothing_by_expiring(scale: Scale, steps: list[Any]) -> None:
    """At the moment the state expires the bucket is as full as a new one."""
    world = run(World(scale), steps)
    if world.state:
        state = world.state
        ask = Ask(ACQUIRE, *scale)
        reply = Reply(*step(state, max(world.expires, world.now), tuple(ask))[2])
        assert reply.level == scale.burst * scale.unit


@given(SCALES, STEPS)
def test_without_leases_and_waiting_it_is_the_plain_bucket(scale: Scale, steps: list[Any]) -> None:
    """Each request for one token is let pass if and only if a plain bucket would."""
    world, level, last = World(scale), scale.burst * scale.unit, None
    for kind, *more in steps:
        if kind == "wait":
            world.now += more[0]
        elif kind == "ask":
            if last is not None:
                level = min(scale.burst * scale.unit, level + (world.now - last) * scale.fill)
            last = world.now
            granted = level >= scale.unit
            level -= granted * scale.unit
            assert world.ask(n=1).granted == granted


@given(st.integers(1, 30), st.integers(1, 1000))
def test_promises_are_due_in_the_order_of_arrival_and_at_the_rate(callers: int, rate: int) -> None:
    """Of those who wait, each is due one interval after the one before."""
    world = World(Scale.of(Rate(rate)))
    assert world.ask(n=1, most=10**9).wait == 0
    waits = [world.ask(n=1, most=10**9).wait for _ in range(callers)]
    assert waits == [-(-SECOND * (i + 1) // rate) for i in range(callers)]


def test_the_last_in_the_line_can_leave_it_and_nobody_else() -> None:
    """A cancelled promise comes back if nobody stands behind it; else its place stays empty."""
    world = World(Scale.of(Rate(1)))
    world.ask(n=1)
    first, second = (world.now + world.ask(n=1, most=10**7).wait for _ in range(2))
    assert not world.ask(op=CANCEL, n=1, slot=first).granted
    assert world.ask(op=CANCEL, n=1, slot=second).granted
    assert world.ask(op=CANCEL, n=1, slot=first).granted
    assert world.ask(n=1, most=10**7).wait == SECOND


def test_a_refusal_takes_nothing_and_says_when() -> None:
    """Tokens that come too late are not taken; the wait that would do is told, and does."""
    world = World(Scale.of(Rate(10, burst=2)))
    assert world.ask(n=2).granted
    reply = world.ask(n=1, most=99_999)
    assert not reply.granted and reply.wait == 100_000
    assert world.ask(n=1, most=reply.wait).granted


def test_tokens_given_back_can_be_taken_by_others() -> None:
    """What a lease did not spend is there again at once."""
    world = World(Scale.of(Rate(1, burst=10)))
    lease = world.exchange(1, 0, 0, 5, used=True)
    assert lease.leased == 5
    assert not world.ask(n=6).granted
    world.ask(spent=1, unspent=4, slot=lease.slot)
    assert world.ask(n=9).granted


def test_a_lease_that_is_never_settled_ends_by_itself() -> None:
    """The tokens of a dead client count as spent when they expire, and are not missed after that."""
    world = World(Scale.of(Rate(1000, burst=10)))
    assert world.exchange(1, 0, 0, 5, used=True).leased == 5
    world.now += SECOND
    assert world.ask().level == 5 * world.scale.unit  # still out, for the client's clock may be a little behind
    world.now += SECOND
    assert world.ask(n=10).granted


@pytest.mark.parametrize("settled", [True, False])
def test_what_is_leased_leaves_no_room_to_fill(settled: bool) -> None:
    """Tokens spent from a lease at its very end, settled or not, were not made up for meanwhile."""
    world = World(Scale.of(Rate(10, burst=10)))
    lease = world.exchange(1, 0, 0, 5, used=True)
    world.now = lease.slot - 1
    if settled:
        assert world.ask(spent=5, slot=lease.slot).level == 5 * world.scale.unit
    else:
        world.now += 1
        assert world.ask().level == 5 * world.scale.unit
    assert not world.ask(n=6).granted


def test_a_settlement_counts_once_and_for_no_more_than_is_out() -> None:
    """Repeated, late, or of tokens that were never leased, it gives nothing."""
    world = World(Scale.of(Rate(1, burst=10)))
    lease = world.exchange(1, 0, 0, 5, used=True)
    world.ask(n=5)
    reply = world.ask(unspent=50, slot=lease.slot)
    assert reply.level == 5 * world.scale.unit
    assert world.ask(unspent=5, slot=lease.slot).level == reply.level
    assert world.ask(unspent=5, slot=lease.slot + 1).level == reply.level
    assert world.ask(n=5).granted and not world.ask(n=1).granted


@given(st.integers(0, 10**7), st.integers(1, 60 * SECOND))
def test_a_slot_ends_after_the_lease_and_not_long_after(moment: int, lease: int) -> None:
    """By up to a quarter of it."""
    world = World(Scale.of(Rate(1, burst=10)), lease, now=1_700_000_000 * SECOND + moment)
    slot = world.exchange(1, 0, 0, 5, used=True).slot
    assert 0 < slot - (world.now + lease) <= max(1, lease // 4)


def test_a_request_that_leases_leave_no_room_for_is_told_when_there_will_be() -> None:
    """More tokens than the burst less what is out cannot be there at once before a lease ends."""
    world = World(Scale.of(Rate(1000, burst=10)))
    slot = world.exchange(1, 0, 0, 5, used=True).slot
    reply = world.ask(n=8, most=10**7)
    assert not reply.granted and reply.wait == slot - world.now


def test_a_lease_leaves_half_to_others() -> None:
    """No lease takes more than half of what is there, and all of them no more than half of the burst."""
    world = World(Scale.of(Rate(1, burst=100)))
    assert [world.exchange(who, 0, 0, 10**6, used=True).leased for who in range(4)] == [50, 0, 0, 0]
    world = World(Scale.of(Rate(1, burst=100)))
    world.ask(n=90)
    assert [world.exchange(who, 0, 0, 10**6, used=True).leased for who in range(4)] == [5, 2, 1, 1]


def test_a_clock_that_steps_back_gives_nothing_and_takes_nothing() -> None:
    """Until it has caught up, the latest time seen counts."""
    world = World(Scale.of(Rate(1000, burst=2)))
    latest = world.now
    assert world.ask(n=2).granted
    world.now -= 100 * SECOND
    world.expires = world.now + SECOND
    reply = world.ask(n=1)
    assert not reply.granted and (reply.now, reply.level, reply.wait) == (latest, 0, 1000)
    world.now += 100 * SECOND + 1000
    assert world.ask(n=1).granted


def test_a_changed_rate_loses_parts_of_tokens_only() -> None:
    """A client with another rate finds the whole tokens that were there, and no more."""
    world = World(Scale.of(Rate(1, burst=10)))
    world.ask(n=4)
    world.scale = Scale.of(Rate(Fraction(1, 3), burst=10))
    assert world.ask().level == 6 * world.scale.unit


def test_a_bucket_that_nothing_fills_is_filled_by_gifts() -> None:
    """Without a rate only gifts add, up to the burst; it is remembered for an hour."""
    world = World(Scale(1000, 0, 2))
    assert world.ask(n=2).granted
    assert world.ask(n=1) == Reply(0, -1, 0, 0, 2, world.now, 0)
    assert not world.ask(n=1, gift=999).granted
    assert world.ask(n=1, gift=1).granted
    assert world.ask(gift=10**6).level == 2000
    assert world.expires - world.now >= KEEP_MS * 1000


@pytest.mark.parametrize(("rate", "burst"), [(1 / 3, 1000), (1e-9, 10**9), (0.123456789, 10**9)])
def test_what_does_not_fit_is_refused(rate: float, burst: int) -> None:
    """A rate of many digits with a large burst has no exact arithmetic below 2**53."""
    with pytest.raises(ConfigError, match="fewer digits"):
        Scale.of(Rate(rate, burst=burst))
