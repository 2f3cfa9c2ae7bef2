"""An AWS emulator (moto's server) in a process of its own.

Knows how to start moto, learn its port and end it without trace. Refuses to know what is called and
why.

The child holds the read end of a pipe whose other end is ours: when we end, however we end, the
pipe closes and the child leaves. So no child outlives an interrupted or killed demo.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Emulator", "missing"]

_NEEDED = ("boto3", "moto", "flask")
_PATIENCE = 30.0
"""Seconds the child may take to start: importing moto is slow on a busy machine."""


def missing() -> list[str]:
    """The packages that the demo needs and this Python lacks."""
    return [name for name in _NEEDED if find_spec(name) is None]


class Emulator:
    """moto's S3, DynamoDB and SQS over HTTP on a free port of 127.0.0.1, inside a ``with`` block.

    Not thread-safe: entered and left by one thread.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def port(self) -> int:
        """The TCP port moto listens on, above zero; zero before the block is entered."""
        return self._port

    @property
    def url(self) -> str:
        """Where moto listens."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        package_parent = str(Path(__file__).resolve().parents[2])
        paths = [package_parent, os.environ.get("PYTHONPATH", "")]
        self._child = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # an unread pipe would fill up and block the server
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
        impatient = threading.Timer(_PATIENCE, self._child.kill)
        impatient.start()
        try:
            assert self._child.stdout is not None
            line = self._child.stdout.readline()
        except BaseException:
            self._end()
            raise
        finally:
            impatient.cancel()
            impatient.join()
        if not line.strip():
            self._end()
            raise RuntimeError("moto's server did not start; try: python -m moto.server")
        self._port = int(line)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.terminate()
        try:
            child.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()


def _child() -> None:
    """The child: serve until the pipe from the parent closes."""
    # Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    print(server.get_host_and_port()[1], flush=True)
    sys.stdin.buffer.read()
    os._exit(0)  # moto's threads need no farewell


if __name__ == "__main__":
    _child()
