"""Faults are values that make sense, and share one roll of the dice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.demo.faults import (
    Capacity,
    Delay,
    Dribble,
    Hang,
    Reset,
    Stall,
    Status,
    Throttle,
    Weather,
)
from resilience.errors import ConfigError

KINDS = (Hang, Reset, Stall, Dribble, Status, Throttle)

shares = st.lists(st.floats(0, 0.3), max_size=3)


@given(shares=shares, u=st.floats(0, 1, exclude_max=True))
def test_faults_share_the_dice(shares: list[float], u: float) -> None:
    """A number drawn belongs to the first fault whose part of [0, 1) it falls in, or to none."""
    faults = tuple(Hang(share) for share in shares)
    picked = Weather(faults).pick(lambda: u)
    if picked is None:
        assert u >= sum(shares) - 1e-9
    else:
        before = sum(shares[: next(i for i, f in enumerate(faults) if f is picked)])
        assert before - 1e-9 <= u < before + picked.share + 1e-9


@given(median=st.floats(0, 10), sigma=st.floats(0, 2), normal=st.floats(-4, 4))
def test_delays_surround_their_median(median: float, sigma: float, normal: float) -> None:
    """A delay is never negative, is the median at 0, and grows with the number drawn."""
    delay = Delay(median, sigma)
    assert delay.draw(0.0) == median
    assert min(delay.draw(normal), delay.draw(0.0)) >= 0
    assert delay.draw(abs(normal)) >= median
    assert delay.draw(-abs(normal)) <= median


@pytest.mark.parametrize(
    ("make", "name"),
    [
        *((lambda kind=kind: kind(share=1.5), "share") for kind in KINDS),
        *((lambda kind=kind: kind(share=-0.1), "share") for kind in KINDS),
        *((lambda kind=kind: kind(share=float("nan")), "share") for kind in KINDS),
        (lambda: Weather((Hang(0.6), Reset(0.6))), "shares"),
        (lambda: Delay(-1.0), "median"),
        (lambda: Delay(1.0, sigma=-1.0), "sigma"),
        (lambda: Dribble(rate=0.0), "rate"),
        (lambda: Status(200), "code"),
        (lambda: Status(503, retry_after=-1), "retry_after"),
        (lambda: Capacity(0.0), "rate"),
        (lambda: Capacity(1.0, refusal=2.0), "refusal"),
    ],
)
def test_senseless_faults_are_refused(make: object, name: str) -> None:
    """A value out of range is refused by an error that names it."""
    assert callable(make)
    with pytest.raises(ConfigError, match=name):
        make()


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Weather(("hang",)), "faults"),  # type: ignore[arg-type]
        (lambda: Weather(delay=1.0), "delay"),  # type: ignore[arg-type]
        (lambda: Weather(capacity=5), "capacity"),  # type: ignore[arg-type]
        (lambda: Delay(True), "median"),
        (lambda: Hang("half"), "share"),  # type: ignore[arg-type]
    ],
)
def test_faults_of_the_wrong_type_are_refused(make: object, name: str) -> None:
    """A value of the wrong type is refused by an error that names it."""
    assert callable(make)
    with pytest.raises(TypeError, match=name):
        make()
