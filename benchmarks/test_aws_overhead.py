"""What wrapping an AWS client costs in CPU time, against the same client left alone, in botocore's standard mode.

Both call a server in another process over connections that are kept, so the time of this process is the client's alone.
Rounds of the two are made in turn, and each pair gives one ratio: what slows a pair down slows both. The figure is the
median of the pairs; the best of several such medians counts, for a busy neighbour can only add.
"""

from __future__ import annotations

import gc
import statistics
import time
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from dynamo import Dynamo
from resilience import aws

if TYPE_CHECKING:
    from collections.abc import Callable

GOAL = 1.05
NOISE = 0.01
CALLS = 25
PAIRS = 60
ROUNDS = 6


def client(url: str) -> Any:
    return boto3.client(
        "dynamodb",
        region_name="eu-west-1",
        endpoint_url=url,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"mode": "standard"}),
    )


def spent(call: Callable[[], object], calls: int = CALLS) -> float:
    """Seconds of CPU time for so many calls."""
    before = time.process_time()
    for _ in range(calls):
        call()
    return time.process_time() - before


def ratio(path: Callable[[], object], yardstick: Callable[[], object], pairs: int = PAIRS) -> tuple[float, float]:
    """The median ratio of the pairs, and the yardstick's seconds for one call."""
    found, base = [], []
    collecting = gc.isenabled()
    gc.disable()
    try:
        for number in range(pairs):
            if number % 2:
                mine, theirs = spent(path), spent(yardstick)
            else:
                theirs, mine = spent(yardstick), spent(path)
            found.append(mine / theirs)
            base.append(theirs / CALLS)
            gc.collect(0)
    finally:
        if collecting:
            gc.enable()
    return statistics.median(found), statistics.median(base)


def get_item(made: Any) -> Callable[[], object]:
    return lambda: made.get_item(TableName="table", Key={"id": {"S": "1"}})


def measure(url: str, enough: float, rounds: int = ROUNDS) -> list[tuple[float, float]]:
    """Medians, ratio and base, of a client under `recommended` against a bare one, until a ratio is *enough*."""
    bare, wrapped = client(url), aws.wrap(client(url))
    try:
        mine, theirs = get_item(wrapped), get_item(bare)
        for _ in range(200):
            mine(), theirs()
        found = []
        for _ in range(rounds):
            found.append(ratio(mine, theirs))
            if found[-1][0] <= enough:
                break
        return found
    finally:
        bare.close()
        wrapped.close()


def test_overhead(record_property: Callable[[str, object], None]) -> None:
    """A wrapped `get_item` costs at most 5 % more CPU time than a bare one."""
    with Dynamo() as server:
        found = measure(server.urls[0], GOAL + NOISE)
    best, base = min(found)
    record_property("ratio", round(best, 4))
    print(", ".join(f"{one:.4f} ({each * 1e6:.0f} us bare)" for one, each in found))
    assert best <= GOAL + NOISE, f"{best:.4f} times {base * 1e6:.0f} us, at most {GOAL}"
