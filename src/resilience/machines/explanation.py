"""Why a learned timeout is what it is, in numbers and in words.

This file knows what there is to say, and nothing of how it is found out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Basis", "Explanation"]

Basis = Literal["initial", "measured", "extrapolated", "growing", "blackout"]

_MS = 1_000_000
_NS = 1_000_000_000

_WORDS: dict[Basis, str] = {
    "initial": "the initial value, as there are too few answers to learn from",
    "measured": "from the measured quantile",
    "extrapolated": "from twice the longest answer, as there are too few samples for the quantile",
    "growing": "growing, as too many attempts timed out to see the quantile",
    "blackout": "held, as nothing is being answered at all",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why the timeout is what it is; times are in nanoseconds. ``str()`` says it in words.

    Attributes:
        timeout: the timeout now in force.
        target: where it is heading; it rises at once, and falls slowly.
        basis: "initial", "measured", "extrapolated", "growing" or "blackout".
        p: the share of answers that should come in time.
        quantile: the quantile before padding at the last refresh; ``None`` before the first.
        pad_rel: factor of the padding.
        pad_abs: the least padding, ns.
        drift: further factor, for latency that wanders from slice to slice.
        samples: how many samples the window holds.
        censored: the share of them that was cut off, 0 to 1.
        unanswered: timeouts left out of account because nothing was answered around them, since the beginning.
        confident: whether the quantile was measured, at the full confidence bound.
        previous: the timeout before the last change.
        changed_ago: time since the last change; ``None`` if there was none.
    """

    timeout: int
    target: int
    basis: Basis
    p: float
    quantile: int | None
    pad_rel: float
    pad_abs: int
    drift: float
    samples: int
    censored: float
    unanswered: int
    confident: bool
    previous: int
    changed_ago: int | None

    def __str__(self) -> str:
        parts = [f"timeout {_text(self.timeout)}: {_WORDS[self.basis]}"]
        if self.quantile is not None:
            parts.append(
                f"p{self.p * 100:.6g} is {_text(self.quantile)}, padded by a factor of {self.pad_rel:g} "
                f"(at least {_text(self.pad_abs)}) and {self.drift:.2f} for drift"
            )
        parts.append(f"{self.samples} samples, {self.censored:.1%} of them cut off")
        if self.unanswered:
            parts.append(f"{self.unanswered} timeouts in blackouts left out")
        if self.timeout > self.target:
            parts.append(f"falling to {_text(self.target)}")
        if self.changed_ago is not None:
            parts.append(f"changed {_text(self.changed_ago)} ago from {_text(self.previous)}")
        return "; ".join(parts)


def _text(ns: int) -> str:
    for unit, name in ((_NS, "s"), (_MS, "ms"), (1000, "us")):
        if ns >= unit:
            return f"{ns / unit:.3g} {name}" if ns < 1000 * unit else f"{ns / unit:.0f} {name}"
    return f"{ns} ns"
