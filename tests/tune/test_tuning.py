"""What is recommended keeps what was accepted, on traffic of every shape; and what is peculiar is told."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resilience as rs
from resilience.tune.advice import Wishes, nice_up, percent
from resilience.tune.report import accepted_words, as_json, as_text, snippet
from resilience.tune.shape import modes, wander
from resilience.tune.trace import LOST
from resilience.tune.tuning import Tuning, no_answer, tune
from tune.records import DATA, MS, S, bimodal, load, lognormal, pareto, reading, slower, tight, traced, wandering

FAMILIES: dict[str, Callable[[int], list[int]]] = {
    "lognormal": lognormal, "tight": tight, "bimodal": bimodal, "pareto": pareto, "wandering": wandering,
    "slower": slower,
}  # fmt: skip


def tuned(latencies: list[int], accepted: float = 0.01, rate: float = 100.0, **wishes: object) -> Tuning:
    """Tune for a record that was made up."""
    with traced(latencies, rate) as trace:
        return tune(trace, reading(), Wishes(accepted, **wishes))  # type: ignore[arg-type]


def codes(tuning: Tuning) -> set[str]:
    """What is told."""
    return {note.code for note in tuning.notes}


@pytest.fixture(scope="module")
def families() -> dict[str, Tuning]:
    """Each family once, for all tests that only look."""
    return {name: tuned(family(6000)) for name, family in FAMILIES.items()}


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_both_recommendations_keep_the_accepted_rate(families: dict[str, Tuning], name: str) -> None:
    """In replay, over the whole record; and the fixed one is no longer than it need be."""
    found = families[name]
    best = {row.kind: row.outcome for row in found.rows if row.recommended}
    assert best["learned"].false_rate <= 0.01
    assert best["fixed"].false_rate <= 0.01
    exact = sorted(FAMILIES[name](6000))[5940]
    assert exact < found.fixed <= 3 * exact
    settings = found.settings
    assert settings.floor <= settings.initial <= settings.ceiling
    assert settings.floor <= best["learned"].lowest <= best["learned"].highest <= settings.ceiling


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("lognormal", set()), ("tight", {"tight"}), ("bimodal", {"modes"}), ("pareto", set()),
        ("slower", {"drift"}),
    ],
)  # fmt: skip
def test_what_is_peculiar_is_told_and_nothing_else(families: dict[str, Tuning], name: str, told: set[str]) -> None:
    """Each family has its note; the plain ones have none."""
    assert codes(families[name]) - ({"modes", "unstable"} if name == "slower" else set()) == told


def test_wandering_latency_is_called_unstable(families: dict[str, Tuning]) -> None:
    """As round trips over the internet are."""
    assert "unstable" in codes(families["wandering"])


@pytest.mark.parametrize("name", sorted(FAMILIES))
@pytest.mark.filterwarnings("ignore::resilience.ResilienceWarning")
def test_the_snippet_runs_and_means_the_settings(families: dict[str, Tuning], name: str) -> None:
    """Pasted as it is, it builds what was recommended."""
    found = families[name]
    space: dict[str, object] = {}
    exec(snippet(found), space)
    learned, fixed = space["timeout"], space["fixed"]
    assert isinstance(learned, rs.PercentileTimeout)
    assert isinstance(fixed, rs.Timeout)
    best = found.settings
    assert learned.false_timeouts == best.accepted
    assert learned.between == (best.floor / S, best.ceiling / S)
    assert learned.initial == best.initial / S
    assert (learned.padding, learned.least_padding * S) == (best.padding, best.least_padding)
    assert learned.linger == best.linger
    assert fixed.seconds == found.fixed / S


@pytest.mark.filterwarnings("ignore::resilience.ResilienceWarning")
def test_the_snippet_names_what_differs_from_the_defaults() -> None:
    """Padding, the least padding, lingering."""
    found = tuned(tight(3000), padding=2.0, linger=0)
    space: dict[str, object] = {}
    exec(snippet(found), space)
    learned = space["timeout"]
    assert isinstance(learned, rs.PercentileTimeout)
    assert (learned.padding, learned.least_padding, learned.linger) == (2.0, 0.01, 0)


def test_more_padding_is_recommended_where_less_does_not_keep_the_rate() -> None:
    """The smallest of those tried; and it is the replay that says so."""
    steps = [(20 if n < 9600 else 44) * MS + n % 7 * MS // 10 for n in range(16_000)]
    found = tuned(steps, 0.0005, rate=20.0, linger=0)
    assert found.settings.padding > 1.25
    with traced(steps, 20.0) as trace:
        less = tune(trace, reading(), Wishes(0.0005, padding=1.25, floor=found.settings.floor, linger=0))
    assert less.learned.false_rate > 0.0005 >= found.learned.false_rate
    assert "over" in codes(less)
    assert "over" not in codes(found)


def test_sudden_stalls_raise_the_floor() -> None:
    """What cannot be learned in time is kept away from, and told."""
    calm = lognormal(12_000, median=1e6, sigma=0.2)
    found = tuned((calm + [1500 * MS] * 200) * 3, 0.01)
    assert "floor_raised" in codes(found)
    assert found.settings.floor >= 1500 * MS
    assert found.learned.false_rate <= 0.01


def test_few_calls_are_told_with_the_number_that_is_needed() -> None:
    """And the answer is a cautious one: from twice the longest call."""
    few = lognormal(200)
    found = tuned(few, 0.001)
    (note,) = [note.text for note in found.notes if note.code == "few_samples"]
    assert "200 calls are too few to know p99.9: it takes 2995" in note
    assert "5 %: 59, 1 %: 299, 0.1 %: 2995, 0.01 %: 29956" in note
    assert found.sight.basis == "extrapolated"
    assert found.fixed >= 2 * max(few)
    assert "few_samples" not in codes(tuned(lognormal(299), 0.01))
    assert "few_samples" in codes(tuned(lognormal(298), 0.01))


def test_rare_calls_are_told() -> None:
    """What comes once in five minutes is no food for a learned timeout."""
    found = tuned(lognormal(400), 0.01, rate=1 / 300)
    assert {"sparse", "never_moved"} <= codes(found)
    assert found.learned.lowest == found.learned.highest == found.settings.initial


def test_quick_calls_are_no_matter_for_percentiles() -> None:
    """Below a pause of one's own process nothing is cut, whatever the shape."""
    found = tuned([ns // 10_000 for ns in slower(4000)], 0.01)
    assert codes(found) == {"quick"}
    assert found.settings.floor == 10 * MS


@given(st.integers(1, 10**15))
def test_round_numbers_are_never_below(ns: int) -> None:
    """Two digits, at most a tenth more."""
    nice = nice_up(ns)
    assert ns <= nice <= max(ns * 1.1, ns + 1)
    assert len(str(nice).rstrip("0")) <= 2
    assert nice_up(nice) == nice


@pytest.mark.parametrize(
    ("share", "words"), [(0.0, "0 %"), (0.001, "0.1 %"), (0.343, "34.3 %"), (1e-7, "1.0e-05 %"), (1.0, "100 %")]
)
def test_shares_are_written_for_people(share: float, words: str) -> None:
    """Few digits; what is above nothing is not written as nothing."""
    assert percent(share) == words


def test_the_accepted_share_is_told_as_one_in_so_many() -> None:
    """If it is one."""
    assert accepted_words(0.001) == "1 good call in 1000"
    assert accepted_words(0.03) == "3 % of the good calls"


def test_wishes_are_kept_or_refused() -> None:
    """What is given stands in the result; what excludes itself is an error that shows the three."""
    found = tuned(lognormal(1000), floor=30 * MS, ceiling=400 * MS, initial=200 * MS, padding=1.0)
    best = found.settings
    assert (best.floor, best.ceiling, best.initial, best.padding) == (30 * MS, 400 * MS, 200 * MS, 1.0)
    with pytest.raises(ValueError, match=r"floor 1 s, initial value .*, ceiling|floor 1 s.*ceiling 500 ms"):
        tuned(lognormal(100), floor=S, ceiling=S // 2)
    assert tuned(lognormal(1000), ceiling=15 * MS).settings.floor <= 15 * MS


@given(st.lists(st.integers(MS, S), min_size=1, max_size=60), st.data())
def test_any_record_gives_an_answer(latencies: list[int], data: st.DataObject) -> None:
    """Few calls, equal calls, given-up and lost ones: settings that can be built, figures that are finite."""
    marks = data.draw(st.lists(st.sampled_from(["", "", "", "cut", "lost"]), min_size=len(latencies), max_size=60))
    mixed = [
        -ns if mark == "cut" else LOST if mark == "lost" else ns for ns, mark in zip(latencies, marks, strict=False)
    ]
    with traced([*mixed, S]) as trace:
        found = tune(trace, reading(), Wishes(0.01))
    json.loads(as_json(found))
    assert as_text(found)
    assert found.settings.floor <= found.settings.initial <= found.settings.ceiling
    for row in found.rows:
        assert math.isfinite(row.outcome.mean_wait)
        assert 0 <= row.outcome.false_rate <= row.outcome.answered


def test_calls_that_were_given_up_are_no_false_timeouts() -> None:
    """They count as cut, and hide what lies behind them."""
    latencies = [-200 * MS if ns > 200 * MS else ns for ns in lognormal(4000, median=100e6)]
    with traced(latencies) as trace:
        found = tune(trace, replace(reading(), timed_out=sum(ns < 0 for ns in latencies)), Wishes(0.01))
    assert {"hidden", "timed_out"} <= codes(found)
    assert found.sight.basis == "hidden"
    lost = [LOST if n % 50 == 0 else ns for n, ns in enumerate(lognormal(4000))]
    calm = tuned(lost, 0.01)
    assert calm.fixed < 2 * tuned([ns for ns in lost if ns > 0], 0.01).fixed
    assert calm.learned.unknown == 80
    assert calm.learned.false_rate <= 0.01


def test_given_up_calls_are_watched_to_where_they_were_given_up() -> None:
    """Beyond that, nobody knows; before, the learned timeout ends them, and may watch one."""
    mixed = [-150 * MS if n % 40 == 0 else ns for n, ns in enumerate(lognormal(4000, sigma=0.3))]
    found = tuned(mixed, 0.05, ceiling=S)
    assert found.learned.unknown > 50
    assert found.learned.false_rate <= 0.05


def test_a_record_without_an_answer_is_noticed() -> None:
    """There is nothing to learn from it."""
    with traced([LOST, -MS]) as trace:
        assert no_answer(trace)
    with traced([LOST, MS]) as trace:
        assert not no_answer(trace)


def test_humps_are_found_and_noise_is_not() -> None:
    """Two clear tops are two; a rough surface is one."""

    def of(latencies: list[int]) -> int:
        return len(tuned(latencies).sight.humps)

    assert of(bimodal(5000, seed=3)) == 2
    assert [of(lognormal(3000, seed=seed)) for seed in range(5)] == [1] * 5
    assert [of(pareto(3000, seed=seed)) for seed in range(5)] == [1] * 5
    assert of([10 * MS] * 100) == 1
    steps = [round(ns / 10e6) * 10 * MS + MS for ns in lognormal(3000, sigma=0.6, median=40e6)]
    assert of(steps) == 1  # a clock that only counts tens of milliseconds makes no kinds of calls
    assert modes([]) == []


def test_wander_is_nothing_without_a_few_stretches() -> None:
    """Three levels tell nothing; equal ones do not wander."""
    assert wander([1.0, 2.0, 3.0]) == 1.0
    assert wander([1.0] * 9) == 1.0
    assert wander([0.0, 1.0] * 4) == pytest.approx(math.e)


def test_the_facts_of_the_recorded_service() -> None:
    """A system in production on AWS: tight, with one hiccup. The percentiles are those of its description."""
    trace, told = load(DATA / "ec2-request-latency.csv", unit="ms", rate=10.0)
    with trace:
        found = tune(trace, told, Wishes(0.001), fixed=[60 * MS])
    whole = found.profile.whole
    facts = {0.5: 45.0, 0.95: 48.4, 0.99: 50.2, 1.0: 99.2}
    for p, ms in facts.items():
        assert ms * 0.999 <= whole.quantile(p) / MS <= ms * 1.025
    assert {"tight", "drift", "evenly_spaced"} == codes(found)
    assert found.settings.least_padding == 10 * MS
    assert found.fixed == 120 * MS
    assert found.learned.false_rate <= 0.001
    assert next(row.outcome.false for row in found.rows if row.name == "fixed, 60 ms") == 3


def test_the_facts_of_the_recorded_path() -> None:
    """A path over the internet: it wanders, and its two routes show."""
    trace, told = load(DATA / "seattle-rtt.csv", unit="s", column="path_6_83")
    with trace:
        found = tune(trace, told, Wishes(0.05))
    assert {"unstable", "modes"} <= codes(found)
    assert found.learned.false_rate <= 0.05
    assert [round(at / MS, -1) for at, _ in found.sight.humps] == [70, 400]


def test_same_record_same_words() -> None:
    """Nothing depends on when or where it runs."""
    first, second = tuned(bimodal(2000)), tuned(bimodal(2000))
    assert as_text(first) == as_text(second)
    assert as_json(first) == as_json(second)


def test_large_records_are_only_tried_with_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A comparison is not worth minutes."""
    monkeypatch.setattr("resilience.tune.tuning._MANY", 1000)
    assert [row.accepted for row in tuned(lognormal(1000)).rows if row.kind == "learned"] == [0.01]
    assert [row.accepted for row in tuned(lognormal(999)).rows if row.kind == "learned"] == [0.01, 0.05, 0.001]
