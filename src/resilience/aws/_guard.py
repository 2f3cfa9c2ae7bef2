"""What stands around one client: the way in, the attempts, and the way back to how it was.

Two methods of the client's own objects are covered by attributes of the instance: ``client._make_api_call`` (the call)
and ``client._endpoint._send_request`` (its attempts). Everything that makes calls goes through the first: methods,
paginators, waiters, resources, transfers; presigned URLs do not, and are left alone. botocore's own retry handlers
stay registered but keep silent during guarded calls, so attempts are never multiplied, and what is not guarded works as
ever.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from .._listen import WATCHERS
from .._runtime import Asyncio, drive
from .._story import tell
from . import _transport
from ._aio import is_async
from ._call import CALL, AwsCall
from ._carry import CARRIED, carried
from ._request import Request
from ._routes import Route, Routes, Where
from ._sending import sent, sent_at_once
from ._sockets import Sockets
from .operations import Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._plan import Plan

__all__ = ["Guard", "guard_of"]

_RETRYING = ("botocore.retries", "botocore.retryhandler", "aiobotocore.retries", "aiobotocore.retryhandler")
_EVENTS = ("before-send", "needs-retry", "after-call", "request-created")
_MARK = "_resilience"


def guard_of(client: Any) -> Guard | None:
    """The guard around *client*, if there is one."""
    found: Guard | None = vars(client).get(_MARK)
    return found


class Guard:
    """The guard of one client. Thread-safe, like the client."""

    def __init__(self, client: Any, routes: Routes) -> None:
        meta = client.meta
        service = meta.service_model.service_name
        routes.check_operations(service, meta.method_to_api_mapping)
        self.client = client
        self.where = Where(service, meta.region_name)
        self.is_async = is_async(client)
        self.given = routes
        self._routes: dict[str, Route] = {}
        self.lock = threading.Lock()
        self._methods = {operation: method for method, operation in meta.method_to_api_mapping.items()}
        self.silenced: list[_Silenced] = []
        self._transport = False
        self._before: list[tuple[Any, str, Any]] = []
        """Whose attribute, its name, and what it was: first the endpoint's, then the client's."""

    # -- putting on, taking off --------------------------------------------------------------------------------------

    def put_on(self) -> None:
        """Guard the client."""
        client, endpoint = self.client, self.client._endpoint
        self.silenced = _silence(client)
        if not self.is_async and not _transport.installed(endpoint.http_session):
            _transport.install(endpoint.http_session)
            self._transport = True
        # Set in the instance's dict, which is where they are looked for first, and where no property is in the way.
        self._before = [(endpoint, "_send_request", vars(endpoint).get("_send_request"))]
        own = {"_make_api_call": self._acall if self.is_async else self._bcall, _MARK: self}
        if self.where.service == "s3" and not self.is_async:
            own |= {name: carried(client, name) for name in CARRIED if hasattr(type(client), name)}
        self._before += [(client, name, vars(client).get(name)) for name in own]
        vars(endpoint)["_send_request"] = self._attempts
        vars(client).update(own)

    def take_off(self) -> None:
        """Leave the client as it was. Calls under way end under the guard."""
        for owner, name, before in self._before:
            if before is None:
                vars(owner).pop(name, None)
            else:
                vars(owner)[name] = before
        _restore(self.client)
        if self._transport:
            _transport.remove(self.client._endpoint.http_session)
            self._transport = False

    @property
    def silent(self) -> bool:
        """Whether botocore's own retrying keeps silent: as long as there is a guard around the client."""
        return guard_of(self.client) is not None

    def _below(self, index: int) -> Callable[..., Any]:
        """The method that we stand before: one of the instance's own, or the class's as it is now.

        Tools that trace or mock patch the class, perhaps after us.
        """
        owner, name, before = self._before[index]
        return before or getattr(type(owner), name).__get__(owner)  # type: ignore[no-any-return]

    # -- the call ----------------------------------------------------------------------------------------------------

    def route(self, name: str) -> Route:
        """How calls of the operation *name* are made."""
        with self.lock:
            route = self._routes.get(name)
            if route is None:
                operation = Operation.of(self.client.meta.service_model.operation_model(name))
                method = self._methods.get(name, name)
                route = self._routes[name] = self.given.route(self.where, operation, method)
        return route

    @property
    def routes(self) -> dict[str, Route]:
        """The operations called so far."""
        with self.lock:
            return dict(self._routes)

    def _begun(self, route: Route, params: dict[str, Any]) -> tuple[Plan | None, AwsCall]:
        """A call that begins now, and what is around it."""
        plans = route.plans()
        return plans.outer, AwsCall(self, route.operation, plans, params)

    def _bcall(self, operation_name: str, api_params: dict[str, Any]) -> Any:
        route = self._routes.get(operation_name) or self.route(operation_name)
        if route.policy is None:
            return self._bmade(None, operation_name, api_params)
        outer, call = self._begun(route, api_params)
        if outer is None:
            return self._bmade(call, operation_name, api_params)
        call.fn = lambda *_args, **_params: self._bmade(call, operation_name, api_params)
        try:
            return drive(tell(outer, Sockets(outer.clock), call))
        finally:
            call.over()

    def _bmade(self, call: AwsCall | None, operation_name: str, api_params: dict[str, Any]) -> Any:
        """The call as botocore makes it. Without *call* its own retry handlers speak."""
        token = CALL.set(call)
        try:
            return self._below(1)(operation_name, api_params)
        except ClientError as error:
            if call is not None:
                _annotate(error, call.failure)
            raise
        finally:
            CALL.reset(token)

    async def _acall(self, operation_name: str, api_params: dict[str, Any]) -> Any:
        route = self._routes.get(operation_name) or self.route(operation_name)
        if route.policy is None:
            return await self._amade(None, operation_name, api_params)
        outer, call = self._begun(route, api_params)
        try:
            if outer is None:
                return await self._amade(call, operation_name, api_params)
            call.fn = lambda *_args, **_params: self._amade(call, operation_name, api_params)
            return await tell(outer, Asyncio(outer.clock), call)
        finally:
            call.over()

    async def _amade(self, call: AwsCall | None, operation_name: str, api_params: dict[str, Any]) -> Any:
        """See `_bmade`."""
        token = CALL.set(call)
        try:
            return await self._below(1)(operation_name, api_params)
        except ClientError as error:
            if call is not None:
                _annotate(error, call.failure)
            raise
        finally:
            CALL.reset(token)

    # -- its attempts --------------------------------------------------------------------------------------------------

    def _attempts(self, request_dict: dict[str, Any], operation_model: Any) -> Any:
        call = CALL.get()
        if call is None or call.guard is not self:
            return self._below(0)(request_dict, operation_model)
        request = Request(self, call, request_dict, operation_model)
        plan = call.inner
        plan.stats.begin()
        if self.is_async:
            return sent(request, plan, Asyncio(plan.clock), request.attempt)
        if call.short and not WATCHERS:
            return sent_at_once(request, plan)
        return drive(sent(request, plan, Sockets(plan.clock), request.battempt))


