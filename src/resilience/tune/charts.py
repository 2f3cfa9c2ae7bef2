"""The three pictures as data: what is drawn, not how.

Knows which figures belong into which picture, and their words. `.svg` and `.png` draw them; they agree because both
are handed this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .advice import percent
from .units import format_ns

if TYPE_CHECKING:
    from .tuning import Tuning

__all__ = ["Axis", "Band", "Bars", "Chart", "Dots", "Line", "Rule", "Stretch", "charts"]

Style = Literal["latency", "median", "learned", "fixed", "false", "accepted"]
Scale = Literal["duration", "elapsed", "count", "share"]

_BARS = 45
"""Bars that the distribution has if the record is fine enough."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis; durations in ns. All are logarithmic but that of elapsed time.

    Attributes:
        label: what it shows, with its unit if the ticks do not carry one.
        scale: what the numbers are.
        low: where it begins.
        high: where it ends.
        none: whether *low* stands for none at all, which a logarithmic axis has no place for.
    """

    label: str
    scale: Scale
    low: float
    high: float
    none: bool = False

    @property
    def log(self) -> bool:
        """Whether it is logarithmic."""
        return self.scale != "elapsed"


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars: (from, to, height)."""

    label: str
    style: Style
    points: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, slots=True)
class Band:
    """The area between two lines: (x, lower, upper)."""

    label: str
    style: Style
    points: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A line through points, in steps or straight."""

    label: str
    style: Style
    points: tuple[tuple[float, float], ...]
    steps: bool = False


@dataclass(frozen=True, slots=True)
class Dots:
    """Single points, each perhaps with a few words beside it."""

    label: str
    style: Style
    points: tuple[tuple[float, float], ...]
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """A dashed line across the picture, at one value of an axis."""

    label: str
    style: Style
    axis: Literal["x", "y"]
    at: float


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of the x axis, shaded."""

    label: str
    style: Style
    low: float
    high: float


Layer = Bars | Band | Line | Dots | Rule | Stretch


@dataclass(frozen=True, slots=True)
class Chart:
    """One picture.

    Attributes:
        name: for a file.
        title: what it shows.
        description: what there is to see in it, for those who do not see it.
        x: the horizontal axis.
        y: the vertical one.
        layers: what is drawn, from the back to the front.
    """

    name: str
    title: str
    description: str
    x: Axis
    y: Axis
    layers: tuple[Layer, ...]


def charts(tuning: Tuning) -> tuple[Chart, Chart, Chart]:
    """The distribution, the course over time, and the trade-off."""
    return _distribution(tuning), _course(tuning), _tradeoff(tuning)


def _learned_words(tuning: Tuning) -> str:
    outcome = tuning.learned
    if outcome.lowest == outcome.highest:
        return f"learned timeout, {format_ns(outcome.lowest)}"
    return f"learned timeout, {format_ns(outcome.lowest)} to {format_ns(outcome.highest)}"


def _distribution(tuning: Tuning) -> Chart:
    profile, outcome, fixed = tuning.profile, tuning.learned, tuning.fixed
    whole = profile.whole
    low = min(whole.quantile(0.001), outcome.lowest)
    high = max(whole.max, outcome.highest, fixed)
    joined = 8
    while joined > 1 and len(profile.density(joined)) < _BARS:
        joined -= 1
    bars = tuple((begin, end, count) for begin, end, count in profile.density(joined) if count)
    top = max(count for _, _, count in bars)
    description = (
        f"A histogram of {whole.count} latencies. Half of them lie below {format_ns(whole.quantile(0.5))}, the "
        f"longest is {format_ns(whole.max)}. The {_learned_words(tuning)}, mean {format_ns(outcome.mean)}, and the "
        f"fixed one of {format_ns(fixed)} are marked."
    )
    return Chart(
        "distribution",
        "How long the calls took, and where the timeouts are",
        description,
        Axis("latency", "duration", min(low, bars[0][0]) / 1.05, high * 1.15),
        Axis("number of calls", "count", 0.5, top * 1.6),
        (
            Stretch(_learned_words(tuning), "learned", outcome.lowest, outcome.highest),
            Bars("calls", "latency", bars),
            Rule(f"its mean, {format_ns(outcome.mean)}", "learned", "x", outcome.mean),
            Rule(f"fixed timeout, {format_ns(fixed)}", "fixed", "x", fixed),
        ),
    )


