"""Made-up traffic, and recorded latencies: what a call takes, in seconds, as a function of when it begins.

Each kind is made from a seed, and knows its true quantile at every moment, so that a timeout can be compared with it.
"""

from __future__ import annotations

import csv
import math
import random
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

NEVER = math.inf
DAY = 3600.0
"""A day is played in an hour: its drift is 24 times as quick as a real one, which is harder."""

ROOT = Path(__file__).resolve().parents[1]


def lognormal(seed: int, median: float, sigma: float) -> Callable[[float], float]:
    """The usual shape: half of the calls take up to *median*; *sigma* is the spread of the logarithm."""
    rng = random.Random(seed)
    mu = math.log(median)
    return lambda _: rng.lognormvariate(mu, sigma)


def bimodal(seed: int) -> Callable[[float], float]:
    """One call in fifty takes twenty times as long: a cache that misses."""
    rng = random.Random(seed)
    fast, slow = math.log(0.02), math.log(0.4)
    return lambda _: rng.lognormvariate(slow if rng.random() < 0.02 else fast, 0.3)


def pareto(seed: int) -> Callable[[float], float]:
    """A tail so heavy that it has no variance."""
    rng = random.Random(seed)
    return lambda _: 0.01 * rng.paretovariate(1.5)


def internet(seed: int) -> Callable[[float], float]:
    """Autocorrelated: the logarithm of the level wanders, and returns after some 200 calls."""
    rng, level = random.Random(seed), [0.0]

    def latency(_: float) -> float:
        level[0] = 0.995 * level[0] + rng.gauss(0.0, 0.05)
        return 0.05 * math.exp(level[0] + rng.gauss(0.0, 0.3))

    return latency


def diurnal(seed: int) -> Callable[[float], float]:
    """At noon three times as slow as at midnight."""
    rng = random.Random(seed)
    return lambda at: rng.lognormvariate(math.log(0.02) + _hour(at), 0.5)


def _hour(at: float) -> float:
    return 0.5 * math.log(3.0) * math.sin(2 * math.pi * at / DAY)


class Kind:
    """A kind of steady traffic.

    Args:
        make: makes it from a seed.
        quantile: its true quantile where the drift is 1, in seconds.
        drift: a factor on that, by time.
    """

    def __init__(
        self,
        make: Callable[[int], Callable[[float], float]],
        quantile: Callable[[float], float],
        drift: Callable[[float], float] = lambda _: 1.0,
    ) -> None:
        self.make = make
        self.quantile = quantile
        self.drift = drift


class Pool(Kind):
    """Drawn from a record, without its order; *pool* is in ascending order."""

    def __init__(self, pool: list[float]) -> None:
        def make(seed: int) -> Callable[[float], float]:
            rng = random.Random(seed)
            return lambda _: rng.choice(pool)

        super().__init__(make, lambda p: pool[min(len(pool) - 1, int(p * len(pool)))])


def _normal(z: float) -> float:
    return (1 + math.erf(z / math.sqrt(2))) / 2


def _inverse(of: Callable[[float], float], p: float) -> float:
    low, high = -9.0, 9.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if of(middle) < p else (low, middle)
    return high


def _two_modes(log: float) -> float:
    return 0.98 * _normal((log - math.log(0.02)) / 0.3) + 0.02 * _normal((log - math.log(0.4)) / 0.3)


def _log_quantile(median: float, sigma: float) -> Callable[[float], float]:
    return lambda p: median * math.exp(sigma * _inverse(_normal, p))


KINDS: dict[str, Kind] = {
    "log-normal": Kind(lambda seed: lognormal(seed, 0.02, 1.0), _log_quantile(0.02, 1.0)),
    "tight": Kind(lambda seed: lognormal(seed, 0.05, 0.05), _log_quantile(0.05, 0.05)),
    "bimodal": Kind(bimodal, lambda p: math.exp(_inverse(_two_modes, p))),
    "Pareto": Kind(pareto, lambda p: 0.01 * (1 - p) ** (-1 / 1.5)),
    # The variance of an autoregression, and that of each call.
    "autocorrelated": Kind(internet, _log_quantile(0.05, math.sqrt(0.05**2 / (1 - 0.995**2) + 0.3**2))),
    "diurnal drift": Kind(diurnal, _log_quantile(0.02, 0.5), lambda at: math.exp(_hour(at))),
}


def columns(path: str) -> list[list[float]]:
    """The columns of a recorded file under tests/, after the first one, in its unit."""
    with (ROOT / "tests" / path).open(encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    return [[float(row[i]) for row in rows] for i in range(1, len(rows[0]))]
