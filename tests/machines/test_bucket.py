"""Many buckets in bounded memory: :class:`resilience.machines.bucket.Table`."""

from __future__ import annotations

import sys
import tracemalloc
from fractions import Fraction
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilience.errors import ConfigError
from resilience.machines.bucket import Lane, Rate, Reservation, Table

TENS = Rate(1, per=1e-8, burst=2)  # a token each 10 ns
RATES = st.sampled_from([TENS, Rate(3, burst=2), Rate(333.33, burst=4), Rate(Fraction(3, 10), per=1e-9, burst=3)])


class Op(NamedTuple):
    """One step: the clock moves by quarters of an interval, then something happens to a key."""

    kind: str
    key: int
    n: int
    quarters: int
    which: int


def ops(kinds: str, keys: int, *, most: int = 60, low: int = -3) -> st.SearchStrategy[list[Op]]:
    """Lists of steps of these kinds over so many keys."""
    op = st.builds(
        Op,
        kind=st.sampled_from(kinds.split()),
        key=st.integers(0, keys - 1),
        n=st.integers(1, 4),
        quarters=st.integers(low, 9),
        which=st.integers(0, 30),
    )
    return st.lists(op, min_size=1, max_size=most)


class Run:
    """A table driven by steps, with all that it granted to each key."""

    def __init__(self, rate: Rate, max_keys: int) -> None:
        self.table = Table(rate, max_keys)
        self.now = self.high = self.table.last = 0
        self.taken: dict[int, list[tuple[int, int]]] = {}
        self.promises: dict[int, list[Reservation]] = {}

    def step(self, op: Op) -> object:
        """Do one step and return what the table answered."""
        rate = self.table.rate
        self.now += op.quarters * rate.interval // (4 * rate.scale) + op.which % 2
        self.high = max(self.high, self.now)
        n = min(op.n, rate.burst)
        made = self.promises.setdefault(op.key, [])
        if op.kind == "reserve":
            promise = self.table.reserve(op.key, n, self.now, None)
            assert promise is not None
            made.append(promise)
            return promise.start
        if op.kind == "take" or not made:
            got = self.table.take(op.key, n, self.now)
            if got:
                self.taken.setdefault(op.key, []).append((self.high, n))
            return got
        promise = made[-1 - op.which % len(made)]
        if op.kind == "cancel":
            return [(p.n, p.start) for p in self.table.cancel(op.key, promise, self.now)]
        return self.table.refund(op.key, promise, self.now)

    def granted(self, key: int) -> list[tuple[int, int]]:
        """Reading and tokens of all that a key was granted and did not give back, in order."""
        kept = [(p.start, p.n) for p in self.promises.get(key, []) if not p.cancelled]
        return sorted(self.taken.get(key, []) + kept)

    def seen(self) -> set[int]:
        """Every key that was ever granted something."""
        return self.taken.keys() | self.promises.keys()


def assert_bound(granted: list[tuple[int, int]], rate: Rate) -> None:
    """In no span from s to e are there more than burst + rate * (e - s + 1 ns) tokens."""
    exact = Fraction(str(rate.rate)) / Fraction(str(rate.per)) / 1_000_000_000
    for i, (begin, _) in enumerate(granted):
        total = 0
        for end, n in granted[i:]:
            total += n
            assert total <= rate.burst + exact * (end - begin + 1)


def assert_sound(table: Table) -> None:
    """Each known key is kept once, in one of the two ways, and the table is not too big."""
    assert len(table._ring) == len(set(table._ring)) == len(table)
    assert set(table._ring) == table._tats.keys() | table._lanes.keys()
    assert not table._tats.keys() & table._lanes.keys()
    assert len(table) <= table.max_keys