def _course(tuning: Tuning) -> Chart:
    profile, course, fixed = tuning.profile, tuning.course, tuning.fixed
    window = course.window
    width = (window.end - window.start) / window.bins if window.end > window.start else 1.0
    centers = [(n + 0.5) * width for n in range(window.bins)]
    band = tuple(
        (at, float(slot.min), float(slot.max)) for at, slot in zip(centers, profile.slots, strict=True) if slot.count
    )
    median = tuple(
        (at, float(slot.quantile(0.5))) for at, slot in zip(centers, profile.slots, strict=True) if slot.count
    )
    now = tuning.settings.initial
    steps = [(0.0, float(now))]
    for place in range(window.bins):
        if place in course.last:
            for value in (course.high[place], course.low[place], course.last[place]):
                if value != now:
                    steps.append((place * width, float(value)))
                    now = value
    steps.append((window.bins * width, float(now)))
    cuts = tuple((float(cut.at - window.start), float(cut.latency)) for _, cut in sorted(course.cuts.items()))
    values = [low for _, low, _ in band] + [high for _, _, high in band] + [value for _, value in steps] + [fixed]
    lowest = max(min(values), min(value for _, value in median) / 20)
    description = (
        f"Latency from the quickest to the slowest call, its median, and above it the {_learned_words(tuning)}, over "
        f"{_span(profile.span)}. {tuning.learned.false} good calls would have been cut"
        f"{', marked as dots' if cuts else ''}."
    )
    layers: list[Layer] = [
        Band("quickest to slowest call", "latency", band),
        Line("half of the calls are quicker", "median", median),
        Rule(f"fixed timeout, {format_ns(fixed)}", "fixed", "y", fixed),
        Line("learned timeout", "learned", tuple(steps), steps=True),
    ]
    if cuts:
        layers.append(Dots("good call cut by it", "false", cuts))
    return Chart(
        "course",
        "The latency over time, and the learned timeout",
        description,
        Axis("time since the first call", "elapsed", 0.0, max(1.0, window.bins * width)),
        Axis("latency", "duration", lowest / 1.1, max(values) * 1.2),
        tuple(layers),
    )


def _span(ns: int) -> str:
    for factor, words in ((86_400e9, "days"), (3600e9, "hours"), (60e9, "minutes")):
        if ns >= 2 * factor:
            return f"{ns / factor:.3g} {words}"
    return f"{ns / 1e9:.3g} seconds"


def _tradeoff(tuning: Tuning) -> Chart:
    answered = tuning.profile.answered
    nothing = 0.3 / answered
    accepted = tuning.settings.accepted
    curve = tuple((outcome.mean, max(outcome.false_rate, nothing)) for outcome in tuning.curve)
    # The flat end, where nothing is cut any more, need not be drawn at length.
    flat = next((n for n, (_, rate) in enumerate(curve) if rate <= nothing), len(curve))
    curve = curve[: flat + 1]
    learned = sorted((row for row in tuning.rows if row.kind == "learned"), key=lambda row: row.accepted or 0.0)
    asked: dict[tuple[float, float], list[str]] = {}  # those that did the same are one dot
    for row in learned:
        place = float(f"{row.outcome.mean:.2g}"), max(row.outcome.false_rate, nothing)
        asked.setdefault(place, []).append(percent(row.accepted or 0.0))
    dots = tuple(asked)
    words = tuple(", ".join(names) for names in asked.values())
    best = next(row.outcome for row in tuning.rows if row.kind == "fixed" and row.recommended)
    high = max([x for x, _ in curve] + [x for x, _ in dots] + [best.mean])
    description = (
        "The longer the timeout, the fewer good calls are cut, and the longer a caller is blocked by a call that "
        f"hangs. The learned timeout would have cut {percent(tuning.learned.false_rate)} at "
        f"{format_ns(tuning.learned.mean)} on average, the fixed one of {format_ns(tuning.fixed)} "
        f"{percent(best.false_rate)}."
    )
    return Chart(
        "tradeoff",
        "What a shorter timeout costs",
        description,
        Axis("how long a call that hangs blocks its caller", "duration", curve[0][0] / 1.05, high * 1.4),
        Axis("good calls cut", "share", nothing / 1.3, 1.2, none=True),
        (
            Rule(f"you accept {percent(accepted)}", "accepted", "y", accepted),
            Line("fixed timeouts", "fixed", curve),
            Dots(
                "recommended fixed timeout",
                "fixed",
                ((best.mean, max(best.false_rate, nothing)),),
                (format_ns(tuning.fixed),),
            ),
            Dots("learned timeouts, with what they were asked to keep", "learned", dots, words),
        ),
    )
