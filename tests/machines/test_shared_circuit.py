"""The circuit that many share: `resilience.machines.shared_circuit`, against a model that remembers everything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from resilience.machines.shared_circuit import (
    CELLS,
    CLOSED,
    DISABLED,
    FAILED,
    FORCED_OPEN,
    HALF_OPEN,
    KEEP_MS,
    OPEN,
    PASSED,
    RETURNED,
    Ask,
    Fleet,
    Reply,
    step,
)

SECOND = 1_000_000
START = 1_700_000_000 * SECOND
RATE = 500_000
"""A half, in millionths."""
BASE = Ask(minimum=4, failure_rate=RATE, width=SECOND, first=5 * SECOND, again=10 * SECOND, probes=2, lease=3 * SECOND)


@dataclass
class World:
    """The step, on a store that can forget; and the same told by a model that keeps every outcome and lease."""

    now: int = START
    state: tuple[int, ...] = ()
    birth: int = 0
    generation: int = 0
    at: int = CLOSED
    since: int = 0
    until: int = 0
    opens: int = 0
    passed: int = 0
    outcomes: list[tuple[int, int, int, int]] = field(default_factory=list)
    leases: dict[int, tuple[int, int]] = field(default_factory=dict)

    def ask(self, **wishes: int) -> Reply:
        """One exchange; it must come to what the model comes to."""
        ask = BASE._replace(**wishes)
        after, ttl, reply = step(self.state, self.now, tuple(ask))
        if after is not None:
            self.state = after
        assert ttl >= KEEP_MS
        expected = self.expect(ask)
        assert Reply(*reply) == expected
        return expected

    def forget(self) -> None:
        """It takes longer than a microsecond for each change before, so generations do not come again."""
        self.now += 1000
        self.state = ()
        self.birth = 0

    def move(self, to: int, wait: int, opens: int) -> None:
        self.generation += 1
        self.at, self.since, self.until, self.opens, self.passed = to, self.now, self.now + wait, opens, 0
        if to == CLOSED:
            self.outcomes = []

    def holders(self) -> list[int]:
        """Who has a lease now: it was given in this generation, and has not ended."""
        return [n for n, (generation, ends) in self.leases.items() if generation == self.generation and self.now < ends]

    def expect(self, ask: Ask) -> Reply:
        if self.birth == 0:
            self.birth = self.generation = self.since = self.now
            self.at, self.until, self.opens, self.passed, self.outcomes = CLOSED, 0, 0, 0, []
        if self.at == CLOSED and self.now - self.since >= CELLS * ask.width:
            self.opens = 0
        again = ask.again if self.opens else ask.first
        if ask.number in self.holders():
            del self.leases[ask.number]
            if ask.verdict == FAILED:
                self.move(OPEN, again, self.opens + 1)
            elif ask.verdict == PASSED:
                self.passed += 1
                if self.passed == ask.probes:
                    self.move(CLOSED, 0, self.opens)
        before_birth = ask.generation < self.birth == self.generation
        heard = before_birth or ask.generation == self.generation
        if heard and self.at == CLOSED and ask.total:
            self.outcomes.append((self.now, ask.total, ask.failures, ask.slow))
        # A slice begins a whole number of widths after the birth; the window is the present one and nine before.
        newest = (self.now - self.birth) // ask.width
        window = [o for o in self.outcomes if (o[0] - self.birth) // ask.width > newest - CELLS]
        total, failures, slow = (sum(o[i] for o in window) for i in (1, 2, 3))
        if heard and self.at == CLOSED and ask.failures + ask.slow and total >= ask.minimum:
            shares = ((failures, ask.failure_rate), (slow, ask.slow_rate))
            if any(rate and Fraction(n, total) >= Fraction(rate, 10**6) for n, rate in shares):
                self.move(OPEN, again, self.opens + 1)
        if ask.by_hand:
            self.move(ask.state, ask.wait if ask.state == OPEN else 0, self.opens + 1 if ask.state == OPEN else 0)
            if ask.state == CLOSED:
                total = failures = slow = 0
        elif self.at == CLOSED and ask.state == OPEN and ask.wait and heard:
            self.move(OPEN, ask.wait, self.opens + 1)
        elif self.at == CLOSED and ask.state in (FORCED_OPEN, DISABLED) and before_birth:
            self.move(ask.state, 0, 0)
        if ask.wanted and self.at == OPEN and self.now >= self.until:
            self.move(HALF_OPEN, 0, self.opens)
        leased = int(ask.wanted > 0 and self.at == HALF_OPEN and not self.holders())
        if leased:
            self.leases[ask.wanted] = self.generation, self.now + ask.lease
        assert len(self.holders()) <= 1
        wait = 0
        if self.at == OPEN:
            wait = max(0, self.until - self.now)
        elif self.holders():
            wait = self.leases[self.holders()[0]][1] - self.now
        return Reply(self.at, self.generation, wait, self.opens, self.passed, leased, total, failures, slow)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.sampled_from([1, SECOND // 2, SECOND, 3 * SECOND, 5 * SECOND, 11 * SECOND])),
        st.tuples(st.just("calls"), st.integers(0, 3), st.integers(0, 6), st.integers(0, 6)),
        st.tuples(st.just("claim"), st.sampled_from([CLOSED, OPEN, OPEN, HALF_OPEN, FORCED_OPEN, DISABLED])),
        st.tuples(st.just("steer"), st.sampled_from([CLOSED, OPEN, FORCED_OPEN, DISABLED])),
        st.tuples(st.just("want")),
        st.tuples(st.just("want")),
        st.tuples(st.just("report"), st.integers(0, 2), st.sampled_from([PASSED, PASSED, FAILED, RETURNED])),
        st.tuples(st.just("forget")),
    ),
    max_size=60,
)


@settings(max_examples=400)
@given(STEPS, st.lists(st.integers(0, 2), min_size=60, max_size=60))
def test_any_history_comes_to_what_a_model_with_a_perfect_memory_comes_to(
    steps: list[tuple[object, ...]], knowing: list[int]
) -> None:
    """State, window, waits and leases are those of the model, and no two hold the lease; whoever asks, however late."""
    world = World()
    known, numbers = [0], [1]
    for (kind, *more), lag in zip(steps, knowing, strict=False):
        generation = known[max(0, len(known) - 1 - lag)]
        match kind, *more:
            case "wait", int(time):
                world.now += time
                continue
            case "forget", *_:
                world.forget()
                continue
            case "calls", int(good), int(bad), int(slow):
                reply = world.ask(
                    generation=generation, total=good + bad + slow, failures=bad, slow=slow, slow_rate=RATE
                )
            case "claim", int(state):
                reply = world.ask(generation=generation, state=state, wait=2 * SECOND * (state == OPEN))
            case "steer", int(state):
                reply = world.ask(generation=generation, state=state, wait=SECOND * (state == OPEN), by_hand=1)
            case "report", int(which), int(verdict):
                reply = world.ask(number=numbers[max(0, len(numbers) - 1 - which)], verdict=verdict)
            case _:
                numbers.append(numbers[-1] + 1)
                reply = world.ask(generation=generation, state=OPEN, wanted=numbers[-1])
        if reply.generation != known[-1]:
            assert reply.generation > known[-1]
            known.append(reply.generation)


def opened() -> World:
    """A fleet whose open time is over."""
    world = World()
    first = world.ask()
    world.ask(generation=first.generation, total=4, failures=4)
    world.now += 5 * SECOND
    return world


def test_the_calls_of_all_are_weighed_together() -> None:
    """No client has seen enough by itself; together they have."""
    world = World()
    known = world.ask().generation
    assert [world.ask(generation=known, total=2, failures=1).state for _ in range(2)] == [CLOSED, OPEN]


def test_one_sick_client_does_not_open_the_circuit_of_a_healthy_fleet() -> None:
    """Its failures are a small share of what all have seen."""
    world = World()
    known = world.ask().generation
    world.ask(generation=known, total=1000)
    assert world.ask(generation=known, total=20, failures=20).state == CLOSED


def test_so_many_probes_in_a_row_close_it_and_one_that_fails_opens_it_for_longer() -> None:
    """The second open time is the longer one, and what passed before a failure does not count."""
    world = opened()
    assert world.ask(wanted=1).leased
    assert world.ask(number=1, verdict=PASSED).passed == 1
    assert world.ask(wanted=2).leased
    assert world.ask(number=2, verdict=FAILED).wait == 10 * SECOND
    world.now += 10 * SECOND
    for number in (3, 4):
        assert world.ask(wanted=number).leased
        reply = world.ask(number=number, verdict=PASSED)
    assert (reply.state, reply.total) == (CLOSED, 0)


def test_a_dead_prober_blocks_others_for_the_time_of_its_lease_and_no_longer() -> None:
    """Until the lease ends nobody else gets one; then the next who asks does, and the late report is not heard."""
    world = opened()
    assert world.ask(wanted=1).leased
    world.now += 3 * SECOND - 1
    assert not world.ask(wanted=2).leased
    world.now += 1
    assert world.ask(wanted=3).leased
    assert world.ask(number=1, verdict=FAILED).state == HALF_OPEN
    assert world.ask(number=3, verdict=PASSED).passed == 1


def test_a_report_is_heard_once() -> None:
    """Whoever is not sure to have been heard may say it again."""
    world = opened()
    assert world.ask(wanted=1).leased
    assert [world.ask(number=1, verdict=PASSED).passed for _ in range(3)] == [1, 1, 1]


def test_counts_from_before_a_change_are_not_counted() -> None:
    """A client that slept through an outage does not open the circuit with what it saw in it."""
    world = opened()
    known = world.ask().generation - 1
    for number in (1, 2):
        world.ask(wanted=number)
        world.ask(number=number, verdict=PASSED)
    assert world.ask(generation=known, total=9, failures=9) == world.ask()


def test_after_a_loss_of_memory_who_knows_better_is_heard_until_something_happened() -> None:
    """The circuit is closed again unless a client is still open; a latecomer with old knowledge changes nothing."""
    world = opened()
    knew = world.ask().generation
    world.now += 1
    world.forget()
    assert world.ask().state == CLOSED
    assert world.ask(generation=knew, state=OPEN, wait=SECOND).wait == SECOND
    assert world.ask(state=CLOSED, by_hand=1).state == CLOSED
    assert world.ask(generation=knew, state=OPEN, wait=SECOND).state == CLOSED
    assert world.ask(generation=knew, state=FORCED_OPEN).state == CLOSED


def test_a_steered_circuit_stays_so_and_is_remembered_for_a_year() -> None:
    """Nobody probes a circuit that was forced open, and it is not forgotten in a quiet week."""
    world = World()
    world.ask(state=FORCED_OPEN, by_hand=1)
    world.now += 3600 * SECOND
    assert world.ask(wanted=1)[:2] == world.ask()[:2]
    after, ttl, reply = step(world.state, world.now + SECOND, tuple(BASE))
    assert after is not None
    assert Reply(*reply).state == FORCED_OPEN
    assert ttl > 365 * 24 * 3600 * 1000


def test_a_clock_that_steps_back_cuts_nothing_short() -> None:
    """After a failover to a server whose clock is behind, an open time lasts at least as long as it should."""
    world = opened()
    world.now -= 7 * SECOND
    assert world.ask(wanted=1).wait == 7 * SECOND


def test_an_idle_exchange_writes_nothing() -> None:
    """A store whose answer is no news is not made to write."""
    after, _, _ = step((), START, tuple(BASE))
    assert after is not None
    assert step(after, START + 1, tuple(BASE))[0] is None


def test_all_numbers_stay_below_two_to_the_53() -> None:
    """However many calls are told, what is reckoned with is exact in doubles."""
    state: tuple[int, ...] = ()
    huge: Callable[[int], Ask] = lambda known: BASE._replace(  # noqa: E731
        generation=known, total=2**29, failures=2**29, slow=2**29, failure_rate=10**6, minimum=2**40
    )
    for i in range(30):
        known = state[0] if state else 0
        after, _, reply = step(state, START + i * SECOND, tuple(huge(known)))
        state = after or state
        assert max(Reply(*reply).total * 10**6, *state) < 2**53
    assert Fleet(*state[: len(Fleet._fields)]).state == CLOSED
