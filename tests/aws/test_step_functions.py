"""A ``Retry`` block of Step Functions reads as a policy that decides alike, and is written back as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, ReadTimeoutError
from hypothesis import given
from hypothesis import strategies as st

import resilience as rs
from resilience.aws.step_functions import AslRetry, from_asl, to_asl
from resilience.testing import VirtualClock

NAMES = ("Alpha", "Beta", "Gamma", "DynamoDb.ThrottlingException", "States.Timeout", "States.TaskFailed")


class Alpha(Exception):
    pass


class Beta(Exception):
    pass


class Gamma(Exception):
    pass


def code(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": ""}}, "GetItem")


ERRORS = [Alpha(), Beta(), Gamma(), code("Throttling"), code("ThrottlingException"), TimeoutError(), KeyError("other")]


@st.composite
def retriers(draw: Any) -> dict[str, Any]:
    """One retrier; each optional field may be left out."""
    fields: dict[str, Any] = {"ErrorEquals": draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3))}
    if draw(st.booleans()):
        fields["IntervalSeconds"] = draw(st.integers(1, 10) | st.integers(1, 99_999_999))
    if draw(st.booleans()):
        fields["MaxAttempts"] = draw(st.integers(0, 6) | st.just(99_999_999))
    if draw(st.booleans()):
        fields["BackoffRate"] = draw(st.floats(1, 10) | st.integers(1, 4) | st.just(1e300))
    least = fields.get("IntervalSeconds", 1) + 1
    if least <= 31_622_400 and draw(st.booleans()):
        fields["MaxDelaySeconds"] = draw(st.integers(least, min(31_622_400, least + 100)) | st.just(31_622_400))
    if draw(st.booleans()):
        fields["JitterStrategy"] = draw(st.sampled_from(["NONE", "FULL"]))
    return fields


def normalised(block: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the language says of fields that are left out."""
    defaults = {"IntervalSeconds": 1, "MaxAttempts": 3, "BackoffRate": 2.0, "JitterStrategy": "NONE"}
    return [{**defaults, **{k: v for k, v in retrier.items() if k != "Comment"}} for retrier in block]


@given(st.lists(retriers(), min_size=1, max_size=4), st.booleans())
def test_a_block_is_written_back_as_it_was_read(block: list[dict[str, Any]], last: bool) -> None:
    """From the list, from JSON, and once more from what was written, with its defaults spelled out."""
    if last:
        block = [*block, {"ErrorEquals": ["States.ALL"], "Comment": "the rest"}]
    written = to_asl(from_asl(block))
    assert written == normalised(block)
    assert to_asl(from_asl(json.dumps(block))) == written
    assert to_asl(from_asl(json.loads(json.dumps(written)))) == written


@given(
    st.integers(1, 50),
    st.floats(1, 5),
    st.integers(1, 1000),
    st.integers(1, 8),
    st.sampled_from(["none", "full"]),
)
def test_a_policy_comes_back_from_the_block_it_was_written_to(
    base: int, factor: float, more: int, attempts: int, jitter: str
) -> None:
    """With the same attempts and, with the same randomness, the same waits."""
    backoff = rs.Exponential(base, factor, cap=base + more, jitter=jitter)
    retry = rs.Retry(on=Alpha, attempts=attempts, backoff=backoff, budget=None, retry_after=None)
    again = from_asl(to_asl(retry, error_equals=["Alpha"]))
    assert waits(again, [Alpha()] * 20) == pytest.approx(waits(retry, [Alpha()] * 20))


def waits(retry: rs.Retry, errors: list[Exception], random: float = 0.75) -> list[float]:
    """What a call sleeps between attempts, that fails with these errors one after the other."""

    class Fixed:
        def random(self) -> float:
            return random

    slept: list[float] = []
    left = iter(errors)

    def fail() -> None:
        error = next(left, None)
        if error is not None:
            raise error

    seen = retry.replace(rng=Fixed(), on_retry=lambda event: slept.append(event.delay))
    policy = rs.Policy(retry=seen, clock=VirtualClock())
    try:
        policy.call(fail)
    except Exception as error:
        if error not in errors:
            raise
    return slept


def interpreter(block: list[dict[str, Any]], names: list[set[str]], random: float) -> list[float]:
    """The words of the language: errors by all names they go by, one after the other; returns the waits."""
    used = [0] * len(block)
    slept = []
    for known in names:
        found = next((n for n, retrier in enumerate(block) if known & set(retrier["ErrorEquals"])), None)
        if found is None or used[found] >= block[found]["MaxAttempts"]:
            break
        retrier = block[found]
        delay = retrier["IntervalSeconds"] * retrier["BackoffRate"] ** used[found]
        delay = min(delay, retrier.get("MaxDelaySeconds", delay))
        slept.append(delay * random if retrier["JitterStrategy"] == "FULL" else delay)
        used[found] += 1
    return slept