@settings(max_examples=200, deadline=None)
@given(RATES, ops("take reserve cancel refund", keys=6))
def test_it_is_a_lane_for_each_key(rate: Rate, steps: list[Op]) -> None:
    """With room enough, every answer is that of a lane of its own for each key."""
    run, lanes = Run(rate, 100), {key: Lane(rate) for key in range(6)}
    twins: dict[Reservation, Reservation] = {}
    for op in steps:
        before = run.promises.get(op.key, [])[:]
        known = op.key in run.table._ring
        answer = run.step(op)
        lane, now, n = lanes[op.key], run.now, min(op.n, rate.burst)
        for other in lanes.values():  # one clock for all of them
            other.last = max(other.last, run.high)
        expected: object = answer
        if op.kind == "reserve":
            twin = lane.reserve(n, now, None)
            assert twin is not None
            twins[run.promises[op.key][-1]] = twin
            expected = twin.start
        elif op.kind == "take" or not before:
            expected = lane.take(n, now)
        elif known:  # a forgotten key is full: nothing to give back
            twin = twins[before[-1 - op.which % len(before)]]
            if op.kind == "cancel":
                expected = [(p.n, p.start) for p in lane.cancel(twin, now)]
            else:
                expected = lane.refund(twin, now)
        assert expected == answer
        for key, other in lanes.items():
            assert other.available(now) == run.table.available(key, now)
            assert other.wait(1, now) == run.table.wait(key, 1, now)
            assert other.waiting(now) == run.table.waiting(key, now)
        assert_sound(run.table)
    assert run.table.overflows == 0


@settings(max_examples=300, deadline=None)
@given(RATES, st.integers(1, 3), ops("take reserve cancel refund", keys=7, most=80))
def test_each_key_keeps_its_bound_when_the_table_overflows(rate: Rate, max_keys: int, steps: list[Op]) -> None:
    """With more keys than room, no key is granted more than burst + rate * (t + 1 ns)."""
    run = Run(rate, max_keys)
    for op in steps:
        run.step(op)
        assert_sound(run.table)

    for key in run.seen():
        assert_bound(run.granted(key), rate)


@settings(max_examples=150, deadline=None)
@given(RATES, ops("take reserve cancel refund", keys=7, most=80))
def test_first_come_first_served_for_each_key(rate: Rate, steps: list[Op]) -> None:
    """The starts of one key never fall in order of arrival, overflowing or not."""
    run = Run(rate, 2)
    for op in steps:
        run.step(op)
        for made in run.promises.values():
            starts = [p.start for p in made if not p.cancelled]
            assert sorted(starts) == starts


@settings(max_examples=150, deadline=None)
@given(RATES, st.integers(1, 4), ops("take reserve", keys=9, most=80))
def test_no_debt_is_ever_lost(rate: Rate, max_keys: int, steps: list[Op]) -> None:
    """A key that is known and not full stays known, with exactly the TAT it had."""
    run = Run(rate, max_keys)

    def debts() -> dict[object, int]:
        lanes = {key: lane.tat for key, lane in run.table._lanes.items()}
        return {**run.table._tats, **lanes}

    for op in steps:
        before = debts()
        run.step(op)
        unit, after = run.high * rate.scale, debts()
        for key, tat in before.items():
            if key != op.key and tat > unit:
                assert after[key] == tat


def test_a_full_table_shares_one_bucket() -> None:
    """Keys beyond the room get what one bucket gives, together; the known are not touched."""
    table = Table(TENS, 2)
    assert all(table.take(key, 1, 0) for key in "ab")

    assert [table.take(key, 1, 0) for key in "cde"] == [True, True, False]
    assert (len(table), table.overflows, table.evictions) == (2, 2, 0)
    assert [table.available(key, 0) for key in "abcx"] == [1, 1, 0, 0]
    assert [table.wait("a", 1, 0), table.wait("x", 1, 0)] == [0, 10]
    shared = table.reserve("c", 1, 0, None)
    other = table.reserve("d", 1, 0, None)
    assert shared is not None and other is not None
    assert (shared.start, other.start, shared.shared) == (10, 20, True)
    assert [other] == table.cancel("c", shared, 0)
    assert other.start == 10


def test_a_key_that_moves_out_of_the_overflow_takes_its_debt_along() -> None:
    """Who emptied the overflow bucket cannot start afresh when room is made."""
    table = Table(Rate(1, per=1e-8, burst=4), 1)
    assert table.take("a", 1, 0)
    assert table.take("b", 4, 9)  # in the overflow, a being in debt until 10
    assert table.take("c", 1, 10) is False
    assert table.take("b", 1, 19)  # a is full: b gets its place, and goes on with its debt
    assert (len(table), table.overflows, table.evictions) == (1, 1, 1)
    assert table.available("b", 19) == 0


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 4), st.integers(1, 50))
def test_full_keys_are_forgotten(burst: int, gap: int) -> None:
    """However many keys come by, few more are kept than are in debt."""
    rate = Rate(1, per=1e-6, burst=burst)  # one token: in debt for a microsecond
    table, now = Table(rate, 10**6), 0
    for key in range(3000):
        assert table.take(key, 1, now)
        assert len(table) <= 1.5 * (1000 / gap + 1) + 4
        now += gap
    assert table.evictions == 3000 - len(table)


