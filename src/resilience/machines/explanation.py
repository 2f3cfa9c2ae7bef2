"""Why a learned timeout is what it is, in numbers and in words.

This file knows what there is to say, and nothing of how it is found out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Basis", "Explanation"]

Basis = Literal["initial", "measured", "extrapolated", "growing", "raised", "blackout"]

_WORDS: dict[Basis, str] = {
    "initial": "the initial value, as there are too few answers to learn from",
    "measured": "from the measured quantile",
    "extrapolated": "from twice the longest answer, as there are too few samples for the quantile",
    "growing": "growing, as too many attempts timed out to see the quantile",
    "raised": "raised, as many of the latest attempts took too long",
    "blackout": "held, as nothing is being answered at all",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a learned timeout is what it is. Times are in seconds, shares between 0 and 1. ``str()`` says it in words.

    Attributes:
        timeout: the timeout now in force.
        target: where it is heading; it rises at once, and falls slowly.
        basis: "initial", "measured", "extrapolated", "growing", "raised" or "blackout".
        p: the share of answers that should come in time.
        quantile: the quantile before padding at the last refresh; ``None`` before the first.
        padding: the factor of the padding.
        least_padding: the least that is added, in seconds.
        drift: a further factor, for latency that wanders from slice to slice.
        samples: how many samples the window holds.
        censored: the share of them that was cut off.
        unanswered: timeouts left out of account because nothing was answered around them, since the beginning.
        watched: attempts that were watched beyond their timeout, and have come to an end, since the beginning.
        late: how many of them were answered after all: false timeouts.
        false_timeouts: the share of all attempts that was cut off falsely, as estimated from these; ``None`` as long as
            none was watched.
        never_answered: the share of the attempts in the window that is lost, not late, as far as watched ones tell.
        confident: whether the quantile was measured, at the full confidence bound.
        previous: the timeout before the last change.
        changed_ago: time since the last change; ``None`` if there was none.
    """

    timeout: float
    target: float
    basis: Basis
    p: float
    quantile: float | None
    padding: float
    least_padding: float
    drift: float
    samples: int
    censored: float
    unanswered: int
    watched: int
    late: int
    false_timeouts: float | None
    never_answered: float
    confident: bool
    previous: float
    changed_ago: float | None

    def __str__(self) -> str:
        parts = [f"timeout {_text(self.timeout)}: {_WORDS[self.basis]}"]
        if self.quantile is not None:
            parts.append(
                f"p{self.p * 100:.6g} is {_text(self.quantile)}, padded by a factor of {self.padding:g} "
                f"(at least {_text(self.least_padding)}) and {self.drift:.2f} for drift"
            )
        parts.append(f"{self.samples} samples, {self.censored:.1%} of them cut off")
        if self.watched:
            parts.append(
                f"of {self.watched} timed-out attempts that were watched {self.late} were answered late "
                f"({self.false_timeouts or 0:.3%} of all attempts cut off falsely)"
            )
        if self.never_answered:
            parts.append(f"{self.never_answered:.1%} are never answered")
        if self.unanswered:
            parts.append(f"{self.unanswered} timeouts in blackouts left out")
        if self.timeout > self.target:
            parts.append(f"falling to {_text(self.target)}")
        if self.changed_ago is not None:
            parts.append(f"changed {_text(self.changed_ago)} ago from {_text(self.previous)}")
        return "; ".join(parts)


def _text(seconds: float) -> str:
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}" if seconds < 1000 * unit else f"{seconds / unit:.0f} {name}"
    return f"{seconds * 1e9:.0f} ns"
