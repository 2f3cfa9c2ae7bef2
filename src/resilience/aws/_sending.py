"""The attempts of one call: by the story, or for a call that goes well at once by a shorter way to the same end.

The short way does what the story does, with the same parts in the same order, but without its coroutines, which cost a
blocking client some 30 us a call in the midst of botocore's own work. The first thing out of the ordinary hands over
to the story. A test holds the two equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from .._runtime import drive
from .._scope import NOWHERE, SCOPE, Scope, current, tighter
from .._story import Ticket, tell
from ..policies.bulkhead import Bulkhead
from ..policies.circuit_breaker import CircuitBreaker
from ..policies.percentile_timeout import PercentileTimeout
from ..policies.timeout import Timeout
from ._sockets import Sockets, translated

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
        and (breaker is None or (type(breaker) is CircuitBreaker and breaker.on_result is None))
        and (plan.bulkhead is None or type(plan.bulkhead) is Bulkhead)
        and (plan.limiter is None or not plan.limiter.shadow)
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
    """Make the first attempt; if that is not the end of it, the story goes on from there.

    What the parts do is written out here, for what costs is calling. Where one would refuse or wait, nothing has been
    taken yet, and the story begins from the start.
    """
    call = request.call
    breaker, limiter, bulkhead, timeout = plan.breaker, plan.limiter, plan.bulkhead, plan.timeout
    now = plan.clock.monotonic_ns
    scope = current()
    outer = NOWHERE if scope is None else scope
    limit = outer.limit if plan.deadline is None and outer.limit is None else plan.limit(outer, call.began)
    circuit = None if breaker is None else breaker._circuit  # type: ignore[union-attr]
    free = circuit is None or circuit.open_gate
    permit = None if circuit is None else circuit.generation
    if free and bulkhead is not None:
        free = bulkhead.try_enter()  # type: ignore[union-attr]
    line = None
    if free and limiter is not None:
        line = limiter.of(call)
        free = line.try_acquire()
        if not free and bulkhead is not None:
            bulkhead.leave()  # type: ignore[union-attr]
    began = now()
    if not free or (limit is not None and began >= limit.at):
        if free and bulkhead is not None:
            bulkhead.leave()  # type: ignore[union-attr]
        return drive(sent(request, plan, Sockets(plan.clock), request.battempt))
    own = limit
    if timeout is not None:
        own = tighter(limit, timeout.limit(began, plan.who, 0))  # type: ignore[union-attr]
    token = None if own is outer.limit else SCOPE.set(Scope(own, 1, outer.retrying, outer.overrides))
    failure: BaseException | None = None
    try:
        try:
            answer = request.once()
        except Exception as error:
            failure = translated(error, own, now)
        except BaseException as error:
            failure = error
        else:
            ended = now()
            if breaker is not None:
                breaker.succeed(permit, ended - began, None, ended)  # type: ignore[union-attr]
            if bulkhead is not None:
                bulkhead.leave()  # type: ignore[union-attr]
            if line is not None and line.learns:
                line.heard(None, ended)
            if timeout is not None:
                timeout.record(ended - began, ended, censored=False)  # type: ignore[union-attr]
            if plan.retry is not None:
                plan.retry.spared()
            plan.went_well(call.began, ended)
            return request.finish(answer)
        finally:
            if token is not None:
                SCOPE.reset(token)
        ticket = Ticket.resumed(plan, permit, began, own)
        ticket.holds(bulkhead, line)  # type: ignore[arg-type]
        ticket.fail(failure)
        if not isinstance(failure, Exception):
            plan.stats.ended(failure)
            raise failure
        return drive(sent(request, plan, Sockets(plan.clock), request.battempt, failure))
    finally:
        del failure  # its traceback holds this frame
