"""How well a timeout that learns keeps the share of good calls it may cut off: tables in Markdown, from virtual time.

    python benchmarks/accuracy.py [--quick]

Steady traffic, made up and recorded, at targets of 5 %, 1 % and 0.1 %; and changes. Seeds are fixed, so the same
version prints the same tables. Neither packages nor a network are needed.
"""

from __future__ import annotations

import argparse
import random
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regimes import SECOND, World, make
from resilience.tune.progress import Progress
from rules import AtLimit, LogDevice, Rto, SuccessOnly
from traffic import KINDS, NEVER, Kind, Pool, columns, lognormal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from regimes import Learns, Seen

TARGETS = (0.95, 0.99, 0.999)
WARM = 300.0
"""Seconds that are not counted."""

EXACT: dict[str, Any] = {"pad_rel": 1.0, "pad_abs": 0}
"""No padding: it aims at the target itself."""


@dataclass(frozen=True)
class Way:
    """A way to choose the timeout."""

    make: Callable[[float], Learns]
    linger: int = 2

    def world(self, p: float, rate: float = 100.0) -> World[Learns]:
        return World(self.make(p), linger=self.linger, rate=rate)


WAYS: dict[str, Way] = {
    "learned": Way(make),
    "learned, no padding": Way(lambda p: make(p, **EXACT)),
    "success-only": Way(SuccessOnly, 0),
    "at-limit": Way(AtLimit, 0),
    "TCP's RTO": Way(Rto, 0),
    "LogDevice's": Way(LogDevice, LogDevice.linger),
}


# -- steady traffic ----------------------------------------------------------------------------------------------------


@dataclass
class Steady:
    """How a timeout did: false timeouts as a multiple of what was accepted, and its size as one of the quantile."""

    rate: float
    wide: float
    calls: int

    def __str__(self) -> str:
        return f"{self.rate:.2f} ({self.wide:.1f})" if self.wide < 100 else f"{self.rate:.2f} (> 99)"


def steady(world: World[Any], latency: Callable[[float], float], kind: Kind, p: float, seconds: float) -> Steady:
    """Play steady traffic, warm up first."""
    world.run(WARM, latency)
    quantile = kind.quantile(p)
    calls = false = steps = 0
    wide = 0.0
    while steps * 10 < seconds:
        middle = world.now + 5
        seen = world.run(10, latency)
        calls, false, steps = calls + seen.calls, false + seen.false, steps + 1
        wide += seen.mean / (quantile * kind.drift(middle))
    return Steady(false / calls / (1 - p), wide / steps, calls)


def recorded() -> dict[str, list[float]]:
    """What was recorded, in ascending order, in seconds."""
    return {
        "EC2 service": sorted(value / 1000 for value in columns("tune/data/ec2-request-latency.csv")[0]),
        "internet paths": sorted(v for path in columns("data/seattle-rtt-10-paths.csv") for v in path if v),
    }


def steady_row(kind: Kind, p: float, seconds: float, seed: int = 12) -> Iterator[Steady]:
    """One kind of traffic in every way."""
    for way in WAYS.values():
        yield steady(way.world(p), kind.make(seed), kind, p, seconds)


def paths(way: Way, p: float) -> float:
    """Internet paths as recorded, in order, one call a second, the first 100 not counted: a multiple of the target."""
    calls = false = 0
    for path in columns("data/seattle-rtt-10-paths.csv") + columns("tune/data/seattle-rtt.csv"):
        record = iter([value or NEVER for value in path])
        world = way.world(p, rate=1.0)
        world.run(100, lambda _: next(record))  # noqa: B023 - used at once
        seen = world.run(len(path) - 100, lambda _: next(record))  # noqa: B023 - used at once
        calls, false = calls + seen.calls - seen.hung, false + seen.false
    return false / calls / (1 - p)


# -- changes -----------------------------------------------------------------------------------------------------------

SERVICES = {"tight": (0.05, 0.05), "log-normal": (0.02, 1.0)}
"""Median in seconds, and the spread of the logarithm."""


def seconds_of(world: World[Any], latency: Callable[[float], float], seconds: int) -> list[tuple[Seen, int]]:
    """What came of the calls of each second, and the timeout after it."""
    return [(world.run(1, latency), world.estimator.ns) for _ in range(seconds)]


def reaction(seen: list[tuple[Seen, int]], p: float) -> int | None:
    """After how many seconds, for ten seconds on end, no more than twice the accepted share was cut off."""
    for start in range(len(seen) - 10):
        part = [one for one, _ in seen[start : start + 10]]
        if sum(one.false for one in part) <= 2 * (1 - p) * sum(one.calls for one in part):
            return start
    return None


