"""The boundary where a user's values become numbers: what is taken, what is refused, and in which words."""

from __future__ import annotations

import math
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience import _checks
from resilience.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

NUMBERS = st.one_of(
    st.floats(),
    st.integers(),
    st.fractions(),
    st.decimals(allow_nan=False),
    st.sampled_from([10**400, -(10**400), 5e-324, -0.0, Decimal("NaN")]),
)
CHECKS: dict[str, tuple[Callable[..., float], Callable[[float], bool]]] = {
    "seconds": (_checks.seconds, lambda x: 0 < x <= _checks.LONGEST),
    "seconds or 0": (lambda n, v: _checks.seconds(n, v, zero=True), lambda x: 0 <= x <= _checks.LONGEST),
    "seconds or inf": (
        lambda n, v: _checks.seconds(n, v, inf=True), lambda x: 0 < x <= _checks.LONGEST or x == math.inf
    ),
    "ratio": (_checks.ratio, lambda x: 0 < x <= 1),
    "ratio or 0": (lambda n, v: _checks.ratio(n, v, zero=True), lambda x: 0 <= x <= 1),
    "open ratio": (lambda n, v: _checks.ratio(n, v, one=False), lambda x: 0 < x < 1),
    "number": (_checks.number, math.isfinite),
    "at least 1": (lambda n, v: _checks.number(n, v, minimum=1), lambda x: math.isfinite(x) and x >= 1),
    "above 0": (lambda n, v: _checks.number(n, v, above=0), lambda x: math.isfinite(x) and x > 0),
}  # fmt: skip


def as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


@given(st.sampled_from(sorted(CHECKS)), NUMBERS)
def test_a_number_is_taken_exactly_when_it_is_in_range(kind: str, value: Any) -> None:
    """As the float it stands for; or refused by a ValueError that names the argument and shows the value."""
    check, allowed = CHECKS[kind]
    number = as_float(value)
    huge = math.isinf(number) and not (isinstance(value, (float, Decimal)))
    if allowed(number) and not huge:
        taken = check("speed", value)
        assert type(taken) is float
        assert taken == number
    else:
        with pytest.raises(ConfigError, match="speed must be") as caught:
            check("speed", value)
        assert repr(value) in str(caught.value)


@given(st.timedeltas(), st.booleans())
def test_a_timedelta_is_a_number_of_seconds_and_nothing_else(value: timedelta, zero: bool) -> None:
    """Taken where seconds are, by the same range; where a plain number or share is wanted it is a TypeError."""
    seconds = value.total_seconds()
    if 0 < seconds <= _checks.LONGEST or (zero and seconds == 0):
        assert _checks.seconds("wait", value, zero=zero) == seconds
    else:
        with pytest.raises(ConfigError, match="wait"):
            _checks.seconds("wait", value, zero=zero)
    for check in (_checks.number, _checks.ratio):
        with pytest.raises(TypeError, match="wait"):
            check("wait", value)


@given(st.integers(), st.integers(0, 5))
def test_a_count_is_a_whole_number_from_its_minimum(value: int, minimum: int) -> None:
    """Nothing is rounded or clamped."""
    if value >= minimum:
        assert _checks.count("attempts", value, minimum=minimum) == value
    else:
        with pytest.raises(ConfigError, match=f"attempts must be a whole number >= {minimum}"):
            _checks.count("attempts", value, minimum=minimum)


@pytest.mark.parametrize("value", [True, False, None, "1", b"1", [], 1j, ..., "1.5"], ids=repr)
@pytest.mark.parametrize("check", [_checks.seconds, _checks.number, _checks.ratio, _checks.count])
def test_what_is_no_number_is_a_type_error(check: Callable[..., Any], value: object) -> None:
    """A bool is none, nor is text that reads like one."""
    with pytest.raises(TypeError, match="rate must be"):
        check("rate", value)


class Many:
    """Like an array of several numbers: it has the method, which then refuses."""

    def __float__(self) -> float:
        raise TypeError("only arrays of one element can be converted")

    def __index__(self) -> int:
        raise TypeError("only integer arrays of one element can be converted")

    def __repr__(self) -> str:
        return "many"


@pytest.mark.parametrize("value", [Many(), Decimal("sNaN")], ids=repr)
@pytest.mark.parametrize("check", [_checks.seconds, _checks.number, _checks.ratio, _checks.count])
def test_what_refuses_to_become_a_number_is_refused_by_name(check: Callable[..., Any], value: object) -> None:
    """Arrays and signalling NaNs have the method of a number; the message is ours all the same."""
    with pytest.raises((TypeError, ValueError), match="rate must be"):
        check("rate", value)


@given(st.floats(0, 4e9))
def test_nanoseconds_are_the_nearest(seconds: float) -> None:
    """Rounded, not cut; and back again within half a nanosecond or a float's own grain."""
    ns = _checks.to_ns(seconds)
    assert isinstance(ns, int)
    assert abs(Fraction(ns) - Fraction(seconds) * 10**9) <= Fraction(1, 2) + Fraction(math.ulp(seconds * 1e9))
