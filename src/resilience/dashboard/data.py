"""What there is to see of a process, at one moment, as plain data.

Knows policies and their numbers, and nothing of pages. Reading changes nothing, and happens only when somebody looks.
"""

from __future__ import annotations

import platform
import socket
import time
import uuid
from os import getpid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._hooks import log
from .._registry import Registry
from .._registry import registry as everyone
from ..events import brief
from ..machines.circuit_types import State
from ..machines.distribution import EDGES
from ..machines.sketch import rank_of
from ..policies.circuit_breaker import CircuitBreaker
from ..policies.per_key import PerKey
from ..policies.percentile_timeout import PercentileTimeout
from ..policies.timeout import TimeoutPart
from ..telemetry.reading import latency, numbers

if TYPE_CHECKING:
    from collections.abc import Collection

    from .._part import Part
    from ..policy import Policy
    from .recent import Recent

__all__ = ["VERSION", "circuits", "snapshot"]

VERSION = 1
"""Of the form of a snapshot. Goes up when a reader of the old form would go wrong."""

_JOINED = 4
"""Buckets of a distribution that are told as one: 29 to a decade."""

_UPPER = tuple(
    float(f"{EDGES[min(first + _JOINED, len(EDGES)) - 1] / 1e9:.4g}")
    for first in range(0, len(EDGES) + _JOINED, _JOINED)
)
_WORST_FIRST = (State.OPEN, State.FORCED_OPEN, State.HALF_OPEN, State.DISABLED, State.CLOSED)
_MANY_KEYS = 20
_ID = uuid.uuid4().hex
_LOADED = time.time()


def snapshot(
    registry: Registry = everyone, *, settings: Collection[str] | None = None, recent: Recent | None = None
) -> dict[str, Any]:
    """The process, its policies and what happened last: text, numbers, lists and dictionaries, ready for ``json``.

    Durations are in seconds, moments in seconds since 1970, shares between 0 and 1. A policy that cannot be read has
    an ``error`` in place of its numbers.

    Args:
        registry: whose policies.
        settings: names of the policies whose settings are told in words, which takes longer than all the rest; ``None``
            for all.
        recent: what was heard of events; ``None`` for none.

    Thread-safe.
    """
    policies = [policy for name in registry if (policy := registry.get(name)) is not None]
    return {
        "version": VERSION,
        "time": time.time(),
        "process": _process(),
        "policies": [_policy(policy, words=settings is None or policy.name in settings) for policy in policies],
        "events": [] if recent is None else recent.entries(),
    }


def _process() -> dict[str, Any]:
    from .. import __version__

    return {
        "id": f"{_ID}-{getpid()}",  # a fork has the same first half
        "pid": getpid(),
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "resilience": __version__,
        "uptime": _uptime(),
    }


def _uptime() -> float:
    """Seconds since the process began; where the system does not tell, since this module was loaded."""
    try:
        begun = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19]
        now = Path("/proc/uptime").read_text(encoding="ascii").split()[0]
        return max(0.0, float(now) - int(begun) / 100)  # in ticks, of which Linux shows programs 100 a second
    except (OSError, ValueError, IndexError):
        return time.time() - _LOADED


def _policy(policy: Policy, *, words: bool) -> dict[str, Any]:
    try:
        return _read(policy, words=words)
    except Exception as error:  # of a subclass, or of the user's own repr; the others are shown all the same
        log.exception("the policy %r cannot be shown", policy.name)
        return {"name": policy.name, "parts": [], "error": brief(error)}


def _read(policy: Policy, *, words: bool) -> dict[str, Any]:
    parts = policy.parts
    found: dict[str, Any] = {
        "name": policy.name,
        "parts": list(parts),
        "numbers": numbers(policy),
        "latency": _latency(policy),
        "limits": _limits(parts),
    }
    if "breaker" in parts:
        found["circuit"] = _circuit(parts["breaker"])
    if "timeout" in parts:
        found["timeout"] = _timeout(parts["timeout"])
    if policy.slo is not None:
        slo = policy.slo
        found["slo"] = {"within": slo.within, "window": slo.window, "spans": slo.spans, "minimum_bad": slo.minimum_bad}
    if words:
        found["settings"] = {kind: repr(part) for kind, part in parts.items()}
        if policy.slo is not None:
            found["settings"]["slo"] = repr(policy.slo)
    return found


