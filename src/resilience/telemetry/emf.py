"""CloudWatch's embedded metric format (EMF): metrics as lines on standard output, for Lambda.

Lambda hands what a function prints to CloudWatch Logs, which turns such lines into metrics: no agent, no call, no
waiting. A line says what has happened since the last one, for each policy. Format and limits are those of AWS's
specification:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html

The metrics are those of `resilience.telemetry.table`, under names without prefix, ``_total`` and unit. A dimension has
one value in a line, so what are labels elsewhere is part of the name here: ``calls.succeeded``.
"""

from __future__ import annotations

import functools
import inspect
import json
import math
import re
import sys
import threading
from typing import TYPE_CHECKING, Any, TypeVar, cast
from weakref import WeakKeyDictionary

from .. import _registry
from .._checks import NS, text
from .._hooks import log
from ..clock import system
from ..errors import ConfigError
from ..machines.distribution import EDGES
from ._derived import noun, read, since, stem
from ._readings import Taker
from .table import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Self, TextIO

    from .._registry import Registry
    from ..clock import Clock
    from ..machines.distribution import Distribution
    from ..policy import Policy
    from ._derived import Reading
    from .table import Cell, Metric

__all__ = ["EmfReporter"]

F = TypeVar("F", bound="Callable[..., Any]")
Value = float | list[float]

AT_ONCE = 100
"""Metrics in a line, and values of one metric in a line: the specification allows no more."""

MOST = 1000
"""Durations written at a time; of more, so many are picked that stand for all."""

_UNITS = {"seconds": "Seconds", "ratio": "None"}


