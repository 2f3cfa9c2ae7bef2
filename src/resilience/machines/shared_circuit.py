"""A circuit that many processes share, as one atomic step on a few integers.

Each process has a `Circuit` of its own, which admits and refuses. With this step it tells what it counted since it
last did, what it decided by itself, and how its probe ended; and it hears how the fleet stands. The rules:

1. Rates are weighed here, over the outcomes of all, in a window of time slices. A run of failures is weighed by each
   process, which then *claims* to be open.
2. Every change adds one to ``generation``. Counts are taken from clients who know the present one only, and a claim
   opens a circuit only if it was made in it. A client whose knowledge is older than the circuit's *birth* (the store
   has forgotten since) may say what it was, until something else has happened.
3. At most one probe is under way in the whole fleet. Its *lease* has a number, which its client draws anew from 2**52
   for each request, and an end. Whoever brings another number, or comes after the end, changes nothing; a change of
   state ends the lease. So a number is worth something in one generation and to one client only (a fencing token), and
   a dead prober keeps others waiting until the end of its lease at most.
4. So many probes in a row must pass; one that fails opens the circuit again.

A circuit that was never seen begins with the store's time as its generation, so that generations do not come again
after the store has lost its memory. Time is the store's, in microseconds, and only durations leave this file. A clock
that steps back makes what is under way last longer by as much, and cuts nothing short.

All numbers stay below 2**53, for the twin of `step`, ``stores/lua/circuit.lua``, reckons in doubles. This file knows no
store, no clock, no client and no randomness: open times come in ready, jitter included.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

__all__ = [
    "CELLS", "CLOSED", "DISABLED", "FAILED", "FORCED_OPEN", "HALF_OPEN", "KEEP_MS", "MILLION", "NOTHING", "OPEN",
    "PASSED", "RETURNED", "Ask", "Fleet", "Reply", "step",
]  # fmt: skip

Numbers: TypeAlias = tuple[int, ...]

CLOSED, OPEN, HALF_OPEN, FORCED_OPEN, DISABLED = range(5)
NOTHING, PASSED, FAILED, RETURNED = range(4)

CELLS = 10
"""So many slices make a window."""
MILLION = 1_000_000
KEEP_MS = 3_600_000
"""How long a closed circuit is remembered after its last use, an open one after its open time."""
_KEEP_STEERED_MS = 366 * 24 * KEEP_MS
"""And one that was steered by hand: somebody must steer it back."""
_MOST = 2**29
"""Calls in one slice; the sum of ten of them, times a million, is below 2**53."""


class Ask(NamedTuple):
    """The arguments of a step.

    Attributes:
        state: what the client's own circuit is in.
        by_hand: whether the fleet must follow, whatever it was in.
        wait: microseconds that the client is still open.
        generation: the one the client knows; 0: none.
        total, failures, slow: calls since the last exchange.
        minimum, failure_rate, slow_rate: when the circuit opens; rates in millionths, 0 for none.
        width: microseconds of a slice.
        first, again: microseconds to stay open, after a healthy time and after the present number of re-opens.
        probes: how many must pass.
        lease: microseconds of one.
        wanted: the number under which a lease is wanted; 0: none is.
        number, verdict: of a lease that the client had: `PASSED`, `FAILED` or `RETURNED` for neither.
    """

    state: int = CLOSED
    by_hand: int = 0
    wait: int = 0
    generation: int = 0
    total: int = 0
    failures: int = 0
    slow: int = 0
    minimum: int = 1
    failure_rate: int = 0
    slow_rate: int = 0
    width: int = MILLION
    first: int = 0
    again: int = 0
    probes: int = 1
    lease: int = 0
    wanted: int = 0
    number: int = 0
    verdict: int = NOTHING


class Reply(NamedTuple):
    """What a step answers.

    Attributes:
        state, generation: of the fleet.
        wait: microseconds: open, until a probe may be asked for; half-open, until the lease that is out ends, if none
            is returned before; else 0.
        opens: open times since the last healthy time.
        passed: probes that passed.
        leased: whether the client now has the lease it wanted.
        total, failures, slow: the fleet's window.
    """

    state: int
    generation: int
    wait: int
    opens: int
    passed: int
    leased: int
    total: int
    failures: int
    slow: int


class Fleet(NamedTuple):
    """The first numbers of the state; then come *total*, *failures* and *slow* of each slice, the oldest first.

    Attributes:
        generation, birth: see above.
        state: as in `Reply`.
        since: when it came to be in it.
        until: the end of the open time.
        opens, passed: as in `Reply`.
        lease, ends: the number of the lease that is out, and its end; 0: none is.
        began: the beginning of the newest slice.
    """

    generation: int
    birth: int
    state: int
    since: int
    until: int
    opens: int
    passed: int
    lease: int
    ends: int
    began: int


_HEAD = len(Fleet._fields)
_EMPTY = (0,) * (3 * CELLS)


def step(state: Numbers, now: int, arguments: Numbers) -> tuple[Numbers | None, int, Numbers]:
    """One exchange of a client with the fleet's circuit; see `resilience.stores.Transition`."""
    ask = Ask(*arguments)
    fleet = Fleet(*state[:_HEAD]) if state else Fleet(now, now, CLOSED, now, 0, 0, 0, 0, 0, now)
    cells = state[_HEAD:] or _EMPTY
    passed_by = max(0, now - fleet.began) // ask.width
    if passed_by > 0:
        fleet = fleet._replace(began=fleet.began + passed_by * ask.width)
        cells = (cells + _EMPTY)[3 * min(passed_by, CELLS) :][: 3 * CELLS]
    if fleet.lease and now >= fleet.ends:
        fleet = fleet._replace(lease=0, ends=0)
    healthy = fleet.state == CLOSED and now - fleet.since >= CELLS * ask.width
    if healthy:
        fleet = fleet._replace(opens=0)

    def moved(to: int, wait: int = 0, opens: int = 0) -> Fleet:
        return Fleet(fleet.generation + 1, fleet.birth, to, now, now + wait, opens, 0, 0, 0, fleet.began)

    open_time = ask.again if fleet.opens else ask.first
    # How a probe ended.
    if ask.number > 0 and ask.number == fleet.lease:
        fleet = fleet._replace(lease=0, ends=0, passed=fleet.passed + (ask.verdict == PASSED))
        if ask.verdict == FAILED:
            fleet = moved(OPEN, open_time, fleet.opens + 1)
        elif fleet.passed >= ask.probes:
            fleet, cells = moved(CLOSED, opens=fleet.opens), _EMPTY
    # What the calls came to.
    forgotten = ask.generation < fleet.birth == fleet.generation
    knows = forgotten or ask.generation == fleet.generation
    if fleet.state == CLOSED and ask.total > 0 and knows:
        added = (ask.total, ask.failures, ask.slow)
        cells = cells[:-3] + tuple(min(_MOST, old + new) for old, new in zip(cells[-3:], added, strict=True))
    total, failures, slow = (sum(cells[i::3]) for i in range(3))
    if fleet.state == CLOSED and ask.failures + ask.slow > 0 and total >= ask.minimum and knows:
        too_many = 0 < ask.failure_rate * total <= failures * MILLION
        too_slow = 0 < ask.slow_rate * total <= slow * MILLION
        if too_many or too_slow:
            fleet = moved(OPEN, open_time, fleet.opens + 1)
    # What the client decided by itself.
    claims_open = ask.state == OPEN and ask.wait > 0 and knows
    claims_steered = ask.state in (FORCED_OPEN, DISABLED) and forgotten
    if ask.by_hand or (fleet.state == CLOSED and (claims_open or claims_steered)):
        if ask.state == OPEN:
            fleet = moved(OPEN, ask.wait, fleet.opens + 1)
        else:
            fleet = moved(ask.state)
            if ask.state == CLOSED:
                cells, (total, failures, slow) = _EMPTY, (0, 0, 0)
    # Who may probe.
    leased = 0
    if ask.wanted > 0 and fleet.state == OPEN and now >= fleet.until:
        fleet = moved(HALF_OPEN, opens=fleet.opens)
    if ask.wanted > 0 and fleet.state == HALF_OPEN and fleet.lease == 0:
        fleet = fleet._replace(lease=ask.wanted, ends=now + ask.lease)
        leased = 1

    wait = 0
    if fleet.state == OPEN:
        wait = max(0, fleet.until - now)
    elif fleet.lease:
        wait = fleet.ends - now
    reply = Reply(fleet.state, fleet.generation, wait, fleet.opens, fleet.passed, leased, total, failures, slow)
    after = fleet + cells
    keep = _KEEP_STEERED_MS if fleet.state in (FORCED_OPEN, DISABLED) else KEEP_MS
    return (None if after == state else after), (wait + CELLS * ask.width) // 1000 + keep, reply
