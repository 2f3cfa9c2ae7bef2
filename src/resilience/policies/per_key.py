"""One breaker, bulkhead, limiter or timeout for each key, so that one dead shard does not close the other nine."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

from .. import _checks
from .._part import Part
from ..clock import system
from ..errors import ConfigError
from ..events import brief
from ..machines.circuit import State
from .adaptive_token_bucket import AdaptiveTokenBucket
from .bulkhead import Bulkhead
from .circuit_breaker import CircuitBreaker
from .percentile_timeout import PercentileTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from .._runtime import Call

__all__ = ["PerKey"]

T = TypeVar("T", CircuitBreaker, Bulkhead, AdaptiveTokenBucket, PercentileTimeout)

_LOOK = 8  # how many of the least used are looked at for one that can go without loss


class PerKey(Part, Generic[T]):
    """A family of equal parts, one for each key that calls have.

    ``PerKey(CircuitBreaker(...), key=lambda shard, *args: shard)`` stands in a policy where a circuit breaker would.
    The part of one key is ``family[key]``. At most *max_keys* are kept: the least recently used goes first, and among
    these one that is at rest (a closed circuit, an empty bulkhead, an adaptive limiter that does not limit or whose
    bucket is full) before one that is not. A learned timeout forgets what it knew with that.

    For fixed rate limits by key use `KeyedTokenBucket`, which is far smaller.

    Args:
        template: what each key gets a copy of; itself it stays unused.
        key: a function of the call's arguments that returns the key.
        max_keys: how many keys are kept.

    Raises:
        ConfigError: an argument is out of range.

    Thread-safe.
    """

    no_block = "the key comes from a call's arguments; use `with {0}[key]: ...`"

    def __init__(self, template: T, *, key: Callable[..., Hashable], max_keys: int = 10_000) -> None:
        if not isinstance(template, (CircuitBreaker, Bulkhead, AdaptiveTokenBucket, PercentileTimeout)):
            hint = "; use KeyedTokenBucket" if getattr(template, "kind", "") == "limiter" else ""
            raise TypeError(
                "template must be a CircuitBreaker, a Bulkhead, an AdaptiveTokenBucket or a PercentileTimeout, "
                f"not {template!r}{hint}"
            )
        super().__init__(name=template.name, clock=template.clock)
        self.template: T = template
        self.kind = template.kind  # type: ignore[misc]
        self.key = _checks.function("key", key)
        self.max_keys = _checks.count("max_keys", max_keys)
        self.shadow = template.shadow
        self._parts: OrderedDict[Hashable, T] = OrderedDict()
        self._evicted = 0
        self._gone: dict[str, int | float] = {}
        self._spent = dict.fromkeys(State, 0.0)  # seconds that dropped circuits were in each state

    def __getitem__(self, key: Hashable) -> T:
        """The part of one key, made at its first use."""
        with self._lock:
            part = self._parts.get(key)
            if part is None:
                if len(self._parts) >= self.max_keys:
                    self._evict()
                part = self._parts[key] = self.template.replace()
                if isinstance(part, CircuitBreaker) and part.store is not None:
                    part.share(part.store, part.key or part.name, key)
                if self._now is not system:
                    part.adopt(self._now)
                if self.name is not None:
                    part.name = f"{self.name}[{brief(key)}]"
                elif self._known_as is not None:
                    part.called(f"{self._known_as}[{brief(key)}]")
            else:
                self._parts.move_to_end(key)
        return part

    @property
    def model(self) -> T:
        """What each key gets a copy of."""
        return self.template

    def of(self, call: Call | None) -> T:  # type: ignore[override]
        """The part responsible for this call."""
        if call is None:
            raise ConfigError("a block has no arguments to take the key from; use the part of a key: part[key]")
        return self[self.key(*call.args, **call.kwargs)]

    def _evict(self) -> None:
        self._evicted += 1
        oldest = [key for key, _ in zip(self._parts, range(_LOOK), strict=False)]
        for key in oldest:
            if _at_rest(self._parts[key]):
                break
        else:
            key = oldest[0]
        gone = self._parts.pop(key)
        for name, value in gone.counters.items():
            if name not in gone.levels:  # what was counted stays counted
                self._gone[name] = self._gone.get(name, 0) + value
        if isinstance(gone, CircuitBreaker):
            for state, seconds in gone.time_in().items():
                self._spent[state] += seconds

    def __len__(self) -> int:
        return len(self._parts)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Hashable]:
        with self._lock:
            return iter(list(self._parts))

    @property
    def counters(self) -> dict[str, int | float]:
        """The counters of all keys kept, added up, and how many keys there are and were dropped.

        Of what cannot be added up, such as the seconds of a timeout, it is the largest.
        """
        with self._lock:
            parts = list(self._parts.values())
            total: dict[str, int | float] = {**self._gone, "keys": len(parts), "evicted": self._evicted}
        for part in parts:
            for name, value in part.counters.items():
                known = total.get(name, 0)
                total[name] = max(known, value) if name in self.template.gauges else known + value
        return total


def _at_rest(part: CircuitBreaker | Bulkhead | AdaptiveTokenBucket | PercentileTimeout) -> bool:
    """Whether dropping it loses little."""
    if isinstance(part, CircuitBreaker):
        return part.state is State.CLOSED
    if isinstance(part, Bulkhead):
        return not part._gate.inside
    return isinstance(part, PercentileTimeout) or part.idle
