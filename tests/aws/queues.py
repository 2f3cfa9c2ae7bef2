"""A queue in memory that keeps SQS's rules, on a clock of its own; for tests that let hours pass."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from resilience.aws import sqs

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilience.testing import VirtualClock

__all__ = ["URL", "FakeQueue", "rejecting"]

URL = "http://queue/123456789012/jobs"


@dataclass
class Stored:
    body: str
    number: int
    group: str | None = None
    visible_at: float = 0.0
    received_at: float = 0.0
    count: int = 0
    receipt: str | None = None
    delays: list[int] = field(default_factory=list)


class FakeQueue:
    """The client and the queue at once. ``refuse`` holds errors, or entries' codes, for the next calls by operation."""

    def __init__(
        self, clock: VirtualClock, *, fifo: bool = False, visibility: int = 30, max_receives: int | None = None
    ) -> None:
        self.clock = clock
        self.url = URL + ".fifo" * fifo
        self.fifo = fifo
        self.visibility = visibility
        self.max_receives = max_receives
        self.messages: list[Stored] = []
        self.dead: list[Stored] = []
        self.deleted: list[str] = []
        self.calls: list[str] = []
        self.refuse: dict[str, list[Any]] = {}
        self._numbers = itertools.count()

    def send(self, *bodies: str, group: str | None = None) -> None:
        for body in bodies:
            self.messages.append(Stored(body, next(self._numbers), group))

    def find(self, body: str) -> Stored:
        return next(message for message in self.messages if message.body == body)

    def in_flight(self, message: Stored) -> bool:
        return message.receipt is not None and message.visible_at > self.clock.now

    def _called(self, operation: str) -> Any:
        self.calls.append(operation)
        todo = self.refuse.get(operation)
        what = todo.pop(0) if todo else None
        if isinstance(what, BaseException):
            raise what
        return what

    def receive_message(self, **asked: Any) -> dict[str, Any]:
        self._called("receive")
        assert asked["QueueUrl"] == self.url
        assert 1 <= asked["MaxNumberOfMessages"] <= 10
        assert asked["AttributeNames"] == ["All"]
        found = self._receive(asked)
        if not found and asked["WaitTimeSeconds"]:
            end = self.clock.now + asked["WaitTimeSeconds"]
            later = [m.visible_at for m in self.messages if self.clock.now < m.visible_at <= end]
            self.clock.advance(min(later, default=end) - self.clock.now)
            found = self._receive(asked)
        return {"Messages": found} if found else {}

    def _receive(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        now, found = self.clock.now, []
        blocked = {m.group for m in self.messages if self.fifo and self.in_flight(m)}
        for message in list(self.messages):
            if message.visible_at > now or (self.fifo and message.group in blocked):
                continue
            if self.max_receives is not None and message.count >= self.max_receives:
                self.messages.remove(message)
                self.dead.append(message)
                continue
            message.count += 1
            message.received_at = now
            message.visible_at = now + asked.get("VisibilityTimeout", self.visibility)
            message.receipt = f"{message.number}-{message.count}"
            attributes = {"ApproximateReceiveCount": str(message.count)}
            if message.group is not None:
                attributes["MessageGroupId"] = message.group
            found.append(
                {
                    "MessageId": str(message.number),
                    "ReceiptHandle": message.receipt,
                    "Body": message.body,
                    "Attributes": attributes,
                }
            )
            if len(found) == asked["MaxNumberOfMessages"]:
                break
        return found

    def _entry(self, receipt: str) -> Stored | None:
        return next((m for m in self.messages if m.receipt == receipt and m.visible_at >= self.clock.now), None)

    def _batch(self, entries: list[dict[str, Any]], codes: Any, apply: Any) -> dict[str, Any]:
        assert 1 <= len(entries) <= 10
        assert len({entry["Id"] for entry in entries}) == len(entries)
        failed = []
        for entry in entries:
            message = self._entry(entry["ReceiptHandle"])
            code = (codes or {}).get(None if message is None else message.body)
            if code is not None:
                failed.append({"Id": entry["Id"], "SenderFault": False, "Code": code})
            elif message is None:
                failed.append({"Id": entry["Id"], "SenderFault": True, "Code": "ReceiptHandleIsInvalid"})
            else:
                apply(message, entry)
        return {"Failed": failed} if failed else {}

    def delete_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        def delete(message: Stored, entry: dict[str, Any]) -> None:
            self.messages.remove(message)
            self.deleted.append(message.body)

        return self._batch(Entries, self._called("delete"), delete)

    def _hide(self, message: Stored, entry: dict[str, Any]) -> None:
        seconds = entry["VisibilityTimeout"]
        assert type(seconds) is int
        assert 0 <= seconds <= 43_200
        assert self.clock.now + seconds <= message.received_at + 43_200, "hidden for more than 12 hours"
        message.delays.append(seconds)
        message.visible_at = self.clock.now + seconds

    def change_message_visibility_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        return self._batch(Entries, self._called("change"), self._hide)

    def change_message_visibility(self, *, QueueUrl: str, ReceiptHandle: str, VisibilityTimeout: int) -> None:
        self._called("renew")
        message = self._entry(ReceiptHandle)
        assert message is not None
        self._hide(message, {"VisibilityTimeout": VisibilityTimeout})
        message.delays.pop()

    def get_queue_attributes(self, *, QueueUrl: str, AttributeNames: list[str]) -> dict[str, Any]:
        self._called("look")
        found = {"VisibilityTimeout": str(self.visibility)}
        if self.max_receives is not None:
            found["RedrivePolicy"] = f'{{"maxReceiveCount": "{self.max_receives}", "deadLetterTargetArn": "arn:x"}}'
        return {"Attributes": found}


def rejecting(**settings: Any) -> Callable[[dict[str, Any]], None]:
    def handler(message: dict[str, Any]) -> None:
        raise sqs.Reject("no such order", **settings)

    return handler
