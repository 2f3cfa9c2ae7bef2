"""The little HTTP/1.1 that the fault proxy speaks, and how AWS services word their errors.

Knows bytes on the wire: reading a request, turning a server's answer into one that can be sent on,
writing an error. Refuses to know faults, threads and connections' lives.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

__all__ = [
    "Request",
    "Response",
    "error_response",
    "read_request",
    "read_response",
    "throttle_response",
]

_REASONS = {
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
_JSON_CODES = {
    429: "TooManyRequestsException",
    500: "InternalServerError",
    503: "ServiceUnavailable",
}
_S3_CODES = {429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable"}


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, read whole.

    Header names are lower-case; a body that came in chunks has been put together.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str:
        """The first header of that (lower-case) name, or an empty string."""
        return next((value for key, value in self.headers if key == name), "")

    @property
    def keep_alive(self) -> bool:
        """Whether the client means to send more on this connection."""
        return self.header("connection").lower() != "close"

    @property
    def service(self) -> str:
        """The AWS service, as the ``X-Amz-Target`` header names it; ``s3`` without one."""
        return self.header("x-amz-target").partition(".")[0].partition("_")[0].lower() or "s3"

    def for_server(self) -> bytes:
        """The request as bytes, for a connection that carries this one alone."""
        dropped = {"connection", "content-length", "expect", "transfer-encoding"}
        kept = [f"{name}: {value}" for name, value in self.headers if name not in dropped]
        length = [f"content-length: {len(self.body)}"]
        head = [f"{self.method} {self.target} HTTP/1.1", *kept, *length, "connection: close"]
        return "\r\n".join([*head, "", ""]).encode("latin-1") + self.body


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP answer: its head, blank line included, and its body, both ready to send."""

    head: bytes
    body: bytes


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request | None:
    """The next request of a connection; ``None`` when the client has closed it in order.

    Says ``100 Continue`` to a client that waits for it.

    Raises:
        EOFError: when the client leaves in the middle, or does not speak HTTP.
    """
    first = (await reader.readline()).decode("latin-1").split()
    if not first:
        return None
    if len(first) != 3 or not first[2].startswith("HTTP/1."):
        raise EOFError("not an HTTP request")
    headers = await _read_headers(reader)
    fields = dict(headers)
    if fields.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        body = await _read_body(reader, fields)
    except ValueError as error:  # a length that is no number
        raise EOFError("not an HTTP request") from error
    return Request(first[0], first[1], headers, body)


async def _read_body(reader: asyncio.StreamReader, fields: dict[str, str]) -> bytes:
    if "chunked" in fields.get("transfer-encoding", "").lower():
        return await _read_chunks(reader)
    return await reader.readexactly(int(fields.get("content-length", "0")))


async def _read_headers(reader: asyncio.StreamReader) -> tuple[tuple[str, str], ...]:
    headers = []
    while line := (await reader.readline()).decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers.append((name.strip().lower(), value.strip()))
    return tuple(headers)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    pieces = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        pieces.append(await reader.readexactly(size))
        await reader.readline()
    await _read_headers(reader)  # trailers
    return b"".join(pieces)


async def read_response(reader: asyncio.StreamReader, *, asked: str) -> Response:
    """A server's answer to a request with the method *asked*, read no further than its end.

    The answer's ``Connection`` header is left out and a length put in, so that it can be sent on
    over a connection that is kept alive. A server may be slow to close its side: where the answer
    says how long it is, nobody waits for that.

    Raises:
        EOFError: when the server closes the connection before the end.
    """
    status = (await reader.readline()).decode("latin-1").rstrip()
    if not status:
        raise EOFError("the server closed the connection without an answer")
    headers = await _read_headers(reader)
    fields = dict(headers)
    if asked == "HEAD" or status.split()[1] in ("204", "304"):
        body, length = b"", fields.get("content-length", "0")
    else:
        delimited = fields.keys() & {"content-length", "transfer-encoding"}
        body = await (_read_body(reader, fields) if delimited else reader.read())
        length = str(len(body))
    dropped = {"connection", "content-length", "transfer-encoding"}
    kept = [f"{name}: {value}" for name, value in headers if name not in dropped]
    head = "\r\n".join([status, *kept, f"content-length: {length}", "", ""])
    return Response(head.encode("latin-1"), body)


def throttle_response(request: Request) -> bytes:
    """What the request's AWS service answers when it throttles."""
    match request.service:
        case "s3":
            return _error(request, 503, "SlowDown", "Please reduce your request rate.")
        case "amazonsqs":
            code = "com.amazonaws.sqs#RequestThrottled"
            return _error(request, 400, code, "The request was throttled.")
        case "dynamodb":
            code = "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"
            return _error(request, 400, code, "The table's provisioned throughput was exceeded.")
        case _:
            return _error(request, 400, "ThrottlingException", "Rate exceeded")


def error_response(request: Request, status: int, retry_after: int | None = None) -> bytes:
    """An error of that status in the wire form of the request's AWS service."""
    s3 = request.service == "s3"
    codes, other = (_S3_CODES, "InvalidRequest") if s3 else (_JSON_CODES, "ValidationException")
    return _error(request, status, codes.get(status, other), _REASONS.get(status, "Error"), retry_after)


def _error(request: Request, status: int, code: str, message: str, retry_after: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}"]
    if request.service == "s3":
        lines.append("content-type: application/xml")
        body = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code>'
            f"<Message>{message}</Message><RequestId>0</RequestId></Error>"
        ).encode()
    else:
        lines += ["content-type: application/x-amz-json-1.0", f"x-amzn-errortype: {code}"]
        body = json.dumps({"__type": code, "message": message}).encode()
    if retry_after is not None:
        lines.append(f"retry-after: {retry_after}")
    lines += [f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + (b"" if request.method == "HEAD" else body)
