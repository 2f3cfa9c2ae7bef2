"""Lambda functions that report each failure by itself, in time, and in the order that the source has."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resilience as rs
from aws.queues import FakeQueue
from resilience.aws import sqs
from resilience.testing import VirtualClock

FLAT: dict[str, Any] = {"backoff": rs.Exponential(2, cap=1000, jitter="none")}


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Failures are logged; these tests are full of them."""
    caplog.set_level(logging.CRITICAL, logger="resilience")


class Context:
    """Lambda's: an invocation of so many seconds."""

    def __init__(self, clock: VirtualClock, seconds: float = 60.0) -> None:
        self.clock = clock
        self.end = clock.now + seconds

    def get_remaining_time_in_millis(self) -> int:
        return round((self.end - self.clock.now) * 1000)


def queued(*bodies: str, fifo: bool = False, receives: int = 1) -> dict[str, Any]:
    """An event of SQS; the first letter is the group."""
    arn = "arn:aws:sqs:eu-west-1:123456789012:jobs" + ".fifo" * fifo
    records = []
    for body in bodies:
        attributes = {"ApproximateReceiveCount": str(receives)}
        if fifo:
            attributes["MessageGroupId"] = body[0]
        records.append(
            {
                "messageId": f"id-{body}",
                "receiptHandle": f"receipt-{body}",
                "body": body,
                "attributes": attributes,
                "eventSource": "aws:sqs",
                "eventSourceARN": arn,
            }
        )
    return {"Records": records}


def streamed(*numbers: str, source: str = "aws:kinesis") -> dict[str, Any]:
    if source == "aws:kinesis":
        return {"Records": [{"eventSource": source, "kinesis": {"sequenceNumber": n}} for n in numbers]}
    return {"Records": [{"eventSource": source, "dynamodb": {"SequenceNumber": n}} for n in numbers]}


def failing(*bodies: str, seen: list[str] | None = None) -> Callable[[dict[str, Any]], None]:
    def handler(record: dict[str, Any]) -> None:
        if seen is not None:
            seen.append(record["body"])
        if record["body"] in bodies:
            raise ValueError(record["body"])

    return handler


def reported(answer: dict[str, Any]) -> list[str]:
    assert list(answer) == ["batchItemFailures"]
    assert all(list(item) == ["itemIdentifier"] for item in answer["batchItemFailures"])
    return [item["itemIdentifier"].removeprefix("id-") for item in answer["batchItemFailures"]]


@given(st.lists(st.tuples(st.text("ab", min_size=1, max_size=4), st.booleans()), max_size=10, unique_by=lambda x: x[0]))
def test_of_a_standard_queue_exactly_the_failures_are_reported(work: list[tuple[str, bool]]) -> None:
    """The others are begun all the same; nothing is ever raised."""
    seen: list[str] = []
    bad = [body for body, fails in work if fails]
    function = sqs.partial_batch(failing(*bad, seen=seen))
    answer = function(queued(*(body for body, _ in work)), Context(VirtualClock()))
    assert reported(answer) == bad
    assert seen == [body for body, _ in work]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=10))
def test_of_a_fifo_queue_the_rest_of_the_group_is_reported_too(work: list[tuple[str, bool]]) -> None:
    """And not begun; other groups are handled."""
    bodies = [f"{group}{n}" for n, (group, _) in enumerate(work)]
    bad = {body for body, (_, fails) in zip(bodies, work, strict=True) if fails}
    seen: list[str] = []
    answer = sqs.partial_batch(failing(*bad, seen=seen))(queued(*bodies, fifo=True), Context(VirtualClock()))
    expected_failed, expected_seen, stopped = [], set(), set()
    for body in bodies:
        if body[0] in stopped:
            expected_failed.append(body)
            continue
        expected_seen.add(body)
        if body in bad:
            stopped.add(body[0])
            expected_failed.append(body)
    assert reported(answer) == expected_failed
    assert set(seen) == expected_seen


@pytest.mark.parametrize("source", ["aws:kinesis", "aws:dynamodb"])
def test_of_a_stream_the_first_failure_is_reported_and_nothing_behind_it_begun(source: str) -> None:
    """Lambda goes on from there."""
    seen: list[str] = []

    def handler(record: dict[str, Any]) -> None:
        number = record.get("kinesis", {}).get("sequenceNumber") or record["dynamodb"]["SequenceNumber"]
        seen.append(number)
        if number in ("2", "3"):
            raise ValueError

    function = sqs.partial_batch(handler)
    context = Context(VirtualClock())
    assert reported(function(streamed("1", "2", "3", "4", source=source), context)) == ["2"]
    assert seen == ["1", "2"]
    assert reported(function(streamed("1", "4", source=source), context)) == []


