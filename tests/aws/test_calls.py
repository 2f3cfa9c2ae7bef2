"""What happens to the calls of a wrapped client, by whatever way they are made."""

from __future__ import annotations

import io
import threading
import time
import urllib.parse
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import botocore
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ChecksumError, ClientError, UnseekableStreamError
from s3transfer.manager import TransferManager

import resilience as rs
from aws.conftest import KEYS
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


# -- other ways to call ------------------------------------------------------------------------------------------------


def test_presigning_is_no_call(make: Callable[..., Any]) -> None:
    """No token is paid, no circuit asked, and the URL is what it was."""
    policy = rs.Policy(limiter=rs.TokenBucket(1, burst=1), registry=None)
    client = make("http://127.0.0.1:9", "s3")
    before = client.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"})
    aws.wrap(client, policy)
    after = [client.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"}) for _ in range(3)]
    post = client.generate_presigned_post("b", "k")
    assert [url.split("?")[0] for url in after] == [before.split("?")[0]] * 3 and post["url"]
    assert policy.counters["calls"] == 0 and policy.counters["limiter"]["tokens"] == 1  # type: ignore[index]


@pytest.fixture
def table(moto: str, make: Callable[..., Any], request: pytest.FixtureRequest) -> Any:
    """A client of moto's DynamoDB with a table of its own and five items in it."""
    client = make(moto)
    name = f"t{abs(hash(request.node.nodeid))}"
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    for number in range(5):
        client.put_item(TableName=name, Item={"id": {"S": str(number)}})
    client.table = name
    yield client
    aws.unwrap(client)
    client.delete_table(TableName=name)


def test_paginators_and_waiters_are_covered(table: Any) -> None:
    """Each page and each poll is a call under the policy."""
    policy = retrying()
    aws.wrap(table, policy)
    pages = list(table.get_paginator("scan").paginate(TableName=table.table, PaginationConfig={"PageSize": 2}))
    assert sum(len(page["Items"]) for page in pages) == 5
    assert policy.counters["calls"] == len(pages) >= 3
    table.get_waiter("table_exists").wait(TableName=table.table)
    assert policy.counters["calls"] == len(pages) + 1


def test_a_waiter_still_understands_errors(make: Callable[..., Any]) -> None:
    """A poll that ends in an error the waiter waits for is an answer to it."""
    with Scripted(error(400, "ResourceNotFoundException")) as server:
        client = aws.wrap(make(server.url), rs.Policy(bulkhead=rs.Bulkhead(1), registry=None))
        client.get_waiter("table_not_exists").wait(TableName="tbl", WaiterConfig={"Delay": 0, "MaxAttempts": 2})
    assert len(server.asked) == 1


def test_resources_are_covered(moto: str, session: boto3.Session, table: Any) -> None:
    """Collections, actions and the batch writer of a wrapped session's resource."""
    policy = retrying()
    aws.wrap(session, policy, per="policy")
    items = session.resource("dynamodb", endpoint_url=moto).Table(table.table)
    with items.batch_writer() as batch:
        for number in range(30):
            batch.put_item(Item={"id": f"b{number}"})
    assert policy.counters["calls"] == 2
    assert items.item_count in {5, 35} and items.scan()["Count"] == 35
    items.meta.client.close()
    aws.unwrap(session)


@pytest.fixture
def bucket(moto: str, make: Callable[..., Any]) -> Any:
    client = make(moto, "s3")
    name = f"bucket-{time.monotonic_ns()}"
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    client.bucket = name
    return client


PARTS = TransferConfig(multipart_threshold=5_242_880, multipart_chunksize=5_242_880, max_concurrency=4)
BIG = bytes(range(256)) * 45_000


def test_transfers_in_threads_are_covered(bucket: Any, tmp_path: Path) -> None:
    """Multipart upload, ranged download and managed copy: every part is a call under the policy."""
    policy = retrying()
    aws.wrap(bucket, policy)
    bucket.upload_fileobj(io.BytesIO(BIG), bucket.bucket, "big", Config=PARTS)
    uploaded = policy.counters["calls"]
    assert uploaded == 5  # create, three parts, complete
    bucket.download_file(bucket.bucket, "big", str(tmp_path / "big"), Config=PARTS)
    assert (tmp_path / "big").read_bytes() == BIG
    bucket.copy({"Bucket": bucket.bucket, "Key": "big"}, bucket.bucket, "again", Config=PARTS)
    (tmp_path / "small").write_bytes(b"small")
    bucket.upload_file(str(tmp_path / "small"), bucket.bucket, "small")
    into = io.BytesIO()
    bucket.download_fileobj(bucket.bucket, "again", into, Config=PARTS)
    assert into.getvalue() == BIG
    assert {"UploadPart", "GetObject", "UploadPartCopy", "PutObject"} <= aws.policies(bucket).keys()


def in_threads(client: Any) -> list[tuple[float | None, bool]]:
    """What each attempt of *client* will see: the time left, and whether another thread makes it."""
    seen: list[tuple[float | None, bool]] = []
    home = threading.get_ident()
    client.meta.events.register("before-send", lambda **_: seen.append((rs.remaining(), threading.get_ident() != home)))
    return seen


def test_a_block_reaches_the_threads_of_a_transfer(bucket: Any) -> None:
    """Overrides and deadlines around an upload hold for its parts, which other threads send."""
    aws.wrap(bucket, rs.Policy(timeout=30.0, registry=None))
    seen = in_threads(bucket)
    with rs.override(timeout=7.0):
        bucket.upload_fileobj(io.BytesIO(BIG), bucket.bucket, "big", Config=PARTS)
    assert sum(elsewhere for _, elsewhere in seen) >= 4
    assert all(left is not None and left <= 7.0 for left, _ in seen)


def test_carry_takes_a_block_into_threads_of_ones_own(bucket: Any) -> None:
    """The view is of the client's class; without anything in force it is the client; the client stays as it is."""
    aws.wrap(bucket, rs.Policy(timeout=30.0, registry=None))
    assert aws.carry(bucket) is bucket
    seen = in_threads(bucket)
    with rs.override(timeout=7.0):
        view = aws.carry(bucket)
    assert type(view) is type(bucket) and view.meta is bucket.meta
    with ThreadPoolExecutor(1) as pool:
        pool.submit(view.list_buckets).result()
        pool.submit(bucket.list_buckets).result()
    with TransferManager(view) as manager:
        manager.upload(io.BytesIO(b"x"), bucket.bucket, "x").result()
    lefts = [left for left, _ in seen]
    assert lefts[0] is not None and lefts[0] <= 7.0
    assert lefts[1] is not None and lefts[1] > 7.0
    assert lefts[2] is not None and lefts[2] <= 7.0


# -- hedges, fallbacks, other regions ----------------------------------------------------------------------------------


def slow_first(*answers: Answer) -> list[Callable[[Asked], Answer]]:
    gate = threading.Event()

    def first(_: Asked) -> Answer:
        gate.wait(1.0)
        return answers[0]

    return [first, lambda _: answers[-1]]


def test_a_slow_read_is_hedged(make: Callable[..., Any]) -> None:
    """The second attempt's answer is the call's, signed for itself, and the first is dropped."""
    one, two = Answer(body=b'{"Item": {"n": {"S": "1"}}}'), Answer(body=b'{"Item": {"n": {"S": "2"}}}')
    with Scripted(*slow_first(one, two)) as server:
        policy = rs.Policy(hedge=rs.Hedge(0.05), registry=None)
        client = aws.wrap(make(server.url), policy)
        began = time.monotonic()
        answer = client.get_item(TableName="tbl", Key={})
        took = time.monotonic() - began
        assert answer["Item"] == {"n": {"S": "2"}} and took < 0.8
    assert policy.counters["hedge"]["won"] == 1  # type: ignore[index]
    assert len(server.asked) == 2


def test_only_reads_are_hedged_unless_the_operation_is_named(make: Callable[..., Any]) -> None:
    """A write sent twice is two writes; who names the operation knows that it is not."""
    for given, times in (
        (rs.Policy(hedge=rs.Hedge(0.05), registry=None), 1),
        ({"UpdateItem": rs.Policy(hedge=rs.Hedge(0.05), registry=None)}, 2),
    ):
        with Scripted(*slow_first(Answer(), Answer())) as server:
            client = aws.wrap(make(server.url), given)
            client.update_item(TableName="tbl", Key={})
            time.sleep(0.0)
        assert len(server.asked) == times


def test_a_fallback_answers_in_place_of_the_call(make: Callable[..., Any]) -> None:
    """A value, or a function of operation and parameters; whatever the call failed with."""
    with Scripted(DOWN) as server:
        client = make(server.url)
        aws.wrap(client, rs.Policy(fallback=rs.Fallback(value={"Item": None}), registry=None))
        assert client.get_item(TableName="tbl", Key={}) == {"Item": None}
        told: list[Any] = []

        def answer(operation: str, **params: Any) -> dict[str, Any]:
            told.append((operation, params))
            return {}

        aws.wrap(client, retrying(2, fallback=rs.Fallback(answer)))
        assert client.get_item(TableName="tbl", Key={"id": {"S": "1"}}) == {}
    assert told == [("GetItem", {"TableName": "tbl", "Key": {"id": {"S": "1"}}})]
    assert len(server.asked) == 3


def test_reads_go_to_another_region_while_the_circuit_is_open(make: Callable[..., Any]) -> None:
    """Writes do not; and when the first region is back, its probes bring the reads home."""
    health = {"first": False}
    here, there = Answer(body=b'{"Item": {"r": {"S": "1"}}}'), Answer(body=b'{"Item": {"r": {"S": "2"}}}')
    with (
        virtual_clock() as clock,
        Scripted(lambda _: here if health["first"] else DOWN) as first,
        Scripted(there) as second,
    ):
        other = aws.wrap(make(second.url, region="eu-west-3"), rs.Policy(registry=None, deadline=1.0))
        breaker = rs.CircuitBreaker(consecutive=2, open_for=5.0, jitter=0.0, probes=1, ramp=0.0)
        policy = rs.Policy(breaker=breaker, fallback=aws.Failover(other), registry=None)
        client = aws.wrap(make(first.url), policy)

        def read() -> str:
            return client.get_item(TableName="tbl", Key={})["Item"]["r"]["S"]  # type: ignore[no-any-return]

        for _ in range(2):
            with pytest.raises(ClientError):  # not yet open
                read()
        assert [read() for _ in range(3)] == ["2"] * 3
        with pytest.raises(rs.CircuitOpen):
            client.put_item(TableName="tbl", Item={})
        assert len(first.asked) == 2
        clock.advance(5.1)
        with pytest.raises(ClientError):  # the probe, still in vain
            read()
        assert read() == "2"
        health["first"] = True
        clock.advance(30.0)
        assert [read() for _ in range(3)] == ["1"] * 3
        client.put_item(TableName="tbl", Item={})


def test_failover_refuses_what_is_no_client(make: Callable[..., Any]) -> None:
    """At construction, and without any client as well."""
    with pytest.raises(TypeError, match="clients must be botocore clients"):
        aws.Failover("eu-west-3")
    with pytest.raises(rs.ConfigError):
        aws.Failover()


# -- many at once ------------------------------------------------------------------------------------------------------


def test_one_client_in_many_threads(make: Callable[..., Any]) -> None:
    """Every call gets its own answer, every attempt is counted, nothing stays held."""
    sick: dict[bytes, int] = {}
    lock = threading.Lock()

    def sometimes(asked: Asked) -> Answer:
        with lock:
            sick[asked.body] = sick.get(asked.body, 0) + 1
            again = sick[asked.body] == 1 and asked.body[-3:-2] in b"05"
        return DOWN if again else Answer(body=b'{"Item": {"n": {"S": "%d"}}}' % len(asked.body))

    policy = retrying(3, bulkhead=rs.Bulkhead(8, queue=100, max_wait=30.0), deadline=60.0)
    with Scripted(sometimes) as server:
        client = aws.wrap(make(server.url, max_pool_connections=20), policy)

        def one(number: int) -> bool:
            key = {"id": {"S": "x" * number}}
            answer = client.get_item(TableName="tbl", Key=key)
            return bool(
                answer["Item"]["n"]["S"] == str(len(b'{"TableName": "tbl", "Key": {"id": {"S": ""}}}') + number)
            )

        with ThreadPoolExecutor(20) as pool:
            assert all(pool.map(one, range(1, 200)))
    assert policy.counters["calls"] == 199
    assert policy.counters["bulkhead"]["in_use"] == 0  # type: ignore[index]


def test_the_keys_are_only_for_loopback() -> None:
    """The tests use made-up credentials."""
    assert KEYS["aws_secret_access_key"] == "test"


def test_a_hedge_that_lost_is_ended(make: Callable[..., Any]) -> None:
    """Its thread does not wait for an answer that nobody will read."""
    release = threading.Event()

    def never(_: Asked) -> Answer:
        release.wait(10.0)
        return Answer()

    ended = threading.Event()
    with Scripted(never, Answer(body=b'{"Item": {}}')) as server:
        client = make(server.url)
        client.meta.events.register("response-received", lambda exception, **_: exception is not None and ended.set())
        aws.wrap(client, rs.Policy(hedge=rs.Hedge(0.02), registry=None))
        client.get_item(TableName="tbl", Key={})
        assert ended.wait(2.0)
        release.set()


def test_a_corrupt_answer_of_dynamodb_is_asked_for_again(make: Callable[..., Any]) -> None:
    """Its checksum is looked at, as botocore's retry handlers do; one that stays wrong is an error."""
    good = Answer(body=b'{"Item": {}}', headers={"x-amz-crc32": str(zlib.crc32(b'{"Item": {}}'))})
    bad = Answer(body=b'{"Item": {"x": {"S": "?"}}}', headers=good.headers)
    with Scripted(bad, good, bad) as server:
        client = aws.wrap(make(server.url), rs.Policy(retry=aws.AwsRetry(base=0.001), registry=None))
        assert client.get_item(TableName="tbl", Key={})["Item"] == {}
        assert len(server.asked) == 2
        with pytest.raises(ChecksumError):
            client.get_item(TableName="tbl", Key={})
        assert len(server.asked) == 2 + 4
