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
from ..policies.token_bucket import TokenBucket
from ._sockets import Sockets, translated

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .._plan import Plan
    from .._runtime import Runtime
    from ._request import Request

__all__ = ["sent", "sent_at_once", "short"]


def short(plan: Plan) -> bool:
    """Whether calls under *plan* may take the short way: no part looks at results, races, or asks for a key."""
    timeout, breaker, retry, deadline = plan.timeout, plan.breaker, plan.retry, plan.deadline
    return (
        plan.hedge is None
        and (retry is None or retry.on_result is None)
        and (timeout is None or (type(timeout) in {Timeout, PercentileTimeout} and not timeout.shadow))
        and (deadline is None or not deadline.shadow)
        and (breaker is None or (type(breaker) is CircuitBreaker and breaker.on_result is None))
        and (plan.bulkhead is None or type(plan.bulkhead) is Bulkhead)
        and (plan.limiter is None or _at_hand(plan.limiter))
    )


def _at_hand(limiter: object) -> bool:
    """Whether it is a bucket in this process."""
    return isinstance(limiter, TokenBucket) and not limiter.shadow and limiter.store is None


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

    What the parts do is written out here, for what costs is calling. Where one would refuse or wait, nothing is held,
    and the story begins from the start.
    """
    call = request.call
    breaker, limiter, bulkhead, timeout = plan.breaker, plan.limiter, plan.bulkhead, plan.timeout
    now = plan.clock.monotonic_ns
    outer = current() or NOWHERE
    limit = outer.limit if plan.deadline is None and outer.limit is None else plan.limit(outer, call.began)
    circuit = None if breaker is None else breaker._circuit  # type: ignore[union-attr]
    permit = None if circuit is None else circuit.generation  # of no worth if the gate is not open
    if (
        (circuit is not None and not circuit.open_gate)
        or (breaker is not None and breaker.shared is not None and now() >= breaker.shared.due)  # type: ignore[union-attr]
        or (limit is not None and now() >= limit.at)
        or (bulkhead is not None and not bulkhead.try_enter())  # type: ignore[union-attr]
    ):
        return drive(sent(request, plan, Sockets(plan.clock), request.battempt))
    # From here on a slot is held, and given back on every way out.
    own, token, began = limit, None, None
    failure: BaseException | None = None
    try:
        try:
            free = limiter is None or limiter.try_acquire()  # type: ignore[union-attr, call-arg]
            if free:
                began = now()
                if timeout is not None:
                    own = tighter(limit, timeout.limit(began, plan.who, 0))  # type: ignore[union-attr]
                if own is not outer.limit:
                    token = SCOPE.set(Scope(own, 1, outer.retrying, outer.overrides))
                answer = request.once()
        except Exception as error:
            failure = translated(error, own, now)
        except BaseException as error:
            failure = error
        finally:
            if token is not None:
                SCOPE.reset(token)
        if failure is None:
            if bulkhead is not None:
                bulkhead.leave()  # type: ignore[union-attr]
            if not free:
                return drive(sent(request, plan, Sockets(plan.clock), request.battempt))
            assert began is not None
            ended = now()
            if breaker is not None:
                breaker.succeed(permit, ended - began, None, ended)  # type: ignore[union-attr]
            if limiter is not None and limiter.learns:  # type: ignore[union-attr]
                limiter.heard(None, ended)  # type: ignore[union-attr]
            if timeout is not None:
                timeout.record(ended - began, ended, censored=False)  # type: ignore[union-attr]
            if plan.retry is not None:
                plan.retry.spared()
            plan.stats.attempt()
            plan.went_well(call.began, ended)
            return request.finish(answer)
        ticket = Ticket.resumed(plan, permit, began, own)
        ticket.holds(bulkhead, limiter)  # type: ignore[arg-type]
        ticket.fail(failure)
        if not isinstance(failure, Exception):
            plan.ended(failure, 1, call.began, now())
            raise failure
        return drive(sent(request, plan, Sockets(plan.clock), request.battempt, failure))
    finally:
        del failure  # its traceback holds this frame
