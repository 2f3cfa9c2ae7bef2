"""What `wrap` puts on an asynchronous client, and that `unwrap` takes all of it off again."""

from __future__ import annotations

import asyncio
import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiobotocore
import boto3
import botocore.exceptions
import pytest
from aiobotocore.client import AioBaseClient
from aiobotocore.session import AioSession
from botocore.session import Session

import resilience as rs
from aio.support import MODES, client, flaky, run, settled
from aws.conftest import KEYS
from aws.scripted import Answer, Scripted, error
from resilience import aws
from resilience.aws._guard import _Silenced, guard_of

NOWHERE = "http://127.0.0.1:9"
DOWN = error(500, "InternalServerError")
NO_TABLES = Answer(body=b'{"TableNames": []}')


def state(made: Any) -> dict[str, Any]:
    """All that `wrap` might change on a client."""
    emitter = made.meta.events._emitter
    events = ("before-send", "needs-retry", "after-call", "request-created", "before-call", "provide-client-params")
    service = made.meta.service_model.service_id.hyphenize()
    return {
        "client": dict(vars(made)),
        "endpoint": dict(vars(made._endpoint)),
        "handlers": {event: [*emitter._handlers.prefix_search(f"{event}.{service}.GetItem")] for event in events},
        "unique": {name: item["handler"] for name, item in emitter._unique_id_handlers.items()},
        "http": dict(vars(made._endpoint.http_session)),
        "class": type(made),
    }


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("service", ["dynamodb", "s3", "sqs"])
@run
async def test_unwrapping_restores_the_client_exactly(mode: str, service: str) -> None:
    """Attributes, handlers and their order: every object is the one it was."""
    async with client(NOWHERE, service, mode=mode) as made:
        before = state(made)
        assert aws.wrap(made, flaky()) is made
        assert state(made) != before
        assert aws.unwrap(made) is made
        assert state(made) == before
        assert aws.unwrap(made) is made


@run
async def test_a_wrapped_client_is_still_the_same_object_to_its_users() -> None:
    """Its class, meta, exceptions, paginators and waiters are those of before."""
    async with client(NOWHERE) as made:
        kind, meta, exceptions = type(made), made.meta, made.exceptions
        aws.wrap(made, flaky())
        assert type(made) is kind and isinstance(made, AioBaseClient)
        assert made.meta is meta and made.exceptions is exceptions
        assert made.can_paginate("scan") and "table_exists" in made.waiter_names
        with pytest.raises(AttributeError):
            _ = made.no_such_method


