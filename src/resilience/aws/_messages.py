"""What becomes of a queue's message whose handler has ended, and of those behind it. Decisions only.

The n-th receive of a message gets the n-th delay of the backoff. A visibility timeout is whole seconds, and a message
cannot stay hidden longer than 12 hours after it was received (Amazon SQS, "ChangeMessageVisibility"). Within a message
group of a FIFO queue nothing overtakes what failed. Knows no client, clock or thread; time and randomness are brought.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from .._checks import NS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..backoff import Backoff

__all__ = [
    "HIDDEN_AT_MOST",
    "Batch",
    "Desk",
    "Failed",
    "Held",
    "Reject",
    "Rule",
    "group",
    "hidden",
    "lanes",
    "nth",
    "receives",
]

HIDDEN_AT_MOST = 43_200
"""Seconds (12 h) that a message can be hidden in all after it was received."""

_LONG_ROW = 1000
"""Delays of a backoff are looked at up to this one; later receives get the same (a redrive policy allows no more)."""

_SETTLE_AFTER = NS
"""What was decided is told to the queue at the latest when it is this old (ns) and the next message is begun."""

Message = dict[str, Any]


class Reject(Exception):
    """Raise it in a handler for a message that will never do: it is not retried for the sake of it.

    Args:
        reason: for the log.
        delete: delete the message, as if it had been handled. Otherwise it comes back at once, so that the queue's
            redrive policy moves it to the dead-letter queue as soon as may be; where a queue has none, after the
            backoff's delay.
    """

    def __init__(self, reason: str = "rejected by its handler", *, delete: bool = False) -> None:
        super().__init__(reason)
        self.delete = delete


@dataclass(frozen=True, slots=True)
class Failed:
    """What a hook is told of a message whose handler failed.

    Attributes:
        message: the message or record.
        error: what the handler raised.
        receives: how often the message was received so far, this time included.
        delay: seconds until it comes back; ``None`` when it is deleted, or when that is not ours to say.
    """

    message: Mapping[str, Any]
    error: Exception
    receives: int
    delay: int | None


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of one batch.

    Attributes:
        received: messages in it.
        handled: their handler returned, and they were deleted.
        failed: their handler raised.
        untouched: given back at once without being begun: behind a failure in their group, or after the stop.
        lost: their visibility ran out, or could not be renewed, before their turn; not handled.
        unsettled: the queue would not take what became of them: what was handled will come once more, what failed
            comes back when the visibility runs out.
    """

    received: int = 0
    handled: int = 0
    failed: int = 0
    untouched: int = 0
    lost: int = 0
    unsettled: int = 0


def receives(message: Mapping[str, Any]) -> int:
    """How often a message was received, this time included; 1 where it does not tell."""
    attributes = message.get("Attributes") or message.get("attributes") or {}
    try:
        return max(1, int(attributes["ApproximateReceiveCount"]))
    except (KeyError, TypeError, ValueError):
        return 1


def group(message: Mapping[str, Any]) -> str | None:
    """The message group of a FIFO queue's message."""
    attributes = message.get("Attributes") or message.get("attributes") or {}
    found = attributes.get("MessageGroupId")
    return None if found is None else str(found)


def lanes(messages: Sequence[Message], *, fifo: bool) -> list[list[Message]]:
    """What must be handled one after the other; the lanes themselves may run side by side."""
    if not fifo:
        return [[message] for message in messages]
    found: dict[str | None, list[Message]] = {}
    for message in messages:
        found.setdefault(group(message), []).append(message)
    return list(found.values())


def nth(backoff: Backoff, n: int, random: Callable[[], float]) -> float:
    """Seconds of the *n*-th delay (from 1) of a new row; the last one where the row is shorter."""
    delay = 0.0
    for delay in islice(backoff.delays(random), min(n, _LONG_ROW)):  # noqa: B007 - the last one is wanted
        pass
    return delay


