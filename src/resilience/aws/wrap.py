"""Putting policies around AWS clients: one, all of a session, or all there are."""

from __future__ import annotations

import functools
import gc
import inspect
import threading
import types
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

import botocore
import botocore.client
import botocore.session

from ..errors import ConfigError
from ._aio import is_async
from ._guard import Guard, guard_of
from ._routes import Policies, Routes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..policy import Policy

__all__ = ["client", "policies", "resource", "unwrap", "wrap"]

T = TypeVar("T")

_lock = threading.RLock()
_MARK = "_resilience"


def wrap(target: T, policy: Policies = "recommended", *, per: str | None = None) -> T:
    """Make every call of *target* run under *policy*, by whatever way it is made, until `unwrap`.

    The attempts are made inside botocore: each is signed afresh, sends its body from where it stood, and asks breaker,
    limiter and bulkhead for itself; one call has one idempotency token, whatever the attempts. botocore's own retries
    keep silent. Timeouts and deadlines bite in the socket: connecting, TLS, sending, each byte of the answer. Methods,
    paginators, waiters, resources and transfers are covered; presigned URLs make no call, and are untouched.

    An object wrapped already gets the new policy in place of the old. *target* stays the same object.

    Args:
        target: a client; a resource (its client is wrapped); a ``boto3.Session`` or botocore session: every client and
            resource made from it, later or already; or the module ``boto3``: every client in this process. So too the
            clients, resources and sessions of aiobotocore and aioboto3; their clients in this process are all had by
            the module ``aiobotocore``.
        policy: a `Policy`; or one for each service, ``{"dynamodb": ..., "*": ...}``; or for a service one for each
            operation, ``{"dynamodb": {"GetItem": ..., "*": ...}}``; or, for one client, one for each operation.
            ``None`` leaves calls as they are; what no name matches is left as it is, too. In place of a policy may
            stand "recommended" or "standard", see the functions `recommended_for` and `standard_policy`, or a function
            that is given the `Operation` and returns a policy or ``None``.
        per: "policy": what is given is used itself: one policy, one state. "service": what is given is a pattern, and
            each service and region gets a policy made after it, with breaker, limiter, bulkhead and budget of its own.
            "operation": so does each operation. By default "policy" for one client with a policy of yours, and
            "service" for more, or where a name stands for the policy. A `PercentileTimeout` always learns for each
            operation.

    Returns:
        *target*.

    Raises:
        ConfigError: there is no such service or operation, or *per*.
        TypeError: *target* or *policy* is not such a thing.

    Thread-safe. Calls under way end as they began.
    """
    one = isinstance(target, botocore.client.BaseClient) or _client_of(target) is not None
    routes = Routes(policy, per or ("policy" if one and not isinstance(policy, str) else "service"))
    with _lock:
        if isinstance(target, botocore.client.BaseClient):
            _guard(target, routes)
        elif one:
            _guard(_client_of(target), routes)
        else:
            _watch(_core(target), routes)
    return target


def unwrap(target: T) -> T:
    """Undo `wrap`: *target* is as it was before, to the last attribute. Nothing happens if it is not wrapped.

    Raises:
        TypeError: *target* is nothing that can be wrapped.
    """
    with _lock:
        if isinstance(target, botocore.client.BaseClient):
            _unguard(target)
        elif (made := _client_of(target)) is not None:
            _unguard(made)
        else:
            watched = vars(_core(target)).get(_MARK)
            if watched is not None:
                watched.end()
    return target


def client(
    service: str, policy: Policies = "recommended", *, session: Any = None, per: str | None = None, **kwargs: Any
) -> Any:
    """``boto3.client(service, ...)``, wrapped.

    Args:
        service: such as "dynamodb".
        policy: see `wrap`.
        session: the ``boto3.Session`` to make it from; boto3's default one if ``None``.
        per: see `wrap`.
        kwargs: handed to boto3.
    """
    return wrap(_maker(session).client(service, **kwargs), policy, per=per)


def resource(
    service: str,
    policy: Policies = "recommended",
    *,
    session: Any = None,
    per: str | None = None,
    **kwargs: Any,
) -> Any:
    """``boto3.resource(service, ...)``, wrapped; see `client`."""
    return wrap(_maker(session).resource(service, **kwargs), policy, per=per)


def policies(target: Any) -> dict[str, Policy]:
    """The policies that the operations called so far on a client (or resource) run under, by operation.

    Their ``counters`` and parts are the live ones; a `PercentileTimeout` shown is the one of that operation.

    Raises:
        ConfigError: *target* is not wrapped.
    """
    made = target if isinstance(target, botocore.client.BaseClient) else _client_of(target)
    guard = None if made is None else guard_of(made)
    if guard is None:
        raise ConfigError(f"target must be a wrapped client or resource, not {target!r}")
    shown = {name: route.shown for name, route in guard.routes.items()}
    return {name: policy for name, policy in shown.items() if policy is not None}


# -- clients -----------------------------------------------------------------------------------------------------------


def _guard(made: Any, routes: Routes) -> None:
    guard = Guard(made, routes)  # may refuse; then the old one stays
    _unguard(made)
    guard.put_on()


