"""What happens to the calls of a wrapped asynchronous client, by whatever way they are made."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import threading
import time
import urllib.parse
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, FlexibleChecksumError, UnseekableStreamError
from hypothesis import given, settings
from hypothesis import strategies as st

import resilience as rs
from aio.support import client, flaky, run, settled
from aws.scripted import Answer, Asked, Scripted, error, s3_error
from resilience import aws
from resilience.testing import virtual_clock

DOWN = error(500, "InternalServerError")
NO_TABLES = Answer(body=b'{"TableNames": []}')
PAYLOAD = b"payload" * 1000


# -- one call, several attempts ----------------------------------------------------------------------------------------


@run
async def test_one_call_has_one_idempotency_token() -> None:
    """Attempts repeat the request, they do not order twice."""
    with Scripted(s3_error(503, "Unavailable")) as server:
        async with client(server.url, "ec2") as made:
            aws.wrap(made, flaky(3))
            for _ in range(2):
                with pytest.raises(ClientError):
                    await made.run_instances(MinCount=1, MaxCount=1, ImageId="ami-1")
    tokens = [urllib.parse.parse_qs(asked.body.decode())["ClientToken"][0] for asked in server.asked]
    assert len(tokens) == 6 and len(set(tokens[:3])) == len(set(tokens[3:])) == 1 and tokens[0] != tokens[3]


@run
async def test_each_attempt_is_signed_afresh() -> None:
    """The signer runs once for each attempt; handlers may be functions or coroutines."""
    signed = []
    with Scripted(DOWN, DOWN, Answer()) as server:
        async with client(server.url) as made:
            aws.wrap(made, flaky(3))

            async def note(**kwargs: Any) -> None:
                await asyncio.sleep(0)
                signed.append(kwargs["operation_name"])

            made.meta.events.register("before-sign", note)
            await made.list_tables()
    assert signed == ["ListTables"] * 3
    assert all("Signature=" in asked.headers["Authorization"] for asked in server.asked)


@pytest.mark.parametrize("checksum", ["when_supported", "when_required"])
@pytest.mark.parametrize("scheme", ["stream", "file"])
@run
async def test_a_body_is_sent_again_from_where_it_stood(tmp_path: Path, checksum: str, scheme: str) -> None:
    """Not from the start of the file: what stands before is not part of the object."""
    path = tmp_path / "body"
    path.write_bytes(b"HEADER" + PAYLOAD)
    with Scripted(s3_error(500, "InternalError"), s3_error(503, "SlowDown"), Answer(body=b"")) as server:
        async with client(server.url, "s3", request_checksum_calculation=checksum) as made:
            aws.wrap(made, flaky(3))
            with path.open("rb") if scheme == "file" else io.BytesIO(path.read_bytes()) as body:
                body.seek(6)
                await made.put_object(Bucket="bucket", Key="key", Body=body)
    assert [asked.body for asked in server.asked] == [PAYLOAD] * 3


class Spent(io.BytesIO):
    """A file that cannot go back once it has been sent."""

    spent = False

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if self.spent:
            raise OSError("spent")
        return super().seek(offset, whence)


@run
async def test_a_body_that_cannot_go_back_is_not_sent_in_part() -> None:
    """The second attempt is refused rather than sent empty."""
    body = Spent(PAYLOAD)

    def spend(_: Asked) -> Answer:
        body.spent = True
        return s3_error(500, "InternalError")

    with Scripted(spend) as server:
        async with client(server.url, "s3") as made:
            aws.wrap(made, flaky(3))
            with pytest.raises(UnseekableStreamError):
                await made.put_object(Bucket="b", Key="k", Body=body)
    assert [asked.body for asked in server.asked] == [PAYLOAD]


@run
async def test_retries_see_botocores_own_errors() -> None:
    """The classes of the client, with code and operation; and so do the breaker and the caller."""
    seen: list[Exception] = []

    def note(error: Exception) -> bool:
        seen.append(error)
        return True

    with Scripted(error(400, "ResourceNotFoundException")) as server:
        async with client(server.url) as made:
            missing = made.exceptions.ResourceNotFoundException
            policy = rs.Policy(
                retry=rs.Retry(on=note, attempts=2, backoff=0.0),
                breaker=rs.CircuitBreaker(consecutive=3, ignore=missing),
                registry=None,
            )
            aws.wrap(made, policy)
            for _ in range(3):
                with pytest.raises(missing):
                    await made.get_item(TableName="t", Key={})
    assert {type(one) for one in seen} == {missing}
    assert {one.operation_name for one in seen} == {"GetItem"}  # type: ignore[attr-defined]


@run
async def test_results_are_judged_as_the_caller_sees_them() -> None:
    """`on_result` gets the parsed answer."""
    with Scripted(Answer(body=b'{"Item": {}}'), Answer(body=b'{"Item": {"a": {"S": "x"}}}')) as server:
        retry = rs.Retry(on=Exception, on_result=lambda answer: not answer["Item"], backoff=0.0)
        async with client(server.url) as made:
            aws.wrap(made, rs.Policy(retry=retry, registry=None))
            answer = await made.get_item(TableName="t", Key={})
    assert answer["Item"] and answer["ResponseMetadata"]["RetryAttempts"] == 1


@pytest.mark.parametrize("good", [True, False])
@run
async def test_streams_of_rejected_answers_are_closed(good: bool) -> None:
    """An answer that was not good enough is not left open, neither for a better one nor for an error."""
    big = Answer(body=b"x" * 5_000_000, headers={"x-amz-meta-number": "1"})
    with Scripted(big, Answer(body=b"good") if good else s3_error(500, "InternalError")) as server:
        retry = rs.Retry(on=KeyError, on_result=lambda answer: bool(answer["Metadata"]), attempts=2, backoff=0.0)
        async with client(server.url, "s3", max_pool_connections=2) as made:
            aws.wrap(made, rs.Policy(retry=retry, registry=None))
            raws: list[Any] = []
            made.meta.events.register("after-call", lambda **kwargs: raws.append(kwargs["http_response"].raw))
            made.meta.events.register("before-parse", lambda **kwargs: raws.append(kwargs["response_dict"]["body"]))
            if good:
                answer = await made.get_object(Bucket="b", Key="k")
                assert await answer["Body"].read() == b"good"
            else:
                with pytest.raises(ClientError):
                    await made.get_object(Bucket="b", Key="k")
            first = raws[0]
            raw = getattr(first, "_raw_stream", None) or first.__wrapped__
            assert raw.closed and raw.connection is None


@run
async def test_waits_go_through_the_clock() -> None:
    """In virtual time a minute of backoff takes no time."""
    with virtual_clock() as clock, Scripted(DOWN) as server:
        policy = rs.Policy(retry=rs.Retry(on=Exception, attempts=3, backoff=[20.0, 40.0]), registry=None)
        async with client(server.url) as made:
            aws.wrap(made, policy)
            before = clock.monotonic_ns()
            with pytest.raises(ClientError):
                await made.list_tables()
            assert (clock.monotonic_ns() - before) / 1e9 >= 60.0
    assert len(server.asked) == 3


@run
async def test_s3_is_redirected_within_one_attempt() -> None:
    """S3's region redirector repairs the request; that is none of our retries."""
    redirect = s3_error(301, "PermanentRedirect", x_amz_bucket_region="eu-west-3")
    with Scripted(redirect, Answer(body=b"there")) as server:
        async with client(server.url, "s3") as made:
            aws.wrap(made, flaky(1))
            answer = await made.get_object(Bucket="bucket", Key="k")
            assert await answer["Body"].read() == b"there"
    assert [("eu-west-3" in asked.headers["Authorization"]) for asked in server.asked] == [False, True]


