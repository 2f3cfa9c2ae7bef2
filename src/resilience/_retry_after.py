"""Reading from an error how long the server asks to wait.

Servers and clients put it in many places; whatever stands there, nothing here raises. Wall-clock time is brought by the
caller, for dates.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, timedelta
from typing import Any

__all__ = ["LONGEST", "hint", "parse"]

LONGEST = 2_147_483_648.0
"""Seconds (68 years) that longer wishes are cut to; RFC 9111, section 1.2.2, has readers do so."""

_SECONDS = re.compile(r"\s*\d+(\.\d*)?\s*", re.ASCII)


def parse(value: object, wall: float) -> float | None:
    """Seconds to wait as asked by a Retry-After value: a number of seconds, or a date (RFC 9110, section 10.2.3).

    Args:
        value: the header, a number, or a ``timedelta``.
        wall: seconds since 1970 now.

    Returns:
        Seconds from 0 (for a date that has passed) to `LONGEST`, or ``None`` for what is neither.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    try:
        # Not whatever has __float__: a mock has, and asks for a second.
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(min(value, LONGEST)) if 0 <= value < math.inf else None
        if not isinstance(value, str):
            return None
        if _SECONDS.fullmatch(value):
            return min(float(value), LONGEST)
    except Exception:
        return None
    from email.utils import parsedate_to_datetime  # seldom needed, and a sixth of the library's import time

    try:
        date = parsedate_to_datetime(value)
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        return min(max(0.0, date.timestamp() - wall), LONGEST)
    except Exception:
        return None


def hint(error: BaseException, wall: float) -> float | None:
    """Seconds the server asks to wait, if *error* tells; the longest if several places do.

    Looked at: ``error.retry_after``; the Retry-After header of ``error.response`` (requests, httpx, aiohttp and their
    like) or of ``error`` itself (urllib); of a botocore error the response's HTTP headers, and AWS's
    ``x-amz-retry-after`` in milliseconds.
    """
    asked, headers, response = (_get(error, name) for name in ("retry_after", "headers", "response"))
    if asked is headers is response is None:  # most errors tell nothing
        return None
    found = [parse(asked, wall)]
    for place in (headers, _get(response, "headers"), _aws_headers(response)):
        if place is not None:
            found.append(parse(_header(place, "Retry-After"), wall))
            milliseconds = parse(_header(place, "x-amz-retry-after"), wall)
            found.append(None if milliseconds is None else milliseconds / 1000)
    return max((seconds for seconds in found if seconds is not None), default=None)


def _get(thing: object, name: str) -> Any:
    try:
        return getattr(thing, name, None)
    except Exception:
        return None


def _aws_headers(response: object) -> object:
    try:
        return response["ResponseMetadata"]["HTTPHeaders"] if isinstance(response, Mapping) else None
    except Exception:
        return None


def _header(headers: Any, name: str) -> object:
    """A header by name; plain dicts are searched without regard to case."""
    try:
        value = headers.get(name)
        if value is None and isinstance(headers, Mapping):
            lower = name.lower()
            value = next((v for k, v in headers.items() if str(k).lower() == lower), None)
    except Exception:
        return None
    return value
