"""The bulkhead's gate against an obvious model: never too many inside, first come first served, no slot lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from resilience.machines.gate import Gate


class GateAgainstModel(RuleBasedStateMachine):
    """Callers come, wait, get slots, give up and leave in any order; sizes change."""

    def __init__(self) -> None:
        super().__init__()
        self.gate: Gate[int] = Gate(2, 3)
        self.inside = 0
        self.queue: list[int] = []
        self.granted: list[int] = []
        self.next = 0

    @rule()
    def come(self) -> None:
        """Whoever comes enters if there is room and nobody waits, or queues if there is room for that."""
        if self.gate.enter():
            assert not self.queue
            assert self.inside < self.gate.capacity
            self.inside += 1
            return
        assert self.queue or self.inside >= self.gate.capacity
        self.next += 1
        assert self.gate.join(self.next) == (len(self.queue) < self.gate.room)
        if self.next in self.gate.queue:
            self.queue.append(self.next)

    @precondition(lambda self: self.inside > len(self.granted))
    @rule()
    def leave(self) -> None:
        """A slot goes to the first in the queue, unless there are too many inside already."""
        lucky = self.gate.leave()
        if self.queue and self.inside <= self.gate.capacity:
            assert lucky == self.queue.pop(0)
            self.granted.append(lucky)
        else:
            assert lucky is None
            self.inside -= 1

    @precondition(lambda self: self.granted)
    @rule()
    def claim(self) -> None:
        """Whoever was given a slot has it when it comes for it."""
        assert self.gate.claim(self.granted.pop(0))

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        """Whoever gives up before is out of the queue."""
        waiter = data.draw(st.sampled_from(self.queue))
        assert not self.gate.claim(waiter)
        self.queue.remove(waiter)

    @rule(capacity=st.integers(1, 4), room=st.integers(0, 4))
    def resize(self, capacity: int, room: int) -> None:
        """More slots let the first in the queue in; fewer put nobody out."""
        lucky = self.gate.resize(capacity, room)
        free = max(0, capacity - self.inside)
        assert lucky == self.queue[:free]
        self.granted += lucky
        self.inside += len(lucky)
        del self.queue[:free]

    @invariant()
    def agrees(self) -> None:
        """The gate counts as the model does."""
        assert self.gate.inside == self.inside
        assert list(self.gate.queue) == self.queue
        assert self.gate.granted == set(self.granted)


TestGate = GateAgainstModel.TestCase


@given(st.integers(1, 5), st.integers(0, 5))
def test_a_gate_is_never_overfull(capacity: int, room: int) -> None:
    """At most so many enter, and so many queue."""
    gate: Gate[int] = Gate(capacity, room)
    assert sum(gate.enter() for _ in range(20)) == capacity
    assert sum(gate.join(i) for i in range(20)) == room