def settling(timeouts: list[int], steady_from: int) -> int:
    """After how many seconds it stayed within 1.3 times of what it was in the end, at most, from *steady_from* on."""
    most = 1.3 * max(timeouts[steady_from:])
    return max((second + 1 for second, ns in enumerate(timeouts) if ns > most), default=0)


def changes(way: Way, name: str, p: float = 0.99, seed: int = 1) -> dict[str, str]:
    """Each change, for a service that had been called for two minutes."""
    median, sigma = SERVICES[name]

    def begin() -> tuple[World[Learns], int, Callable[[float], float]]:
        world, usual = way.world(p), lognormal(seed, median, sigma)
        world.run(120, usual)
        return world, world.estimator.ns, usual

    found = {}
    for factor in (1.3, 3.0, 10.0):
        world, before, usual = begin()
        slow = seconds_of(world, lognormal(seed + 1, factor * median, sigma), 180)
        back = seconds_of(world, usual, 240)
        false = sum(one.false for one, _ in slow[:60])
        reacted = reaction(slow, p)
        most = max(one.longest for one, _ in slow) / before / factor
        found[f"x{factor:g} and back: false in a minute, reacts, settles, longest"] = (
            f"{false}, {'never' if reacted is None else f'{reacted} s'}, "
            f"{'-' if reacted is None else f'{settling([ns for _, ns in back], 140)} s'}, {most:.1f}"
        )
    world, before, usual = begin()
    hung = world.run(60, lambda _: NEVER)
    after = world.run(60, usual)
    found["hang of 60 s: longest, blocked, false in the minute after"] = (
        f"{max(hung.longest, after.longest) / before:.1f}, {hung.blocked / SECOND:.0f} s, {after.false}"
    )
    world, before, usual = begin()
    rng = random.Random(seed)
    world.run(120, lambda at: NEVER if rng.random() < 0.05 else usual(at))
    seen = world.run(300, lambda at: NEVER if rng.random() < 0.05 else usual(at))
    found["5 % hang for ever: rate, mean, longest"] = (
        f"{seen.rate / (1 - p):.2f}, {seen.mean * SECOND / before:.1f}, {seen.longest / before:.1f}"
    )
    world, before, usual = begin()
    seen = world.run(300, lambda at: -1.0 if rng.random() < 0.5 else usual(at))
    found["half fail at once: rate, mean"] = f"{seen.rate / (1 - p):.2f}, {seen.mean * SECOND / before:.1f}"
    world, _, _ = begin()
    quick = seconds_of(world, lognormal(seed + 2, median / 2, sigma), 240)
    found["twice as fast: settles"] = f"{settling([ns for _, ns in quick], 140)} s"
    return found


# -- the report --------------------------------------------------------------------------------------------------------


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def report(seconds: float, day: float, services: list[str]) -> Iterator[str]:
    """The tables, one by one."""
    kinds: dict[str, Kind] = {**KINDS, **{name: Pool(pool) for name, pool in recorded().items()}}
    done, total = 0, len(TARGETS) * len(kinds) + len(services) * len(WAYS)
    progress = Progress()
    for p in TARGETS:
        rows = []
        for name, kind in kinds.items():
            row = []
            for one in steady_row(kind, p, day if name == "diurnal drift" else seconds):
                row.append(str(one))
                progress.show(f"{1 - p:.1%}: {name}", done + len(row) / len(WAYS), total)
            rows.append([name, *row])
            done += 1
        if p == 0.95:
            rows.append(["internet paths, one by one", *(f"{paths(way, p):.2f}" for way in WAYS.values())])
        progress.clear()
        yield f"### {100 * (1 - p):.2g} % may be cut off\n\n" + table(["traffic", *WAYS], rows)
    for name in services:
        found = {}
        for label, way in WAYS.items():
            found[label] = changes(way, name)
            done += 1
            progress.show(f"changes: {name}", done, total)
        progress.clear()
        rows = [[what, *(found[label][what] for label in WAYS)] for what in found["learned"]]
        yield f"### Changes: {name}, 1 % may be cut off\n\n" + table(["change", *WAYS], rows)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="How well learned timeouts keep what they promise.")
    parser.add_argument("--quick", action="store_true", help="less traffic, one service: rougher figures")
    quick = parser.parse_args(arguments).quick
    for part in report(200, 200, ["tight"]) if quick else report(1200, 3600, list(SERVICES)):
        print(part, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
