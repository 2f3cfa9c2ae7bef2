"""The learned timeout as people use it: settings, samples, alone, warm starts, and what it says of itself."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import math
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resilience as rs
from resilience.testing import VirtualClock

if TYPE_CHECKING:
    from pathlib import Path

FAST = [0.02 + i / 10_000 for i in range(100)]
"""A hundred answers between 20 and 30 ms."""


def learned(clock: VirtualClock | None = None, **more: Any) -> rs.PercentileTimeout:
    return rs.PercentileTimeout(**{"percentile": 0.9, "between": (0.01, 2.0), "clock": clock or VirtualClock(), **more})


def samples(timeout: rs.PercentileTimeout) -> tuple[int, int]:
    """How many answers were counted, and how many attempts that were cut off."""
    timeout.save()
    window = timeout._estimator._window
    return window.n_done, window.n_cut + timeout._estimator._silence.waiting


# -- settings ----------------------------------------------------------------------------------------------------------


def test_the_share_to_answer_and_the_share_to_cut_are_the_same_setting() -> None:
    """``false_timeouts=0.001`` is ``percentile=0.999``; one of the two must be given, and only one."""
    one, other = (learned(percentile=0.999), learned(percentile=None, false_timeouts=0.001))
    rng = random.Random(1)
    latencies = [rng.lognormvariate(-4, 0.5) for _ in range(5000)]
    for timeout in (one, other):
        timeout.seed(latencies)
    assert one.current == other.current
    assert repr(other) == f"PercentileTimeout(false_timeouts=0.001, between=(0.01, 2.0), clock={other.clock!r})"
    assert other.replace(linger=0).false_timeouts == 0.001
    for share in (None, 0.1):
        with pytest.raises(rs.ConfigError, match="one of percentile and false_timeouts"):
            rs.PercentileTimeout(share, false_timeouts=share, between=(0.01, 2.0))


@pytest.mark.parametrize(("padding", "least", "expected"), [(1.0, 0.0, 1.0), (2.0, 0.0, 2.0), (1.0, 0.5, 1.5)])
def test_the_padding_is_a_factor_with_a_least_amount(padding: float, least: float, expected: float) -> None:
    """Whichever is more."""
    timeout = learned(padding=padding, least_padding=least)
    timeout.seed([1.0] * 100)
    assert timeout.current == pytest.approx(min(expected, 2.0), rel=0.021)


def test_the_window_is_as_long_as_asked_and_stretches_where_traffic_is_low() -> None:
    """Busy, it forgets after *window*; quiet, it keeps *window_samples*, but nothing beyond *max_age*."""
    clock = VirtualClock()
    timeout = learned(clock, window=6.0, window_samples=40, max_age=60.0)
    for _ in range(100):
        timeout.observe(1.0)
    assert samples(timeout) == (100, 0)
    clock.advance(7.0)
    timeout.timeout()
    assert samples(timeout) == (100, 0)  # old, but there are no others
    for _ in range(50):
        timeout.observe(0.1)
    assert samples(timeout) == (150, 0)
    clock.advance(1.0)
    timeout.timeout()
    assert samples(timeout) == (50, 0)
    clock.advance(30.0)
    timeout.timeout()
    assert samples(timeout) == (50, 0)  # old, but there are no others
    clock.advance(30.0)
    timeout.timeout()
    assert samples(timeout) == (0, 0)
    with pytest.raises(rs.ConfigError, match="max_age must be at least window"):
        learned(window=100.0, max_age=50.0)


# -- alone -------------------------------------------------------------------------------------------------------------


def test_it_can_be_used_without_a_policy() -> None:
    """Observe, and ask; the quantiles are those measured, the timeout is padded."""
    clock = VirtualClock()
    timeout = learned(clock)
    assert timeout.quantile(0.5) is None
    assert timeout.timeout() == 2.0
    for seconds in FAST:
        timeout.observe(seconds)
    assert timeout.quantile(0.5) == pytest.approx(0.025, rel=0.03)
    assert timeout.quantile(0.99) == pytest.approx(0.03, rel=0.03)
    clock.advance(1.0)
    assert 0.03 < timeout.timeout() < 0.045
    for _ in range(100):
        timeout.observe(0.05, timed_out=True)
    assert timeout.counters["timed_out"] == 100
    assert samples(timeout) == (100, 100)
    for bad in (0, 1, 2, -1):
        with pytest.raises(rs.ConfigError, match="p must be"):
            timeout.quantile(bad)
    with pytest.raises(TypeError, match="timed_out"):
        timeout.observe(1.0, timed_out=1)  # type: ignore[arg-type]


def test_memory_is_bounded_while_the_clock_stands_still() -> None:
    """Samples wait for the next refresh; there are never more than a thousand or so, on either way."""
    timeout = learned(mode="argument")
    guarded = timeout(lambda timeout=None: timeout)
    for _ in range(5000):
        timeout.observe(0.02)
    assert len(timeout._samples) <= 1024
    for _ in range(20_000):
        guarded()
    assert timeout._quick is not None
    assert len(timeout._quick) <= 1 << 14


@given(st.lists(st.floats(0.001, 10.0), min_size=30, max_size=200), st.floats(0.01, 0.99))
def test_a_quantile_is_that_of_the_sample_within_the_stated_error(latencies: list[float], p: float) -> None:
    """At most one bucket, some 2 %, above the exact order statistic, and never below it."""
    timeout = learned(between=(0.001, 10.0))
    timeout.seed(latencies)
    exact = sorted(latencies)[max(1, math.ceil(p * len(latencies) * (1 - 1e-12))) - 1]
    found = timeout.quantile(p)
    assert found is not None
    assert exact * (1 - 1e-6) <= found <= exact * 1.0203


# -- what counts as a sample ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "counted"),
    [
        ("answer", (1, 0)),
        ("refused", (0, 0)),
        ("client's timeout", (0, 1)),
        ("cancelled", (0, 1)),
        ("deadline", (0, 1)),
        ("timed out", (0, 1)),
        ("rejected below", (0, 0)),
    ],
)
def test_what_counts_as_a_sample(ending: str, counted: tuple[int, int]) -> None:
    """Answers; and as cut off, what timed out, was cancelled or ran into a deadline. Other errors do not count."""
    clock = VirtualClock()
    timeout = learned(clock, linger=0, initial=1.0)
    policy = rs.Policy(timeout=timeout, clock=clock)
    errors = {"refused": ConnectionError(), "client's timeout": TimeoutError(), "rejected below": rs.RateLimited("no")}

    async def work() -> None:
        await asyncio.sleep(5.0 if ending in ("cancelled", "deadline", "timed out") else 0.1)
        if ending in errors:
            raise errors[ending]

    async def main() -> None:
        call = policy.acall(work)
        if ending == "deadline":
            async with rs.Deadline(0.5, clock=clock):
                await call
        elif ending == "cancelled":
            task = asyncio.create_task(call)
            await asyncio.sleep(0.5)
            task.cancel()
            await task
        else:
            await call

    if ending == "answer":
        clock.run(main())
    else:
        with pytest.raises((Exception, asyncio.CancelledError)):
            clock.run(main())
    assert samples(timeout) == counted


def test_the_loser_of_a_hedge_is_cut_off_at_its_age_and_the_winner_an_answer() -> None:
    """Both are samples: the loser took longer than that."""
    clock = VirtualClock()
    timeout = learned(clock)
    policy = rs.Policy(timeout=timeout, hedge=rs.Hedge(0.2), clock=clock)
    takes = [1.5, 0.3]

    async def work() -> None:
        await asyncio.sleep(takes.pop(0))

    clock.run(policy.acall(work))
    assert samples(timeout) == (1, 1)
    assert timeout._estimator._silence._rows is not None
    _, cut, _ = timeout._estimator._silence._rows
    assert timeout._estimator._window.edge(cut) / 1e9 == pytest.approx(0.5, rel=0.03)


def test_waits_for_a_token_or_a_slot_are_no_latency() -> None:
    """The time is taken from the start of the attempt; what was refused is no sample at all."""
    clock = VirtualClock()
    timeout = learned(clock)
    policy = rs.Policy(
        timeout=timeout,
        limiter=rs.TokenBucket(1, max_wait=20.0),
        bulkhead=rs.Bulkhead(1, queue=10, max_wait=20.0),
        breaker=rs.CircuitBreaker(),
        clock=clock,
    )

    async def main() -> None:
        await asyncio.gather(*(policy.acall(asyncio.sleep, 0.5) for _ in range(5)))
        assert policy.breaker is not None
        policy.breaker.force_open()
        with pytest.raises(rs.CircuitOpen):
            await policy.acall(asyncio.sleep, 0.5)

    clock.run(main())
    assert clock.now >= 4.0
    assert samples(timeout) == (5, 0)
    window = timeout._estimator._window
    assert {round(window.edge(bucket) / 1e9, 1) for bucket in window.sums()[0]} == {0.5}


# -- warm starts -------------------------------------------------------------------------------------------------------


def test_what_was_learned_survives_a_restart(tmp_path: Path) -> None:
    """Saved as JSON, loaded elsewhere on another clock, it gives the same timeout at once."""
    before = learned(VirtualClock(start=1e6))
    before.seed(FAST)
    for _ in range(3):
        before.observe(0.04, timed_out=True)
    before.observe(0.02)
    state = json.loads(json.dumps(before.save()))
    after = learned(VirtualClock(start=3.0))
    after.load(state)
    counts = [{key: part[key] for key in ("answers", "cut", "lost")} for part in state["slices"]]
    assert [{key: part[key] for key in ("answers", "cut", "lost")} for part in after.save()["slices"]] == counts
    assert after.quantile(0.5) == before.quantile(0.5)
    assert after.current == pytest.approx(before.current, rel=0.03)
    assert after.explain().basis == "measured"
    path = tmp_path / "latency.json"
    before.save_file(path)
    before.save_file(path)  # over the first one
    again = learned()
    assert again.load_file(path)
    assert again.current == after.current
    assert [file.name for file in tmp_path.iterdir()] == ["latency.json"]


def test_a_loaded_state_is_forgotten_as_new_answers_come() -> None:
    """After a window of traffic nothing is left of it."""
    old = learned()
    old.seed([1.0] * 1000)
    clock = VirtualClock()
    timeout = learned(clock, window=6.0)
    timeout.load(old.save())
    assert timeout.current == pytest.approx(1.25, rel=0.03)
    for _ in range(200):
        clock.advance(0.5)
        for _ in range(5):
            timeout.observe(0.02)
    assert timeout.current < 0.04
    assert timeout.quantile(0.99) < 0.03  # type: ignore[operator]


def test_a_small_state_keeps_its_timeout_within_the_limits_of_today() -> None:
    """With too few samples to measure, the saved timeout goes on, within *between*."""
    old = learned(initial=1.5)
    old.observe(0.1)
    for between, expected in (((0.01, 2.0), 1.5), ((0.01, 0.5), 0.5), ((1.8, 3.0), 1.8)):
        timeout = learned(between=between)
        timeout.load(old.save())
        assert timeout.current == expected


BAD_STATES: list[tuple[Any, str]] = [
    (None, "dictionary"),
    ([], "dictionary"),
    ({}, "what must be"),
    ({"what": "sketch"}, "what must be"),
    ({"version": 2}, "version must be 1, not 2"),
    ({"alpha": 0.02}, "alpha must be 0.01"),
    ({"alpha": "x"}, "alpha"),
    ({"timeout": 0}, "timeout"),
    ({"timeout": 1.5}, "timeout"),
    ({"slices": {}}, "slices must be a list"),
    ({"slices": [1]}, "slices must hold objects"),
    ({"slices": [{"age": 1}]}, "answers, cut, lost"),
    ({"slices": [{"age": -1, "answers": [], "cut": [], "lost": 0}]}, "age"),
    ({"slices": [{"age": 1, "answers": [], "cut": [], "lost": -1}]}, "lost"),
    ({"slices": [{"age": 1, "answers": [1], "cut": [], "lost": 0}]}, "answers must hold pairs"),
    ({"slices": [{"age": 1, "answers": [], "cut": 5, "lost": 0}]}, "cut must be a list"),
    ({"slices": [{"age": 1, "answers": [[1, 0]], "cut": [], "lost": 0}]}, "count"),
    ({"slices": [{"age": 1, "answers": [[10**6, 1]], "cut": [], "lost": 0}]}, "bucket must be at most"),
    ({"slices": [{"age": 1, "answers": [[1, 2**32]], "cut": [], "lost": 0}]}, "answers must be below"),
]


@pytest.mark.parametrize(("change", "words"), BAD_STATES)
def test_a_state_that_cannot_be_is_refused_in_words_and_nothing_changes(change: Any, words: str) -> None:
    """What is wrong is named; the timeout goes on as before."""
    timeout = learned()
    timeout.seed(FAST)
    before, state = timeout.save(), timeout.save()
    bad = {**state, **change} if isinstance(change, dict) and change else change
    with pytest.raises((TypeError, rs.ConfigError), match=words):
        timeout.load(bad)
    assert timeout.save() == before
    state.pop("timeout")
    with pytest.raises(rs.ConfigError, match="must have timeout"):
        timeout.load(state)


def test_a_file_that_is_missing_or_no_json_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing may be all right at the first start; half a file never is, and saving leaves none behind."""
    timeout, path = learned(), tmp_path / "latency.json"
    assert not timeout.load_file(path, missing_ok=True)
    with pytest.raises(FileNotFoundError):
        timeout.load_file(path)
    for text in (b'{"what": ', b"\xff\xfe"):
        path.write_bytes(text)
        with pytest.raises(rs.ConfigError, match=r"latency\.json must hold JSON"):
            timeout.load_file(path)
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        timeout.save_file(path)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"\xff\xfe"]


