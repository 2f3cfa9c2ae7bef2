"""Taking what is in force here along into threads that others start.

Threads see no context variables of the code that had them started, so the overrides and the deadline around an
``upload_file`` would be lost on the way into s3transfer's threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from .._scope import SCOPE, Scope, current
from ._aio import is_async

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CARRIED", "carried", "carry"]

C = TypeVar("C")

CARRIED = ("upload_file", "upload_fileobj", "download_file", "download_fileobj", "copy")
"""The methods that boto3 adds to S3's client, and which hand it to s3transfer."""


def carry(client: C) -> C:
    """A view of *client* whose calls are made under the overrides and the deadline around *this* line, in any thread.

    For threads that see no context: ``executor.submit(carry(client).get_item, ...)``, or a ``TransferManager`` of your
    own. Tasks inherit what is in force; an asynchronous client is carried only into those that began before. The view
    is an object of the client's class with the client's state; the client itself stays as it is. With nothing in force
    here, it is the client.
    """
    scope = current()
    if scope is None:
        return client
    scope = Scope(scope.limit, scope.attempt, scope.retrying, scope.overrides)  # outlives the block it was taken from
    view = object.__new__(type(client))
    vars(view).update(vars(client))
    for name in CARRIED:
        vars(view).pop(name, None)
    make = client._make_api_call  # type: ignore[attr-defined]

    def _make_api_call(operation_name: str, api_params: dict[str, Any]) -> Any:
        token = SCOPE.set(scope)
        try:
            return make(operation_name, api_params)
        finally:
            SCOPE.reset(token)

    async def _amake_api_call(operation_name: str, api_params: dict[str, Any]) -> Any:
        token = SCOPE.set(scope)
        try:
            return await make(operation_name, api_params)
        finally:
            SCOPE.reset(token)

    vars(view)["_make_api_call"] = _amake_api_call if is_async(client) else _make_api_call
    return view


def carried(client: Any, name: str) -> Callable[..., Any]:
    """The method *name* of the client, carrying what is in force when it is called into the threads it starts."""
    method = getattr(type(client), name)

    def call(*args: Any, **kwargs: Any) -> Any:
        return method(carry(client), *args, **kwargs)

    call.__name__ = name
    call.__doc__ = method.__doc__
    return call