def _unguard(made: Any) -> None:
    guard = guard_of(made)
    if guard is not None:
        guard.take_off()


def _client_of(target: Any) -> Any:
    """The client of a resource, or ``None`` for what is no resource."""
    made = getattr(getattr(target, "meta", None), "client", None)
    return made if isinstance(made, botocore.client.BaseClient) else None


def _maker(session: Any) -> Any:
    if session is not None:
        if hasattr(getattr(session, "_session", session), "_create_client"):
            raise TypeError(f"session must be one of boto3's, not {session!r}: wrap it, or the client inside its block")
        return session
    import boto3

    return boto3


# -- sessions ----------------------------------------------------------------------------------------------------------


def _core(target: Any) -> Any:
    """What makes the clients of *target*: a botocore session, or botocore's class of sessions for all of them."""
    if isinstance(target, types.ModuleType):
        if target.__name__ in ("boto3", "botocore"):
            return botocore.session.Session
        if target.__name__ in ("aiobotocore", "aioboto3"):
            from aiobotocore.session import AioSession

            return AioSession
    core = getattr(target, "_session", target)  # boto3's
    if not isinstance(core, botocore.session.Session):
        raise TypeError(f"target must be a client, a resource, a session or the module boto3, not {target!r}")
    return core


class _Watched:
    """The clients of a session, or of all sessions of a class, wrapped as they are made."""

    def __init__(self, core: Any, routes: Routes) -> None:
        self.core = core
        self.routes = routes
        self.clients: WeakSet[Any] = WeakSet()
        self.everything = isinstance(core, type)
        self.method = "_create_client" if hasattr(core, "_create_client") else "create_client"
        """What gives a client; aiobotocore's ``create_client`` only promises one."""
        self.before = vars(core).get(self.method)

    def __deepcopy__(self, memo: object) -> _Watched:
        """A copy of the session is watched as the session is."""
        return self

    def begin(self) -> None:
        setattr(self.core, _MARK, self)
        if self.everything:
            setattr(self.core, self.method, _watching(self.before, self))
        else:
            # Not an attribute of the instance, which a copy of the session would share, and make its clients by.
            kind: Any = type(self.core)
            self.core.__class__ = _watching_class(kind, self.method)
        for made in self._made_before():
            self.take(made)

    def end(self) -> None:
        delattr(self.core, _MARK)
        if self.everything:
            setattr(self.core, self.method, self.before)
        else:
            self.core.__class__ = type(self.core).__base__
        for made in list(self.clients):
            guard = guard_of(made)
            if guard is not None and guard.given is self.routes:
                guard.take_off()

    def take(self, made: Any) -> None:
        """Wrap a client. Of a wrapped session in a process that is wrapped too, the session comes last."""
        if isinstance(made, botocore.client.BaseClient):
            with _lock:
                _guard(made, self.routes)
                self.clients.add(made)

    def _made_before(self) -> Iterator[Any]:
        """The clients that exist already. A session keeps no list; its clients share its loader of models."""
        loader = None if self.everything else self.core.get_component("data_loader")
        promises = self.method == "_create_client"
        for found in gc.get_objects():
            if issubclass(type(found), botocore.client.BaseClient):
                mine = self.everything and guard_of(found) is None and is_async(found) is promises
                if mine or (loader is not None and vars(found).get("_loader") is loader):
                    yield found


def _watching(create: Any, watched: _Watched | None = None) -> Callable[..., Any]:
    """The method *create* of a session, but its clients are wrapped: by *watched*, or by what watches the session."""
    if inspect.iscoroutinefunction(inspect.unwrap(create)):

        @functools.wraps(create)
        async def create_async(self: Any, *args: Any, **kwargs: Any) -> Any:
            made = await create(self, *args, **kwargs)
            (watched or vars(self)[_MARK]).take(made)
            return made

        return create_async

    @functools.wraps(create)
    def create_client(self: Any, *args: Any, **kwargs: Any) -> Any:
        made = create(self, *args, **kwargs)
        (watched or vars(self)[_MARK]).take(made)
        return made

    return create_client


@functools.cache
def _watching_class(base: type, method: str) -> type:
    """A class of sessions that are watched; else it is *base*, and looks up its method there each time."""

    @functools.wraps(getattr(base, method))
    def create(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _watching(getattr(base, method))(self, *args, **kwargs)

    return type(base.__name__, (base,), {method: create, "__module__": base.__module__, "__doc__": base.__doc__})


def _watch(core: Any, routes: Routes) -> None:
    if not isinstance(core, type):
        routes.check_services(core.get_available_services())
        for service in routes.services_with_operations():
            # Not by the session's own get_service_model: aiobotocore's is asynchronous.
            names = core.get_component("data_loader").load_service_model(service, "service-2")["operations"]
            routes.check_operations(service, {botocore.xform_name(name): name for name in names})
    known = vars(core).get(_MARK)
    if known is not None:
        known.end()
    watched = _Watched(core, routes)
    try:
        watched.begin()
    except BaseException:
        watched.end()
        raise
