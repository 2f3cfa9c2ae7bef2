"""What happens to calls, as facts that listeners are told: `resilience.listen`.

Only the unusual makes an event. A call that goes well at once makes none, and what nobody listens for is never built.
How often things happen is not to be counted from events: policies keep counts, see `resilience.Policy.counters`.

Events are immutable, and say what was at the moment they were made. Each is one sentence by ``str()``, and plain data
by ``data()``. This file knows facts, and nothing of who makes them or is told.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from .machines.circuit_types import State

__all__ = [
    "KINDS",
    "AttemptFailed",
    "AttemptRejected",
    "AttemptTimedOut",
    "BudgetBurning",
    "BudgetExhausted",
    "CircuitChanged",
    "Event",
    "FellBack",
    "GaveUp",
    "HedgeWon",
    "Hedged",
    "RateRevised",
    "Retrying",
    "StoreDegraded",
    "StoreRecovered",
    "TimeoutRevised",
    "Waited",
    "brief",
]


def brief(value: object) -> str:
    """An error or a result on one line of at most 120 characters, whatever its ``repr`` does."""
    try:
        text = f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else repr(value)
        text = " ".join(str.split(text))  # a repr may be of a subclass of str
    except Exception:
        text = type(value).__name__
    return text if len(text) <= 120 else text[:117] + "..."


@dataclass(frozen=True, slots=True)
class Event:
    """What all events have.

    Attributes:
        policy: the name of the policy, or of the part of it that this is about; its kind where it has no name.
    """

    policy: str
    words: ClassVar[str] = ""

    @property
    def kind(self) -> str:
        """Which event it is, in lower case with underscores, such as ``attempt_failed``."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()

    def data(self) -> dict[str, Any]:
        """Its fields as text, finite numbers and truth values, so that JSON can carry them.

        Those that are ``None`` or infinite are left out. Errors are there by class and text, results by their ``repr``.
        """
        found: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            if isinstance(value, BaseException):
                found[field.name] = brief(value)
                found["error_type"] = type(value).__name__
            elif field.name == "result":  # the user's own, and of any type
                found[field.name] = brief(value)
            elif isinstance(value, str):
                found[field.name] = str(value)  # a State is one, too
            elif math.isfinite(value):
                found[field.name] = value
        return found

    def __str__(self) -> str:
        shown = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        shown |= {name: brief(value) for name, value in shown.items() if isinstance(value, BaseException)}
        return self.words.format_map(shown)


@dataclass(frozen=True, slots=True)
class AttemptFailed(Event):
    """An attempt that had begun ended in an error. Cancelled attempts are none.

    Attributes:
        attempt: its number, from 1.
        error: how it ended.
        seconds: how long it took; ``None`` where nothing needed to know.
    """

    attempt: int
    error: BaseException
    seconds: float | None
    words: ClassVar[str] = "{policy}: attempt {attempt} failed: {error}"


@dataclass(frozen=True, slots=True)
class AttemptTimedOut(AttemptFailed):
    """An attempt was ended by the timeout of its policy: an `AttemptFailed` too.

    Attributes:
        timeout: what it was held to, in seconds.
    """

    timeout: float
    words: ClassVar[str] = "{policy}: attempt {attempt} timed out after {timeout:.3g} s"


@dataclass(frozen=True, slots=True)
class AttemptRejected(Event):
    """An attempt was refused by a part of the policy, and did not reach the dependency.

    Attributes:
        attempt: its number, from 1.
        reason: ``circuit_open``, ``rate_limited``, ``bulkhead_full``, or ``rejected`` for one of your own.
        error: what the caller gets.
        retry_after: seconds after which another try may pass, if known.
    """

    attempt: int
    reason: str
    error: BaseException
    retry_after: float | None
    words: ClassVar[str] = "{policy}: attempt {attempt} was refused: {error}"


@dataclass(frozen=True, slots=True)
class Retrying(Event):
    """Another attempt will be made, after a wait that begins now; also what ``Retry(on_retry=...)`` is told.

    Attributes:
        attempt: the number of the attempt that failed, from 1.
        error: its error; ``None`` when its result was not good enough.
        result: its result, when that is the reason.
        delay: seconds until the next attempt.
        elapsed: seconds since the call began.
    """

    attempt: int
    error: Exception | None
    result: object
    delay: float
    elapsed: float
    words: ClassVar[str] = "{policy}: attempt {attempt} was not good enough, the next is in {delay:.3g} s"


