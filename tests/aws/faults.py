"""What the tests of faults share: a policy of real parts, and what is left of a call."""

from __future__ import annotations

import contextlib
import gc
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import resilience as rs
from aws.awsretry import Fixed
from aws.servers import Behavior, answers
from resilience import aws

DEADLINE, TIMEOUT, BACKOFF = 0.6, 0.2, 0.01
LATE = 0.05
"""Seconds that a call may end after its deadline."""


def guarded(**parts: Any) -> rs.Policy:
    """Waits between attempts are 10 and 20 ms, so that all that is waited for is the service."""
    settings: dict[str, Any] = {
        "deadline": DEADLINE,
        "timeout": rs.Timeout(TIMEOUT, mode="cooperative"),
        "retry": aws.AwsRetry(attempts=3, base=BACKOFF, throttling_base=BACKOFF, quota=None, rng=Fixed(1.0)),
        "bulkhead": rs.Bulkhead(64),
        "breaker": rs.CircuitBreaker(failure_rate=None, consecutive=10_000),
        "registry": None,
    }
    return rs.Policy(**{**settings, **parts})


def held(policy: rs.Policy) -> int:
    """Slots of the bulkhead that are in use."""
    counters: Any = policy.counters
    return int(counters["bulkhead"]["in_use"])


def refuses(status: str, code: str, *headers: str) -> Behavior:
    """An error as DynamoDB words it."""
    return answers(b'{"__type": "com.amazonaws#%s", "message": "scripted"}' % code.encode(), status, *headers)


def timed(work: Callable[[], object]) -> tuple[float, BaseException | None]:
    """Seconds that *work* took, and how it ended badly."""
    began = time.monotonic()
    try:
        work()
    except Exception as error:
        return time.monotonic() - began, error.with_traceback(None)
    return time.monotonic() - began, None


def call(client: Any) -> tuple[float, BaseException | None]:
    return timed(lambda: client.get_item(TableName="table", Key={"id": {"S": "1"}}))


def sockets_to(port: int) -> int:
    """How many sockets of this process are connected, or connecting, or were, to *port* of loopback."""
    peer = f"{socket.htonl(0x7F000001):08X}:{port:04X}"
    rows = [line.split() for line in Path("/proc/self/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    theirs = {f"socket:[{row[9]}]" for row in rows if row[2] == peer}
    mine = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            mine.add(str(descriptor.readlink()))
    return len(theirs & mine)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """No thread and no descriptor of this process outlives the block."""
    gc.collect(1)  # what came before; here nothing is to be left for it
    threads, before = set(threading.enumerate()), descriptors()
    yield
    assert [thread for thread in threading.enumerate() if thread not in threads] == []
    assert descriptors() <= before
