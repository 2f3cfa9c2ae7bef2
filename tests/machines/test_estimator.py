"""The learned timeout: bounds, the two traps (creeping down, ratcheting up), speed of reaction, plain statistics."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.errors import ConfigError
from resilience.machines.estimator import TimeoutEstimator
from resilience.machines.sketch import minimum_samples, upper_rank
from resilience.machines.survival import product_limit

if TYPE_CHECKING:
    from collections.abc import Callable

MS = 1_000_000
SECOND = 1_000_000_000


def drive(
    estimator: TimeoutEstimator,
    latency: Callable[[float], float],
    *,
    seconds: float,
    rate: int = 100,
    start: float = 0.0,
) -> tuple[int, int, int]:
    """Calls at a steady rate, cut off at the timeout in force; how many, how many cut, and the longest timeout."""
    calls = cut = longest = 0
    for i in range(int(seconds * rate)):
        now = round((start + i / rate) * SECOND)
        took = min(round(latency(start + i / rate) * SECOND), 10**15)
        limit = estimator.ns
        calls += 1
        cut += took > limit
        estimator.record(min(took, limit), censored=took > limit, now=now)
        estimator.refresh(now)
        longest = max(longest, estimator.ns)
    return calls, cut, longest


def lognormal(seed: int, median: float, sigma: float) -> Callable[[float], float]:
    """A latency that does not depend on the time."""
    rng = random.Random(seed)
    return lambda _: rng.lognormvariate(math.log(median), sigma)


def make(p: float = 0.99, floor: int = MS, ceiling: int = 30 * SECOND, **more: object) -> TimeoutEstimator:
    more.setdefault("initial", SECOND)
    return TimeoutEstimator(p, floor=floor, ceiling=ceiling, **more)


SAMPLES = st.lists(st.integers(-20 * SECOND, 20 * SECOND), max_size=60)


@given(st.lists(st.tuples(SAMPLES, st.integers(-SECOND, 10 * SECOND)), max_size=30), st.floats(0.5, 0.999))
def test_the_timeout_stays_between_floor_and_ceiling(steps: list[tuple[list[int], int]], p: float) -> None:
    """Whatever is seen, and however the clock behaves, floor <= timeout <= ceiling, grown or not."""
    estimator = make(p, floor=10 * MS, ceiling=2 * SECOND)
    now = 0
    for samples, gap in steps:
        now += gap
        estimator.absorb(samples, now)
        estimator.refresh(now)
        assert 10 * MS <= estimator.ns <= 2 * SECOND
        assert estimator.ns <= estimator.grown(1) <= estimator.grown(100) <= 2 * SECOND
        assert str(estimator.explain(now)).startswith("timeout ")


@given(st.lists(st.integers(MS, 10 * SECOND), min_size=40, max_size=300), st.sampled_from([0.5, 0.9, 0.99]))
def test_without_padding_it_is_the_order_statistic(latencies: list[int], p: float) -> None:
    """With nothing cut off, no padding and no bound for confidence, it is the exact quantile, within one bucket."""
    estimator = make(p, floor=1, pad_rel=1, pad_abs=0, drift_cap=1, confidence=None, minimum=1)
    estimator.absorb(latencies, 0)
    estimator.refresh(0)
    exact = sorted(latencies)[max(1, math.ceil(p * len(latencies) - 1e-9)) - 1]
    basis = estimator.explain(0).basis
    assert basis == "measured"
    assert exact <= estimator.ns <= max(exact * 1.0203, exact + 1)


@given(st.lists(st.integers(1, 10 * SECOND), min_size=40, max_size=200), st.randoms())
def test_the_order_within_a_slice_plays_no_part(latencies: list[int], rng: random.Random) -> None:
    """Answers of one slice may come in any order."""
    shuffled = list(latencies)
    rng.shuffle(shuffled)
    one, other = make(), make()
    for estimator, samples in ((one, latencies), (other, shuffled)):
        estimator.absorb(samples, SECOND)
        estimator.refresh(SECOND)
    assert one.ns == other.ns


@given(st.lists(st.integers(1, SECOND), min_size=40, max_size=200), st.integers(0, 100))
def test_longer_answers_never_lower_it(latencies: list[int], more: int) -> None:
    """More answers above the quantile never make the timeout shorter, where nothing was cut off."""
    one, other = make(confidence=None), make(confidence=None)
    one.absorb(latencies, 0)
    other.absorb(latencies + [2 * SECOND] * more, 0)
    one.refresh(0)
    other.refresh(0)
    assert one.ns <= other.ns


@given(st.randoms(use_true_random=False), st.floats(0.5, 0.99), st.floats(0.5, 0.99))
def test_a_higher_share_never_means_a_shorter_timeout(rng: random.Random, p: float, q: float) -> None:
    """The timeout does not fall in p."""
    latencies = [rng.randrange(1, 10 * SECOND) for _ in range(1000)]
    found = []
    for share in sorted((p, q)):
        estimator = make(share)
        estimator.absorb(latencies, 0)
        estimator.refresh(0)
        found.append(estimator.ns)
    assert found == sorted(found)


@pytest.mark.parametrize(("median", "sigma"), [(0.02, 1.0), (0.02, 0.05), (0.02, 0.5)], ids=["wide", "tight", "medium"])
@pytest.mark.parametrize("p", [0.95, 0.99])
def test_the_false_timeouts_stay_below_the_target_in_steady_state(median: float, sigma: float, p: float) -> None:
    """After a minute, at most the accepted share of good calls is cut off; and the timeout is not merely huge."""
    estimator = make(p)
    latency = lognormal(1, median, sigma)
    drive(estimator, latency, seconds=60)
    calls, cut, _ = drive(estimator, latency, seconds=240, start=60)
    assert cut / calls <= 1 - p
    true = median * math.exp(sigma * {0.95: 1.645, 0.99: 2.326}[p])
    assert estimator.ns / SECOND <= 2.0 * true


def test_a_tight_service_is_not_cut_off_by_a_small_delay() -> None:
    """With p50 close to p99, a slow-down by a fifth cuts off nothing: padding is relative, and has a least amount."""
    estimator = make(0.99)
    drive(estimator, lognormal(2, 0.040, 0.02), seconds=120)
    slower = lognormal(3, 0.048, 0.02)
    _, cut, _ = drive(estimator, slower, seconds=10, start=120)
    assert cut == 0


def test_it_does_not_creep_down_by_what_it_cuts_off() -> None:
    """The success rate stays, where a percentile of successes falls to p^k after k windows."""
    latency = lognormal(4, 0.02, 1.0)
    window: list[float] = []
    limit = 1.0
    naive_cut = 0
    for k in range(60):
        window = [x for x in (latency(0) for _ in range(1000)) if x <= limit]
        naive_cut = 1000 - len(window)
        limit = sorted(window)[int(0.99 * len(window))]
        assert k < 30 or naive_cut > 100  # the trap is real: more than a tenth is cut off, and ever more
    estimator = make(0.99, pad_rel=1.0, pad_abs=0)
    drive(estimator, latency, seconds=100)
    calls, cut, _ = drive(estimator, latency, seconds=500, start=100)
    assert cut / calls <= 0.011


@pytest.mark.parametrize("factor", [1.3, 3.0])
def test_it_follows_a_slow_down_quickly_and_comes_back(factor: float) -> None:
    """Within seconds nearly no call is cut off any more; a few minutes after recovery the timeout is what it was."""
    estimator = make(0.99)
    usual, slow = lognormal(5, 0.02, 0.5), lognormal(6, 0.02 * factor, 0.5)
    drive(estimator, usual, seconds=120)
    before = estimator.ns
    drive(estimator, slow, seconds=5, start=120)
    calls, cut, _ = drive(estimator, slow, seconds=60, start=125)
    assert cut / calls <= 0.02
    drive(estimator, usual, seconds=240, start=185)
    assert estimator.ns <= 1.2 * before


def test_a_total_hang_does_not_run_it_up() -> None:
    """While nothing is answered for a minute it stays within three times its value, and is back soon after."""
    estimator = make(0.99)
    usual = lognormal(7, 0.02, 0.5)
    drive(estimator, usual, seconds=120)
    before = estimator.ns
    _, _, longest = drive(estimator, lambda _: 1e6, seconds=60, start=120)
    assert longest <= 3 * before
    drive(estimator, usual, seconds=120, start=180)
    assert estimator.ns <= 1.2 * before
    assert estimator.explain(300 * SECOND).unanswered > 1000


def test_few_samples_leave_the_first_guess_alone() -> None:
    """Below the minimum the initial timeout stands; rarely called, it remembers for as long as it must."""
    estimator = make(0.9)
    for second in range(29):
        estimator.record(10 * MS, censored=False, now=second * SECOND)
        estimator.refresh(second * SECOND)
    assert estimator.ns == SECOND
    for second in range(29, 200):
        estimator.record(10 * MS, censored=False, now=second * SECOND)
        estimator.refresh(second * SECOND)
    assert estimator.ns < 40 * MS
    assert estimator.explain(200 * SECOND).samples >= 29


@given(
    st.dictionaries(st.integers(0, 30), st.integers(1, 9), min_size=1, max_size=12),
    st.dictionaries(st.integers(0, 30), st.integers(1, 9), max_size=12),
    st.data(),
)
def test_the_product_limit_is_kaplan_and_meiers(done: dict[int, int], cut: dict[int, int], data: st.DataObject) -> None:
    """The bucket found is that of the textbook estimator, taken value by value."""
    n = sum(done.values()) + sum(cut.values())
    k = data.draw(st.integers(1, n))
    events = sorted(
        [(b, 0) for b, c in done.items() for _ in range(c)] + [(b, 1) for b, c in cut.items() for _ in range(c)]
    )
    survival, expected = 1.0, None
    for i, (bucket, censored) in enumerate(events):
        if not censored:
            survival *= 1 - 1 / (n - i)
            if survival <= (n - k) / n + 1e-9:
                expected = bucket
                break
    assert product_limit(done, cut, k) == expected


@pytest.mark.parametrize(
    ("n", "p", "k"),
    [
        (300, 0.99, 300), (600, 0.99, 599), (1000, 0.99, 996), (6000, 0.99, 5953), (6000, 0.999, 5999),
        (10000, 0.999, 9996), (100, 0.95, 99), (600, 0.95, 580),
    ],
)  # fmt: skip
def test_the_rank_is_raised_to_its_upper_bound(n: int, p: float, k: int) -> None:
    """The ranks of the binomial table, at 95 % confidence."""
    assert abs(upper_rank(n, p, 0.95) - k) <= (1 if n * (1 - p) > 50 else 0)


@pytest.mark.parametrize(("p", "n"), [(0.95, 59), (0.99, 299), (0.999, 2995), (0.9999, 29956)])
def test_how_many_samples_a_bound_needs(p: float, n: int) -> None:
    """The least numbers of samples that bound a quantile with 95 % confidence."""
    assert minimum_samples(p, 0.95) == n


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("p", 0), ("p", 1), ("p", math.nan), ("floor", 0), ("ceiling", 0), ("initial", 1), ("pad_rel", 0.5),
        ("pad_abs", -1), ("slices", 1), ("slice_ns", 0), ("max_age", 1), ("alpha", 0.9), ("confidence", 1.0),
        ("minimum", 0), ("fall", 0.0), ("refresh_ns", 0), ("hold", 0.5), ("drift_cap", 0.0),
    ],
)  # fmt: skip
def test_bad_settings_are_refused_by_name(name: str, value: float) -> None:
    """Each setting out of range is named in the error."""
    settings: dict[str, object] = {"p": 0.99, "floor": MS, "ceiling": SECOND, name: value}
    with pytest.raises(ConfigError, match=name):
        TimeoutEstimator(**settings)  # type: ignore[arg-type]


def test_rare_calls_with_some_hangs_do_not_run_it_up_at_once() -> None:
    """With too few samples for the quantile, timeouts grow it step by step, not twofold each time."""
    estimator = make(0.999, initial=SECOND)
    drive(estimator, lognormal(9, 0.02, 0.5), seconds=10, rate=10)
    before = estimator.ns
    latency = lognormal(10, 0.02, 0.5)
    for second in range(10, 14):
        now = second * SECOND
        estimator.absorb([round(latency(0) * SECOND)] * 9 + [-estimator.ns], now)
        estimator.refresh(now)
    assert estimator.ns <= before * 1.25**4 * 1.3


def test_impatient_callers_are_no_blackout() -> None:
    """Attempts cancelled long before the timeout, without an answer between them, do not count as an outage."""
    estimator = make(0.99)
    drive(estimator, lognormal(11, 0.02, 0.5), seconds=60)
    before = estimator.ns
    for second in range(60, 120):
        estimator.absorb([-MS] * 20, second * SECOND)
        estimator.refresh(second * SECOND)
    assert estimator.explain(120 * SECOND).basis != "blackout"
    assert estimator.ns <= 1.2 * before  # fewer samples, a wider bound


def test_an_attempt_given_up_at_once_is_no_quick_answer() -> None:
    """Age zero is cut off all the same."""
    estimator = make(0.9)
    for _ in range(100):
        estimator.record(0, censored=True, now=0)
    assert estimator._window.n_done == 0
    assert estimator._silence.waiting + estimator._silence.left_out == 100


@given(
    st.lists(st.integers(MS, 100 * MS), min_size=30, max_size=60),
    st.lists(st.integers(1, 200 * MS), max_size=100),
    st.floats(0.5, 0.99),
    st.floats(0.5, 0.99),
)
def test_also_with_attempts_cut_off_a_higher_share_never_means_less(
    answers: list[int], ages: list[int], p: float, q: float
) -> None:
    """Losers of a hedge are cut off early: where they hide the quantile, it is at least the longest answer."""
    found = []
    for share in sorted((p, q)):
        estimator = make(share, confidence=None, minimum=1)
        estimator.absorb([*(-age for age in ages[:9]), *answers[:1], *(-age for age in ages[9:18]), *answers[1:]], 0)
        estimator.refresh(0)
        found.append(estimator.ns)
    assert found == sorted(found)
