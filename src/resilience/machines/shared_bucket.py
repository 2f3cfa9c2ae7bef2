"""A token bucket that many processes share, as one atomic step on a few integers.

Some tokens are *leased*: a client takes a batch, spends it by itself, and tells later. So that the bound of a bucket
holds all the same, what is out counts against the burst until it is settled or its lease has expired: the bucket
refills only up to ``burst - out``. Let P be the level and all leased tokens that are unspent, and all promised ones
that are not due. P never exceeds the burst, grows only by the refill, falls by one with each token spent, and is never
below zero when one is. Hence, whatever clients do or die of, in any window of t seconds at most ``burst + rate * t``
tokens are spent; where some wait, ``t + 1`` microseconds, for the moments of promises are whole ones. (The full
argument is in docs/explanation/shared-state.md.)

What is out is kept by the moment it expires, in a few slots, so the state does not grow with the number of clients. A
slot that expires unsettled counts as spent at that moment.

Time is the store's, in microseconds; a token is ``unit`` parts, of which ``fill`` come each microsecond. All numbers
stay below 2**53, for the twin of `step`, ``stores/lua/bucket.lua``, reckons in doubles. This file knows no store, no
clock and no client.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from ..errors import ConfigError

if TYPE_CHECKING:
    from .lane import Rate

__all__ = ["ACQUIRE", "CANCEL", "KEEP_MS", "SLOTS", "Ask", "Reply", "Scale", "step"]

Numbers: TypeAlias = tuple[int, ...]

ACQUIRE = 0
CANCEL = 1

SLOTS = 6
"""So many moments of expiry at most: those of one lease time need five or six."""
KEEP_MS = 3_600_000
"""How long a bucket that never fills by itself is remembered after its last use."""
_DEEPEST = 2**52


class Ask(NamedTuple):
    """The arguments of a step.

    Attributes:
        op: `ACQUIRE`, or `CANCEL` for a promise of *n* tokens that are due at *slot*.
        unit, fill, burst: the bucket, see `Scale`.
        n: tokens wanted; 0 for none.
        most: the longest wait that will do, in microseconds; if *n* come later than that, none are taken.
        batch: how many further tokens would be leased.
        lease: for how long, in microseconds; 0 for never.
        spent, unspent, slot: of an earlier lease: tokens spent, tokens given back, and the slot they are from.
        gift: parts of a token that are added.
    """

    op: int
    unit: int
    fill: int
    burst: int
    n: int = 0
    most: int = 0
    batch: int = 0
    lease: int = 0
    spent: int = 0
    unspent: int = 0
    slot: int = 0
    gift: int = 0


class Reply(NamedTuple):
    """What a step answers.

    Attributes:
        granted: whether the tokens are taken (or the promise is cancelled).
        wait: microseconds from *now* until they are due; or, not granted, until they could be (-1: nobody knows).
        leased: how many further tokens are leased.
        slot: which slot they are in, and the moment it expires.
        total: tokens ever spent, as far as known.
        now: the store's time.
        level: parts of tokens that are left; negative while promised tokens are not due.
    """

    granted: int
    wait: int
    leased: int
    slot: int
    total: int
    now: int
    level: int


class Scale(NamedTuple):
    """A rate in whole numbers: a token is *unit* parts, *fill* of which come each microsecond."""

    unit: int
    fill: int
    burst: int

    @classmethod
    def of(cls, rate: Rate) -> Scale:
        """The scale of a `Rate`.

        Raises:
            ConfigError: in these parts the burst would be too large for the arithmetic of all stores.
        """
        each = Fraction(rate.scale * 1000, rate.interval)  # tokens per microsecond
        scale = cls(each.denominator, each.numerator, rate.burst)
        if max(scale.unit * scale.burst, scale.fill) >= _DEEPEST:
            raise ConfigError(
                f"rate must have fewer digits, or burst be smaller, to be shared: a rate of {rate.rate!r} per "
                f"{rate.per!r} s with a burst of {rate.burst} does not fit into whole numbers below 2**52"
            )
        return scale


def step(state: Numbers, now: int, arguments: Numbers) -> tuple[Numbers | None, int, Numbers]:
    """One exchange of a client with the bucket; see `resilience.stores.Transition`.

    The state is ``(time, unit, level, total, expiry, out, expiry, out, ...)``, in order of expiry.
    """
    ask = Ask(*arguments)
    unit, fill, burst = ask.unit, ask.fill, ask.burst
    time, level, total = now, burst * unit, 0
    slots: list[tuple[int, int]] = []
    if state:
        time, kept, level, total = state[:4]
        now = max(now, time)  # after a step back of the clock nothing happens until it has caught up
        if kept != unit:  # the rate was changed: whole tokens stay, parts are lost
            level = level // kept * unit
        slots = list(zip(state[4::2], state[5::2], strict=True))
    out = sum(count for _, count in slots)

    # What has happened since: slots expired, and between those moments the bucket was filled.
    while slots and slots[0][0] <= now:
        expiry, count = slots.pop(0)
        level = min(level + (expiry - time) * fill, (burst - out) * unit)
        time = expiry
        out -= count
        total += count
    level = min(level + (now - time) * fill, (burst - out) * unit)

    changed = ask.gift > 0
    spent, unspent = 0, 0
    if ask.op == ACQUIRE:
        for i, (expiry, count) in enumerate(slots):
            if expiry == ask.slot:
                spent = min(ask.spent, count)
                unspent = min(ask.unspent, count - spent)
                slots[i] = expiry, count - spent - unspent
                changed = changed or spent + unspent > 0
        slots = [slot for slot in slots if slot[1] > 0]
        out -= spent + unspent
        total += spent
    level = min(level + unspent * unit + ask.gift, (burst - out) * unit)

    granted, wait, leased, slot = 0, 0, 0, 0
    if ask.op == CANCEL:
        # Only the last in the line can leave it without a trace: of those behind, each has its moment.
        if level < 0 < fill and now - level // fill == ask.slot > now:
            granted, changed = 1, True
            level = min(level + ask.n * unit, (burst - out) * unit)
            total -= ask.n
    elif ask.n > burst - out:  # cannot be held at once before leases have ended
        freed = out
        for expiry, count in slots:
            if ask.n > burst - freed:
                wait = expiry - now
                freed -= count
    else:
        after = level - ask.n * unit
        if after < 0:
            wait = -(after // fill) if fill > 0 else -1
        if ask.n > 0 and (after >= 0 or (0 <= wait <= ask.most and after >= -_DEEPEST)):
            level, total = after, total + ask.n
            granted, changed = 1, True
    if ask.op == ACQUIRE and ask.lease > 0 and granted == (ask.n > 0) and level > 0:
        # Never more than half of what is there, nor half of the burst altogether: there are others.
        leased = max(0, min(ask.batch, level // unit // 2, burst // 2 - out))
        width = max(1, ask.lease // 4)
        slot = (now + ask.lease) // width * width + width
        known = [expiry for expiry, _ in slots]
        if leased > 0 and (slot in known or len(slots) < SLOTS):
            held = dict(slots)
            held[slot] = held.get(slot, 0) + leased
            slots = sorted(held.items())
            level -= leased * unit
            out += leased
            changed = True
        else:
            leased = 0
    reply = Reply(granted, wait, leased, slot if leased else 0, total, now, level)
    if not changed:
        return None, 0, reply
    # When it would be full, with nothing out, it need not be remembered.
    full = -((level - burst * unit) // fill) if fill > 0 else KEEP_MS * 1000
    last = slots[-1][0] - now if slots else 0
    flat = [number for pair in slots for number in pair]
    return (now, unit, level, total, *flat), (full + last) // 1000 + 1, reply
