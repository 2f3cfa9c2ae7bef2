"""What the demo calls: unmodified boto3 clients for three services, and six operations.

Knows boto3 and the emulator's contents. Refuses to know when calls are made, and under which
policy.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .guards import Guard

__all__ = [
    "KEYS",
    "OPERATIONS",
    "SERVICES",
    "Dependency",
    "Operation",
    "clean_environment",
]

SERVICES = ("dynamodb", "s3", "sqs")
KEYS = 50
"""How many items and objects there are to read."""

_PAYLOAD = b"the quick brown fox jumps over the lazy dog; " * 10


@dataclass(frozen=True, slots=True)
class Operation:
    """One kind of call and its weight in the mix."""

    name: str
    service: str
    weight: int


OPERATIONS = (
    Operation("get_item", "dynamodb", 30),
    Operation("put_item", "dynamodb", 15),
    Operation("get_object", "s3", 20),
    Operation("put_object", "s3", 10),
    Operation("send_message", "sqs", 15),
    Operation("receive_message", "sqs", 10),
)


@contextmanager
def clean_environment() -> Iterator[None]:
    """Hide the user's own AWS settings, so that boto3's defaults are in force.

    Changes the process's environment: for one thread at a time.
    """
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("AWS_")}
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    try:
        yield
    finally:
        del os.environ["AWS_CONFIG_FILE"], os.environ["AWS_SHARED_CREDENTIALS_FILE"]
        os.environ.update(hidden)


class Dependency:
    """A table, a bucket and a queue of their own for one run, and the clients that use them.

    Args:
        emulator: the address where the resources are made, untroubled by faults.
        proxy: the address that the workload calls.
        name: of the resources; three letters at least.
        guard: the way in which the workload's clients make their calls.

    Clients may be used by many threads, and so may `operations`' functions.
    """

    def __init__(self, emulator: str, proxy: str, name: str, guard: Guard) -> None:
        self._name = name
        makers = {service: _client(service, emulator, {}) for service in SERVICES}
        self._queue = self._make(makers)
        for client in makers.values():
            client.close()
        self._clients = {service: _client(service, proxy, guard.config) for service in SERVICES}
        for client in self._clients.values():
            guard.put_on(client)

    def _make(self, clients: Mapping[str, Any]) -> str:
        """Make the resources and fill them; returns the queue's address."""
        clients["dynamodb"].create_table(
            TableName=self._name,
            KeySchema=[{"AttributeName": "key", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "key", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        clients["s3"].create_bucket(Bucket=self._name)
        for key in range(KEYS):
            clients["dynamodb"].put_item(TableName=self._name, Item=self._item(key))
            clients["s3"].put_object(Bucket=self._name, Key=str(key), Body=_PAYLOAD)
        return str(clients["sqs"].create_queue(QueueName=self._name)["QueueUrl"])

    def _item(self, key: int) -> dict[str, Any]:
        return {"key": {"S": str(key)}, "text": {"S": _PAYLOAD.decode()}}

    def operations(self) -> dict[str, Callable[[int], None]]:
        """The operations by name; each takes a key's number and raises when the answer is wrong."""
        dynamodb, s3, sqs = (self._clients[service] for service in SERVICES)
        name, queue = self._name, self._queue

        def get_item(key: int) -> None:
            answer = dynamodb.get_item(TableName=name, Key={"key": {"S": str(key)}})
            _demand(answer.get("Item") == self._item(key))

        def put_item(key: int) -> None:
            dynamodb.put_item(TableName=name, Item=self._item(key))

        def get_object(key: int) -> None:
            answer = s3.get_object(Bucket=name, Key=str(key))
            _demand(answer["Body"].read() == _PAYLOAD)  # the body comes after the call: part of the work

        def put_object(key: int) -> None:
            s3.put_object(Bucket=name, Key=str(key), Body=_PAYLOAD)

        def send_message(key: int) -> None:
            answer = sqs.send_message(QueueUrl=queue, MessageBody=str(key))
            _demand("MessageId" in answer)

        def receive_message(_key: int) -> None:
            sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=1)  # an empty queue is an answer

        made = (get_item, put_item, get_object, put_object, send_message, receive_message)
        return {function.__name__: function for function in made}

    @property
    def retries(self) -> str:
        """Botocore's own retry settings in force, in words."""
        found = self._clients["s3"].meta.config.retries or {}
        return ", ".join(f"{name} {value}" for name, value in sorted(found.items()))

    def close(self) -> None:
        """Close the clients' pooled connections."""
        for client in self._clients.values():
            client.close()


def _client(service: str, address: str, config: Mapping[str, Any]) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.session.Session().client(
        service,
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id="demo",
        aws_secret_access_key="demo",
        config=Config(proxies={}, **config),  # no HTTP proxy of the user's between here and the loopback
    )


def _demand(correct: bool) -> None:
    if not correct:
        raise AssertionError("the answer is not what was stored")
