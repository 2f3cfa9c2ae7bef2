"""Acts on a circuit from outside, and who may do them.

An act needs the token in a header, which a page of another origin cannot send unasked; and the request must come from
the page's own origin, under a host name that is known. Nothing else than these three acts exists.
"""

from __future__ import annotations

import hmac
import json
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .._hooks import log
from ..errors import ConfigError
from .data import circuits
from .messages import Request, Response, json_response, refusal

if TYPE_CHECKING:
    from collections.abc import Collection

    from .._registry import Registry

__all__ = ["ACTS", "SHORTEST", "Steering", "known_host"]

ACTS = ("force_open", "disable", "reset")
SHORTEST = 16
"""Characters that a token must have."""


def known_host(request: Request, hosts: Collection[str]) -> bool:
    """Whether the request was sent to an address, to this machine by name, or to one of *hosts*.

    A name of somebody else's that was made to point here (DNS rebinding) is none of them.
    """
    try:
        name = urlsplit(f"//{request.headers.get('host', '')}").hostname
        if name is None or name == "localhost" or name in hosts:
            return name is not None
        ip_address(name)
    except ValueError:
        return False
    return True


def _same_origin(origin: str, host: str) -> bool:
    """Whether a page of that origin came from *host*. How it came (TLS may end before us) does not matter."""
    scheme, found, place = origin.partition("://")
    return bool(found) and scheme in ("http", "https") and place.lower() == host.lower()


class Steering:
    """The way from a request to an act. Thread-safe.

    Args:
        registry: whose breakers.
        token: what must be known; 16 or more visible ASCII characters.
        hosts: names it may be reached by, beside addresses and ``localhost``.

    Raises:
        ConfigError: the token is too short, or cannot stand in a header.
        TypeError: the token is no text.
    """

    def __init__(self, registry: Registry, token: str, hosts: Collection[str]) -> None:
        if not isinstance(token, str):
            raise TypeError(
                f"token must be text, not {type(token).__name__}"
            )  # not the token itself: errors are logged
        if len(token) < SHORTEST:
            raise ConfigError(f"token must have at least {SHORTEST} characters, not {len(token)}")
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise ConfigError("token must be of visible ASCII characters, for it is sent in a header")
        self._registry = registry
        self._token = f"Bearer {token}".encode()
        self._hosts = hosts

    def answer(self, request: Request) -> Response:
        """Do what is asked, or say why not."""
        refused = self._refuse(request)
        if refused is not None:
            log.warning("dashboard: %s: refused to steer: %s", request.peer, refused.body.decode())
            return refused
        try:
            asked = json.loads(request.body or b"")
            name, act = asked["policy"], asked["act"]
        except (ValueError, TypeError, LookupError, RecursionError):
            return refusal(400, 'the body must be JSON like {"policy": "payments", "act": "force_open"}')
        if act not in ACTS:
            return refusal(400, f"act must be one of {', '.join(ACTS)}")
        policy = self._registry.get(name) if isinstance(name, str) else None
        if policy is None:
            return refusal(404, "there is no policy of this name")
        breaker = policy.parts.get("breaker")
        if breaker is None:
            return refusal(409, "this policy has no circuit breaker")
        return json_response(self._act(request.peer, name, act, [one for _, one in circuits(breaker)]))

    def _refuse(self, request: Request) -> Response | None:
        headers = request.headers
        if not known_host(request, self._hosts):
            return refusal(403, "this host name is unknown; name it in app(hosts=...)")
        origin = headers.get("origin")
        if origin is not None and not _same_origin(origin, headers["host"]):
            return refusal(403, "steering is for the page itself, not for pages of other origins")
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return refusal(403, "steering is for the page itself, not for pages of other origins")
        given = headers.get("authorization", "").encode("utf-8", "replace")
        if not hmac.compare_digest(given, self._token):
            challenge = ("WWW-Authenticate", 'Bearer realm="resilience"')
            return refusal(401, "steering needs the token, in the header Authorization: Bearer TOKEN", challenge)
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return refusal(415, "the body must be of Content-Type application/json")
        if request.body is None:
            return refusal(413, "the body is too long")
        return None

    @staticmethod
    def _act(peer: str, name: str, act: str, breakers: list[Any]) -> dict[str, Any]:
        log.warning(
            "dashboard: %s: %s the circuit of %r", peer, act, name,
            extra={"policy": name, "act": act, "peer": peer},
        )  # fmt: skip
        for breaker in breakers:
            getattr(breaker, act)()
        return {"policy": name, "act": act, "circuits": len(breakers), "states": [str(one.state) for one in breakers]}
