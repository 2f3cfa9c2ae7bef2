"""The page for Prometheus is well-formed, equals what prometheus_client makes, and is served."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, generate_latest

import resilience as rs
from resilience.telemetry.prometheus import Collector, asgi_app, exposition, install, wsgi_app
from resilience.telemetry.table import METRICS
from resilience.testing import VirtualClock
from telemetry.pages import Samples, made_by_theirs, only, parsed
from telemetry.servers import needed
from together import outcomes

# -- the two ways are one ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("openmetrics", [False, True], ids=["plain", "openmetrics"])
def test_our_page_has_the_samples_that_prometheus_client_makes(
    registry: rs.Registry, busy: list[rs.Policy], openmetrics: bool
) -> None:
    """Both ways give the same samples, and the parser of OpenMetrics, which is strict, takes both."""
    collector = Collector(registry, labels={"zone": 'eu "1"\n50 %', "app": "shop"})
    theirs = CollectorRegistry()
    theirs.register(collector)
    page = made_by_theirs(theirs, openmetrics=openmetrics)
    ours = parsed(collector.text(openmetrics=openmetrics), openmetrics=openmetrics)
    assert len(ours) > 200
    assert ours == parsed(page, openmetrics=openmetrics)


def heads(page: bytes) -> set[bytes]:
    return {line for line in page.splitlines() if line.startswith(b"# ")}


def test_metrics_have_the_same_words_types_and_units_either_way(registry: rs.Registry, busy: list[rs.Policy]) -> None:
    """What stands above the samples is the same, too."""
    collector = Collector(registry)
    theirs = CollectorRegistry()
    theirs.register(collector)
    assert heads(collector.text()) == heads(generate_latest(theirs))
    assert heads(collector.text(openmetrics=True)) == heads(made_by_theirs(theirs, openmetrics=True))


@pytest.mark.parametrize("openmetrics", [False, True], ids=["plain", "openmetrics"])
def test_promtool_has_nothing_to_say(registry: rs.Registry, busy: list[rs.Policy], openmetrics: bool) -> None:
    """Names, types and units are as Prometheus's own checker wants them."""
    page = Collector(registry).text(openmetrics=openmetrics)
    if openmetrics:  # promtool reads the plain form: names of counters have their ending in the heads there
        lines = [line for line in page.decode().splitlines(keepends=True) if line[0] != "#"]
        page = "".join(lines).encode()
    done = subprocess.run([needed("promtool"), "check", "metrics"], input=page, capture_output=True, check=False)
    quiet = [line for line in done.stderr.splitlines() if not (openmetrics and b"no help text" in line)]
    assert (done.stdout, quiet) == (b"", [])


def test_every_metric_can_appear(registry: rs.Registry, busy: list[rs.Policy], clock: VirtualClock) -> None:
    """Of the metric table nothing is left out, if there is a policy that has it."""
    adaptive = rs.PerKey(rs.AdaptiveTokenBucket(), key=lambda: 1)
    others = [
        rs.Policy("adaptive", limiter=adaptive, clock=clock, registry=registry),
        rs.Policy("keyed", limiter=rs.KeyedTokenBucket(5, key=lambda: 1), clock=clock, registry=registry),
    ]
    for policy in others:
        policy.call(lambda: 1)
    shown = {family.name for family in Collector(registry).collect()}
    assert shown == {metric.name.removesuffix("_total") for metric in METRICS}


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5, unique=True), st.booleans())
def test_any_name_comes_through(policies: list[str], openmetrics: bool) -> None:
    """Whatever a policy is called, the page is well-formed, and says so."""
    registry = rs.Registry()
    kept = [rs.Policy(name, registry=registry) for name in policies]
    page = Collector(registry).text(openmetrics=openmetrics)
    theirs = CollectorRegistry()
    theirs.register(Collector(registry))
    assert page.decode()  # it is UTF-8
    assert b'policy="' in page
    made = made_by_theirs(theirs, openmetrics=openmetrics)
    assert sorted(page.replace(b" 0\n", b" 0.0\n").splitlines()) == sorted(
        made.replace(b" 0\n", b" 0.0\n").splitlines()
    )
    del kept


Happening = tuple[str, str, float]


@given(
    st.lists(
        st.tuples(st.sampled_from(["call", "new", "gone", "scrape"]), st.sampled_from("abc"), st.floats(0.0, 100.0)),
        max_size=30,
    )
)
@settings(max_examples=60)
def test_a_page_kept_for_long_is_as_good_as_a_fresh_one(happenings: list[Happening]) -> None:
    """Whatever comes, goes and changes between scrapes, the page says what one made for the first time says."""
    clock, registry = VirtualClock(), rs.Registry()
    kept = Collector(registry)
    policies: dict[str, rs.Policy] = {}
    for what, name, seconds in [*happenings, ("scrape", "a", 0.0)]:
        if what == "new" and name not in policies:
            parts: list[dict[str, Any]] = [{}, {"bulkhead": rs.Bulkhead(3)}, {"retry": rs.Retry(on=OSError)}]
            policies[name] = rs.Policy(name, clock=clock, registry=registry, **parts[int(seconds) % 3])
        elif what == "gone":
            policies.pop(name, None)
            registry.remove(name)
        elif what == "call" and name in policies:
            policies[name].call(clock.advance, seconds)
        elif what == "scrape":
            assert parsed(kept.text()) == parsed(Collector(registry).text())


