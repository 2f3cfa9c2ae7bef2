"""One event of each kind, to be told to whoever listens."""

from __future__ import annotations

import math

from resilience import events
from resilience.machines.circuit_types import State

__all__ = ["EVENTS", "PLAIN", "Mute"]


class Mute(Exception):
    """An error that cannot be printed."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


PLAIN = ConnectionError("refused")

EVENTS: tuple[events.Event, ...] = (
    events.AttemptFailed("pay", 1, PLAIN, 0.25),
    events.AttemptTimedOut("pay", 2, TimeoutError("late"), 0.5, 0.5),
    events.AttemptRejected("pay", 1, "circuit_open", PLAIN, None),
    events.Retrying("pay", 1, PLAIN, None, 0.1, 0.3),
    events.GaveUp("pay", "failed", 3, PLAIN, 1.5),
    events.BudgetExhausted("pay", "retry", 0.5),
    events.CircuitChanged("pay", State.CLOSED, State.OPEN, "tripped"),
    events.Waited("pay", "limiter", 0.2),
    events.Hedged("pay", 0.1),
    events.HedgeWon("pay"),
    events.FellBack("pay", PLAIN),
    events.TimeoutRevised("pay", 0.5, 0.6, "quantile"),
    events.RateRevised("pay", math.inf, 50.0, throttled=True),
    events.BudgetBurning("pay", shedding=True, burn=20.0),
    events.StoreDegraded("redis", PLAIN),
    events.StoreRecovered("redis", 4.0),
)
