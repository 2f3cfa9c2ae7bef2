"""Requests to the page without a server, as WSGI and ASGI servers make them; and policies with something to show."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

import resilience as rs

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from resilience.dashboard import Dashboard

TOKEN = "a-token-of-many-characters"
WAYS = ("wsgi", "asgi")
NASTY = "<img src=x onerror=\"document.title='broken'\">"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def data(self) -> Any:
        return json.loads(self.body)


def ask(
    page: Dashboard,
    path: str = "/",
    *,
    way: str = "wsgi",
    method: str = "GET",
    root: str = "",
    query: str = "",
    body: bytes = b"",
    headers: dict[str, str] | None = None,
) -> Answer:
    """What the page answers to one request."""
    sent = {"host": "127.0.0.1:8765", **(headers or {})}
    sent = {name: value for name, value in sent.items() if value}
    by = _by_wsgi if way == "wsgi" else _by_asgi
    return by(page, method, root, path, query, body, sent)


def steer(page: Dashboard, act: Any, *, way: str = "wsgi", token: str = TOKEN, **headers: str) -> Answer:
    """Ask for an act; header names with underscores."""
    sent = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    return ask(page, "/steer", way=way, method="POST", body=json.dumps(act).encode(), headers=sent)


def _by_wsgi(
    page: Dashboard, method: str, root: str, path: str, query: str, body: bytes, headers: dict[str, str]
) -> Answer:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method, "SCRIPT_NAME": root, "PATH_INFO": path, "QUERY_STRING": query, "SERVER_NAME": "here",
        "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "192.0.2.7",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(body), "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True, "wsgi.multiprocess": False, "wsgi.run_once": False,
    }  # fmt: skip
    environ |= {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
    environ["CONTENT_TYPE"] = environ.pop("HTTP_CONTENT_TYPE", "")
    told: list[Any] = []

    def start(status: str, given: list[tuple[str, str]], error: object = None) -> Any:
        told[:] = [status, given]

    # The standard library's checker of PEP 3333, but where a server may send what it does not allow for.
    app: Any = page.wsgi_app if method == "HEAD" or not (path or root) else validator(page.wsgi_app)
    answer = app(environ, start)
    found = b"".join(answer)
    if hasattr(answer, "close"):
        answer.close()
    return Answer(int(told[0][:3]), {name.lower(): value for name, value in told[1]}, found)


def _by_asgi(
    page: Dashboard, method: str, root: str, path: str, query: str, body: bytes, headers: dict[str, str]
) -> Answer:
    scope = {
        "type": "http", "method": method, "path": root + path, "root_path": root, "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()], "client": ("192.0.2.7", 1),
    }  # fmt: skip
    parts = [body[at : at + 1000] for at in range(0, len(body), 1000)] or [b""]
    incoming = [{"type": "http.request", "body": part, "more_body": part is not parts[-1]} for part in parts]
    sent = exchange(page, scope, incoming)
    start = sent[0]
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], found, b"".join(part["body"] for part in sent[1:]))


def exchange(page: Dashboard, scope: dict[str, Any], incoming: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All that the ASGI application sends when it gets these messages."""
    sent: list[Any] = []
    waiting = iter(incoming)

    async def receive() -> dict[str, Any]:
        return next(waiting)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(_run(page.asgi_app(scope, receive, send)))
    return sent


async def _run(answered: Awaitable[None]) -> None:
    await answered


def fail() -> None:
    """A dependency that is down."""
    raise ConnectionError("refused")


def attempt(policy: rs.Policy, times: int = 1) -> None:
    """Make calls that fail, or are refused."""
    for _ in range(times):
        with contextlib.suppress(ConnectionError, rs.Rejected):
            policy.call(fail)


def payments(registry: rs.Registry, name: str = "payments", **more: Any) -> rs.Policy:
    """A policy with a circuit that opens at the third failure in a row."""
    breaker = rs.CircuitBreaker(consecutive=3, failure_rate=None, open_for=60.0)
    return rs.Policy(name, breaker=breaker, registry=registry, **more)


def full(registry: rs.Registry, name: str = "orders", **more: object) -> rs.Policy:
    """A policy with every part whose level is shown."""
    settings: dict[str, object] = {
        "timeout": rs.PercentileTimeout(0.99, between=(0.05, 2.0), mode="argument"),
        "retry": rs.Retry(on=ConnectionError, attempts=2, budget=rs.RetryBudget(7)),
        "breaker": rs.CircuitBreaker(),
        "limiter": rs.TokenBucket(100, burst=30),
        "bulkhead": rs.Bulkhead(4, queue=9),
        "slo": rs.SLO(0.99, within=0.5),
    }
    return rs.Policy(name, registry=registry, **{**settings, **more})  # type: ignore[arg-type]


def some(registry: rs.Registry) -> list[rs.Policy]:
    """Policies in trouble, strained, well and idle; two of them with many parts."""
    policies = [payments(registry, "dead"), full(registry, "orders"), full(registry, "idle"), payments(registry, NASTY)]
    dead, orders, _, nasty = policies
    attempt(dead, 6)
    for number in range(300):
        orders.call(lambda timeout: None, 1.0)
        if number % 100 == 0:
            nasty.call(lambda: None)
    nasty.breaker.disable()  # type: ignore[union-attr]
    return policies
