"""One page for several processes that do the same, such as the workers of gunicorn.

A scrape reaches one of them, whichever is free. So each writes its numbers to a file of its own in one directory, about
once a second and when it is scraped; and whoever is scraped shows what is in all files, added up. Nothing of this is
on a call's way. ``prometheus_client`` has such a mode too, for its own metrics only; the directory may be the same.

- Counters and histograms add up exactly, also those of processes that have ended: `mark_process_dead` puts them into
  one file for all the dead, so files do not pile up. Levels of the dead count no longer.
- Levels become one as the metric table says: tokens are added up, of timeouts the longest counts.
- A process that is forked off begins with the counts at nothing, though it inherits the policies.

The files are JSON, replaced as a whole. This file knows files, processes and threads, and nothing of the text format.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from .. import _checks
from .._hooks import log
from .._registry import Registry, registry
from ..errors import ConfigError
from ._files import Folder
from ._readings import RULES, Reading, Taker, merged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..policy import Policy

__all__ = ["Workers", "mark_process_dead", "start", "stop"]

_SHARE = 50
"""Writing takes at most about one part in so many of a process's time."""

_writers: dict[Path, _Writer] = {}
_starting = threading.RLock()


class Workers:
    """The policies of all processes that write to a directory, for a `prometheus.Collector`.

    Args:
        directory: where they write; by default what the environment's ``PROMETHEUS_MULTIPROC_DIR`` says. Made if there
            is none. It should be empty when the first process begins.

    Raises:
        ConfigError: neither says where.
        OSError: the directory cannot be made.

    Thread-safe.
    """

    gives_readings = True

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        self.directory = _where(directory)
        self._folder = Folder(self.directory)

    def __iter__(self) -> Iterator[tuple[str, Reading]]:
        """By policy, what all processes together have; this one's as of now."""
        writer = _writers.get(self.directory)
        if writer is not None:
            writer.write()
        return iter(sorted(merged(self._folder.read()).items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Workers) and other.directory == self.directory

    def __hash__(self) -> int:
        return hash(self.directory)

    def __repr__(self) -> str:
        return f"Workers({str(self.directory)!r})"


def start(
    policies: Registry = registry, *, directory: str | os.PathLike[str] | None = None, every: float = 1.0
) -> Workers:
    """Have this process, and all that it forks off, write its policies' numbers; returns those of all processes.

    One daemon thread does it, and the process once more when it ends. Killed outright, it loses what it counted since
    the last time. A second call for the same directory changes nothing.

    Args:
        policies: whose numbers.
        directory: as of `Workers`.
        every: seconds between two times; more if writing took more than a fiftieth of that.

    Raises:
        ConfigError: *every* is out of range, no directory is given, or other policies are written there already.
        OSError: the directory cannot be made.

    Thread-safe.
    """
    if not isinstance(policies, Registry):
        raise TypeError(f"policies must be a Registry, not {policies!r}")
    every = _checks.seconds("every", every)
    workers = Workers(directory)
    with _starting:
        known = _writers.get(workers.directory)
        if known is None:
            _writers[workers.directory] = _Writer(workers.directory, policies, every)
        elif known.policies is not policies:
            raise ConfigError(
                f"policies must be those that are written to {workers.directory} already, not {policies!r}"
            )
    return workers


def stop(directory: str | os.PathLike[str] | None = None) -> None:
    """Write once more, and then no longer; no error if nothing is being written there. Thread-safe."""
    with _starting:
        writer = _writers.pop(_where(directory), None)
    if writer is not None:
        writer.stop()


def mark_process_dead(pid: int, directory: str | os.PathLike[str] | None = None) -> None:
    """A process has ended: keep what it counted, and forget its levels. Call it in gunicorn's ``child_exit``.

    No error if it wrote nothing, or was marked before. Safe to be called in several processes at once.

    Raises:
        ConfigError: no directory is given.
        OSError: the directory cannot be written to.
    """
    Folder(_where(directory)).bury(_checks.count("pid", pid))


def _where(directory: str | os.PathLike[str] | None) -> Path:
    found = os.environ.get("PROMETHEUS_MULTIPROC_DIR") if directory is None else directory
    if not found:
        raise ConfigError("directory must be given, or PROMETHEUS_MULTIPROC_DIR be set in the environment")
    path = Path(found).absolute()
    path.mkdir(parents=True, exist_ok=True)
    return path


class _Writer:
    """Writes this process's numbers. Thread-safe."""

    def __init__(self, directory: Path, policies: Registry, every: float) -> None:
        self.policies = policies
        self._folder = Folder(directory)
        self._taker = Taker(policies)
        self._every = every
        self._lock = threading.Lock()
        self._before: WeakKeyDictionary[Policy, Reading] = WeakKeyDictionary()
        self._inherited: dict[Policy, Reading] = {}
        self._failing = False
        self._begin()

    def _begin(self) -> None:
        self._name = self._folder.new_name()
        self._go_on()

    def _go_on(self) -> None:
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="resilience-multiprocess", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        pause = self._every
        while not self._stopped.wait(pause):
            began = time.monotonic()
            self.write()
            pause = max(self._every, _SHARE * (time.monotonic() - began))

    def write(self) -> None:
        """Write what is counted now. If that cannot be, it is logged once, until it can."""
        with self._lock:
            try:
                self._folder.write(self._name, {p.name or "": self._own(p, r) for p, r in self._taker.each()})
                self._failing = False
            except Exception:
                if not self._failing:
                    self._failing = True
                    log.exception("the numbers of this process cannot be written to %s", self._folder.directory)

    def stop(self) -> None:
        """Write the last time."""
        self._pause()
        self.write()

    def _pause(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _own(self, policy: Policy, reading: Reading) -> Reading:
        """What was counted in this process."""
        before = self._before.get(policy)
        return reading if before is None else since(before, reading)

    # -- when the process is forked ------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Just before: no thread is here, nobody is writing, and what was counted up to now is the parent's."""
        self._pause()
        self._lock.acquire()
        self._inherited = dict(self._taker.each())

    def release(self) -> None:
        """Just after, in the parent."""
        self._inherited = {}
        self._lock.release()
        self._go_on()

    def begin_anew(self) -> None:
        """Just after, in the child."""
        self._before = WeakKeyDictionary(self._inherited)
        self._lock = threading.Lock()
        self._begin()


def since(before: Reading, now: Reading) -> Reading:
    """What was counted after *before*; levels are those of *now*."""
    numbers = {
        part: {
            key: value - before.numbers.get(part, {}).get(key, 0) if _counts(part, key) else value
            for key, value in found.items()
        }
        for part, found in now.numbers.items()
    }
    return Reading(numbers, now.good.since(before.good), now.bad.since(before.bad))


def _counts(part: str, key: str) -> bool:
    metric = RULES.get((part, key))
    return metric is not None and metric.kind == "counter"


def _before_fork() -> None:
    _starting.acquire()
    for writer in _writers.values():
        writer.hold()


def _after_fork(*, child: bool) -> None:
    for writer in _writers.values():
        if child:
            writer.begin_anew()
        else:
            writer.release()
    _starting.release()


def _at_exit() -> None:
    for writer in list(_writers.values()):
        writer.write()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=lambda: _after_fork(child=False),
        after_in_child=lambda: _after_fork(child=True),
    )
