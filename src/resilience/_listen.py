"""Who is told what happens.

One table for the process, from each class of event to those that listen for it. A place that makes events looks itself
up in the table first (one look in a dictionary, and only off the happy path), so nothing is built for nobody:
``if Retrying in LISTENERS: tell(Retrying(...))``. Never while a lock is held, for a listener may call back.
"""

from __future__ import annotations

import inspect
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from ._hooks import log
from .events import KINDS, Event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

__all__ = ["LISTENERS", "WATCHERS", "Listening", "Watcher", "listen", "tell", "watched"]

E = TypeVar("E", bound=Event)

LISTENERS: dict[type[Event], tuple[Listening, ...]] = {}
"""By class of event, those who listen for it; a class nobody listens for is not in it. Values are never changed."""

WATCHERS: list[Watcher] = []
"""Those who want to be around each attempt."""

_lock = threading.Lock()
_busy = threading.local()


class Watcher(Protocol):
    """Somebody who wants to be around each attempt, such as to make it a span of a trace."""

    def begin(self, policy: str, attempt: int) -> Any:
        """An attempt of this number begins here and now."""

    def end(self, begun: Any, error: BaseException | None) -> None:
        """The attempt for which ``begin`` returned *begun* has ended, in the same context."""


class Listening:
    """One listener at work, until ``stop()`` or the end of its ``with`` block. Thread-safe.

    Attributes:
        failures: how often the listener raised; only the first time is logged.
    """

    __slots__ = ("_hear", "_policies", "failures", "kinds")

    def __init__(self, hear: Callable[[Any], object], kinds: frozenset[type[Event]], policies: frozenset[str]) -> None:
        self._hear = hear
        self._policies = policies
        self.kinds = kinds
        self.failures = 0

    def tell(self, event: Event) -> None:
        """Pass the event on. What the listener raises goes no further."""
        names, name = self._policies, event.policy
        if names and name not in names and name.partition("[")[0] not in names:  # the part of one key: name[key]
            return
        try:
            self._hear(event)
        except Exception:
            self.failures += 1
            if self.failures == 1:
                log.exception("the listener %r failed on %r; the call goes on", self._hear, event)

    def stop(self) -> None:
        """Listen no longer; no error if it has stopped before."""
        with _lock:
            for kind in self.kinds:
                rest = tuple(other for other in LISTENERS.get(kind, ()) if other is not self)
                if rest:
                    LISTENERS[kind] = rest
                else:
                    LISTENERS.pop(kind, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Listening {self._hear!r} to {', '.join(sorted(kind.__name__ for kind in self.kinds))}>"


def listen(
    listener: Callable[[E], object],
    to: type[E] | tuple[type[E], ...] = Event,  # type: ignore[assignment]
    *,
    policy: str | tuple[str, ...] | None = None,
) -> Listening:
    """Have *listener* called with each event, in the thread and context of the call it is about, before that goes on.

    So it should be quick, and must not block an event loop. What it raises is logged the first time and otherwise
    ignored. Events that it causes itself, by calls of its own, are told to nobody.

    Args:
        listener: a function of the event; not a coroutine function.
        to: a class of events, or several; their subclasses are included. All by default.
        policy: names of the policies or parts to hear about; all by default.

    Raises:
        TypeError: an argument is of the wrong type.

    Thread-safe.
    """
    called = (listener, getattr(type(listener), "__call__", None))  # noqa: B004 - of an object, its method
    if not callable(listener) or any(map(inspect.iscoroutinefunction, called)):
        raise TypeError(f"listener must be a function, and not a coroutine function, not {listener!r}")
    wanted = to if isinstance(to, tuple) else (to,)
    if not wanted or not all(isinstance(kind, type) and issubclass(kind, Event) for kind in wanted):
        raise TypeError(f"to must be a class of events or several, not {to!r}")
    names = () if policy is None else (policy,) if isinstance(policy, str) else policy
    if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"policy must be a name or several, not {policy!r}")
    kinds = frozenset(kind for kind in KINDS if issubclass(kind, wanted))
    listening = Listening(cast("Callable[[Any], object]", listener), kinds, frozenset(names))
    with _lock:
        for kind in kinds:
            LISTENERS[kind] = (*LISTENERS.get(kind, ()), listening)
    return listening


def tell(event: Event) -> None:
    """Tell all who listen for such an event."""
    if getattr(_busy, "now", False):
        return  # a listener's own call
    _busy.now = True
    try:
        for listening in LISTENERS.get(type(event), ()):
            listening.tell(event)
    finally:
        _busy.now = False


@contextmanager
def watched(policy: str, attempt: int) -> Iterator[None]:
    """Around one attempt. What a watcher raises is logged and goes no further."""
    begun: list[tuple[Watcher, Any]] = []
    for watcher in tuple(WATCHERS):
        try:
            begun.append((watcher, watcher.begin(policy, attempt)))
        except Exception:
            log.exception("the watcher %r failed; the call goes on", watcher)
    trouble: BaseException | None = None
    try:
        yield
    except BaseException as error:
        trouble = error
        raise
    finally:
        for watcher, what in reversed(begun):
            try:
                watcher.end(what, trouble)
            except Exception:
                log.exception("the watcher %r failed; the call goes on", watcher)
        del trouble  # its traceback holds this frame
