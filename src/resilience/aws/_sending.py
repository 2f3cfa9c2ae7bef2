"""The attempts of one call: by the story, or for a call that goes well at once by a shorter way to the same end.

The short way does what the story does, with the same parts in the same order, but without its coroutines, which cost a
blocking client some 30 us a call in the midst of botocore's own work. The first thing out of the ordinary hands over
to the story. A test holds the two equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from .._runtime import drive
from .._scope import NOWHERE, SCOPE, Scope, current
from .._story import enter, tell
from ..policies.percentile_timeout import PercentileTimeout
from ..policies.timeout import Timeout
from ._sockets import Sockets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .._plan import Plan
    from .._runtime import Runtime
    from ._request import Request

__all__ = ["sent", "sent_at_once", "short"]


def short(plan: Plan) -> bool:
    """Whether calls under *plan* may take the short way: no part is there that looks at results, or races."""
    timeout, breaker, retry, deadline = plan.timeout, plan.breaker, plan.retry, plan.deadline
    return (
        plan.hedge is None
        and (retry is None or retry.on_result is None)
        and (timeout is None or (type(timeout) in {Timeout, PercentileTimeout} and not timeout.shadow))
        and (deadline is None or not deadline.shadow)
        and (breaker is None or getattr(breaker, "on_result", None) is None)
    )


async def sent(
    request: Request,
    plan: Plan,
    runtime: Runtime,
    attempt: Callable[..., Any | Awaitable[Any]],
    failed: Exception | None = None,
) -> Any:
    """Make the attempts; botocore makes of their outcome what it always makes. *failed*: the first one's error."""
    answer = None
    call = request.call
    try:
        parsed = await tell(plan, runtime, call.attempts(attempt), failed, call.began)
    except ClientError as error:
        # botocore emits its last events for an answer that is an error, and raises it then.
        answer = request.answer(error.response)
        if answer is None:
            raise
        call.failure = error.with_traceback(None)  # its frames hold the call
    else:
        answer = request.answer(parsed)
        assert answer is not None
    finally:
        del failed  # its traceback holds this frame
        await request.close(answer)
    return request.finish(answer)


def sent_at_once(request: Request, plan: Plan) -> Any:
    """Make the first attempt; if that is not the end of it, the story goes on from there."""
    call = request.call
    runtime = Sockets(plan.clock)
    now = plan.clock.monotonic_ns
    outer = current() or NOWHERE
    limit = plan.limit(outer, call.began)
    failed: Exception | None = None
    try:
        try:
            if limit is not None and now() >= limit.at:
                raise limit.error(now())
            ticket = drive(enter(plan, runtime, call, limit))
            own = ticket.start(limit, 0)
            token = None
            if own is not outer.limit:
                token = SCOPE.set(Scope(own, 1, outer.retrying, outer.overrides))
            try:
                parsed = runtime.once(request.battempt, own)
            except BaseException as error:
                ticket.fail(error)
                raise
            finally:
                if token is not None:
                    SCOPE.reset(token)
            ticket.succeed(parsed)
        except Exception as error:
            failed = error
        except BaseException as error:
            plan.stats.ended(error)
            raise
        else:
            if plan.retry is not None:
                plan.retry.spared()
            plan.went_well(call.began, now())
            return request.finish(call.answers[-1])
        return drive(sent(request, plan, runtime, request.battempt, failed))
    finally:
        del failed  # its traceback holds this frame