@pytest.mark.parametrize("make_event", [queued, streamed])
def test_what_there_is_no_time_for_is_returned(make_event: Callable[..., dict[str, Any]]) -> None:
    """Records are begun as long as more than the reserve is left, inside a deadline that says how much."""
    clock = VirtualClock()
    left: list[float | None] = []

    def handler(record: dict[str, Any]) -> None:
        left.append(rs.remaining())
        clock.advance(4)

    function = sqs.partial_batch(reserve=2.0, clock=clock)(handler)
    answer = function(make_event(*"abcdef"), Context(clock, 12))
    assert left == pytest.approx([10, 6, 2])
    assert reported(answer) == (["d", "e", "f"] if make_event is queued else ["d"])
    assert reported(function(make_event(*"xy"), Context(clock, 1.5))) == (["x", "y"] if make_event is queued else ["x"])
    assert len(left) == 3


class Client:
    """Keeps what it is told."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.told: list[tuple[str, str, int]] = []
        self.sizes: list[int] = []

    def change_message_visibility_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        self.sizes.append(len(Entries))
        for entry in Entries:
            self.told.append((QueueUrl, entry["ReceiptHandle"].removeprefix("receipt-"), entry["VisibilityTimeout"]))
        answer = self.answers.pop(0) if self.answers else {}
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_failed_messages_are_hidden_for_the_delay_of_their_receive_count() -> None:
    """The queue's URL comes from the event; good messages are left to Lambda."""
    client = Client()
    function = sqs.partial_batch(client=client, **FLAT)(failing("b", "d"))
    answer = function(queued(*"abcd", receives=3), Context(VirtualClock()))
    assert reported(answer) == ["b", "d"]
    url = "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs"
    assert client.told == [(url, "b", 8), (url, "d", 8)]


def test_behind_a_failure_in_a_group_messages_come_back_right_after_it() -> None:
    """They are not hidden any longer than it; another group's failure has a delay of its own."""
    client = Client()
    function = sqs.partial_batch(client=client, queue_url="http://q/", **FLAT)(failing("a1", "b2"))
    answer = function(queued("a1", "b1", "a2", "b2", "a3", fifo=True), Context(VirtualClock()))
    assert reported(answer) == ["a1", "a2", "b2", "a3"]
    assert client.told == [
        ("http://q/", "a1", 2),
        ("http://q/", "a2", 0),
        ("http://q/", "b2", 2),
        ("http://q/", "a3", 0),
    ]


def test_more_than_ten_are_hidden_in_several_calls() -> None:
    """SQS takes ten at a time; a call that fails spoils neither the others nor the answer."""
    bodies = [f"m{n}" for n in range(23)]
    client = Client(OSError("down"), {"Failed": [{"Id": "11", "Code": "InternalError"}]})
    answer = sqs.partial_batch(client=client, **FLAT)(failing(*bodies))(queued(*bodies), Context(VirtualClock()))
    assert reported(answer) == bodies
    assert client.sizes == [10, 10, 3]


def test_what_was_not_begun_keeps_its_visibility() -> None:
    """It was not tried, so no delay of the backoff is its own; and with no time left nobody is called at all."""
    clock = VirtualClock()
    client = Client()

    def handler(record: dict[str, Any]) -> None:
        clock.advance(5)
        raise ValueError

    function = sqs.partial_batch(client=client, reserve=2, clock=clock, **FLAT)(handler)
    assert reported(function(queued(*"abc"), Context(clock, 7.5))) == ["a", "b", "c"]
    assert [body for _, body, _ in client.told] == ["a", "b"][: len(client.told)]
    client.told.clear()
    assert reported(function(queued(*"abc"), Context(clock, 5.5))) == ["a", "b", "c"]
    assert client.told == []


def test_a_delay_leaves_room_for_what_passed_before_the_invocation() -> None:
    """Twelve hours count from the receive, which may be minutes ago."""
    client = Client()
    sqs.partial_batch(client=client, backoff=43_200)(failing("a"))(queued("a"), Context(VirtualClock()))
    assert 42_000 < client.told[0][2] < 42_900


def test_the_url_follows_the_clients_endpoint_and_the_partition() -> None:
    """Emulators, private endpoints, China."""
    event = queued("a")
    client: Any = Client()
    client.meta = type("Meta", (), {"endpoint_url": "http://127.0.0.1:5000/"})
    sqs.partial_batch(client=client)(failing("a"))(event, Context(VirtualClock()))
    assert client.told[0][0] == "http://127.0.0.1:5000/123456789012/jobs"
    event["Records"][0]["eventSourceARN"] = "arn:aws-cn:sqs:cn-north-1:123456789012:jobs"
    other = Client()
    sqs.partial_batch(client=other)(failing("a"))(event, Context(VirtualClock()))
    assert other.told[0][0] == "https://sqs.cn-north-1.amazonaws.com.cn/123456789012/jobs"