def _annotate(error: BaseException, known: BaseException | None) -> None:
    """Copy the note of what was tried to the error that botocore makes of the same answer."""
    notes = getattr(known, "__notes__", None)
    if notes and known is not error and getattr(known, "response", None) is getattr(error, "response", None):
        error.__notes__ = [*getattr(error, "__notes__", ()), *notes]


# -- botocore's own retry handlers -------------------------------------------------------------------------------------


class _Silenced:
    """A handler of botocore's that says nothing while a guarded call is made."""

    def __init__(self, handler: Any) -> None:
        self.handler = handler

    def __call__(self, **kwargs: Any) -> Any:
        return self.handler(**kwargs) if CALL.get() is None else None


def _silence(client: Any) -> list[_Silenced]:
    """Put a `_Silenced` in the place of each of botocore's retry handlers of *client*.

    In the very place, so that the order of the handlers stays as it is, for botocore registers these last and S3's own
    before them.
    """
    silenced = []
    for places in _places(client):
        for index, handler in enumerate(places):
            owner = getattr(handler, "__self__", None) or getattr(handler, "func", handler)
            if type(owner).__module__.startswith(_RETRYING):
                places[index] = _Silenced(handler)
                silenced.append(places[index])
    _settle(client, {id(one.handler): one for one in silenced})
    return silenced


def _restore(client: Any) -> None:
    """Put botocore's handlers back."""
    restored = {}
    for places in _places(client):
        for index, handler in enumerate(places):
            if isinstance(handler, _Silenced):
                places[index] = handler.handler
                restored[id(handler)] = handler.handler
    _settle(client, restored)


def _places(client: Any) -> Iterator[list[Any]]:
    """The lists of handlers of the events that botocore's retrying listens to."""
    service = client.meta.service_model.service_id.hyphenize()
    root = client.meta.events._emitter._handlers._root
    for event in _EVENTS:
        node = root["children"].get(event)
        for found in (node, None if node is None else node["children"].get(service)):
            if found is not None and found["values"] is not None:
                yield from found["values"]


def _settle(client: Any, changes: dict[int, Any]) -> None:
    """Tell the emitter what else it must know of handlers that were exchanged; *changes* by the old one's id."""
    emitter = client.meta.events._emitter
    for item in emitter._unique_id_handlers.values():
        item["handler"] = changes.get(id(item["handler"]), item["handler"])
    emitter._lookup_cache = {}
