"""The command ``resilience demo``.

Knows the order of things: emulator up, proxy before it, one run bare and one under policies, the
table. Refuses to know what a fault, a call or a figure is.
"""

from __future__ import annotations

import argparse
import copy
import random
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._checks import count, number, seconds
from .clients import KEYS, OPERATIONS, Dependency, clean_environment
from .emulator import Emulator, missing
from .guards import bare, resilient
from .load import Workers, plan
from .measure import Run, figures
from .phases import CAPACITY, phases
from .proxy import FaultProxy
from .report import Progress, as_json, as_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .guards import Guard
    from .load import Call
    from .measure import Figures
    from .phases import Phase

__all__ = ["Settings", "main", "run_demo"]

_FAST = 2.5
_FULL = 20.0
_CLEARING = 5.0
"""Seconds that worker threads get to come back after a run."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What one may choose.

    Attributes:
        duration: seconds of each of the two runs, above zero.
        rate: calls wanted a second, above zero.
        workers: threads that make the calls, at least one.
        deadline: seconds from its intended start within which a call must be answered, above zero.
        seed: of the start times, the mix of calls and the faults.
    """

    duration: float = _FULL
    rate: float = 50.0
    workers: int = 64
    deadline: float = 1.0
    seed: int = 1

    def __post_init__(self) -> None:
        seconds("duration", self.duration)
        number("rate", self.rate, above=0)
        count("workers", self.workers)
        seconds("deadline", self.deadline)
        count("seed", self.seed, minimum=0)


def run_demo(settings: Settings, guards: Sequence[Guard], progress: Progress) -> list[Run]:
    """Run the schedule once for each guard, ``duration + deadline`` seconds each, and a few more.

    Leaves no process, thread or socket behind, also when it is interrupted.
    """
    schedule = phases(settings.duration, settings.rate)
    dice = random.Random(settings.seed)
    wanted = plan(OPERATIONS, KEYS, settings.rate, settings.duration, dice)
    each = settings.duration + settings.deadline
    progress.show(0.0, "starting moto")
    runs = []
    with clean_environment(), Emulator() as emulator:
        for number, guard in enumerate(guards):
            calls = [copy.copy(call) for call in wanted]

            def show(elapsed: float, phase: str, done: float = number * each, name: str = guard.name) -> None:
                progress.show(done + elapsed, f"{name}: {phase}")

            runs.append(_run(settings, guard, emulator, calls, schedule, show))
    progress.clear()
    return runs


def _run(
    settings: Settings,
    guard: Guard,
    emulator: Emulator,
    calls: list[Call],
    schedule: Sequence[Phase],
    show: Callable[[float, str], None],
) -> Run:
    arrivals: list[float] = []

    def arrived(_fate: str) -> None:
        arrivals.append(time.monotonic())

    with FaultProxy(emulator.port, seed=settings.seed, on_request=arrived) as proxy:
        dependency = Dependency(emulator.url, proxy.url, f"demo-{guard.name}", guard)
        operations = dependency.operations()
        for operation in operations.values():  # the first call of a client loads a lot
            operation(0)
        arrivals.clear()
        proxy.count_afresh()
        start = time.monotonic()

        def perform(call: Call) -> None:
            operations[call.operation.name](call.key)

        workers = Workers(settings.workers, perform, start)
        try:
            _drive(proxy, workers, calls, schedule, start, show)
            _sleep_until(start + settings.duration + settings.deadline)
            end = time.monotonic() - start
            outcomes = [copy.copy(call) for call in calls]  # as they stand now, before any is freed
            reached = [at - start for at in list(arrivals)]
            passed_on = proxy.counts.passed_on
            show(end, "clearing away")
        finally:
            proxy.drain()
            stuck = workers.close(_CLEARING)
            dependency.close()
    return Run(guard.name, outcomes, reached, passed_on, end, dependency.retries, stuck)


