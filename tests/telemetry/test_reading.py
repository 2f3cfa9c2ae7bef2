"""The numbers of a policy as they are read off: right, complete, and got without disturbing anything."""

from __future__ import annotations

import gc
import math
import threading
from collections.abc import Callable
from typing import Any

import pytest

import resilience as rs
from resilience.machines.circuit_types import State
from resilience.telemetry.reading import latency, numbers
from resilience.testing import VirtualClock


def make(clock: VirtualClock | None = None, **parts: Any) -> rs.Policy:
    return rs.Policy("p", clock=clock or VirtualClock(start=10.0), registry=rs.Registry(), **parts)


def fail() -> None:
    raise KeyError


def failing(policy: rs.Policy, *args: object) -> None:
    with pytest.raises((KeyError, rs.Rejected)):
        policy.call(lambda *given: fail(), *args)


def test_a_policy_without_parts_has_its_calls() -> None:
    """And nothing else."""
    policy = make()
    policy.call(lambda: None)
    failing(policy)
    assert numbers(policy) == {
        "": {
            "calls": 2, "succeeded": 1, "poor": 0, "failed": 1, "rejected": 0, "timed_out": 0, "cancelled": 0,
            "in_flight": 0, "attempts": 2,
        }
    }  # fmt: skip
    good, bad = latency(policy)
    assert (good.count, bad.count) == (1, 1)


def test_a_policy_that_keeps_no_durations_can_be_read_too() -> None:
    """One that nobody can look up."""
    assert numbers(rs.Policy())[""]["calls"] == 0
    assert latency(rs.Policy())[0].count == 0


def test_each_number_is_a_finite_number() -> None:
    """Of every part, before and after use."""
    clock = VirtualClock(start=10.0)
    policy = make(
        clock, fallback=rs.Fallback(value=1), deadline=5.0, retry=rs.Retry(on=KeyError), hedge=rs.Hedge(0.05),
        breaker=rs.CircuitBreaker(), limiter=rs.AdaptiveTokenBucket(throttled=KeyError), bulkhead=rs.Bulkhead(2),
        timeout=rs.PercentileTimeout(0.9, between=(0.1, 1.0), mode="cooperative"), slo=0.9,
    )  # fmt: skip
    for _ in range(3):
        for found in numbers(policy).values():
            for name, value in found.items():
                assert type(value) in (int, float), name
                assert math.isfinite(value), name
        policy.call(fail)
    assert set(numbers(policy)) == {"", *policy.parts, "slo"}


def test_reading_does_not_change_what_counters_returns() -> None:
    """Each reading is its own; nothing is added to a part's own dictionary."""
    policy = make(breaker=rs.CircuitBreaker(), timeout=rs.Timeout(1.0, mode="cooperative"))
    first = numbers(policy)
    first["breaker"]["refused"] = 99
    assert numbers(policy)["breaker"]["refused"] == 0
    assert policy.breaker is not None
    assert "is.open" not in policy.breaker.counters


# -- circuits ----------------------------------------------------------------------------------------------------------


def states(policy: rs.Policy) -> tuple[dict[str, float], dict[str, float]]:
    """How many circuits are in each state, and the seconds spent there."""
    found = numbers(policy)["breaker"]
    return (
        {state: found[f"is.{state}"] for state in State if f"is.{state}" in found},
        {state: found[f"seconds.{state}"] for state in State if f"seconds.{state}" in found},
    )


def test_a_circuit_is_in_one_state_and_its_times_add_up() -> None:
    """To the time since it was made."""
    clock = VirtualClock(start=10.0)
    policy = make(clock, breaker=rs.CircuitBreaker(consecutive=1, open_for=5.0, jitter=0.0, probes=1))
    assert isinstance(policy.breaker, rs.CircuitBreaker)
    clock.advance(1.0)
    failing(policy)
    clock.advance(6.0)
    assert states(policy)[0] == {"closed": 0, "open": 1, "half_open": 0, "forced_open": 0, "disabled": 0}
    policy.call(lambda: clock.advance(2.0))
    clock.advance(3.0)
    policy.breaker.force_open()
    clock.advance(4.0)
    policy.breaker.disable()
    clock.advance(5.0)
    here, spent = states(policy)
    assert here == {"closed": 0, "open": 0, "half_open": 0, "forced_open": 0, "disabled": 1}
    assert spent == {"closed": 4.0, "open": 6.0, "half_open": 2.0, "forced_open": 4.0, "disabled": 5.0}


