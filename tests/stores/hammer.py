"""One of many processes that hammer a shared bucket, and write down each token they got: the moments before and after.

``python -m stores.hammer <settings as JSON>``. The moments are of the machine's real-time clock, which is the clock of
a Redis server on it too. What the process itself takes for the time may be skewed, and run fast or slow.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import time
from dataclasses import dataclass
from typing import Any

import resilience as rs
from resilience.clock import SystemClock
from resilience.stores import RedisStore, Store

RECORD = struct.Struct("<qq")


@dataclass(frozen=True)
class Settings:
    """What a process is told; *skew* in seconds, *speed* as a factor; *busy*: how long it rests between tries."""

    out: str
    url: str
    seconds: float
    rate: float
    burst: int
    lease: float = 0.3
    skew: float = 0.0
    speed: float = 1.0
    rest: float = 0.0
    timeout: float = 0.2
    dynamodb: str = ""


def clock(settings: Settings) -> SystemClock:
    """A clock that is wrong."""
    wrong = SystemClock()
    began = time.monotonic_ns()
    shift = round(settings.skew * 1e9)
    wrong.monotonic_ns = lambda: began + shift + round((time.monotonic_ns() - began) * settings.speed)
    return wrong


def store(settings: Settings) -> Store:
    if not settings.dynamodb:
        return RedisStore(settings.url, timeout=settings.timeout)
    from stores.conftest import dynamodb

    made = dynamodb(settings.url, settings.dynamodb, timeout=settings.timeout)
    made._date._guess += round(settings.skew * 1e6)
    made._date._low = made._date._high = made._date._guess
    return made


def main(settings: Settings) -> None:
    with store(settings) as shared:
        bucket = rs.TokenBucket(
            settings.rate, burst=settings.burst, store=shared, key="hammered", lease=settings.lease,
            on_store_failure="closed", clock=clock(settings),
        )  # fmt: skip
        out = os.open(settings.out, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        ends = time.monotonic() + settings.seconds
        while time.monotonic() < ends:
            before = time.time_ns() // 1000
            if bucket.try_acquire():
                os.write(out, RECORD.pack(before, time.time_ns() // 1000 + 1))
            if settings.rest:
                time.sleep(settings.rest)
        bucket.close()
    print(json.dumps({"share": bucket._shared._lease.share}))  # type: ignore[union-attr]


def read(path: str) -> list[tuple[int, int]]:
    """What a process wrote; a record that was cut off by its death is left out."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            data: Any = file.read()
    except FileNotFoundError:
        return []
    return [tuple(pair) for pair in RECORD.iter_unpack(data[: len(data) // RECORD.size * RECORD.size])]


if __name__ == "__main__":
    main(Settings(**json.loads(sys.argv[1])))