def _latency(policy: Policy) -> dict[str, Any]:
    """Rows of an upper border, and how many calls that went well and badly it holds; and quantiles of the good ones."""
    good, bad = latency(policy)
    rows: dict[int, list[float]] = {}
    for bucket, count in good.counts.items():
        row = rows.get(bucket // _JOINED)
        if row is None:
            rows[bucket // _JOINED] = [_UPPER[bucket // _JOINED], count, 0]
        else:
            row[1] += count
    for bucket, count in bad.counts.items():
        rows.setdefault(bucket // _JOINED, [_UPPER[bucket // _JOINED], 0, 0])[2] += count
    buckets = [rows[index] for index in sorted(rows)]
    return {"buckets": buckets, "p50": _quantile(buckets, 0.5, good.count), "p99": _quantile(buckets, 0.99, good.count)}


def _quantile(buckets: list[list[float]], share: float, count: int) -> float | None:
    """The upper border of the row that holds it, in seconds."""
    wanted = rank_of(share, count) if count else 0
    for upper, good, _ in buckets:
        wanted -= int(good)
        if good and wanted <= 0:
            return upper
    return None


def circuits(part: Part) -> list[tuple[str | None, CircuitBreaker]]:
    """The breakers of a part, each with its key in words; ``None`` for the only one."""
    if isinstance(part, PerKey):
        return [
            (key[:120] if isinstance(key, str) else brief(key), one)
            for key in part
            if isinstance(one := part[key], CircuitBreaker)
        ]
    return [(None, part)] if isinstance(part, CircuitBreaker) else []


def _circuit(part: Part) -> dict[str, Any]:
    """The worst state there is, for how long, and which keys are not closed."""
    states: dict[str, int] = {}
    rows: list[tuple[int, float, str | None, CircuitBreaker]] = []
    for key, one in circuits(part):
        state = one.state
        states[str(state)] = states.get(str(state), 0) + 1
        since = max(0.0, (one._now.monotonic_ns() - one._since) / 1e9)
        rows.append((_WORST_FIRST.index(state), since, key, one))
    if not rows:
        return {"state": str(State.CLOSED), "seconds": 0.0, "retry_after": None, "states": {}, "keys": []}
    rows.sort(key=lambda row: row[:2])
    worst, since, _, one = rows[0]
    return {
        "state": str(_WORST_FIRST[worst]),
        "seconds": since,
        "retry_after": None if one.state is State.CLOSED else one.snapshot.retry_after,
        "states": states,
        "keys": [
            {"key": key, "state": str(_WORST_FIRST[rank]), "seconds": seconds}
            for rank, seconds, key, one in rows[:_MANY_KEYS]
            if key is not None and one.state is not State.CLOSED
        ],
    }


def _timeout(part: Part) -> dict[str, Any]:
    """Whether it is learned, and why it is what it is. How long it is stands among the numbers."""
    if isinstance(part, PercentileTimeout):
        why = part.explain()
        return {"learned": True, "basis": why.basis, "target": why.target, "words": str(why)}
    model = part.model
    return {"learned": isinstance(model, TimeoutPart) and model.learns}


def _limits(parts: dict[str, Part]) -> dict[str, float]:
    """What the levels among the numbers are levels of."""
    found: dict[str, float] = {}
    for kind, name in (("limiter", "burst"), ("bulkhead", "queue")):
        value = getattr(parts.get(kind), name, None)
        if isinstance(value, int):
            found[name] = value
    budget = getattr(parts.get("retry"), "_budget", None)
    if budget is not None:
        found["budget"] = budget.capacity
    return found
