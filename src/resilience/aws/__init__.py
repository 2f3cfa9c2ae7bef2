"""AWS clients that time out, retry, back off and stop: per operation, per call, sync and async.

``aws.wrap(client, policy)`` is the whole of it for most programs. Needs boto3 (the extra ``boto3``), and for asyncio
aiobotocore (the extra ``aiobotocore``).
"""

from __future__ import annotations

from ._carry import carry
from .failover import Failover
from .kinds import (
    Kind,
    is_retryable,
    is_throttle,
    is_transient,
    is_unhealthy,
    kind_of,
    not_sent,
    not_taken_effect,
    retry_after,
)
from .lambda_context import lambda_deadline, lambda_handler
from .operations import Operation
from .presets import recommended, recommended_for, standard, standard_policy
from .retry import AwsRetry
from .retry_quota import RetryQuota
from .service_quotas import Quota, QuotaGauge, limiter_from_quota, quota_rate
from .wrap import client, policies, resource, unwrap, wrap

__all__ = [
    "AwsRetry",
    "Failover",
    "Kind",
    "Operation",
    "Quota",
    "QuotaGauge",
    "RetryQuota",
    "carry",
    "client",
    "is_retryable",
    "is_throttle",
    "is_transient",
    "is_unhealthy",
    "kind_of",
    "lambda_deadline",
    "lambda_handler",
    "limiter_from_quota",
    "not_sent",
    "not_taken_effect",
    "policies",
    "quota_rate",
    "recommended",
    "recommended_for",
    "resource",
    "retry_after",
    "standard",
    "standard_policy",
    "unwrap",
    "wrap",
]
