"""What `wrap` puts on a client, and that `unwrap` takes all of it off again."""

from __future__ import annotations

import copy
import gc
import pickle
import re
import urllib.parse
from collections.abc import Callable
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.client import BaseClient
from botocore.config import Config

import resilience as rs
from aws.conftest import KEYS
from aws.scripted import Answer, Asked, Scripted, error
from resilience import aws
from resilience.aws._guard import guard_of

MODES = ("legacy", "standard", "adaptive")


def flaky(attempts: int = 3, **parts: Any) -> rs.Policy:
    """A policy that retries everything at once."""
    retry = rs.Retry(on=Exception, attempts=attempts, backoff=0.0, budget=None)
    return rs.Policy(**{"retry": retry, "registry": None, **parts})


def state(client: Any) -> dict[str, Any]:
    """All that `wrap` might change on a client."""
    emitter = client.meta.events._emitter
    events = ("before-send", "needs-retry", "after-call", "request-created", "before-call", "provide-client-params")
    service = client.meta.service_model.service_id.hyphenize()
    session = client._endpoint.http_session
    return {
        "client": dict(vars(client)),
        "endpoint": dict(vars(client._endpoint)),
        "handlers": {event: [*emitter._handlers.prefix_search(f"{event}.{service}.GetItem")] for event in events},
        "unique": {name: item["handler"] for name, item in emitter._unique_id_handlers.items()},
        "http": dict(vars(session)),
        "pools": dict(session._manager.pool_classes_by_scheme),
        "class": type(client),
    }


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("service", ["dynamodb", "s3", "sqs"])
def test_unwrapping_restores_the_client_exactly(make: Callable[..., Any], mode: str, service: str) -> None:
    """Attributes, handlers and their order, transport: every object is the one it was."""
    client = make("http://127.0.0.1:9", service, mode=mode)
    before = state(client)
    assert aws.wrap(client, flaky()) is client
    assert state(client) != before
    assert aws.unwrap(client) is client
    assert state(client) == before
    assert aws.unwrap(client) is client


def test_a_wrapped_client_is_still_the_same_object_to_its_users(make: Callable[..., Any]) -> None:
    """Its class, meta, exceptions, paginators and waiters are those of before."""
    client = make("http://127.0.0.1:9")
    kind, meta, exceptions = type(client), client.meta, client.exceptions
    aws.wrap(client, flaky())
    assert type(client) is kind and isinstance(client, BaseClient)
    assert client.meta is meta and client.exceptions is exceptions
    assert client.can_paginate("scan") and "table_exists" in client.waiter_names
    with pytest.raises(AttributeError):
        _ = client.no_such_method


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("status", [429, 500, 503])
def test_attempts_are_never_multiplied(make: Callable[..., Any], mode: str, status: int) -> None:
    """Three attempts are three requests, whatever mode botocore's own retries are in."""
    with Scripted(error(status, "Throttling")) as server:
        client = aws.wrap(make(server.url, mode=mode), flaky(3))
        with pytest.raises(client.exceptions.ClientError) as caught:
            client.get_item(TableName="tbl", Key={"id": {"S": "1"}})
    assert len(server.asked) == 3
    assert caught.value.response["ResponseMetadata"]["RetryAttempts"] == 2
    told = [dict(part.split("=") for part in asked.headers["amz-sdk-request"].split("; ")) for asked in server.asked]
    assert [(part["attempt"], part["max"]) for part in told] == [("1", "3"), ("2", "3"), ("3", "3")]
    assert len({asked.headers["amz-sdk-invocation-id"] for asked in server.asked}) == 1
    assert caught.value.__notes__[0].startswith("resilience: dynamodb.eu-west-1: gave up after 3 attempts")


@pytest.mark.parametrize("mode", MODES)
def test_connection_errors_are_not_multiplied_either(make: Callable[..., Any], mode: str) -> None:
    """A refused connection is tried as often as the policy says, and raised as botocore's own error."""
    client = make("http://127.0.0.1:9", mode=mode)
    policy = flaky(3)
    aws.wrap(client, policy)
    with pytest.raises(botocore.exceptions.EndpointConnectionError):
        client.list_tables()
    assert policy.counters["retry"]["retries"] == 2  # type: ignore[index]


