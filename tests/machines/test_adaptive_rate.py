"""The rates that the two rules find, beside botocore's own objects, and against a server that throttles."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from botocore.retries.adaptive import ClientRateLimiter, RateClocker
from botocore.retries.bucket import TokenBucket
from botocore.retries.throttling import CubicCalculator
from hypothesis import given
from hypothesis import strategies as st

from resilience._checks import NS
from resilience.machines.adaptive_rate import Aimd, Cubic, Meter
from resilience.machines.lane import Lane, Rate
from resilience.policies.adaptive_token_bucket import AdaptiveTokenBucket
from resilience.testing import VirtualClock

ANSWERS = st.lists(
    st.tuples(st.booleans(), st.one_of(st.integers(0, 10**7), st.integers(0, 3 * 10**9), st.integers(-(10**9), 0))),
    max_size=200,
)


class Botocore:
    """botocore's adaptive mode, put together as its ``register_retry_handler`` does, on a clock of ours."""

    def __init__(self, start: int = 0) -> None:
        self.now = start
        clock: Any = self
        self.bucket = TokenBucket(max_rate=1, clock=clock)
        self.cubic = CubicCalculator(starting_max_rate=0, start_time=self.current_time())
        self.meter = RateClocker(clock)
        self.throttled = False
        self.limiter = ClientRateLimiter(self.cubic, self.meter, self.bucket, clock, clock)

    def current_time(self) -> float:
        return self.now / NS

    def is_throttling_error(self, **_: object) -> bool:
        return self.throttled

    def heard(self, throttled: bool, now: int) -> None:
        self.now, self.throttled = now, throttled
        self.limiter.on_receiving_response()


# -- the cubic ---------------------------------------------------------------------------------------------------------


def primed(ceiling: float, failed: int) -> Cubic:
    """A rule in the middle of its life: throttled at *failed* while sending at *ceiling*; much is sent."""
    rule = Cubic(start=ceiling)
    rule.meter.rate = ceiling
    rule.heard(True, failed)
    rule.meter.rate = 1e9
    return rule


def test_the_cubic_gives_the_published_values() -> None:
    """The SDKs' standard: w_max 10, throttled at 5 s; and a throttle at 8.5 leaves 5.95."""
    rule = primed(10.0, 5 * NS)
    table = {5: 7.0, 6: 9.64893, 7: 10.00003, 8: 10.45328, 9: 13.40869, 10: 21.26626, 11: 36.42598}
    for second, rate in table.items():
        rule.heard(False, second * NS)
        assert rule.rate == pytest.approx(rate, abs=2e-5)
    again = primed(8.5, 5 * NS)
    assert again.rate == pytest.approx(5.95)


@given(ANSWERS, st.integers(0, 10**12))
def test_the_cubic_is_botocores(answers: list[tuple[bool, int]], start: int) -> None:
    """The same rate after each answer, measured rate and enabling included; while time goes forward."""
    ours, theirs, now = Cubic(), Botocore(start), start
    ours.heard(False, now)
    theirs.heard(False, now)
    for throttled, gap in answers:
        now += abs(gap)
        before = ours.rate
        changed = ours.heard(throttled, now)
        theirs.heard(throttled, now)
        assert ours.enabled == theirs.limiter._enabled
        assert ours.meter.rate == pytest.approx(theirs.meter.measured_rate, rel=1e-9)
        if ours.enabled:
            assert ours.rate == pytest.approx(theirs.bucket.max_rate, rel=1e-6)
        assert changed == (None if ours.rate == before else ours.rate)


@given(ANSWERS, st.sampled_from([None, 0.5, 7.0, 1000.0]), st.sampled_from([math.inf, 1000.0]))
def test_the_cubic_stays_within_its_bounds(
    answers: list[tuple[bool, int]], start: float | None, maximum: float
) -> None:
    """From minimum to maximum; after the first throttle at most twice what is sent; before it never below the start."""
    rule, now = Cubic(start=start, minimum=0.25, maximum=maximum), 0
    for throttled, gap in answers:
        now += gap
        rule.heard(throttled, now)
        if rule.throttles:
            assert 0.25 <= rule.rate <= maximum
            assert rule.rate <= max(2 * rule.meter.rate, 0.25)
        elif start is None:
            assert rule.rate == math.inf and not rule.enabled
        else:
            assert start <= rule.rate <= maximum


# -- AIMD --------------------------------------------------------------------------------------------------------------


