"""Many real processes on one bucket, killed, paused, restarted, with wrong clocks: the bound holds in every window."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from stores import engines
from stores.hammer import Settings, read

Grants = list[tuple[int, int]]


class Fleet:
    """Processes that run side by side."""

    def __init__(self, folder: Path, settings: Settings, skews: list[tuple[float, float]]) -> None:
        self.settings = settings
        self.paths = [str(folder / f"{i}.bin") for i in range(len(skews))]
        self.children = [
            subprocess.Popen(
                [sys.executable, "-m", "stores.hammer", json.dumps(dataclasses.asdict(
                    dataclasses.replace(settings, out=path, skew=skew, speed=speed)))],
                env=engines.environment(), stdout=subprocess.PIPE, text=True,
            )
            for path, (skew, speed) in zip(self.paths, skews, strict=True)
        ]  # fmt: skip

    def begun(self) -> None:
        """Wait until all have got something, or it is too late."""
        ends = time.monotonic() + 10
        while not all(map(read, self.paths)) and time.monotonic() < ends:
            time.sleep(0.01)

    def kill(self, which: int) -> None:
        self.children[which].send_signal(signal.SIGKILL)

    def grants(self) -> Grants:
        """All that they got; waits for their end."""
        for child in self.children:
            child.communicate(timeout=60)
            assert child.returncode in {0, -signal.SIGKILL}
        return [pair for path in self.paths for pair in read(path)]

    def close(self) -> None:
        for child in self.children:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            child.wait()
            if child.stdout is not None:
                child.stdout.close()


@contextlib.contextmanager
def fleet(folder: Path, settings: Settings, skews: list[tuple[float, float]]) -> Iterator[Fleet]:
    made = Fleet(folder, settings, skews)
    try:
        yield made
    finally:
        made.close()


def worst(grants: Grants, rate: float) -> float:
    """The largest excess over the rate in any window that begins on a grid of 10 ms: it must not be over the burst.

    A token was got at some moment from before to after; it counts for windows that hold all of that.
    """
    grants = sorted(grants, key=lambda pair: pair[1])
    first, last = min(pair[0] for pair in grants), grants[-1][1]
    most = 0.0
    for begin in range(first, last, 10_000):
        count = 0
        for before, after in grants:
            if before >= begin:
                count += 1
                most = max(most, count - rate * (after - begin) / 1e6)
    return most


def test_no_window_sees_more_than_the_bound(own_redis: engines.Redis, tmp_path: Path) -> None:
    """Six processes, clocks hours and a hundredth apart; three are killed, the server paused: burst + rate * t."""
    settings = Settings("", own_redis.url, seconds=3.5, rate=1000, burst=400)
    skews = [(0.0, 1.0), (3600.0, 1.01), (-3600.0, 0.99), (7.0, 1.01), (-0.5, 0.99), (0.0, 1.0)]
    with fleet(tmp_path, settings, skews) as all_of_them:
        all_of_them.begun()
        time.sleep(0.6)
        all_of_them.kill(0)
        all_of_them.kill(1)
        time.sleep(0.6)
        with own_redis.paused():
            time.sleep(0.5)
        all_of_them.kill(2)
        grants = all_of_them.grants()
    assert worst(grants, settings.rate) <= settings.burst
    took = (max(after for _, after in grants) - min(before for before, _ in grants)) / 1e6
    assert len(grants) > 0.4 * settings.rate * took  # paused, and with tokens that died with their processes


def test_a_server_that_loses_its_memory_costs_at_most_one_more_burst(own_redis: engines.Redis, tmp_path: Path) -> None:
    """After a restart the bucket is full, and what was leased before is still spent: twice the burst, and the rate."""
    settings = Settings("", own_redis.url, seconds=3.0, rate=500, burst=200, timeout=0.05)
    with fleet(tmp_path, settings, [(0.0, 1.0)] * 4) as all_of_them:
        all_of_them.begun()
        time.sleep(0.7)
        own_redis.kill()
        own_redis.start()
        grants = all_of_them.grants()
    excess = worst(grants, settings.rate)
    assert excess <= 2 * settings.burst
    assert len(grants) > 500


def test_processes_share_what_there_is(own_redis: engines.Redis, tmp_path: Path) -> None:
    """Under a load below the rate nobody is refused for long, and nearly all calls need no exchange."""
    settings = Settings("", own_redis.url, seconds=2.0, rate=20_000, burst=20_000, lease=1.0, rest=0.001)
    with fleet(tmp_path, settings, [(0.0, 1.0)] * 3) as all_of_them:
        all_of_them.begun()
        with own_redis.client() as client:
            before = client.info("commandstats")["cmdstat_evalsha"]["calls"]
            grants = all_of_them.grants()
            exchanges = client.info("commandstats")["cmdstat_evalsha"]["calls"] - before
    assert len(grants) > 1500
    assert exchanges < len(grants) / 10


def test_clocks_that_are_hours_wrong_do_little_harm_on_dynamodb(dynalite: str, prefix: str, tmp_path: Path) -> None:
    """Every client keeps to the server's date, within a second: burst + rate * (t + 2 s), and nobody starves."""
    settings = Settings(
        "", dynalite, seconds=3.0, rate=100, burst=50, timeout=2.0, dynamodb=prefix, rest=0.002, lease=1.0
    )
    with fleet(tmp_path, settings, [(0.0, 1.0), (7200.0, 1.0), (-7200.0, 1.0)]) as all_of_them:
        grants = all_of_them.grants()
    assert worst(grants, settings.rate) <= settings.burst + 2 * settings.rate
    assert len(grants) > 100
