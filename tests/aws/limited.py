"""Clients whose transport obeys limits, and limits put into force by hand."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from aws.servers import sockets_open
from resilience._scope import SCOPE, Limit, Scope
from resilience.aws import _transport
from resilience.clock import Clock, system

KEYS = {"region_name": "eu-west-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}
PROMPT = 0.1
"""Seconds after its limit by which a call has to have ended."""


def limit(seconds: float, clock: Clock = system) -> Limit:
    return Limit(clock.monotonic_ns() + round(seconds * 1e9), seconds, "test", clock, deadline=False)


@contextlib.contextmanager
def within(seconds: float, clock: Clock = system) -> Iterator[None]:
    """What is done in the block is held to so many seconds."""
    token = SCOPE.set(Scope(limit(seconds, clock)))
    try:
        yield
    finally:
        SCOPE.reset(token)


@contextlib.contextmanager
def client(
    url: str, service: str = "dynamodb", *, install: bool = True, verify: Any = None, **settings: Any
) -> Iterator[Any]:
    """A client that makes one attempt, obeying limits if *install*."""
    config = Config(retries={"total_max_attempts": 1, "mode": "standard"}, s3={"addressing_style": "path"}, **settings)
    made = boto3.client(service, endpoint_url=url, verify=verify, config=config, **KEYS)
    if install:
        _transport.install(made._endpoint.http_session)
    try:
        yield made
    finally:
        made.close()


class Ended(NamedTuple):
    after: float
    error: BotoCoreError | None

    def on_time(self, seconds: float, margin: float = PROMPT) -> bool:
        """It was cut at its limit: neither earlier nor much later."""
        return self.error is not None and seconds <= self.after <= seconds + margin


def cut(call: Callable[[], Any], seconds: float) -> Ended:
    """Make *call* with a limit of *seconds*: how long it took, and botocore's error."""
    began = time.monotonic()
    error = None
    try:
        with within(seconds):
            call()
    except BotoCoreError as raised:
        error = raised
    return Ended(time.monotonic() - began, error)


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """No socket and no thread is left by what is done in the block."""
    threads, sockets = threading.active_count(), sockets_open()
    yield

    def left() -> tuple[int, int]:  # fewer is well: something of an earlier test has ended meanwhile
        return max(0, threading.active_count() - threads), max(0, sockets_open() - sockets)

    for generation in (0, 1, 2):  # botocore's errors are parts of cycles, and hold the pool; the last takes long
        if left() == (0, 0):
            return
        gc.collect(generation)
    patience = time.monotonic() + 2.0  # a server's thread may be on its last lines
    while left() != (0, 0) and time.monotonic() < patience:
        time.sleep(0.01)
    assert left() == (0, 0), "threads and sockets left"


def session_of(made: Any) -> Any:
    """The HTTP session of a client."""
    return made._endpoint.http_session


def idle(made: Any, url: str) -> list[Any]:
    """The connections that lie idle in the pool of a client for *url*."""
    pool = session_of(made)._manager.connection_from_url(url)
    return [conn for conn in pool.pool.queue if conn is not None]