class EmfReporter:
    """Writes what happened since it wrote last, one line of EMF for each policy that was called.

    Counters are written as what was added, if anything was; gauges as they are. Durations are written as values, so
    CloudWatch can show any percentile of them, each at most 2 % above the true one. What does not fit into one line
    (100 metrics, 100 values) goes into further ones; of more than 1000 durations at once 1000 are written, evenly
    spaced by rank. A policy of which no call has begun or ended since writes nothing.

    Args:
        namespace: of the metrics, 1 to 255 letters, digits, blanks and ``. - _ / # :``, the first no colon.
        dimensions: names and values that all metrics have beside ``policy``, such as the service; at most 29.
        metrics: names of metrics of the table, such as ``resilience_calls_total``, to write only these. Each name in
            CloudWatch has its price.
        registry: whose policies.
        stream: where to; standard output by default, as it is when written to.
        clock: where the time of day comes from.

    Raises:
        ConfigError: an argument is out of range, or no metric has that name.
        TypeError: an argument is of the wrong type.

    Thread-safe.
    """

    def __init__(
        self,
        namespace: str = "resilience",
        *,
        dimensions: Mapping[str, str] | None = None,
        metrics: Iterable[str] | None = None,
        registry: Registry = _registry.registry,
        stream: TextIO | None = None,
        clock: Clock = system,
    ) -> None:
        if not re.fullmatch(r"(?!:)[\w ./#:-]{1,255}", text("namespace", namespace), re.ASCII):
            raise ConfigError(f"namespace must be 1 to 255 of A-Z a-z 0-9 . - _ / # : and blank, not {namespace!r}")
        if not isinstance(registry, _registry.Registry):
            raise TypeError(f"registry must be a Registry, not {registry!r}")
        self._namespace = namespace
        self._dimensions = _dimensions(dimensions or {})
        self._metrics = _chosen(metrics)
        self._taker = Taker(registry)
        self._stream = stream
        self._clock = clock
        self._lock = threading.RLock()
        self._flushing = False
        self._before: WeakKeyDictionary[Policy, Reading] = WeakKeyDictionary()

    def flush(self) -> int:
        """Write the lines of all policies that were called since the last time; returns how many.

        Raises:
            OSError, ValueError: the stream cannot be written to.
        """
        with self._lock:
            if self._flushing:  # by a listener, of what it was told because the policies were read
                return 0
            self._flushing = True
            try:
                return self._flush()
            finally:
                self._flushing = False

    def _flush(self) -> int:
        called = [(policy, reading) for policy, reading in read(self._taker) if self._called(policy, reading)]
        lines = [line for policy, reading in called for line in self._lines(reading, self._before.get(policy))]
        if lines:
            stream = sys.stdout if self._stream is None else self._stream
            stream.write("".join(f"{line}\n" for line in lines))
            stream.flush()
        self._before.update(called)  # not before they are written
        return len(lines)

    def lambda_handler(self, handler: F) -> F:
        """Decorate a function, coroutine functions included, so that lines are written each time it has ended."""
        if inspect.iscoroutinefunction(handler):

            @functools.wraps(handler)
            async def aflushing(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return await handler(*args, **kwargs)

            return cast("F", aflushing)
        if not callable(handler):
            raise TypeError(f"handler must be a function, not {handler!r}")

        @functools.wraps(handler)
        def flushing(*args: Any, **kwargs: Any) -> Any:
            with self:
                return handler(*args, **kwargs)

        return cast("F", flushing)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.flush()
        except Exception:
            log.exception("the metrics could not be written; the call goes on")

    def _called(self, policy: Policy, reading: Reading) -> bool:
        counts, before = reading.numbers[""], self._before.get(policy)
        return counts["calls"] > 0 if before is None else counts != before.numbers[""]

    def _lines(self, reading: Reading, before: Reading | None) -> Iterator[str]:
        root = {**self._dimensions, "policy": _ascii(reading.name)[:1024]}
        for values in _packed(dict(self._values(reading, before))):
            yield json.dumps({
                "_aws": {
                    "Timestamp": round(self._clock.time() * 1000),
                    "CloudWatchMetrics": [
                        {
                            "Namespace": self._namespace,
                            "Dimensions": [list(root)],
                            "Metrics": [{"Name": name, "Unit": unit} for name, (unit, _) in values.items()],
                        }
                    ],
                },
                **root,
                **{name: value for name, (_, value) in values.items()},
            })  # fmt: skip

    def _values(self, reading: Reading, before: Reading | None) -> Iterator[tuple[str, tuple[str, Value]]]:
        """Name, unit and value of each metric."""
        for metric in self._metrics:
            unit = _UNITS.get(metric.unit) or ("None" if noun(metric) is None else "Count")
            for cell in metric.cells:
                name = _name(metric, cell)
                value: Value | None
                if metric.kind == "histogram":
                    earlier = None if before is None else before.durations[cell.key]
                    value = _durations(since(reading.durations[cell.key], earlier))
                else:
                    value = reading.value(cell)
                    if metric.kind == "counter" and value is not None:
                        value -= (before.value(cell) if before is not None else None) or 0
                        value = value if value > 0 else None
                    if value is not None and not math.isfinite(value):
                        value = None  # CloudWatch takes neither
                if value is not None and value != []:
                    yield name, (unit, value)


def _name(metric: Metric, cell: Cell) -> str:
    return ".".join((stem(metric), *cell.labels))


def _packed(values: dict[str, tuple[str, Value]]) -> Iterator[dict[str, tuple[str, Value]]]:
    """The metrics line by line, with no more in each than is allowed."""
    line: dict[str, tuple[str, Value]] = {}
    more: list[dict[str, tuple[str, Value]]] = []
    for name, (unit, value) in values.items():
        if len(line) == AT_ONCE:
            yield line
            line = {}
        if isinstance(value, list):
            more += [{name: (unit, value[at : at + AT_ONCE])} for at in range(AT_ONCE, len(value), AT_ONCE)]
            value = value[:AT_ONCE]  # noqa: PLW2901 - the rest goes into lines of its own
        line[name] = (unit, value)
    if line:
        yield line
    yield from more


def _durations(distribution: Distribution) -> list[float]:
    """The durations in seconds, or so many of them that stand for all."""
    total, picked = distribution.count, min(distribution.count, MOST)
    found: list[float] = []
    seen = 0
    for bucket, n in sorted(distribution.counts.items()):
        seen += n
        # Of `picked` evenly spaced ones, those up to here; when all are picked, that is each one.
        upto = (seen * picked + total // 2) // total
        found += [EDGES[min(bucket, len(EDGES) - 1)] / NS] * (upto - len(found))
    return found


def _ascii(value: str) -> str:
    """A dimension's value is of printable ASCII, up to 1024; other characters are written as in Python's strings."""
    return value.strip().encode("unicode_escape").decode()[:1024] or "_"


def _dimensions(given: Mapping[str, str]) -> dict[str, str]:
    if len(given) > 29:
        raise ConfigError(f"dimensions must be at most 29, not {len(given)}")
    taken = {"policy", "_aws"} | {_name(metric, cell) for metric in METRICS for cell in metric.cells}
    allowed = "names of 1 to 250 characters, the first no colon, with values of 1 to 1024, all of printable ASCII"
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"dimensions must be {allowed}, not {name!r}: {value!r}")
        fit = re.fullmatch("(?!:)[ -~]{1,250}", name) and re.fullmatch("[ -~]{1,1024}", value)
        if not fit or not name.strip() or not value.strip():
            raise ConfigError(f"dimensions must be {allowed}, not {name!r}: {value!r}")
        if name in taken:
            raise ConfigError(f"dimensions must not have the name of a metric, _aws or policy, not {name!r}")
    return dict(given)


def _chosen(names: Iterable[str] | None) -> tuple[Metric, ...]:
    if names is None:
        return METRICS
    wanted = {names} if isinstance(names, str) else set(names)
    unknown = wanted - {metric.name for metric in METRICS}
    if unknown:
        raise ConfigError(f"metrics must be names in the table of metrics, not {sorted(map(str, unknown))!r}")
    return tuple(metric for metric in METRICS if metric.name in wanted)
