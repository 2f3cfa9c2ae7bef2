"""The course of events of an SQS consumer: receive, handle, settle, and again until told to stop.

What becomes of a message is decided in ``_messages.py``. Written once as ``async def``; the runtime brings blocking or
asyncio, and ``sqs.py`` the threads or tasks.
"""

from __future__ import annotations

import inspect
import json
import random
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .. import _checks
from .._checks import NS
from .._hooks import log, notify
from .._part import Described
from .._retry_after import hint
from ..backoff import Exponential, as_backoff
from ..clock import Clock, system
from ..errors import ConfigError
from ._messages import HIDDEN_AT_MOST, Batch, Desk, Failed, Held, Reject, Rule, hidden

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .._runtime import Runtime
    from ..backoff import Backoff

__all__ = ["Consuming"]

_ASK_AGAIN = 600 * NS
"""The queue's own settings are read again after this time (ns)."""
_ASK_AGAIN_AFTER_ERROR = 60 * NS
_TRIES = 3
_PAUSES = Exponential(1.0, cap=30.0, jitter="equal")
"""Between batches while the queue itself makes trouble."""
_LOOK = 0.2
"""Seconds between two looks at *stop* while waiting."""
_BROKEN_BACKOFF = 30
"""Seconds until a message comes back for which the backoff raised an error."""


