"""What can go wrong on the wire between a client and its store: a TCP proxy that changes its mind while it runs."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time

from aws.servers import HOST, Peer, Server


class Proxy(Server):
    """Passes everything on to *port*, in the way that ``way`` says now.

    ``pass``, ``delay`` (each piece of an answer comes a second late), ``dribble`` (byte after byte, one each 20 ms),
    ``mute`` (answers are swallowed), ``cut`` (connections are reset when something is sent), ``refuse`` (and so are
    new ones).
    """

    def __init__(self, port: int) -> None:
        super().__init__(self.relay)
        self.upstream = port
        self.way = "pass"

    @property
    def redis(self) -> str:
        return f"redis://{HOST}:{self.port}"

    def relay(self, peer: Peer) -> None:
        if self.way == "refuse":
            return self.reset(peer)
        with self.holding(socket.create_connection((HOST, self.upstream))) as upstream:
            while True:
                for sock in select.select([peer.sock, upstream], [], [])[0]:
                    data = sock.recv(16384)
                    if not data:
                        return None
                    if self.way in {"cut", "refuse"}:
                        return self.reset(peer)
                    if sock is peer.sock:
                        upstream.sendall(data)
                    elif self.way == "delay":
                        time.sleep(1.0)
                        peer.send(data)
                    elif self.way == "dribble":
                        peer.dribble(data, 0.02)
                    elif self.way == "pass":
                        peer.send(data)

    def reset(self, peer: Peer) -> None:
        with contextlib.suppress(OSError):
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
