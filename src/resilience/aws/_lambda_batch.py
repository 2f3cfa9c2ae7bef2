"""Lambda functions that answer for each record of a batch instead of for all of it.

With ``ReportBatchItemFailures`` switched on in the event source mapping, Lambda takes back only the records named in
the answer. For SQS these are all that failed or were not begun; of a FIFO queue also what stands behind a failure in
its group. For Kinesis and DynamoDB streams it is the first one that failed: Lambda goes on from there, so nothing
behind it is begun. (AWS Lambda developer guide, "Implementing partial batch responses", and the same for streams.)
"""

from __future__ import annotations

import functools
import inspect
import random
from typing import TYPE_CHECKING, Any, overload

from .. import _checks
from .._checks import NS
from .._hooks import log, notify
from .._retry_after import hint
from ..backoff import Exponential, as_backoff
from ..clock import Clock, system
from ..errors import DeadlineExceeded
from ._messages import Failed, Reject, Rule, lanes, receives
from .lambda_context import LambdaDeadline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ..backoff import Backoff

    Handler = Callable[[dict[str, Any]], Any]
    LambdaFunction = Callable[[Mapping[str, Any], Any], dict[str, Any]]

__all__ = ["partial_batch"]

_HELD_BEFORE = 600.0
"""Seconds that a message may have been held before the function began: the longest batch window, and a margin."""

_SEQUENCE = {"aws:kinesis": ("kinesis", "sequenceNumber"), "aws:dynamodb": ("dynamodb", "SequenceNumber")}


@overload
def partial_batch(handler: Handler, /) -> LambdaFunction: ...


@overload
def partial_batch(
    *,
    reserve: float = ...,
    client: Any = ...,
    queue_url: str | None = ...,
    backoff: Backoff | float | Iterable[float] | Callable[[int], float] = ...,
    on_error: Callable[[Failed], object] | None = ...,
    rng: random.Random | None = ...,
    clock: Clock | None = ...,
) -> Callable[[Handler], LambdaFunction]: ...


def partial_batch(
    handler: Handler | None = None,
    /,
    *,
    reserve: float = 1.0,
    client: Any = None,
    queue_url: str | None = None,
    backoff: Backoff | float | Iterable[float] | Callable[[int], float] = Exponential(1.0, cap=900.0),  # noqa: B008 - frozen
    on_error: Callable[[Failed], object] | None = None,
    rng: random.Random | None = None,
    clock: Clock | None = None,
) -> LambdaFunction | Callable[[Handler], LambdaFunction]:
    """Make a function of one record into a Lambda function of (event, context) that reports each failure by itself.

    For events of SQS, Kinesis and DynamoDB streams. Records are handled one after the other, inside a deadline
    *reserve* seconds before the invocation ends; those not begun by then are returned as failures. Handlers' errors
    are logged, never raised.

    Args:
        handler: called with each record of the event, a dict.
        reserve: seconds, >= 0, kept back from the invocation's time for giving back and answering.
        client: an SQS client; with it failed messages come back after *backoff*, by their receive count, instead of
            after the queue's visibility timeout, and those behind them in a FIFO group right after them.
        queue_url: the queue's URL; by default made of the client's endpoint and the event's ARN.
        backoff: see `Consumer`.
        on_error: called with a `Failed` after each failure of the handler; its errors are logged, never raised.
        rng: the randomness of the jitter, a ``random.Random``.
        clock: where time comes from; the machine's clock by default.

    Raises:
        ConfigError: an argument is out of range.
        TypeError: an argument is of the wrong type, or *handler* is a coroutine function; when called, the context
            cannot tell the time left.
        ValueError: when called, the event is not one of these services'.

    A handler raises `Reject` with ``delete=True`` for a record that is to count as handled. Thread-safe.
    """
    batch = _PartialBatch(reserve, client, queue_url, backoff, on_error, rng, clock)
    return batch.wrap if handler is None else batch.wrap(handler)