# -- our own pages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("openmetrics", [False, True], ids=["plain", "openmetrics"])
def test_a_page_may_hold_what_prometheus_client_has_too(
    registry: rs.Registry, busy: list[rs.Policy], openmetrics: bool
) -> None:
    """Both are on one well-formed page. If installed there, the policies would be on it twice, which is refused."""
    theirs = CollectorRegistry()
    Counter("orders", "Orders", registry=theirs).inc(3)
    collector = Collector(registry)
    found = parsed(exposition(collector, beside=theirs, openmetrics=openmetrics), openmetrics=openmetrics)
    assert only(found, "orders_total") == 3
    assert only(found, "resilience_calls_total", policy="bare", outcome="succeeded") == 1
    install(registry, into=theirs)
    with pytest.raises(rs.ConfigError, match="uninstall first"):
        exposition(collector, beside=theirs)


def drive(awaitable: Any) -> None:
    async def main() -> None:
        await awaitable

    asyncio.run(main())


def ask_wsgi(app: Any, method: str = "GET", accept: str = "") -> tuple[str, dict[str, str], bytes]:
    answer: list[Any] = []
    body = app({"REQUEST_METHOD": method, "HTTP_ACCEPT": accept}, lambda *given: answer.extend(given))
    return answer[0], dict(answer[1]), b"".join(body)


def ask_asgi(app: Any, method: str = "GET", accept: str = "") -> tuple[int, dict[str, str], bytes]:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    drive(app({"type": "http", "method": method, "headers": [(b"accept", accept.encode())]}, receive, send))
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, sent[1]["body"]


@pytest.mark.parametrize("make", [wsgi_app, asgi_app])
def test_an_application_serves_the_page(make: Any, registry: rs.Registry, busy: list[rs.Policy]) -> None:
    """In the form that is asked for, with its length; and to nobody who wants to change something."""
    collector = Collector(registry)
    app = make(collector)
    ask = ask_wsgi if make is wsgi_app else ask_asgi
    status, headers, body = ask(app)
    headers = {name.lower(): value for name, value in headers.items()}
    assert str(status)[:3] == "200"
    assert headers == {"content-type": "text/plain; version=0.0.4; charset=utf-8", "content-length": str(len(body))}
    assert body == collector.text()
    _, headers, body = ask(app, accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert {n.lower(): v for n, v in headers.items()}["content-type"].startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
    status, headers, body = ask(app, "HEAD")
    assert str(status)[:3] == "200" and body == b""
    status, headers, body = ask(app, "POST")
    assert str(status)[:3] == "405" and body == b""
    assert {n.lower(): v for n, v in headers.items()}["allow"] == "GET, HEAD"


def test_an_application_serves_http_only() -> None:
    """What is no HTTP is refused, as the ASGI specification wants it."""
    with pytest.raises(ValueError, match="websocket"):
        drive(asgi_app()({"type": "websocket"}, None, None))


def test_our_pages_need_nothing_installed() -> None:
    """Without prometheus_client the page is made all the same; only installing asks for it."""
    program = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "import resilience as rs\n"
        "from resilience.telemetry.prometheus import Collector, install\n"
        "policy = rs.Policy('p'); policy.call(lambda: 1)\n"
        "assert b'resilience_calls_total' in Collector().text()\n"
        "try: install()\n"
        "except ModuleNotFoundError: print('said so')\n"
    )
    source = str(Path(rs.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONPATH": source}
    )
    assert done.stdout == "said so\n"


# -- under load --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("switch_often")
def test_no_call_is_lost_and_no_counter_falls_while_it_is_scraped(registry: rs.Registry) -> None:
    """Many threads call one policy at once; scrapes meanwhile see counters that only grow, and in the end all calls."""
    policy = rs.Policy(
        "shared",
        retry=rs.Retry(on=ConnectionError, attempts=2, backoff=0.0),
        breaker=rs.CircuitBreaker(failure_rate=1.0),
        bulkhead=rs.Bulkhead(20),
        registry=registry,
    )
    collector = Collector(registry)
    threads, calls = 32, 250

    @policy
    def call(number: int) -> int:
        if number % 5 == 0:
            raise ValueError(number)
        return number

    def many(thread: int) -> dict[str, int]:
        ended = dict.fromkeys(("succeeded", "failed", "rejected"), 0)
        for number in range(calls):
            try:
                call(number)
            except ValueError:
                ended["failed"] += 1
            except rs.Rejected:
                ended["rejected"] += 1
            else:
                ended["succeeded"] += 1
        return ended

    stop = threading.Event()
    pages: list[Samples] = []

    def scrape() -> None:
        while not stop.is_set():
            pages.append(parsed(collector.text()))

    scraper = threading.Thread(target=scrape)
    scraper.start()
    results, errors = outcomes(many, threads)
    stop.set()
    scraper.join()
    assert not errors
    pages.append(parsed(collector.text()))
    growing = {key for page in pages for key in page if key[0].endswith(("_total", "_count", "_bucket"))}
    for key in growing:
        course = [page[key] for page in pages if key in page]
        assert course == sorted(course), key
    for outcome in ("succeeded", "failed", "rejected"):
        wanted = sum(ended[outcome] for ended in results)
        assert only(pages[-1], "resilience_calls_total", outcome=outcome) == wanted
    good = only(pages[-1], "resilience_call_duration_seconds_count", outcome="succeeded")
    assert good == only(pages[-1], "resilience_calls_total", outcome="succeeded")
    assert only(pages[-1], "resilience_calls_in_flight") == 0
