"""What timed out without an answer: slow, or asked in an outage."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from resilience.machines.silence import Silence
from resilience.machines.sketch import bucket_edges

MS = 1_000_000
SECOND = 1_000_000_000
EDGES = bucket_edges(0.01)
AGE, BUCKET = EDGES[1000], 1000
PATIENCE = 2 * SECOND


def hanging(seconds: range, each: int = 20) -> Silence:
    """Answers up to the first second, then timeouts alone."""
    silence = Silence(EDGES, SECOND)
    silence.heard(MS, seconds.start * SECOND)
    for second in seconds[1:]:
        for _ in range(each):
            silence.timed_out(AGE, BUCKET, second * SECOND, counts=True)
        silence.look(second * SECOND, PATIENCE)
    return silence


def test_a_late_answer_to_what_was_asked_before_an_outage_is_no_sign_of_life() -> None:
    """It says nothing of what was asked later, and nothing at all while it is dark."""
    silence = hanging(range(10, 20))
    assert silence.dark
    assert silence.late(12 * SECOND, 19 * SECOND, 100 * SECOND) is None
    assert silence.dark and silence.waiting == 180


def test_a_late_answer_to_what_was_asked_during_it_is_one() -> None:
    """What began before it was slow; what began after it waits for another answer."""
    silence = hanging(range(10, 20))
    slow = silence.late(4 * SECOND, 19 * SECOND, 100 * SECOND)
    began = sum(20 for second in range(11, 20) if second * SECOND - AGE <= 15 * SECOND)
    assert slow == {BUCKET: began}
    assert not silence.dark and silence.waiting == 180 - began


def test_what_was_asked_before_the_end_of_an_outage_is_left_out_afterwards() -> None:
    """Also if it times out among answers."""
    silence = hanging(range(10, 20))
    slow: dict[int, int] = {}
    silence.answered(20 * SECOND, PATIENCE, slow)
    silence.heard(MS, 20 * SECOND)
    assert not slow and silence.left_out == 180
    silence.timed_out(AGE, BUCKET, 20 * SECOND + AGE, counts=True)
    silence.timed_out(AGE, BUCKET, 22 * SECOND + AGE, counts=True)
    silence.answered(22 * SECOND + AGE, PATIENCE, slow)
    assert slow == {BUCKET: 1} and silence.left_out == 181


def test_a_few_timeouts_among_answers_were_slow() -> None:
    """Fewer in a row than a blackout has."""
    silence = hanging(range(2), each=9)
    slow: dict[int, int] = {}
    silence.answered(2 * SECOND, PATIENCE, slow)
    assert slow == {BUCKET: 9} and not silence.dark and silence.run == 0


@given(st.lists(st.tuples(st.sampled_from("tals"), st.integers(1, 40 * SECOND)), max_size=200))
def test_every_timeout_ends_up_in_one_place(steps: list[tuple[str, int]]) -> None:
    """Slow, left out, or waiting; and what waits is bounded."""
    silence, now, total, slow = Silence(EDGES, SECOND), 0, 0, 0
    for what, size in steps:
        now += size // 8
        if what == "t":
            silence.timed_out(size, 1500, now, counts=True)
            total += 1
        elif what == "a":
            found: dict[int, int] = {}
            silence.answered(now, PATIENCE, found)
            silence.heard(size, now)
            slow += sum(found.values())
        elif what == "l":
            slow += sum((silence.late(size, now, PATIENCE) or {}).values())
        else:
            silence.lost(size, now)
        silence.look(now, PATIENCE)
        assert silence.waiting + silence.left_out + slow == total
        assert silence._rows is None or len(silence._rows) <= 3 * 64


def test_its_clock_stands_still_while_it_is_dark() -> None:
    """So nothing grows old in an outage; and it never goes back."""
    silence = hanging(range(10, 20))
    began = silence.clock(19 * SECOND)
    assert 10 * SECOND < began <= 19 * SECOND
    assert silence.clock(100 * SECOND) == began
    silence.heard(MS, 100 * SECOND)
    assert silence.clock(100 * SECOND) == began
    assert silence.clock(107 * SECOND) == began + 7 * SECOND


def test_it_knows_the_timeout_in_force_when_the_silence_began() -> None:
    """How long the first attempt waited that timed out since the last answer in time; an impatient caller's is none."""
    silence = Silence(EDGES, SECOND)
    silence.timed_out(MS, BUCKET, SECOND, counts=False)
    assert silence.waited == 0
    silence.timed_out(AGE, BUCKET, SECOND, counts=True)
    silence.timed_out(2 * AGE, BUCKET, 2 * SECOND, counts=True)
    assert silence.waited == AGE
    silence.answered(3 * SECOND, PATIENCE, {})
    assert silence.waited == 0
