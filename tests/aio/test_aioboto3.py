"""aioboto3: its sessions, resources and transfers. Needs an environment of its own, like its aiobotocore."""

from __future__ import annotations

import asyncio
import io
import time
from typing import Any

import aioboto3
import pytest

import resilience as rs
from aio.support import config, flaky, run
from aws.conftest import KEYS
from aws.scripted import Answer, Scripted, error
from resilience import aws
from resilience.aws._guard import guard_of

# aiohttp's, of how aioboto3 sends the parts of an upload.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body directly with raw bytes:ResourceWarning")

NOWHERE = "http://127.0.0.1:9"
DOWN = error(500, "InternalServerError")


def session() -> aioboto3.Session:
    return aioboto3.Session(**KEYS)


@run
async def test_a_session_wraps_what_it_makes_and_what_it_has_made() -> None:
    """Clients and resources, later ones and earlier ones, and no others; unwrapping frees them all."""
    one, other = session(), session()
    keys = {"endpoint_url": NOWHERE}
    async with (
        one.client("s3", **keys) as early,
        one.resource("sqs", **keys) as early_resource,
        other.client("s3", **keys) as stranger,
    ):
        assert aws.wrap(one, flaky()) is one
        async with one.client("dynamodb", **keys) as late, one.resource("s3", **keys) as late_resource:
            bucket = await late_resource.Bucket("b")
            made = [early, early_resource.meta.client, late, late_resource.meta.client, bucket.meta.client]
            assert all(guard_of(client) for client in made)
            assert guard_of(stranger) is None
            assert aws.unwrap(one) is one
            assert not any(guard_of(client) for client in made)
        assert "_create_client" not in vars(one._session)


@run
async def test_everything_at_once() -> None:
    """The module stands for all of its clients in this process."""
    aws.wrap(aioboto3, flaky())
    try:
        async with session().client("s3", endpoint_url=NOWHERE) as made:
            assert guard_of(made)
    finally:
        aws.unwrap(aioboto3)
    assert guard_of(made) is None


@run
async def test_what_makes_blocking_clients_only_says_so() -> None:
    """`client` and `resource` refuse a session whose clients are asynchronous."""
    for make in (aws.client, aws.resource):
        with pytest.raises(TypeError, match="wrap it, or the client inside its block"):
            make("s3", flaky(), session=session())


@run
async def test_a_resource_is_wrapped_with_its_client() -> None:
    """Its actions and collections are calls under the policy; `policies` looks into it, `unwrap` takes it off."""
    with Scripted(DOWN, Answer(body=b'{"TableNames": ["t"]}'), Answer()) as server:
        async with session().resource("dynamodb", endpoint_url=server.url) as made:
            policy = flaky(2)
            assert aws.wrap(made, policy) is made
            assert [table.name async for table in made.tables.all()] == ["t"]
            table = await made.Table("t")
            await table.put_item(Item={"id": "1"})
            assert sorted(aws.policies(made)) == ["ListTables", "PutItem"]
            assert policy.counters["calls"] == 2 and policy.counters["retry"]["retries"] == 1  # type: ignore[index]
            aws.unwrap(made)
            with pytest.raises(rs.ConfigError, match="must be a wrapped client"):
                aws.policies(made)


@run
async def test_the_batch_writer_is_covered(moto: str) -> None:
    """Each batch is a call."""
    policy, name, one = flaky(), f"t{time.monotonic_ns()}", session()
    aws.wrap(one, policy, per="policy")
    async with one.resource("dynamodb", endpoint_url=moto) as made:
        table = await made.create_table(
            TableName=name,
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        before = policy.counters["calls"]
        async with table.batch_writer() as batch:
            for number in range(30):
                await batch.put_item(Item={"id": f"b{number}"})
        assert policy.counters["calls"] == before + 2  # type: ignore[operator]
        assert (await table.scan())["Count"] == 30
        await table.delete()
    aws.unwrap(one)


BIG = bytes(range(256)) * 45_000


@pytest.fixture
def name() -> str:
    return f"bucket-{time.monotonic_ns()}"


@run
async def test_transfers_are_covered(moto: str, name: str) -> None:
    """Upload in parts, download, copy: each part is a call, and a block around holds for the tasks that make them."""
    policy = flaky(timeout=30.0, bulkhead=rs.Bulkhead(20))
    async with session().client("s3", endpoint_url=moto, config=config()) as made:
        await made.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        aws.wrap(made, policy)
        seen: list[float | None] = []
        made.meta.events.register("before-send", lambda **_: seen.append(rs.remaining()))
        with rs.override(timeout=7.0):
            await made.upload_fileobj(io.BytesIO(BIG), name, "big")
        assert policy.counters["calls"] == len(seen) >= 4  # create, parts, complete
        assert all(left is not None and left <= 7.0 for left in seen)
        into = io.BytesIO()
        await made.download_fileobj(name, "big", into)
        assert into.getvalue() == BIG
        await made.copy({"Bucket": name, "Key": "big"}, name, "again")
        assert (await made.head_object(Bucket=name, Key="again"))["ContentLength"] == len(BIG)
        assert {"UploadPart", "GetObject", "HeadObject"} <= aws.policies(made).keys()
    assert policy.counters["bulkhead"]["in_use"] == 0  # type: ignore[index]


@run
async def test_a_part_that_fails_is_sent_again(moto: str, name: str) -> None:
    """With its own bytes."""
    policy = flaky(3)
    async with session().client("s3", endpoint_url=moto, config=config()) as made:
        await made.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        aws.wrap(made, policy)
        failed: set[str] = set()

        async def fail(request: Any, **_: object) -> None:
            await asyncio.sleep(0)
            if request.url not in failed:
                failed.add(request.url)
                raise OSError("cut")

        made.meta.events.register("before-send.s3.UploadPart", fail)

        await made.upload_fileobj(io.BytesIO(BIG), name, "big")
        assert policy.counters["retry"]["retries"] == len(failed) >= 2  # type: ignore[index]
        answer = await made.get_object(Bucket=name, Key="big")
        assert await answer["Body"].read() == BIG
