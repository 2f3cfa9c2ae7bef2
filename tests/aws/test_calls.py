"""What happens to the calls of a wrapped client: attempts, what is held, settings for one call."""

from __future__ import annotations

import io
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore
import pytest
from botocore.exceptions import ClientError, UnseekableStreamError

import resilience as rs
from aws.scripted import Answer, Asked, Scripted, error, s3_error
from resilience import aws
from resilience.testing import virtual_clock

VERSION = tuple(map(int, botocore.__version__.split(".")[:2]))
CHECKSUMS: list[dict[str, str]] = [{}]
HANDLED = ["before-call", "request-created", "before-send", "after-call"]
if VERSION >= (1, 36):
    CHECKSUMS = [{"request_checksum_calculation": when} for when in ("when_supported", "when_required")]
    HANDLED.append("before-parse")
DOWN = error(500, "InternalServerError")
PAYLOAD = b"payload" * 1000


def retrying(attempts: int = 3, **parts: Any) -> rs.Policy:
    retry = rs.Retry(on=Exception, attempts=attempts, backoff=0.0, budget=None)
    return rs.Policy(**{"retry": retry, "registry": None, **parts})


# -- one call, several attempts ----------------------------------------------------------------------------------------


def test_one_call_has_one_idempotency_token(make: Callable[..., Any]) -> None:
    """Attempts repeat the request, they do not order twice."""
    with Scripted(s3_error(503, "Unavailable")) as server:
        client = aws.wrap(make(server.url, "ec2"), retrying(3))
        with pytest.raises(ClientError):
            client.run_instances(MinCount=1, MaxCount=1, ImageId="ami-1")
        with pytest.raises(ClientError):
            client.run_instances(MinCount=1, MaxCount=1, ImageId="ami-1")
    tokens = [urllib.parse.parse_qs(asked.body.decode())["ClientToken"][0] for asked in server.asked]
    assert len(tokens) == 6 and len(set(tokens[:3])) == len(set(tokens[3:])) == 1 and tokens[0] != tokens[3]