class Consuming(Described):
    """The course of events, and everything but the threads or tasks."""

    def _check(self, handler: Any) -> None:
        """Refuse a handler of the other world."""

    def _world(self, clock: Clock) -> Runtime:
        """The verbs: blocking, or those of asyncio."""
        raise NotImplementedError

    def __init__(
        self,
        client: Any,
        queue_url: str,
        handler: Callable[[dict[str, Any]], Any],
        *,
        backoff: Backoff | float | Iterable[float] | Callable[[int], float] = Exponential(1.0, cap=900.0),  # noqa: B008 - frozen
        max_receives: int | None = None,
        batch: int = 10,
        wait: int = 20,
        visibility: int | None = None,
        workers: int = 1,
        on_error: Callable[[Failed], object] | None = None,
        rng: random.Random | None = None,
        clock: Clock | None = None,
    ) -> None:
        for name in ("receive_message", "delete_message_batch", "change_message_visibility_batch"):
            if not callable(getattr(client, name, None)):
                raise TypeError(f"client must be an SQS client with {name}(), not {client!r}")
        self.client = client
        self.queue_url = _checks.text("queue_url", queue_url)
        self.handler = _checks.function("handler", handler)
        self._check(handler)
        self.backoff = backoff
        self.max_receives = None if max_receives is None else _checks.count("max_receives", max_receives)
        self.batch = _up_to("batch", batch, 1, 10)
        self.wait = _up_to("wait", wait, 0, 20)
        self.visibility = None if visibility is None else _up_to("visibility", visibility, 1, HIDDEN_AT_MOST)
        self.workers = _checks.count("workers", workers)
        self.on_error = None if on_error is None else _checks.function("on_error", on_error)
        if rng is not None and not callable(getattr(rng, "random", None)):
            raise TypeError(f"rng must be a random.Random, not {rng!r}")
        self.rng = rng
        if clock is not None and not isinstance(clock, Clock):
            raise TypeError(f"clock must be a Clock, not {clock!r}")
        self.clock = clock
        self._time = clock or system
        self._runtime = self._world(self._time)
        self._random = random.random if rng is None else rng.random
        self._rule = Rule(as_backoff(backoff), self.max_receives, self._random)
        self._fifo = self.queue_url.endswith(".fifo")
        self._lock = threading.Lock()
        self._counts: dict[str, int | float] = {**asdict(Batch()), "batches": 0, "errors": 0}
        self._redrives = False
        self._queue_visibility: int | None = None
        self._look_at: int | None = None

    @property
    def counters(self) -> dict[str, int | float]:
        """The sums of all `Batch` es, how many there were, and ``errors``: calls of SQS that failed."""
        with self._lock:
            return dict(self._counts)

    # -- one batch -------------------------------------------------------------------------------------------------

    async def _once(self, stop: Any) -> Batch:
        if self.visibility is None:
            await self._look()
        asked: dict[str, Any] = {
            "QueueUrl": self.queue_url,
            "MaxNumberOfMessages": self.batch,
            "WaitTimeSeconds": self.wait,
            "AttributeNames": ["All"],  # the name that every botocore knows
            "MessageAttributeNames": ["All"],
        }
        if self.visibility is not None:
            asked["VisibilityTimeout"] = self.visibility
        messages = (await self._ask("receive_message", **asked)).get("Messages") or ()
        now = self._time.monotonic_ns()
        span = self._span
        until = None if span is None else now + span * NS
        desk = Desk([Held(message, now, until) for message in messages], fifo=self._fifo)
        try:
            if desk.width:
                await self._spread(desk, stop)
        finally:  # also when interrupted or cancelled: nothing stays hidden for nothing
            with self._lock:
                desk.close(self._time.monotonic_ns())
            await self._settle(desk)
            done = Batch(desk.received, desk.handled, desk.failed, desk.untouched, desk.lost, desk.unsettled)
            with self._lock:
                for name, number in asdict(done).items():
                    self._counts[name] += number
                self._counts["batches"] += 1
        return done

    async def _spread(self, desk: Desk, stop: Any) -> None:
        """Work off the lanes, so many at a time as there are workers."""
        raise NotImplementedError

    async def _work(self, desk: Desk, stop: Any) -> None:
        while not _stopped(stop):
            with self._lock:
                lane = desk.lane()
            if lane is None:
                return
            for place, held in enumerate(lane):
                if desk.stopped or _stopped(stop):
                    return
                good = await self._ready(desk, held) and await self._handle(desk, held)
                now = self._time.monotonic_ns()
                if not good:
                    with self._lock:
                        desk.give_back(lane[place + 1 :], now)
                    break
                if desk.due(now):
                    await self._settle(desk)

    async def _ready(self, desk: Desk, held: Held) -> bool:
        """Whether the message is surely still ours; with less than half of its time left, that is renewed first."""
        span, now = self._span, self._time.monotonic_ns()
        if held.until is None or span is None or (held.until - now) * 2 >= span * NS:
            return True
        await self._settle(desk)  # what is done already has no more time left than this one
        now = self._time.monotonic_ns()
        seconds = hidden(span, held.seconds(now))
        if now < held.until and seconds:
            try:
                await self._ask(
                    "change_message_visibility",
                    QueueUrl=self.queue_url,
                    ReceiptHandle=held.message["ReceiptHandle"],
                    VisibilityTimeout=seconds,
                )
            except Exception as error:
                self._trouble("renew the visibility of a message", error)
            else:
                held.until = now + seconds * NS
                return True
        with self._lock:
            desk.lose(held)
        return False

    async def _handle(self, desk: Desk, held: Held) -> bool:
        """Whether the next message of the group may be handled."""
        try:
            await self._runtime.result(self.handler(held.message))
        except Exception as error:
            return await self._failed(desk, held, error)
        with self._lock:
            desk.handled += 1
            desk.decide(held, None, self._time.monotonic_ns())
        return True

    async def _failed(self, desk: Desk, held: Held, error: Exception) -> bool:
        if self._rule.final(error, held.count):
            await self._look()
        try:
            seconds = held.seconds(self._time.monotonic_ns())
            asked = hint(error, self._time.time())
            delay = self._rule.verdict(error, held.count, seconds, asked, redrives=self._redrives)
        except Exception:
            log.exception("backoff=%r failed; %d s instead", self.backoff, _BROKEN_BACKOFF)
            delay = _BROKEN_BACKOFF
        with self._lock:
            desk.failed += 1
            desk.decide(held, delay, self._time.monotonic_ns())
        what = "it is deleted" if delay is None else f"it comes back in {delay} s"
        trace = None if isinstance(error, Reject) else error
        name = held.message.get("MessageId")
        log.warning("message %s failed at its receive %d: %r; %s", name, held.count, error, what, exc_info=trace)
        if self.on_error is not None:
            notify(self.on_error, Failed(held.message, error, held.count, delay))
        return delay is None

    # -- talking to the queue --------------------------------------------------------------------------------------

    async def _ask(self, operation: str, **parameters: Any) -> dict[str, Any]:
        answer = await self._runtime.result(getattr(self.client, operation)(**parameters))
        if hasattr(answer, "__await__"):
            if inspect.iscoroutine(answer):
                answer.close()
            raise ConfigError(
                f"client must not answer with coroutines here, as {self.client!r} does: use AsyncConsumer"
            )
        return answer or {}

    @property
    def _span(self) -> int | None:
        """Whole seconds that a message is ours, as far as we know."""
        return self._queue_visibility if self.visibility is None else self.visibility

    async def _look(self) -> None:
        """Read the queue's own settings, now and then. Without leave to do so, they are taken as not known."""
        now = self._time.monotonic_ns()
        if self._look_at is not None and now < self._look_at:
            return
        self._look_at = now + _ASK_AGAIN_AFTER_ERROR
        try:
            answer = await self._ask(
                "get_queue_attributes",
                QueueUrl=self.queue_url,
                AttributeNames=["VisibilityTimeout", "RedrivePolicy"],
            )
            found = answer.get("Attributes") or {}
            self._queue_visibility = int(found["VisibilityTimeout"]) or None
            self._redrives = int(json.loads(found.get("RedrivePolicy") or "{}").get("maxReceiveCount", 0)) > 0
        except ConfigError:
            raise
        except Exception as error:
            self._trouble("read the queue's settings", error)
        else:
            self._look_at = now + _ASK_AGAIN

    async def _settle(self, desk: Desk) -> None:
        """Tell the queue what was decided. Never raises an error: what it does not take is counted."""
        with self._lock:
            taken = desk.take()
        deletes, changes = [], []
        for place, (held, delay) in enumerate(taken):
            entry = {"Id": str(place), "ReceiptHandle": held.message.get("ReceiptHandle", "")}
            if delay is None:
                deletes.append(entry)
            else:
                changes.append({**entry, "VisibilityTimeout": delay})
        for operation, entries in (("delete_message_batch", deletes), ("change_message_visibility_batch", changes)):
            if entries:
                refused = await self._tell(operation, entries)
                with self._lock:
                    desk.unsettled += refused

    async def _tell(self, operation: str, entries: list[dict[str, Any]]) -> int:
        """Send a batch; entries refused through no fault of ours are sent again. Returns how many were not taken."""
        refused = 0
        what = operation.replace("_", " ")
        for attempt in range(_TRIES):
            try:
                answer = await self._ask(operation, QueueUrl=self.queue_url, Entries=entries)
            except Exception as error:
                self._trouble(what, error)
                return refused + len(entries)
            failed = {entry.get("Id"): entry for entry in answer.get("Failed") or ()}
            hopeless = [entry for entry in failed.values() if entry.get("SenderFault")]
            for entry in hopeless:
                self._trouble(f"{what} (one entry)", entry.get("Code"))
            refused += len(hopeless)
            entries = [e for e in entries if e["Id"] in failed and not failed[e["Id"]].get("SenderFault")]
            if not entries:
                return refused
            if attempt + 1 < _TRIES:
                await self._runtime.sleep(0.1 * 2**attempt * (0.5 + self._random() / 2))
        self._trouble(what, f"{len(entries)} entries not taken")
        return refused + len(entries)

    def _trouble(self, what: str, error: object) -> None:
        with self._lock:
            self._counts["errors"] += 1
        log.warning("%s: could not %s: %s", self.queue_url, what, error)

    # -- the loop --------------------------------------------------------------------------------------------------

    async def _run(self, stop: Any) -> None:
        _stopped(stop)  # refused now if it cannot be asked
        pauses = None
        while not _stopped(stop):
            began = self._time.monotonic_ns()
            try:
                done = await self._once(stop)
            except ConfigError:  # a mistake in the program, not of the queue
                raise
            except Exception as error:
                self._trouble("receive messages", error)
                done = Batch(unsettled=1)
            if done.unsettled:
                pauses = pauses or _PAUSES.delays(self._random)
                await self._rest(next(pauses), stop)
                continue
            pauses = None
            took = (self._time.monotonic_ns() - began) / NS
            if not done.received and took < 1:  # no hot loop on an empty queue that does not let us wait
                await self._rest(1 - took, stop)

    async def _rest(self, seconds: float, stop: Any) -> None:
        end = self._time.monotonic_ns() + _checks.to_ns(seconds)
        while not _stopped(stop) and (left := end - self._time.monotonic_ns()) > 0:
            await self._runtime.sleep(min(_LOOK, left / NS))


def _up_to(name: str, value: object, least: int, most: int) -> int:
    number = _checks.count(name, value, minimum=least)
    if number > most:
        raise ConfigError(f"{name} must be a whole number from {least} to {most}, not {value!r}")
    return number


def _stopped(stop: Any) -> bool:
    if stop is None:
        return False
    asked = getattr(stop, "is_set", stop)
    if not callable(asked):
        raise TypeError(f"stop must be an Event or a function that says whether to stop, not {stop!r}")
    return bool(asked())
