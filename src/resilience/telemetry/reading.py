"""The numbers of a policy, as they are at one moment.

Reading changes nothing but what was waiting to be counted, and takes each lock for a moment. Nothing here is called
unless somebody looks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..policies.circuit_breaker import CircuitBreaker
from ..policies.per_key import PerKey
from ..policies.percentile_timeout import PercentileTimeout
from ..policies.timeout import TimeoutPart

if TYPE_CHECKING:
    from .._part import Part
    from ..machines.distribution import Distribution
    from ..policy import Policy

__all__ = ["Numbers", "latency", "numbers"]

Numbers = dict[str, dict[str, "int | float"]]

QUANTILES = (0.5, 0.9, 0.99)


def numbers(policy: Policy) -> Numbers:
    """By kind of part, by name. Those of the policy itself are under ``""``."""
    plan = policy._plan
    found: Numbers = {"": plan.stats.read(plan.clock.monotonic_ns())}
    for kind, part in policy.parts.items():
        found[kind] = {**part.counters, **_more(part)}
    level = policy.service_level
    if level is not None:
        found["slo"] = {
            "objective": level.objective, "good": level.good, "bad": level.bad, "left": level.left,
            "shedding": int(level.shedding), **{f"burn.{span:g}": rate for span, rate in level.burn.items()},
        }  # fmt: skip
    return found


def latency(policy: Policy) -> tuple[Distribution, Distribution]:
    """How long calls took that went well, and those that did not."""
    return policy._plan.stats.latency(policy._plan.clock.monotonic_ns())


def _more(part: Part) -> dict[str, int | float]:
    """What is worth knowing of a part beside its counters."""
    model = part.model
    if isinstance(model, CircuitBreaker):
        circuits = [part[key] for key in part] if isinstance(part, PerKey) else [model]
        return _circuits([circuit for circuit in circuits if isinstance(circuit, CircuitBreaker)])
    if isinstance(model, TimeoutPart):
        found: dict[str, int | float] = {"most": model.most}
        if not isinstance(part, PercentileTimeout):
            return found if isinstance(part, PerKey) else {**found, "seconds": model.current}
        for share in QUANTILES:
            seconds = part.quantile(share)
            if seconds is not None:
                found[f"quantile.{share:g}"] = seconds
        return found
    limit = getattr(part, "limit", None)
    return {"limit": limit} if part.kind == "bulkhead" and isinstance(limit, int) else {}


def _circuits(circuits: list[CircuitBreaker]) -> dict[str, int | float]:
    """How many are in each state, and how long all were."""
    found: dict[str, int | float] = {}
    for circuit in circuits:
        state = str(circuit.state)
        for name, seconds in circuit.time_in().items():
            found[f"is.{name}"] = found.get(f"is.{name}", 0) + (name == state)
            found[f"seconds.{name}"] = found.get(f"seconds.{name}", 0) + seconds
    return found
