"""What an error of an AWS call means: refused for its rate, in passing trouble, of a wrong clock, or to stay.

The lists and rules are those of the AWS SDKs' standard mode; the tests hold them against botocore's own code. Every
predicate takes what a caller of boto3 would catch, and can be used as ``on=`` of a part.
"""

from __future__ import annotations

import enum
import ssl
from binascii import crc32
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import (
    ChecksumError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's is meant
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    MetadataRetrievalError,
    NoAuthTokenError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
    TokenRetrievalError,
)

from .._retry_after import parse
from ..clock import system
from ..errors import DeadlineExceeded, Rejected, TimedOut
from .operations import THROTTLING

if TYPE_CHECKING:
    from .operations import Operation

__all__ = [
    "Kind", "checksum_error", "code_of", "is_retryable", "is_throttle", "is_transient", "is_unhealthy", "kind_of",
    "not_sent", "not_taken_effect", "retry_after", "status_of",
]  # fmt: skip

THROTTLING_CODES = frozenset({
    "BandwidthLimitExceeded", "EC2ThrottledException", "LimitExceededException", "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException", "RequestLimitExceeded", "RequestThrottled", "RequestThrottledException",
    "SlowDown", "ThrottledException", "Throttling", "ThrottlingException", "TooManyRequestsException",
    "TransactionInProgressException",
})  # fmt: skip
TRANSIENT_CODES = frozenset({"RequestTimeout", "RequestTimeoutException", "PriorRequestNotComplete"})
TRANSIENT_STATUSES = frozenset({500, 502, 503, 504})
SKEW_CODES = frozenset({
    "AccessDeniedException", "AuthFailure", "InvalidSignatureException", "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
})  # fmt: skip
SKEW = 240.0
"""Seconds that the two clocks must differ by, more than, before the difference is taken for the reason."""

_TIMEOUTS = (ConnectTimeoutError, ReadTimeoutError)
_NO_CONNECTION = (EndpointConnectionError, ConnectTimeoutError, ProxyConnectionError)
_LOCAL = (
    CredentialRetrievalError, MetadataRetrievalError, NoAuthTokenError, NoCredentialsError, NoRegionError,
    ParamValidationError, PartialCredentialsError, TokenRetrievalError,
)  # fmt: skip
_HANDSHAKE = frozenset({
    "CERTIFICATE_VERIFY_FAILED", "NO_PROTOCOLS_AVAILABLE", "NO_SHARED_CIPHER", "SSLV3_ALERT_HANDSHAKE_FAILURE",
    "TLSV1_ALERT_INTERNAL_ERROR", "TLSV1_ALERT_PROTOCOL_VERSION", "TLSV1_UNRECOGNIZED_NAME", "UNSUPPORTED_PROTOCOL",
    "WRONG_VERSION_NUMBER",
})  # fmt: skip
"""Reasons of OpenSSL that come while a connection is made. Others come later too, when a request is on its way."""


class Kind(enum.Enum):
    """What an error means.

    A `TIMEOUT` is one where no answer came in time; apart from older cost tables it is treated as `TRANSIENT`.
    """

    THROTTLING = "throttling"
    TRANSIENT = "transient"
    TIMEOUT = "timeout"
    CLOCK_SKEW = "clock skew"
    OTHER = "other"


def code_of(error: BaseException) -> str | None:
    """The service's error code, such as "SlowDown". A body's top-level string "Error" is none."""
    found = _response(error).get("Error")
    code = found.get("Code") if isinstance(found, Mapping) else None
    return code if isinstance(code, str) else None


def status_of(error: BaseException) -> int | None:
    """The HTTP status of the answer the error was made from."""
    status = _metadata(error).get("HTTPStatusCode")
    return status if isinstance(status, int) else None


def header(error: BaseException, name: str) -> Any:
    """The HTTP header *name* (in lower case) of the answer the error was made from."""
    headers = _metadata(error).get("HTTPHeaders")
    if not isinstance(headers, Mapping):
        return None
    return next((value for key, value in headers.items() if str(key).lower() == name), None)


