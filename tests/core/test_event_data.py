"""Events as data: whatever errors and results are, there is one sentence and plain data of each."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience import events
from resilience.events import KINDS, Event
from resilience.machines.circuit_types import State


class Evil:
    """Raises whatever is asked of it."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __format__ = __len__ = __iter__ = __repr__  # type: ignore[assignment]


class Sly(str):
    """Text that is not what it seems."""

    __slots__ = ()

    def split(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no split")

    __str__ = split


class Odd:
    def __repr__(self) -> str:
        return Sly("odd\n\ttext " + "x" * 1000)


class EvilError(Exception):
    __str__ = __repr__ = Evil.__repr__


class NoText(Exception):
    def __str__(self) -> str:
        return 7  # type: ignore[return-value]  # noqa: PLE0307 - that is the point


ERRORS = st.one_of(
    st.builds(ValueError, st.text()),
    st.sampled_from([EvilError(), NoText(), KeyError("\n" * 300), OSError(2, "x" * 500), ValueError(10**4999)]),
)
RESULTS = st.one_of(
    *map(st.builds, (Evil, Odd, Sly, object)),
    st.sampled_from([10**5000, float("nan"), float("inf"), 1 + 2j, b"x" * 999]),
    st.text(),
    st.lists(st.integers()),
)
SECONDS = st.floats(0, 1e9)
BY_TYPE = {
    "str": st.text("abc {}[]%'", max_size=40), "int": st.integers(1, 99), "bool": st.booleans(), "float": SECONDS,
    "float | None": st.none() | SECONDS, "BaseException": ERRORS, "Exception | None": st.none() | ERRORS,
    "object": RESULTS, "State": st.sampled_from(State),
}  # fmt: skip
EVENTS = st.one_of(
    *(st.builds(kind, **{f.name: BY_TYPE[str(f.type)] for f in dataclasses.fields(kind)}) for kind in KINDS),
    st.builds(events.RateRevised, st.just("p"), st.just(float("inf")), SECONDS, st.booleans()),
)


@given(EVENTS)
def test_an_event_is_plain_data(event: Event) -> None:
    """JSON carries it, whatever errors and results do; no field is None, and only names of fields are in it."""
    data = event.data()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert set(data) <= {f.name for f in dataclasses.fields(event)} | {"error_type"}
    for name, value in data.items():
        assert type(value) in (str, int, float, bool), name
        given_value = getattr(event, name, None)
        if isinstance(given_value, (bool, int, float)) and name != "result":
            assert value == given_value
        elif name in ("error", "result"):
            assert len(value) <= 120
    missing = {f.name for f in dataclasses.fields(event)} - set(data)
    assert all(getattr(event, name) in (None, float("inf")) for name in missing)


@given(EVENTS)
def test_an_event_is_one_sentence(event: Event) -> None:
    """`str()` never raises, and is one line of bounded length, whatever the errors say."""
    text = str(event)
    assert text.startswith(f"{event.policy}: ")
    assert len(text) < 300
    assert "\n" not in text


@given(EVENTS)
def test_an_event_cannot_be_changed(event: Event) -> None:
    """No field can be set, and none added."""
    for name in ("policy", dataclasses.fields(event)[-1].name, "other"):
        with pytest.raises((AttributeError, TypeError)):
            setattr(event, name, "x")


def test_the_kind_is_the_name_in_lower_case() -> None:
    """As the documentation and the metrics write it."""
    assert events.AttemptTimedOut("p", 1, KeyError(), None, 1.0).kind == "attempt_timed_out"
    assert events.HedgeWon("p").kind == "hedge_won"
    assert events.GaveUp("p", "failed", 1, KeyError(), 1.0).kind == "gave_up"