def test_circuits_of_keys_are_counted_by_state() -> None:
    """Together as many as there are keys; reading makes no key and drops none."""
    clock = VirtualClock(start=10.0)
    family = rs.PerKey(rs.CircuitBreaker(consecutive=1), key=lambda key: key, max_keys=3)
    policy = make(clock, breaker=family)
    assert states(policy)[0] in ({}, dict.fromkeys(State, 0))
    for key in "abc":
        policy.call(lambda key: None, key)
    failing(policy, "c")
    clock.advance(1.0)
    assert states(policy)[0] == {"closed": 2, "open": 1, "half_open": 0, "forced_open": 0, "disabled": 0}
    assert states(policy)[1] == {"closed": 2.0, "open": 1.0, "half_open": 0.0, "forced_open": 0.0, "disabled": 0.0}
    assert list(family) == ["a", "b", "c"]
    policy.call(lambda key: None, "a")
    numbers(policy)
    policy.call(lambda key: None, "d")
    assert list(family) == ["c", "a", "d"]  # b was the least used, and reading has used none


def test_families_are_read_while_keys_come_and_go() -> None:
    """No error, no key too many, no time that falls."""
    family = rs.PerKey(rs.CircuitBreaker(), key=lambda key: key, max_keys=4)
    policy = rs.Policy("p", breaker=family, registry=rs.Registry())
    done = threading.Event()

    def work() -> None:
        turn = 0
        while not done.is_set():
            turn += 1
            policy.call(lambda key: None, turn % 9)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        before = 0.0
        for _ in range(300):
            here, spent = states(policy)
            assert sum(here.values()) <= 4
            assert spent.get("closed", 0.0) >= before - 1e-9
            before = spent.get("closed", 0.0)
    finally:
        done.set()
        for thread in threads:
            thread.join()


# -- timeouts, bulkheads, objectives -----------------------------------------------------------------------------------


def test_a_fixed_timeout_is_its_own_ceiling() -> None:
    """Both are its seconds."""
    found = numbers(make(timeout=rs.Timeout(1.5, mode="cooperative")))["timeout"]
    assert (found["seconds"], found["most"]) == (1.5, 1.5)
    assert not any(name.startswith("quantile") for name in found)


def test_a_learned_timeout_shows_what_it_measured() -> None:
    """The same as it answers itself; no quantiles before enough is known."""
    clock = VirtualClock(start=10.0)
    timeout = rs.PercentileTimeout(0.9, between=(0.1, 3.0), mode="cooperative", clock=clock)
    policy = make(clock, timeout=timeout)
    assert {name: value for name, value in numbers(policy)["timeout"].items() if name.startswith("quantile")} == {}
    for milliseconds in range(1, 1001):
        timeout.observe(milliseconds / 1000)
    clock.advance(2.0)
    timeout.timeout()
    found = numbers(policy)["timeout"]
    assert found["most"] == 3.0
    assert found["seconds"] == timeout.current
    for share in (0.5, 0.9, 0.99):
        assert found[f"quantile.{share}"] == timeout.quantile(share)
        assert found[f"quantile.{share}"] == pytest.approx(share, rel=0.03)


def test_timeouts_cut_off_are_in_the_quantiles() -> None:
    """Censored samples are read as the timeout reads them."""
    clock = VirtualClock(start=10.0)
    timeout = rs.PercentileTimeout(0.9, between=(0.1, 3.0), mode="cooperative", clock=clock)
    policy = make(clock, timeout=timeout)
    for turn in range(600):
        timeout.observe(0.2 + 0.001 * (turn % 50), timed_out=turn % 10 == 0)
    found = numbers(policy)["timeout"]
    for share in (0.5, 0.9, 0.99):
        assert found[f"quantile.{share}"] == timeout.quantile(share)


