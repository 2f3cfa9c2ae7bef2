"""One process of a fleet that shares a breaker; a program of its own, for `test_circuit_processes`.

Commands come in on standard input, one a line, and each is answered by a line: ``good`` and ``bad`` make a call,
``many SECONDS`` makes calls all the time and answers with their moments, ``hang`` makes a call that never ends, and
``lost`` makes a good call and answers whether the store is taken to be down.
"""

from __future__ import annotations

import json
import sys
import time

import resilience as rs
from resilience.stores import RedisStore

__all__ = ["main"]


def main() -> None:
    url, prefix, timeout, settings = sys.argv[1:]
    store = RedisStore(url, prefix=prefix, timeout=float(timeout))
    breaker = rs.CircuitBreaker(store=store, key="fleet", **json.loads(settings))
    down = False

    def call() -> None:
        if down:
            raise OSError

    def hang() -> None:
        say("hanging")
        time.sleep(60)

    def say(answer: object) -> None:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()

    def once() -> str:
        try:
            breaker.call(call)
        except (OSError, rs.CircuitOpen) as error:
            return type(error).__name__
        return "done"

    say("ready")
    for line in sys.stdin:
        command, *more = line.split()
        if command == "many":
            until = time.monotonic() + float(more[0])
            made = []
            while time.monotonic() < until:
                began = time.monotonic()
                made.append((began, once(), time.monotonic() - began))
                time.sleep(0.002)
            say(made)
        elif command == "probes":  # each probe that this process makes, with its beginning and its end
            until = time.monotonic() + float(more[0])
            spans: list[tuple[float, float]] = []

            def probe(spans: list[tuple[float, float]] = spans) -> None:
                began = time.monotonic()
                time.sleep(0.01)
                spans.append((began, time.monotonic()))
                raise OSError

            while time.monotonic() < until:
                try:
                    breaker.call(probe)
                except (OSError, rs.CircuitOpen):
                    time.sleep(0.001)
            say(spans)
        elif command == "hang":
            breaker.call(hang)
        elif command == "lost":
            down = False
            once()
            say(store.degraded)
        else:
            down = command == "bad"
            say(once())


if __name__ == "__main__":
    main()
