"""The socket that obeys a limit, on its own: what it tells the real one before each operation."""

from __future__ import annotations

import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience._scope import Limit
from resilience.aws._wire import _SLACK as SLACK
from resilience.aws._wire import Wire, allowed, reach

OWN = st.none() | st.floats(0.001, 100)


class Still:
    """A clock that is set."""

    now = 0

    def monotonic_ns(self) -> int:
        return self.now


class Fake:
    """A socket that notes under which timeout each operation was done."""

    def __init__(self, timeout: float | None) -> None:
        self.timeout = timeout
        self.done: list[float | None] = []

    def fileno(self) -> int:
        return -1

    shutdown = _decref_socketios = fileno

    def gettimeout(self) -> float | None:
        return self.timeout

    def settimeout(self, timeout: float | None) -> None:
        self.timeout = timeout

    def recv_into(self, buffer: Any) -> int:
        self.done.append(self.timeout)
        return 1

    recv = sendall = recv_into


def wired(own: float | None, at: int, clock: Any) -> tuple[Any, Any]:
    sock = Fake(own)
    return sock, Wire(sock, own, Limit(at, at / 1e9, "test", clock, deadline=False))


@given(OWN, st.integers(1, 10**10), st.lists(st.tuples(st.integers(0, 10**9), st.sampled_from("rRs")), max_size=20))
def test_each_operation_has_what_is_left(own: float | None, at: int, steps: list[tuple[int, str]]) -> None:
    """Each receive and send waits for the client's timeout or the time left; when none is left, nothing is done."""
    clock = Still()
    sock, wire = wired(own, at, clock)
    for passed, what in steps:
        clock.now += passed
        done = len(sock.done)
        acts: dict[str, Callable[[], Any]] = {
            "r": lambda: wire.recv_into(b""),
            "R": lambda: wire.recv(1),
            "s": lambda: wire.sendall(b"x"),
        }
        if clock.now >= at:
            with pytest.raises(TimeoutError):
                acts[what]()
            assert len(sock.done) == done
        else:
            acts[what]()
            left = (at - clock.now) / 1e9
            (told,) = sock.done[done:]
            least = left if own is None else min(own, left)
            assert told is not None
            assert least <= told <= least + SLACK


@given(OWN, OWN, OWN, st.integers(1, 10**10))
def test_next_user_finds_the_clients_timeout(
    own: float | None, stall: float | None, new: float | None, at: int
) -> None:
    """Limit and stall end with the hold that set them; what the client set stays."""
    clock = Still()
    sock, wire = wired(own, at, clock)
    limit = wire.limit
    wire.recv(1)
    wire.hold(None, stall)
    wire.recv(1)
    assert sock.done[-1] == (own if stall is None else stall)
    wire.hold(limit, stall)
    wire.recv(1)
    wire.hold(None)
    wire.recv(1)
    assert sock.done[-1] == own
    wire.hold(limit, stall)
    wire.settimeout(new)
    wire.hold(None)
    wire.recv(1)
    assert sock.done[-1] == new


@given(OWN, st.integers(-(10**10), 10**10))
def test_allowed(own: float | None, at: int) -> None:
    """What is allowed is positive, at most the client's own, at most what is left, and one of the two."""
    clock: Any = Still()
    limit = Limit(at, 1.0, "test", clock, deadline=False)
    if at <= 0:
        with pytest.raises(TimeoutError):
            allowed(own, limit)
    else:
        got = allowed(own, limit)
        assert got > 0
        assert got in (own, at / 1e9)
        assert got <= at / 1e9
        assert own is None or got <= own


@given(OWN, st.lists(st.integers(0, 10**9), min_size=1, max_size=5))
def test_handshake_is_told_what_is_left_when_it_begins(own: float | None, steps: list[int]) -> None:
    """A new socket that is asked for its timeout says what is left then, not what was left when it had connected."""
    clock: Any = Still()
    at = 2 * 10**9
    with socket.create_server(("127.0.0.1", 0)) as listener:
        conn = SimpleNamespace(timeout=own, host="127.0.0.1", _dns_host="127.0.0.1", port=listener.getsockname()[1])
        conn.socket_options = conn.source_address = None
        with reach(conn, Limit(at, 2.0, "test", clock, deadline=False), None) as sock:
            for passed in steps:
                clock.now += passed
                told = sock.gettimeout()
                assert told is not None
                assert told > 0
                assert told <= max(1e-9, (at - clock.now) / 1e9)
                assert own is None or told <= own


def test_files_keep_the_socket_open() -> None:
    """A file made of the wire keeps the socket open until it is closed too, as with a plain socket."""
    for arguments in (("rb",), ("rb", 0), ("r",), ("wb",)):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            wire = Wire(ours, None, None)
            file = wire.makefile(*arguments)
            wire.close()
            assert wire.fileno() >= 0
            if "w" in arguments[0]:
                file.write(b"hello")
                file.flush()
                assert theirs.recv(5) == b"hello"
            else:
                theirs.sendall(b"hello\n")
                assert file.readline() in ("hello\n", b"hello\n")
            file.close()
            assert wire.fileno() == -1