KNOWN_AS: dict[str, tuple[Exception, set[str]]] = {
    "Alpha": (Alpha(), {"Alpha", "States.TaskFailed", "States.ALL"}),
    "Beta": (Beta(), {"Beta", "States.TaskFailed", "States.ALL"}),
    "code": (
        code("ThrottlingException"),
        {"DynamoDb.ThrottlingException", "States.TaskFailed", "States.ALL"},
    ),
    "late": (TimeoutError(), {"States.Timeout", "States.ALL"}),
    "other": (KeyError("other"), {"States.TaskFailed", "States.ALL"}),
}


@st.composite
def small(draw: Any) -> dict[str, Any]:
    """A retrier whose waits stay within what a clock can count."""
    interval = draw(st.integers(1, 20))
    fields: dict[str, Any] = {
        "ErrorEquals": draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3)),
        "IntervalSeconds": interval,
        "MaxAttempts": draw(st.integers(0, 4)),
        "BackoffRate": draw(st.floats(1, 4)),
        "JitterStrategy": draw(st.sampled_from(["NONE", "FULL"])),
    }
    if draw(st.booleans()):
        fields["MaxDelaySeconds"] = interval + draw(st.integers(1, 60))
    return fields


@given(
    st.lists(small(), min_size=1, max_size=3),
    st.lists(st.sampled_from(sorted(KNOWN_AS)), max_size=14),
    st.floats(0, 1, exclude_max=True),
)
def test_the_waits_are_those_of_the_language(block: list[dict[str, Any]], story: list[str], random: float) -> None:
    """First match decides, each retrier counts for itself, and every delay is the formula's."""
    errors = [KNOWN_AS[name][0] for name in story]
    expected = interpreter(block, [KNOWN_AS[name][1] for name in story], random)
    assert waits(from_asl(block), errors, random) == pytest.approx(expected)


def test_the_example_of_the_specification() -> None:
    """Two retriers that take turns go on counting where each of them stood."""
    block: list[dict[str, Any]] = [
        {"ErrorEquals": ["Alpha", "Beta"], "IntervalSeconds": 1, "BackoffRate": 2.0, "MaxAttempts": 2},
        {"ErrorEquals": ["Gamma"], "IntervalSeconds": 5},
    ]
    errors: list[Exception] = [Alpha(), Gamma(), Beta(), Gamma(), Alpha()]
    assert waits(from_asl(block), errors) == [1, 5, 2, 10]


def test_zero_attempts_mean_never() -> None:
    """Such a retrier shields its errors from the ones behind it."""
    block: list[dict[str, Any]] = [{"ErrorEquals": ["Alpha"], "MaxAttempts": 0}, {"ErrorEquals": ["States.ALL"]}]
    retry = from_asl(block)
    assert waits(retry, [Alpha()]) == []
    assert waits(retry, [Beta()]) == [1]
    covers: Any = retry.on
    assert (covers(Alpha()), covers(Beta())) == (False, True)
    error = Alpha()

    def fail() -> None:
        raise error

    with pytest.raises(Alpha):
        retry.replace(wrap=True).call(fail)
    assert not hasattr(error, "__notes__")
    assert retry.counters["exhausted"] == 0


def test_names_cover_what_they_cover_there() -> None:
    """Class names exactly, codes of botocore's errors with their service before them, and the names of the language."""

    def covered(name: str, error: Exception) -> bool:
        return waits(from_asl({"ErrorEquals": [name]}), [error]) != []

    class Child(Alpha):
        pass

    read = ReadTimeoutError(endpoint_url="http://x")
    assert covered("Alpha", Alpha())
    assert not covered("Alpha", Child())
    assert covered("DynamoDb.ThrottlingException", code("ThrottlingException"))
    assert covered("DynamoDb.ThrottlingException", code("Throttling"))
    assert covered("Sqs.QueueDoesNotExist", code("AWS.SimpleQueueService.QueueDoesNotExist"))
    assert covered("S3.SlowDown", code("com.amazonaws.s3#SlowDown"))
    assert not covered("DynamoDb.ThrottlingException", code("ValidationException"))
    assert all(
        covered("States.Timeout", e) for e in (TimeoutError(), read, ConnectTimeoutError(endpoint_url="http://x"))
    )
    assert not covered("States.Timeout", Alpha())
    assert covered("States.TaskFailed", Alpha())
    assert not covered("States.TaskFailed", read)
    assert covered("States.ALL", read)
    assert not covered("States.ALL", rs.CircuitOpen("open"))
    assert covered("CircuitOpen", rs.CircuitOpen("open"))


