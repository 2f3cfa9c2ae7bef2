"""A small server for the page: the standard library's, in threads, with none of its habits that make a page hang.

Knows sockets. What is served is any WSGI application.
"""

from __future__ import annotations

import socket
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Server", "serve"]


class _Handler(WSGIRequestHandler):
    timeout = 10  # seconds that a client may say nothing

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is inherited
        """Say nothing: the page asks once a second."""

    def address_string(self) -> str:
        """The address, without asking for its name."""
        return str(self.client_address[0])


class Server(ThreadingMixIn, WSGIServer):
    """Serves until ``shutdown()``. Threads of requests under way do not keep the process alive."""

    daemon_threads = True
    block_on_close = False

    def server_bind(self) -> None:
        """Bind, without asking for the name of this machine, which may take long where there is no network."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nobody's business."""

    @property
    def url(self) -> str:
        """Where the page is."""
        host = f"[{self.server_name}]" if ":" in self.server_name else self.server_name
        return f"http://{host}:{self.server_port}/"


def serve(app: Callable[[dict[str, Any], Any], Iterable[bytes]], host: str, port: int) -> Server:
    """A server of *app* that is bound, and serves once its ``serve_forever()`` is called.

    Raises:
        OSError: there is no such address here, or the port is taken.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]

    class Bound(Server):
        address_family = family

    server = Bound((str(address[0]), port), _Handler)
    server.set_app(app)
    return server
