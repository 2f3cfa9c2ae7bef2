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

__all__ = ["Sockets"]

_WIRE = (HTTPClientError, BotocoreConnectionError, HTTPError, OSError)
"""What botocore raises when the wire gave out, whatever the reason."""


class Sockets(Blocking):
    """Blocking, and yet an attempt ends on time: no socket waits beyond the limit around it."""

    __slots__ = ()
    cancels = True

    def _attempt(self, call: Call, limit: Limit | None, timeout: TimeoutPart | None) -> Any:
        return self.once(lambda: call.fn(*call.args, **call.kwargs), limit)

    def once(self, fn: Callable[[], Any], limit: Limit | None) -> Any:
        """Call *fn*; that the wire gave out after *limit* is the limit's doing, and raised as its error."""
        try:
            return fn()
        except _WIRE as error:
            if limit is None or isinstance(error, ResilienceError):
                raise
            now = self.clock.monotonic_ns()
            if now < limit.at:
                raise
            raise limit.error(now) from error
