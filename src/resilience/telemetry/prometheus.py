"""The policies' numbers for Prometheus: a collector for ``prometheus_client``, and pages of our own for many policies.

``install()`` puts the policies on the page that a program serves already. `wsgi_app` and `asgi_app` make a page of
their own, beside which the other one may stand; they need no ``prometheus_client``, and some milliseconds where that
takes a second. What is scraped is read at that moment: between two scrapes nothing is done.

This file knows both libraries' words. It refuses to know what is counted, and how (`resilience.telemetry.table`).
"""

from __future__ import annotations

import re
import threading
from itertools import chain
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from .. import _checks
from .._hooks import log
from .._registry import Registry, registry
from ..errors import ConfigError
from ._readings import BUCKETS, Borders, Taker, merged
from ._text import Page, readable
from .table import LATENCY, METRICS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

    from prometheus_client import CollectorRegistry
    from prometheus_client import Metric as Family

    from ._readings import Reading, Row
    from .multiprocess import Workers
    from .table import Metric

__all__ = ["BUCKETS", "Collector", "asgi_app", "exposition", "install", "uninstall", "wsgi_app"]

_TAKEN = {"policy", "le"}.union(*(metric.labels for metric in METRICS))

_PLAIN = "text/plain; version=0.0.4; charset=utf-8"
_OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Collector:
    """Reads policies whenever Prometheus asks; a custom collector for ``prometheus_client``.

    A number that a policy does not have (a policy without a limiter has no tokens) makes no sample. A policy that
    cannot be read is left out, which is logged once; the scrape goes on. Labels are few: the policy, and words of the
    metric table. So there are at most some hundred series for each policy, and *max_policies* bounds them all: names
    of policies must not be made of what users send.

    Args:
        policies: registries of policies; the process's own by default. Also `multiprocess.Workers`. Policies of one
            name in several of them become one: their counts are added up.
        buckets: the upper borders of the latency histogram, in seconds, ascending. Durations are kept finer than that,
            so two collectors may have different ones.
        labels: name -> value of labels that every sample gets.
        max_policies: so many policies are shown. Of more, those seen first; the others are left out, and the log says
            so.

    Attributes:
        left_out: how many policies were left out at the last scrape for being too many.

    Raises:
        ConfigError: an argument is out of range.
        TypeError: an argument has the wrong type.

    Thread-safe: one scrape at a time.
    """

    def __init__(
        self,
        *policies: Registry | Workers,
        buckets: Sequence[float] = BUCKETS,
        labels: Mapping[str, str] | None = None,
        max_policies: int = 10_000,
    ) -> None:
        self.policies = policies or (registry,)
        self._sources = [_source(each) for each in self.policies]
        self._borders = Borders(buckets)
        self.buckets = self._borders.seconds
        self.labels = _labels({} if labels is None else labels)
        self.max_policies = _checks.count("max_policies", max_policies)
        self.left_out = 0
        self._shown: set[str] = set()
        self._page = Page(self._borders, self.labels)
        self._lock = threading.Lock()

    def text(self, *, openmetrics: bool = False) -> bytes:
        """The policies' numbers now, as a page for Prometheus; in the OpenMetrics form with its end mark."""
        with self._lock:
            return self._page.write(self._rows(), openmetrics=openmetrics)

    def collect(self) -> list[Family]:
        """The same for ``prometheus_client``."""
        families = {metric.name: _family(metric, self.labels) for metric in METRICS}
        with self._lock:
            for row in self._rows():
                self._add(families, row)
        return [family for family in families.values() if family.samples]

    def describe(self) -> list[Family]:
        """Every metric there may be, without samples."""
        return [_family(metric, self.labels) for metric in METRICS]

    def _add(self, families: Mapping[str, Any], row: Row) -> None:
        fixed = (*self.labels.values(), readable(row.name))
        for metric in METRICS:
            for cell in metric.cells:
                value = row.numbers.get(cell.part, {}).get(cell.key)
                if value is not None and metric is not LATENCY:
                    families[metric.name].add_metric((*fixed, *cell.labels), value)
        for cell, (*counts, _, total) in zip(LATENCY.cells, row.cuts, strict=False):
            buckets = list(zip(self._borders.words, counts, strict=True))
            families[LATENCY.name].add_metric((*fixed, *cell.labels), buckets, total)

    def _rows(self) -> Iterator[Row]:
        """Each policy, up to the limit."""
        seen, left_out = set(), 0
        for row in self._all_rows():
            if row.name not in self._shown:
                if len(self._shown) >= self.max_policies:
                    left_out += 1
                    continue
                self._shown.add(row.name)
            seen.add(row.name)
            yield row
        self._shown = seen
        if left_out and not self.left_out:
            log.warning("%d policies are more than max_policies (%d): not shown", left_out, self.max_policies)
        self.left_out = left_out

    def _all_rows(self) -> Iterable[Row]:
        first = self._sources[0]
        if len(self._sources) == 1 and isinstance(first, Taker):
            return first.rows(self._borders)
        readings = merged(chain.from_iterable(self._sources))
        return (self._borders.row(name, reading) for name, reading in readings.items())


def _source(policies: Any) -> Iterable[tuple[str, Reading]]:
    if isinstance(policies, Registry):
        return Taker(policies)
    if not getattr(policies, "gives_readings", False):
        raise TypeError(f"policies must be a Registry or multiprocess.Workers, not {policies!r}")
    source: Iterable[tuple[str, Reading]] = policies
    return source