def test_each_attempt_is_signed_afresh(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The signer runs once for each attempt, on the headers of that attempt."""
    signed = []
    with Scripted(DOWN, DOWN, Answer()) as server:
        client = aws.wrap(make(server.url), retrying(3))
        client.meta.events.register("before-sign", lambda **kwargs: signed.append(kwargs["operation_name"]))
        client.list_tables()
    assert signed == ["ListTables"] * 3
    assert all("Signature=" in asked.headers["Authorization"] for asked in server.asked)


class Spent(io.BytesIO):
    """A file that cannot go back once it has been sent."""

    spent = False

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if self.spent:
            raise OSError("spent")
        return super().seek(offset, whence)


@pytest.mark.parametrize("checksum", CHECKSUMS)
@pytest.mark.parametrize("scheme", ["stream", "file"])
def test_a_body_is_sent_again_from_where_it_stood(
    make: Callable[..., Any], tmp_path: Path, checksum: dict[str, str], scheme: str
) -> None:
    """Not from the start of the file: what stands before is not part of the object."""
    path = tmp_path / "body"
    path.write_bytes(b"HEADER" + PAYLOAD)
    with Scripted(s3_error(500, "InternalError"), s3_error(503, "SlowDown"), Answer(body=b"")) as server:
        client = aws.wrap(make(server.url, "s3", **checksum), retrying(3))
        with path.open("rb") if scheme == "file" else io.BytesIO(path.read_bytes()) as body:
            body.seek(6)
            client.put_object(Bucket="bucket", Key="key", Body=body)
    assert [asked.body for asked in server.asked] == [PAYLOAD] * 3


def test_a_body_that_cannot_go_back_is_not_sent_in_part(make: Callable[..., Any]) -> None:
    """The second attempt is refused rather than sent empty."""
    body = Spent(PAYLOAD)

    def spend(_: Asked) -> Answer:
        body.spent = True
        return s3_error(500, "InternalError")

    with Scripted(spend) as server:
        client = aws.wrap(make(server.url, "s3"), retrying(3))
        with pytest.raises(UnseekableStreamError):
            client.put_object(Bucket="b", Key="k", Body=body)
    assert [asked.body for asked in server.asked] == [PAYLOAD]


def test_retries_see_botocores_own_errors(make: Callable[..., Any]) -> None:
    """The classes of the client, with code and operation; and so do the breaker and the caller."""
    seen: list[Exception] = []

    def note(error: Exception) -> bool:
        seen.append(error)
        return True

    with Scripted(error(400, "ResourceNotFoundException")) as server:
        client = make(server.url)
        policy = rs.Policy(
            retry=rs.Retry(on=note, attempts=2, backoff=0.0),
            breaker=rs.CircuitBreaker(consecutive=3, ignore=client.exceptions.ResourceNotFoundException),
            registry=None,
        )
        aws.wrap(client, policy)
        for _ in range(3):
            with pytest.raises(client.exceptions.ResourceNotFoundException):
                client.get_item(TableName="tbl", Key={})
    assert {type(one) for one in seen} == {client.exceptions.ResourceNotFoundException}
    assert {one.operation_name for one in seen} == {"GetItem"}  # type: ignore[attr-defined]


def test_results_are_judged_as_the_caller_sees_them(make: Callable[..., Any]) -> None:
    """`on_result` gets the parsed answer."""
    with Scripted(Answer(body=b'{"Item": {}}'), Answer(body=b'{"Item": {"a": {"S": "x"}}}')) as server:
        policy = rs.Policy(
            retry=rs.Retry(on=Exception, on_result=lambda answer: not answer["Item"], backoff=0.0), registry=None
        )
        client = aws.wrap(make(server.url), policy)
        answer = client.get_item(TableName="tbl", Key={})
    assert answer["Item"] and answer["ResponseMetadata"]["RetryAttempts"] == 1


def test_waits_go_through_the_clock(make: Callable[..., Any]) -> None:
    """In virtual time a minute of backoff takes no time."""
    with virtual_clock() as clock, Scripted(DOWN) as server:
        policy = rs.Policy(retry=rs.Retry(on=Exception, attempts=3, backoff=[20.0, 40.0]), registry=None)
        client = aws.wrap(make(server.url), policy)
        before = clock.monotonic_ns()
        with pytest.raises(ClientError):
            client.list_tables()
        assert (clock.monotonic_ns() - before) / 1e9 >= 60.0
    assert len(server.asked) == 3


def test_s3_is_redirected_within_one_attempt(make: Callable[..., Any]) -> None:
    """S3's region redirector repairs the request; that is none of our retries."""
    with Scripted(s3_error(301, "PermanentRedirect", x_amz_bucket_region="eu-west-3"), Answer(body=b"there")) as server:
        policy = retrying(1)
        client = aws.wrap(make(server.url, "s3"), policy)
        assert client.get_object(Bucket="bucket", Key="k")["Body"].read() == b"there"
    assert [("eu-west-3" in asked.headers["Authorization"]) for asked in server.asked] == [False, True]


def test_a_good_status_with_an_error_inside_is_an_error(make: Callable[..., Any]) -> None:
    """S3 answers some copies with 200 and an error in the body; botocore turns it into one, and it is retried."""
    broken = Answer(200, b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>x</Message></Error>")
    good = Answer(200, b"<CopyObjectResult><ETag>x</ETag></CopyObjectResult>")
    with Scripted(broken, good) as server:
        client = aws.wrap(make(server.url, "s3"), retrying(2))
        client.copy_object(Bucket="b", Key="k", CopySource="b/j")
    assert len(server.asked) == 2


# -- nothing is lost ---------------------------------------------------------------------------------------------------


class Stop(BaseException):
    """What no handler of botocore's catches."""


@pytest.mark.parametrize("event", HANDLED)
@pytest.mark.parametrize("kind", [Stop, RuntimeError, StopIteration])
def test_whatever_is_raised_where_nothing_stays_held(
    make: Callable[..., Any], event: str, kind: type[BaseException]
) -> None:
    """Slots and probes are given back when a handler raises, also what botocore does not catch."""
    policy = rs.Policy(bulkhead=rs.Bulkhead(1), breaker=rs.CircuitBreaker(consecutive=50), registry=None)

    def fail(**_: object) -> None:
        raise kind("stop")

    with Scripted(Answer(body=b'{"TableNames": []}')) as server:
        client = aws.wrap(make(server.url), policy)
        client.meta.events.register(event, fail)
        for _ in range(3):
            with pytest.raises((kind, RuntimeError)):
                client.list_tables()
        client.meta.events.unregister(event, fail)
        client.list_tables()
    assert policy.counters["bulkhead"]["in_use"] == 0  # type: ignore[index]


def test_a_nested_client_keeps_to_its_own_policy(make: Callable[..., Any]) -> None:
    """Credentials fetched while a request is signed are calls of another client, with or without a policy."""
    with Scripted(DOWN) as server, Scripted(Answer(body=b'{"TableNames": []}')) as good:
        inner = make(server.url, "dynamodb", retries={"mode": "standard", "total_max_attempts": 2})
        outer = make(good.url)
        policy = retrying(4)
        aws.wrap(outer, policy)

        def nested(**_: object) -> None:
            with pytest.raises(ClientError):
                inner.describe_limits()

        outer.meta.events.register("request-created", nested)
        outer.list_tables()
        assert len(server.asked) == 2  # botocore's own retries
        aws.wrap(inner, retrying(3))
        server.asked.clear()
        outer.list_tables()
    assert len(server.asked) == 3
    assert policy.counters["calls"] == 2 and policy.counters["retry"]["retries"] == 0  # type: ignore[index]


def test_a_deadline_around_reaches_the_nested_client(make: Callable[..., Any]) -> None:
    """What a call spends on its credentials is spent from its own time."""
    left: list[float | None] = []
    with Scripted(Answer(body=b'{"TableNames": []}')) as server:
        client = aws.wrap(make(server.url), rs.Policy(deadline=5.0, timeout=3.0, registry=None))
        client.meta.events.register("request-created", lambda **_: left.append(rs.remaining()))
        client.list_tables()
    assert left[0] is not None and 2.0 < left[0] <= 3.0


# -- settings for one call ---------------------------------------------------------------------------------------------


def test_settings_can_be_overridden_for_a_block(make: Callable[..., Any]) -> None:
    """For all policies, or for one; in this thread only."""
    with Scripted(DOWN) as server:
        policy = retrying(4)
        client = aws.wrap(make(server.url), policy)

        def requests(block: Any) -> int:
            server.asked.clear()
            with block, pytest.raises(ClientError):
                client.list_tables()
            return len(server.asked)

        assert requests(rs.override(retry=None)) == 1
        assert requests(policy.override(retry=rs.Retry(on=Exception, attempts=2, backoff=0.0))) == 2
        assert requests(rs.override(timeout=1.0)) == 4


def test_a_timeout_can_be_set_for_one_call(make: Callable[..., Any]) -> None:
    """`override(timeout=...)` changes what the attempt is held to."""
    seen: list[float | None] = []
    with Scripted(Answer(body=b'{"TableNames": []}')) as server:
        client = aws.wrap(make(server.url), rs.Policy(timeout=3.0, registry=None))
        client.meta.events.register("before-send", lambda **_: seen.append(rs.remaining()))
        client.list_tables()
        with rs.override(timeout=0.5):
            client.list_tables()
    assert seen[0] is not None and seen[1] is not None
    assert 2.0 < seen[0] <= 3.0 and 0.1 < seen[1] <= 0.5


def test_a_keyed_part_gets_operation_and_parameters(make: Callable[..., Any]) -> None:
    """So one breaker for each table is a matter of a key function."""
    breakers = rs.PerKey(rs.CircuitBreaker(consecutive=2), key=lambda operation, **params: params["TableName"])
    with Scripted(lambda asked: DOWN if b"sick" in asked.body else Answer(body=b'{"Item": {}}')) as server:
        client = aws.wrap(make(server.url), rs.Policy(breaker=breakers, registry=None))
        for _ in range(2):
            with pytest.raises(ClientError):
                client.get_item(TableName="sick", Key={})
        with pytest.raises(rs.CircuitOpen):
            client.get_item(TableName="sick", Key={})
        client.get_item(TableName="well", Key={})
    assert set(breakers) == {"sick", "well"}


def test_a_key_function_that_fails_holds_no_slot(make: Callable[..., Any]) -> None:
    """Its error is the call's; the slot and the token of the next call are there."""
    wrong = rs.KeyedTokenBucket(100, burst=10, key=lambda operation, **params: params["Missing"])
    policy = rs.Policy(bulkhead=rs.Bulkhead(1), limiter=wrong, breaker=rs.CircuitBreaker(), registry=None)
    with Scripted(Answer(body=b'{"TableNames": []}')) as server:
        client = aws.wrap(make(server.url), policy)
        for _ in range(3):
            with pytest.raises(KeyError, match="Missing"):
                client.list_tables()
    assert server.asked == []
    assert policy.counters["bulkhead"]["in_use"] == 0  # type: ignore[index]
    assert policy.counters["calls"] == policy.counters["failed"] == 3


@pytest.mark.parametrize("where", ["try_acquire", "limit"])
def test_an_interrupt_between_the_parts_holds_no_slot(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Ctrl-C can come at any line, not only while the request is under way."""
    limiter, timeout = rs.TokenBucket(100, burst=10), rs.Timeout(1.0)
    policy = rs.Policy(bulkhead=rs.Bulkhead(1), limiter=limiter, timeout=timeout, registry=None)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with Scripted(Answer(body=b'{"TableNames": []}')) as server:
        client = aws.wrap(make(server.url), policy)
        client.list_tables()
        with monkeypatch.context() as patch:
            patch.setattr(limiter if where == "try_acquire" else timeout, where, interrupt)
            for _ in range(2):
                with pytest.raises(KeyboardInterrupt):
                    client.list_tables()
        client.list_tables()
    assert policy.counters["bulkhead"]["in_use"] == 0  # type: ignore[index]
    assert policy.counters["cancelled"] == 2


def test_a_repaired_request_sends_the_body_again_or_not_at_all(make: Callable[..., Any]) -> None:
    """S3's redirector repeats an upload within one attempt: from where the body stood, and never cut short."""
    moved = s3_error(301, "PermanentRedirect", x_amz_bucket_region="eu-west-3")
    with Scripted(moved, Answer(body=b"")) as server:
        client = aws.wrap(make(server.url, "s3"), retrying(1))
        body = io.BytesIO(b"HEADER" + PAYLOAD)
        body.seek(6)
        client.put_object(Bucket="bucket", Key="k", Body=body)
    assert [asked.body for asked in server.asked] == [PAYLOAD] * 2

    class Untold(io.BytesIO):
        """A stream that can tell where it is only until it has been sent once, and never go back."""

        sent = False

        def tell(self) -> int:
            if self.sent:
                raise OSError("no position")
            return super().tell()

        def seek(self, offset: int, whence: int = 0, /) -> int:
            if self.sent:
                raise OSError("no way back")
            return super().seek(offset, whence)

    stream = Untold(PAYLOAD)

    def sent(_: Asked) -> Answer:
        stream.sent = True
        return moved

    with Scripted(sent) as server:
        client = aws.wrap(make(server.url, "s3"), retrying(1))
        with pytest.raises(UnseekableStreamError):
            client.put_object(Bucket="bucket", Key="k", Body=stream)
    assert [asked.body for asked in server.asked] == [PAYLOAD]