@pytest.mark.parametrize("mode", MODES)
def test_what_has_no_policy_is_left_to_botocore(make: Callable[..., Any], mode: str) -> None:
    """An operation without a policy is retried by botocore as ever, beside one that has a policy."""
    with Scripted(error(500, "InternalServerError")) as server:
        bare = make(server.url, mode=mode, retries={"mode": mode, "total_max_attempts": 2})
        with pytest.raises(bare.exceptions.ClientError):
            bare.list_tables()
        wanted = len(server.asked)
        assert wanted == 2
        aws.wrap(bare, {"GetItem": flaky(1), "*": None})
        server.asked.clear()
        with pytest.raises(bare.exceptions.ClientError):
            bare.list_tables()
        assert len(server.asked) == wanted
        server.asked.clear()
        with pytest.raises(bare.exceptions.ClientError):
            bare.get_item(TableName="tbl", Key={"id": {"S": "1"}})
        assert len(server.asked) == 1


def test_each_operation_may_have_its_own_policy(make: Callable[..., Any]) -> None:
    """By the operation's name or the method's, for one service or for whatever client it is."""
    with Scripted(error(500, "InternalServerError")) as server:
        client = make(server.url)
        for given in (
            {"dynamodb": {"GetItem": flaky(2), "*": flaky(4)}},
            {"*": {"get_item": flaky(2), "*": flaky(4)}},
            {"GetItem": flaky(2), "*": flaky(4)},
        ):
            aws.wrap(client, given)
            for call, times in (
                (lambda: client.get_item(TableName="tbl", Key={}), 2),
                (client.list_tables, 4),
            ):
                server.asked.clear()
                with pytest.raises(client.exceptions.ClientError):
                    call()
                assert len(server.asked) == times


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"GetItm": None}, "there is no operation of dynamodb 'GetItm'; did you mean 'GetItem'?"),
        ({"dynamodb": {"getitem": None}}, "there is no operation of dynamodb 'getitem'"),
        ({}, "must name at least one"),
        ({"dynamodb": None, "GetItem": None}, "by services or by operations"),
    ],
)
def test_names_that_do_not_exist_are_refused(make: Callable[..., Any], given: Any, message: str) -> None:
    """With the name that was perhaps meant; the client stays as it was."""
    client = make("http://127.0.0.1:9")
    with pytest.raises(rs.ConfigError, match=re.escape(message)):
        aws.wrap(client, given)
    assert guard_of(client) is None


@pytest.mark.parametrize("given", [1, {"dynamodb": 1}, {1: None}, {"dynamodb": {"GetItem": 0.5}}])
def test_what_is_no_policy_is_refused(make: Callable[..., Any], given: Any) -> None:
    """By type."""
    with pytest.raises(TypeError, match="polic"):
        aws.wrap(make("http://127.0.0.1:9"), given)


@pytest.mark.parametrize("target", [1, "x", object(), rs, None])
def test_what_cannot_be_wrapped_is_refused(target: Any) -> None:
    """By type, for both ways."""
    with pytest.raises(TypeError, match="target must be"):
        aws.wrap(target, flaky())
    with pytest.raises(TypeError, match="target must be"):
        aws.unwrap(target)


def test_presets_have_names(make: Callable[..., Any]) -> None:
    """The one called "standard" does what botocore does alone; another word is refused."""
    with Scripted(error(500, "InternalServerError")) as server:
        client = aws.wrap(make(server.url), "standard")
        with pytest.raises(client.exceptions.ClientError):
            client.get_item(TableName="tbl", Key={})
        assert len(server.asked) == 4  # as for DynamoDB since botocore 1.44
        assert aws.policies(client)["GetItem"].parts.keys() == {"retry"}
        server.asked.clear()
        aws.wrap(client, {"GetItem": "standard", "*": flaky(2)})
        with pytest.raises(client.exceptions.ClientError):
            client.get_item(TableName="tbl", Key={})
        assert len(server.asked) == 4
        with pytest.raises(rs.ConfigError, match="policy must be"):
            aws.wrap(client, "best")


def test_messages_say_which_service_it_was(make: Callable[..., Any]) -> None:
    """Also where the policy has no name."""
    with Scripted(error(500, "InternalServerError")) as server:
        client = aws.wrap(make(server.url), rs.Policy(breaker=rs.CircuitBreaker(consecutive=1), registry=None))
        with pytest.raises(client.exceptions.ClientError):
            client.list_tables()
        with pytest.raises(rs.CircuitOpen, match=r"dynamodb\.eu-west-1"):
            client.list_tables()


