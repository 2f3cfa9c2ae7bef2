"""The loopback server says early what is wrong. What it does to sockets is shown by its proxy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from resilience.demo.loopback import LoopbackServer

if TYPE_CHECKING:
    import asyncio


class Broken(LoopbackServer):
    """A server that serves nobody."""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Never reached."""


def test_a_server_has_no_port_before_it_runs() -> None:
    """Asking for the port too early is an error that says when there is one."""
    with pytest.raises(RuntimeError, match="before its with block"):
        _ = Broken().port


def test_a_failure_to_listen_is_raised_where_the_block_is_entered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An error on the server's thread does not leave the other waiting."""

    async def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError("no port is free")

    monkeypatch.setattr("asyncio.start_server", refuse)
    with pytest.raises(OSError, match="no port is free"), Broken():
        pass
