"""The transitions that more than one part of the library speaks of."""

from __future__ import annotations

from ..machines.shared_circuit import step
from .protocol import Transition

__all__ = ["CIRCUIT"]

CIRCUIT = Transition("circuit", 1, step)
"""The circuit of a fleet; told by breakers, and by the operator's command."""
