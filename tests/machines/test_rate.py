"""The settings of a token bucket: what a rate means, and what is refused."""

from __future__ import annotations

import math
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.errors import ConfigError
from resilience.machines.lane import Rate

SECOND = 1_000_000_000


@given(st.floats(1e-300, 1e300), st.integers(1, 1000))
def test_a_rate_is_the_number_that_was_typed(rate: float, burst: int) -> None:
    """Interval and scale are the exact fraction, in lowest terms, of the decimal written."""
    spec = Rate(rate, burst=burst)

    assert SECOND / Fraction(repr(rate)) == Fraction(spec.interval, spec.scale)
    assert math.gcd(spec.interval, spec.scale) == 1
    assert burst * spec.interval + spec.scale == spec.slack
    assert spec == eval(repr(spec))


def test_ways_to_write_a_rate() -> None:
    """Floats, fractions, decimals, timedeltas mean the same where they say the same."""
    same = [
        Rate(0.1),
        Rate(Fraction(1, 10)),
        Rate(Decimal("0.1")),
        Rate(1, per=10),
        Rate(6, per=timedelta(minutes=1)),
        Rate(3, per=Fraction(30)),
    ]
    assert {(10 * SECOND, 1)} == {(spec.interval, spec.scale) for spec in same}
    assert (Rate(3).interval, Rate(3).scale) == (SECOND, 3)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        (name, value, error)
        for name in ("rate", "per")
        for value, error in [
            (0, ConfigError),
            (-1, ConfigError),
            (math.nan, ConfigError),
            (math.inf, ConfigError),
            (Decimal("NaN"), ConfigError),
            (True, TypeError),
            ("3", TypeError),
            (None, TypeError),
            (1j, TypeError),
        ]
    ]
    + [("rate", timedelta(1), TypeError)]
    + [("burst", value, ConfigError) for value in (0, -1)]
    + [("burst", value, TypeError) for value in (1.0, True, "1", None, math.inf)],
)
def test_bad_settings_are_refused_by_name(name: str, value: object, error: type[Exception]) -> None:
    """The error names the argument and shows the value."""
    given_: dict[str, object] = {"rate": 1, name: value}
    with pytest.raises(error, match=rf"^{name} must be ") as caught:
        Rate(**given_)  # type: ignore[arg-type]
    assert repr(value) in str(caught.value)
