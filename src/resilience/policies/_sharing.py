"""The arguments of what keeps its state in a store, checked: the same for limiters, budgets and breakers."""

from __future__ import annotations

from .. import _checks
from ..errors import ConfigError

__all__ = ["check_sharing", "check_store"]

ON_STORE_FAILURE = ("local", "open", "closed")


def check_sharing(store: object, key: str | None, name: str | None, lease: object, on_store_failure: object) -> None:
    """Refuse what cannot be shared as it says.

    Raises:
        TypeError, ConfigError: one of them is of the wrong type or out of its range, or the bucket has no name.
    """
    _checks.one_of("on_store_failure", on_store_failure, ON_STORE_FAILURE)
    if _checks.seconds("lease", lease, zero=True) > 60:
        raise ConfigError(f"lease must be at most 60 s, not {lease!r}")
    check_store(store, key, name)


def check_store(store: object, key: str | None, name: str | None) -> None:
    """Refuse what is no store, or has no name in it.

    Raises:
        TypeError, ConfigError: it is no store, or what is shared has no name.
    """
    if store is None:
        if key is not None:
            raise ConfigError(f"key is for a store, and there is none: {key!r}")
        return
    from ..stores import Store

    if not isinstance(store, Store):
        raise TypeError(f"store must be a store such as resilience.stores.RedisStore, not {store!r}")
    if key is None and name is None:
        raise ConfigError("a store needs a name for what is shared: give key= or name=")
