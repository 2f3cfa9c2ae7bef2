"""What is known of one operation of an AWS service: may it be repeated, does it change anything, how does it end.

Read once off botocore's model of the operation, which says some of it (the traits ``readonly`` and ``idempotent``, the
tokens that botocore fills in, the errors). Most older models say little; there the name decides, by rules that rather
say no. The exceptions to the rules stand in the tables below, each with its reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Operation"]

THROTTLING, TRANSIENT = "throttling", "transient"

_READS = re.compile(
    r"(Admin|Batch|Transact)?"
    r"(Get|List|Describe|Head|Search|Query|Scan|Lookup|Select|Filter|Count|Preview)(?=[A-Z]|$)"
)
_CHANGES = re.compile(r"(Batch|Admin)?(Start|Stop|Create|Delete|Put|Update|Send|Cancel|Add|Remove|Set)(?=[A-Z]|$)")
"""Some models mark as ``readonly`` what starts or stops something; the name is believed rather."""

_REPEATABLE = re.compile(r"(Batch)?(Delete|Tag|Untag)(?=[A-Z]|$)")
_SETTING = re.compile(
    r"(Batch)?(Put|Update|Set|Modify|Cancel|Stop|Abort|Associate|Disassociate|Attach|Detach|Enable|Disable|Add|Remove|"
    r"Register|Deregister|Archive|Unarchive|Accept|Reject|Activate|Deactivate|Deprecate|Grant|Revoke)(?=[A-Z]|$)"
)
"""Verbs for which the trait ``idempotent`` is enough. Not among them are those that make or start something: models
call them idempotent also where that takes a token which only the caller could supply (``StartQuery``), and a second
``Create`` fails because of the first."""

_NOT_TOKENS = frozenset({"runtimeSessionId"})
"""Members modelled as idempotency tokens that are none: the agent of the session is asked again."""

_NOT_READS = {
    "appconfigdata": {"GetLatestConfiguration"},  # its token serves once
    "cognito-identity": {"GetId", "GetOpenIdTokenForDeveloperIdentity"},  # make an identity
    "cognito-identity-provider": {"GetUserAttributeVerificationCode", "GetTokensFromRefreshToken"},  # mail; rotate
    "connect": {"GetFederationToken"},  # opens a session
    "sfn": {"GetActivityTask"},  # hands out a task
    "redshift": {"GetClusterCredentials"},  # may create the user
    "redshift-serverless": {"GetCredentials"},
}
"""Operations whose names say "read" though they change something."""

_READS_TOO = {
    "iam": {"SimulateCustomPolicy", "SimulatePrincipalPolicy"},
    "kms": {
        "Decrypt", "DeriveSharedSecret", "Encrypt", "GenerateDataKey", "GenerateDataKeyPair",
        "GenerateDataKeyPairWithoutPlaintext", "GenerateDataKeyWithoutPlaintext", "GenerateMac", "GenerateRandom",
        "ReEncrypt", "Sign", "Verify", "VerifyMac",
    },
    "rds": {"DownloadDBLogFilePortion"},
    "servicediscovery": {"DiscoverInstances", "DiscoverInstancesRevision"},
    "sts": {
        "AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "AssumeRoot", "DecodeAuthorizationMessage",
    },
}  # fmt: skip
"""Operations whose names do not say so, though they leave nothing behind (of a credential, key or signature handed out
twice one copy is just not used)."""

_COMPUTING = {"comprehend", "comprehendmedical", "polly", "rekognition", "textract", "translate"}
_COMPUTES = re.compile(r"(Batch)?(Detect|Classify|Contains|Infer|Compare|Recognize|Analyze|Translate|Synthesize)[A-Z]")

_SAFE_TOO = {
    "appconfigdata": {"GetLatestConfiguration", "StartConfigurationSession"},
    "bedrock-runtime": {"ApplyGuardrail", "Converse", "ConverseStream", "InvokeModel", "InvokeModelWithResponseStream"},
    "cognito-identity": {"GetOpenIdTokenForDeveloperIdentity"},
    "lambda": {"PutFunctionConcurrency"},
    "redshift": {"GetClusterCredentials"},
    "redshift-serverless": {"GetCredentials"},
    # An upload begun twice holds nothing; a part overwrites itself; an upload can be completed once only.
    "s3": {
        "AbortMultipartUpload", "CompleteMultipartUpload", "CopyObject", "CreateMultipartUpload", "CreateSession",
        "UploadPart", "UploadPartCopy",
    },
    # Each is for one task token or receipt handle, and means the same however often it arrives.
    "sfn": {"SendTaskFailure", "SendTaskHeartbeat", "SendTaskSuccess"},
    "sqs": {"ChangeMessageVisibility", "ChangeMessageVisibilityBatch", "SetQueueAttributes"},
    "swf": {"RecordActivityTaskHeartbeat"},
}  # fmt: skip
"""Operations that may be repeated though neither a trait nor the verb says so."""

_LONG_POLLING = {
    "kinesis": {"ReceiveQueueRecords", "ReceiveDeadLetterQueueRecords"},
    "sfn": {"GetActivityTask"},
    "sqs": {"ReceiveMessage"},
    "swf": {"PollForActivityTask", "PollForDecisionTask"},
}
"""As in botocore 1.44. What was handed out in an answer that got lost comes back after its timeout, whether the poll is
repeated here or by the caller's own loop."""

