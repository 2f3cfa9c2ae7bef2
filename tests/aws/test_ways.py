"""The ways to call a wrapped client besides its methods: pages, polls, resources, transfers, threads."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from s3transfer.manager import TransferManager

import resilience as rs
from aws.conftest import KEYS
from aws.scripted import Answer, Asked, Scripted, error
from resilience import aws

DOWN = error(500, "InternalServerError")


def retrying(attempts: int = 3, **parts: Any) -> rs.Policy:
    retry = rs.Retry(on=Exception, attempts=attempts, backoff=0.0, budget=None)
    return rs.Policy(**{"retry": retry, "registry": None, **parts})


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
