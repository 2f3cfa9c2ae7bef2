from __future__ import annotations

import socket
import ssl
from typing import Any
from zlib import crc32

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
)
from hypothesis import given
from hypothesis import strategies as st

from aws.awsretry import failed, operation
from resilience import CircuitOpen, DeadlineExceeded, TimedOut
from resilience.aws.kinds import (
    Kind,
    checksum_error,
    code_of,
    is_retryable,
    is_throttle,
    is_transient,
    is_unhealthy,
    kind_of,
    not_taken_effect,
    retry_after,
)

URL = {"endpoint_url": "http://127.0.0.1/"}
THROTTLES = """Throttling ThrottlingException ThrottledException RequestThrottledException TooManyRequestsException
ProvisionedThroughputExceededException TransactionInProgressException RequestLimitExceeded BandwidthLimitExceeded
LimitExceededException RequestThrottled SlowDown PriorRequestNotComplete EC2ThrottledException""".split()  # fmt: skip  # noqa: SIM905
WALL = 1_445_412_480.0  # Wed, 21 Oct 2015 07:28:00 GMT


@pytest.mark.parametrize("status", [400, 429, 503, 200])
@pytest.mark.parametrize("code", THROTTLES)
def test_throttling(code: str, status: int) -> None:
    """Each of the 14 codes means throttling, whatever the status."""
    error = failed(code, status)
    assert kind_of(error) is Kind.THROTTLING
    assert is_throttle(error) and is_retryable(error) and not is_transient(error) and not is_unhealthy(error)


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("RequestTimeout", 400, Kind.TRANSIENT),
        ("RequestTimeoutException", 408, Kind.TRANSIENT),
        (None, 500, Kind.TRANSIENT),
        (None, 502, Kind.TRANSIENT),
        (None, 503, Kind.TRANSIENT),
        ("InternalError", 504, Kind.TRANSIENT),
        (None, 509, Kind.OTHER),
        (None, 501, Kind.OTHER),
        (None, 400, Kind.OTHER),
        (None, 200, Kind.OTHER),
        ("NotAThrottlingError", 400, Kind.OTHER),
        (None, 429, Kind.THROTTLING),
        ("Unknown", 429, Kind.THROTTLING),
        ("IDPCommunicationError", 400, Kind.TRANSIENT),
        ("ConditionalCheckFailedException", 400, Kind.OTHER),
    ],
)
def test_answers(code: str | None, status: int, kind: Kind) -> None:
    """Codes and statuses mean what the SDKs' standard says."""
    assert kind_of(failed(code, status)) is kind


def test_models() -> None:
    """The operation's model adds codes, and 429 is left to it where it knows the code."""
    op = operation("accessanalyzer", "ListAnalyzers")
    assert kind_of(failed("InternalServerException", 400), None, op) is Kind.TRANSIENT
    assert kind_of(failed("InternalServerException", 400)) is Kind.OTHER
    assert kind_of(failed("ValidationException", 429), None, op) is Kind.OTHER
    assert kind_of(failed("Unknown", 429), None, op) is Kind.THROTTLING
    lam = operation("lambda", "GetFunction")
    assert kind_of(failed("IDPCommunicationError", 400), None, lam) is Kind.OTHER
    assert kind_of(failed("IDPCommunicationError", 400), None, operation("sts", "AssumeRole")) is Kind.TRANSIENT


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (EndpointConnectionError(**URL), Kind.TRANSIENT),
        (ProxyConnectionError(proxy_url="x"), Kind.TRANSIENT),
        (ConnectionClosedError(**URL), Kind.TRANSIENT),
        (SSLError(**URL, error="x"), Kind.TRANSIENT),
        (HTTPClientError(error="x"), Kind.TRANSIENT),
        (ConnectTimeoutError(**URL), Kind.TIMEOUT),
        (ReadTimeoutError(**URL), Kind.TIMEOUT),
        (TimedOut("x"), Kind.TIMEOUT),
        (DeadlineExceeded("x"), Kind.OTHER),
        (CircuitOpen("x"), Kind.OTHER),
        (NoCredentialsError(), Kind.OTHER),
        (ValueError("x"), Kind.OTHER),
    ],
)
def test_transport(error: Exception, kind: Kind) -> None:
    """Connections that failed and answers that did not come pass; a deadline or a refusal of ours does not."""
    assert kind_of(error) is kind
    assert is_unhealthy(error) is is_transient(error) is is_retryable(error) is (kind is not Kind.OTHER)


