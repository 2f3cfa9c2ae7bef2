"""What happened last: a listener with a short memory, in words.

Events come by the thousand when a dependency is down. So of one policy, one kind of event is written down once a second
and counted in between, and changes of state have a place of their own, where nothing else pushes them out. The events
themselves are not kept: their errors hold on to the frames they were raised in.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .._listen import listen
from ..events import BudgetBurning, CircuitChanged, StoreDegraded, StoreRecovered

if TYPE_CHECKING:
    from ..events import Event

__all__ = ["Recent"]

_ROOM = 200
_RARE = (CircuitChanged, BudgetBurning, StoreDegraded, StoreRecovered)
_JOINED = 1.0
_LONGEST = 300


@dataclass(slots=True)
class _Entry:
    """Events of one kind and policy within a second; the words are those of the first."""

    number: int
    time: float
    kind: str
    policy: str
    text: str
    count: int = 1


_Key = tuple[str, "type[Event]"]


class Recent:
    """Listens from now on until `stop`. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rare: deque[_Entry] = deque(maxlen=_ROOM // 2)
        self._usual: deque[tuple[_Key, _Entry]] = deque()
        self._last: dict[_Key, _Entry] = {}
        self._number = 0
        self._listening = listen(self._hear)

    def _hear(self, event: Event) -> None:
        now = time.time()
        key = (event.policy, type(event))
        with self._lock:
            last = self._last.get(key)
            if last is not None and 0 <= now - last.time < _JOINED:
                last.count += 1
                return
        text = str(event)[:_LONGEST]  # outside the lock: an error's words are the user's code
        with self._lock:
            self._number += 1
            entry = _Entry(self._number, now, event.kind, event.policy, text)
            if isinstance(event, _RARE):
                self._rare.append(entry)
                return
            self._last[key] = entry
            self._usual.append((key, entry))
            if len(self._usual) > _ROOM:
                oldest, old = self._usual.popleft()
                if self._last.get(oldest) is old:
                    del self._last[oldest]

    def entries(self) -> list[dict[str, Any]]:
        """What is remembered, in the order it happened."""
        with self._lock:
            found = [*self._rare, *(entry for _, entry in self._usual)]
            return [asdict(entry) for entry in sorted(found, key=lambda entry: entry.number)]

    def stop(self) -> None:
        """Listen no longer; what is remembered stays."""
        self._listening.stop()