def test_a_function_may_choose_the_policy(make: Callable[..., Any]) -> None:
    """It is asked once for each operation; what it returns must be a policy or None."""
    asked: list[str] = []
    reads, writes = flaky(2), flaky(4)

    def choose(operation: aws.Operation) -> rs.Policy | None:
        asked.append(operation.name)
        return reads if operation.read_only else writes

    with Scripted(error(500, "InternalServerError")) as server:
        client = aws.wrap(make(server.url), {"dynamodb": choose})
        for call, times in ((client.list_tables, 2), (lambda: client.put_item(TableName="tbl", Item={}), 4)) * 2:
            server.asked.clear()
            with pytest.raises(client.exceptions.ClientError):
                call()
            assert len(server.asked) == times
        assert asked == ["ListTables", "PutItem"]
        aws.wrap(client, lambda operation: 1)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="must return a Policy or None for ListTables, not 1"):
            client.list_tables()


def test_what_is_recommended_suits_the_operation(session: boto3.Session) -> None:
    """Polls are not cut short, bodies not while they flow, and all of a service share one breaker and one bulkhead."""

    def nothing(asked: Asked) -> Answer:
        """An empty result, in the protocol of the service (SQS has had two)."""
        action = urllib.parse.parse_qs(asked.body.decode()).get("Action", [""])[0]
        xml = f"<{action}Response><{action}Result/></{action}Response>" if action else "<Answer/>"
        return Answer(body=b"{}" if "X-Amz-Target" in asked.headers else xml.encode())

    with Scripted(nothing) as server:
        aws.wrap(session)
        sqs, s3, other = (session.client(name, endpoint_url=server.url) for name in ("sqs", "s3", "kinesis"))
        sqs.receive_message(QueueUrl=server.url + "/q")
        sqs.list_queues()
        s3.get_object(Bucket="bucket", Key="k")["Body"].close()
        s3.put_object(Bucket="bucket", Key="k", Body=b"x")
        other.list_streams()
        found = {**aws.policies(sqs), **aws.policies(s3), **aws.policies(other)}
        bounds = {name: policy.timeout and policy.timeout.between for name, policy in found.items()}  # type: ignore[attr-defined]
        assert bounds == {
            "ReceiveMessage": (25.0, 75.0),
            "ListQueues": (0.5, 5.0),
            "GetObject": (2.0, 10.0),
            "PutObject": None,
            "ListStreams": (0.5, 5.0),
        }
        assert {name for name, policy in found.items() if policy.deadline} == {"ListQueues", "ListStreams"}
        assert found["ReceiveMessage"].breaker is found["ListQueues"].breaker
        assert found["GetObject"].bulkhead is found["PutObject"].bulkhead
        assert found["GetObject"].retry is not found["ListQueues"].retry
        aws.unwrap(session)
        for client in (sqs, s3, other):
            client.close()


def test_per_must_be_known(make: Callable[..., Any]) -> None:
    """A word that is none of the three is refused."""
    with pytest.raises(rs.ConfigError, match="per must be"):
        aws.wrap(make("http://127.0.0.1:9"), flaky(), per="key")


def test_wrapping_again_replaces_the_policy(make: Callable[..., Any]) -> None:
    """One guard at a time; and off is off."""
    with Scripted(error(500, "InternalServerError")) as server:
        client = make(server.url)
        before = state(client)
        aws.wrap(client, flaky(5))
        aws.wrap(client, flaky(2))
        with pytest.raises(client.exceptions.ClientError):
            client.list_tables()
        assert len(server.asked) == 2
        aws.unwrap(client)
        after = state(client)
        assert after["handlers"] == before["handlers"] and after["client"].keys() == before["client"].keys()


def test_a_policy_is_shared_or_copied_as_asked(make: Callable[..., Any]) -> None:
    """per="policy": the object itself. "service": one for each service and region. "operation": one for each."""
    with Scripted(Answer()) as server:
        one, two = make(server.url), make(server.url)
        other_region, other_service = make(server.url, region="eu-west-3"), make(server.url, "kinesis")

        def used(per: str | None) -> list[rs.Policy]:
            policy = rs.Policy(breaker=rs.CircuitBreaker(consecutive=3), registry=rs.Registry())
            found = []
            for client in (one, two, other_region):
                aws.wrap(client, policy, per=per)
                client.list_tables()
                client.describe_limits()
                found += [aws.policies(client)[name] for name in ("ListTables", "DescribeLimits")]
            aws.wrap(other_service, policy, per=per)
            other_service.list_streams()
            return [policy, *found, aws.policies(other_service)["ListStreams"]]

        assert len(set(map(id, used(None)))) == 1
        given, a, b, c, d, e, f, g = used("service")
        assert a is b is c is d and e is f
        assert len({id(policy.breaker) for policy in (given, a, e, g)}) == 4
        assert [policy.name for policy in (a, e, g)] == [
            "dynamodb.eu-west-1",
            "dynamodb.eu-west-3",
            "kinesis.eu-west-1",
        ]
        given, a, b, c, d, e, f, g = used("operation")
        assert a is c and b is d and len({id(policy) for policy in (given, a, b, e, f, g)}) == 6
        assert a.name == "dynamodb.eu-west-1.ListTables"


