"""Real servers on free ports of loopback: redis-server (or Valkey), a Redis Cluster of three nodes, DynamoDBs.

Each is a process of its own that ends with the block. Nothing is written to disk.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

HOST = "127.0.0.1"


def free_port() -> int:
    """A port that nobody listens on now; for a cluster, the one 10000 above is free as well."""
    while True:
        with socket.socket() as sock:
            sock.bind((HOST, 0))
            port: int = sock.getsockname()[1]
        if port < 50_000:
            return port


class Redis:
    """One redis-server that can be paused, killed and started again."""

    def __init__(self, program: str, *options: str) -> None:
        self.program = program
        self.options = options
        self.port = free_port()
        self.url = f"redis://{HOST}:{self.port}"
        self._home = tempfile.TemporaryDirectory()
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, with nothing in it, and wait until it answers."""
        self._child = subprocess.Popen(
            [self.program, "--port", str(self.port), "--bind", HOST, "--save", "", "--appendonly", "no",
             "--dir", self._home.name, *self.options],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for(lambda: self.ask("PING"), 10.0)

    def client(self, **settings: Any) -> redis.Redis:
        """A plain client for the tests themselves."""
        return redis.Redis(host=HOST, port=self.port, decode_responses=True, socket_timeout=5.0, **settings)

    def ask(self, *command: str) -> Any:
        """The answer to one command, on a connection of its own that is closed whatever happens."""
        with self.client() as client:
            return client.execute_command(*command)

    def now(self) -> int:
        """Its clock, in microseconds."""
        with self.client() as client:
            seconds, micros = client.time()
        return int(seconds) * 1_000_000 + int(micros)

    def signal(self, number: int) -> None:
        assert self._child is not None
        self._child.send_signal(number)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """It holds still inside the block."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, with all it knew."""
        if self._child is not None:
            self._child.send_signal(signal.SIGCONT)
            self._child.kill()
            self._child.wait(10)
            self._child = None

    def close(self) -> None:
        self.kill()
        self._home.cleanup()


def wait_for(ready: Any, seconds: float) -> None:
    """Until *ready* returns something true and does not raise."""
    ends = time.monotonic() + seconds
    while True:
        try:
            if ready():
                return
        except (redis.RedisError, OSError):
            pass
        assert time.monotonic() < ends, "a server does not come up"
        time.sleep(0.01)


@contextlib.contextmanager
def running(program: str, *options: str) -> Iterator[Redis]:
    """A server inside the block."""
    server = Redis(program, *options)
    try:
        server.start()
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def cluster() -> Iterator[list[Redis]]:
    """Three nodes that share all slots."""
    with contextlib.ExitStack() as stack:
        nodes = [
            stack.enter_context(running("redis-server", "--cluster-enabled", "yes", "--cluster-node-timeout", "1000"))
            for _ in range(3)
        ]
        tool = shutil.which("redis-cli")
        assert tool is not None
        subprocess.run(
            [tool, "--cluster", "create", *(f"{HOST}:{node.port}" for node in nodes), "--cluster-yes"],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        for node in nodes:
            wait_for(lambda node=node: node.ask("CLUSTER INFO")["cluster_state"] == "ok", 10.0)
        yield nodes


def environment() -> dict[str, str]:
    """For child processes that import the library and the tests."""
    root = Path(__file__).parents[2]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(root / "src"), str(root / "tests")])}
