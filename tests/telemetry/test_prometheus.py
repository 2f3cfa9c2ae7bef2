"""What is on the page for Prometheus: the numbers of the calls, and nothing that is not there."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest

import resilience as rs
from resilience.machines.distribution import Distribution
from resilience.telemetry._readings import Borders
from resilience.telemetry.prometheus import BUCKETS, Collector, install, uninstall
from telemetry.pages import full, names, only, parsed, work

if TYPE_CHECKING:
    from resilience.testing import VirtualClock

# -- what is on it -----------------------------------------------------------------------------------------------------


def test_the_numbers_are_those_of_the_calls(clock: VirtualClock, registry: rs.Registry) -> None:
    """Calls by outcome, attempts, retries and durations are what happened."""
    policy = rs.Policy(
        "payments", retry=rs.Retry(on=ConnectionError, attempts=3, backoff=0.5), clock=clock, registry=registry
    )
    answers = iter([1, ConnectionError(), 2, ConnectionError(), ConnectionError(), ConnectionError(), ValueError()])

    def call() -> object:
        clock.advance(0.02)
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    for answer in (1, 2):
        assert policy.call(call) == answer
    for error in (ConnectionError, ValueError):
        with pytest.raises(error):
            policy.call(call)
    found = parsed(Collector(registry, buckets=(0.1, 10.0)).text())
    ended = {o: only(found, "resilience_calls_total", outcome=o) for o in ("succeeded", "failed", "rejected")}
    assert ended == {"succeeded": 2, "failed": 2, "rejected": 0}
    assert only(found, "resilience_attempts_total") == 7
    assert only(found, "resilience_retries_total") == 3
    assert only(found, "resilience_recovered_calls_total") == 1
    good = {
        le: only(found, "resilience_call_duration_seconds_bucket", outcome="succeeded", le=le)
        for le in ("0.1", "10.0", "+Inf")
    }
    assert good == {"0.1": 1, "10.0": 2, "+Inf": 2}
    assert only(found, "resilience_call_duration_seconds_count", outcome="failed") == 2
    total = only(found, "resilience_call_duration_seconds_sum", outcome="succeeded")
    assert 0.02 + 0.04 <= total <= 0.02 + 0.04 + 0.5


def test_what_a_policy_does_not_have_makes_no_sample(clock: VirtualClock, registry: rs.Registry) -> None:
    """No zeros stand for parts that are not there, or for what is not known yet."""
    policy = rs.Policy("bare", clock=clock, registry=registry)
    assert names(parsed(Collector(registry).text())) == {
        "resilience_calls_total",
        "resilience_calls_in_flight",
        "resilience_attempts_total",
        "resilience_call_duration_seconds_bucket",
        "resilience_call_duration_seconds_count",
        "resilience_call_duration_seconds_sum",
    }
    learning = full("learning", registry, clock)
    found = parsed(Collector(registry).text())
    assert "resilience_timeout_seconds" in names(found)
    assert "resilience_attempt_latency_seconds" not in names(found)
    work(learning, clock, [0.01] * 60)
    found = parsed(Collector(registry).text())
    assert only(found, "resilience_attempt_latency_seconds", share="0.5") == pytest.approx(0.01, rel=0.05)
    del policy


def test_without_policies_there_is_nothing(registry: rs.Registry) -> None:
    """An empty registry makes an empty page, which is a valid one."""
    collector = Collector(registry)
    assert collector.text() == b""
    assert collector.text(openmetrics=True) == b"# EOF\n"
    assert collector.collect() == []


def test_a_policy_that_is_not_observed_has_no_durations(registry: rs.Registry) -> None:
    """Nothing is said of the durations of a policy that keeps none."""
    policy = rs.Policy("late", registry=None)
    policy.call(lambda: 1)
    registry.add(policy)
    found = parsed(Collector(registry).text())
    assert names(found) == {"resilience_calls_total"}
    assert "succeeded" not in {dict(labels)["outcome"] for _, labels in found}


class Broken(rs.Bulkhead):
    """Its counters cannot be read while *broken*."""

    broken = True

    @property
    def counters(self) -> dict[str, int | float]:
        if self.broken:
            raise RuntimeError("no numbers today")
        return super().counters


@pytest.mark.parametrize("way", ["text", "collect"])
def test_what_cannot_be_read_is_left_out_and_logged_once(
    registry: rs.Registry, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    """One broken part costs its own policy's samples only, and one line in the log until it works again."""
    bulkhead = Broken(3)
    policies = [rs.Policy("broken", bulkhead=bulkhead, registry=registry), rs.Policy("whole", registry=registry)]
    collector = Collector(registry)
    for _ in range(3):
        made = str(getattr(collector, way)())
        assert "whole" in made and "broken" not in made
    assert [(r.levelno, "'broken'" in r.getMessage()) for r in caplog.records] == [(logging.ERROR, True)]
    bulkhead.broken = False
    assert "broken" in str(getattr(collector, way)())
    bulkhead.broken = True
    getattr(collector, way)()
    assert len(caplog.records) == 2
    del policies


