"""What `resilience.aws` relies on inside botocore. If botocore changes it, this file says so before a user does."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import botocore
import pytest
from botocore.client import BaseClient
from botocore.endpoint import Endpoint
from botocore.httpchecksum import AwsChunkedWrapper
from botocore.httpsession import URLLib3Session

import resilience as rs
from aws.scripted import Answer, Scripted, error
from resilience import aws
from resilience.aws._guard import _Silenced

VERSION = tuple(map(int, botocore.__version__.split(".")[:2]))
EVENTS = (
    "provide-client-params", "before-parameter-build", "before-call", "request-created", "choose-signer", "before-sign",
    "before-send", "before-parse", "response-received", "needs-retry", "after-call", "after-call-error",
)  # fmt: skip
PARSING = ["before-parse"] if VERSION >= (1, 36) else []
ATTEMPT = [
    # The signer listens to "request-created" for its service, which comes before those who listen to it for all.
    "choose-signer", "before-sign", "request-created", "before-send", *PARSING, "response-received", "needs-retry",
]  # fmt: skip
CALL = ["provide-client-params", "before-parameter-build", "before-call"]


def heard(client: Any) -> list[str]:
    """The events of the calls that *client* makes, in order."""
    seen: list[str] = []
    for event in EVENTS:
        client.meta.events.register_first(event, lambda event_name, **_: seen.append(event_name.split(".")[0]))
    return seen


@pytest.mark.parametrize(
    ("owner", "method", "parameters"),
    [
        (BaseClient, "_make_api_call", ["self", "operation_name", "api_params"]),
        (Endpoint, "_send_request", ["self", "request_dict", "operation_model"]),
        (Endpoint, "create_request", ["self", "params", "operation_model"]),
        (Endpoint, "_get_response", ["self", "request", "operation_model", "context"]),
        (
            Endpoint, "_needs_retry",
            ["self", "attempts", "operation_model", "request_dict", "response", "caught_exception"],
        ),
        (Endpoint, "_update_retries_context", ["self", "context", "attempt", "success_response"]),
        (Endpoint, "make_request", ["self", "operation_model", "request_dict"]),
    ],
)  # fmt: skip
def test_the_methods_we_stand_between_are_what_they_were(owner: type, method: str, parameters: list[str]) -> None:
    """Name and parameters."""
    assert list(inspect.signature(getattr(owner, method)).parameters) == parameters


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_events_of_a_call_are_what_they_were(make: Callable[..., Any], wrapped: bool) -> None:
    """One call, two attempts: the same events in the same order, bare and wrapped."""
    with Scripted(error(500, "InternalServerError"), Answer(body=b'{"TableNames": []}')) as server:
        client = make(server.url, retries={"mode": "standard", "total_max_attempts": 2})
        if wrapped:
            retry = rs.Retry(on=Exception, attempts=2, backoff=0.0)
            aws.wrap(client, rs.Policy(retry=retry, registry=None))
        seen = heard(client)
        client.list_tables()
        assert seen == [*CALL, *ATTEMPT, *ATTEMPT, "after-call"]


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_events_of_a_call_without_an_answer_are_what_they_were(make: Callable[..., Any], wrapped: bool) -> None:
    """No parsing, and another last event."""
    client = make("http://127.0.0.1:9", retries={"mode": "standard", "total_max_attempts": 1})
    if wrapped:
        aws.wrap(client, rs.Policy(registry=None))
    seen = heard(client)
    with pytest.raises(botocore.exceptions.EndpointConnectionError):
        client.list_tables()
    without = [event for event in ATTEMPT if event != "before-parse"]
    assert seen == [*CALL, *without, "after-call-error"]


@pytest.mark.parametrize("service", ["dynamodb", "s3", "sqs", "ec2"])
@pytest.mark.parametrize("mode", ["legacy", "standard", "adaptive"])
def test_botocores_retry_handlers_are_all_found(make: Callable[..., Any], mode: str, service: str) -> None:
    """The one that retries, and in the adaptive mode those that wait; each is silenced in its very place."""
    client = make("http://127.0.0.1:9", service, mode=mode)
    emitter = client.meta.events._emitter
    assert f"retry-config-{client.meta.service_model.service_id.hyphenize()}" in emitter._unique_id_handlers

    def found(event: str) -> list[Any]:
        return list(emitter._handlers.prefix_search(f"{event}.{client.meta.service_model.service_id.hyphenize()}.X"))

    before = {event: found(event) for event in ("before-send", "needs-retry")}
    aws.wrap(client, rs.Policy(registry=None))
    silenced = 0
    for event, handlers in before.items():
        for old, new in zip(handlers, found(event), strict=True):
            ours = isinstance(new, _Silenced)
            assert new.handler == old if ours else new == old
            assert ours or "retries" not in type(getattr(old, "__self__", old)).__module__
            silenced += ours
    assert silenced == (3 if mode == "adaptive" else 1)


def test_the_rest_of_what_we_touch_is_there(make: Callable[..., Any], session: boto3.Session) -> None:
    """Attributes of botocore's objects that have no public name."""
    client = make("http://127.0.0.1:9")
    assert isinstance(client._endpoint, Endpoint)
    http = client._endpoint.http_session
    assert isinstance(http, URLLib3Session)
    assert http._manager.pool_classes_by_scheme is http._pool_classes_by_scheme
    made = session.client("sqs", endpoint_url="http://127.0.0.1:9")
    assert made._loader is session._session.get_component("data_loader")
    assert client._loader is not made._loader
    made.close()
    body = AwsChunkedWrapper(raw := object())
    assert body._raw is raw
    assert client.meta.events._emitter._lookup_cache is not None


def test_the_oldest_botocore_is_the_one_that_is_stated() -> None:
    """The extra asks for the version that CI runs this folder on, beside the newest."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert extras["boto3"] == ["boto3>=1.34"]
    assert {"boto3==1.34.0", "botocore==1.34.0"} <= set(extras["test-oldest"])
    assert VERSION >= (1, 34)
