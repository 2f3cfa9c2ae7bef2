"""``resilience state``: what a store holds of limiters, retry budgets and breakers, and a hand on the breakers.

Reads by SCAN under the store's prefix, never by KEYS, and one value after another, so it is a survey and no snapshot.
It steers by the same atomic step as the clients do. Passwords in the address are not shown.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from ..machines.shared_circuit import CLOSED, FORCED_OPEN, OPEN, Ask, Fleet
from .keys import SAFE, safe_key
from .redis import RedisStore
from .transitions import CIRCUIT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .protocol import Entry

__all__ = ["main", "shown"]

KINDS = {"bucket": "limiter", "budget": "retry budget"}
"""What buckets are for, by the names of their transitions."""
STATES = ("closed", "open", "half-open", "forced-open", "disabled")


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status: 0, 1 if the store cannot be asked or has no such name, 2 for misuse."""
    options = _parser().parse_args(argv)
    try:
        store = RedisStore(options.url, cluster=options.cluster, prefix=options.prefix, timeout=options.timeout)
    except (ValueError, TypeError) as error:
        print(f"resilience state: {_without_password(str(error), options.url)}", file=sys.stderr)
        return 2
    except ImportError:
        print("resilience state: redis-py is missing: pip install 'resilience-client[redis]'", file=sys.stderr)
        return 2
    with store:
        try:
            rows = [shown(entry, time.time_ns() // 1000) for entry in store.survey()]
            name = options.force_open or options.reset
            if name is not None:
                return _steer(store, name, rows, CLOSED if options.reset else FORCED_OPEN)
        except Exception as error:  # redis-py has many kinds
            said = f"{_without_password(options.url, options.url)}: {type(error).__name__}: {error}"
            print(f"resilience state: {_without_password(said, options.url)}", file=sys.stderr)
            return 1
    rows.sort(key=lambda row: (row["kind"], row["name"]))
    print(json.dumps(rows, indent=2) if options.json else _table(rows))
    return 0


def shown(entry: Entry, now: int) -> dict[str, Any]:
    """What an operator wants to know of one entry; *now* is microseconds since 1970 by this machine's clock.

    Times to go are therefore as wrong as this clock differs from the store's; the store itself goes by its own.
    """
    row: dict[str, Any] = {"kind": entry.name, "name": unquote(entry.key), "key": entry.key}
    if entry.name == "circuit" and entry.version == CIRCUIT.version:
        fleet, cells = Fleet(*entry.state[: len(Fleet._fields)]), entry.state[len(Fleet._fields) :]
        state = STATES[fleet.state]
        row |= {"kind": "breaker", "state": state, "since": max(0, now - fleet.since) / 1e6, "opens": fleet.opens}
        row |= {name: sum(cells[i::3]) for i, name in enumerate(("total", "failures", "slow"))}
        if fleet.state == OPEN:
            row["wait"] = max(0, fleet.until - now) / 1e6
        if fleet.lease and fleet.ends > now:
            row["probe"] = (fleet.ends - now) / 1e6
    elif entry.name in KINDS and entry.version == 1:
        _, unit, level, total, *slots = entry.state
        row |= {"kind": KINDS[entry.name], "tokens": level // unit, "leased": sum(slots[1::2]), "total": total}
    return row


def _steer(store: RedisStore, name: str, rows: list[dict[str, Any]], state: int) -> int:
    """Force a breaker open, or reset it: one that is there, by its name or its key."""
    keys = {row["key"] for row in rows if row["kind"] == "breaker" and name in (row["name"], row["key"])}
    if state == FORCED_OPEN and not keys:  # it need not have been used yet
        keys = {name if SAFE.fullmatch(name) else safe_key(name)}
    if not keys:
        print(f"resilience state: no breaker {name!r}", file=sys.stderr)
        return 1
    for key in keys:
        store.exchange(key, CIRCUIT, Ask(state=state, by_hand=1))
        print(f"{unquote(key)}: {STATES[state]}")
    return 0


def _table(rows: list[dict[str, Any]]) -> str:
    """The rows for people."""
    if not rows:
        return "nothing stored"
    lines = [("KIND", "NAME", "STATE", "DETAILS")]
    for row in rows:
        if row["kind"] == "breaker":
            details = f"{row['failures']} of {row['total']} calls failed, {row['slow']} slow; for {row['since']:.0f} s"
            if "wait" in row:
                details += f"; a probe in {row['wait']:.1f} s"
            if "probe" in row:
                details += f"; a probe is under way, its lease ends in {row['probe']:.1f} s"
            lines.append(("breaker", row["name"], row["state"], details))
        elif "tokens" in row:
            details = f"{row['leased']} leased, {row['total']} spent so far"
            lines.append((row["kind"], row["name"], f"{row['tokens']} tokens", details))
        else:
            lines.append((row["kind"], row["name"], "", "of another release"))
    widths = [max(len(line[i]) for line in lines) for i in range(3)]
    return "\n".join(
        "  ".join([*(text.ljust(width) for text, width in zip(line, widths, strict=False)), line[3]]).rstrip()
        for line in lines
    )


def _without_password(text: str, url: str) -> str:
    """*text* without the password that is in *url*."""
    try:
        parts = urlsplit(url)
        password, port = parts.password, parts.port
    except ValueError:
        return text.replace(url, "(the address)")
    if not password:
        return text
    host = f"{parts.hostname or ''}{'' if port is None else f':{port}'}"
    hidden = urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{host}"))
    return text.replace(url, hidden).replace(password, "***").replace(unquote(password), "***")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="resilience state",
        description="List the limiters and breakers that processes share through a Redis or Valkey server, and steer "
        "the breakers.",
    )
    parser.add_argument("url", help="redis://, rediss:// or unix://, with user and password if need be")
    parser.add_argument("--cluster", action="store_true", help="the address is that of one node of a cluster")
    parser.add_argument("--prefix", default="resilience", help="what all keys begin with (%(default)s)")
    parser.add_argument("--timeout", type=float, default=2.0, help="seconds for an answer (%(default)g)")
    parser.add_argument("--json", action="store_true", help="for programs: a list of objects")
    steer = parser.add_mutually_exclusive_group()
    steer.add_argument("--force-open", metavar="NAME", help="have all processes refuse the calls of this breaker")
    steer.add_argument("--reset", metavar="NAME", help="close this breaker, with an empty window")
    return parser
