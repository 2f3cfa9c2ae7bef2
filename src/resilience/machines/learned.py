"""Reading what was learned elsewhere, or before: plain data that may hold anything.

This file knows what `TimeoutEstimator.dump` writes, and refuses whatever else it is given, by name.
"""

from __future__ import annotations

from typing import Any

from .. import _checks
from ..errors import ConfigError

__all__ = ["VERSION", "WHAT", "Slices", "read_slices", "read_timeout"]

WHAT = "learned latency"
VERSION = 1
"""Of the form in which it is dumped."""

_MOST = 1 << 32
"""Counts are kept in 32 bits."""

Slices = dict[int, tuple[dict[int, int], dict[int, int], int]]
"""By epoch: answers and attempts cut off, each by bucket, and attempts lost."""


def read_timeout(data: Any, alpha: float) -> int:
    """The timeout of something learned, ns, whose buckets have the width *alpha*; its slices are not looked at.

    Raises:
        ConfigError: it is of another kind, version or width, or a value is missing or impossible.
        TypeError: a value has the wrong type.
    """
    if not isinstance(data, dict):
        raise TypeError(f"a learned latency must be a dictionary, not {data!r}")
    if data.get("what") != WHAT:
        raise ConfigError(f"what must be {WHAT!r}, not {data.get('what')!r}")
    if data.get("version") != VERSION:
        raise ConfigError(f"version must be {VERSION}, not {data.get('version')!r}")
    missing = {"alpha", "timeout", "slices"} - data.keys()
    if missing:
        raise ConfigError(f"a learned latency must have {', '.join(sorted(missing))}")
    if _checks.number("alpha", data["alpha"]) != alpha:
        raise ConfigError(f"alpha must be {alpha!r}, not {data['alpha']!r}")
    return _checks.count("timeout", data["timeout"])


def read_slices(data: Any, buckets: int, slice_ns: int, now: int) -> Slices:
    """The slices of something learned, of *slice_ns* each, as if it had been learned just before *now*.

    Raises:
        ConfigError: a value is missing or impossible; such as a bucket above *buckets*.
        TypeError: a value has the wrong type.
    """
    if not isinstance(data, list):
        raise TypeError(f"slices must be a list, not {data!r}")
    slices: Slices = {}
    for part in data:
        if not isinstance(part, dict):
            raise TypeError(f"slices must hold objects, not {part!r}")
        missing = {"age", "answers", "cut", "lost"} - part.keys()
        if missing:
            raise ConfigError(f"slices must have {', '.join(sorted(missing))}")
        epoch = (now - _checks.count("age", part["age"], minimum=0)) // slice_ns
        done, cut, lost = slices.get(epoch, ({}, {}, 0))
        _read("answers", part["answers"], buckets, done)
        _read("cut", part["cut"], buckets, cut)
        slices[epoch] = done, cut, lost + _checks.count("lost", part["lost"], minimum=0)
    for name, total in (
        ("answers", sum(sum(done.values()) for done, _, _ in slices.values())),
        ("cut", sum(sum(cut.values()) for _, cut, _ in slices.values())),
        ("lost", sum(lost for _, _, lost in slices.values())),
    ):
        if total >= _MOST:
            raise ConfigError(f"{name} must be below {_MOST} in all, not {total!r}")
    return slices


def _read(name: str, rows: Any, buckets: int, into: dict[int, int]) -> None:
    if not isinstance(rows, list):
        raise TypeError(f"{name} must be a list of pairs, not {rows!r}")
    for row in rows:
        if not isinstance(row, (list, tuple)) or len(row) != 2:
            raise TypeError(f"{name} must hold pairs of a bucket and a count, not {row!r}")
        bucket = _checks.count("bucket", row[0], minimum=0)
        if bucket > buckets:
            raise ConfigError(f"bucket must be at most {buckets}, not {bucket!r}")
        into[bucket] = into.get(bucket, 0) + _checks.count("count", row[1])
