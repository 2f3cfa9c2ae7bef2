from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aws.awsretry import model, models, operation
from resilience.aws.operations import _LONG_POLLING, _NOT_READS, _READS_TOO, _SAFE_TOO, Operation

READ = [
    ("dynamodb", "GetItem"), ("dynamodb", "Query"), ("dynamodb", "Scan"), ("dynamodb", "BatchGetItem"),
    ("dynamodb", "TransactGetItems"), ("dynamodbstreams", "GetRecords"), ("s3", "HeadObject"), ("s3", "GetObject"),
    ("s3", "ListObjectsV2"), ("s3", "SelectObjectContent"), ("kinesis", "GetShardIterator"), ("kinesis", "GetRecords"),
    ("sts", "GetSessionToken"), ("sts", "AssumeRole"), ("ecr", "GetAuthorizationToken"), ("kms", "Decrypt"),
    ("logs", "FilterLogEvents"), ("logs", "GetQueryResults"), ("cloudtrail", "LookupEvents"),
    ("ec2", "DescribeInstances"),
    ("cognito-idp", "AdminGetUser"), ("lambda", "GetFunction"), ("verifiedpermissions", "IsAuthorized"),
    ("swf", "CountOpenWorkflowExecutions"), ("comprehend", "BatchDetectSentiment"), ("sqs", "GetQueueUrl"),
]  # fmt: skip
SAFE = [
    ("s3", "PutObject"), ("s3", "DeleteObject"), ("s3", "CopyObject"), ("s3", "UploadPart"),
    ("s3", "CreateMultipartUpload"), ("s3", "CompleteMultipartUpload"), ("s3", "PutBucketPolicy"),
    ("sqs", "DeleteMessage"), ("sqs", "DeleteMessageBatch"), ("sqs", "ChangeMessageVisibility"), ("sqs", "TagQueue"),
    ("sqs", "ReceiveMessage"), ("stepfunctions", "GetActivityTask"), ("stepfunctions", "SendTaskHeartbeat"),
    ("ec2", "RunInstances"), ("dynamodb", "TransactWriteItems"), ("lambda", "TagResource"),
    ("lambda", "DeleteFunction"),
    ("athena", "StartQueryExecution"), ("secretsmanager", "PutSecretValue"), ("accessanalyzer", "UpdateFindings"),
    ("appconfigdata", "GetLatestConfiguration"), ("bedrock-runtime", "Converse"),
]  # fmt: skip
UNSAFE = [
    ("dynamodb", "PutItem"), ("dynamodb", "UpdateItem"), ("dynamodb", "DeleteItem"), ("dynamodb", "BatchWriteItem"),
    ("sqs", "SendMessage"), ("sns", "Publish"), ("lambda", "Invoke"), ("kinesis", "PutRecord"),
    ("kinesis", "PutRecords"), ("firehose", "PutRecordBatch"), ("events", "PutEvents"), ("cloudwatch", "PutMetricData"),
    ("logs", "PutLogEvents"), ("stepfunctions", "StartExecution"), ("logs", "StartQuery"), ("s3", "CreateBucket"),
    ("bedrock-agentcore", "InvokeAgentRuntime"), ("cognito-idp", "GetUserAttributeVerificationCode"),
    ("cognito-identity", "GetId"), ("ivs", "StartViewerSessionRevocation"), ("rds-data", "ExecuteStatement"),
    ("lambda", "CreateFunction"), ("ses", "SendEmail"), ("kms", "CreateKey"), ("sqs", "CreateQueue"),
]  # fmt: skip


@pytest.mark.parametrize(("service", "name"), READ)
def test_reads(service: str, name: str) -> None:
    """What only reads is read-only, safe, and can be hedged."""
    op = operation(service, name)
    assert op.read_only and op.safe and op.hedgeable and op.is_safe({})


@pytest.mark.parametrize(("service", "name"), SAFE)
def test_safe(service: str, name: str) -> None:
    """What may be sent twice is safe, and yet neither read-only nor hedged."""
    op = operation(service, name)
    assert op.safe and op.is_safe({})
    assert not op.read_only and not op.hedgeable


@pytest.mark.parametrize(("service", "name"), UNSAFE)
def test_unsafe(service: str, name: str) -> None:
    """What could happen twice is not safe, unless the call's parameters say so."""
    op = operation(service, name)
    assert not op.safe and not op.read_only and not op.hedgeable and not op.is_safe({})


