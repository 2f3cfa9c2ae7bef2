"""Real servers for the tests of AWS clients, and clients that know no other ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config

from resilience.demo.emulator import Emulator

KEYS = {"region_name": "eu-west-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """Where moto's server listens."""
    with Emulator() as emulator:
        yield emulator.url


@pytest.fixture
def session() -> boto3.Session:
    return boto3.Session(**KEYS)


@pytest.fixture
def make() -> Iterator[Callable[..., Any]]:
    """Makes clients that are closed in the end: ``make(url, "s3", mode="legacy", **settings)``."""
    made: list[Any] = []

    def client(
        url: str, service: str = "dynamodb", *, mode: str = "standard", region: str = "eu-west-1", **settings: Any
    ) -> Any:
        config = Config(**{"retries": {"mode": mode}, "s3": {"addressing_style": "path"}, **settings})
        made.append(boto3.client(service, endpoint_url=url, config=config, **{**KEYS, "region_name": region}))
        return made[-1]

    yield client
    for one in made:
        one.close()
