"""From what happened in a run to the figures of the table.

Knows the definitions; every figure follows from the calls' outcomes and the proxy's counts. Refuses
to know how these came about, and how they are shown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .phases import OUTAGE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .load import Call
    from .phases import Phase

__all__ = ["Figures", "Part", "Run", "figures", "recovery"]

WINDOW = 1.0
"""Seconds of the sliding window in which recovery is judged."""
RECOVERED = 0.95
"""The share of calls in the window that must be answered in time."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run, as recorded.

    Attributes:
        name: how the calls were made.
        calls: every wanted call with its outcome at the end of the run.
        arrivals: when each request reached the proxy, in seconds from the start.
        passed_on: how many of them were passed on to the emulator.
        end: when the outcomes were read, in seconds from the start.
        retries: botocore's own retry settings in force.
        stuck: worker threads that had not come back when the run was cleared away.
    """

    name: str
    calls: Sequence[Call]
    arrivals: Sequence[float]
    passed_on: int
    end: float
    retries: str
    stuck: int


@dataclass(frozen=True, slots=True)
class Part:
    """A phase: its calls by when they were meant to start, its requests by when they arrived."""

    wanted: int
    in_time: int
    requests: int

    @property
    def amplification(self) -> float:
        """Requests that reached the server for each call wanted."""
        return self.requests / self.wanted if self.wanted else math.nan


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one run; seconds are counted from when a call was meant to start.

    Attributes:
        wanted: calls wanted.
        begun: calls that a worker thread was ever free for.
        in_time: calls rightly answered within the deadline.
        late: calls answered, but later.
        p50: seconds within which half of all wanted calls were answered; infinite when fewer ever
            were.
        p99: the same for 99 of 100.
        held: seconds for which 99 of 100 calls held their thread at most, whatever came of them:
            the answer, an error, or nothing until the run was over.
        requests: requests that reached the server, here the proxy in front of the emulator.
        passed_on: those of them that were passed on to the emulator.
        amplification: requests for each call begun.
        recovered: seconds from the end of the outage until the calls are answered in time again;
            ``None`` when they were not before the run was over.
        errors: failed calls by class of error.
        phases: each phase's own figures.
    """

    wanted: int
    begun: int
    in_time: int
    late: int
    p50: float
    p99: float
    held: float
    requests: int
    passed_on: int
    amplification: float
    recovered: float | None
    errors: Mapping[str, int]
    phases: Mapping[str, Part]


def figures(run: Run, phases: Sequence[Phase], deadline: float) -> Figures:
    """All figures of a run; *deadline* in seconds."""
    calls = run.calls
    latencies = [_latency(call) for call in calls]
    begun = [call for call in calls if call.began is not None]
    in_time = sum(latency <= deadline for latency in latencies)
    errors: dict[str, int] = {}
    for call in calls:
        if call.error is not None:
            errors[call.error] = errors.get(call.error, 0) + 1
    return Figures(
        wanted=len(calls),
        begun=len(begun),
        in_time=in_time,
        late=sum(deadline < latency < math.inf for latency in latencies),
        p50=_quantile(latencies, 0.5),
        p99=_quantile(latencies, 0.99),
        held=_quantile([(run.end if call.ended is None else call.ended) - call.at for call in calls], 0.99),
        requests=len(run.arrivals),
        passed_on=run.passed_on,
        amplification=len(run.arrivals) / len(begun) if begun else math.nan,
        recovered=recovery(calls, phases, deadline),
        errors=dict(sorted(errors.items(), key=lambda item: -item[1])),
        phases={phase.name: _part(run, phase, phases[-1] is phase, deadline) for phase in phases},
    )


def recovery(calls: Sequence[Call], phases: Sequence[Phase], deadline: float) -> float | None:
    """Seconds from the end of the outage until every window is good, if that ever happens.

    A window is good when at least 95 % of the calls meant to start in it were answered in time.
    *calls* are in order of start.
    """
    since = next(phase.end for phase in phases if phase.name == OUTAGE)
    last = phases[-1].end - WINDOW
    after = [(call.at, _latency(call) <= deadline) for call in calls if call.at >= since]
    found: float | None = None
    for moment in [since, *(at for at, _ in after)]:
        if moment > last:
            break
        window = [good for at, good in after if moment <= at < moment + WINDOW]
        if window and sum(window) < RECOVERED * len(window):
            found = None
        elif window and found is None:
            found = moment
    return None if found is None else found - since


def _part(run: Run, phase: Phase, last: bool, deadline: float) -> Part:
    end = math.inf if last else phase.end
    inside = [call for call in run.calls if phase.start <= call.at < end]
    return Part(
        wanted=len(inside),
        in_time=sum(_latency(call) <= deadline for call in inside),
        requests=sum(phase.start <= at < end for at in run.arrivals),
    )


def _latency(call: Call) -> float:
    """Seconds from the intended start to the answer; infinite when there was none."""
    return math.inf if call.ended is None or call.error is not None else call.ended - call.at


def _quantile(values: Sequence[float], q: float) -> float:
    """The smallest value that at least a share *q* of the values do not exceed."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(q * len(values)) - 1)]
