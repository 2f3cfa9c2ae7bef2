"""The work of the command, without reading and writing: look, try, compare, recommend.

Knows the order of things. What a record looks like, what a timeout would have done and what follows from it, others
know.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from .advice import PADDINGS, Note, Sight, Wishes, first_settings, fixed_for, look, nice_up, notes_of, percent
from .learner import Learner, Settings
from .profile import Profile
from .replay import Course, Outcome, replay, replay_fixed
from .units import format_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .taker import Reading
    from .trace import Trace

__all__ = ["Row", "Tuning", "no_answer", "tune"]

_GRID = (0.9, 0.95, 0.99, 0.999, 0.9999)
_TARGETS = (0.05, 0.01, 0.001)
"""Accepted shares that the learned timeout is tried with for comparison."""

_MANY = 500_000
"""From so many calls on, only what is asked for is tried: a comparison is not worth minutes."""

_CURVE = 72
_EVERY = 1 << 14

Kind = Literal["learned", "fixed"]


@dataclass(frozen=True, slots=True)
class Row:
    """One timeout, and what it would have done.

    Attributes:
        kind: whether it follows the latency.
        name: for people.
        outcome: what it would have done.
        recommended: whether it is one of the two that are recommended.
        accepted: what a learned one was asked to keep.
    """

    kind: Kind
    name: str
    outcome: Outcome
    recommended: bool = False
    accepted: float | None = None


@dataclass(frozen=True, slots=True)
class Tuning:
    """All that was found out.

    Attributes:
        reading: about the file.
        profile: the shape of the record.
        sight: what matters of it.
        settings: the recommended learned timeout.
        fixed: the recommended fixed one, ns.
        course: how the learned one moved.
        rows: what each timeout would have done.
        curve: fixed timeouts from short to long, for the picture.
        without: what callers waited with no timeout at all, ns.
        notes: what one should know.
    """

    reading: Reading
    profile: Profile
    sight: Sight
    settings: Settings
    fixed: int
    course: Course
    rows: tuple[Row, ...]
    curve: tuple[Outcome, ...]
    without: Outcome
    notes: tuple[Note, ...]

    @property
    def learned(self) -> Outcome:
        """What the recommended learned timeout would have done."""
        return next(row.outcome for row in self.rows if row.recommended and row.kind == "learned")


def no_answer(trace: Trace) -> bool:
    """Whether nothing in a record was ever answered."""
    return not any(sample > 0 for _, sample in trace)


def tune(
    trace: Trace,
    reading: Reading,
    wishes: Wishes,
    fixed: Sequence[int] = (),
    progress: Callable[[str, int, int], None] = lambda _label, _done, _total: None,
) -> Tuning:
    """Find the settings for a record.

    Args:
        trace: the samples; at least one of them answered.
        reading: where they came from.
        wishes: what is accepted, and what is given.
        fixed: further fixed timeouts to compare with, ns.
        progress: is told now and then what is done, how far it is, and of how much.

    Raises:
        ValueError: the wishes exclude each other.
    """

    def watched(label: str) -> Iterator[tuple[int, int]]:
        total = trace.count
        for number, pair in enumerate(trace):
            if not number & (_EVERY - 1):
                progress(label, number, total)
            yield pair

    profile = Profile(watched("looking at the calls"), trace.count, trace.first, trace.last)
    sight = look(profile, Settings(wishes.accepted, 1, 1, 1).percentile)
    settings, outcome, course, raised = _fitting(watched, profile, sight, first_settings(sight, wishes), wishes)
    rows = [Row("learned", _learned(settings), outcome, recommended=True, accepted=settings.accepted)]
    if trace.count < _MANY:
        for accepted in _TARGETS:
            if accepted != settings.accepted:
                other = replace(settings, accepted=accepted)
                found = replay(watched(f"trying {percent(accepted)}"), Learner(other, profile.window.start))
                rows.append(Row("learned", _learned(other), found, accepted=accepted))
    best = fixed_for(sight)
    whole = profile.whole
    grid = {whole.quantile(p): f"fixed, p{p * 100:.6g}" for p in _GRID if profile.answered * (1 - p) >= 1}
    given = {ns: f"fixed, {format_ns(ns)}" for ns in fixed}
    low, high = max(1, whole.quantile(0.2)), max(2 * whole.max, 2 * best)
    steps = [round(low * (high / low) ** (n / _CURVE)) for n in range(_CURVE + 1)]
    asked = [best, *given, *grid, *steps]
    found_fixed = replay_fixed(watched("trying fixed timeouts"), [*asked, _forever(profile)])
    outcomes = dict(zip([*asked, -1], found_fixed, strict=True))
    rows.append(Row("fixed", f"fixed, {format_ns(best)}", outcomes[best], recommended=True))
    rows.extend(Row("fixed", name, outcomes[ns]) for ns, name in sorted((grid | given).items()) if ns != best)
    notes = [
        *_about_reading(reading),
        *notes_of(profile, sight),
        *_about_fit(settings, outcome, sight, raised),
    ]
    return Tuning(
        reading, profile, sight, settings, best, course, tuple(rows), tuple(outcomes[ns] for ns in steps),
        outcomes[-1], tuple(notes),
    )  # fmt: skip


def _forever(profile: Profile) -> int:
    """A timeout that cuts none of the calls that ended."""
    return max(profile.longest, 1)


def _learned(settings: Settings) -> str:
    return f"learned, {percent(settings.accepted)}"


def _fitting(
    watched: Callable[[str], Iterator[tuple[int, int]]],
    profile: Profile,
    sight: Sight,
    settings: Settings,
    wishes: Wishes,
) -> tuple[Settings, Outcome, Course, Outcome | None]:
    """Try paddings until one keeps the rate; if none does, keep the timeout above what the whole record needs.

    Returns:
        the settings, what they do, how the timeout moved; and what it did before the floor was raised, if it was.
    """

    def attempt(tried: Settings) -> tuple[Outcome, Course]:
        course = Course(profile.window)
        label = f"trying padding {tried.padding:g}"
        return replay(watched(label), Learner(tried, profile.window.start), course), course

    def keeps(outcome: Outcome) -> bool:
        return outcome.false <= settings.accepted * outcome.answered * (1 + 1e-9)

    outcome, course = attempt(settings)
    if keeps(outcome):
        return settings, outcome, course, None
    for padding in PADDINGS if wishes.padding is None else ():
        if padding > settings.padding:
            tried = replace(settings, padding=padding)
            better, moved = attempt(tried)
            if keeps(better):
                return tried, better, moved, None
    floor = nice_up(sight.quantile)
    if wishes.floor is not None or floor > settings.ceiling or floor <= settings.floor:
        return settings, outcome, course, None
    raised = replace(settings, floor=floor, initial=max(settings.initial, floor))
    better, moved = attempt(raised)
    return raised, better, moved, outcome


def _about_reading(reading: Reading) -> list[Note]:
    found = []
    if reading.bad_count:
        shown = "; ".join(f"line {at}: {why}" for at, why in reading.bad)
        more = f"; and {reading.bad_count - len(reading.bad)} more" if reading.bad_count > len(reading.bad) else ""
        found.append(Note("bad_lines", f"{reading.bad_count} lines could not be read: {shown}{more}."))
    if reading.rate is not None:
        found.append(Note(
            "evenly_spaced",
            f"No times were read: the calls are taken as coming {reading.rate:g} a second, evenly (--rate). How "
            "quickly a learned timeout follows depends on that.",
        ))  # fmt: skip
    if reading.zeros:
        found.append(Note(
            "zeros",
            f"{reading.zeros} latencies are 0, and taken as very short. If 0 stands for a call without an answer, say "
            "--timed-out-value 0.",
        ))  # fmt: skip
    if reading.timed_out:
        found.append(Note(
            "timed_out",
            f"{reading.timed_out} calls had been given up when this was recorded. Whether an answer would have come, "
            "nobody knows: they are counted as cut, but not as good calls cut.",
        ))  # fmt: skip
    return found


def _about_fit(settings: Settings, outcome: Outcome, sight: Sight, before: Outcome | None) -> list[Note]:
    found = []
    accepted = percent(settings.accepted)
    if before is not None:
        found.append(Note(
            "floor_raised",
            f"Left to itself, a learned timeout would have cut {percent(before.false_rate)} of the good calls, more "
            f"than the {accepted} you accept: slowness comes here too suddenly to be learned from. So it is kept at "
            f"{format_ns(settings.floor)} or more, and hardly differs from a fixed one.",
        ))  # fmt: skip
    if outcome.false > settings.accepted * outcome.answered * (1 + 1e-9):
        found.append(Note(
            "over",
            f"The learned timeout would have cut {percent(outcome.false_rate)} of the good calls, more than the "
            f"{accepted} you accept. Raise its floor or its padding, or take the fixed one.",
        ))  # fmt: skip
    if outcome.lowest == outcome.highest == settings.initial and sight.basis != "hidden":
        found.append(Note(
            "never_moved",
            "The learned timeout stayed where it started: it takes 30 answers within 15 minutes to learn anything.",
        ))  # fmt: skip
    return found
