"""All named policies of the process, for operations code that lists and steers them."""

from __future__ import annotations

import threading
import warnings
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from .errors import ResilienceWarning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .policy import Policy

__all__ = ["Registry", "registry"]


class Registry:
    """Policies by name. Holds them weakly: a policy lives as long as something uses it. Thread-safe.

    A second policy of a name replaces the first, with a warning: two modules may have meant two things.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._policies: WeakValueDictionary[str, Policy] = WeakValueDictionary()

    def add(self, policy: Policy) -> None:
        """Enter a policy under its name."""
        assert policy.name is not None
        with self._lock:
            known = self._policies.get(policy.name)
            self._policies[policy.name] = policy
        if known is not None and known is not policy:
            warnings.warn(
                f"a policy named {policy.name!r} exists already; the registry now lists the new one",
                ResilienceWarning,
                stacklevel=4,
            )

    def remove(self, name: str) -> None:
        """Forget the policy of this name; no error if there is none. It goes on working."""
        with self._lock:
            self._policies.pop(name, None)

    def get(self, name: str) -> Policy | None:
        """The policy of this name, or ``None``."""
        return self._policies.get(name)

    def __getitem__(self, name: str) -> Policy:
        return self._policies[name]

    def __contains__(self, name: object) -> bool:
        return name in self._policies

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            return iter(sorted(self._policies))

    def __len__(self) -> int:
        return len(self._policies)

    def __repr__(self) -> str:
        return f"<Registry of {', '.join(self) or 'no policies'}>"


registry = Registry()
"""The registry of this process."""
