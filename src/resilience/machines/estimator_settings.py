"""How a learned timeout is set: the numbers, checked.

Ten thousand estimators, one for each key, are set alike; so the settings are one immutable object that they share.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

from .. import _checks
from ..errors import ConfigError
from .sketch import bucket_edges, minimum_samples

__all__ = ["EstimatorSettings", "estimator_settings"]

_MS = 1_000_000
_SECOND = 1_000_000_000


class EstimatorSettings(NamedTuple):
    """The numbers as `estimator_settings` checked them; *first* is the initial timeout."""

    p: float
    floor: int
    ceiling: int
    first: int
    pad_rel: float
    pad_abs: int
    drift_cap: float
    slices: int
    slice_ns: int
    need: int
    max_age: int
    alpha: float
    confidence: float | None
    minimum: int
    fall: float
    refresh_ns: int
    hold: float


def estimator_settings(
    p: float | None = None,
    *,
    floor: int,
    ceiling: int,
    false_timeouts: float | None = None,
    initial: int | None = None,
    pad_rel: float = 1.25,
    pad_abs: int = 5 * _MS,
    drift_cap: float = 2.0,
    slices: int = 12,
    slice_ns: int = 5 * _SECOND,
    need: int | None = None,
    max_age: int = 900 * _SECOND,
    alpha: float = 0.01,
    confidence: float | None = 0.5,
    minimum: int = 30,
    fall: float = 0.2,
    refresh_ns: int = _SECOND,
    hold: float = 2.0,
) -> EstimatorSettings:
    """Check the settings of a `TimeoutEstimator`.

    Args:
        p: the share of answers that should come in time, above 0 and below 1; 0.99 by default.
        false_timeouts: the same the other way round, 1 - p. At most one of the two.
        floor: the shortest timeout, ns.
        ceiling: the longest, ns.
        initial: the timeout until enough is known, ns, between the two; *ceiling* by default.
        pad_rel: factor on the quantile, at least 1.
        pad_abs: least addition to the quantile, ns: scheduling alone can take so long. 0 or more.
        drift_cap: the most that wandering latency may add, as a factor; 1 takes no account of it.
        slices: how many slices the window has when traffic allows, at least 2.
        slice_ns: what one slice spans, ns.
        need: how many samples the window is stretched to hold; by default as many as a bound on the quantile
            with 95 % confidence needs.
        max_age: how old a sample may be when traffic is low, ns; at least the window. Blackouts do not count.
        alpha: width of the buckets, see ``Sketch``.
        confidence: of the upper bound on the quantile, between 0 and 1; ``None`` for the plain quantile. One half aims
            at the middle. While there is little to go by, it is 95 % at least.
        minimum: answers needed before the timeout moves, at least 1.
        fall: the most the timeout falls in one refresh, as a share, above 0 and at most 1.
        refresh_ns: the least time between two refreshes, ns.
        hold: how far above the timeout before it a blackout takes it, as a factor of at least 1.

    Raises:
        ConfigError: an argument is out of range.
        TypeError: an argument has the wrong type.
    """
    if p is not None and false_timeouts is not None:
        raise ConfigError("give p or false_timeouts, not both")
    if false_timeouts is not None:
        p = 1 - _checks.ratio("false_timeouts", false_timeouts, one=False)
    p = _checks.ratio("p", 0.99 if p is None else p, one=False)
    longest = bucket_edges(alpha)[-1]
    floor = _checks.count("floor", floor)
    ceiling = _checks.count("ceiling", ceiling, minimum=floor)
    if ceiling > longest:
        raise ConfigError(f"ceiling must be at most {longest} ns, not {ceiling!r}")
    first = ceiling if initial is None else _checks.count("initial", initial, minimum=floor)
    if first > ceiling:
        raise ConfigError(f"initial must be at most the ceiling {ceiling!r}, not {initial!r}")
    slices = _checks.count("slices", slices, minimum=2)
    slice_ns = _checks.count("slice_ns", slice_ns)
    minimum = _checks.count("minimum", minimum)
    if confidence is not None:
        confidence = _checks.ratio("confidence", confidence, one=False)
    if need is not None:
        need = _checks.count("need", need)
    elif confidence is None:
        need = math.ceil(1 / (1 - p) * (1 - 1e-12))
    else:
        need = minimum_samples(p, max(confidence, 0.95))
    return _shared(
        EstimatorSettings(
            p=p,
            floor=floor,
            ceiling=ceiling,
            first=first,
            pad_rel=_checks.number("pad_rel", pad_rel, minimum=1),
            pad_abs=_checks.count("pad_abs", pad_abs, minimum=0),
            drift_cap=_checks.number("drift_cap", drift_cap, minimum=1),
            slices=slices,
            slice_ns=slice_ns,
            need=max(minimum, need),
            max_age=_checks.count("max_age", max_age, minimum=slices * slice_ns),
            alpha=float(alpha),
            confidence=confidence,
            minimum=minimum,
            fall=_checks.ratio("fall", fall),
            refresh_ns=_checks.count("refresh_ns", refresh_ns),
            hold=_checks.number("hold", hold, minimum=1),
        )
    )


@lru_cache(maxsize=64)
def _shared(settings: EstimatorSettings) -> EstimatorSettings:
    return settings