def test_a_learned_timeout_learns_for_each_operation(make: Callable[..., Any]) -> None:
    """Under one policy, the breaker is one, and operations do not teach each other their latency."""
    policy = rs.Policy(
        timeout=rs.PercentileTimeout(0.99, between=(0.5, 5.0)), breaker=rs.CircuitBreaker(consecutive=3), registry=None
    )
    with Scripted(Answer()) as server:
        client = aws.wrap(make(server.url), policy)
        client.list_tables()
        client.describe_limits()
    found = aws.policies(client)
    timeouts = [policy.timeout, found["ListTables"].timeout, found["DescribeLimits"].timeout]
    assert len(set(map(id, timeouts))) == 3
    assert found["ListTables"].breaker is policy.breaker
    assert found["ListTables"].counters["calls"] == policy.counters["calls"] == 2


# -- sessions and resources --------------------------------------------------------------------------------------------


def test_a_session_wraps_what_it_makes_and_what_it_has_made(session: boto3.Session) -> None:
    """Clients and resources, later ones and earlier ones, and no others; unwrapping frees them all."""
    kwargs = {"endpoint_url": "http://127.0.0.1:9"}
    early, early_resource = session.client("s3", **kwargs), session.resource("sqs", **kwargs)
    stranger = boto3.Session(region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="y").client(
        "s3", **kwargs
    )
    policy = flaky()
    assert aws.wrap(session, policy) is session
    late, late_resource = session.client("dynamodb", **kwargs), session.resource("s3", **kwargs)
    made = [early, early_resource.meta.client, late, late_resource.meta.client, late_resource.Bucket("b").meta.client]
    assert all(guard_of(client) for client in made)
    assert guard_of(stranger) is None
    assert aws.unwrap(session) is session
    assert not any(guard_of(client) for client in made)
    assert type(session._session) is botocore.session.Session and "_resilience" not in vars(session._session)
    assert guard_of(session.client("s3", **kwargs)) is None
    for client in (*made, stranger):
        client.close()


def test_a_sessions_policies_are_checked_at_once(session: boto3.Session) -> None:
    """A service or operation that does not exist is refused before any client is made."""
    for given, what in (({"dinamodb": flaky()}, "service 'dinamodb'"), ({"s3": {"GetObjekt": flaky()}}, "'GetObjekt'")):
        with pytest.raises(rs.ConfigError, match=what):
            aws.wrap(session, given)
    assert type(session._session) is botocore.session.Session


def test_each_service_of_a_session_has_its_own_state(session: boto3.Session) -> None:
    """One dead service opens its own circuit, not that of the others."""
    with Scripted(error(500, "InternalServerError")) as bad, Scripted(Answer()) as good:
        policy = rs.Policy(breaker=rs.CircuitBreaker(consecutive=2), registry=None)
        aws.wrap(session, policy)
        dynamodb, kinesis = (
            session.client("dynamodb", endpoint_url=bad.url),
            session.client("kinesis", endpoint_url=good.url),
        )
        for _ in range(2):
            with pytest.raises(dynamodb.exceptions.ClientError):
                dynamodb.list_tables()
        with pytest.raises(rs.CircuitOpen, match=r"dynamodb\.eu-west-1"):
            dynamodb.list_tables()
        kinesis.list_streams()
        dynamodb.close()
        kinesis.close()
        aws.unwrap(session)


def test_everything_at_once() -> None:
    """The module boto3 stands for all clients of the process: those that exist and those to come."""
    keys = {"region_name": "eu-west-1", "aws_access_key_id": "x", "aws_secret_access_key": "y"}
    before = botocore.session.Session.create_client
    early = boto3.client("s3", **keys)
    aws.wrap(boto3, flaky())
    try:
        late = boto3.Session(**keys).client("s3")
        own = boto3.Session(**keys)
        aws.wrap(own, {"s3": flaky(7)})
        special = own.client("s3")
        assert guard_of(early) and guard_of(late)
        assert guard_of(special).given.by_service.keys() == {"s3"}  # type: ignore[union-attr]
    finally:
        aws.unwrap(boto3)
    assert botocore.session.Session.create_client is before
    assert guard_of(early) is None and guard_of(late) is None and guard_of(special)
    aws.unwrap(own)
    for client in (early, late, special):
        client.close()