def hidden(delay: float, held: float) -> int:
    """The visibility timeout for *delay* seconds, of a message received *held* seconds ago.

    Rounded up, so that none comes back too early, and a second below the limit of 12 hours, for the queue began to
    count before we did.
    """
    return min(math.ceil(delay), max(0, HIDDEN_AT_MOST - 1 - math.ceil(held)))


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of a message.

    Attributes:
        backoff: the row of delays.
        max_receives: from this receive on a failure is final; ``None``: never.
        random: returns a number in [0, 1).
    """

    backoff: Backoff
    max_receives: int | None
    random: Callable[[], float]

    def final(self, error: Exception, count: int) -> bool:
        """Whether a message that failed at its *count*-th receive is not to be tried for success again."""
        return isinstance(error, Reject) or (self.max_receives is not None and count >= self.max_receives)

    def verdict(self, error: Exception, count: int, held: float, asked: float | None, *, redrives: bool) -> int | None:
        """Seconds until the message comes back; ``None`` to delete it.

        Args:
            error: what its handler raised.
            count: how often it was received.
            held: seconds since it was received.
            asked: seconds the error itself asks to wait, on top of the backoff.
            redrives: whether the queue is known to move messages away after some receives.
        """
        if isinstance(error, Reject) and error.delete:
            return None
        if redrives and self.final(error, count):
            return 0
        return hidden(nth(self.backoff, count, self.random) + (asked or 0.0), held)


class Held:
    """A message in our hands: received at *since*, ours until *until* (ns; ``None``: not known)."""

    __slots__ = ("count", "message", "since", "until")

    def __init__(self, message: Message, since: int, until: int | None) -> None:
        self.message = message
        self.count = receives(message)
        self.since = since
        self.until = until

    def seconds(self, now: int) -> float:
        """Seconds it has been held."""
        return max(0.0, (now - self.since) / NS)


class Desk:
    """The books of one batch: what is still to be begun, and what the queue is still to be told.

    Not thread-safe: its owner has a lock.
    """

    __slots__ = (
        "_all", "_lanes", "_oldest", "_open", "_settled", "failed", "handled", "lost", "stopped", "unsettled",
        "untouched",
    )  # fmt: skip

    def __init__(self, held: Sequence[Held], *, fifo: bool) -> None:
        self._all = list(held)
        by_message = {id(one.message): one for one in held}
        rows = lanes([one.message for one in held], fifo=fifo)
        self._lanes = deque([by_message[id(message)] for message in row] for row in rows)
        self._open: list[tuple[Held, int | None]] = []
        self._oldest: int | None = None
        self._settled: set[int] = set()
        self.handled = self.failed = self.untouched = self.lost = self.unsettled = 0
        self.stopped = False

    @property
    def received(self) -> int:
        """How many messages the batch has."""
        return len(self._all)

    @property
    def width(self) -> int:
        """How many lanes wait to be begun."""
        return len(self._lanes)

    def lane(self) -> list[Held] | None:
        """The next lane, or ``None``: all were begun, or nothing more is to be."""
        return self._lanes.popleft() if self._lanes and not self.stopped else None

    def decide(self, held: Held, delay: int | None, now: int) -> None:
        """The message is to be deleted (``None``), or to come back after *delay* seconds."""
        self._settled.add(id(held))
        self._open.append((held, delay))
        if self._oldest is None:
            self._oldest = now

    def lose(self, held: Held) -> None:
        """It is no longer ours: the queue is not told of it."""
        self._settled.add(id(held))
        self.lost += 1

    def due(self, now: int) -> bool:
        """Whether what was decided should not wait for the end of the batch."""
        return self._oldest is not None and now - self._oldest >= _SETTLE_AFTER

    def take(self) -> list[tuple[Held, int | None]]:
        """What the queue is to be told now; of each group in the order in which it was received."""
        taken, self._open, self._oldest = self._open, [], None
        return taken

    def give_back(self, some: Sequence[Held], now: int) -> None:
        """These come back at once, without having been begun; unless they are no longer ours."""
        for held in some:
            if id(held) in self._settled:
                continue
            if held.until is not None and now >= held.until:
                self.lose(held)
            else:
                self.untouched += 1
                self.decide(held, 0, now)

    def close(self, now: int) -> None:
        """Nothing more is begun: whatever was not decided comes back at once."""
        self.stopped = True
        self.give_back(self._all, now)
