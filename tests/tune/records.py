"""Records for the tests: written as files, made up, and encoded as HdrHistogram does."""

from __future__ import annotations

import base64
import random
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from resilience.tune.readers import Reading, ReadOptions, read
from resilience.tune.trace import Trace

DATA = Path(__file__).parent / "data"
MS = 1_000_000
S = 1_000_000_000


def silent(done: int, total: int | None) -> None:
    """No progress is shown."""


def load(path: Path, **options: object) -> tuple[Trace, Reading]:
    """Read a file."""
    trace = Trace()
    return trace, read(str(path), ReadOptions(**options), trace, silent)  # type: ignore[arg-type]


def samples(path: Path, **options: object) -> list[int]:
    """The samples of a file, without the times."""
    trace, _ = load(path, **options)
    with trace:
        return [sample for _, sample in trace]


def traced(latencies: Sequence[int], rate: float = 100.0) -> Trace:
    """A trace of evenly spaced calls."""
    trace = Trace()
    for number, latency in enumerate(latencies):
        trace.add(round(number * 1e9 / rate), latency)
    return trace


def reading(rate: float | None = None) -> Reading:
    """What is told of a record that was made up."""
    return Reading("made-up.csv", "CSV", "ms", "--unit", time_column="time", rate=rate)


# -- families of latencies, in ns ----------------------------------------------------------------------------------


def lognormal(n: int, seed: int = 1, median: float = 20e6, sigma: float = 1.0) -> list[int]:
    """The usual shape."""
    dice = random.Random(seed)
    return [round(median * dice.lognormvariate(0, sigma)) for _ in range(n)]


def tight(n: int, seed: int = 1) -> list[int]:
    """Hardly any spread."""
    return lognormal(n, seed, 45e6, 0.05)


def bimodal(n: int, seed: int = 1) -> list[int]:
    """One call in fifty takes twenty times as long."""
    dice = random.Random(seed)
    return [round(dice.lognormvariate(0, 0.3) * (400e6 if dice.random() < 0.02 else 20e6)) for _ in range(n)]


def pareto(n: int, seed: int = 1) -> list[int]:
    """A heavy tail."""
    dice = random.Random(seed)
    return [round(10e6 * dice.paretovariate(1.5)) for _ in range(n)]


def wandering(n: int, seed: int = 1) -> list[int]:
    """The level moves, as on the internet."""
    dice = random.Random(seed)
    level, found = 0.0, []
    for _ in range(n):
        level = 0.999 * level + dice.gauss(0, 0.04)
        found.append(round(100e6 * 2.718281828 ** (level + dice.gauss(0, 0.2))))
    return found


def slower(n: int, seed: int = 1) -> list[int]:
    """Twice as slow in the second half."""
    return lognormal(n // 2, seed, sigma=0.3) + lognormal(n - n // 2, seed + 1, 40e6, 0.3)


# -- HdrHistogram ----------------------------------------------------------------------------------------------------


def index_of(value: int, digits: int, lowest: int) -> int:
    """The place of a value in the array of counts: linear steps within each doubling."""
    unit = lowest.bit_length() - 1
    half_bits: int = max((2 * 10**digits - 1).bit_length(), 1) - 1
    doubling = max(0, (value >> unit).bit_length() - (half_bits + 1))
    step = value >> (doubling + unit)
    return ((doubling + 1) << half_bits) + step - (1 << half_bits)


def zigzag(value: int) -> bytes:
    """One number as ZigZag LEB128 of at most nine bytes."""
    word = (value << 1) ^ (value >> 63)
    word &= (1 << 64) - 1
    out = bytearray()
    while len(out) < 8 and word >= 0x80:
        out.append(word & 0x7F | 0x80)
        word >>= 7
    out.append(word)
    return bytes(out)


def encode(counts: Mapping[int, int], *, version: int, digits: int = 3, lowest: int = 1, width: int = 8) -> str:
    """A compressed histogram in base64, as a log holds it."""
    places: dict[int, int] = {}
    for value, count in counts.items():
        place = index_of(value, digits, lowest)
        places[place] = places.get(place, 0) + count
    size = max(places, default=-1) + 1
    if version == 1:
        kinds = {2: "h", 4: "i", 8: "q"}
        payload = struct.pack(f">{size}{kinds[width]}", *(places.get(n, 0) for n in range(size)))
        inner, outer = 0x1C849301 | width << 4, 0x1C849302 | width << 4
    else:
        out, zeros = bytearray(), 0
        for n in range(size):
            if n not in places:
                zeros += 1
                continue
            if zeros:
                out += zigzag(-zeros)
                zeros = 0
            out += zigzag(places[n])
        payload = bytes(out)
        inner, outer = 0x1C849313, 0x1C849314
    header = struct.pack(">iiiiqqd", inner, len(payload), 0, digits, lowest, 1 << 40, 1.0)
    packed = zlib.compress(header + payload)
    return base64.b64encode(struct.pack(">ii", outer, len(packed)) + packed).decode()


def log_line(start: float, length: float, payload: str, tag: str | None = None) -> str:
    """A line of a log."""
    head = "" if tag is None else f"Tag={tag},"
    return f"{head}{start:.3f},{length:.3f},0.000,{payload}\n"


def write_lines(path: Path, lines: Iterable[str]) -> Path:
    """A text file."""
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path
