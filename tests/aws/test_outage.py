"""An outage of some seconds, as `benchmarks/aws_outage.py` makes it for a minute: the same run, shorter.

So that the circuit opens, half-opens and closes as often as in a minute, its first open time is shorter as well.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import pytest

from aws_outage import IN_TIME, Call, Figures, Plan, figures, run, table

RUNS = {
    "failing": ("legacy", "standard", "adaptive", "wrapped"),
    "hanging": ("standard", "wrapped"),
    "throttling": ("standard", "wrapped"),
}


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, Figures]]:
    """The three outages, at the same time: what waits needs no processor."""

    def one(outage: str) -> dict[str, Figures]:
        plan = Plan(outage, before=2.0, during=5.0, after=6.0, rate=30.0, changes={"open_for": 0.4})
        return run(plan, RUNS[outage])

    with ThreadPoolExecutor(len(RUNS)) as pool:
        return dict(zip(RUNS, pool.map(one, RUNS), strict=True))


@pytest.mark.parametrize("outage", RUNS)
def test_load_stays_near_what_is_wanted(found: dict[str, dict[str, Figures]], outage: str) -> None:
    """At most 1.1 requests for each wanted call, and fewer than botocore sends alone.

    Plus the ten retries that the budget has saved up, which a minute of outage would not notice.
    """
    ours, theirs = found[outage]["wrapped"], found[outage]["standard"]
    assert ours.wanted == theirs.wanted >= 120
    assert ours.load <= 1.1 + 10 / ours.wanted, table(found[outage])
    assert ours.load < theirs.load or outage == "hanging"  # there its threads are all stuck, and ask for nothing


@pytest.mark.parametrize("outage", RUNS)
def test_goodput_is_back(found: dict[str, dict[str, Figures]], outage: str) -> None:
    """Within 5 s of the end of the outage, to 90 % of what it was; it was all that was wanted."""
    ours = found[outage]["wrapped"]
    assert ours.goodput[0] >= 0.9 * 30.0
    assert ours.back <= 5.0, table(found[outage])


@pytest.mark.parametrize("outage", RUNS)
def test_callers_do_not_wait(found: dict[str, dict[str, Figures]], outage: str) -> None:
    """99 of 100 know within three seconds, whatever the service does; without us a hang lasts a minute."""
    assert found[outage]["wrapped"].p99[0] <= 3.0, table(found[outage])
    assert found["hanging"]["standard"].p99[0] >= 5.0


def test_the_figures_of_a_run() -> None:
    """Counted by hand: who waited too long for a thread was wanted; what comes too late is not good."""
    plan = Plan("failing", before=2.0, during=2.0, after=3.0, rate=4.0)
    calls = [Call(at, at, at + 0.1) for at in (0.1, 0.6, 1.1, 1.6)]
    calls += [Call(2.1, 2.1, 2.2, "Wrong"), Call(2.5, 2.5, None), Call(3.0, 9.0, 9.0, "_WentAwayError")]
    calls += [Call(3.5, None), Call(4.2, 4.2, 4.2 + IN_TIME + 0.1), Call(4.6, 4.6, 4.7), Call(5.2, 5.2, 5.3)]
    one = figures(calls, 6, plan)
    assert (one.wanted, one.begun, one.load, one.amplification) == (4, 2, 1.5, 3.0)
    assert one.goodput == (2.0, 0.0, 2 / 3)
    assert one.back == pytest.approx(0.6)
    assert one.errors == {"Wrong": 1, "no answer yet": 1}
    assert one.p99[0] == 5.5
    never = figures([*calls, Call(6.0, 6.0, 6.1, "Wrong")], 6, plan)
    assert never.back == math.inf
