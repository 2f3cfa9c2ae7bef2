"""The blocking runtime for AWS clients: an attempt is held to its time by the sockets it uses (``_transport.py``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ConnectionError as BotocoreConnectionError
from botocore.exceptions import HTTPClientError
from urllib3.exceptions import HTTPError

from .._runtime import Blocking
from ..errors import ResilienceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._runtime import Call
    from .._scope import Limit
    from ..policies.timeout import TimeoutPart

__all__ = ["Sockets", "translated"]

_WIRE = (HTTPClientError, BotocoreConnectionError, HTTPError, OSError)
"""What botocore raises when the wire gave out, whatever the reason."""


class Sockets(Blocking):
    """Blocking, and yet an attempt ends on time: no socket waits beyond the limit around it."""

    __slots__ = ()
    cancels = True

    def _attempt(self, call: Call, limit: Limit | None, timeout: TimeoutPart | None) -> Any:
        try:
            return call.fn(*call.args, **call.kwargs)
        except _WIRE as error:
            meant = translated(error, limit, self.clock.monotonic_ns)
            if meant is error:
                raise
            raise meant from error


def translated(error: Exception, limit: Limit | None, now: Callable[[], int]) -> Exception:
    """What *error* means: where the wire gave out after *limit* had passed, that is the limit's doing."""
    if limit is None or isinstance(error, ResilienceError) or not isinstance(error, _WIRE):
        return error
    at = now()
    if at < limit.at:
        return error
    meant = limit.error(at)
    meant.__cause__ = error
    return meant
