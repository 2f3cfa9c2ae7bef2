"""A request and a response, whatever brings them: the little of HTTP that one page needs.

Knows headers and status codes. How WSGI and ASGI write them down is `.adapters`'s business.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LIMIT", "Request", "Response", "json_response", "refusal"]

LIMIT = 4096
"""Bytes that a request's body may have."""

_SAFE = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("X-Frame-Options", "DENY"),
)


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked.

    Attributes:
        method: in upper case.
        path: below the place where the page is mounted; ``""`` without even a slash.
        root: the place where it is mounted; ``""`` for the root of the server.
        query: as it came, without the question mark.
        headers: by their name in lower case.
        body: ``None`` if it is longer than `LIMIT`.
        peer: who asks, for the log.
    """

    method: str
    path: str
    root: str = ""
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = b""
    peer: str = "?"


@dataclass(frozen=True, slots=True)
class Response:
    """What is answered. Its length and the headers that all answers have are added."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def reason(self) -> str:
        """The status in words."""
        return HTTPStatus(self.status).phrase

    def all_headers(self) -> list[tuple[str, str]]:
        """Every header there is to send."""
        length = () if self.status == HTTPStatus.NOT_MODIFIED else (("Content-Length", str(len(self.body))),)
        return [*self.headers, *length, *_SAFE]


def json_response(data: Any, status: int = 200, *headers: tuple[str, str]) -> Response:
    """Data, never kept by anybody on its way."""
    body = json.dumps(data, separators=(",", ":"), allow_nan=False).encode()
    common = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))
    return Response(status, body, (*common, *headers))


def refusal(status: int, words: str, *headers: tuple[str, str]) -> Response:
    """Why there is nothing else to get: ``{"error": words}``."""
    return json_response({"error": words}, status, *headers)
