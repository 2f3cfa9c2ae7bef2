"""The shared breaker with real processes on a real Redis: they are killed, and the server is paused and restarted."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stores import engines

SETTINGS = {
    "minimum": 4, "probes": 1, "open_for": 0.3, "max_open": 0.3, "jitter": 0.0, "probe_timeout": 1.0, "sync_every": 0.1,
}  # fmt: skip
PATIENT = 10.0
"""The store's timeout where the store is well: a busy machine must not make it look lost."""
STALL = 1.0
"""Seconds that a busy machine may take for nothing at all."""


class Member:
    """One process of the fleet."""

    def __init__(self, url: str, prefix: str, *, timeout: float = PATIENT, **changes: Any) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "-m", "stores.prober", url, prefix, str(timeout), json.dumps({**SETTINGS, **changes})],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=engines.environment(),
        )  # fmt: skip

    def tell(self, command: str) -> None:
        assert self.child.stdin is not None
        self.child.stdin.write(command + "\n")
        self.child.stdin.flush()

    def hear(self) -> Any:
        assert self.child.stdout is not None
        return json.loads(self.child.stdout.readline())

    def ask(self, command: str) -> Any:
        self.tell(command)
        return self.hear()

    def kill(self) -> None:
        """SIGKILL."""
        self.child.kill()
        self.child.communicate()


@contextlib.contextmanager
def fleet(url: str, prefix: str, count: int, **changes: Any) -> Iterator[list[Member]]:
    members: list[Member] = []
    try:
        members += (Member(url, prefix, **changes) for _ in range(count))
        for member in members:
            assert member.hear() == "ready"
        yield members
    finally:
        for member in members:
            member.kill()


def until(reached: Callable[[], bool], seconds: float = 20.0) -> None:
    ends = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < ends
        time.sleep(0.02)


def trip(member: Member) -> None:
    for _ in range(20):
        if member.ask("bad") == "CircuitOpen":
            return
    pytest.fail("it does not open")


def test_a_trip_of_one_process_opens_all_within_the_stated_time(redis_server: engines.Redis, prefix: str) -> None:
    """``sync_every`` after the trip nobody gets through, though none of the others saw a failure."""
    with fleet(redis_server.url, prefix, 4, consecutive=4, open_for=60, max_open=60) as members:
        for member in members[1:]:
            member.tell("many 2.0")
        time.sleep(0.4)
        well = time.monotonic()
        trip(members[0])
        tripped = time.monotonic()
        answers = [member.hear() for member in members[1:]]
    for answer in answers:
        before = {result for began, result, took in answer if began + took < well}
        assert before == {"done"}
        # However slow the machine: who was let through after the trip had asked before it.
        assert max(began for began, result, _ in answer if result == "done") <= tripped + SETTINGS["sync_every"]
        assert "CircuitOpen" in {result for _, result, _ in answer}


def test_never_do_two_processes_probe_at_once(redis_server: engines.Redis, prefix: str) -> None:
    """Six processes that all want to, over many open times: no two probes overlap, and they take turns."""
    settings = {"open_for": 0.02, "max_open": 0.02, "sync_every": 0.01, "probe_timeout": 10.0}
    with fleet(redis_server.url, prefix, 6, **settings) as members:
        trip(members[0])
        for member in members:
            member.tell("probes 2.0")
        answers = [member.hear() for member in members]
    spans = sorted(span for answer in answers for span in answer)
    assert len(spans) > 10
    overlaps = [(one, two) for one, two in itertools.pairwise(spans) if two[0] < one[1]]
    assert not overlaps
    assert sum(bool(answer) for answer in answers) >= 2


def test_a_prober_that_is_killed_blocks_nobody_for_longer_than_its_lease(
    redis_server: engines.Redis, prefix: str
) -> None:
    """SIGKILL in the midst of a probe: until the lease ends all are refused, and then the next one probes."""
    with fleet(redis_server.url, prefix, 2, open_for=1.0, max_open=1.0) as (one, two):
        trip(one)
        assert two.ask("good") == "CircuitOpen"
        time.sleep(1.0)
        asked = time.monotonic()
        assert one.ask("hang") == "hanging"
        leased = time.monotonic()
        one.kill()
        calls = two.ask("many 2.5")
    through = min(began + took for began, result, took in calls if result == "done")
    ends = SETTINGS["probe_timeout"]
    assert through >= asked + ends - 0.01
    assert through < leased + ends + SETTINGS["sync_every"] + STALL


def test_pausing_and_restarting_the_server_fails_no_call_and_delays_few(own_redis: engines.Redis, prefix: str) -> None:
    """SIGSTOP, SIGKILL and a start with an empty memory, under calls of three processes; then they are one fleet."""
    timeout, pause = 0.1, 1.5
    with fleet(own_redis.url, prefix, 3, timeout=timeout, consecutive=4, open_for=60, max_open=60) as members:
        for member in members:
            member.tell("many 3.0")
        time.sleep(0.3)
        with own_redis.paused():
            time.sleep(pause)
        time.sleep(0.3)
        own_redis.kill()
        time.sleep(0.5)
        own_redis.start()
        answers = [member.hear() for member in members]
        calls = [call for answer in answers for call in answer]
        assert {result for _, result, _ in calls} == {"done"}
        assert max(took for _, _, took in calls) < timeout + STALL < pause
        for answer in answers:
            assert sum(took >= timeout for _, _, took in answer) <= max(12, len(answer) / 50)
        for member in members:  # it is tried again at most five seconds and a quarter later
            until(lambda member=member: not member.ask("lost"))
        trip(members[0])
        for member in members:
            until(lambda member=member: member.ask("good") == "CircuitOpen")