class _PartialBatch:
    """The settings, and the course of one invocation."""

    def __init__(
        self,
        reserve: float,
        client: Any,
        queue_url: str | None,
        backoff: Any,
        on_error: Callable[[Failed], object] | None,
        rng: random.Random | None,
        clock: Clock | None,
    ) -> None:
        self.reserve = _checks.seconds("reserve", reserve, zero=True)
        if client is not None and not callable(getattr(client, "change_message_visibility_batch", None)):
            raise TypeError(f"client must be an SQS client with change_message_visibility_batch(), not {client!r}")
        self.client = client
        self.queue_url = None if queue_url is None else _checks.text("queue_url", queue_url)
        self.on_error = None if on_error is None else _checks.function("on_error", on_error)
        if rng is not None and not callable(getattr(rng, "random", None)):
            raise TypeError(f"rng must be a random.Random, not {rng!r}")
        if clock is not None and not isinstance(clock, Clock):
            raise TypeError(f"clock must be a Clock, not {clock!r}")
        self.clock = clock
        self.time = clock or system
        self.rule = Rule(as_backoff(backoff), None, random.random if rng is None else rng.random)

    def wrap(self, handler: Handler) -> LambdaFunction:
        """The Lambda function."""
        _checks.function("handler", handler)
        if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None)):  # noqa: B004
            raise TypeError(f"handler must be a plain function, for Lambda awaits nothing, not {handler!r}")

        @functools.wraps(handler)
        def function(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
            return self._invoked(handler, event, context)

        return function

    def _invoked(self, handler: Handler, event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        deadline = LambdaDeadline(context, reserve=self.reserve, clock=self.clock)
        records = event.get("Records") if hasattr(event, "get") else None
        sources = {record.get("eventSource") for record in records or ()}
        source = sources.pop() if len(sources) == 1 else None
        if records is None or sources or (records and source != "aws:sqs" and source not in _SEQUENCE):
            raise ValueError(f"event must be one of SQS, Kinesis or DynamoDB streams, not {event!r:.200}")
        if not records:
            return {"batchItemFailures": []}
        run = self._queue if source == "aws:sqs" else self._stream
        began = self.time.monotonic_ns()
        failed: dict[int, int | None] = {}
        try:
            with deadline:
                run(handler, records, deadline, failed, began)
        except DeadlineExceeded as error:  # too late to begin anything
            log.warning("no record was begun: %s", error)
            failed.update(dict.fromkeys(range(len(records))))
        if source in _SEQUENCE:
            part, field = _SEQUENCE[source]
            return {"batchItemFailures": [{"itemIdentifier": records[place][part][field]} for place in failed][:1]}
        if self.client is not None and deadline.left > -self.reserve / 2:
            self._give_back(records, failed)
        return {"batchItemFailures": [{"itemIdentifier": records[place]["messageId"]} for place in sorted(failed)]}

    def _stream(
        self,
        handler: Handler,
        records: list[dict[str, Any]],
        deadline: LambdaDeadline,
        failed: dict[int, int | None],
        began: int,
    ) -> None:
        for place, record in enumerate(records):
            if deadline.left <= 0 or not self._good(handler, record, place, failed, began):
                failed.setdefault(place, None)
                return

    def _queue(
        self,
        handler: Handler,
        records: list[dict[str, Any]],
        deadline: LambdaDeadline,
        failed: dict[int, int | None],
        began: int,
    ) -> None:
        """Notes in *failed* the places of what failed, with the delay after which it is to come back, if any."""
        places = {id(record): place for place, record in enumerate(records)}
        fifo = str(records[0].get("eventSourceARN", "")).endswith(".fifo")
        for lane in lanes(records, fifo=fifo):
            behind: int | None = None
            for record in lane:
                place = places[id(record)]
                if failed.keys() & {places[id(other)] for other in lane}:
                    failed[place] = behind
                elif deadline.left <= 0:
                    failed[place] = None  # it was not tried, so its delay is not the backoff's
                elif not self._good(handler, record, place, failed, began):
                    behind = 0

    def _good(
        self, handler: Handler, record: dict[str, Any], place: int, failed: dict[int, int | None], began: int
    ) -> bool:
        try:
            handler(record)
        except Exception as error:
            if isinstance(error, Reject) and error.delete:
                log.warning("record %d rejected: %s", place, error)
                return True
            delay, count = None, receives(record)
            if self.client is not None and "messageId" in record:
                try:
                    held = _HELD_BEFORE + (self.time.monotonic_ns() - began) / NS
                    asked = hint(error, self.time.time())
                    delay = self.rule.verdict(error, count, held, asked, redrives=False)
                except Exception:
                    log.exception("backoff=%r failed; left to the queue", self.rule.backoff)
            failed[place] = delay
            log.warning("record %d failed at its receive %d: %r", place, count, error, exc_info=error)
            if self.on_error is not None:
                notify(self.on_error, Failed(record, error, count, delay))
            return False
        return True

    def _give_back(self, records: list[dict[str, Any]], failed: dict[int, int | None]) -> None:
        """Let failed messages come back after their delays. They are failures all the same if this fails."""
        entries = [
            {"Id": str(place), "ReceiptHandle": records[place]["receiptHandle"], "VisibilityTimeout": failed[place]}
            for place in sorted(failed)
            if failed[place] is not None
        ]
        for first in range(0, len(entries), 10):
            try:
                url = self.queue_url or _url(self.client, records[0]["eventSourceARN"])
                answer = self.client.change_message_visibility_batch(QueueUrl=url, Entries=entries[first : first + 10])
                for entry in answer.get("Failed") or ():
                    log.warning("could not hide record %s: %s", entry.get("Id"), entry.get("Code"))
            except Exception as error:
                log.warning("could not hide failed messages: %s", error)


def _url(client: Any, arn: str) -> str:
    """The URL of the queue: an ARN is arn:partition:sqs:region:account:name."""
    _, partition, _, region, account, name = arn.split(":")
    endpoint = getattr(getattr(client, "meta", None), "endpoint_url", None)
    if not isinstance(endpoint, str):
        endpoint = f"https://sqs.{region}.amazonaws.com{'.cn' if partition == 'aws-cn' else ''}"
    return f"{endpoint.rstrip('/')}/{account}/{name}"
