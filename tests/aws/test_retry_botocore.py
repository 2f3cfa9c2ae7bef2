"""Ours beside the installed botocore's own retry objects, fed with the same answers.

These names of botocore are no public interface. If they move, this file fails at import, and what is claimed of
botocore's modes has to be looked at again.
"""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any, NamedTuple
from zlib import crc32

import pytest
from botocore import retryhandler, translate
from botocore.exceptions import (
    BotoCoreError,
    ChecksumError,
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
from botocore.retries import quota as botocore_quota
from botocore.retries import standard as theirs
from hypothesis import given
from hypothesis import strategies as st

from aws.awsretry import OK, Bench, Fixed, failed, model, models, operation
from resilience.aws import _rules, kinds
from resilience.aws.presets import standard
from resilience.aws.retry_quota import RetryQuota

OPERATIONS = [
    ("sqs", "ListQueues"), ("sqs", "ReceiveMessage"), ("stepfunctions", "GetActivityTask"),
    ("swf", "PollForActivityTask"), ("dynamodb", "PutItem"), ("dynamodbstreams", "GetRecords"), ("sts", "AssumeRole"),
    ("lambda", "Invoke"), ("accessanalyzer", "ListAnalyzers"), ("s3", "PutObject"), ("route53", "ListHostedZones"),
    ("organizations", "ListAccounts"), ("glacier", "ListVaults"), ("kinesis", "PutRecord"), ("iot", "ListThings"),
    ("ec2", "RunInstances"), ("account", "GetPrimaryEmail"),
]  # fmt: skip
URL = {"endpoint_url": "http://127.0.0.1/"}
EXCEPTIONS = [
    EndpointConnectionError(**URL), ConnectTimeoutError(**URL), ReadTimeoutError(**URL), ConnectionClosedError(**URL),
    ProxyConnectionError(proxy_url="x"), SSLError(**URL, error="x"), HTTPClientError(error="x"), NoCredentialsError(),
    ValueError("x"),
]  # fmt: skip
STATUSES = [200, 400, 403, 404, 408, 409, 413, 429, 500, 501, 502, 503, 504, 509]
LEGACY = models().get_data("_retry")


class Heard(NamedTuple):
    """An answer, or the exception there was instead."""

    code: str | None = None
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    exception: Exception | None = None
    content: bytes = b""

    @property
    def http(self) -> Any:
        return SimpleNamespace(status_code=self.status, headers=dict(self.headers), content=self.content)

    @property
    def error(self) -> Exception | None:
        """What a caller gets."""
        if self.exception is not None:
            return self.exception
        found: Exception | None = kinds.checksum_error(dict(self.headers), self.content)
        if found is None and (self.status >= 300 or self.code is not None):
            found = failed(self.code, self.status, dict(self.headers))
        return found


def codes() -> list[str | None]:
    found = {code for names in OPERATIONS for code in operation(*names).codes}
    legacy = {code for table in _rules._LEGACY_SERVICES.values() for _, code in table}
    return [
        None, "NotAThrottlingError",
        *sorted(found | legacy | kinds.THROTTLING_CODES | kinds.TRANSIENT_CODES | kinds.SKEW_CODES),
    ]  # fmt: skip


CODES = codes()
WISHES = st.sampled_from(["0", "40", "1500", "99999", "-3", "x", "1.5", " 70 "]).map(
    lambda value: (("x-amz-retry-after", value),)
)
ANSWERS = st.builds(
    Heard, st.sampled_from(CODES), st.sampled_from([s for s in STATUSES if s > 200]), st.just(()) | WISHES
)
LIKELY = st.builds(Heard, st.sampled_from([None, "SlowDown"]), st.sampled_from([500, 503, 429]), st.just(()) | WISHES)
GOOD = st.just(Heard())
FAILED = st.sampled_from(EXCEPTIONS).map(lambda error: Heard(exception=error))


class Botocore:
    """botocore's standard mode for one client, put together as `register_retry_handler` does."""

    def __init__(self, service: str, name: str, capacity: int, attempts: int | None, u: float) -> None:
        self.model = model(service, name)
        service_id = self.model.service_model.service_id.hyphenize()
        if attempts is None:
            attempts = theirs._SERVICE_MAX_ATTEMPTS.get(service_id, theirs.DEFAULT_MAX_ATTEMPTS)
        self.attempts = attempts
        adapter = theirs.RetryEventAdapter()
        detector = theirs.ThrottlingErrorDetector(adapter)
        self.quota = botocore_quota.RetryQuota(initial_capacity=capacity)
        self.checker = theirs.RetryQuotaChecker(self.quota, detector)
        self.slept: list[float] = []
        self.handler = theirs.RetryHandler(
            retry_policy=theirs.RetryPolicy(
                retry_checker=theirs.StandardRetryConditions(max_attempts=attempts),
                retry_backoff=theirs.ExponentialBackoff(
                    random=lambda: u, service_name=service_id, throttling_detector=detector
                ),
            ),
            retry_event_adapter=adapter,
            retry_quota=self.checker,
            service_name=service_id,
            sleep=self.slept.append,
        )

    def call(self, answers: list[Heard]) -> tuple[int, list[float]]:
        """How many answers one call takes, and its waits."""
        del self.slept[:]
        context: dict[str, Any] = {}
        for number, heard in enumerate(answers, 1):
            parsed = {"Error": {} if heard.code is None else {"Code": heard.code}, "ResponseMetadata": {}}
            delay = self.handler.needs_retry(
                response=None if heard.exception else (heard.http, parsed),
                endpoint=None,
                operation=self.model,
                attempts=number,
                caught_exception=heard.exception,
                request_dict={"context": context},
            )
            if delay is None or delay is False:
                if not heard.exception:
                    self.checker.release_retry_quota(context, heard.http)
                return number, list(self.slept)
            self.slept.append(delay)
        raise AssertionError("it wants more answers")


@given(
    st.sampled_from(OPERATIONS),
    st.integers(14, 120),
    st.none() | st.integers(1, 6),
    st.floats(0, 1, exclude_max=True) | st.just(1.0),
    st.lists(st.lists(LIKELY | LIKELY | GOOD | ANSWERS | FAILED, min_size=7, max_size=7), min_size=1, max_size=8),
)
def test_standard(
    names: tuple[str, str], capacity: int, attempts: int | None, u: float, calls: list[list[Heard]]
) -> None:
    """Over any calls: as many attempts, the same waits, the same level of the quota after each call."""
    known = Botocore(*names, capacity, attempts, u)
    bench = Bench(standard(attempts=attempts, quota=RetryQuota(capacity), rng=Fixed(u)))
    op = operation(*names)
    assert bench.retry.attempts_for(op) == known.attempts
    for answers in calls:
        outcomes = [OK if heard.error is None else heard.error for heard in answers]
        taken, waits = known.call(answers)
        row = iter(outcomes)
        end, slept = bench.call(row, op)
        assert len(list(row)) == len(outcomes) - taken
        assert end is outcomes[taken - 1]
        assert [wait for wait in slept if wait] == pytest.approx([wait for wait in waits if wait])
        assert bench.retry._quota is not None
        assert bench.retry._quota.available == known.quota.available_capacity


@pytest.mark.parametrize("names", OPERATIONS, ids=".".join)
def test_what_is_retryable(names: tuple[str, str]) -> None:
    """Each code with each status, and each exception, is retryable or a throttle for both or for none."""
    conditions = theirs.StandardRetryConditions(max_attempts=9)
    detector = theirs.ThrottlingErrorDetector(theirs.RetryEventAdapter())
    op = operation(*names)
    heards = [Heard(code, status) for code in CODES for status in STATUSES]
    for heard in heards + [Heard(exception=error) for error in EXCEPTIONS]:
        context = theirs.RetryContext(
            attempt_number=1,
            operation_model=model(*names),
            http_response=None if heard.exception else heard.http,
            parsed_response=None if heard.exception else {"Error": {"Code": heard.code} if heard.code else {}},
            caught_exception=heard.exception,
        )
        error = heard.error
        kind = kinds.Kind.OTHER if error is None else _rules.classify("2.1", error, None, op)
        assert (kind is not kinds.Kind.OTHER) is bool(conditions.is_retryable(context)), heard
        assert (kind is kinds.Kind.THROTTLING) is bool(detector.is_throttling_error_from_context(context)), heard


def test_lists() -> None:
    """The lists of codes, statuses and operations, and the numbers, are botocore's."""
    assert frozenset(theirs.ThrottledRetryableChecker._THROTTLED_ERROR_CODES) == kinds.THROTTLING_CODES
    assert frozenset(theirs.TransientRetryableChecker._TRANSIENT_ERROR_CODES) == kinds.TRANSIENT_CODES
    assert frozenset(theirs.TransientRetryableChecker._TRANSIENT_STATUS_CODES) == kinds.TRANSIENT_STATUSES
    for service, name in (("kinesis", "ReceiveQueueRecords"), *OPERATIONS):
        listed = theirs.RetryHandler._LONG_POLLING_OPERATIONS.get(operation(service, name).service, ())
        assert operation(service, name).long_polling is (name in listed)
    checker, backoff = theirs.RetryQuotaChecker, theirs.ExponentialBackoff
    assert (checker._RETRY_COST, checker._THROTTLING_RETRY_COST, checker._NO_RETRY_INCREMENT) == (14, 5, 1)
    quota = standard()._quota
    assert quota is not None
    assert (quota.capacity, quota.cost_of(kinds.Kind.TRANSIENT), quota.cost_of(kinds.Kind.THROTTLING)) == (
        botocore_quota.RetryQuota.INITIAL_CAPACITY, 14, 5,
    )  # fmt: skip
    assert standard().numbers_for(operation()) == _rules.Numbers(
        theirs.DEFAULT_MAX_ATTEMPTS,
        backoff._DEFAULT_BACKOFF_CONFIG["non_throttling_base_scale"],
        backoff._DEFAULT_BACKOFF_CONFIG["throttling_base_scale"],
        backoff._MAX_BACKOFF,
    )
    assert set(theirs._SERVICE_MAX_ATTEMPTS) == set(backoff._SERVICE_BACKOFF_CONFIG) == _rules.DYNAMODB


@pytest.mark.parametrize("good", [True, False])
def test_crc32(good: bool) -> None:
    """A DynamoDB answer with the wrong checksum is asked for again by both, of another service by neither."""
    heard = Heard(headers=(("x-amz-crc32", str(crc32(b"body") + (not good))),), content=b"body")
    for rest in ([heard], [Heard()]):
        known, bench = Botocore("dynamodb", "GetItem", 500, None, 1.0), Bench(standard(rng=Fixed()))
        answers = [heard, *rest, Heard(), Heard()]
        outcomes = [OK if h.error is None else h.error for h in answers]
        assert known.call(answers)[1] == bench.call(outcomes, operation("dynamodb", "GetItem"))[1]


# -- legacy mode -------------------------------------------------------------------------------------------------------


def legacy(service: str, name: str) -> Any:
    """Botocore's legacy handler for a service, as its client creator makes it."""
    prefix = model(service, name).service_model.endpoint_prefix
    table = copy.deepcopy(LEGACY)  # the organizations entry would be written into the table of all services
    config = translate.build_retry_config(prefix, table["retry"], table.get("definitions", {}))
    return retryhandler.create_retry_handler(config, prefix)


def legacy_answer(handler: Any, heard: Heard, number: int) -> float | None:
    """The wait it says before the next attempt, or ``None``."""
    error = {} if heard.code is None else {"Code": heard.code}
    try:
        delay = handler(
            attempts=number,
            response=None if heard.exception else (heard.http, {"Error": error, "ResponseMetadata": {}}),
            caught_exception=heard.exception,
            request_dict={"context": {}},
        )
    except (ChecksumError, BotoCoreError, ValueError):  # its way to say no
        return None
    assert delay is None or isinstance(delay, float)
    return delay


@pytest.mark.parametrize("names", OPERATIONS, ids=".".join)
def test_legacy(names: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Legacy mode retries the same answers after the same waits, and gives up after as many attempts."""
    monkeypatch.setattr(retryhandler.random, "random", lambda: 1.0)
    handler, op = legacy(*names), operation(*names)
    bench = Bench(standard("legacy", rng=Fixed()))
    heards = [Heard(code, status) for code in CODES for status in STATUSES if status > 200]
    heards += [Heard(exception=error) for error in EXCEPTIONS]
    heards.append(Heard(headers=(("x-amz-crc32", "1"),), content=b"x"))
    for heard in heards:
        waits: list[float] = []
        while (delay := legacy_answer(handler, heard, len(waits) + 1)) is not None:
            waits.append(delay)
        if isinstance(heard.error, ChecksumError) and op.service != "dynamodb":
            assert waits == []
            continue
        end, slept = bench.call([heard.error] * 20, op)
        assert isinstance(end, (ClientError, type(heard.error)))
        assert slept == pytest.approx(waits), heard
