"""The page: its parts put together into one text that refers to nothing outside itself.

Knows files and hashes. What the page says and does stands in ``assets``; the browser runs and styles nothing but what
is named here by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files

from .messages import Response

__all__ = ["Page", "render"]

_SCRIPTS = ("tools", "words", "history", "judging", "pictures", "rows", "details", "happenings", "steering", "main")


@cache
def _asset(name: str) -> str:
    return (files(__package__) / "assets" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@dataclass(frozen=True, slots=True)
class Page:
    """A page, and what a browser may do with it."""

    body: bytes
    policy: str
    tag: str

    def answer(self, known: str | None) -> Response:
        """The page; or that it is the one that is *known* already, by its tag."""
        headers = (
            ("Content-Security-Policy", self.policy),
            ("Cache-Control", "no-cache"),
            ("ETag", self.tag),
            ("Cross-Origin-Opener-Policy", "same-origin"),
        )
        if known == self.tag:
            return Response(304, b"", headers)
        return Response(200, self.body, (("Content-Type", "text/html; charset=utf-8"), *headers))


def render(title: str, *, steering: bool = False) -> Page:
    """The page of this title; with *steering*, with the means for it."""
    style = _asset("page.css")
    script = "".join(["'use strict';(() => {\n", *(_asset(f"{name}.js") for name in _SCRIPTS), "})();\n"])
    parts = {"title": escape(title), "steering": "yes" if steering else "no", "style": style, "script": script}
    text = re.sub(r"\{(\w+)\}", lambda mark: parts[mark[1]], _asset("page.html"))  # in one go: a title may hold a mark
    policy = "; ".join((
        "default-src 'none'",
        f"script-src {_hash(script)}",
        f"style-src {_hash(style)}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ))  # fmt: skip
    body = text.encode("utf-8", "backslashreplace")
    return Page(body, policy, f'"{hashlib.sha256(body).hexdigest()[:20]}"')
