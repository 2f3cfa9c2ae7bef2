"""The numbers of a policy, as they are at one moment.

Reading changes nothing but what was waiting to be counted, and takes each lock for a moment. Nothing here is called
unless somebody looks; a thousand policies are read in some tens of milliseconds.
"""

from __future__ import annotations

from functools import lru_cache
from operator import add
from typing import TYPE_CHECKING, cast

from .._plan import PARTS
from ..machines.circuit_types import State
from ..policies.per_key import PerKey
from ..policies.percentile_timeout import PercentileTimeout

if TYPE_CHECKING:
    from .._part import Part
    from ..machines.distribution import Distribution
    from ..policies.circuit_breaker import CircuitBreaker
    from ..policies.slo import SLO
    from ..policies.timeout import TimeoutPart
    from ..policy import Policy

__all__ = ["Numbers", "latency", "numbers"]

Numbers = dict[str, dict[str, "int | float"]]

SHARES = (0.5, 0.9, 0.99)
_QUANTILES = tuple(f"quantile.{share:g}" for share in SHARES)
_IS = {state: f"is.{state}" for state in State}
_NOWHERE = dict.fromkeys(_IS.values(), 0)
_SPENT = tuple(f"seconds.{state}" for state in State)


def numbers(policy: Policy) -> Numbers:
    """By kind of part, by name. Those of the policy itself are under ``""``."""
    plan = policy._plan
    now = plan.clock.monotonic_ns()
    found: Numbers = {"": plan.stats.read(now)}
    for kind in PARTS:
        part = getattr(plan, kind)
        if part is None:
            continue
        copies = part.copies if isinstance(part, PercentileTimeout) else []  # first: gone ones are added to its counts
        found[kind] = mine = part.counters
        if kind == "breaker":
            _circuits(part, mine)
        elif kind == "timeout":
            _timeout(part, mine, copies)
        elif kind == "bulkhead" and isinstance(limit := getattr(part, "limit", None), int):
            mine["limit"] = limit
    if policy.slo is not None:
        found["slo"] = _objective(policy.slo, now)
    return found


def latency(policy: Policy) -> tuple[Distribution, Distribution]:
    """How long calls took that went well, and those that did not."""
    return policy._plan.stats.latency(policy._plan.clock.monotonic_ns())


def _objective(slo: SLO, now: int) -> dict[str, int | float]:
    """How the objective is kept; the calls so far have been counted before. As `SLO.reading`, in half the time."""
    with slo._lock:
        level, shedding = slo._level, slo._weigh(now)
        good, bad = level.good, level.bad
        found = {
            "objective": slo.objective, "good": good, "bad": bad, "left": level.left(now) if bad else 1.0,
            "shedding": int(shedding),
        }  # fmt: skip
        for seconds, span in slo._spans.items():
            found[_burn(seconds)] = level.burn(span, now) if bad else 0.0
    return found


@lru_cache(maxsize=64)
def _burn(span: float) -> str:
    return f"burn.{span:g}"


def _timeout(part: Part, found: dict[str, int | float], copies: list[PercentileTimeout]) -> None:
    """The longest it can become; the timeout now, and what answers take."""
    model = cast("TimeoutPart", part.model)
    found["most"] = model.most
    if isinstance(part, PercentileTimeout):
        _learned(part, found, copies)
    elif not isinstance(part, PerKey):
        found["seconds"] = model.current


def _learned(part: PercentileTimeout, found: dict[str, int | float], copies: list[PercentileTimeout]) -> None:
    """What answers take. Of a timeout that has copies, such as one for each operation of an AWS client: all as one."""
    if not copies:
        found.update(zip(_QUANTILES, part.quantiles(SHARES), strict=False))  # none of too few answers
        return
    for name in part.gauges:  # its own say nothing: it is not in use
        found.pop(name, None)
    for copy in copies:
        for name, value in copy.counters.items():
            known = found.get(name, 0)
            found[name] = max(known, value) if name in part.gauges else known + value
        for name, seconds in zip(_QUANTILES, copy.quantiles(SHARES), strict=False):
            found[name] = max(found.get(name, 0), seconds)


def _circuits(part: Part, found: dict[str, int | float]) -> None:
    """How many are in each state, and how long all were."""
    found.update(_NOWHERE)
    if not isinstance(part, PerKey):
        circuit = cast("CircuitBreaker", part)
        found[_IS[circuit.state]] = 1
        found.update(zip(_SPENT, circuit.time_in().values(), strict=True))
        return
    with part._lock:
        circuits = list(part._parts.values())
        spent = list(part._spent.values())
    for circuit in circuits:
        found[_IS[circuit.state]] += 1
        spent = list(map(add, spent, circuit.time_in().values()))
    found.update(zip(_SPENT, spent, strict=True))
