"""The metrics as OpenTelemetry's observable instruments, all made from the one table.

An instrument is asked when somebody collects, and only then are policies read: once for each collection, however many
instruments there are, so that all numbers of a collection are of one moment. The sign of a new collection is that an
instrument asks again which has asked already.

The API can take instruments away from nobody. So there is one set of them for each provider of meters, for good, and
it shows the registries that are instrumented at present.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from opentelemetry import metrics
from opentelemetry.metrics import Observation

import resilience

from .._checks import NS
from ..clock import system
from ._derived import PREFIX, noun, read, since, stem
from ._readings import Taker
from .table import LATENCY, METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider

    from .._registry import Registry
    from ..machines.distribution import Distribution
    from ..policy import Policy
    from ._derived import Reading
    from .table import Metric

    Durations = dict[str, Distribution]

__all__ = ["QUANTILES", "Readings", "instruments"]

QUANTILES = (0.5, 0.95, 0.99)

WINDOW = 60 * NS
"""Quantiles are those of the last one to two of these, or since the collection before."""


_lock = threading.Lock()


class Readings:
    """The policies of one registry, as they were when the present collection began. Thread-safe."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._taker = Taker(registry)
        self._lock = threading.Lock()
        self._asked: set[str] = set()
        self._read: tuple[Reading, ...] = ()
        # The durations as they were when the window began, and those with which the next one will begin.
        self._marks: WeakKeyDictionary[Policy, tuple[int, Durations, Durations]] = WeakKeyDictionary()
        self._recent: dict[str, Durations] = {}

    def of(self, instrument: str) -> tuple[Reading, ...]:
        """The readings for this instrument."""
        with self._lock:
            if instrument in self._asked or not self._asked:
                self._asked.clear()
                self._recent = {}
                found = []
                for policy, reading in read(self._taker):
                    found.append(reading)
                    self._recent[reading.name] = self._window(policy, reading.durations)
                self._read = tuple(found)
            self._asked.add(instrument)
            return self._read

    def recent(self, reading: Reading) -> Durations:
        """The durations of the last minute or two."""
        return self._recent.get(reading.name, {})

    def _window(self, policy: Policy, durations: Durations) -> Durations:
        now = system.monotonic_ns()
        at, begin, middle = self._marks.get(policy, (now, {}, {}))
        if now - at >= WINDOW:
            at, begin, middle = now, middle, durations
        self._marks[policy] = (at, begin, middle)
        return {key: since(distribution, begin.get(key)) for key, distribution in durations.items()}


class Instruments:
    """All instruments of one provider of meters.

    Attributes:
        shown: what they show now; replaced, never changed.
    """

    def __init__(self, meter: Meter) -> None:
        self.shown: tuple[Readings, ...] = ()
        for metric in METRICS:
            if metric is LATENCY:
                self._distribution(meter, metric)
            else:
                self._plain(meter, metric)

    def show(self, readings: Readings) -> None:
        """Show these from now on."""
        with _lock:
            self.shown = (*self.shown, readings)

    def hide(self, readings: Readings) -> None:
        """Show these no longer."""
        with _lock:
            self.shown = tuple(other for other in self.shown if other is not readings)

    def _plain(self, meter: Meter, metric: Metric) -> None:
        what = noun(metric)
        unit = {"seconds": "s", "ratio": "1"}.get(metric.unit) or (f"{{{what}}}" if what else "1")
        name = f"{PREFIX}.{stem(metric)}"

        def observe(readings: Readings) -> Iterator[Observation]:
            for reading in readings.of(name):
                for cell in metric.cells:
                    value = reading.value(cell)
                    if value is not None:
                        yield Observation(value, _attributes(reading, metric.labels, cell.labels))

        callbacks = [self._callback(observe)]
        if metric.kind == "counter":
            meter.create_observable_counter(name, callbacks, unit, metric.words)
        elif metric.together == "sum":
            meter.create_observable_up_down_counter(name, callbacks, unit, metric.words)
        else:
            meter.create_observable_gauge(name, callbacks, unit, metric.words)

    def _distribution(self, meter: Meter, metric: Metric) -> None:
        name = f"{PREFIX}.{stem(metric)}"

        def each(readings: Readings, what: str) -> Iterator[tuple[Reading, str, dict[str, str]]]:
            for reading in readings.of(f"{name}.{what}"):
                for cell in metric.cells:
                    yield reading, cell.key, _attributes(reading, metric.labels, cell.labels)

        def counts(readings: Readings) -> Iterator[Observation]:
            for reading, key, attributes in each(readings, "count"):
                yield Observation(reading.durations[key].count, attributes)

        def sums(readings: Readings) -> Iterator[Observation]:
            for reading, key, attributes in each(readings, "sum"):
                yield Observation(reading.durations[key].sum / NS, attributes)

        def quantiles(readings: Readings) -> Iterator[Observation]:
            for reading, key, attributes in each(readings, "quantile"):
                recent = readings.recent(reading).get(key)
                for share in QUANTILES:
                    ns = None if recent is None else recent.quantile(share)
                    if ns is not None:
                        yield Observation(ns / NS, {**attributes, f"{PREFIX}.quantile": f"{share:g}"})

        words = metric.words
        counter, gauge = meter.create_observable_counter, meter.create_observable_gauge
        counter(f"{name}.count", [self._callback(counts)], "{call}", f"{words}: how many")
        counter(f"{name}.sum", [self._callback(sums)], "s", f"{words}: all together")
        gauge(f"{name}.quantile", [self._callback(quantiles)], "s", f"{words}: quantiles of the last minute or two")

    def _callback(
        self, observe: Callable[[Readings], Iterator[Observation]]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def callback(_: CallbackOptions) -> Iterable[Observation]:
            registries = {readings.registry: readings for readings in self.shown}  # each once, or it would count twice
            for readings in registries.values():
                yield from observe(readings)

        return callback


def _attributes(reading: Reading, names: tuple[str, ...], values: tuple[str, ...]) -> dict[str, str]:
    """Whose number it is, and the labels of the table."""
    labels = {f"{PREFIX}.{name}": value for name, value in zip(names, values, strict=True)}
    return {f"{PREFIX}.policy": reading.name, **labels}


_made: WeakKeyDictionary[object, Instruments] = WeakKeyDictionary()


def instruments(provider: MeterProvider | None) -> Instruments:
    """The instruments of *provider*, made at the first time; ``None``: the global one, also if it is set later."""
    used = metrics.get_meter_provider() if provider is None else provider
    key: object = metrics if used is metrics.get_meter_provider() else used  # before and after it is set the same
    with _lock:
        if key not in _made:
            _made[key] = Instruments(used.get_meter("resilience", resilience.__version__))
        return _made[key]
