"""Our own way to retry: nothing twice that must not happen twice, and waits no shorter than asked for."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

import resilience as rs
from aws.awsretry import OK, Bench, Fixed, failed, operation
from resilience.aws.presets import standard
from resilience.aws.retry import AwsRetry
from resilience.aws.retry_quota import RetryQuota

E500, E400, SLOW = failed(None, 500), failed(None, 400), failed("SlowDown", 503)
READ_TIMEOUT = ReadTimeoutError(endpoint_url="x")
TABLE, POLL = operation("dynamodb", "GetItem"), operation("sqs", "ReceiveMessage")
PUT, WRITE = operation("kinesis", "PutRecord"), operation("dynamodb", "PutItem")


def ours(**settings: Any) -> Bench:
    return Bench(AwsRetry(**{"rng": Fixed(), **settings}))


@pytest.mark.parametrize("error", [E500, READ_TIMEOUT, rs.TimedOut("x")])
def test_unsafe_is_not_repeated(error: Exception) -> None:
    """A write that may have happened is not sent again, nor is a function nothing is known of."""
    under = ours()
    assert under.call([error, OK], PUT) == (error, [])
    assert under.retry.counters["unsafe"] == 1
    calls = iter([error, OK])

    def unknown() -> Any:
        outcome = next(calls)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    with pytest.raises(type(error)):
        under.policy.call(unknown)


@pytest.mark.parametrize("error", [SLOW, EndpointConnectionError(endpoint_url="x"), failed(None, 429)])
def test_unsafe_is_repeated_where_nothing_happened(error: Exception) -> None:
    """A write that surely did not happen is sent again."""
    assert ours().call([error, OK], PUT)[0] == OK


def test_safe_by_parameters() -> None:
    """A write with a condition is repeated, one without is not."""
    assert ours().call([E500, OK], WRITE, ConditionExpression="a = :a")[0] == OK
    assert ours().call([E500, OK], WRITE)[0] is E500


def test_repeat_is_the_users() -> None:
    """The user may say "always", or decide call by call; a function of theirs that fails says no."""
    assert ours(repeat="always").call([E500, OK], PUT)[0] == OK
    under = ours(repeat=lambda op, params: op.name == "PutRecord" and params["N"] == 1)
    assert under.call([E500, OK], PUT, N=1)[0] == OK
    assert under.call([E500, OK], PUT, N=2)[0] is E500
    assert under.call([E500, OK], PUT)[0] is E500


def test_more_errors() -> None:
    """Further errors are repeated if asked for, but not what is unsafe."""
    kept = failed("ResourceInUseException")
    under = ours(on=lambda error: error is kept)
    assert under.call([kept, OK])[0] == OK
    assert under.call([kept, OK], PUT)[0] is kept
    assert under.call([E400, OK])[0] is E400
    assert ours(on=(ValueError, rs.CircuitOpen)).call([ValueError(), rs.CircuitOpen("x"), OK])[0] == OK
    refused = rs.CircuitOpen("x")
    assert ours(on=Exception).call([refused, OK])[0] is refused


def test_minimum() -> None:
    """What the service asks for is waited at least, with the backoff on top; too long a wish ends the call."""
    assert ours().call([failed("SlowDown", 503, {"retry-after": "3"}), OK])[1] == [4.0]
    assert ours().call([failed(None, 500, {"x-amz-retry-after": "3000"}), OK])[1] == [3.05]
    assert ours().call([failed(None, 500, {"retry-after": "not-a-number"}), OK])[1] == [0.05]
    assert ours(max_retry_after=2).call([failed("SlowDown", 503, {"retry-after": "3"}), OK])[1] == []
    assert ours(retry_after=None).call([failed("SlowDown", 503, {"retry-after": "3"}), OK])[1] == [1.0]
    assert ours(retry_after="clamp").call([failed(None, 500, {"x-amz-retry-after": "9000"}), OK])[1] == [5.05]


def test_clock_skew() -> None:
    """Ours repeats what was refused for the clock, botocore's modes do not."""
    error = failed("RequestTimeTooSkewed", 403, {"date": "Tue, 14 Nov 2023 22:30:00 GMT"})  # the bench's is 22:13:20
    assert ours().call([error, OK], PUT) == (OK, [0.05])
    for version in ("2.1", "2.0", "legacy"):
        assert Bench(standard(version, quota=None, rng=Fixed())).call([error, OK])[0] is error


def test_budget() -> None:
    """A `RetryBudget` in place of the quota pays for retries and is fed by calls that go well."""
    budget = rs.RetryBudget(1, per_success=0.5, floor=None)
    under = ours(quota=budget)
    assert under.call([E500, E500]) == (E500, [0.05])
    assert under.call([E500]) == (E500, [])
    assert under.call([E500], POLL) == (E500, [0.05])
    under.call([OK])
    under.call([OK])
    assert under.call([E500, OK])[0] == OK