def test_a_mapping_says_what_a_name_stands_for() -> None:
    """By class, subclasses included, or by a function; also for names that mean nothing here."""
    block = [{"ErrorEquals": ["Lambda.Unknown", "States.HeartbeatTimeout"]}]
    retry = from_asl(
        block, errors={"Lambda.Unknown": OSError, "States.HeartbeatTimeout": lambda e: isinstance(e, Beta)}
    )
    assert waits(retry, [ConnectionResetError()]) == [1]
    assert waits(retry, [Beta()]) == [1]
    assert waits(retry, [Alpha()]) == []


def test_a_policy_with_a_block_is_a_policy() -> None:
    """As decorator, async, in a loop of blocks, and with a deadline that cuts the waits."""
    clock = VirtualClock()
    calls: list[float] = []
    retry = from_asl({"ErrorEquals": ["Alpha"], "IntervalSeconds": 2}, clock=clock, name="orders")

    @retry
    def fail() -> None:
        calls.append(clock.now)
        raise Alpha

    with pytest.raises(Alpha) as caught:
        fail()
    assert calls == [0, 2, 6, 14]
    assert "orders: gave up after 4 attempts" in caught.value.__notes__[0]
    assert retry.counters["exhausted"] == 1

    calls.clear()
    with pytest.raises(Alpha), rs.Deadline(5.0, clock=clock):
        fail()
    assert [round(at - calls[0]) for at in calls] == [0, 2]

    async def afail() -> None:
        raise Alpha

    clock.sleeps.clear()
    with pytest.raises(Alpha):
        clock.run(retry.acall(afail))
    assert clock.sleeps == [2, 4, 8]

    clock.sleeps.clear()
    for attempt in retry:
        with attempt:
            if attempt.number < 3:
                raise Alpha
    assert clock.sleeps == [2, 4]


def test_it_can_be_copied_and_shown() -> None:
    """The representation holds the whole block; a copy decides alike."""
    block = [{"ErrorEquals": ["Alpha"], "MaxAttempts": 1}]
    retry = from_asl(block, name="orders")
    assert eval(repr(retry), {"AslRetry": AslRetry}).block == retry.block
    copy = from_asl(block, errors={"Alpha": KeyError}).replace(name="x")
    assert copy.block == retry.block
    assert waits(copy, [KeyError()]) == [1]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ErrorEquals", []), ("ErrorEquals", "Alpha"), ("ErrorEquals", [1]), ("ErrorEquals", None),
        ("IntervalSeconds", 0), ("IntervalSeconds", 1.5), ("IntervalSeconds", 100_000_000), ("IntervalSeconds", True),
        ("IntervalSeconds", "{% $x %}"), ("MaxAttempts", -1), ("MaxAttempts", 100_000_000), ("MaxAttempts", None),
        ("BackoffRate", 0.99), ("BackoffRate", float("nan")), ("BackoffRate", float("inf")), ("BackoffRate", "2"),
        ("BackoffRate", 10**400), ("MaxDelaySeconds", 0), ("MaxDelaySeconds", 1), ("MaxDelaySeconds", 31_622_401),
        ("MaxDelaySeconds", None), ("JitterStrategy", "EQUAL"), ("JitterStrategy", None), ("Jitter", "FULL"),
        ("ErrorEquals", ["States.HeartbeatTimeout"]), ("ErrorEquals", ["States.ALL", "Alpha"]),
    ],
)  # fmt: skip
def test_a_block_that_means_nothing_is_refused(field: str, value: object) -> None:
    """With the name of the field and what stood there."""
    with pytest.raises(rs.ConfigError, match=rf"Retry\[0\]\.{field}") as caught:
        from_asl([{"ErrorEquals": ["Alpha"], field: value}])
    assert repr(value) in str(caught.value) or field == "ErrorEquals"


def test_other_shapes_are_refused() -> None:
    """What is no block at all, and names that stand nowhere in it."""
    for block in ([], "[]", "{", '"x"', [3]):
        with pytest.raises((rs.ConfigError, TypeError)):
            from_asl(block)  # type: ignore[arg-type]
    for other in (3, None, b"[]"):
        with pytest.raises(TypeError):
            from_asl(other)  # type: ignore[arg-type]
    with pytest.raises(rs.ConfigError, match=r"Retry\[0\]\.ErrorEquals: States.ALL"):
        from_asl([{"ErrorEquals": ["States.ALL"]}, {"ErrorEquals": ["Alpha"]}])
    with pytest.raises(rs.ConfigError, match="'Gamma'"):
        from_asl([{"ErrorEquals": ["Alpha"]}], errors={"Gamma": Gamma})
    with pytest.raises(TypeError):
        from_asl([{"ErrorEquals": ["Alpha"]}], errors={"Alpha": 3})


