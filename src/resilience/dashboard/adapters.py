"""WSGI and ASGI on one side, a request and a response on the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from .messages import LIMIT, Request, Response

__all__ = ["Answer", "AsgiApp", "WsgiApp", "asgi", "wsgi"]

Answer = Callable[[Request], Response]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
WsgiApp = Callable[[dict[str, Any], Callable[[str, list[tuple[str, str]]], object]], Iterable[bytes]]
AsgiApp = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_DRAIN = 1 << 16
"""Bytes of a body that is too long that are read all the same, so that its sender gets to see the answer."""


def wsgi(answer: Answer) -> WsgiApp:
    """What *answer* answers, as a WSGI application (PEP 3333)."""

    def app(environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], object]) -> Iterable[bytes]:
        request = _from_environ(environ)
        response = answer(request)
        start_response(f"{response.status} {response.reason}", response.all_headers())
        return [] if request.method == "HEAD" else [response.body]

    return app


def _from_environ(environ: dict[str, Any]) -> Request:
    headers = {
        name[5:].replace("_", "-").lower(): str(value) for name, value in environ.items() if name.startswith("HTTP_")
    }
    if environ.get("CONTENT_TYPE"):
        headers["content-type"] = str(environ["CONTENT_TYPE"])
    user = environ.get("REMOTE_USER")
    peer = str(environ.get("REMOTE_ADDR") or "?")
    return Request(
        method=str(environ.get("REQUEST_METHOD", "GET")),
        path=str(environ.get("PATH_INFO", "")),
        root=str(environ.get("SCRIPT_NAME", "")),
        query=str(environ.get("QUERY_STRING", "")),
        headers=headers,
        body=_body(environ),
        peer=f"{user!r} at {peer}" if user else peer,
    )


def _body(environ: dict[str, Any]) -> bytes | None:
    given = str(environ.get("CONTENT_LENGTH") or "0")
    length = int(given) if given.isascii() and given.isdigit() and len(given) < 20 else 0
    if length > LIMIT:
        environ["wsgi.input"].read(min(length, _DRAIN))
        return None
    return bytes(environ["wsgi.input"].read(length)) if length else b""


def asgi(answer: Answer) -> AsgiApp:
    """What *answer* answers, in a thread, as an ASGI 3 application under asyncio.

    A function, and not a bound method, which some servers take for ASGI 2.
    """

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "http":
            request = _from_scope(scope, await _received(receive))
            response = await asyncio.to_thread(answer, request)
            head = [(name.lower().encode("latin-1"), text.encode("latin-1")) for name, text in response.all_headers()]
            await send({"type": "http.response.start", "status": response.status, "headers": head})
            body = b"" if request.method == "HEAD" else response.body
            await send({"type": "http.response.body", "body": body})
        else:
            await send({"type": "websocket.close", "code": 1000})

    return app


def _from_scope(scope: MutableMapping[str, Any], body: bytes | None) -> Request:
    root, path = scope.get("root_path", ""), scope["path"]
    if root and (path == root or path.startswith(f"{root}/")):  # newer servers leave it in, older ones do not
        path = path[len(root) :]
    return Request(
        method=scope["method"],
        path=path,
        root=root,
        query=scope.get("query_string", b"").decode("latin-1"),
        headers={name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]},
        body=body,
        peer=str((scope.get("client") or ("?",))[0]),
    )


async def _received(receive: Receive) -> bytes | None:
    body, more = b"", True
    while more and len(body) <= LIMIT:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body if len(body) <= LIMIT else None