CONDITION = {"ConditionExpression": "attribute_not_exists(pk)"}
PARAMETERS: list[tuple[str, str, dict[str, Any], bool]] = [
    ("dynamodb", "PutItem", CONDITION, True),
    ("dynamodb", "PutItem", {"Expected": {"pk": {"Exists": False}}}, True),
    ("dynamodb", "PutItem", {"ConditionExpression": ""}, False),
    ("dynamodb", "DeleteItem", CONDITION, True),
    ("dynamodb", "UpdateItem", {**CONDITION, "UpdateExpression": "SET a = :a REMOVE b"}, True),
    ("dynamodb", "UpdateItem", {**CONDITION, "UpdateExpression": "SET address = :a"}, True),
    ("dynamodb", "UpdateItem", {"UpdateExpression": "SET a = :a"}, False),
    ("dynamodb", "UpdateItem", {**CONDITION, "UpdateExpression": "SET n = n + :one"}, False),
    ("dynamodb", "UpdateItem", {**CONDITION, "UpdateExpression": "SET n = n - :one"}, False),
    ("dynamodb", "UpdateItem", {**CONDITION, "UpdateExpression": "add n :one"}, False),
    ("dynamodb", "UpdateItem", {**CONDITION, "UpdateExpression": "SET l = list_append(l, :x)"}, False),
    ("dynamodb", "UpdateItem", {**CONDITION, "UpdateExpression": "REMOVE l[0]"}, False),
    ("dynamodb", "UpdateItem", {"Expected": {}, "AttributeUpdates": {"n": {"Action": "ADD"}}}, False),
    ("dynamodb", "ExecuteStatement", {"Statement": " select * from t"}, True),
    ("dynamodb", "ExecuteStatement", {"Statement": "UPDATE t SET a=1"}, False),
    ("dynamodb", "BatchExecuteStatement", {"Statements": [{"Statement": "SELECT 1"}]}, True),
    ("dynamodb", "BatchExecuteStatement", {"Statements": [{"Statement": "SELECT 1"}, {"Statement": "DELETE"}]}, False),
    ("sqs", "SendMessage", {"MessageDeduplicationId": "1"}, True),
    ("sqs", "SendMessageBatch", {"Entries": [{"MessageDeduplicationId": "1"}]}, True),
    ("sqs", "SendMessageBatch", {"Entries": [{"MessageDeduplicationId": "1"}, {}]}, False),
    ("sqs", "SendMessageBatch", {"Entries": []}, False),
    ("sqs", "SendMessageBatch", {"Entries": 7}, False),
    ("sns", "Publish", {"MessageDeduplicationId": "1"}, True),
    ("lambda", "Invoke", {"InvocationType": "DryRun"}, True),
    ("ec2", "TerminateInstances", {"DryRun": True}, True),
    ("ec2", "TerminateInstances", {"DryRun": False}, False),
]


@pytest.mark.parametrize(("service", "name", "params", "safe"), PARAMETERS)
def test_parameters(service: str, name: str, params: dict[str, Any], safe: bool) -> None:
    """The call's parameters decide where they make the difference."""
    assert operation(service, name).is_safe(params) is safe


ODD = st.none() | st.integers() | st.text() | st.lists(st.integers() | st.none(), max_size=2)


@given(st.dictionaries(st.sampled_from(["Entries", "Statement", "UpdateExpression", "Expected"]), ODD))
def test_odd_parameters(params: dict[str, Any]) -> None:
    """Parameters of whatever form never raise."""
    for service, name in (("dynamodb", "UpdateItem"), ("sqs", "SendMessageBatch"), ("dynamodb", "ExecuteStatement")):
        assert operation(service, name).is_safe(params) in (True, False)


def test_facts() -> None:
    """Names, streams, tokens, long polling and modelled errors are as the model has them."""
    assert (
        operation("dynamodbstreams", "GetRecords").service,
        operation("stepfunctions", "StartExecution").service,
    ) == (
        "dynamodb-streams",
        "sfn",
    )
    assert operation("stepfunctions", "StartExecution").service_name == "stepfunctions"
    assert operation("s3", "PutObject").streams_in and not operation("s3", "PutObject").streams_out
    assert operation("s3", "GetObject").streams_out and operation("s3", "SelectObjectContent").streams_out
    assert operation("kinesis", "SubscribeToShard").streams_out
    assert operation("ec2", "RunInstances").token and not operation("ec2", "StartInstances").token
    for service, name in (
        ("sqs", "ReceiveMessage"),
        ("stepfunctions", "GetActivityTask"),
        ("swf", "PollForDecisionTask"),
    ):
        assert operation(service, name).long_polling
    assert not operation("sqs", "SendMessage").long_polling
    assert operation("cloudtrail", "LookupEvents").modeled == {}
    found = operation("accessanalyzer", "ListAnalyzers")
    assert found.modeled == {"InternalServerException": "transient", "ThrottlingException": "throttling"}
    assert {"AccessDeniedException", "ValidationException"} <= found.codes


def test_immutable() -> None:
    """An operation's facts cannot be changed, and it can be a key."""
    op = operation()
    with pytest.raises(dataclasses.FrozenInstanceError):
        op.safe = False
    with pytest.raises(TypeError):
        op.modeled["x"] = "y"  # type: ignore[index]
    assert len({op, Operation.of(model("sqs", "ListQueues"))}) == 1


def test_tables_name_what_exists() -> None:
    """Every operation named in a table of exceptions exists in the installed botocore."""
    session = models()
    known: dict[str, set[str]] = {}
    for name in session.get_available_services():
        service = session.get_service_model(name)
        known.setdefault(service.service_id.hyphenize(), set()).update(service.operation_names)
    for table in (_NOT_READS, _READS_TOO, _SAFE_TOO, _LONG_POLLING):
        for service_id, names in table.items():
            assert names <= known[service_id], service_id


def test_hedgeable_means_safe() -> None:
    """Over all of S3, DynamoDB, SQS and STS: hedgeable implies read-only implies safe; no token alone is hedged."""
    session = models()
    for service in ("s3", "dynamodb", "sqs", "sts", "stepfunctions", "kms"):
        for name in session.get_service_model(service).operation_names:
            op = operation(service, name)
            assert op.read_only or not op.hedgeable
            assert op.safe or not op.read_only