_FORGETS = re.compile(r"\bADD\b|\blist_append\b|[+\-\[]", re.IGNORECASE)
"""What makes a DynamoDB update depend on the item: counting, appending, positions in lists."""


def _conditional(params: Mapping[str, Any]) -> bool:
    return bool(params.get("ConditionExpression") or params.get("Expected"))


def _conditional_update(params: Mapping[str, Any]) -> bool:
    update = params.get("UpdateExpression")
    if params.get("AttributeUpdates") or not isinstance(update, str):
        return False
    return _conditional(params) and not _FORGETS.search(update)


def _select(params: Mapping[str, Any]) -> bool:
    return str(params.get("Statement", "")).lstrip()[:6].upper() == "SELECT"


def _selects(params: Mapping[str, Any]) -> bool:
    return all(_select(statement) for statement in params.get("Statements", [{}]))


def _deduplicated(params: Mapping[str, Any]) -> bool:
    return bool(params.get("MessageDeduplicationId"))


def _all_deduplicated(name: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda params: all(map(_deduplicated, params.get(name) or [{}]))


_BY_PARAMETERS: dict[tuple[str, str], Callable[[Mapping[str, Any]], bool]] = {
    ("dynamodb", "BatchExecuteStatement"): _selects,
    ("dynamodb", "DeleteItem"): _conditional,
    ("dynamodb", "ExecuteStatement"): _select,
    ("dynamodb", "PutItem"): _conditional,
    ("dynamodb", "UpdateItem"): _conditional_update,
    ("lambda", "Invoke"): lambda params: params.get("InvocationType") == "DryRun",
    ("sns", "Publish"): _deduplicated,
    ("sns", "PublishBatch"): _all_deduplicated("PublishBatchRequestEntries"),
    ("sqs", "SendMessage"): _deduplicated,
    ("sqs", "SendMessageBatch"): _all_deduplicated("Entries"),
}
"""Operations of which the call's parameters decide. A DynamoDB write without a condition would, repeated, overwrite
what others wrote in between."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a service. Immutable, hence thread-safe.

    An operation is *safe*, that is: may be sent again though nobody knows whether the last request took effect, if

    * it reads only: the model says so (``readonly``), or its verb does (Get, List, Describe, Head, Search, Query, Scan,
      Lookup, Select, Filter, Count, Preview, also after Batch, Transact or Admin), or it computes or hands out
      something and leaves nothing behind (KMS, STS, Comprehend, ...); some "Get" operations are known to do more;
    * botocore fills in an idempotency token, one for all attempts of a call;
    * it deletes, tags or untags (a repetition then may find nothing left to delete, and say so);
    * the model says ``idempotent`` and it sets, changes, enables, stops, ... something there is already (not where it
      creates, starts or sends), or it is a "Put" over HTTP PUT (not the "Put"s that append: PutRecord, PutEvents, ...);
    * it is on a short list: S3's uploads and copies, SQS's ChangeMessageVisibility, answers to a task token, model
      inference, and polls, which their callers repeat anyway.

    Of some the call's parameters decide, see `is_safe`: DynamoDB writes are safe if they have a condition and do not
    count or append, messages if they have a deduplication ID, PartiQL if it is a SELECT. All else is not safe.

    Attributes:
        service: the service's ID as botocore's events spell it: "dynamodb", "dynamodb-streams", "sfn".
        service_name: its name as ``boto3.client`` takes it: "dynamodb", "dynamodbstreams", "stepfunctions".
        name: such as "GetItem".
        read_only: it changes nothing.
        token: botocore fills in an idempotency token, unless the caller does.
        safe: it may always be repeated.
        hedgeable: a second request may run beside the first: read-only, and no streaming input.
        streams_in: its input is a stream.
        streams_out: its output is a stream of bytes or events, read after the call has returned.
        long_polling: it waits at the server for something to come, seconds long.
        modeled: error codes that the model marks as worth a retry, each "throttling" or "transient".
        codes: all error codes of the model.
    """

    service: str
    service_name: str
    name: str
    read_only: bool = False
    token: bool = False
    safe: bool = False
    hedgeable: bool = False
    streams_in: bool = False
    streams_out: bool = False
    long_polling: bool = False
    modeled: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    codes: frozenset[str] = frozenset()

    @classmethod
    def of(cls, operation_model: Any) -> Operation:
        """The facts of a botocore ``OperationModel``. Takes some 50 us: keep the result."""
        service_model = operation_model.service_model
        service = service_model.service_id.hyphenize()
        name = operation_model.name
        # botocore has no public name for these two traits; without them the name decides.
        raw = getattr(operation_model, "_operation_model", None) or {}
        method = operation_model.http.get("method", "POST")
        streams_in = operation_model.has_streaming_input or operation_model.has_event_stream_input
        read_only = _reads(service, name, readonly=bool(raw.get("readonly")))
        token = bool(set(operation_model.idempotent_members) - _NOT_TOKENS)
        long_polling = name in _LONG_POLLING.get(service, ())
        safe = (service, name) not in _BY_PARAMETERS and (
            read_only
            or token
            or long_polling
            or name in _SAFE_TOO.get(service, ())
            or _REPEATABLE.match(name) is not None
            or (bool(raw.get("idempotent")) and _SETTING.match(name) is not None)
            or (method == "PUT" and name.startswith("Put"))
        )
        modeled, codes = _errors(operation_model.error_shapes)
        return cls(
            service=service,
            service_name=service_model.service_name,
            name=name,
            read_only=read_only,
            token=token,
            safe=safe,
            hedgeable=read_only and not streams_in,
            streams_in=streams_in,
            streams_out=operation_model.has_streaming_output or operation_model.has_event_stream_output,
            long_polling=long_polling,
            modeled=MappingProxyType(modeled),
            codes=codes,
        )

    def is_safe(self, params: Mapping[str, Any]) -> bool:
        """Whether the call with these parameters may be repeated even if its last request may have taken effect.

        Parameters of a form that is not understood make it unsafe.
        """
        if self.safe or params.get("DryRun") is True:
            return True
        rule = _BY_PARAMETERS.get((self.service, self.name))
        if rule is None:
            return False
        try:
            return rule(params)
        except Exception:  # odd parameters, which botocore's validation will refuse
            return False


def _reads(service: str, name: str, *, readonly: bool) -> bool:
    if name in _NOT_READS.get(service, ()):
        return False
    if name in _READS_TOO.get(service, ()) or (service in _COMPUTING and _COMPUTES.match(name)):
        return True
    if readonly:
        return _CHANGES.match(name) is None
    return _READS.match(name) is not None


def _errors(shapes: Any) -> tuple[dict[str, str], frozenset[str]]:
    """The codes that are worth a retry, and all codes; a shape's code is its name unless it has another."""
    modeled: dict[str, str] = {}
    codes = set()
    for shape in shapes or ():
        code = (shape.metadata.get("error") or {}).get("code") or shape.name
        codes.add(code)
        retryable = shape.metadata.get("retryable")
        if retryable is not None and code not in modeled:  # of several shapes with one code botocore takes the first
            modeled[code] = THROTTLING if retryable.get("throttling") else TRANSIENT
    return modeled, frozenset(codes)
