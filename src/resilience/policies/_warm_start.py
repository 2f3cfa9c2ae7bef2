"""What was learned, carried from one process to the next; or a beginning with what was measured elsewhere."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import _checks
from .._checks import to_ns
from ..errors import ConfigError

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Mapping

    from ..clock import Clock
    from ..machines.estimator import TimeoutEstimator

__all__ = ["WarmStart"]


class WarmStart:
    """The part of a learned timeout that begins with something known."""

    _estimator: TimeoutEstimator
    _lock: threading.Lock
    _now: Clock

    def _work_in(self, now: int) -> None:
        """Work in what was recorded; the lock is held."""
        raise NotImplementedError

    def _drop(self, now: int) -> None:
        """Drop what was recorded; the lock is held."""
        raise NotImplementedError

    def _publish(self, now: int) -> None:
        """Bring the timeout up to date; the lock is held."""
        raise NotImplementedError

    def seed(self, samples: Iterable[float]) -> None:
        """Begin with answers measured elsewhere, in seconds: the timeout goes where they lead, at once.

        Raises:
            ConfigError: a sample is out of range; then none counts.
            TypeError: a sample is no number; the same.
        """
        checked = [to_ns(_checks.seconds("samples", sample, zero=True)) for sample in samples]
        now = self._now.monotonic_ns()
        with self._lock:
            self._work_in(now)
            self._estimator.seed(checked, now)
            self._publish(now)

    def save(self) -> dict[str, Any]:
        """What was learned, as plain data that JSON can carry. The settings are not part of it."""
        now = self._now.monotonic_ns()
        with self._lock:
            self._work_in(now)
            return self._estimator.dump(now)

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what `save` returned, under the settings of this object. What was learned here is replaced.

        Its samples count as if they were seen as long ago as they were when it was saved, and are forgotten as new ones
        come.

        Raises:
            ConfigError: it is of another kind or version, or a value in it is missing or impossible; nothing changed.
            TypeError: a value has the wrong type; the same.
        """
        now = self._now.monotonic_ns()
        with self._lock:
            self._estimator.load(state, now)
            self._drop(now)
            self._publish(now)

    def save_file(self, path: str | os.PathLike[str]) -> None:
        """`save` to a file of JSON, which is replaced in one step: a reader finds the old one or the new one.

        Raises:
            OSError: it cannot be written.
        """
        _write(path, self.save())

    def load_file(self, path: str | os.PathLike[str], *, missing_ok: bool = False) -> bool:
        """`load` from a file that `save_file` wrote; whether there was one.

        Raises:
            FileNotFoundError: there is none, unless *missing_ok*.
            ConfigError, TypeError: it does not hold what was saved; nothing changed.
        """
        try:
            state = _read(path)
        except FileNotFoundError:
            if not missing_ok:
                raise
            return False
        self.load(state)
        return True


def _write(path: str | os.PathLike[str], state: Any) -> None:
    """Write *state*. A reader finds the old file or the new one, and after a crash there is one of the two.

    Raises:
        OSError: it cannot be written; then the old file is as it was.
    """
    target = Path(path)
    text = json.dumps(state)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(handle)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _read(path: str | os.PathLike[str]) -> Any:
    """What the file holds.

    Raises:
        FileNotFoundError: there is no such file.
        ConfigError: it does not hold JSON.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except ValueError as error:  # of the encoding, too
        raise ConfigError(f"{os.fspath(path)} must hold JSON: {error}") from error
