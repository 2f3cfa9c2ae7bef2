"""An outage, and what clients make of it: botocore's three retry modes left alone, and a wrapped client.

Run it: ``python benchmarks/aws_outage.py``. The service is fine, then for a minute it is not, then it is fine again. It
is one process (``dynamo.py``), each client another with 50 threads, all at work at the same time, each at a port of its
own. Three kinds of outage: every request fails with status 500; every request hangs; half of the wanted rate is served
and the rest is throttled.

The load is open: when each call is to start is fixed before the run, so a client that gets stuck is not asked, and
blamed, less. A call that finds no thread waits for one, and its latency counts from when it was meant to start; who has
waited `PATIENCE` seconds for a thread goes away, and was wanted all the same.

Good is a call that was answered within `IN_TIME` seconds of the moment it was meant to start. Goodput is back at the
first moment from which on every second has at least 90 % of the goodput before the outage.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import random
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from dynamo import Dynamo
from resilience import aws
from resilience.demo.load import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

THREADS = 50
PATIENCE = 5.0
IN_TIME = 1.0
WINDOW = 1.0
BACK = 0.9
BARE = ("legacy", "standard", "adaptive")
CLIENTS = (*BARE, "wrapped")


@dataclass(frozen=True)
class Plan:
    """What happens when; seconds, and calls a second.

    Attributes:
        outage: "failing", "hanging" or "throttling".
        changes: arguments for `recommended`.
    """

    outage: str
    before: float = 10.0
    during: float = 60.0
    after: float = 15.0
    rate: float = 60.0
    changes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Figures:
    """What became of one client's calls.

    Attributes:
        wanted: calls meant to start during the outage.
        begun: those of them that found a thread in time.
        requests: requests that reached the server during the outage.
        goodput: good calls a second before, during and after the outage.
        back: seconds from its end until goodput is back; infinite if that was not seen.
        p99: seconds that 99 of 100 callers waited at most, whatever came of it, for the calls of the outage and of the
            whole run. Who never got an answer while we watched waited as long as we did.
        errors: how the calls of the outage that were begun ended badly.
    """

    wanted: int
    begun: int
    requests: int
    goodput: tuple[float, float, float]
    back: float
    p99: tuple[float, float]
    errors: dict[str, int]

    @property
    def load(self) -> float:
        """Requests for each wanted call of the outage."""
        return self.requests / self.wanted

    @property
    def amplification(self) -> float:
        """Requests for each call begun."""
        return self.requests / self.begun if self.begun else math.nan


@dataclass(slots=True)
class Call:
    """One wanted call, as `Workers` takes it; seconds from the start of the run."""

    at: float
    began: float | None = None
    ended: float | None = None
    error: str | None = None


class _WentAwayError(Exception):
    """Nobody waits for this call any more."""


# -- one client, in a process of its own -------------------------------------------------------------------------------


def client(kind: str, url: str, changes: dict[str, Any]) -> Any:
    made = boto3.client(
        "dynamodb",
        region_name="eu-west-1",
        endpoint_url=url,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"mode": kind if kind in BARE else "standard"}, max_pool_connections=THREADS),
    )
    return made if kind in BARE else aws.wrap(made, aws.recommended(**changes))


def work(kind: str, url: str, plan: Plan, ready: Callable[[], float]) -> list[Call]:
    """Make the calls; *ready* says from when on ``time.monotonic()``."""
    made = client(kind, url, plan.changes)
    dice = random.Random(1)
    end = plan.before + plan.during + plan.after
    calls = [Call(at) for at in sorted(dice.uniform(0.0, end) for _ in range(round(plan.rate * end)))]

    def perform(call: Any) -> None:
        if call.began - call.at > PATIENCE:
            raise _WentAwayError
        made.get_item(TableName="table", Key={"id": {"S": "1"}})

    made.get_item(TableName="table", Key={"id": {"S": "1"}})  # what a client loads at its first call
    start = ready()
    workers = Workers(THREADS, perform, start)
    for call in calls:
        time.sleep(max(0.0, start + call.at - time.monotonic()))
        workers.hand_in(call)  # type: ignore[arg-type]
    time.sleep(max(0.0, start + end + IN_TIME - time.monotonic()))
    return calls


def _child(kind: str, url: str, plan: str) -> None:
    def ready() -> float:
        print("ready", flush=True)
        return float(sys.stdin.readline())

    calls = work(kind, url, Plan(**json.loads(plan)), ready)
    # The threads are daemons, some of them stuck for a minute: nobody waits for them.
    json.dump([[call.at, call.began, call.ended, call.error] for call in calls], sys.stdout)


# -- the run -----------------------------------------------------------------------------------------------------------


def run(plan: Plan, clients: Sequence[str] = CLIENTS) -> dict[str, Figures]:
    """The figures of each of *clients*, all of them at work at the same time."""
    with Dynamo(len(clients), rate=plan.rate / 2) as server, contextlib.ExitStack() as stack:
        children = []
        for kind, url in zip(clients, server.urls, strict=True):
            command = [sys.executable, str(Path(__file__).resolve()), "--child", kind, url, json.dumps(asdict(plan))]
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            stack.enter_context(child)
            stack.callback(child.kill)
            children.append(child)
        for child in children:
            assert child.stdout is not None
            child.stdout.readline()
        start = time.monotonic() + 0.2
        server.tell(phase="before")
        for child in children:
            assert child.stdin is not None
            child.stdin.write(f"{start}\n")
            child.stdin.flush()
        _at(start + plan.before)
        server.tell(mood=plan.outage, phase="during")
        _at(start + plan.before + plan.during)
        server.tell(mood="fine", phase="after")
        outputs = [child.communicate(timeout=plan.after + 30.0)[0] for child in children]
        counts = server.tell()
    return {
        kind: figures([Call(*one) for one in json.loads(output)], count.get("during", 0), plan)
        for kind, output, count in zip(clients, outputs, counts, strict=True)
    }


def _at(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def figures(calls: Sequence[Call], requests: int, plan: Plan) -> Figures:
    """*calls* are in order of their starts; the latest of them were watched for `IN_TIME` seconds."""
    over = plan.before + plan.during
    end = over + plan.after

    def good(call: Call) -> bool:
        return call.ended is not None and call.error is None and call.ended - call.at <= IN_TIME

    def rate(since: float, until: float) -> float:
        return sum(since <= call.at < until and good(call) for call in calls) / (until - since)

    def waited(call: Call) -> float:
        if call.error == _WentAwayError.__name__:
            return PATIENCE
        return (end + IN_TIME if call.ended is None else call.ended) - call.at

    usual = rate(0.0, plan.before)
    back = math.inf
    # Random starts make some seconds busier than others: what a second had is held against what was wanted in it.
    share = usual / (sum(call.at < plan.before for call in calls) / plan.before)
    for moment in [over, *(call.at for call in calls if call.at > over)]:
        if moment > end - WINDOW:
            break
        inside = [call for call in calls if moment <= call.at < moment + WINDOW]
        if inside and sum(map(good, inside)) < BACK * share * len(inside):
            back = math.inf
        elif back == math.inf:
            back = moment - over
    during = [call for call in calls if plan.before <= call.at < over]
    begun = [call for call in during if call.began is not None and call.error != _WentAwayError.__name__]
    errors: dict[str, int] = {}
    for call in begun:
        name = ("no answer yet" if call.ended is None else call.error) or ""
        if name:
            errors[name] = errors.get(name, 0) + 1
    return Figures(
        wanted=len(during),
        begun=len(begun),
        requests=requests,
        goodput=(usual, rate(plan.before, over), rate(over, end)),
        back=back,
        p99=(_p99([waited(call) for call in during]), _p99([waited(call) for call in calls])),
        errors=dict(sorted(errors.items(), key=lambda item: -item[1])),
    )


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[max(0, math.ceil(0.99 * len(values)) - 1)]


def table(found: dict[str, Figures]) -> str:
    """The figures, a client a line."""
    head = "client     requests/wanted  /begun  goodput before/during/after    back in  p99 outage/all  errors"
    lines = [head]
    for kind, one in found.items():
        before, during, after = one.goodput
        errors = ", ".join(f"{name} {count}" for name, count in one.errors.items())
        lines.append(
            f"{kind:10} {one.load:15.3f} {one.amplification:7.2f} {before:10.1f} {during:8.1f} {after:8.1f}/s"
            f" {one.back:9.2f} s {one.p99[0]:7.2f} {one.p99[1]:6.2f} s  {errors}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("outages", nargs="*", default=["failing", "hanging", "throttling"])
    parser.add_argument("--seconds", type=float, default=Plan.during, help="how long an outage lasts")
    parser.add_argument("--after", type=float, default=Plan.after, help="seconds watched after it")
    parser.add_argument("--rate", type=float, default=Plan.rate, help="calls a second that each client wants")
    parser.add_argument("--changes", type=json.loads, default={}, help="arguments of recommended(), as JSON")
    given = parser.parse_args()
    for outage in given.outages:
        plan = Plan(outage, during=given.seconds, after=given.after, rate=given.rate, changes=given.changes)
        print(
            f"{outage}, {plan.during:g} s, {THREADS} threads, {plan.rate:g} calls/s wanted of each client", flush=True
        )
        print(table(run(plan)), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _child(*sys.argv[2:])
    else:
        main()