def test_a_rejected_record_is_dropped_if_the_handler_says_so() -> None:
    """Otherwise it is a failure like others, and the redrive policy decides."""

    def handler(record: dict[str, Any]) -> None:
        raise sqs.Reject(delete=record["body"].startswith("x"))

    function = sqs.partial_batch(handler)
    assert reported(function(queued("x1", "x2", "a", "x3"), Context(VirtualClock()))) == ["a"]
    assert reported(function(queued("x1", "x2", fifo=True), Context(VirtualClock()))) == []


def test_hooks_hear_of_each_failure() -> None:
    """Their own errors go no further, nor does a backoff that fails."""
    told: list[sqs.Failed] = []

    def hook(event: sqs.Failed) -> None:
        told.append(event)
        raise RuntimeError

    function = sqs.partial_batch(client=Client(), on_error=hook, backoff=lambda n: 1 / 0)(failing("a"))
    assert reported(function(queued("a", receives=4), Context(VirtualClock()))) == ["a"]
    assert [(event.message["body"], event.receives, event.delay) for event in told] == [("a", 4, None)]


def test_both_spellings_keep_the_functions_name() -> None:
    """With settings and without."""

    @sqs.partial_batch
    def plain(record: dict[str, Any]) -> None:
        """Plain."""

    @sqs.partial_batch(reserve=0, rng=random.Random(1))
    def tuned(record: dict[str, Any]) -> None:
        """Tuned."""

    assert (plain.__name__, tuned.__name__, plain.__doc__) == ("plain", "tuned", "Plain.")
    assert plain({"Records": []}, Context(VirtualClock())) == {"batchItemFailures": []}


@pytest.mark.parametrize(
    "event", [{}, {"Records": [{"eventSource": "aws:s3"}]}, {"Records": [{}]}, None, "x",
              {"Records": [*queued("a")["Records"], *streamed("1")["Records"]]}],
)  # fmt: skip
def test_other_events_are_refused(event: Any) -> None:
    """An answer about them would be taken for success."""
    with pytest.raises(ValueError, match="event"):
        sqs.partial_batch(failing())(event, Context(VirtualClock()))


def test_bad_arguments_are_refused() -> None:
    """When the function is made."""
    for settings in (
        {"reserve": -1}, {"client": object()}, {"queue_url": ""}, {"backoff": "x"}, {"on_error": 3}, {"rng": 3},
        {"clock": 3},
    ):  # fmt: skip
        with pytest.raises((rs.ConfigError, TypeError), match=next(iter(settings))):
            sqs.partial_batch(**settings)

    async def handler(record: dict[str, Any]) -> None:
        """Never called."""

    with pytest.raises(TypeError, match="Lambda awaits nothing"):
        sqs.partial_batch(handler)
    with pytest.raises(TypeError, match="handler"):
        sqs.partial_batch()(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="get_remaining_time_in_millis"):
        sqs.partial_batch(failing())(queued("a"), None)


def test_a_queue_is_worked_off_by_invocations() -> None:
    """A whole life: receive, invoke, delete what was not reported; every message is handled well once."""
    clock = VirtualClock()
    queue = FakeQueue(clock)
    queue.send(*"abcdef")
    left = {"b": 2, "e": 1}
    done: list[str] = []

    def handler(record: dict[str, Any]) -> None:
        if left.get(record["body"], 0):
            left[record["body"]] -= 1
            raise ValueError
        done.append(record["body"])

    function = sqs.partial_batch(client=queue, queue_url=queue.url, clock=clock, **FLAT)(handler)
    while queue.messages and clock.now < 500:
        asked = {"QueueUrl": queue.url, "MaxNumberOfMessages": 10, "AttributeNames": ["All"], "WaitTimeSeconds": 20}
        messages = queue.receive_message(**asked).get("Messages", [])
        event = queued(*(m["Body"] for m in messages))
        for record, message in zip(event["Records"], messages, strict=True):
            record.update(receiptHandle=message["ReceiptHandle"], attributes=message["Attributes"])
        failed = reported(function(event, Context(clock)))
        entries = [
            {"Id": m["MessageId"], "ReceiptHandle": m["ReceiptHandle"]} for m in messages if m["Body"] not in failed
        ]
        if entries:
            queue.delete_message_batch(QueueUrl=queue.url, Entries=entries)
    assert sorted(done) == list("abcdef")
    assert clock.now == 6  # 2 s, then 4 s