@given(ANSWERS, st.sampled_from([None, 0.5, 7.0, 1000.0]), st.sampled_from([None, 0.1, 50.0]))
def test_aimd_stays_within_its_bounds_and_cuts_once_a_window(
    answers: list[tuple[bool, int]], start: float | None, increase: float | None
) -> None:
    """From minimum to maximum; two cuts are a window apart; only a throttle cuts, and by at least the factor."""
    rule = Aimd(start=start, minimum=0.5, maximum=1500.0, increase=increase, decrease=0.8, window=NS)
    now = latest = 0
    cuts: list[int] = []
    for throttled, gap in answers:
        now += gap
        latest = max(latest, now)
        before = rule.rate
        rule.heard(throttled, now)
        if rule.rate < before:
            assert throttled
            assert rule.rate <= max(0.8 * before, 0.5) + 1e-9
            cuts.append(latest)
        if rule.enabled:
            assert 0.5 <= rule.rate <= 1500.0
    assert all(later - earlier >= NS for earlier, later in pairwise(cuts))


def test_aimd_adds_so_much_a_second_and_only_while_it_is_used() -> None:
    """10 a second more each second, where more than half is used; else it stays."""
    rule = Aimd(start=100.0, increase=10.0)
    for step in range(10_000):
        rule.heard(False, step * NS // 1000)
    assert rule.rate == pytest.approx(200.0, rel=1e-3)
    idle = Aimd(start=100.0, increase=10.0)
    for step in range(100):
        idle.heard(False, step * NS)
    assert idle.rate < 110


def test_an_aimd_that_gets_little_through_falls_to_that() -> None:
    """Of 1000 a second 20 get through: two seconds later the rate is near that, where four cuts would leave 520."""
    rule = Aimd(start=1000.0)
    for millisecond in range(2000):
        rule.heard(millisecond % 50 != 0, millisecond * NS // 1000)
    assert rule.rate < 60
    assert rule.ceiling < 70


@pytest.mark.parametrize("rule", [Cubic(), Aimd()])
def test_a_rule_can_be_started_over(rule: Cubic | Aimd) -> None:
    """From a rate of somebody's choice, as if nothing had been learned."""
    for step in range(50):
        rule.heard(step % 5 == 0, step * NS // 10)
    assert rule.rate < 20
    rule.restart(300.0)
    assert (rule.rate, rule.enabled, rule.throttles) == (300.0, True, 0)
    assert rule.heard(False, 6 * NS) is None or rule.rate > 300.0


def test_a_meter_reads_silence() -> None:
    """10 a second while they come; what is read falls when they stop, and reading changes nothing."""
    meter = Meter()
    for step in range(101):
        meter.add(1, step * NS // 10)
    assert meter.rate == pytest.approx(10.0, rel=0.05)
    assert [round(meter.read(10 * NS + s * NS // 2), 2) for s in (0, 1, 2, 3, 1000)] == [10.0, 2.0, 0.4, 0.08, 0.0]
    assert meter.rate == pytest.approx(10.0, rel=0.05)


# -- against a server that throttles -----------------------------------------------------------------------------------


class World:
    """What happens when, in virtual time."""

    def __init__(self) -> None:
        self.now = 0
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._serial = 0

    def at(self, when: int, what: Callable[[], None]) -> None:
        self._serial += 1
        heapq.heappush(self._events, (when, self._serial, what))

    def run(self, until: int) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, what = heapq.heappop(self._events)
            what()


class Woken:
    """Who waits for a promised moment, and is told when it moves."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.wake = wake


class Ours:
    """Calls held to a rate by an `AdaptiveTokenBucket`."""

    def __init__(self, world: World, rule: str) -> None:
        self._world = world
        self._clock = VirtualClock()
        self._bucket = AdaptiveTokenBucket(rule=rule, throttled=ConnectionError, clock=self._clock)

    def ask(self, go: Callable[[], None]) -> None:
        self._clock._ns = self._world.now
        place = self._bucket.book(1, None, None)[0]
        assert place is not None
        begun = False

        def turn() -> None:
            nonlocal begun
            if not begun and place.start <= self._world.now:
                begun = True
                go()

        def moved() -> None:
            self._world.at(max(place.start, self._world.now), turn)

        place.waiter = Woken(moved)
        moved()

    def heard(self, throttled: bool) -> None:
        self._clock._ns = self._world.now
        self._bucket.heard(ConnectionError() if throttled else None)


class Theirs:
    """Calls held to a rate by botocore's adaptive mode."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._peer = Botocore()

    def ask(self, go: Callable[[], None]) -> None:
        if self._peer.limiter._enabled:
            bucket = self._peer.bucket
            self._peer.now = self._world.now
            bucket._refill()
            missing = bucket._sleep_amount(1)
            if missing > 0:
                self._world.at(self._world.now + math.ceil(missing * NS), lambda: self.ask(go))
                return
            bucket._current_capacity -= 1
        go()

    def heard(self, throttled: bool) -> None:
        self._peer.heard(throttled, self._world.now)


def simulate(rule: str, capacity: Callable[[float], float], until: int, workers: int) -> Callable[..., tuple[int, int]]:
    """Workers that call without a pause, and a server with a token bucket for so many calls a second.

    It holds those of one second. Returns a function: how many calls were served, and throttled, in a span of seconds.
    """
    world, rng = World(), random.Random(1)
    sender = Theirs(world) if rule == "botocore" else Ours(world, rule)
    server = Lane(Rate(capacity(0.0), burst=math.ceil(capacity(0.0))))
    log: list[tuple[float, bool]] = []

    def call() -> None:
        sender.ask(lambda: world.at(world.now + int(rng.expovariate(200) * NS), arrive))

    def arrive() -> None:
        rate = capacity(world.now / NS)
        if server.rate.rate != rate:
            server.rerate(Rate(rate, burst=math.ceil(rate)), world.now)
        served = server.take(1, world.now)
        log.append((world.now / NS, served))
        world.at(world.now + int(rng.expovariate(200) * NS), lambda: answer(served))

    def answer(served: bool) -> None:
        sender.heard(not served)
        call()

    for _ in range(workers):
        world.at(int(rng.random() * NS / 100), call)
    world.run(until * NS)

    def count(since: float, to: float) -> tuple[int, int]:
        seen = [served for when, served in log if since <= when < to]
        return sum(seen), len(seen) - sum(seen)

    return count


@pytest.mark.parametrize("rate", [5, 20, 100, 500])
def test_a_throttling_server_is_used_in_full_and_troubled_little(rate: int) -> None:
    """After a warm-up 90 % of what it can give and under 10 % throttled, from 5 to 500 calls a second.

    And the cubic does not do worse than botocore's.
    """
    share: dict[str, tuple[float, float]] = {}
    for rule in ("botocore", "cubic", "aimd"):
        served, throttled = simulate(rule, lambda _: rate, until=240, workers=30)(120.0, 240.0)
        share[rule] = served / rate / 120, throttled / (served + throttled)
    for rule in ("cubic", "aimd"):
        assert share[rule][0] >= 0.9
        assert share[rule][1] < 0.1
    assert share["cubic"][0] >= share["botocore"][0] - 0.02
    assert share["cubic"][1] <= share["botocore"][1] + 0.01


@pytest.mark.parametrize("rate", [2, 3])
def test_aimd_does_not_take_chance_for_a_collapse(rate: int) -> None:
    """At a few calls a second, where a half second often has none, it still uses the server in full."""
    served, throttled = simulate("aimd", lambda _: rate, until=240, workers=10)(60.0, 240.0)
    assert served >= 0.9 * rate * 180
    assert throttled < 0.1 * (served + throttled)


def test_aimd_is_at_its_rate_within_seconds() -> None:
    """Of a server of 500 a second it has 95 % within the first ten seconds, and from then on."""
    count = simulate("aimd", lambda _: 500, until=60, workers=30)
    for second in range(10, 60, 10):
        served, throttled = count(float(second), second + 10.0)
        assert served >= 0.95 * 5000
        assert throttled < 0.1 * served


@pytest.mark.parametrize("rule", ["cubic", "aimd"])
def test_a_server_that_gives_a_tenth_for_a_while_is_followed_down_and_up(rule: str) -> None:
    """Within five seconds most calls are served again; and 15 seconds after it recovers, it is used in full."""
    count = simulate(rule, lambda time: 20 if 60 <= time < 90 else 200, until=150, workers=40)
    served, throttled = count(65.0, 90.0)
    assert throttled < 0.1 * (served + throttled)
    assert served >= 0.9 * 20 * 25
    served, throttled = count(105.0, 150.0)
    assert throttled < 0.1 * (served + throttled)
    assert served >= 0.9 * 200 * 45