PLAIN: dict[str, Any] = {"on": Alpha, "backoff": rs.Exponential(1), "budget": None, "retry_after": None}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("budget", "own"), ("budget", rs.RetryBudget(20)), ("retry_after", "default"), ("elapsed", 30.0),
        ("on_result", bool), ("shadow", True), ("attempts", None), ("attempts", 100_000_002),
        ("backoff", rs.Linear(1)), ("backoff", [1, 2]), ("backoff", lambda n: n), ("backoff", 0),
        ("backoff", rs.Exponential(0.5)), ("backoff", rs.Exponential(1, jitter="equal")),
        ("backoff", rs.Exponential(1, jitter="decorrelated")), ("backoff", rs.Exponential(1, cap=1.5)),
        ("backoff", rs.Constant(1.5)), ("backoff", rs.Constant(1, jitter="equal")),
        ("backoff", rs.Exponential(1, 1e9, cap=4e7)),
    ],
)  # fmt: skip
def test_a_policy_that_cannot_be_said_there_is_refused(name: str, value: Any) -> None:
    """With the name of the setting and its value."""
    settings = {**PLAIN, name: value}
    if name == "attempts" and value is None:
        settings["elapsed"] = 10.0
        with pytest.raises(rs.ConfigError, match="attempts"):
            to_asl(rs.Retry(**settings), error_equals=["Alpha"], drop=["elapsed"])
        return
    with pytest.raises(rs.ConfigError, match=name):
        to_asl(rs.Retry(**settings), error_equals=["Alpha"])


def test_settings_are_left_out_when_one_says_so() -> None:
    """The defaults of `Retry` have no counterpart; dropping them is a decision."""
    retry = rs.Retry(on=Alpha, attempts=4, backoff=rs.Exponential(2, 3, cap=10))
    assert to_asl(retry, error_equals=["Alpha"], drop=["budget", "retry_after"]) == [
        {
            "ErrorEquals": ["Alpha"],
            "IntervalSeconds": 2,
            "MaxAttempts": 3,
            "BackoffRate": 3.0,
            "MaxDelaySeconds": 10,
            "JitterStrategy": "FULL",
        }
    ]
    with pytest.raises(rs.ConfigError, match="drop"):
        to_asl(retry, error_equals=["Alpha"], drop=["attempts"])


def test_waits_that_never_change_are_written_as_such() -> None:
    """A cap nobody reaches is not written, be it whole or not."""
    constant = to_asl(rs.Retry(**{**PLAIN, "backoff": 7}), error_equals=["Alpha"])[0]
    assert (constant["IntervalSeconds"], constant["BackoffRate"]) == (7, 1.0)
    flat = to_asl(rs.Retry(**{**PLAIN, "backoff": rs.Exponential(5, cap=5)}), error_equals=["Alpha"])[0]
    assert (flat["IntervalSeconds"], flat["BackoffRate"]) == (5, 1.0)
    high = to_asl(rs.Retry(**{**PLAIN, "backoff": rs.Exponential(1, cap=20.5)}), error_equals=["Alpha"])[0]
    assert "MaxDelaySeconds" not in high
    assert to_asl(rs.Retry(**{**PLAIN, "attempts": 1}), error_equals=["Alpha"])[0]["MaxAttempts"] == 0


def test_what_decides_by_rules_of_its_own_is_not_written() -> None:
    """A subclass may do anything; names are needed for a plain one, and refused for one that has them."""

    class Special(rs.Retry):
        pass

    with pytest.raises(rs.ConfigError, match="plain Retry"):
        to_asl(Special(**PLAIN), error_equals=["Alpha"])
    with pytest.raises(rs.ConfigError, match="error_equals"):
        to_asl(rs.Retry(**PLAIN))
    with pytest.raises(rs.ConfigError, match="error_equals"):
        to_asl(from_asl({"ErrorEquals": ["Alpha"]}), error_equals=["Beta"])
    with pytest.raises(rs.ConfigError, match="shadow"):
        to_asl(from_asl({"ErrorEquals": ["Alpha"]}, shadow=True))
    with pytest.raises(TypeError, match="retry"):
        to_asl("x")  # type: ignore[arg-type]
