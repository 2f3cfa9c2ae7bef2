"""The one verb of a store: an atomic, named transition of a few integers.

Nothing is ever read, decided here and written back: what is decided is decided in the store, at its own time. A
transition exists twice, as a pure Python function (the specification; memory and DynamoDB run it) and as its twin in
Lua (Redis runs it); tests hold the two equal. This file knows neither engines nor policies.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from .. import _checks
from ..clock import system
from ..errors import ConfigError
from .guard import Guard, StoreUnavailable
from .keys import SAFE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

__all__ = ["LARGEST", "Entry", "Numbers", "Store", "StoreUnavailable", "Transition"]

LARGEST = 2**53 - 1
"""No number of a state, an argument or a reply may be larger (or below its negative): Lua reckons in doubles."""

Numbers: TypeAlias = tuple[int, ...]


class Entry(NamedTuple):
    """What a store holds under one key, for operators.

    Attributes:
        key: as it was given to ``exchange``.
        name, version: of the transition.
        state: its numbers.
    """

    key: str
    name: str
    version: int
    state: Numbers


@dataclass(frozen=True, slots=True)
class Transition:
    """An atomic step of a small state of integers.

    Attributes:
        name: lower-case letters; part of the stored key, and the name of the twin, ``lua/<name>.lua``.
        version: of the state's meaning; part of the stored key too, so that two releases do not misread each other.
        step: ``step(state, now, arguments) -> (state, ttl_ms, reply)``, pure. *now* is the store's time in
            microseconds since 1970. ``()`` is the state of a key never seen, and as a result forgets the key;
            ``None`` as a result leaves state and expiry as they are. The twin is a Lua function of the same shape,
            ``local function step(state, now, arguments)``, on arrays; ``nil`` stands for ``None``.
        source: the name of the twin, where that is that of another transition too.
    """

    name: str
    version: int
    step: Callable[[Numbers, int, Numbers], tuple[Numbers | None, int, Numbers]]
    source: str = ""

    def twin(self) -> str:
        """The Lua source of the step."""
        return lua(self.source or self.name)


def lua(name: str) -> str:
    """A file of ``stores/lua``."""
    from importlib.resources import files

    return files(__package__).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")


class Store(ABC):
    """What keeps shared state; a subclass brings one engine, this class the timeout's bookkeeping and the breaker.

    Args:
        name: what events and errors call it.
        timeout: seconds that one exchange may take.

    Thread-safe, safe under asyncio, and safe to use on both sides of a fork.
    """

    def __init__(self, *, name: str, timeout: float) -> None:
        self.name = _checks.text("name", name)
        self.timeout = _checks.seconds("timeout", timeout)
        self._guard = Guard(self.name, system)

    def exchange(self, key: str, transition: Transition, arguments: Numbers) -> Numbers:
        """Do one step and return its reply; blocks for at most the timeout.

        Raises:
            StoreUnavailable: the store did not answer in time, or not well; or it did not lately, and was not asked.
                Whether the step was made is then unknown.
        """
        check_key(key)
        permit = self._guard.admit()
        try:
            reply = self._exchange(key, transition, arguments)
        except Exception as error:
            raise self._guard.failed(permit, error) from error
        except BaseException:
            self._guard.ignored(permit)
            raise
        self._guard.went_well(permit)
        return reply

    async def aexchange(self, key: str, transition: Transition, arguments: Numbers) -> Numbers:
        """`exchange` without blocking the event loop."""
        import asyncio

        check_key(key)
        permit = self._guard.admit()
        try:
            async with asyncio.timeout(self.timeout):
                reply = await self._aexchange(key, transition, arguments)
        except Exception as error:
            raise self._guard.failed(permit, error) from error
        except BaseException:
            self._guard.ignored(permit)
            raise
        self._guard.went_well(permit)
        return reply

    @property
    def degraded(self) -> bool:
        """Whether the store is taken to be down, and asked only now and then."""
        return self._guard.degraded

    @abstractmethod
    def _exchange(self, key: str, transition: Transition, arguments: Numbers) -> Numbers: ...

    @abstractmethod
    async def _aexchange(self, key: str, transition: Transition, arguments: Numbers) -> Numbers: ...

    @abstractmethod
    def survey(self) -> Iterator[Entry]:
        """All that is stored under this store's prefix, for an operator: not atomic, not quick, outside the guard."""

    def close(self) -> None:  # noqa: B027 - a store without connections has nothing to close
        """Close connections. The store may be used again, and opens new ones then."""

    async def aclose(self) -> None:
        """Close the connections of the running event loop, and then all of `close`."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def check_key(key: str) -> None:
    """Refuse what `keys.safe_key` would not make."""
    if not SAFE.fullmatch(key):
        raise ConfigError(f"key must be as safe_key() makes it, not {key!r}")
