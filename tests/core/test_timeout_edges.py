"""Timeouts handed over as an argument: whatever way the caller gives one of its own; and timeouts in shadow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import resilience as rs
from resilience.testing import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable


def get(url: str, timeout: float | None = 9.0) -> float | None:
    return timeout


def positional(url: str, /, timeout: float | None = 9.0) -> float | None:
    return timeout


def options(url: str, *rest: object, timeout: float | None = 9.0, **more: object) -> float | None:
    return timeout


class Client:
    def get(self, url: str, timeout: float | None = 9.0) -> float | None:
        return timeout


POLICIES: dict[str, Callable[[], rs.Policy]] = {
    "short way": lambda: rs.Policy(timeout=rs.Timeout(1.0, mode="argument")),
    "story": lambda: rs.Policy(timeout=rs.Timeout(1.0, mode="argument"), bulkhead=rs.Bulkhead(1)),
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("fn", [get, positional, Client().get], ids=["plain", "positional", "method"])
def test_a_timeout_given_by_position_counts_like_one_given_by_name(fn: Callable[..., Any], policy: str) -> None:
    """The smaller of the two, and `None` means the caller set none; decorated and called."""
    made = POLICIES[policy]()
    for call in (made(fn), lambda *args, **kwargs: made.call(fn, *args, **kwargs)):
        for given, expected in ((0.25, 0.25), (5.0, 1.0), (None, 1.0)):
            assert call("/", given) == pytest.approx(expected, abs=0.05)
            assert call("/", timeout=given) == pytest.approx(expected, abs=0.05)
        assert call("/") == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("policy", POLICIES)
def test_other_positions_and_keywords_are_handed_on(policy: str) -> None:
    """Only the parameter that receives the time is touched."""
    made = POLICIES[policy]()
    assert made(options)("/", 0.1, 0.2, colour="red") == pytest.approx(1.0, abs=0.05)
    assert made.call(options, "/", 0.1, timeout=0.5) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("shadow", [False, True], ids=["in force", "in shadow"])
def test_an_override_hands_its_own_time_to_any_function(shadow: bool) -> None:
    """Also to one that was decorated when its timeout was in shadow, or that has a default of its own."""
    clock = VirtualClock()
    policy = rs.Policy(timeout=rs.Timeout(1.0, mode="argument", shadow=shadow), clock=clock)
    guarded = policy(get)
    with policy.override(timeout=rs.Timeout(0.5, mode="argument")):
        assert guarded("/") == 0.5
        assert guarded("/", timeout=0.25) == 0.25
        assert guarded("/", 0.25) == 0.25
    assert guarded("/") == (9.0 if shadow else 1.0)


TIMEOUTS: dict[str, Callable[[], rs.Timeout | rs.PercentileTimeout]] = {
    "fixed": lambda: rs.Timeout(1.0, mode="argument", shadow=True),
    "cooperative": lambda: rs.Timeout(1.0, mode="cooperative", shadow=True),
    "no mode": lambda: rs.Timeout(1.0, shadow=True),
    "learned": lambda: rs.PercentileTimeout(0.9, between=(0.5, 1.0), initial=1.0, mode="argument", shadow=True),
}


@pytest.mark.parametrize("kind", TIMEOUTS)
@pytest.mark.parametrize("way", ["decorated", "call", "block", "decorated coroutine", "acall"])
def test_a_shadow_timeout_counts_what_was_late_in_every_way(kind: str, way: str) -> None:
    """One call in time, one late: one is counted, and nothing is cut or handed over."""
    clock = VirtualClock()
    policy = rs.Policy(timeout=TIMEOUTS[kind](), clock=clock)

    def work(seconds: float, timeout: float | None = None) -> float | None:
        clock.advance(seconds)
        return timeout

    async def awork(seconds: float) -> None:
        clock.advance(seconds)

    def block(seconds: float) -> None:
        with policy:
            clock.advance(seconds)

    ways: dict[str, Callable[[float], object]] = {
        "decorated": policy(work),
        "call": lambda seconds: policy.call(work, seconds),
        "block": block,
        "decorated coroutine": lambda seconds: clock.run(policy(awork)(seconds)),
        "acall": lambda seconds: clock.run(policy.acall(awork, seconds)),
    }
    assert ways[way](0.25) is None
    assert ways[way](1.5) is None
    assert policy.timeout is not None
    assert (policy.timeout.counters["shadow"], policy.timeout.counters["timed_out"]) == (1, 0)