def test_at_most_so_many_policies_are_shown(registry: rs.Registry, caplog: pytest.LogCaptureFixture) -> None:
    """Beyond the limit, those seen first stay, and the log says once how many are left out."""
    collector = Collector(registry, max_policies=2)
    kept = [rs.Policy(name, registry=registry) for name in "xy"]
    shown = [collector.text()]
    kept += [rs.Policy(name, registry=registry) for name in "abc"]
    shown += [collector.text(), collector.text()]
    for page in shown:
        assert {dict(labels)["policy"] for _, labels in parsed(page)} == {"x", "y"}
    assert collector.left_out == 3
    assert len(caplog.records) == 1
    assert "3 policies are more than max_policies (2)" in caplog.text
    registry.remove("x")
    collector.text()
    assert {dict(labels)["policy"] for _, labels in parsed(collector.text())} == {"a", "y"}
    assert collector.left_out == 2


# -- buckets and labels ------------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(1, 10**13), max_size=50),
    st.lists(st.floats(1e-9, 1e5), min_size=1, max_size=12),
)
def test_buckets_are_cut_as_the_distribution_says(durations: list[int], borders: list[float]) -> None:
    """The histogram is that of the slow and plain way, and its last bucket and its sum are exact."""
    cut = Borders(seconds := sorted({round(border, 9) for border in borders}))
    distribution = Distribution()
    distribution.add(durations)
    *counts, in_all, again, total = cut.cut(distribution)
    assert counts == distribution.below([round(border * 1e9) for border in seconds])
    assert in_all == again == len(durations)
    assert total == sum(durations) / 1e9
    assert counts == sorted(counts)


@pytest.mark.parametrize(
    "buckets", [(), (1.0, 1.0), (2.0, 1.0), (0.0, 1.0), (-1.0,), (math.nan,), (1.0, math.inf), (1e-10,), (1e10,)]
)
def test_senseless_buckets_are_refused(buckets: tuple[float, ...]) -> None:
    """Borders must be positive, finite and ascending, and at least one."""
    with pytest.raises(rs.ConfigError, match="buckets"):
        Collector(buckets=buckets)


@pytest.mark.parametrize("buckets", [None, 1.0, "1", ["a"], [True], {"a": 1}])
def test_buckets_of_another_type_are_refused(buckets: Any) -> None:
    """Borders are numbers."""
    with pytest.raises(TypeError, match="buckets"):
        Collector(buckets=buckets)


@pytest.mark.parametrize("name", ["", "a-b", "1a", "__name__", "policy", "le", "outcome", "share", "ä", "a\n"])
def test_labels_that_prometheus_or_we_have_a_use_for_are_refused(name: str) -> None:
    """A constant label has a name that Prometheus takes, and that no sample has already."""
    with pytest.raises(rs.ConfigError, match="labels"):
        Collector(labels={name: "x"})


