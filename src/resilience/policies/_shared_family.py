"""One shared bucket for each key: those that this process used last."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from ..stores import safe_key
from ..stores.forking import survive
from ._shared import SharedBucket

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from ..stores import Store
    from ._line import Limiter

__all__ = ["SharedFamily"]


class SharedFamily:
    """The shared buckets of a `KeyedTokenBucket`: those used last in this process. Thread-safe.

    Forgetting one loses only its lease, which expires; to be lenient with the busy, the least recently used goes.
    """

    def __init__(self, owner: Limiter, store: Store, name: str | None, max_keys: int) -> None:
        self._owner = owner
        self._store = store
        self._name = name
        self._max_keys = max_keys
        self._lock = threading.Lock()
        self._buckets: OrderedDict[Hashable, SharedBucket] = OrderedDict()
        self.evicted = 0
        survive(self)

    def forked(self) -> None:
        """See `resilience.stores.forking`."""
        self._lock = threading.Lock()

    def __getitem__(self, key: Hashable) -> SharedBucket:
        # By what the store calls it: 1 and True are one key of a dict, and two of the store.
        place = safe_key(self._name, key)
        with self._lock:
            bucket = self._buckets.get(place)
            if bucket is None:
                if len(self._buckets) >= self._max_keys:
                    self._buckets.popitem(last=False)
                    self.evicted += 1
                bucket = SharedBucket(self._owner, self._store, place, type(self._owner).__name__, f" (key {key!r})")
                self._buckets[place] = bucket
            else:
                self._buckets.move_to_end(place)
        return bucket

    def __len__(self) -> int:
        return len(self._buckets)

    def __iter__(self) -> Iterator[SharedBucket]:
        with self._lock:
            return iter(list(self._buckets.values()))
