"""The numbers and the error lists of each retry mode of botocore, and ours.

"2.1" is its standard mode since 1.44, "2.0" the one before, "legacy" the older mode; "sdk" has the numbers of 2.1 and
the errors of the other SDKs, which know clock skew too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from botocore.exceptions import (
    ChecksumError,
    ClientError,
    ConnectionClosedError,
    ConnectionError,  # noqa: A004 - botocore's is meant
    ReadTimeoutError,
)

from ..errors import DeadlineExceeded, TimedOut
from .kinds import Kind, code_of, kind_of, standard_kind, status_of

if TYPE_CHECKING:
    from .operations import Operation

__all__ = ["DYNAMODB", "RULES", "Numbers", "Rules", "classify"]

DYNAMODB = frozenset({"dynamodb", "dynamodb-streams"})


@dataclass(frozen=True, slots=True)
class Numbers:
    """How often and after which waits; times in seconds."""

    attempts: int
    base: float
    throttling_base: float
    cap: float
    jitter: bool = True


@dataclass(frozen=True, slots=True)
class Rules:
    """One retry mode. *costs* are what a retry, one after a throttle and one after a timeout take of the quota."""

    usual: Numbers
    services: dict[str, Numbers]
    costs: tuple[int, int, int] | None
    retry_after: str | None
    long_polling: bool

    def numbers(self, service: str | None) -> Numbers:
        """Those for a service, by its hyphenized ID."""
        return self.services.get(service or "", self.usual)


_STANDARD = Numbers(3, 0.05, 1.0, 20.0)
_TABLES = Numbers(4, 0.025, 1.0, 20.0)

RULES = {
    "2.1": Rules(_STANDARD, dict.fromkeys(DYNAMODB, _TABLES), (14, 5, 14), "clamp", long_polling=True),
    "2.0": Rules(Numbers(3, 1.0, 1.0, 20.0), {}, (5, 5, 10), None, long_polling=False),
    "legacy": Rules(
        Numbers(5, 1.0, 1.0, math.inf),
        {"dynamodb": Numbers(10, 0.05, 0.05, math.inf, jitter=False)},
        None,
        None,
        long_polling=False,
    ),
}
RULES["sdk"] = replace(RULES["2.1"], retry_after="minimum")

_LEGACY_STATUSES = frozenset({429, 500, 502, 503, 504, 509})
_LEGACY_CODES = frozenset({
    (400, "Throttling"), (400, "ThrottlingException"), (400, "ThrottledException"),
    (400, "RequestThrottledException"), (400, "ProvisionedThroughputExceededException"),
})  # fmt: skip
_LEGACY_SERVICES = {
    "dynamodb": {(409, "ReplicatedWriteConflictException"), (400, "TransactionInProgressException")},
    "glacier": {(408, "RequestTimeoutException")},
    "kinesis": {(400, "LimitExceededException")},
    "organizations": {(400, "TooManyRequestsException")},
    "route-53": {(400, "PriorRequestNotComplete")},
    "s3": {(400, "RequestTimeout"), (400, "BadDigest")},
    "sqs": {(403, "RequestThrottled")},
    "sts": {(400, "IDPCommunicationError")},
}


def classify(rules: str, error: Exception, wall: float | None, operation: Operation | None) -> Kind:
    """The kind of *error* under one of the `RULES`; `Kind.OTHER` is not repeated."""
    if rules == "legacy":
        return _legacy(error, operation)
    kind = kind_of(error, wall, operation)
    if rules == "sdk":
        return kind
    if kind is Kind.CLOCK_SKEW:
        return Kind.OTHER
    if rules == "2.0" and isinstance(error, ClientError):
        return standard_kind(code_of(error), status_of(error), operation, by_status=False)
    return kind


def _legacy(error: Exception, operation: Operation | None) -> Kind:
    service = None if operation is None else operation.service
    if isinstance(error, ClientError):
        status, code = status_of(error), code_of(error)
        listed = status in _LEGACY_STATUSES
        if service == "organizations" and status == 429:
            listed = False  # its entry in botocore's table takes the place of the general one
        if listed or (status, code) in _LEGACY_CODES or (status, code) in _LEGACY_SERVICES.get(service or "", ()):
            return Kind.TRANSIENT
        return Kind.OTHER
    if isinstance(error, ChecksumError):
        return Kind.TRANSIENT if service == "dynamodb" else Kind.OTHER
    if isinstance(error, TimedOut):
        return Kind.OTHER if isinstance(error, DeadlineExceeded) else Kind.TIMEOUT
    known = isinstance(error, (ConnectionError, ConnectionClosedError, ReadTimeoutError))
    return Kind.TRANSIENT if known else Kind.OTHER
