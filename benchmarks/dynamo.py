"""A server that answers as DynamoDB would, in a process of its own, on as many ports as wanted, each counted alone.

Knows just enough HTTP to cost its clients nothing: it reads requests and writes one of a few prepared answers. What it
does is a `Mood`, changed from outside while it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Mapping

ITEM = b'{"Item":{"id":{"S":"1"},"text":{"S":"a few words"},"number":{"N":"42"}}}'
MOODS = ("fine", "failing", "hanging", "throttling")


def _answer(status: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/x-amz-json-1.0\r\nx-amz-crc32: {crc32(body)}\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def _error(status: str, code: str) -> bytes:
    return _answer(status, b'{"__type":"com.amazonaws.dynamodb.v20120810#%s","message":"scripted"}' % code.encode())


FINE = _answer("200 OK", ITEM)
FAILING = _error("500 Internal Server Error", "InternalServerError")
THROTTLED = _error("400 Bad Request", "ProvisionedThroughputExceededException")


class _Bucket:
    """What may still be served of a rate a second; a tenth of a second's worth is saved up."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.most = max(1.0, rate / 10)
        self.left = self.most
        self.at = time.monotonic()

    def take(self) -> bool:
        now = time.monotonic()
        self.left = min(self.most, self.left + (now - self.at) * self.rate)
        self.at = now
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True


class _Port:
    """One port: its requests are counted by the answer they got, and by the phase they came in."""

    def __init__(self, world: _World) -> None:
        self.world = world
        self.counts: dict[str, int] = {}
        self.bucket = _Bucket(world.rate)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        world = self.world
        world.writers.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                at = head.lower().find(b"content-length:")
                if at >= 0:
                    length = int(head[at + 15 : head.find(b"\r\n", at)])
                    if length:
                        await reader.readexactly(length)
                answer = self.answer()
                if answer is None:
                    await reader.read()  # until the client leaves
                    return
                writer.write(answer)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            world.writers.discard(writer)
            writer.close()

    def answer(self) -> bytes | None:
        phase, mood = self.world.phase, self.world.mood
        self.counts[phase] = self.counts.get(phase, 0) + 1
        if mood == "failing":
            return FAILING
        if mood == "hanging":
            return None
        if mood == "throttling" and not self.bucket.take():
            return THROTTLED
        return FINE


class _World:
    def __init__(self, ports: int, rate: float) -> None:
        self.mood = "fine"
        self.phase = ""
        self.rate = rate
        self.writers: set[asyncio.StreamWriter] = set()
        self.ports = [_Port(self) for _ in range(ports)]

    async def main(self) -> None:
        loop = asyncio.get_running_loop()
        servers = [await asyncio.start_server(port.serve, "127.0.0.1", 0, backlog=1024) for port in self.ports]
        say({"ports": [server.sockets[0].getsockname()[1] for server in servers]})
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            asked = json.loads(line)
            self.mood = asked.get("mood", self.mood)
            self.phase = asked.get("phase", self.phase)
            if asked.get("cut"):
                for writer in list(self.writers):
                    writer.transport.abort()
            say({"counts": [port.counts for port in self.ports]})
        os._exit(0)  # whoever started us has gone, or wants us gone


def say(what: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


class Dynamo:
    """The process, inside a ``with`` block. It ends with the block, and with this process.

    Args:
        ports: how many to listen on.
        rate: requests a second that each port serves while it is throttling.
    """

    def __init__(self, ports: int = 1, rate: float = 50.0) -> None:
        self._arguments = [str(ports), str(rate)]
        self._lock = threading.Lock()
        self.urls: list[str] = []

    def __enter__(self) -> Self:
        self._child = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.urls = [f"http://127.0.0.1:{port}" for port in self._heard()["ports"]]
        return self

    def __exit__(self, *_: object) -> None:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        with contextlib.suppress(OSError):
            self._child.stdin.close()
        try:
            self._child.wait(5.0)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child.stdout.close()

    def _heard(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        found: dict[str, Any] = json.loads(self._child.stdout.readline())
        return found

    def tell(self, **what: object) -> list[dict[str, int]]:
        """Change *mood* or *phase*, or *cut* all connections; returns the requests of each port by phase."""
        assert self._child.stdin is not None
        with self._lock:
            self._child.stdin.write(json.dumps(what) + "\n")
            self._child.stdin.flush()
            counts: list[dict[str, int]] = self._heard()["counts"]
        return counts


if __name__ == "__main__":
    asyncio.run(_World(int(sys.argv[1]), float(sys.argv[2])).main())