def _drive(
    proxy: FaultProxy,
    workers: Workers,
    calls: Sequence[Call],
    schedule: Sequence[Phase],
    start: float,
    show: Callable[[float, str], None],
) -> None:
    """Change the weather and hand in the calls, each at its time."""
    waiting = iter(calls)
    call = next(waiting, None)
    for phase in schedule:
        _sleep_until(start + phase.start)
        weather = phase.weather
        proxy.set(*weather.faults, delay=weather.delay, capacity=weather.capacity)
        show(phase.start, phase.name)
        while call is not None and (call.at < phase.end or phase is schedule[-1]):
            _sleep_until(start + call.at)
            workers.hand_in(call)
            show(call.at, phase.name)
            call = next(waiting, None)


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo as the command line says.

    Returns the exit code: 0, 2 for a missing package or a senseless option, 130 when interrupted.
    """
    options = _parser().parse_args(argv)
    lacking = missing()
    if lacking:
        print(
            f"the demo needs {', '.join(lacking)}; install: pip install 'resilience-client[demo]'",
            file=sys.stderr,
        )
        return 2
    duration = options.seconds
    if duration is None:
        duration = _FAST if options.fast else _FULL
    try:
        settings = Settings(duration=duration, rate=options.rate, seed=options.seed)
    except ValueError as error:
        print(f"resilience demo: {error}", file=sys.stderr)
        return 2
    guards = (bare(), resilient(settings.deadline, settings.workers))
    progress = Progress(len(guards) * (settings.duration + settings.deadline))
    try:
        runs = run_demo(settings, guards, progress)
    except KeyboardInterrupt:
        progress.clear()
        print("interrupted", file=sys.stderr)
        return 130
    schedule = phases(settings.duration, settings.rate)
    results = {run.name: figures(run, schedule, settings.deadline) for run in runs}
    print(_as_text(settings, runs, results, json=options.json))
    return 0


def _as_text(settings: Settings, runs: Sequence[Run], results: dict[str, Figures], *, json: bool) -> str:
    import boto3
    import moto

    versions = {"boto3": boto3.__version__, "moto": moto.__version__}
    if json:
        facts = {
            "seconds": settings.duration,
            "rate": settings.rate,
            "workers": settings.workers,
            "deadline": settings.deadline,
            "seed": settings.seed,
            "versions": versions,
            "botocore_retries": {run.name: run.retries for run in runs},
            "stuck_threads": {run.name: run.stuck for run in runs},
        }
        return as_json(results, facts)
    notes = [
        (
            f"Each run: {settings.duration:g} s, {settings.rate:g} calls a second wanted (DynamoDB, S3, SQS), "
            f"{settings.workers} threads, seed {settings.seed}."
        ),
        f"bare: boto3 {versions['boto3']} as it comes ({runs[0].retries}, 60 s read timeout).",
        "resilience: a Policy for each service, botocore's own retries off.",
        f"Once troubled, the server throttles beyond {CAPACITY * settings.rate:g} requests a second.",
        "Latency counts from when a call was meant to start; a failed call is never answered.",
        "Load amplification: requests that reached the server, for each call begun.",
        "By phase: calls answered in time | requests for each call wanted.",
        "Recovered: from then on 95 % of the calls of every second are answered in time.",
    ]
    if settings.duration < _FULL / 2:
        notes.append("So short a run is a smoke test: its figures vary, and hardly show recovery.")
    return as_table(results, settings.deadline, notes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="resilience demo",
        description="Call an AWS emulator through a brown-out, throttling and an outage: once "
        "with boto3 as it comes, once under resilience policies. All on this machine, in under "
        "a minute.",
    )
    parser.add_argument("--seed", type=int, default=1, help="of start times, calls and faults (default 1)")
    parser.add_argument("--seconds", type=float, help=f"length of each run (default {_FULL:g})")
    parser.add_argument("--rate", type=float, default=50.0, help="calls wanted a second (default 50)")
    parser.add_argument("--fast", action="store_true", help=f"a short look: {_FAST:g} s each run")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
