"""Ready-made policies for AWS clients: botocore's retry modes as they are, and what we recommend.

They are cheap to make and in no registry, so they serve as templates: `wrap` makes a policy with a state of its own
after one for each service or operation, where it is asked to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import _checks
from ..errors import ConfigError
from ..policies.adaptive_token_bucket import AdaptiveTokenBucket
from ..policies.bulkhead import Bulkhead
from ..policies.circuit_breaker import CircuitBreaker
from ..policies.per_key import PerKey
from ..policies.percentile_timeout import PercentileTimeout
from ..policies.token_bucket import TokenBucket
from ..policy import Policy
from .kinds import is_throttle, is_unhealthy, not_sent
from .retry import AwsRetry, RetryQuota

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from ..clock import Clock
    from ..policies.retry_budget import RetryBudget
    from .operations import Operation

__all__ = ["recommended", "recommended_for", "standard", "standard_policy"]


def standard(version: str = "2.1", *, quota: RetryQuota | RetryBudget | str | None = "own", **changes: Any) -> AwsRetry:
    """The retrying of botocore, to the letter: which errors, how often, after which waits, paid from which quota.

    Args:
        version: "2.1", the standard mode (and the default mode) since botocore 1.44; "2.0", the standard mode before;
            "legacy", the default mode before.
        quota: a `RetryQuota` to share among clients; "own" makes one, as botocore does for each client (none for
            "legacy"); ``None`` does without.
        changes: other arguments of `AwsRetry`, such as ``attempts=5`` (botocore's ``total_max_attempts``).

    Raises:
        ConfigError: there is no such version, or an argument is out of range.
    """
    if version not in ("2.1", "2.0", "legacy"):
        raise ConfigError(f"version must be '2.1', '2.0' or 'legacy', not {version!r}")
    return AwsRetry(**{"rules": version, "repeat": "always", "quota": quota, **changes})


def standard_policy(version: str = "2.1", *, name: str | None = None, **changes: Any) -> Policy:
    """A policy that does what botocore does alone, and no more: `standard` as its one part."""
    return Policy(name, retry=standard(version, **changes), registry=None)


def recommended(
    name: str | None = None,
    *,
    deadline: float | None = 15.0,
    timeout: tuple[float, float] | str | None = "by deadline",
    percentile: float = 0.999,
    attempts: int | None = 3,
    retry: AwsRetry | None = None,
    quota: RetryQuota | RetryBudget | str | None = "budget",
    failure_rate: float | None = 0.5,
    minimum: int = 20,
    open_for: float = 2.0,
    max_open: float = 3.0,
    concurrency: int | None = 50,
    queue: int = 50,
    max_wait: float = 1.0,
    rate: float | None = None,
    burst: int | None = None,
    adaptive: bool = False,
    rng: random.Random | None = None,
    clock: Clock | None = None,
) -> Policy:
    """What we recommend for a client of an AWS service whose calls are short: tables, queues, parameters, secrets.

    Calls that are slow by nature need other times, or none: an SQS ``ReceiveMessage`` that waits 20 s
    (``timeout=(21, 25), deadline=60``), uploads and downloads of large objects, a synchronous Lambda function, a model
    that thinks.

    Args:
        name: what messages call it.
        deadline: seconds for the whole call with its retries and waits; ``None`` for none. By default three attempts
            of the longest timeout.
        timeout: the shortest and the longest time of one attempt, in seconds, between which it is learned from the
            measured latency; ``None`` for none. "by deadline": from 0.5 s (a new TLS connection to another region
            takes that long), or a sixth of the deadline if that is less, to 5 s, or a third of the deadline.
        percentile: the share of answers that are to come in time: one in a thousand good ones may be cut off.
        attempts: the most attempts; by default 3, as the SDKs. ``None``: as the SDKs for each service.
        retry: another `AwsRetry` than the one made from *attempts*, *quota* and *rng*. That one repeats all errors
            that pass, but only where nothing can happen twice.
        quota: what retries are paid from, see `AwsRetry`. By default a `RetryBudget` of its own: a tenth of the calls
            that go well, and 10 saved up. The SDKs' quota lets each client send 35 retries into an outage first.
        failure_rate: the circuit opens when this share of the calls of the last 10 s failed: no answer, or an answer
            of status 5xx, not a throttle; ``None`` for no circuit breaker.
        minimum: the calls there must have been for that.
        open_for: seconds the circuit stays open the first time.
        max_open: the most seconds it stays open; so long after an outage calls may still be refused.
        concurrency: the most calls at a time; ``None`` for no limit. By Little's law 50 are enough for 1000 calls a
            second of 50 ms each; botocore keeps 10 connections open unless told otherwise (``max_pool_connections``).
        queue: how many more may wait for a slot.
        max_wait: seconds that a call waits at most for a slot, or a token.
        rate: calls a second to be sent at most, such as a quota of the service allows; ``None`` for no limit.
        burst: how many may be sent at once after a pause; by default the calls of one second.
        adaptive: slow down when throttled, and speed up again after (see `AdaptiveTokenBucket`): from *rate*, or
            without one for each operation and what it is about (its table, bucket, queue, stream, function), which
            are free until the first throttle. It spares the service requests that would be refused, and costs some
            of the rate that it would grant: worth it where throttled requests are paid for, or do harm to others.
        rng: the randomness of waits and breaker, to repeat a run.
        clock: where time comes from; the machine's clock by default.

    Returns:
        A `Policy` in no registry.

    Raises:
        ConfigError: an argument is out of range, or several do not fit together.
    """
    if retry is None:
        retry = AwsRetry(attempts=attempts, quota=quota, rng=rng)
    elif quota != "budget":
        raise ConfigError("quota must not be given together with a retry=, which has its own")
    _checks.flag("adaptive", adaptive)
    if isinstance(timeout, str):
        _checks.one_of("timeout", timeout, ("by deadline",))
        most = 15.0 if deadline is None else min(15.0, _checks.seconds("deadline", deadline))
        timeout = (min(0.5, most / 6), most / 3)
    limiter: TokenBucket | PerKey[AdaptiveTokenBucket] | None = None
    if rate is not None:
        burst = max(1, int(_checks.number("rate", rate, above=0))) if burst is None else burst
        if adaptive:
            limiter = AdaptiveTokenBucket(
                rate,
                rule="aimd",
                maximum=rate,
                minimum=min(_LEAST, rate),
                burst=burst,
                throttled=is_throttle,
                max_wait=max_wait,
            )
        else:
            limiter = TokenBucket(rate, burst=burst, max_wait=max_wait)
    elif burst is not None:
        raise ConfigError("burst needs a rate=")
    elif adaptive:
        free = AdaptiveTokenBucket(rule="aimd", throttled=is_throttle, minimum=_LEAST, max_wait=max_wait)
        limiter = PerKey(free, key=_about, max_keys=1000)
    return Policy(
        name,
        deadline=deadline,
        retry=retry,
        breaker=None
        if failure_rate is None
        else CircuitBreaker(
            failure_rate=failure_rate,
            minimum=minimum,
            open_for=open_for,
            max_open=max_open,
            on=is_unhealthy,
            ignore=not_sent,
            rng=rng,
        ),
        limiter=limiter,
        bulkhead=None if concurrency is None else Bulkhead(concurrency, queue=queue, max_wait=max_wait),
        # The transport is held to the time, so nothing here has to be.
        timeout=None if timeout is None else PercentileTimeout(percentile, between=timeout, mode="cooperative"),
        clock=clock,
        registry=None,
    )


_LEAST = 2.0
"""Calls a second that an adaptive limiter goes down to: a client that is throttled though it hardly calls, like a cron
job, is to get its next token within the wait that it accepts. (botocore's 0.5 makes it wait 2 s.)"""

_ABOUT = ("TableName", "Bucket", "QueueUrl", "StreamName", "StreamARN", "FunctionName", "TopicArn", "KeyId", "SecretId")
"""The parameters that name what most services count throttling by."""


def _about(operation: str, /, **params: Any) -> tuple[str, object]:
    for name in _ABOUT:
        if name in params:
            return operation, params[name]
    return operation, None


_SLOW: dict[str, frozenset[str] | None] = {
    "bedrock-agent-runtime": None,  # None: every operation
    "bedrock-runtime": None,
    "lambda": frozenset({"Invoke", "InvokeWithResponseStream"}),
    "rds-data": None,
    "sagemaker-runtime": None,
    "sfn": frozenset({"StartSyncExecution"}),
}
"""What runs the caller's own code, or thinks: how long it takes is not the service's to say."""


def recommended_for() -> Callable[[Operation], Policy]:
    """What `resilience.aws.wrap` does by default: `recommended`, with other times where an operation needs them.

    - What long-polls (SQS ``ReceiveMessage``, Step Functions ``GetActivityTask``, SWF) has 25 to 75 s for an attempt,
      and no deadline.
    - What streams its answer (S3 ``GetObject``, event streams) has 2 to 10 s until the answer begins, which are then
      the longest wait for the next bytes, and no deadline.
    - What streams its request (S3 ``PutObject``, ``UploadPart``), and what takes as long as the caller's own code or a
      model does (Lambda ``Invoke``, ``StartSyncExecution``, the runtimes of Bedrock and SageMaker, the RDS Data API),
      has neither: only the client's own timeouts hold.

    They share breaker, bulkhead and retry budget. Set a deadline around calls that have none: ``with Deadline(60):``.
    """
    usual = recommended()

    def variant(name: str, timeout: tuple[float, float] | None) -> Policy:
        learned = None if timeout is None else PercentileTimeout(0.999, between=timeout, mode="cooperative")
        return Policy(name, registry=None, **{**usual.parts, "timeout": learned, "deadline": None})  # type: ignore[arg-type]

    poll, answer, open_ended = variant("poll", (25.0, 75.0)), variant("stream", (2.0, 10.0)), variant("long", None)

    def choose(operation: Operation) -> Policy:
        slow = _SLOW.get(operation.service, frozenset())
        if operation.streams_in or slow is None or operation.name in slow:
            return open_ended
        if operation.long_polling:
            return poll
        return answer if operation.streams_out else usual

    return choose