def _labels(labels: Mapping[str, str]) -> dict[str, str]:
    for name, value in dict(labels).items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"labels must have strings as names and values, not {name!r}: {value!r}")
        if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name, re.ASCII) or name.startswith("__") or name in _TAKEN:
            raise ConfigError(f"labels must have names of letters, digits and _ that are not in use, not {name!r}")
    return {name: readable(value) for name, value in sorted(labels.items())}


def _family(metric: Metric, labels: Mapping[str, str]) -> Family:
    from prometheus_client import metrics_core

    kinds: dict[str, Callable[..., Family]] = {
        "counter": metrics_core.CounterMetricFamily,
        "gauge": metrics_core.GaugeMetricFamily,
        "histogram": metrics_core.HistogramMetricFamily,
    }
    names = (*labels, "policy", *metric.labels)
    return kinds[metric.kind](metric.name, metric.words, labels=names, unit=metric.unit)


# -- on the page of prometheus_client ----------------------------------------------------------------------------------

_installed: WeakKeyDictionary[CollectorRegistry, Collector] = WeakKeyDictionary()
_installing = threading.Lock()


def _target(given: CollectorRegistry | None) -> CollectorRegistry:
    if given is not None:
        return given
    from prometheus_client import REGISTRY

    return REGISTRY


def install(*policies: Registry | Workers, into: CollectorRegistry | None = None, **settings: Any) -> Collector:
    """Show the policies wherever the ``prometheus_client`` registry *into* is shown; its default one if ``None``.

    A second call with the same arguments changes nothing. Good for some dozens of policies: ``prometheus_client`` takes
    about a millisecond for each. For more, see `wsgi_app`.

    Args:
        policies: as of `Collector`.
        into: where to.
        settings: *buckets*, *labels* and *max_policies*, as of `Collector`.

    Raises:
        ConfigError: one with other settings is there already, or an argument is out of range.
        TypeError: an argument has the wrong type.
        ModuleNotFoundError: ``prometheus_client`` is not installed.

    Thread-safe.
    """
    target = _target(into)
    collector = Collector(*policies, **settings)
    with _installing:
        known = _installed.get(target)
        if known is None:
            target.register(collector)
            _installed[target] = known = collector
    for name in ("policies", "buckets", "labels", "max_policies"):
        if getattr(known, name) != getattr(collector, name):
            raise ConfigError(
                f"{name} must be as they were installed before, {getattr(known, name)!r}, not "
                f"{getattr(collector, name)!r}; uninstall first"
            )
    return known


def uninstall(into: CollectorRegistry | None = None) -> None:
    """Show the policies there no longer; no error if they were not. Thread-safe."""
    target = _target(into)
    with _installing:
        known = _installed.pop(target, None)
        if known is not None:
            target.unregister(known)


# -- on a page of our own ----------------------------------------------------------------------------------------------


def exposition(collector: Collector, *, beside: CollectorRegistry | None = None, openmetrics: bool = False) -> bytes:
    """A page of the policies' numbers now, and of all that the ``prometheus_client`` registry *beside* has.

    Raises:
        ConfigError: the policies are installed in *beside*, so they would be there twice.

    Thread-safe.
    """
    ours = collector.text(openmetrics=openmetrics)
    if beside is None:
        return ours
    if beside in _installed:
        raise ConfigError(f"beside must be a registry without the policies in it, not {beside!r}; uninstall first")
    if not openmetrics:
        from prometheus_client import generate_latest

        return generate_latest(beside) + ours
    from prometheus_client.openmetrics import exposition as openmetrics_form

    theirs: bytes = openmetrics_form.generate_latest(beside)  # type: ignore[no-untyped-call]
    return theirs.removesuffix(b"# EOF\n") + ours


def _answer(collector: Collector, beside: CollectorRegistry | None, accept: str) -> tuple[str, bytes]:
    openmetrics = "application/openmetrics-text" in accept
    return _OPENMETRICS if openmetrics else _PLAIN, exposition(collector, beside=beside, openmetrics=openmetrics)


def wsgi_app(
    collector: Collector | None = None, *, beside: CollectorRegistry | None = None
) -> Callable[[dict[str, Any], Callable[..., Any]], list[bytes]]:
    """A WSGI application that serves the page at every path. Not compressed: that would take longer than all else.

    Args:
        collector: what is shown; all policies of the process's registry by default.
        beside: a ``prometheus_client`` registry that is shown, too.

    Thread-safe.
    """
    shown = Collector() if collector is None else collector

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            start_response("405 Method Not Allowed", [("Allow", "GET, HEAD"), ("Content-Length", "0")])
            return []
        kind, body = _answer(shown, beside, environ.get("HTTP_ACCEPT", ""))
        start_response("200 OK", [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body] if environ["REQUEST_METHOD"] == "GET" else []

    return app


def asgi_app(
    collector: Collector | None = None, *, beside: CollectorRegistry | None = None
) -> Callable[[Any, Any, Any], Awaitable[None]]:
    """The same as an ASGI application. The page is made in another thread, so the event loop goes on meanwhile."""
    shown = Collector() if collector is None else collector

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        import asyncio

        if scope["type"] != "http":
            raise ValueError(f"metrics are served by HTTP, not by {scope['type']!r}")
        status, headers, body = 405, [(b"allow", b"GET, HEAD")], b""
        if scope["method"] in ("GET", "HEAD"):
            accept = ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"accept")
            kind, body = await asyncio.to_thread(_answer, shown, beside, accept)
            status, headers = 200, [(b"content-type", kind.encode())]
        headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    return app