def test_a_full_table_searches_on_for_room() -> None:
    """With the room of a few keys at hand, a newcomer gets it though some full ones come last."""
    table = Table(TENS, 20)
    for key in range(20):
        table.take(key, 2 if key < 16 else 1, 0)
    table._hand = 0

    assert table.take("new", 1, 10)
    assert (len(table), table.overflows, table.evictions) == (17, 0, 4)
    assert "new" in table._tats


def test_a_key_for_whom_nobody_waits_is_an_integer_again() -> None:
    """A lane is there while someone waits; afterwards any use of the key, or the hand, folds it."""
    table = Table(TENS, 100)
    for key in ("touched", "swept"):
        table.take(key, 2, 0)
        assert table.reserve(key, 1, 0, None) is not None
    assert (table.promoted(), len(table)) == (2, 2)
    assert [table.take("touched", 1, 5), table.take("swept", 1, 5)] == [False, False]

    assert table.take("touched", 1, 25)
    assert (table.promoted(), table.waiting("touched", 25)) == (1, 0)
    assert table.take("new", 1, 25)
    assert table.promoted() == 0
    table.take("touched", 2, 100)
    promise = table.reserve("touched", 1, 100, None)
    assert promise is not None and table.promoted() == 1
    assert table.cancel("touched", promise, 100) == []
    assert table.promoted() == 0


def test_a_refused_newcomer_takes_no_room() -> None:
    """A key that got nothing is not remembered."""
    table = Table(TENS, 1)
    table.take("a", 2, 0)
    table.take("b", 2, 0)

    assert not table.take("c", 1, 0)
    assert table.reserve("c", 1, 0, 5) is None
    assert (len(table), table.overflows) == (1, 1)


def test_refund_of_a_key() -> None:
    """The last started reservation of a key is given back; no other one, nor a forgotten key's."""
    table = Table(TENS, 2)
    first, second = table.reserve("a", 1, 0, None), table.reserve("a", 1, 0, None)
    assert first is not None and second is not None

    assert [table.refund("a", p, 0) for p in (first, second, second)] == [False, True, False]
    assert table.available("a", 0) == 1
    assert table.take("b", 1, 30) and table.take("c", 1, 30)
    assert (len(table), table.evictions) == (2, 1)
    assert not table.refund("a", first, 30)
    assert table.cancel("a", first, 30) == []


def test_n_above_the_burst_is_refused_by_name() -> None:
    """A request that could never pass is an error for known and new keys, and leaves no trace."""
    table = Table(TENS, 1)
    table.take("a", 1, 0)
    for key in "ab":
        for call in (table.take, table.wait):
            with pytest.raises(ConfigError, match=r"n must be at most burst \(2\), not 3"):
                call(key, 3, 0)
        with pytest.raises(ConfigError, match=r"n must be at most burst \(2\), not 3"):
            table.reserve(key, 3, 0, None)
    assert (len(table), table.available("a", 0)) == (1, 1)


@pytest.mark.parametrize(
    ("value", "error"),
    [(0, ConfigError), (-1, ConfigError), (1.0, TypeError), (True, TypeError), (None, TypeError)],
)
def test_bad_settings_are_refused_by_name(value: object, error: type[Exception]) -> None:
    """The error names the argument and shows the value."""
    with pytest.raises(error, match=r"^max_keys must be ") as caught:
        Table(TENS, value)  # type: ignore[arg-type]
    assert repr(value) in str(caught.value)


def test_memory_of_a_key() -> None:
    """A hundred thousand keys cost at most 120 bytes each, their own objects aside."""
    keys = [f"user-{i}" for i in range(100_000)]
    start = 10**15
    tracemalloc.start()
    try:
        table = Table(Rate(1, per=3600.0, burst=5), 10**6)
        before = tracemalloc.get_traced_memory()[0]
        for key in keys:
            table.take(key, 1, start)
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()

    assert len(table) == len(keys)
    assert used <= 120 * len(keys)
    assert sys.getsizeof(table._tats) + sys.getsizeof(table._ring) <= 80 * len(keys)
