"""What is special about DynamoDB: writes on a condition, answers that are lost, and time by the date of answers."""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.machines.shared_bucket import Ask
from resilience.policies._shared import BUCKET
from resilience.stores import DynamoDBStore, StoreUnavailable
from resilience.stores._date import Dated
from stores.conftest import dynamodb

ASK = Ask(0, 10**9, 1, 1000, n=1)  # slow to fill
S = 1_000_000


def counted(store: DynamoDBStore) -> list[str]:
    """The operations it sends from now on."""
    sent: list[str] = []
    store._client.meta.events.register("before-send", lambda **event: sent.append(event["event_name"].split(".")[-1]))
    return sent


def test_a_step_is_one_write_once_the_key_is_known(dynamodb_store: DynamoDBStore) -> None:
    """And a read before it for a key not known; a step that changes nothing is checked by reading."""
    sent = counted(dynamodb_store)
    dynamodb_store.exchange("a", BUCKET, ASK)
    assert sent == ["GetItem", "PutItem"]
    del sent[:]
    dynamodb_store.exchange("a", BUCKET, ASK)
    assert sent == ["PutItem"]
    del sent[:]
    dynamodb_store.exchange("a", BUCKET, ASK._replace(n=0))
    assert sent == ["GetItem"]


def test_two_processes_never_write_over_each_other(dynamodb_store: DynamoDBStore) -> None:
    """Each knows an old state, and each is told when it is old."""
    other = DynamoDBStore(
        dynamodb_store.table, client=dynamodb_store._client, prefix=dynamodb_store.prefix, timeout=5.0
    )
    totals = [store.exchange("a", BUCKET, ASK)[4] for store in [dynamodb_store, other] * 5]
    assert totals == list(range(1, 11))


@pytest.mark.parametrize("mode", ["standard", "legacy"])
def test_a_write_whose_answer_was_lost_and_that_botocore_repeats_counts_once(
    dynamodb_store: DynamoDBStore, mode: str
) -> None:
    """The repeated write meets its own work, and knows it."""
    from botocore.awsrequest import AWSResponse
    from botocore.config import Config

    store = dynamodb(dynamodb_store._client.meta.endpoint_url, dynamodb_store.table)
    import boto3

    keys: Any = {"region_name": "eu-west-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}
    client = boto3.client(
        "dynamodb", endpoint_url=store._client.meta.endpoint_url, config=Config(retries={"mode": mode}), **keys
    )
    store = DynamoDBStore(dynamodb_store.table, client=client, prefix=dynamodb_store.prefix, timeout=10.0)
    store.exchange("a", BUCKET, ASK)
    lose = [True]
    send: Callable[..., Any] = client._endpoint.http_session.send

    def losing(request: Any) -> Any:
        answer = send(request)
        if lose and lose.pop():
            return AWSResponse(request.url, 500, {}, _Raw(b"{}"))
        return answer

    client._endpoint.http_session.send = losing
    assert store.exchange("a", BUCKET, ASK)[4] == 2
    assert store.exchange("a", BUCKET, ASK)[4] == 3
    assert not lose
    client.close()


class _Raw:
    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, *_: Any) -> Any:
        body, self._body = self._body, b""
        return iter([body])


def test_a_table_can_be_made(moto: str, prefix: str) -> None:
    """With a time to live, so that forgotten keys cost nothing."""
    client = dynamodb(moto, prefix)._client
    store = DynamoDBStore(f"{prefix}-made", client=client, timeout=5.0)
    store.create_table()
    assert store.exchange("a", BUCKET, ASK)[0]
    found = client.describe_time_to_live(TableName=store.table)["TimeToLiveDescription"]
    assert found["AttributeName"] == "ends"


def test_a_table_that_is_not_there_is_a_store_that_is_down(moto: str, prefix: str) -> None:
    """The error says so; no user of a policy sees it."""
    store = DynamoDBStore("no-such-table", client=dynamodb(moto, prefix)._client, timeout=5.0)
    with pytest.raises(StoreUnavailable, match="ResourceNotFound"):
        store.exchange("a", BUCKET, ASK)


def test_what_is_no_client_is_refused() -> None:
    """With its value."""
    with pytest.raises(TypeError, match="client must be"):
        DynamoDBStore("table", client="dynamodb")


def test_a_client_is_made_that_repeats_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one given, boto3 is asked for one with this timeout and a single attempt."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    config = DynamoDBStore("table", timeout=0.2)._client.meta.config
    assert (config.connect_timeout, config.read_timeout) == (0.2, 0.2)
    assert config.retries["total_max_attempts"] == 1


# -- the time ----------------------------------------------------------------------------------------------------------


def server_date(micros: int) -> str:
    return formatdate(micros // S, usegmt=True)


@given(
    st.integers(-(10**12), 10**12),
    st.lists(st.tuples(st.integers(0, 10 * S), st.integers(0, S), st.integers(0, S)), min_size=1, max_size=20),
)
def test_the_time_is_the_servers_within_a_second_and_a_round_trip(skew: int, answers: list[tuple[int, ...]]) -> None:
    """However wrong the own clock is: after any answers, by no more than a second and the shortest round trip."""
    dated, real = Dated(), 1_700_000_000 * S
    dated._guess = dated._low = dated._high = real + skew
    local = 0
    trips = []
    for pause, there, back in answers:
        local += pause
        dated.heard(server_date(real + local + there), local, local + there + back)
        local += there + back
        trips.append(there + back)
    offset = min(max(dated._guess, dated._low), dated._high)
    assert abs(offset - real) <= S + min(trips)


def test_a_clock_that_is_right_stays_as_exact_as_it_is() -> None:
    """The date of answers corrects only a clock that cannot be right."""
    dated = Dated()
    before = dated._guess
    now = dated.now()
    dated.heard(server_date(now), dated.local() - 1000, dated.local())
    assert dated.now() - dated.local() == pytest.approx(before, abs=1000)


def test_many_answers_narrow_it_down() -> None:
    """Dates that change while answers come say when a second begins."""
    dated, real = Dated(), 1_700_000_000 * S
    dated._guess = dated._low = dated._high = real + 3600 * S
    for local in range(0, 5 * S, 70_000):
        dated.heard(server_date(real + local + 500), local, local + 1000)
    assert abs(min(max(dated._guess, dated._low), dated._high) - real) < 80_000


def test_an_answer_that_contradicts_the_others_is_believed() -> None:
    """One of the clocks was set: what was known before is worth nothing. A date that is none says nothing."""
    dated = Dated()
    dated.heard(server_date(10**15), 0, 1000)
    dated.heard(server_date(2 * 10**15), 5 * S, 5 * S + 1000)
    assert abs(min(max(dated._guess, dated._low), dated._high) - 2 * 10**15) < 7 * S
    dated.heard("yesterday", 6 * S, 6 * S)
