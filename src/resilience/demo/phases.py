"""The demo's schedule: which weather, when.

Knows phases and their lengths. Refuses to know who calls and how.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .faults import Capacity, Delay, Dribble, Hang, Reset, Status, Throttle, Weather

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CAPACITY", "OUTAGE", "Phase", "phases"]

CAPACITY = 1.5
"""What the dependency can serve once it is not healthy, as a multiple of what is wanted."""
OUTAGE = "outage"
"""The name of the phase after whose end recovery is timed."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of the run, in seconds from its beginning, and the weather in it."""

    name: str
    start: float
    end: float
    weather: Weather


def phases(seconds: float, rate: float) -> Sequence[Phase]:
    """The five phases of a run of that many seconds, for *rate* wanted calls a second.

    Once no longer healthy the dependency has little to spare, and refusing a request costs it a
    fifth of serving one.
    """
    capacity = Capacity(CAPACITY * rate, refusal=0.2)
    plan = (
        ("healthy", 3, Weather()),
        (
            "brown-out",
            4,
            Weather(
                (Hang(0.06), Dribble(0.04, rate=100.0)),
                delay=Delay(0.03, sigma=0.7),  # ten times what the emulator takes
                capacity=capacity,
            ),
        ),
        ("throttling", 4, Weather((Throttle(0.3),), capacity=capacity)),
        (OUTAGE, 4, Weather((Hang(0.4), Reset(0.3), Status(503, 0.3)), capacity=capacity)),
        ("recovery", 5, Weather(capacity=capacity)),
    )
    unit = seconds / sum(parts for _, parts, _ in plan)
    result, start = [], 0.0
    for name, parts, weather in plan:
        end = start + parts * unit
        result.append(Phase(name, start, end, weather))
        start = end
    return result
