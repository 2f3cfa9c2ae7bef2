"""What is at which address, and who may have it.

Three things are: the page, its data, and steering. This file knows paths and methods; of policies it knows nothing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote

from .. import _checks
from .._hooks import log
from .._registry import Registry
from .._registry import registry as everyone
from ..errors import ConfigError
from .adapters import AsgiApp, WsgiApp, asgi, wsgi
from .data import snapshot
from .messages import Request, Response, json_response, refusal
from .page import render
from .recent import Recent
from .steering import Steering, known_host

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Self

__all__ = ["Dashboard", "UnavailableError", "app"]

_MANY = 50
"""Policies whose settings one request may ask for."""


class UnavailableError(Exception):
    """There is no data to show; says why."""


class Dashboard:
    """The live page, as a WSGI and as an ASGI application. Made by `app`.

    It can be mounted under any path: its addresses are relative. It listens for events until `close`, or the end of its
    ``with`` block. Thread-safe.

    Args:
        source: gives the data; handed the names of the policies whose settings are wanted.
        title: of the page.
        steering: takes acts on circuits; ``None`` for none.
        hosts: host names that are answered; ``None`` for any.
        close: what ends the listening.

    Attributes:
        wsgi_app: the page as a WSGI application.
        asgi_app: the page as an ASGI 3 application, under asyncio; the data is read in a thread.
    """

    def __init__(
        self,
        source: Callable[[Collection[str]], dict[str, Any]],
        *,
        title: str,
        steering: Steering | None = None,
        hosts: frozenset[str] | None = None,
        close: Callable[[], object] = lambda: None,
    ) -> None:
        self._source = source
        self._steering = steering
        self._hosts = hosts
        self._close = close
        self._page = render(title, steering=steering is not None)
        self.wsgi_app: WsgiApp = wsgi(self.answer)
        self.asgi_app: AsgiApp = asgi(self.answer)

    def close(self) -> None:
        """Listen for events no longer. The page goes on, without new ones."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def answer(self, request: Request) -> Response:
        """What *request* gets; never raises."""
        try:
            return self._answer(request)
        except UnavailableError as error:
            return refusal(502, str(error))
        except Exception:
            log.exception("the dashboard failed on %s %r", request.method, request.path)
            return refusal(500, "the dashboard failed; the log tells more")

    def _answer(self, request: Request) -> Response:
        if self._hosts is not None and not known_host(request, self._hosts):
            return refusal(403, "this host name is unknown; name it in app(hosts=...)")
        if request.path == "/steer":
            return self._steer(request)
        if request.path not in ("", "/", "/data"):
            return refusal(404, "there is nothing here; the page is at /, its data at /data")
        if request.method not in ("GET", "HEAD"):
            return refusal(405, "this can only be read", ("Allow", "GET, HEAD"))
        if request.path == "/data":
            return json_response(self._source(parse_qs(request.query).get("settings", ())[:_MANY]))
        if not request.path and request.root:  # without the slash, the page's relative addresses would miss
            place = quote(request.root.rpartition("/")[2], safe="") + "/"
            return Response(
                308, b"", (("Location", place), ("Content-Type", "text/plain"), ("Cache-Control", "no-store"))
            )
        return self._page.answer(request.headers.get("if-none-match"))

    def _steer(self, request: Request) -> Response:
        if request.method != "POST":
            return refusal(405, "steering is done by POST", ("Allow", "POST"))
        if self._steering is None:
            return refusal(403, "this page is read-only; see app(steering=True, token=...)")
        return self._steering.answer(request)


def app(
    registry: Registry = everyone,
    *,
    steering: bool = False,
    token: str | None = None,
    title: str = "resilience",
    hosts: Collection[str] | None = None,
) -> Dashboard:
    """The live page of this process's policies, to be mounted: ``app().wsgi_app`` or ``app().asgi_app``.

    From now on it remembers the last events, of all policies of the process. All else is read when somebody looks.
    Whoever can reach it can read it: mount it where only operators come. It shows names of policies, settings, and
    texts of errors.

    Args:
        registry: whose policies are shown.
        steering: whether circuits can be forced open, disabled and reset from the page.
        token: what whoever steers must know; 16 or more visible ASCII characters. Goes with *steering*.
        title: of the page.
        hosts: names under which the page is reached, such as ``{"ops.example.org"}``; requests to other names are
            refused, against DNS rebinding. Addresses and ``localhost`` always do. ``None``: read under any name, steer
            only by address or ``localhost``.

    Raises:
        ConfigError: steering without a token, a token without steering, or one that is too short.
        TypeError: an argument is of the wrong type.
    """
    if not isinstance(registry, Registry):
        raise TypeError(f"registry must be a Registry, not {registry!r}")
    _checks.text("title", title)
    if hosts is not None and (isinstance(hosts, str) or not all(isinstance(name, str) for name in hosts)):
        raise TypeError(f"hosts must be host names, not {hosts!r}")
    known = None if hosts is None else frozenset(name.lower() for name in hosts)
    if _checks.flag("steering", steering) != (token is not None):
        raise ConfigError("steering=True and token=... go together")
    helm = None if token is None else Steering(registry, token, known or frozenset())
    recent = Recent()

    def source(settings: Collection[str]) -> dict[str, Any]:
        began = time.perf_counter()
        found = snapshot(registry, settings=settings, recent=recent)
        return {**found, "took": time.perf_counter() - began}

    return Dashboard(source, title=title, steering=helm, hosts=known, close=recent.stop)
