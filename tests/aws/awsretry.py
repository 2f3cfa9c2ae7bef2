"""What tests of retrying need: errors as botocore raises them, operations off its models, calls in virtual time."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.exceptions import ClientError

from resilience import Policy
from resilience._runtime import Blocking, Call, drive
from resilience._story import tell
from resilience.aws.operations import Operation
from resilience.testing import VirtualClock

if TYPE_CHECKING:
    from resilience.aws.retry import AwsRetry

OK = "ok"


@cache
def models() -> Any:
    return botocore.session.get_session()


@cache
def model(service: str, name: str) -> Any:
    """Botocore's model of an operation."""
    return models().get_service_model(service).operation_model(name)


@cache
def operation(service: str = "sqs", name: str = "ListQueues") -> Operation:
    return Operation.of(model(service, name))


def failed(code: str | None = None, status: int = 400, headers: Mapping[str, str] | None = None) -> ClientError:
    """The error botocore raises for such an answer."""
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": dict(headers or {})}
    error = {} if code is None else {"Code": code, "Message": "scripted"}
    return ClientError({"Error": error, "ResponseMetadata": metadata}, "Operation")


class Fixed(random.Random):
    """Randomness that is always the same number."""

    def __init__(self, value: float = 1.0) -> None:
        super().__init__(0)
        self.value = value

    def random(self) -> float:
        return self.value


class OneCall(Call):
    """A call of an operation, as a wrapped client makes it."""

    __slots__ = ("operation",)

    def __init__(self, operation: Operation, outcomes: Iterable[Any], params: Mapping[str, Any]) -> None:
        row = iter(outcomes)

        def attempt(*_: Any, **__: Any) -> Any:
            outcome = next(row)
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        super().__init__(attempt, (operation.name,), params)
        self.operation = operation


class Bench:
    """Calls under one `AwsRetry`, in virtual time."""

    def __init__(self, retry: AwsRetry, **parts: Any) -> None:
        self.clock = VirtualClock()
        self.retry = retry
        self.policy = Policy(retry=retry, clock=self.clock, registry=None, **parts)

    def call(self, outcomes: Iterable[Any], op: Operation | None = None, **params: Any) -> tuple[Any, list[float]]:
        """How a call ends (its result or its error), and the seconds it waited."""
        del self.clock.sleeps[:]
        one = OneCall(op or operation(), outcomes, params)
        try:
            end = drive(tell(self.policy._plan, Blocking(self.clock), one))
        except Exception as error:
            end = error
        return end, list(self.clock.sleeps)
