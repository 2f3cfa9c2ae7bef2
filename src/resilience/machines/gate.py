"""A bounded number of callers inside, and a bounded, fair queue outside.

The machine hands slots on: whoever leaves gives the slot to the first in the queue before anybody else can take it, so
nobody overtakes and nobody starves. It returns whom to wake; the caller wakes them after it has let go of its lock.
Waiters are opaque: they are only ever handed back.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

__all__ = ["Gate"]

W = TypeVar("W")


class Gate(Generic[W]):
    """The slots and the queue. Not thread-safe: the caller holds a lock around every method."""

    __slots__ = ("capacity", "granted", "inside", "queue", "room")

    def __init__(self, capacity: int, room: int) -> None:
        self.capacity = capacity
        self.room = room
        self.inside = 0
        self.queue: deque[W] = deque()
        self.granted: set[W] = set()

    def enter(self) -> bool:
        """Take a slot, if one is free and nobody waits for it."""
        if self.inside >= self.capacity or self.queue:
            return False
        self.inside += 1
        return True

    def join(self, waiter: W) -> bool:
        """Take a place at the end of the queue, if there is room."""
        if len(self.queue) >= self.room:
            return False
        self.queue.append(waiter)
        return True

    def leave(self) -> W | None:
        """Give a slot back; it belongs to the returned waiter, if there is one, from now on."""
        if self.queue and self.inside <= self.capacity:
            waiter = self.queue.popleft()
            self.granted.add(waiter)
            return waiter
        self.inside -= 1
        return None

    def claim(self, waiter: W) -> bool:
        """A waiter comes for its slot (or has waited long enough): True if it has one now, else it is out."""
        if waiter in self.granted:
            self.granted.remove(waiter)
            return True
        if waiter in self.queue:
            self.queue.remove(waiter)
        return False

    def resize(self, capacity: int, room: int) -> list[W]:
        """Change the sizes; returns those who have a slot because of it. Nobody inside is put out."""
        self.capacity = capacity
        self.room = room
        lucky = []
        while self.queue and self.inside < self.capacity:
            self.inside += 1
            waiter = self.queue.popleft()
            self.granted.add(waiter)
            lucky.append(waiter)
        return lucky
