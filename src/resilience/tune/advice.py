"""From the shape of a record to settings, and to what one should know about them.

Knows the rules of thumb of this library's documentation. Pure. Refuses to know files, pictures and output.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..machines.sketch import minimum_samples
from .learner import LEAST_PADDING, LINGER, PADDING, Settings
from .profile import share_above
from .shape import DRIFTS, TIGHT, WANDERS, modes, wander
from .units import format_ns

if TYPE_CHECKING:
    from .profile import Profile

__all__ = [
    "PADDINGS",
    "Note",
    "Sight",
    "Wishes",
    "first_settings",
    "fixed_for",
    "look",
    "nice_up",
    "notes_of",
    "percent",
]

PADDINGS = (PADDING, 1.5, 2.0, 3.0)
"""Paddings that are tried, from the smallest on, until one keeps the accepted rate."""

CONFIDENCE = 0.95
_MS = 1_000_000
_PAUSE = 10 * _MS
"""What a pause of one's own process takes, such as a garbage collection: no timeout should turn on so little."""

_FIXED_PAD = 1.5
_FIXED_PAD_MOVING = 2.0
_ROOM = 10
"""How many times slower the dependency may become before the ceiling cuts."""

_MAX_AGE = 900
"""Seconds after which the estimator forgets a sample in any case."""

_FEWEST = 30
"""Answers without which the estimator does not move."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user fixed beforehand; times in ns, ``None`` for what is to be found out."""

    accepted: float = 0.001
    floor: int | None = None
    ceiling: int | None = None
    initial: int | None = None
    padding: float | None = None
    linger: int = LINGER


@dataclass(frozen=True, slots=True)
class Note:
    """One thing worth knowing: a word for programs, a sentence or two for people."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Sight:
    """What there is to see in a record, as far as advice depends on it; times in ns.

    Attributes:
        p: the share of answers that are to come in time.
        plain: the p-quantile.
        quantile: the upper bound of it, at 95 % confidence.
        basis: "measured"; "extrapolated" from twice the longest answer; "hidden" by timeouts when it was recorded.
        median: of the answers.
        p95: of the answers.
        needed: samples without which the quantile is not known.
        tight: whether there is hardly any spread.
        humps: (latency, share) of each hump.
        wander: how far the level moves, as a factor.
        first: the p-quantile of the first half of the calls.
        second: the same of the second half.
        missed: which share of the second half is longer than *first*.
    """

    p: float
    plain: int
    quantile: int
    basis: str
    median: int
    p95: int
    needed: int
    tight: bool
    humps: tuple[tuple[float, float], ...]
    wander: float
    first: int
    second: int
    missed: float

    @property
    def drifts(self) -> bool:
        """Whether one half of the record differs from the other."""
        return not 1 / DRIFTS <= self.second / self.first <= DRIFTS

    @property
    def quick(self) -> bool:
        """Whether all that matters is shorter than a pause of one's own process."""
        return 2 * max(self.quantile, self.first, self.second) <= _PAUSE

    @property
    def moves(self) -> bool:
        """Whether the latency of tomorrow is likely to be another one."""
        return self.drifts or self.wander > WANDERS


def look(profile: Profile, p: float) -> Sight:
    """Look at a record with a certain percentile in mind; there must be an answer in it."""
    whole = profile.whole
    needed = minimum_samples(p, CONFIDENCE)
    quantile, basis = profile.quantile(p, confidence=CONFIDENCE), "measured"
    if quantile is None and profile.answered + profile.censored < needed:
        quantile, basis = 2 * whole.max, "extrapolated"
    elif quantile is None:
        quantile, basis = 2 * max(profile.at_limit(p), whole.max), "hidden"
    half = len(profile.chunks) // 2
    halves = [profile.part(0, half), profile.part(half, 2 * half)]
    ends = [part.quantile(p) if part.count else whole.max for part in halves]
    median, p95 = whole.quantile(0.5), whole.quantile(0.95)
    return Sight(
        p=p,
        plain=(profile.quantile(p) or quantile) if basis == "measured" else quantile,
        quantile=quantile,
        basis=basis,
        median=median,
        p95=p95,
        needed=needed,
        tight=p95 < TIGHT * median,
        humps=tuple(modes([(math.sqrt(low * high), count) for low, high, count in profile.density(3)])),
        wander=wander(profile.levels()),
        first=ends[0],
        second=ends[1],
        missed=share_above(halves[1], ends[0]),
    )