def test_shared_quota() -> None:
    """Two retries that share a quota are bounded together; replace keeps a given quota and renews an own one."""
    quota = RetryQuota(14)
    one, other = Bench(standard(quota=quota)), Bench(standard(quota=quota))
    assert one.call([E500, E500, OK])[0] is E500
    assert other.call([E500, OK])[0] is E500
    assert one.retry.replace(attempts=9)._quota is quota
    own = AwsRetry()
    assert own.replace()._quota is not own._quota is not None
    budget = AwsRetry(quota="budget")
    assert budget._quota is None and budget.replace()._budget is not budget._budget is not None


def test_deadline_and_elapsed() -> None:
    """No attempt begins after the deadline or the time allowed, and nothing is paid for it."""
    under = Bench(standard(rng=Fixed()), deadline=0.12)
    assert under.call([E500, E500, OK]) == (E500, [0.05])
    assert under.retry.counters["quota"] == 486
    assert ours(elapsed=0.12).call([E500, E500, OK]) == (E500, [0.05])


def test_attempts_for() -> None:
    """The most attempts of a call can be read beforehand, by service."""
    assert [standard(v).attempts_for(TABLE) for v in ("2.1", "2.0", "legacy")] == [4, 3, 10]
    assert [standard(v).attempts_for(operation()) for v in ("2.1", "2.0", "legacy")] == [3, 3, 5]
    assert standard().attempts_for(None) == 3 and AwsRetry(attempts=7).attempts_for(TABLE) == 7


def test_numbers_follow_a_base_given() -> None:
    """A base given by the user is that of every service; rules with one base throttle by it too."""
    assert ours(base=0.5).call([E500, SLOW, OK], TABLE)[1] == [0.5, 2.0]
    assert ours(base=3).call([SLOW, OK])[1] == [3.0]
    assert Bench(standard("2.0", base=0.25, rng=Fixed())).call([SLOW, OK])[1] == [0.25]
    assert ours(throttling_base=0.25).call([SLOW, E500, OK])[1] == [0.25, 0.1]


def test_counters_and_wrap() -> None:
    """Retries are counted; with wrap=True the end of all attempts is an error of its own."""
    under = ours(wrap=True)
    end, _ = under.call([E500] * 3)
    assert isinstance(end, rs.RetriesExhausted) and end.__cause__ is E500
    assert under.retry.counters["retries"] == 2 and under.retry.counters["exhausted"] == 1
    assert under.call([E500, OK])[0] == OK and under.retry.counters["recovered"] == 1
    assert ours(shadow=True).call([E500, OK]) == (E500, [])


def test_repr_and_replace() -> None:
    """A retry shows how it was made, and can be made again from that."""
    assert repr(AwsRetry()) == "AwsRetry()"
    assert repr(standard("2.0", attempts=5)) == "AwsRetry(rules='2.0', repeat='always', attempts=5)"
    scope = {"AwsRetry": AwsRetry, "RetryQuota": RetryQuota}
    retry = AwsRetry(quota=RetryQuota(50, cost=7), base=0.1, on=ValueError, retry_after=None)
    assert repr(eval(repr(retry), {**scope, "ValueError": ValueError})) == repr(retry)
    assert retry.replace(base=0.2).base == 0.2 and retry.replace().on is ValueError


@pytest.mark.parametrize(
    "bad",
    [
        {"rules": "3"}, {"repeat": "sometimes"}, {"attempts": 0}, {"base": 0}, {"base": -1}, {"cap": 0},
        {"base": 2, "cap": 1}, {"throttling_base": 2, "cap": 1}, {"retry_after": "maximum"}, {"quota": "mine"},
        {"elapsed": 0}, {"on": ()}, {"max_retry_after": 0},
    ],
)  # fmt: skip
def test_bad_values(bad: dict[str, Any]) -> None:
    """A setting out of range is refused, by its name."""
    with pytest.raises(rs.ConfigError, match=next(iter(bad))):
        AwsRetry(**bad)


@pytest.mark.parametrize(
    "bad",
    [{"quota": 5}, {"repeat": 3}, {"rules": 2.1}, {"attempts": 1.5}, {"on": 3}, {"rng": 1}, {"retry_after": print}],
)
def test_bad_types(bad: dict[str, Any]) -> None:
    """A setting of the wrong type is refused, by its name."""
    with pytest.raises(TypeError, match=next(iter(bad))):
        AwsRetry(**bad)