@run
async def test_a_good_status_with_an_error_inside_is_an_error() -> None:
    """S3 answers some copies with 200 and an error in the body; botocore turns it into one, and it is retried."""
    broken = Answer(200, b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>x</Message></Error>")
    good = Answer(200, b"<CopyObjectResult><ETag>x</ETag></CopyObjectResult>")
    with Scripted(broken, good) as server:
        async with client(server.url, "s3") as made:
            aws.wrap(made, flaky(2))
            await made.copy_object(Bucket="b", Key="k", CopySource="b/j")
    assert len(server.asked) == 2


# -- nothing is lost ---------------------------------------------------------------------------------------------------


class Stop(BaseException):
    """What no handler of botocore's catches."""


EVENTS = ("before-call", "request-created", "before-send", "before-parse", "after-call")


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("kind", [Stop, RuntimeError, StopIteration])
@run
async def test_whatever_is_raised_where_nothing_stays_held(event: str, kind: type[BaseException]) -> None:
    """Slots and probes are given back when a handler raises, also what botocore does not catch."""
    policy = rs.Policy(bulkhead=rs.Bulkhead(1), breaker=rs.CircuitBreaker(consecutive=50), registry=None)

    async def fail(**_: object) -> None:
        raise kind("stop")

    with Scripted(NO_TABLES) as server:
        async with client(server.url) as made:
            aws.wrap(made, policy)
            made.meta.events.register(event, fail)
            for _ in range(3):
                with pytest.raises((kind, RuntimeError)):
                    await made.list_tables()
            made.meta.events.unregister(event, fail)
            await made.list_tables()
    assert policy.counters["bulkhead"]["in_use"] == 0  # type: ignore[index]


@pytest.mark.parametrize("event", [*EVENTS, "response-received", "needs-retry"])
@run
async def test_a_call_that_is_cancelled_anywhere_holds_nothing(event: str) -> None:
    """Wherever the call stands when its task is cancelled: before, between and after its attempts, in a hedge."""
    half_open = rs.CircuitBreaker(consecutive=1, open_for=0.001, jitter=0.0, probes=1, ramp=0.0)
    policy = flaky(2, bulkhead=rs.Bulkhead(1), breaker=half_open, hedge=rs.Hedge(0.01), deadline=9.0, timeout=5.0)
    there = asyncio.Event()

    async def halt(**_: object) -> None:
        there.set()
        await asyncio.sleep(30)

    with Scripted(NO_TABLES) as server:
        async with client(server.url) as made:
            aws.wrap(made, policy)
            for _ in range(2):
                there.clear()
                made.meta.events.register(event, halt)
                call = asyncio.create_task(made.list_tables())
                await there.wait()
                await asyncio.sleep(0.015)  # the hedge has asked for the slot, in vain
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                made.meta.events.unregister(event, halt)
            await made.list_tables()
    assert policy.counters["bulkhead"]["in_use"] == 0  # type: ignore[index]


@settings(max_examples=25)
@given(st.integers(0, 60), st.booleans())
def test_a_call_cancelled_at_any_step_holds_nothing(steps: int, failing: bool) -> None:
    """After any number of turns of the event loop: slots and probes come back, and the client goes on working."""
    policy = flaky(3, bulkhead=rs.Bulkhead(1), breaker=rs.CircuitBreaker(consecutive=50), timeout=5.0, deadline=9.0)

    @run
    async def cancelled() -> None:
        async with client(SERVER.url, retries={"mode": "adaptive"}) as made:
            aws.wrap(made, policy)
            call = asyncio.create_task(made.describe_table(TableName="no") if failing else made.list_tables())
            for _ in range(steps):
                await asyncio.sleep(0)
            call.cancel()
            with contextlib.suppress(asyncio.CancelledError, ClientError):
                await call
            assert policy.counters["bulkhead"]["in_use"] == 0  # type: ignore[index]
            await made.list_tables()

    with Scripted(lambda asked: DOWN if b"no" in asked.body else NO_TABLES) as SERVER:
        cancelled()


@run
async def test_a_connection_keeps_nothing_of_the_call_that_opened_it() -> None:
    """It lives on in the pool, and with it the context it was opened in; answers and parameters do not."""

    class Key(dict[str, Any]):
        """Can be watched."""

    watched: list[weakref.ref[Any]] = []
    for policy in (flaky(), flaky(fallback=rs.Fallback(value=None)), rs.Policy(hedge=rs.Hedge(5.0), registry=None)):
        with Scripted(DOWN, Answer(body=b'{"Item": {}}')) as server:
            async with client(server.url) as made:
                aws.wrap(made, policy)
                made.meta.events.register(
                    "after-call", lambda http_response, **_: watched.append(weakref.ref(http_response))
                )
                key = Key(id={"S": "1"})
                watched.append(weakref.ref(key))
                with contextlib.suppress(ClientError):
                    await made.get_item(TableName="t", Key=key)
                del key
                await asyncio.sleep(0)
                gc.collect()
                assert len(watched) == 2 and [one() for one in watched] == [None, None]
                watched.clear()


@run
async def test_a_nested_client_keeps_to_its_own_policy() -> None:
    """Credentials fetched while a request is signed are calls of another client, with or without a policy."""
    with Scripted(DOWN) as server, Scripted(NO_TABLES) as good:
        twice = {"mode": "legacy", "total_max_attempts": 2}
        async with client(server.url, retries=twice) as inner, client(good.url) as outer:
            policy = flaky(4)
            aws.wrap(outer, policy)

            async def nested(**_: object) -> None:
                with pytest.raises(ClientError):
                    await inner.describe_limits()

            outer.meta.events.register("request-created", nested)
            await outer.list_tables()
            assert len(server.asked) == 2  # botocore's own retries
            aws.wrap(inner, flaky(3))
            server.asked.clear()
            await outer.list_tables()
    assert len(server.asked) == 3
    assert policy.counters["calls"] == 2 and policy.counters["retry"]["retries"] == 0  # type: ignore[index]


@run
async def test_a_client_may_call_itself_while_it_signs() -> None:
    """A call made inside another one's attempt, by the same client, is a call of its own."""
    policy = flaky(2)
    with Scripted(NO_TABLES) as server:
        async with client(server.url) as made:
            aws.wrap(made, policy)

            async def nested(operation_name: str, **_: object) -> None:
                if operation_name == "GetItem":
                    await made.list_tables()

            made.meta.events.register("request-created", nested)
            await made.get_item(TableName="t", Key={})
    assert server.operations() == ["ListTables", "GetItem"]
    assert policy.counters["calls"] == 2


# -- settings for one call ---------------------------------------------------------------------------------------------


@run
async def test_settings_can_be_overridden_for_a_block_in_each_task() -> None:
    """What one task sets for its block holds for the calls it makes, and those of the tasks it starts."""
    with Scripted(lambda asked: DOWN) as server:
        async with client(server.url) as made:
            policy = flaky(4)
            aws.wrap(made, policy)

            async def call(name: str) -> None:
                with pytest.raises(ClientError):
                    await made.get_item(TableName=name, Key={})

            async def once() -> None:
                with rs.override(retry=None):
                    await call("once")
                    await asyncio.create_task(call("once"))

            async def twice() -> None:
                with policy.override(retry=rs.Retry(on=Exception, attempts=2, backoff=0.0)):
                    await call("twice")

            await asyncio.gather(once(), twice(), call("four"))
    names = [asked.body.split(b'"')[3].decode() for asked in server.asked]
    assert {name: names.count(name) for name in set(names)} == {"once": 2, "twice": 2, "four": 4}


@run
async def test_a_timeout_can_be_set_for_one_call_and_a_deadline_around_is_kept() -> None:
    """`override(timeout=...)` changes what the attempt is held to; nested limits only shrink."""
    seen: list[float | None] = []
    with Scripted(NO_TABLES) as server:
        async with client(server.url) as made:
            aws.wrap(made, rs.Policy(timeout=3.0, deadline=5.0, registry=None))
            made.meta.events.register("before-send", lambda **_: seen.append(rs.remaining()))
            made.meta.events.register("request-created", lambda **_: seen.append(rs.remaining()))
            await made.list_tables()
            with rs.override(timeout=0.5):
                await made.list_tables()
            async with rs.deadline(1.0):
                await made.list_tables()
    assert [left is not None and low < left <= high for left, low, high in zip(
        seen, (2.0, 2.0, 0.1, 0.1, 0.5, 0.5), (3.0, 3.0, 0.5, 0.5, 1.0, 1.0), strict=True
    )] == [True] * 6  # fmt: skip


@run
async def test_a_keyed_part_gets_operation_and_parameters() -> None:
    """So one breaker for each table is a matter of a key function."""
    breakers = rs.PerKey(rs.CircuitBreaker(consecutive=2), key=lambda operation, **params: params["TableName"])
    with Scripted(lambda asked: DOWN if b"sick" in asked.body else Answer(body=b'{"Item": {}}')) as server:
        async with client(server.url) as made:
            aws.wrap(made, rs.Policy(breaker=breakers, registry=None))
            for _ in range(2):
                with pytest.raises(ClientError):
                    await made.get_item(TableName="sick", Key={})
            with pytest.raises(rs.CircuitOpen):
                await made.get_item(TableName="sick", Key={})
            await made.get_item(TableName="well", Key={})
    assert set(breakers) == {"sick", "well"}


# -- other ways to call ------------------------------------------------------------------------------------------------


@run
async def test_presigning_is_no_call() -> None:
    """No token is paid, no circuit asked, and the URL is what it was."""
    policy = rs.Policy(limiter=rs.TokenBucket(1, burst=1), registry=None)
    async with client("http://127.0.0.1:9", "s3") as made:
        before = await made.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"})
        aws.wrap(made, policy)
        after = [await made.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"}) for _ in range(3)]
        post = await made.generate_presigned_post("b", "k")
    assert [url.split("?")[0] for url in after] == [before.split("?")[0]] * 3 and post["url"]
    assert policy.counters["calls"] == 0 and policy.counters["limiter"]["tokens"] == 1  # type: ignore[index]


@run
async def test_paginators_and_waiters_are_covered(moto: str) -> None:
    """Each page and each poll is a call under the policy."""
    policy, name = flaky(), f"t{time.monotonic_ns()}"
    async with client(moto) as made:
        await made.create_table(
            TableName=name,
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        for number in range(5):
            await made.put_item(TableName=name, Item={"id": {"S": str(number)}})
        aws.wrap(made, policy)
        paginator = made.get_paginator("scan")
        pages = [page async for page in paginator.paginate(TableName=name, PaginationConfig={"PageSize": 2})]
        assert sum(len(page["Items"]) for page in pages) == 5
        assert policy.counters["calls"] == len(pages) >= 3
        await made.get_waiter("table_exists").wait(TableName=name)
        assert policy.counters["calls"] == len(pages) + 1
        await made.delete_table(TableName=name)


@run
async def test_a_waiter_still_understands_errors() -> None:
    """A poll that ends in an error the waiter waits for is an answer to it."""
    with Scripted(error(400, "ResourceNotFoundException")) as server:
        async with client(server.url) as made:
            aws.wrap(made, rs.Policy(bulkhead=rs.Bulkhead(1), registry=None))
            waiter = made.get_waiter("table_not_exists")
            await waiter.wait(TableName="t", WaiterConfig={"Delay": 0, "MaxAttempts": 2})
    assert len(server.asked) == 1


@run
async def test_objects_come_back_as_they_were_sent(moto: str) -> None:
    """Streaming bodies in both directions, read in each of the ways there are, with their checksums looked at."""
    async with client(moto, "s3", response_checksum_validation="when_supported") as made:
        aws.wrap(made, flaky(deadline=20.0, timeout=5.0))
        bucket, big = f"bucket-{time.monotonic_ns()}", bytes(range(256)) * 4_000
        await made.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        await made.put_object(Bucket=bucket, Key="k", Body=io.BytesIO(big))

        async def body() -> Any:
            return (await made.get_object(Bucket=bucket, Key="k"))["Body"]

        assert await (await body()).read() == big
        stream = await body()
        assert b"".join([chunk async for chunk in stream.iter_chunks(10_000)]) == big
        stream = await body()
        assert b"".join([line async for line in stream.iter_lines(keepends=True)]) == big
        stream = await body()
        assert await stream.read(5) == big[:5] and await stream.read() == big[5:]
        async with await body():
            pass
        await made.list_buckets()


@run
async def test_checksums_of_bodies_are_still_looked_at() -> None:
    """A body that is not what it should be is botocore's error, when it has been read."""
    with Scripted(Answer(body=b"something else", headers={"x-amz-checksum-crc32": "AAAAAA=="})) as server:
        async with client(server.url, "s3") as made:
            aws.wrap(made, flaky())
            answer = await made.get_object(Bucket="b", Key="k", ChecksumMode="ENABLED")
            with pytest.raises(FlexibleChecksumError):
                await answer["Body"].read()
    assert len(server.asked) == 1


# -- hedges, fallbacks, other regions ----------------------------------------------------------------------------------


def slow_first(*answers: Answer) -> list[Callable[[Asked], Answer]]:
    gate = threading.Event()

    def first(_: Asked) -> Answer:
        gate.wait(0.3)
        return answers[0]

    return [first, lambda _: answers[-1]]


@run
async def test_a_slow_read_is_hedged() -> None:
    """The second attempt's answer is the call's, and the first is dropped with its connection."""
    one, two = Answer(body=b'{"Item": {"n": {"S": "1"}}}'), Answer(body=b'{"Item": {"n": {"S": "2"}}}')
    with Scripted(*slow_first(one, two)) as server:
        policy = rs.Policy(hedge=rs.Hedge(0.05), registry=None)
        async with client(server.url) as made:
            aws.wrap(made, policy)
            began = time.monotonic()
            answer = await made.get_item(TableName="t", Key={})
            assert answer["Item"] == {"n": {"S": "2"}} and time.monotonic() - began < 0.25
    assert policy.counters["hedge"]["won"] == 1  # type: ignore[index]
    assert len(server.asked) == 2


@run
async def test_a_hedged_stream_is_the_winners() -> None:
    """Of two objects that come at the same moment, the one not taken is closed."""
    both = threading.Barrier(2)

    def together(_: Asked) -> Answer:
        both.wait(2.0)
        return Answer(body=b"x" * 3_000_000)

    with Scripted(together) as server:
        async with client(server.url, "s3") as made:
            aws.wrap(made, rs.Policy(hedge=rs.Hedge(0.02), registry=None))
            for _ in range(3):
                answer = await made.get_object(Bucket="b", Key="k")
                async with answer["Body"] as body:
                    assert len(await body.read()) == 3_000_000
            (session,) = made._endpoint.http_session._sessions.values()
            assert await settled(lambda: not session.connector._acquired)


@run
async def test_only_reads_are_hedged_unless_the_operation_is_named() -> None:
    """A write sent twice is two writes; who names the operation knows that it is not."""
    policy = rs.Policy(hedge=rs.Hedge(0.05), registry=None)
    for given_, times in ((policy, 1), ({"UpdateItem": policy}, 2)):
        with Scripted(*slow_first(Answer(), Answer())) as server:
            async with client(server.url) as made:
                aws.wrap(made, given_)
                await made.update_item(TableName="t", Key={})
        assert len(server.asked) == times


@run
async def test_a_fallback_answers_in_place_of_the_call() -> None:
    """A value, a function of operation and parameters, or a coroutine function; whatever the call failed with."""
    told: list[Any] = []

    async def answer(operation: str, **params: Any) -> dict[str, Any]:
        await asyncio.sleep(0)
        told.append((operation, params))
        return {}

    with Scripted(DOWN) as server:
        async with client(server.url) as made:
            aws.wrap(made, rs.Policy(fallback=rs.Fallback(value={"Item": None}), registry=None))
            assert await made.get_item(TableName="t", Key={}) == {"Item": None}
            aws.wrap(made, flaky(2, fallback=rs.Fallback(answer)))
            assert await made.get_item(TableName="t", Key={"id": {"S": "1"}}) == {}
    assert told == [("GetItem", {"TableName": "t", "Key": {"id": {"S": "1"}}})]
    assert len(server.asked) == 3


@run
async def test_reads_go_to_another_region_while_the_circuit_is_open() -> None:
    """Writes do not; and when the first region is back, its probes bring the reads home."""
    health = {"first": False}
    here, there = Answer(body=b'{"Item": {"r": {"S": "1"}}}'), Answer(body=b'{"Item": {"r": {"S": "2"}}}')
    with (
        virtual_clock() as clock,
        Scripted(lambda _: here if health["first"] else DOWN) as first,
        Scripted(there) as second,
    ):
        async with client(second.url, region="eu-west-3") as other, client(first.url) as made:
            aws.wrap(other, rs.Policy(registry=None, deadline=1.0))
            breaker = rs.CircuitBreaker(consecutive=2, open_for=5.0, jitter=0.0, probes=1, ramp=0.0)
            aws.wrap(made, rs.Policy(breaker=breaker, fallback=aws.Failover(other), registry=None))

            async def read() -> str:
                return (await made.get_item(TableName="t", Key={}))["Item"]["r"]["S"]  # type: ignore[no-any-return]

            for _ in range(2):
                with pytest.raises(ClientError):  # not yet open
                    await read()
            assert [await read() for _ in range(3)] == ["2"] * 3
            with pytest.raises(rs.CircuitOpen):
                await made.put_item(TableName="t", Item={})
            assert len(first.asked) == 2
            clock.advance(5.1)
            with pytest.raises(ClientError):  # the probe, still in vain
                await read()
            assert await read() == "2"
            health["first"] = True
            clock.advance(30.0)
            assert [await read() for _ in range(3)] == ["1"] * 3
            await made.put_item(TableName="t", Item={})


# -- many at once ------------------------------------------------------------------------------------------------------


@run
async def test_one_client_in_many_tasks() -> None:
    """Every call gets its own answer, every attempt is counted, nothing stays held."""
    sick: dict[bytes, int] = {}

    def sometimes(asked: Asked) -> Answer:
        sick[asked.body] = sick.get(asked.body, 0) + 1
        again = sick[asked.body] == 1 and len(asked.body) % 5 == 0
        return DOWN if again else Answer(body=b'{"Item": {"n": {"S": "%d"}}}' % len(asked.body))

    policy = flaky(3, bulkhead=rs.Bulkhead(8, queue=200, max_wait=30.0), deadline=60.0)
    with Scripted(sometimes) as server:
        async with client(server.url, max_pool_connections=20) as made:
            aws.wrap(made, policy)

            async def one(number: int) -> bool:
                answer = await made.get_item(TableName="t", Key={"id": {"S": "x" * number}})
                return bool(answer["Item"]["n"]["S"] == str(empty + number))

            empty = len(b'{"TableName": "t", "Key": {"id": {"S": ""}}}')
            assert all(await asyncio.gather(*map(one, range(1, 200))))
    assert policy.counters["calls"] == 199
    assert policy.counters["retry"]["retries"] == len(server.asked) - 199 > 30  # type: ignore[index]
    assert policy.counters["bulkhead"]["in_use"] == 0  # type: ignore[index]