def nice_up(ns: float) -> int:
    """Two significant digits, rounded up: 0.0857 s becomes 0.086 s."""
    whole = max(1, math.ceil(round(ns, 3)))
    step: int = 10 ** max(0, len(str(whole)) - 2)
    return -(-whole // step) * step


def fixed_for(sight: Sight) -> int:
    """The one number that never moves, ns: the percentile with more padding than a learned one needs."""
    padding = _FIXED_PAD_MOVING if sight.moves else _FIXED_PAD
    return nice_up(max(sight.plain * padding, sight.quantile + _PAUSE))


def first_settings(sight: Sight, wishes: Wishes) -> Settings:
    """What to try first.

    Raises:
        ValueError: the wishes exclude each other.
    """
    fixed = fixed_for(sight)
    padding = wishes.padding or PADDINGS[0]
    least = _PAUSE if sight.tight else LEAST_PADDING
    floor = nice_up(max(sight.median, _PAUSE))
    floor = wishes.floor or min(floor, wishes.ceiling or floor, wishes.initial or floor)
    ceiling = wishes.ceiling or max(nice_up(_ROOM * fixed), floor, wishes.initial or 0)
    initial = wishes.initial or min(max(fixed, floor), ceiling)
    if not floor <= initial <= ceiling:
        raise ValueError(
            f"floor {format_ns(floor)}, initial value {format_ns(initial)} and ceiling {format_ns(ceiling)} "
            "must be in this order"
        )
    return Settings(wishes.accepted, floor, ceiling, initial, padding, least, wishes.linger)


def percent(share: float) -> str:
    """A share for people: ``0.1 %``; what is above nothing is not told as nothing."""
    value = share * 100
    if value == 0:
        return "0 %"
    if value < 0.001:
        return f"{value:.1e} %"
    return f"{value:.2g} %" if value < 9.95 else f"{value:.3g} %"


def notes_of(profile: Profile, sight: Sight) -> list[Note]:
    """What one should know about the record."""
    found = []
    known = profile.answered + profile.censored
    name = f"p{sight.p * 100:.6g}"
    if known < sight.needed:
        table = ", ".join(
            f"{percent(share)}: {minimum_samples(1 - share, CONFIDENCE)}" for share in (0.05, 0.01, 0.001, 0.0001)
        )
        found.append(Note(
            "few_samples",
            f"{known} calls are too few to know {name}: it takes {sight.needed}. The numbers here are built on twice "
            f"the longest answer instead. Record for longer, or accept more false timeouts. Calls needed, by the share "
            f"you accept to cut: {table}.",
        ))  # fmt: skip
    if sight.basis == "hidden":
        found.append(Note(
            "hidden",
            f"So many calls were given up when this was recorded that {name} cannot be seen. The numbers are a guess, "
            "twice the longest time that anything was waited for. Record with a longer timeout.",
        ))  # fmt: skip
    if sight.quick:
        found.append(Note(
            "quick",
            f"The calls are quicker than the pauses of a program: a garbage collection or a busy machine alone can "
            f"take {format_ns(_PAUSE)}. So no timeout here is shorter than that, and a fixed one does as well as a "
            "learned one.",
        ))  # fmt: skip
    if sight.tight and not sight.quick:
        found.append(Note(
            "tight",
            f"The latency is tight: half of the calls take {format_ns(sight.median)}, and 95 in 100 less than "
            f"{format_ns(sight.p95)}. Then a small delay, of the network or of your own process, makes every call a "
            f"slow one. So the timeout keeps at least {format_ns(_PAUSE)} above the percentile.",
        ))  # fmt: skip
    if len(sight.humps) > 1 and not sight.quick:
        parts = [f"{format_ns(at, 2)} ({percent(float(f'{share:.2g}'))} of the calls)" for at, share in sight.humps]
        humps = ", ".join(parts[:-1]) + " and " + parts[-1]
        found.append(Note(
            "modes",
            f"There are {len(sight.humps)} kinds of calls in here, around {humps}. If they are different operations, "
            "give each a timeout of its own: the quick ones then need not wait as long as the slow ones.",
        ))  # fmt: skip
    if sight.drifts and not sight.quick:
        if sight.second > sight.first:
            what = f"would have cut {percent(sight.missed)} of the good calls in the second"
        else:
            what = "would have been longer than needed in the second"
        found.append(Note(
            "drift",
            f"The latency changed: {name} was {format_ns(sight.first)} in the first half of the record and "
            f"{format_ns(sight.second)} in the second. A fixed timeout set from the first half, without padding, "
            f"{what}.",
        ))  # fmt: skip
    if sight.wander > WANDERS and not sight.quick:
        found.append(Note(
            "unstable",
            f"The latency wanders: from one stretch to the next its level moves by a factor of about "
            f"{sight.wander:.2g}, as on paths over the internet. A timeout that follows suits it better than a fixed "
            "one, and a longer record would tell more.",
        ))  # fmt: skip
    held = profile.rate * _MAX_AGE
    if profile.rate and held < sight.needed <= known:
        what = (
            "so a learned timeout would never move from where it starts: take the fixed one"
            if held < _FEWEST
            else "so a learned timeout takes twice the longest of them, which is long: consider the fixed one"
        )
        found.append(Note(
            "sparse",
            f"Calls are rare: in 15 minutes, the longest that a learned timeout looks back, come {held:.0f} and not "
            f"the {sight.needed} that {name} takes, {what}. If the record is only a selection of the calls, say with "
            "--rate how many a second there really are.",
        ))  # fmt: skip
    return found
