"""Readings in files, one for each process, and one for all that have ended.

A file is replaced as a whole, so a reader sees the old one or the new one. When the counts of a process that has ended
are moved, a reader must see them once: so that is done under a lock of the directory, and the file of the dead names
those whose counts it has, in case the move ends half-way.

This file knows names and JSON. It refuses to know who writes when, and what the numbers mean beyond the metric table.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from typing import TYPE_CHECKING, Any

from .._hooks import log
from ..machines.distribution import EDGES, Distribution
from ._readings import RULES, Reading, merged

try:
    import fcntl
except ImportError:  # where there is no fork() either
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

__all__ = ["Folder"]

_WHAT = "resilience numbers"
_VERSION = 1
_DEAD = "resilience-dead.json"
_LIVING = re.compile(r"resilience-(\d+)-[0-9a-f]+\.(json|tmp)")

Readings = dict[str, Reading]


class Folder:
    """The files of one directory.

    A file that cannot be made sense of is skipped; that is logged once. Thread-safe, and safe between processes.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._told: set[str] = set()

    @staticmethod
    def new_name() -> str:
        """A file name for this process, that no other one has or had."""
        return f"resilience-{os.getpid()}-{secrets.token_hex(4)}.json"

    def write(self, name: str, readings: Mapping[str, Reading], absorbed: Iterable[str] = ()) -> None:
        """Put these readings in the place of those that the file *name* has.

        Raises:
            OSError: it cannot be written.
        """
        data = {
            "what": _WHAT,
            "version": _VERSION,
            "absorbed": list(absorbed),
            "policies": {policy: _plain(reading) for policy, reading in readings.items()},
        }
        draft = self.directory / f"{name.removesuffix('.json')}.tmp"
        try:
            draft.write_text(json.dumps(data, separators=(",", ":")))
            draft.replace(self.directory / name)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise

    def read(self) -> list[tuple[str, Reading]]:
        """By policy, what is in all files."""
        try:
            with self._locked(exclusive=False):
                texts = {name: self._text(name) for name in (_DEAD, *self._living())}
        except OSError as error:
            self._tell("", error)
            return []
        found, absorbed = self._parsed(_DEAD, texts.pop(_DEAD))
        readings = list(found.items())
        for name, text in texts.items():
            if name not in absorbed:
                readings += self._parsed(name, text)[0].items()
        self._told &= {*texts, _DEAD}
        return readings

    def bury(self, pid: int) -> None:
        """Move what a process has counted to the file of the dead.

        Raises:
            OSError: the directory cannot be written to.
        """
        with self._locked(exclusive=True):
            files = self._living(pid)
            if files:
                kept, absorbed = self._parsed(_DEAD, self._text(_DEAD))
                sources = [kept] + [self._parsed(name, self._text(name))[0] for name in files if name not in absorbed]
                total = merged(pair for source in sources for pair in source.items())
                gone = {*files, *absorbed}.intersection(self._living())
                self.write(_DEAD, {name: _counted(reading) for name, reading in total.items()}, sorted(gone))
            for path in self.directory.iterdir():
                match = _LIVING.fullmatch(path.name)
                if match and int(match[1]) == pid:
                    path.unlink(missing_ok=True)

    def _living(self, pid: int | None = None) -> list[str]:
        """The names of the files of all processes, or of one."""
        matches = [_LIVING.fullmatch(path.name) for path in self.directory.iterdir()]
        return sorted(m[0] for m in matches if m and m[2] == "json" and (pid is None or int(m[1]) == pid))

    def _text(self, name: str) -> str | None:
        try:
            return (self.directory / name).read_text()
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            return f"{type(error).__name__}"  # no JSON, so it will be told

    def _parsed(self, name: str, text: str | None) -> tuple[Readings, list[str]]:
        """What a file says, and which other files it has the counts of."""
        if text is None:
            return {}, []
        try:
            data = json.loads(text)
            if (data["what"], data["version"]) != (_WHAT, _VERSION):
                raise ValueError(f"{data['what']!r}, version {data['version']!r}")
            return {policy: _reading(plain) for policy, plain in data["policies"].items()}, list(data["absorbed"])
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
            self._tell(name, error)
            return {}, []

    def _tell(self, name: str, error: Exception) -> None:
        if name not in self._told:
            self._told.add(name)
            log.error("%s cannot be read, and is left out: %r", self.directory / name, error)

    @contextlib.contextmanager
    def _locked(self, *, exclusive: bool) -> Iterator[None]:
        if fcntl is None:
            yield
            return
        with (self.directory / "resilience.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
            yield


def _plain(reading: Reading) -> dict[str, Any]:
    """The numbers that are in a metric, and the durations, as JSON can carry them."""
    numbers = {
        part: {key: value for key, value in found.items() if (part, key) in RULES}
        for part, found in reading.numbers.items()
    }
    return {
        "numbers": {part: found for part, found in numbers.items() if found},
        "good": _counts(reading.good),
        "bad": _counts(reading.bad),
    }


def _counts(distribution: Distribution) -> list[Any]:
    return [distribution.sum, *distribution.counts.items()]


def _reading(plain: Mapping[str, Any]) -> Reading:
    """What `_plain` made that of.

    Raises:
        LookupError, TypeError, ValueError: nothing that it could have made.
    """
    numbers = {part: {key: _number(value) for key, value in found.items()} for part, found in plain["numbers"].items()}
    return Reading(numbers, _distribution(plain["good"]), _distribution(plain["bad"]))


def _number(value: Any) -> int | float:
    if type(value) not in (int, float):
        raise TypeError(f"{value!r} is no number")
    number: int | float = value
    return number


def _distribution(counts: list[Any]) -> Distribution:
    found = Distribution()
    total, *pairs = counts
    for bucket, n in pairs:
        if type(bucket) is not int or type(n) is not int or not 0 <= bucket <= len(EDGES) or n < 1:
            raise ValueError(f"{bucket!r}: {n!r} is no count of a bucket")
        found.counts[bucket] = n
        found.count += n
    if type(total) is not int or total < 0:
        raise ValueError(f"{total!r} is no sum of durations")
    found.sum = total
    return found


def _counted(reading: Reading) -> Reading:
    """Without its levels."""
    numbers = {
        part: {key: value for key, value in found.items() if RULES[part, key].kind == "counter"}
        for part, found in reading.numbers.items()
    }
    return Reading({part: found for part, found in numbers.items() if found}, reading.good, reading.bad)