def kind_of(error: BaseException, wall: float | None = None, operation: Operation | None = None) -> Kind:
    """What *error* means by the rules of the AWS SDKs.

    Args:
        error: what a caller of boto3 would catch.
        wall: seconds since 1970 now, by this machine; its clock is asked where it is needed and not given.
        operation: whose error it is. It adds the errors its model marks as worth a retry, and what holds for one
            service only.
    """
    if isinstance(error, ClientError):
        code = code_of(error)
        kind = standard_kind(code, status_of(error), operation)
        if kind is Kind.OTHER and code in SKEW_CODES and _skewed(error, wall):
            return Kind.CLOCK_SKEW
        return kind
    if isinstance(error, TimedOut):
        return Kind.OTHER if isinstance(error, DeadlineExceeded) else Kind.TIMEOUT
    if isinstance(error, _TIMEOUTS):
        return Kind.TIMEOUT
    if isinstance(error, (ConnectionError, HTTPClientError)):
        return Kind.TRANSIENT
    if isinstance(error, ChecksumError) and error.kwargs.get("checksum_type") == "crc32":
        return Kind.TRANSIENT
    return Kind.OTHER


def standard_kind(
    code: str | None, status: int | None, operation: Operation | None = None, *, by_status: bool = True
) -> Kind:
    """The kind of an answer with this code and status; *by_status*: 429 means throttling (since botocore 1.44)."""
    if code in THROTTLING_CODES:
        return Kind.THROTTLING
    modeled = None if operation is None or code is None else operation.modeled.get(code)
    if modeled is not None:
        return Kind.THROTTLING if modeled == THROTTLING else Kind.TRANSIENT
    if by_status and status == 429 and (operation is None or code not in operation.codes):
        return Kind.THROTTLING
    if code in TRANSIENT_CODES or status in TRANSIENT_STATUSES:
        return Kind.TRANSIENT
    if code == "IDPCommunicationError" and (operation is None or operation.service == "sts"):
        return Kind.TRANSIENT
    return Kind.OTHER


def is_throttle(error: BaseException) -> bool:
    """Whether the service refused the request for its rate."""
    return kind_of(error) is Kind.THROTTLING


def is_transient(error: BaseException) -> bool:
    """Whether it is passing trouble: status 500, 502, 503, 504, connections that failed, no answer in time."""
    return kind_of(error) in (Kind.TRANSIENT, Kind.TIMEOUT)


def is_retryable(error: BaseException) -> bool:
    """Whether the SDKs' standard would repeat it: transient, throttled, or refused because the clock is wrong.

    Not a `DeadlineExceeded` or a `Rejected`. Errors that only a service's model marks as retryable are known to
    `AwsRetry`, which knows the operation, and not here.
    """
    return kind_of(error) is not Kind.OTHER


def is_unhealthy(error: BaseException) -> bool:
    """Whether it says that the service is ill, for a circuit breaker: transient, but no answer of status 4xx.

    A throttled client is no reason to think that the service is down.
    """
    return is_transient(error) and not 400 <= (status_of(error) or 0) < 500


def not_sent(error: BaseException) -> bool:
    """Whether the trouble was found here, the service not asked: no credentials, bad parameters, a `Rejected`."""
    return isinstance(error, (*_LOCAL, Rejected))


def not_taken_effect(error: BaseException) -> bool:
    """Whether the request surely changed nothing, so that even what must not happen twice can be sent again.

    That is: no connection was made (name not found, refused, not in time, TLS handshake failed), the request was
    refused for its rate or its clock, it was not sent at all, or it is a `TimedOut` raised from one of these. An
    exception that has a true attribute ``not_sent`` is believed.
    """
    seen: BaseException | None = error
    for _ in range(8):
        if seen is None:
            return False
        if isinstance(seen, _NO_CONNECTION) or not_sent(seen) or getattr(seen, "not_sent", False) is True:
            return True
        if isinstance(seen, SSLError):
            return _handshake(seen)
        if isinstance(seen, ClientError):
            # TransactionInProgressException: an earlier request is at it.
            refused = kind_of(seen) in (Kind.THROTTLING, Kind.CLOCK_SKEW)
            return refused and code_of(seen) != "TransactionInProgressException"
        if not isinstance(seen, TimedOut):
            return False
        seen = seen.__cause__
    return False