def date(seconds: float) -> dict[str, str]:
    from email.utils import formatdate

    return {"date": formatdate(WALL + seconds, usegmt=True)}


@pytest.mark.parametrize(
    ("code", "headers", "skewed"),
    [
        ("RequestTimeTooSkewed", date(300), True),
        ("InvalidSignatureException", date(-300), True),
        ("SignatureDoesNotMatch", date(241), True),
        ("AuthFailure", date(241), True),
        ("AccessDeniedException", date(241), True),
        ("RequestTimeTooSkewed", date(240), False),
        ("RequestTimeTooSkewed", date(120), False),
        ("RequestTimeTooSkewed", {}, False),
        ("RequestTimeTooSkewed", {"date": "yesterday"}, False),
        ("RequestExpired", date(300), False),
        ("RequestInTheFuture", date(300), False),
        ("AccessDenied", date(300), False),
    ],
)
def test_clock_skew(code: str, headers: dict[str, str], skewed: bool) -> None:
    """A refused signature is worth a retry if the clocks differ by more than four minutes, and only then."""
    kind = kind_of(failed(code, 403, headers), WALL)
    assert kind is (Kind.CLOCK_SKEW if skewed else Kind.OTHER)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "120"}, 120.0),
        ({"Retry-After": "1.5"}, 1.5),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT"}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:27:00 GMT"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT, 45"}, 45.0),
        ({"retry-after": "2015-10-21T07:29:00Z"}, 60.0),
        ({"retry-after": "2015-10-21T07:29:00"}, 60.0),
        ({"retry-after": "not-a-number"}, None),
        ({"retry-after": "-5"}, None),
        ({"x-amz-retry-after": "1500"}, 1.5),
        ({"x-amz-retry-after": "soon"}, None),
        ({"x-amz-retry-after": "-1"}, None),
        ({"x-amz-retry-after": "2000", "retry-after": "9"}, 2.0),
        ({"retry-after": "9", "x-amz-retry-after": "2000"}, 9.0),
        ({"retry-after": "not-a-number", "x-amz-retry-after": "2000"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    """Every published form is read, and of two headers the one that stands first."""
    assert retry_after(failed("SlowDown", 503, headers), WALL) == seconds


@given(
    st.sampled_from(["retry-after", "x-amz-retry-after", "date"]), st.text() | st.integers() | st.none() | st.floats()
)
def test_headers_never_raise(name: str, value: Any) -> None:
    """Whatever stands in a header, nothing raises, and no wish is negative."""
    error = failed("AuthFailure", 403, {name: value})
    assert (retry_after(error, WALL) or 0) >= 0
    assert kind_of(error, WALL) in Kind


@pytest.mark.parametrize(
    "response", [None, "x", {}, {"Error": "text"}, {"Error": {"Code": 7}}, {"ResponseMetadata": 3}]
)
def test_odd_errors(response: Any) -> None:
    """An answer whose "Error" is a string, or that is no answer at all, has no code and is not retried."""
    error = failed()
    error.response = response
    assert code_of(error) is None and not is_retryable(error) and retry_after(error) is None


def caused(cause: BaseException | None, error: BaseException | None = None) -> BaseException:
    error = TimedOut("x") if error is None else error
    error.__cause__ = cause
    return error


CERTIFICATE = ssl.SSLCertVerificationError(1, "certificate verify failed")


@pytest.mark.parametrize(
    ("error", "sure"),
    [
        (EndpointConnectionError(**URL), True),
        (ConnectTimeoutError(**URL), True),
        (ProxyConnectionError(proxy_url="x"), True),
        (SSLError(**URL, error=CERTIFICATE), True),
        (SSLError(**URL, error=Exception(CERTIFICATE)), True),
        (SSLError(**URL, error=ssl.SSLError(1, "[SSL: DECRYPTION_FAILED] x")), False),
        (SSLError(**URL, error="x"), False),
        (failed("SlowDown", 503), True),
        (failed(None, 429), True),
        (failed("TransactionInProgressException"), False),
        (NoCredentialsError(), True),
        (CircuitOpen("x"), True),
        (caused(ConnectTimeoutError(**URL)), True),
        (caused(EndpointConnectionError(**URL)), True),
        (caused(caused(ConnectTimeoutError(**URL))), True),
        (caused(ReadTimeoutError(**URL)), False),
        (caused(None), False),
        (ReadTimeoutError(**URL), False),
        (ConnectionClosedError(**URL), False),
        (caused(EndpointConnectionError(**URL), ConnectionClosedError(**URL)), False),
        (failed(None, 500), False),
        (failed(None, 503), False),
        (failed("RequestTimeout", 400), False),
        (ValueError("x"), False),
    ],
)
def test_not_taken_effect(error: BaseException, sure: bool) -> None:
    """Only what surely did nothing is said to have done nothing."""
    assert not_taken_effect(error) is sure


def test_not_taken_effect_skew_and_mark() -> None:
    """A request refused for its clock did nothing; an exception that says it was not sent is believed."""
    import time
    from email.utils import formatdate

    assert not_taken_effect(failed("AuthFailure", 403, {"date": formatdate(time.time() + 900, usegmt=True)}))
    error = ReadTimeoutError(**URL)
    error.not_sent = True
    assert not_taken_effect(error) and not_taken_effect(caused(error))


def test_real_handshake_failure() -> None:
    """A TLS server that speaks plain HTTP is a failed handshake, as Python itself reports it."""
    server = socket.create_server(("127.0.0.1", 0))
    with server, socket.create_connection(server.getsockname()) as plain:
        peer, _ = server.accept()
        with peer:
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            context = ssl.create_default_context()
            with pytest.raises(ssl.SSLError) as caught:
                context.wrap_socket(plain, server_hostname="localhost")
    assert not_taken_effect(SSLError(**URL, error=caught.value))


def test_unhealthy() -> None:
    """A breaker counts what a 5xx or a dead line says, not a throttle, nor an answer of status 4xx."""
    assert is_unhealthy(failed(None, 503)) and is_unhealthy(TimedOut("x"))
    assert not is_unhealthy(failed("SlowDown", 503))
    assert not is_unhealthy(failed("RequestTimeout", 400))
    assert not is_unhealthy(failed("AccessDenied", 403))


@given(st.binary(), st.binary())
def test_checksum(body: bytes, other: bytes) -> None:
    """A body that is not what DynamoDB's checksum says is worth a retry, and only such."""
    headers = {"x-amz-crc32": str(crc32(body))}
    assert checksum_error(headers, body) is None
    error = checksum_error(headers, other)
    assert (error is None) is (crc32(body) == crc32(other))
    assert error is None or is_transient(error)


def test_checksum_absent() -> None:
    """Without a checksum, or with none that can be read, there is nothing to say."""
    assert checksum_error({}, b"x") is None and checksum_error({"x-amz-crc32": "x"}, b"x") is None


def test_client_errors_of_services() -> None:
    """The classes a client makes for its service's errors are read like any other."""

    class Special(ClientError):
        pass

    assert is_throttle(Special(failed("SlowDown").response, "x"))