@dataclass(frozen=True, slots=True)
class GaveUp(Event):
    """A call ended badly for good. Its caller gets the error, or what the fallback answers.

    Attributes:
        outcome: ``failed``, ``rejected`` or ``timed_out``.
        attempts: how many were made or refused.
        error: how it ended.
        seconds: since it began.
    """

    outcome: str
    attempts: int
    error: BaseException
    seconds: float
    words: ClassVar[str] = "{policy}: gave up after {attempts} attempts and {seconds:.3g} s ({outcome}): {error}"


@dataclass(frozen=True, slots=True)
class BudgetExhausted(Event):
    """A retry or a hedge was wanted, and the retry budget did not grant it.

    Attributes:
        what: ``retry`` or ``hedge``.
        level: what the budget holds.
    """

    what: str
    level: float
    words: ClassVar[str] = "{policy}: the retry budget ({level:.3g}) does not allow a {what}"


@dataclass(frozen=True, slots=True)
class CircuitChanged(Event):
    """A circuit breaker changed its state.

    Attributes:
        old: its state before.
        new: its state from now on.
        cause: what changed it, such as ``tripped``, ``cooled``, ``recovered``.
    """

    old: State
    new: State
    cause: str
    words: ClassVar[str] = "{policy}: the circuit is {new}, no longer {old} ({cause})"


@dataclass(frozen=True, slots=True)
class Waited(Event):
    """A call had to wait for a token or a slot, and got it.

    Attributes:
        part: ``limiter`` or ``bulkhead``.
        seconds: how long it waited.
    """

    part: str
    seconds: float
    words: ClassVar[str] = "{policy}: waited {seconds:.3g} s for the {part}"


@dataclass(frozen=True, slots=True)
class Hedged(Event):
    """Another attempt was started beside one that had not answered yet.

    Attributes:
        delay: seconds without an answer after which it was.
    """

    delay: float
    words: ClassVar[str] = "{policy}: no answer for {delay:.3g} s, so another attempt was started beside the first"


@dataclass(frozen=True, slots=True)
class HedgeWon(Event):
    """The answer came from an attempt that was started as a hedge."""

    words: ClassVar[str] = "{policy}: the hedge answered first"


@dataclass(frozen=True, slots=True)
class FellBack(Event):
    """The fallback answered in place of a call that had ended badly.

    Attributes:
        error: how the call ended.
    """

    error: BaseException
    words: ClassVar[str] = "{policy}: the fallback answered in place of {error}"


@dataclass(frozen=True, slots=True)
class TimeoutRevised(Event):
    """A learned timeout moved. At most once a second for each.

    Attributes:
        old: seconds before.
        new: seconds from now on.
        basis: what it rests on, see `resilience.Explanation`.
    """

    old: float
    new: float
    basis: str
    words: ClassVar[str] = "{policy}: the timeout is {new:.3g} s, before {old:.3g} s ({basis})"


@dataclass(frozen=True, slots=True)
class RateRevised(Event):
    """An adaptive limiter changed its rate.

    Attributes:
        old: tokens per second before; ``inf`` when nothing was limited.
        new: tokens per second from now on.
        throttled: whether a throttle made the change.
    """

    old: float
    new: float
    throttled: bool
    words: ClassVar[str] = "{policy}: the rate is {new:.4g}/s, before {old:.4g}/s"


@dataclass(frozen=True, slots=True)
class BudgetBurning(Event):
    """The error budget of a service level objective burns too fast for retries and hedges; or no longer does.

    Attributes:
        shedding: whether they are switched off from now on.
        burn: the burn rate over the shorter span: 1 uses up the budget exactly by the end of the window.
    """

    shedding: bool
    burn: float
    words: ClassVar[str] = "{policy}: the error budget burns at {burn:.3g} times its rate; shedding: {shedding}"


@dataclass(frozen=True, slots=True)
class StoreDegraded(Event):
    """A store of shared state fails, and is no longer asked but now and then; ``policy`` is the store's name.

    Attributes:
        error: the last of its failures.
    """

    error: BaseException
    words: ClassVar[str] = "{policy}: the store of shared state is down ({error}); local policies decide"


@dataclass(frozen=True, slots=True)
class StoreRecovered(Event):
    """A store of shared state answers again; ``policy`` is the store's name.

    Attributes:
        seconds: how long it was taken to be down.
    """

    seconds: float
    words: ClassVar[str] = "{policy}: the store of shared state is back after {seconds:.3g} s"


KINDS: tuple[type[Event], ...] = (
    AttemptFailed, AttemptTimedOut, AttemptRejected, Retrying, GaveUp, BudgetExhausted, CircuitChanged, Waited, Hedged,
    HedgeWon, FellBack, TimeoutRevised, RateRevised, BudgetBurning, StoreDegraded, StoreRecovered,
)  # fmt: skip
"""All kinds of events there are."""
