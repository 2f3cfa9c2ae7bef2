"""Wrapped clients against emulated services over HTTP, with what is recommended for them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import boto3
import botocore.session
import pytest

import resilience as rs
from aws import dynalite
from resilience import aws


@pytest.fixture(params=["moto", "dynalite"])
def dynamodb(request: pytest.FixtureRequest, moto: str) -> Iterator[str]:
    """Two servers that speak DynamoDB's protocol."""
    if request.param == "moto":
        yield moto
        return
    if shutil.which("node") is None:
        pytest.skip("NOT TESTED: dynalite needs Node.js, which is not on this machine")
    assert dynalite.home() is not None, "Node.js is here, but dynalite is not: run `make test`, which installs it"
    with dynalite.running() as url:
        yield url


def test_dynamodb(dynamodb: str, session: boto3.Session) -> None:
    """Tables, items, queries, pages, conditions, batches, transactions, and the errors of each."""
    aws.wrap(session)
    client = session.client("dynamodb", endpoint_url=dynamodb)
    client.create_table(
        TableName="services",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}, {"AttributeName": "at", "KeyType": "RANGE"}],
        AttributeDefinitions=[
            {"AttributeName": "id", "AttributeType": "S"},
            {"AttributeName": "at", "AttributeType": "N"},
        ],
        ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 5},
    )
    client.get_waiter("table_exists").wait(TableName="services", WaiterConfig={"Delay": 1, "MaxAttempts": 5})
    items = [{"id": {"S": "a"}, "at": {"N": str(number)}} for number in range(10)]
    client.batch_write_item(RequestItems={"services": [{"PutRequest": {"Item": item}} for item in items]})
    pages = client.get_paginator("query").paginate(
        TableName="services",
        KeyConditionExpression="id = :id",
        ExpressionAttributeValues={":id": {"S": "a"}},
        PaginationConfig={"PageSize": 3},
    )
    assert [item for page in pages for item in page["Items"]] == items
    with pytest.raises(client.exceptions.ConditionalCheckFailedException) as caught:
        client.put_item(TableName="services", Item=items[0], ConditionExpression="attribute_not_exists(id)")
    assert caught.value.response["ResponseMetadata"]["RetryAttempts"] == 0
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_item(TableName="nowhere", Key={"id": {"S": "a"}})
    resource = session.resource("dynamodb", endpoint_url=dynamodb)
    with resource.Table("services").batch_writer() as batch:
        batch.put_item(Item={"id": "b", "at": 1})
    assert resource.Table("services").get_item(Key={"id": "b", "at": 1})["Item"]["id"] == "b"
    client.delete_table(TableName="services")
    assert aws.policies(client)["PutItem"].breaker.state is rs.State.CLOSED  # type: ignore[union-attr]
    for one in (client, resource.meta.client):
        one.close()
    aws.unwrap(session)


def test_sqs_and_sts(moto: str, session: boto3.Session) -> None:
    """Messages come and go; a role is assumed, and the client made with it is wrapped like the others."""
    aws.wrap(session)
    sqs = session.client("sqs", endpoint_url=moto)
    queue = sqs.create_queue(QueueName="services")["QueueUrl"]
    sqs.send_message(QueueUrl=queue, MessageBody="hello")
    (message,) = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1)["Messages"]
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    assert "Messages" not in sqs.receive_message(QueueUrl=queue)
    sts = session.client("sts", endpoint_url=moto)
    assert sts.get_caller_identity()["Account"]
    role = sts.assume_role(RoleArn="arn:aws:iam::123456789012:role/test", RoleSessionName="test")
    assert role["Credentials"]["AccessKeyId"]
    for client in (sqs, sts):
        client.close()
    aws.unwrap(session)


def test_appconfig_and_service_quotas(moto: str, session: boto3.Session) -> None:
    """Two more protocols: REST with a binary body, and JSON."""
    aws.wrap(session)
    appconfig = session.client("appconfig", endpoint_url=moto)
    application = appconfig.create_application(Name="services")["Id"]
    profile = appconfig.create_configuration_profile(ApplicationId=application, Name="main", LocationUri="hosted")["Id"]
    appconfig.create_hosted_configuration_version(
        ApplicationId=application, ConfigurationProfileId=profile, Content=b'{"a": 1}', ContentType="application/json"
    )
    version = appconfig.get_hosted_configuration_version(
        ApplicationId=application, ConfigurationProfileId=profile, VersionNumber=1
    )
    assert version["Content"].read() == b'{"a": 1}'
    quotas = session.client("service-quotas", endpoint_url=moto)
    assert quotas.list_aws_default_service_quotas(ServiceCode="vpc")["Quotas"]
    for client in (appconfig, quotas):
        client.close()
    aws.unwrap(session)


def test_a_role_is_assumed_under_the_policy_of_sts(moto: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client that botocore makes for itself to fetch credentials is one of the session's, and is wrapped."""
    config = tmp_path / "config"
    config.write_text(
        "[profile role]\nrole_arn = arn:aws:iam::123456789012:role/test\nsource_profile = base\n"
        "[profile base]\naws_access_key_id = test\naws_secret_access_key = test\n"
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto)
    core = botocore.session.Session(profile="role")
    core.set_config_variable("config_file", str(config))
    core.set_config_variable("region", "eu-west-1")
    session = boto3.Session(botocore_session=core)
    sts, others = rs.Policy("sts", registry=None), rs.Policy("others", registry=None)
    aws.wrap(session, {"sts": sts, "*": others}, per="policy")
    client = session.client("dynamodb", endpoint_url=moto)
    client.list_tables()
    client.list_tables()
    assert (sts.counters["calls"], others.counters["calls"]) == (1, 2)
    client.close()
    aws.unwrap(session)