def test_timeouts_of_keys_show_the_longest() -> None:
    """And no quantiles, which cannot be added up."""
    clock = VirtualClock(start=10.0)
    model = rs.PercentileTimeout(0.9, between=(0.1, 3.0), mode="cooperative")
    family = rs.PerKey(model, key=lambda key: key)
    policy = make(clock, timeout=family)
    family["slow"].seed([1.0] * 400)
    family["quick"].seed([0.1] * 400)
    found = numbers(policy)["timeout"]
    assert found["seconds"] == family["slow"].current > family["quick"].current
    assert found["most"] == 3.0
    assert not any(name.startswith("quantile") for name in found)


def test_a_bulkhead_shows_its_limit_as_it_is() -> None:
    """After a resize too; a family has none that means anything."""
    bulkhead = rs.Bulkhead(3)
    policy = make(bulkhead=bulkhead)
    assert numbers(policy)["bulkhead"]["limit"] == 3
    bulkhead.resize(7)
    assert numbers(policy)["bulkhead"]["limit"] == 7
    keyed = make(bulkhead=rs.PerKey(rs.Bulkhead(3), key=lambda key: key))
    assert "limit" not in numbers(keyed)["bulkhead"]


def test_an_objective_is_read_with_the_calls_so_far() -> None:
    """Those that were waiting to be counted included."""
    clock = VirtualClock(start=10.0)
    policy = make(clock, slo=rs.SLO(0.9, shed_above=5.0, minimum_bad=1))
    work = policy(lambda: None)
    for _ in range(3):
        work()
    failing(policy)
    found = numbers(policy)["slo"]
    assert (found["objective"], found["good"], found["bad"], found["shedding"]) == (0.9, 3, 1, 0)
    assert found["left"] == pytest.approx(1 - 2.5)
    assert {name for name in found if name.startswith("burn.")} == {"burn.300", "burn.1800", "burn.3600", "burn.21600"}
    assert found["burn.300"] == pytest.approx(2.5)
    level = policy.service_level
    assert level is not None and found["left"] == level.left


@pytest.mark.parametrize("is_async", [False, True])
def test_calls_in_flight_are_those_inside(is_async: bool) -> None:
    """Seen from within a call."""
    clock = VirtualClock(start=10.0)
    policy = make(clock, bulkhead=rs.Bulkhead(2))
    seen: list[Any] = []

    def work() -> None:
        found = numbers(policy)
        seen.append((found[""]["in_flight"], found["bulkhead"]["in_use"]))

    async def task() -> None:
        work()

    use: Callable[[], object] = lambda: clock.run(policy.acall(task)) if is_async else policy.call(work)  # noqa: E731
    use()
    assert seen == [(1, 1)]
    assert numbers(policy)[""]["in_flight"] == 0


def test_copies_of_a_timeout_show_up_as_one() -> None:
    """As the operations of an AWS client have them: counts add up, of seconds the largest counts, and nothing falls."""
    timeout = rs.PercentileTimeout(0.99, between=(0.01, 5.0), mode="argument")
    policy = rs.Policy("p", timeout=timeout, registry=None)
    copies = [timeout.replace(), timeout.replace()]
    for copy, took in zip(copies, (0.1, 0.4), strict=True):
        timeout.stand_in(copy)
        copy.seed([took] * 100)
        copy.observe(took, timed_out=True)
    found = numbers(policy)["timeout"]
    assert found["timed_out"] == 2
    assert found["seconds"] == copies[1].current < 5.0
    assert found["quantile.0.5"] == copies[1].quantile(0.5)
    copies.clear()
    del copy
    gc.collect()
    found = numbers(policy)["timeout"]
    assert found["timed_out"] == 2
    assert numbers(policy)["timeout"]["timed_out"] == 2


def test_copies_that_are_gone_do_not_pile_up() -> None:
    """However many clients are made under one policy, and nobody looks."""
    timeout = rs.PercentileTimeout(0.99, between=(0.01, 5.0), mode="argument")
    for _ in range(50):
        copy = timeout.replace()
        timeout.stand_in(copy)
        copy.observe(0.1, timed_out=True)
        del copy
        gc.collect()
    assert len(timeout._copies) <= 1
    assert timeout.copies == []
    assert timeout.counters["timed_out"] == 50