def test_a_resource_is_wrapped_with_its_client(session: boto3.Session) -> None:
    """`resource` makes it, `policies` looks into it, `unwrap` takes it off."""
    with Scripted(Answer(body=b'{"TableNames": []}')) as server:
        table = aws.resource("dynamodb", flaky(2), session=session, endpoint_url=server.url)
        assert list(table.tables.all()) == []
        assert list(aws.policies(table)) == ["ListTables"]
        aws.unwrap(table)
        with pytest.raises(rs.ConfigError, match="must be a wrapped client"):
            aws.policies(table)
        table.meta.client.close()


def test_a_client_can_be_made_and_wrapped_in_one(session: boto3.Session) -> None:
    """`client` takes what boto3's takes, and has a policy of the library's own by default."""
    with Scripted(Answer(body=b'{"TableNames": []}')) as server:
        client = aws.client("dynamodb", session=session, endpoint_url=server.url)
        client.list_tables()
        (policy,) = aws.policies(client).values()
        assert {"deadline", "retry", "breaker", "timeout"} <= policy.parts.keys()
        client.close()


def test_a_wrapped_client_is_freed(session: boto3.Session) -> None:
    """A guard keeps no client alive, and a watched session keeps none of its clients."""
    import weakref

    aws.wrap(session, flaky())
    client = session.client("dynamodb", endpoint_url="http://127.0.0.1:9")
    gone = weakref.ref(client)
    client.close()
    del client
    gc.collect()
    assert gone() is None
    aws.unwrap(session)


def test_tools_that_patch_the_class_still_work(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracers and mocks that replace the class's method see the calls, whether they came before `wrap` or after."""
    traced: list[str] = []
    original = BaseClient._make_api_call

    def trace(self: Any, operation_name: str, kwargs: dict[str, Any]) -> Any:
        traced.append(operation_name)
        return original(self, operation_name, kwargs)

    with Scripted(Answer(body=b'{"TableNames": []}')) as server:
        before, after = make(server.url), make(server.url)
        aws.wrap(after, flaky())
        monkeypatch.setattr(BaseClient, "_make_api_call", trace)
        aws.wrap(before, flaky())
        before.list_tables()
        after.list_tables()
    assert traced == ["ListTables"] * 2


def test_an_attribute_of_the_instance_is_put_back(make: Callable[..., Any]) -> None:
    """Where somebody covered the client's method before us, calls go through it, and it is there again after."""
    seen: list[str] = []
    with Scripted(Answer(body=b'{"TableNames": []}')) as server:
        client = make(server.url)
        original = client._make_api_call

        def cover(operation_name: str, api_params: dict[str, Any]) -> Any:
            seen.append(operation_name)
            return original(operation_name, api_params)

        client._make_api_call = cover
        aws.wrap(client, flaky())
        client.list_tables()
        aws.unwrap(client)
        client.list_tables()
    assert client._make_api_call is cover and seen == ["ListTables"] * 2


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
def test_what_could_be_copied_still_can(copied: Callable[[Any], Any]) -> None:
    """Clients, tables, sessions: what copying or pickling could make a copy of, it still can."""

    def outcomes(*, wrapped: bool) -> list[str | None]:
        session = boto3.Session(**KEYS)
        table = session.resource("dynamodb").Table("tbl")
        found: list[str | None] = []
        for thing in (session.client("dynamodb"), table, session, session._session):
            if wrapped:
                aws.wrap(thing)
            try:
                found.append(type(copied(thing)).__name__)
            except Exception:
                found.append(None)
        return found

    assert outcomes(wrapped=True) == outcomes(wrapped=False)


def test_a_copy_of_a_session_makes_its_own_clients(session: boto3.Session) -> None:
    """Not those of the session it was copied from; wrapped as that one's are."""
    core = session._session
    aws.wrap(core)
    other = copy.copy(core)
    other.set_default_client_config(Config(user_agent_extra="the copy's"))
    client = other.create_client("dynamodb")
    assert guard_of(client) is not None and client.meta.config.user_agent_extra == "the copy's"
    aws.unwrap(core)
    client.close()
