"""One real server of each kind for all tests of a session; each test has a prefix of its own."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config

from aws import dynalite as dynalites
from resilience.demo.emulator import Emulator
from resilience.stores import DynamoDBStore, MemoryStore, RedisStore, Store
from stores import engines

_numbers = itertools.count()


def needs(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"NOT TESTED: {program} is not installed; `make test` installs what Debian has of it")
    return found


@pytest.fixture(scope="session")
def redis_server() -> Iterator[engines.Redis]:
    """A redis-server for all; tests that harm one start their own (`own_redis`)."""
    with engines.running(needs("redis-server")) as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[engines.Redis]:
    """A redis-server that a test may kill."""
    with engines.running(needs("redis-server")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[list[engines.Redis]]:
    """Three nodes."""
    needs("redis-server")
    with engines.cluster() as nodes:
        yield nodes


@pytest.fixture
def prefix() -> str:
    """A prefix of this test's own."""
    return f"test-{next(_numbers)}"


@pytest.fixture
def redis_store(redis_server: engines.Redis, prefix: str) -> Iterator[RedisStore]:
    """A store on the real server that has time."""
    with RedisStore(redis_server.url, prefix=prefix, timeout=5.0) as store:
        yield store


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """Where moto's DynamoDB listens."""
    with Emulator() as emulator:
        yield emulator.url


@pytest.fixture(scope="session")
def dynalite() -> Iterator[str]:
    """Where dynalite listens, another DynamoDB."""
    if shutil.which("node") is None or dynalites.home() is None:
        pytest.skip("NOT TESTED: dynalite is not installed; `make test` installs it where npm is")
    with dynalites.running() as url:
        yield url


def dynamodb(url: str, prefix: str, **settings: Any) -> DynamoDBStore:
    """A store on a table of its own, with time enough."""
    client = boto3.client(
        "dynamodb", endpoint_url=url, region_name="eu-west-1", aws_access_key_id="test", aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}),
    )  # fmt: skip
    store = DynamoDBStore(prefix, client=client, prefix=prefix, **{"timeout": 5.0, **settings})
    with contextlib.suppress(client.exceptions.ResourceInUseException):
        client.create_table(
            TableName=prefix,
            AttributeDefinitions=[{"AttributeName": "key", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "key", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
    engines.wait_for(lambda: client.describe_table(TableName=prefix)["Table"]["TableStatus"] == "ACTIVE", 10.0)
    return store


@pytest.fixture(params=["moto", "dynalite"])
def dynamodb_store(request: pytest.FixtureRequest, prefix: str) -> Iterator[DynamoDBStore]:
    """A store on each of the two."""
    with dynamodb(request.getfixturevalue(request.param), prefix) as store:
        yield store


@pytest.fixture(params=["memory", "redis", "cluster", "valkey", "moto", "dynalite"])
def store(request: pytest.FixtureRequest, prefix: str) -> Iterator[Store]:
    """Each kind of store that there is here."""
    if request.param == "memory":
        yield MemoryStore()
    elif request.param == "redis":
        with RedisStore(request.getfixturevalue("redis_server").url, prefix=prefix, timeout=5.0) as store:
            yield store
    elif request.param == "cluster":
        nodes = request.getfixturevalue("redis_cluster")
        with RedisStore(nodes[0].url, cluster=True, prefix=prefix, timeout=5.0) as store:
            yield store
    elif request.param in {"moto", "dynalite"}:
        with dynamodb(request.getfixturevalue(request.param), prefix) as store:
            yield store
    else:
        with (
            engines.running(needs("valkey-server")) as server,
            RedisStore(server.url, prefix=prefix, timeout=5.0) as store,
        ):
            yield store
