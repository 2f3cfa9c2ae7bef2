"""What the tests of the circuit share: one to begin with, chance without chance, and a permit that is expected."""

from __future__ import annotations

import dataclasses

from resilience.machines.circuit import Circuit, Permit, Settings

__all__ = ["BASE", "S", "admit", "build", "half", "never"]

S = 1_000_000_000
BASE = Settings(
    failure_rate=0.5,
    minimum=4,
    calls=8,
    open_for_ns=5 * S,
    max_open_ns=60 * S,
    jitter=0.0,
    probes=3,
    probe_timeout_ns=10 * S,
)


def never() -> float:
    """Chance where none is wanted."""
    raise AssertionError("chance was asked for")


def half() -> float:
    """The middle of chance: no jitter, and half of a ramp."""
    return 0.5


def build(**changes: object) -> Circuit:
    """A circuit like BASE but for the changes."""
    return Circuit(dataclasses.replace(BASE, **changes))  # type: ignore[arg-type]


def admit(circuit: Circuit, now: int) -> Permit:
    """A permit that is expected."""
    permit = circuit.admit(now, half)
    assert permit is not None
    return permit
