"""State that many processes share: one limit, one breaker, one retry budget for a fleet.

``TokenBucket(100, store=RedisStore("redis://..."), key="payments")``. This package knows engines (Redis and Valkey,
DynamoDB, this process's memory) and how one is asked and when not; it refuses to know what a limiter or a breaker is:
those are transitions, see `protocol.Transition`. Extras: ``resilience-client[redis]``, ``resilience-client[boto3]``.
"""

from __future__ import annotations

from .dynamodb import DynamoDBStore
from .keys import safe_key
from .memory import MemoryStore
from .protocol import Entry, Store, StoreUnavailable, Transition
from .redis import RedisStore

__all__ = [
    "DynamoDBStore",
    "Entry",
    "MemoryStore",
    "RedisStore",
    "Store",
    "StoreUnavailable",
    "Transition",
    "safe_key",
]