@pytest.mark.parametrize("service", ["dynamodb", "s3", "sqs", "ec2"])
@pytest.mark.parametrize("mode", MODES)
@run
async def test_all_retry_handlers_are_silenced(mode: str, service: str) -> None:
    """The one that retries, and in the adaptive mode those that wait, each in its very place."""
    async with client(NOWHERE, service, mode=mode) as made:
        hyphenized = made.meta.service_model.service_id.hyphenize()

        def found() -> list[Any]:
            handlers = made.meta.events._emitter._handlers
            events = ("before-send", "needs-retry")
            return [one for event in events for one in handlers.prefix_search(f"{event}.{hyphenized}.X")]

        before = found()
        aws.wrap(made, flaky())
        silenced = 0
        for old, new in zip(before, found(), strict=True):
            ours = isinstance(new, _Silenced)
            assert new.handler == old if ours else new == old
            assert ours or "retr" not in type(getattr(old, "__self__", old)).__module__
            silenced += ours
        assert silenced == (3 if mode == "adaptive" else 1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("status", [429, 500, 503])
@run
async def test_attempts_are_never_multiplied(mode: str, status: int) -> None:
    """Three attempts are three requests, whatever mode botocore's own retries are in."""
    with Scripted(error(status, "Throttling")) as server:
        async with client(server.url, mode=mode) as made:
            aws.wrap(made, flaky(3))
            with pytest.raises(made.exceptions.ClientError) as caught:
                await made.get_item(TableName="t", Key={"id": {"S": "1"}})
    assert len(server.asked) == 3
    assert caught.value.response["ResponseMetadata"]["RetryAttempts"] == 2
    told = [dict(part.split("=") for part in asked.headers["amz-sdk-request"].split("; ")) for asked in server.asked]
    assert [(part["attempt"], part["max"]) for part in told] == [("1", "3"), ("2", "3"), ("3", "3")]
    assert len({asked.headers["amz-sdk-invocation-id"] for asked in server.asked}) == 1
    assert "gave up after 3 attempts" in caught.value.__notes__[0]


@pytest.mark.parametrize("mode", MODES)
@run
async def test_connection_errors_are_not_multiplied_either(mode: str) -> None:
    """A refused connection is tried as often as the policy says, and raised as botocore's own error."""
    policy = flaky(3)
    async with client(NOWHERE, mode=mode) as made:
        aws.wrap(made, policy)
        with pytest.raises(botocore.exceptions.EndpointConnectionError):
            await made.list_tables()
    assert policy.counters["retry"]["retries"] == 2  # type: ignore[index]


@pytest.mark.parametrize("mode", MODES)
@run
async def test_what_has_no_policy_is_left_to_botocore(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operation without a policy is retried by botocore as ever, beside one that has a policy."""
    sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda _: sleep(0.0))
    with Scripted(DOWN) as server:
        async with client(server.url, retries={"mode": mode, "total_max_attempts": 2}) as made:

            async def requests(call: Any) -> int:
                server.asked.clear()
                with pytest.raises(made.exceptions.ClientError):
                    await call
                return len(server.asked)

            assert await requests(made.list_tables()) == 2
            aws.wrap(made, {"GetItem": flaky(1), "*": None})
            assert await requests(made.list_tables()) == 2
            assert await requests(made.get_item(TableName="t", Key={"id": {"S": "1"}})) == 1
            assert list(aws.policies(made)) == ["GetItem"]


@run
async def test_each_operation_may_have_its_own_policy() -> None:
    """By the operation's name or the method's, for one service or for whatever client it is."""
    with Scripted(DOWN) as server:
        async with client(server.url) as made:
            for given in (
                {"dynamodb": {"GetItem": flaky(2), "*": flaky(4)}},
                {"*": {"get_item": flaky(2), "*": flaky(4)}},
                {"GetItem": flaky(2), "*": flaky(4)},
            ):
                aws.wrap(made, given)
                for call, times in ((made.get_item(TableName="t", Key={}), 2), (made.list_tables(), 4)):
                    server.asked.clear()
                    with pytest.raises(made.exceptions.ClientError):
                        await call
                    assert len(server.asked) == times


@run
async def test_names_that_do_not_exist_are_refused() -> None:
    """With the name that was perhaps meant; the client stays as it was."""
    async with client(NOWHERE) as made:
        with pytest.raises(rs.ConfigError, match="there is no operation of dynamodb 'GetItm'; did you mean 'GetItem'"):
            aws.wrap(made, {"GetItm": None})
        assert guard_of(made) is None


@run
async def test_wrapping_again_replaces_the_policy() -> None:
    """One guard at a time; and off is off."""
    with Scripted(DOWN) as server:
        async with client(server.url) as made:
            before = state(made)
            aws.wrap(made, flaky(5))
            aws.wrap(made, flaky(2))
            with pytest.raises(made.exceptions.ClientError):
                await made.list_tables()
            assert len(server.asked) == 2
            aws.unwrap(made)
            after = state(made)
            assert after["handlers"] == before["handlers"] and after["client"].keys() == before["client"].keys()


@run
async def test_calls_under_way_end_as_they_began() -> None:
    """A call that is being retried when the client is unwrapped goes on under its policy."""
    with Scripted(DOWN, DOWN, NO_TABLES) as server:
        async with client(server.url) as made:
            retry = rs.Retry(on=Exception, attempts=3, backoff=0.03, budget=None)
            aws.wrap(made, rs.Policy(retry=retry, registry=None))
            call = asyncio.create_task(made.list_tables())
            assert await settled(lambda: bool(server.asked))
            aws.unwrap(made)
            assert (await call)["ResponseMetadata"]["RetryAttempts"] == 2
    assert len(server.asked) == 3


@run
async def test_a_session_wraps_what_it_makes_and_what_it_has_made() -> None:
    """Later clients and earlier ones, and no others; unwrapping frees them all."""
    session, other = AioSession(), AioSession()
    async with client(NOWHERE, "s3", session=session) as early, client(NOWHERE, "s3", session=other) as stranger:
        assert aws.wrap(session, flaky()) is session
        async with client(NOWHERE, session=session) as late:
            assert guard_of(early) and guard_of(late)
            assert guard_of(stranger) is None
            assert aws.unwrap(session) is session
            assert guard_of(early) is None and guard_of(late) is None
        assert "_create_client" not in vars(session) and "create_client" not in vars(session)
        async with client(NOWHERE, "s3", session=session) as after:
            assert guard_of(after) is None


@run
async def test_a_sessions_policies_are_checked_at_once() -> None:
    """A service or operation that does not exist is refused before any client is made."""
    session = AioSession()
    for given, what in (({"dinamodb": flaky()}, "service 'dinamodb'"), ({"s3": {"GetObjekt": flaky()}}, "'GetObjekt'")):
        with pytest.raises(rs.ConfigError, match=what):
            aws.wrap(session, given)
    assert "_create_client" not in vars(session)
    aws.wrap(session, {"s3": {"GetObject": flaky(), "put_object": None}})
    aws.unwrap(session)


@run
async def test_each_service_of_a_session_has_its_own_state() -> None:
    """One dead service opens its own circuit, not that of the others."""
    session = AioSession()
    aws.wrap(session, rs.Policy(breaker=rs.CircuitBreaker(consecutive=2), registry=None))
    with Scripted(DOWN) as bad, Scripted(Answer()) as good:
        async with client(bad.url, session=session) as dynamodb, client(good.url, "sqs", session=session) as sqs:
            for _ in range(2):
                with pytest.raises(dynamodb.exceptions.ClientError):
                    await dynamodb.list_tables()
            with pytest.raises(rs.CircuitOpen, match=r"dynamodb\.eu-west-1"):
                await dynamodb.list_tables()
            await sqs.list_queues()


@run
async def test_everything_at_once() -> None:
    """The module aiobotocore stands for its clients in this process, those that exist and those to come.

    boto3 stands for the others.
    """
    method = AioSession._create_client
    blocking = boto3.client("s3", **KEYS)
    async with client(NOWHERE, "s3") as early:
        aws.wrap(aiobotocore, flaky())
        try:
            async with client(NOWHERE, session=AioSession()) as late:
                assert guard_of(early) and guard_of(late)
            assert guard_of(blocking) is None
        finally:
            aws.unwrap(aiobotocore)
        assert AioSession._create_client is method
        assert guard_of(early) is None and guard_of(late) is None
        aws.wrap(boto3, flaky())
        try:
            assert guard_of(blocking) and guard_of(early) is None
            async with client(NOWHERE, session=AioSession()) as late:
                assert guard_of(late) is None
        finally:
            aws.unwrap(boto3)
    assert "_create_client" not in vars(Session)
    blocking.close()


@run
async def test_what_makes_blocking_clients_only_says_so() -> None:
    """`client` and `resource` refuse a session whose clients are asynchronous, and say what to do."""
    for make in (aws.client, aws.resource):
        with pytest.raises(TypeError, match="wrap it, or the client inside its block"):
            make("s3", flaky(), session=AioSession())


@run
async def test_a_wrapped_client_is_freed() -> None:
    """A guard keeps no client alive, and a watched session keeps none of its clients."""
    session = AioSession()
    aws.wrap(session, flaky())
    with Scripted(NO_TABLES) as server:
        async with client(server.url, session=session) as made:
            await made.list_tables()
            gone = weakref.ref(made)
        del made

        def freed() -> bool:
            gc.collect()
            return gone() is None

        assert await settled(freed)  # the last step of closing a connection, some turns later, knows its context
    aws.unwrap(session)


@run
async def test_carry_takes_a_block_into_tasks_that_began_before() -> None:
    """Tasks begun inside the block need no help; one that began earlier is handed a view."""
    seen: list[float | None] = []
    queue: asyncio.Queue[Any] = asyncio.Queue()

    async def worker() -> None:
        while (job := await queue.get()) is not None:
            await job()

    with Scripted(NO_TABLES) as server:
        async with client(server.url) as made:
            aws.wrap(made, rs.Policy(timeout=30.0, registry=None))
            made.meta.events.register("before-send", lambda **_: seen.append(rs.remaining()))
            assert aws.carry(made) is made
            working = asyncio.create_task(worker())
            await asyncio.sleep(0)
            with rs.override(timeout=7.0):
                await asyncio.create_task(made.list_tables())
                view = aws.carry(made)
            assert type(view) is type(made) and view.meta is made.meta
            for job in (view.list_tables, made.list_tables, None):
                queue.put_nowait(job)
            await working
    assert [left is not None and left <= 7.0 for left in seen] == [True, True, False]


def test_a_client_may_be_used_by_one_event_loop_after_another() -> None:
    """A policy belongs to no loop: breaker, slots and budget are the same for the next one, in whatever thread."""
    policy = flaky(2, bulkhead=rs.Bulkhead(1, queue=5, max_wait=5.0))

    async def calls() -> None:
        with Scripted(DOWN, NO_TABLES) as server:
            async with client(server.url) as made:
                aws.wrap(made, policy)
                await asyncio.gather(*(made.list_tables() for _ in range(3)))

    asyncio.run(calls())
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: asyncio.run(calls()), range(2)))
    assert policy.counters["calls"] == 9
    assert policy.counters["bulkhead"]["in_use"] == 0  # type: ignore[index]
