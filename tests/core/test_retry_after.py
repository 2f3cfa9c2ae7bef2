"""Reading how long a server asks to wait: every form it takes, and no error whatever stands there."""

from __future__ import annotations

import math
from datetime import timedelta
from email.utils import formatdate
from types import MappingProxyType
from typing import Any
from unittest.mock import MagicMock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience._retry_after import LONGEST, hint, parse

WALL = 1_700_000_000.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0), (120, 120.0), (" 3 ", 3.0), ("0", 0.0), ("1.5", 1.5),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0),  # IMF-fixdate
        ("Tuesday, 14-Nov-23 22:14:20 GMT", 60.0),  # RFC 850
        ("Tue Nov 14 22:14:20 2023", 60.0),  # asctime
        ("Tue, 14 Nov 2023 22:00:00 GMT", 0.0),  # has passed
        ("-1", None), ("soon", None), ("", None), (None, None), (math.nan, None), (math.inf, None), (True, None),
        (object(), None), (b"5x", None), (b"5", 5.0), (timedelta(seconds=5), 5.0), (timedelta(-1), None),
        ("1e3", None), ("1_000", None), ("inf", None), (MagicMock(), None),
        ("9" * 400, LONGEST), (1e308, LONGEST), (10**400, LONGEST),  # a server that says "never" is not asked at once
    ],
)  # fmt: skip
def test_all_forms_are_read(value: object, seconds: float | None) -> None:
    """Seconds, three kinds of dates; what is neither is nothing."""
    assert parse(value, WALL) == (None if seconds is None else pytest.approx(seconds, abs=1e-6))


@given(st.text() | st.integers() | st.floats() | st.binary() | st.none(), st.floats(0, 4e9))
def test_nothing_makes_it_raise(value: object, wall: float) -> None:
    """Any value: seconds that are finite and not negative, or nothing."""
    seconds = parse(value, wall)
    assert seconds is None or 0 <= seconds < math.inf


@given(st.integers(0, 2**31), st.integers(0, 10**6))
def test_a_date_written_by_the_standard_is_read_back(wall: int, ahead: int) -> None:
    """To the second."""
    assert parse(formatdate(wall + ahead, usegmt=True), wall) == pytest.approx(ahead)


class Thing(Exception):
    """An error with any attributes."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__()
        self.__dict__.update(attributes)


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (Thing(), None),
        (Thing(retry_after=2), 2.0),
        (Thing(retry_after="2"), 2.0),
        (Thing(response=Thing(headers={"Retry-After": "7"})), 7.0),
        (Thing(response=Thing(headers={"retry-after": "7"})), 7.0),
        (Thing(headers={"RETRY-AFTER": "7"}), 7.0),
        (Thing(retry_after=3, response=Thing(headers={"Retry-After": "7"})), 7.0),
        (Thing(response={"ResponseMetadata": {"HTTPHeaders": {"retry-after": "4"}}}), 4.0),
        (Thing(response={"ResponseMetadata": {"HTTPHeaders": {"x-amz-retry-after": "1500"}}}), 1.5),
        (Thing(response={"ResponseMetadata": 5}), None),
        (Thing(response={"Error": {"Code": "Throttling"}}), None),
        (Thing(headers=17, response=None), None),
        (Thing(headers={3: "x", "Retry-After": None}), None),
        (Thing(response=MappingProxyType({"ResponseMetadata": {"HTTPHeaders": {"retry-after": "4"}}})), 4.0),
    ],
)  # fmt: skip
def test_it_is_found_wherever_clients_put_it(error: Thing, seconds: float | None) -> None:
    """On the error, in the headers of its response in any case, and in botocore's metadata; the longest counts."""
    assert hint(error, WALL) == seconds


def test_objects_that_raise_are_no_trouble() -> None:
    """A property that fails, headers that fail: nothing asked for."""

    class Hostile(Exception):
        @property
        def retry_after(self) -> float:
            raise RuntimeError

        @property
        def response(self) -> Any:
            class Headers:
                def get(self, name: str) -> str:
                    raise OSError(name)

            return Thing(headers=Headers())

    class HostileNumber:
        def __float__(self) -> float:
            raise ZeroDivisionError

    class HostileMapping(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            raise OSError(name)

        def get(self, *_: Any) -> Any:
            raise OSError

    assert hint(Hostile(), WALL) is None
    assert hint(Thing(response=HostileMapping(ResponseMetadata={})), WALL) is None
    assert parse(HostileNumber(), WALL) is None