def test_seeding_goes_where_the_sample_leads_at_once() -> None:
    """Up and down; a bad sample is refused before any counts."""
    timeout = learned()
    with pytest.raises(TypeError, match="samples"):
        timeout.seed([0.1] * 50 + ["x"])  # type: ignore[list-item]
    assert timeout.save()["slices"] == []
    timeout.seed([1.0] * 50)
    assert timeout.current == pytest.approx(1.25, rel=0.03)
    timeout.seed([0.02] * 50_000)
    assert timeout.current < 0.03


# -- what it says ------------------------------------------------------------------------------------------------------


def test_it_explains_itself_in_words_and_as_data() -> None:
    """In seconds; and the words hold what matters."""
    clock = VirtualClock()
    timeout = learned(clock)
    timeout.seed(FAST)
    why = timeout.explain()
    assert dataclasses.asdict(why)["timeout"] == why.timeout == timeout.current
    assert (why.padding, why.least_padding, why.samples, why.censored, why.p) == (1.25, 0.005, 100, 0.0, 0.9)
    assert why.quantile == pytest.approx(0.03, rel=0.03)
    assert (why.watched, why.late, why.false_timeouts, why.never_answered) == (0, 0, None, 0.0)
    assert why.previous == 2.0
    text = str(why)
    assert text.startswith("timeout 36.9") and " ms: from the measured quantile; p90 is 29." in text
    assert "padded by a factor of 1.25 (at least 5 ms)" in text
    assert text.endswith("100 samples, 0.0% of them cut off; changed 0 ns ago from 2 s")


def test_it_tells_the_share_that_is_never_answered_from_that_cut_off_falsely() -> None:
    """Five in a hundred hang, one in a hundred is late: both shares come out, within what few attempts can tell."""
    clock = VirtualClock()
    timeout = rs.PercentileTimeout(0.9, between=(0.01, 5.0), initial=0.1, padding=1.0, least_padding=0.0, linger=20)
    policy = rs.Policy(timeout=timeout, clock=clock)
    rng = random.Random(2)

    async def work() -> None:
        chance = rng.random()
        await asyncio.sleep(1e6 if chance < 0.05 else 0.5 if chance < 0.2 else 0.02)

    async def call() -> None:
        with contextlib.suppress(rs.TimedOut):
            await policy.acall(work)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(6000):
                group.create_task(call())
                await asyncio.sleep(0.01)
        await asyncio.sleep(10.0)

    clock.run(main())
    why = timeout.explain()
    assert why.never_answered == pytest.approx(0.05, abs=0.02)
    assert timeout.current < 0.6
    assert "are never answered" in str(why)
    assert "were answered late" in str(why)
    cut = timeout.counters["timed_out"] / 6000
    assert timeout.counters["false_timeouts"] == pytest.approx(max(0.0, cut - 0.05), abs=0.02)