def retry_after(error: BaseException, wall: float | None = None) -> float | None:
    """Seconds the service asks to wait, or ``None``.

    Of the headers ``Retry-After`` and ``x-amz-retry-after`` the one that stands first is read, and no other.
    ``x-amz-retry-after`` is in milliseconds. ``Retry-After`` is a number of seconds, a date of HTTP or ISO 8601, or
    both, as in "<date>, 45", where the number counts. What is none of these is ignored.
    """
    headers = _metadata(error).get("HTTPHeaders")
    if not isinstance(headers, Mapping):
        return None
    for name, value in headers.items():
        name = str(name).lower()  # noqa: PLW2901 - only the case
        if name == "x-amz-retry-after":
            milliseconds = parse(value, 0.0) if _numeric(value) else None
            return None if milliseconds is None else milliseconds / 1000
        if name == "retry-after":
            return _wish(value, system.time() if wall is None else wall)
    return None


def checksum_error(headers: Mapping[str, str], body: bytes) -> ChecksumError | None:
    """The error to raise if a DynamoDB answer does not have the CRC-32 that its header ``x-amz-crc32`` says."""
    expected = headers.get("x-amz-crc32")
    if expected is None:
        return None
    try:
        wanted = int(expected)
    except ValueError:
        return None
    actual = crc32(body) & 0xFFFFFFFF
    if actual == wanted:
        return None
    return ChecksumError(checksum_type="crc32", expected_checksum=wanted, actual_checksum=actual)


def _response(error: BaseException) -> Mapping[str, Any]:
    found = getattr(error, "response", None)
    return found if isinstance(found, Mapping) else {}


def _metadata(error: BaseException) -> Mapping[str, Any]:
    found = _response(error).get("ResponseMetadata")
    return found if isinstance(found, Mapping) else {}


def _skewed(error: BaseException, wall: float | None) -> bool:
    """Whether the server's Date is more than four minutes from this machine's clock (the rule of aws-sdk-go-v2)."""
    date = header(error, "date")
    if not isinstance(date, str):
        return False
    from email.utils import parsedate_to_datetime

    try:
        theirs = parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError, OverflowError):
        return False
    return abs(theirs - (system.time() if wall is None else wall)) > SKEW


def _handshake(error: SSLError) -> bool:
    """Whether TLS failed while the connection was made. botocore says "SSL validation failed" of any TLS error."""
    seen: BaseException | None = error
    cause = error.kwargs.get("error")
    for _ in range(8):
        if isinstance(seen, ssl.SSLCertVerificationError):
            return True
        if isinstance(seen, ssl.SSLError):
            return getattr(seen, "reason", None) in _HANDSHAKE  # absent from those not raised by OpenSSL
        inner = next((arg for arg in getattr(seen, "args", ()) if isinstance(arg, BaseException)), None)
        if seen is error and isinstance(cause, BaseException):
            inner = cause
        seen = inner or getattr(seen, "__cause__", None) or getattr(seen, "__context__", None)
    return False


def _numeric(value: object) -> bool:
    return isinstance(value, (int, float)) or (isinstance(value, str) and value.strip()[:1].isdigit())


def _wish(value: object, wall: float) -> float | None:
    if isinstance(value, str):
        date, _, tail = value.rpartition(",")
        if date.rstrip().endswith("GMT"):
            return parse(tail, wall)
    seconds = parse(value, wall)
    if seconds is not None or not isinstance(value, str):
        return seconds
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return parse(max(0.0, moment.timestamp() - wall), wall)
