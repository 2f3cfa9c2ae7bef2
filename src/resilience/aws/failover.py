"""Reading from another region while the first one's circuit is open.

Static stability: the list of clients is fixed when the program starts, so that no control plane is needed in the middle
of an outage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import CircuitOpen
from ..policies.fallback import Fallback

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..clock import Clock

__all__ = ["Failover"]


class Failover(Fallback):
    """While the circuit of the client's own region is open, read from the next client that answers.

    Put it into a policy as its ``fallback``. Only operations that read are sent elsewhere; a write raises as it would
    without. The way back is the breaker's own: its probes go to the first region, and when they succeed everything does
    again. Each client may be wrapped in a policy of its own, with a breaker of its own, and should be: a dead second
    region is then skipped at once.

    Args:
        clients: where to read instead, in this order.
        on: the errors to step in for; by default `CircuitOpen`. Add ``TimedOut`` to give a slow read a second chance.
        name: shown in messages; the policy's name by default.
        shadow: only count where it would have stepped in.
        clock: where time comes from; the machine's clock by default.

    Raises:
        ConfigError: there is no client.
        TypeError: one of them is not a client.

    Thread-safe.
    """

    def __init__(
        self,
        *clients: Any,
        on: type[BaseException] | tuple[type[BaseException], ...] | Callable[[Any], bool] = CircuitOpen,
        name: str | None = None,
        shadow: bool = False,
        clock: Clock | None = None,
    ) -> None:
        for client in clients:
            if not callable(getattr(client, "_make_api_call", None)):
                raise TypeError(f"clients must be botocore clients, not {client!r}")
        super().__init__(*map(_reader, clients), on=on, name=name, shadow=shadow, clock=clock)
        self.clients = clients


def _reader(client: Any) -> Callable[..., Any]:
    def read(operation: str, /, **params: Any) -> Any:
        return client._make_api_call(operation, params)

    return read
