"""What the parts of a policy are told about one call of an AWS client.

The story of a call runs inside botocore's endpoint, so that each attempt is signed afresh and one call has one
idempotency token; only the fallback is around ``_make_api_call``, for it answers in place of everything.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from .._runtime import Call

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ._guard import Guard
    from ._routes import Plans
    from .operations import Operation

__all__ = ["CALL", "AwsCall"]


class AwsCall(Call):
    """One call: the operation's name is its one positional argument, the caller's parameters are the others.

    So the ``key`` of a keyed part is a function such as ``lambda operation, **params: params["TableName"]``.
    """

    __slots__ = (
        "answers", "began", "failure", "guard", "inner", "lock", "most", "operation", "plans", "short", "tries",
    )  # fmt: skip

    def __init__(
        self, guard: Guard, operation: Operation, plans: Plans, params: Mapping[str, Any], fn: Any = None
    ) -> None:
        self.fn = fn
        self.args = (operation.name,)
        self.kwargs = params
        self.guard: Guard | None = guard
        self.operation = operation
        self.plans = plans
        _, self.inner, self.short, self.most = plans
        self.began = self.inner.clock.monotonic_ns()
        self.lock = guard.lock
        self.tries = 0
        self.answers: list[tuple[Any, Any]] = []
        self.failure: BaseException | None = None
        """The last error of the attempts, with the note of what was tried."""

    def attempts(self, fn: Callable[..., Any]) -> AwsCall:
        """The same call as its attempts' story sees it: *fn* makes one attempt."""
        assert self.guard is not None
        return AwsCall(self.guard, self.operation, self.plans, self.kwargs, fn)

    def next_try(self) -> int:
        """The number of the attempt that begins now, from 1."""
        with self.lock:
            self.tries += 1
            return self.tries

    def over(self) -> None:
        """The call has ended: forget what it handled.

        A connection that it opened keeps a copy of the context it was opened in, and so does each of its timers, which
        the event loop keeps for a time though they are cancelled; and with it this record.
        """
        self.guard = None
        self.fn = type(None)
        self.kwargs = {}
        self.failure = None
        self.answers.clear()


CALL: ContextVar[AwsCall | None] = ContextVar("resilience.aws", default=None)
"""The call being made here. Every guarded client sets it for its own calls, so what a nested client (credentials
fetched from STS while a request is signed) does is never mistaken for a part of the call around it."""
