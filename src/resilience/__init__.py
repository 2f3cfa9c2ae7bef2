"""Resilience for everything a program calls: timeouts, retries, circuit breakers, rate limits and more.

Put a `Policy` between your code and each remote dependency. See the documentation for a tour.
"""

from __future__ import annotations

from ._guard import Attempt
from ._listen import Listening, listen
from ._override import override
from ._registry import Registry, registry
from ._scope import check_deadline, current_attempt, remaining
from .backoff import Backoff, Constant, Exponential, Linear
from .clock import Clock
from .errors import (
    BulkheadFull,
    CircuitOpen,
    ConfigError,
    DeadlineExceeded,
    RateLimited,
    Rejected,
    ResilienceError,
    ResilienceWarning,
    RetriesExhausted,
    TimedOut,
)
from .events import Event, Retrying
from .machines.adaptive_rate import RateChange
from .machines.circuit_types import State, Transition
from .machines.explanation import Explanation
from .policies._line import Reservation
from .policies.adaptive_token_bucket import AdaptiveTokenBucket
from .policies.bulkhead import Bulkhead
from .policies.circuit_breaker import CircuitBreaker
from .policies.fallback import Fallback
from .policies.hedge import Hedge
from .policies.keyed_token_bucket import KeyedTokenBucket
from .policies.per_key import PerKey
from .policies.percentile_timeout import PercentileTimeout
from .policies.retry import Retry
from .policies.retry_budget import RetryBudget
from .policies.slo import SLO, ServiceLevelReading
from .policies.timeout import Deadline, Timeout
from .policies.token_bucket import TokenBucket
from .policy import Policy

__all__ = [
    "SLO",
    "AdaptiveTokenBucket",
    "Attempt",
    "Backoff",
    "Bulkhead",
    "BulkheadFull",
    "CircuitBreaker",
    "CircuitOpen",
    "Clock",
    "ConfigError",
    "Constant",
    "Deadline",
    "DeadlineExceeded",
    "Event",
    "Explanation",
    "Exponential",
    "Fallback",
    "Hedge",
    "KeyedTokenBucket",
    "Linear",
    "Listening",
    "PerKey",
    "PercentileTimeout",
    "Policy",
    "RateChange",
    "RateLimited",
    "Registry",
    "Rejected",
    "Reservation",
    "ResilienceError",
    "ResilienceWarning",
    "RetriesExhausted",
    "Retry",
    "RetryBudget",
    "Retrying",
    "ServiceLevelReading",
    "State",
    "TimedOut",
    "Timeout",
    "TokenBucket",
    "Transition",
    "bulkhead",
    "check_deadline",
    "circuit_breaker",
    "current_attempt",
    "deadline",
    "fallback",
    "hedge",
    "listen",
    "override",
    "percentile_timeout",
    "rate_limit",
    "registry",
    "remaining",
    "retry",
    "timeout",
]

__version__ = "0.1.0"

# The same objects under the names that read well above a function: `@retry(on=ConnectionError)`.
bulkhead = Bulkhead
circuit_breaker = CircuitBreaker
deadline = Deadline
fallback = Fallback
hedge = Hedge
percentile_timeout = PercentileTimeout
rate_limit = TokenBucket
retry = Retry
timeout = Timeout