def test_other_arguments_are_checked() -> None:
    """Wrong types and ranges are refused when the collector is made."""
    with pytest.raises(TypeError, match="labels"):
        Collector(labels={"zone": 1})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="policies"):
        Collector([rs.registry])  # type: ignore[arg-type]
    with pytest.raises(rs.ConfigError, match="max_policies"):
        Collector(max_policies=0)


def test_two_collectors_may_have_different_buckets(registry: rs.Registry, busy: list[rs.Policy]) -> None:
    """Borders are the reader's business: the same calls, cut in two ways."""
    coarse, fine = Collector(registry, buckets=(1.0,)), Collector(registry)
    for collector, borders in ((coarse, 2), (fine, len(BUCKETS) + 1)):
        found = parsed(collector.text())
        buckets = [labels for name, labels in found if name.endswith("_bucket") and ("policy", "mail") in labels]
        assert len(buckets) == 2 * borders


# -- several registries ------------------------------------------------------------------------------------------------


def test_registries_of_policies_may_be_shown_apart(clock: VirtualClock) -> None:
    """Each registry of ours goes to the prometheus_client registry it is installed in, and to no other."""
    ours = [rs.Registry(), rs.Registry()]
    theirs = [CollectorRegistry(), CollectorRegistry()]
    policies = [rs.Policy("p", clock=clock, registry=registry) for registry in ours]
    for times, policy in enumerate(policies):
        for _ in range(times):
            policy.call(lambda: 1)
    for one, other in zip(ours, theirs, strict=True):
        install(one, into=other, labels={"team": "a"})
    labels = {"policy": "p", "team": "a", "outcome": "succeeded"}
    assert [each.get_sample_value("resilience_calls_total", labels) for each in theirs] == [0, 1]


def test_policies_of_one_name_in_two_registries_become_one(clock: VirtualClock) -> None:
    """Counts are added up; of timeouts the longest counts."""
    ours = [rs.Registry(), rs.Registry()]
    kept = [
        rs.Policy("p", timeout=rs.Timeout(t, mode="cooperative"), clock=clock, registry=registry)
        for t, registry in zip((1.0, 3.0), ours, strict=True)
    ]
    for policy in kept:
        policy.call(clock.advance, 0.1)
    other = rs.Policy("other", clock=clock, registry=ours[1])
    found = parsed(Collector(*ours).text())
    assert only(found, "resilience_calls_total", policy="p", outcome="succeeded") == 2
    assert only(found, "resilience_call_duration_seconds_count", policy="p", outcome="succeeded") == 2
    assert only(found, "resilience_timeout_seconds") == 3.0
    assert only(found, "resilience_attempts_total", policy="other") == 0
    del other


def test_installing_twice_is_installing_once(registry: rs.Registry) -> None:
    """The same again changes nothing; something else is refused until the first is gone."""
    theirs = CollectorRegistry()
    collector = install(registry, into=theirs, buckets=(1, 2))
    assert install(registry, into=theirs, buckets=(1.0, 2.0)) is collector
    with pytest.raises(rs.ConfigError, match="buckets must be as they were installed"):
        install(registry, into=theirs)
    with pytest.raises(rs.ConfigError, match="policies must be"):
        install(into=theirs, buckets=(1, 2))
    uninstall(theirs)
    uninstall(theirs)
    assert install(into=theirs) is not collector
    uninstall(theirs)
    assert list(theirs.collect()) == []


def test_the_default_is_the_default_registry_of_both(request: pytest.FixtureRequest) -> None:
    """`install()` shows the process's policies where `prometheus_client` shows everything."""
    request.addfinalizer(uninstall)
    policy = rs.Policy("of the process")
    install()
    assert b'policy="of the process"' in generate_latest(REGISTRY)
    uninstall()
    assert b"resilience_" not in generate_latest(REGISTRY)
    rs.registry.remove("of the process")
    del policy
