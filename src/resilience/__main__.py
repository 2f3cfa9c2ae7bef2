"""The command line: ``resilience <command>``, or ``python -m resilience <command>``."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

COMMANDS = {
    "dashboard": ("dashboard.command", "a live page of the policies of a program"),
    "demo": ("demo.run", "see an AWS client survive a brown-out, throttling and an outage, bare and under a policy"),
    "grafana": ("telemetry.command", "print a Grafana dashboard"),
    "metrics": ("telemetry.command", "print the list of all metrics"),
    "rules": ("telemetry.command", "print Prometheus rules: alerts, and what they rest on"),
    "state": ("stores.command", "look at limiters and breakers that processes share, and steer them"),
    "tune": ("tune.run", "find a timeout from recorded latencies"),
}
"""Where each command is, and what it is for. A command is imported when it is called for."""


def _usage() -> str:
    rows = {name: words for name, (_, words) in COMMANDS.items()} | {"version": "print the version"}
    shown = "\n".join(f"  {name:<11}{words}" for name, words in rows.items())
    return (
        f"usage: resilience <command> [options]\n\ncommands:\n{shown}\n\n"
        "`resilience <command> --help` tells the options of a command.\n"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if command in ("-h", "--help", "help"):
        print(_usage(), end="")
        return 0
    if command in ("-V", "--version", "version"):
        from . import __version__

        print(f"resilience-client {__version__}")
        return 0
    if command not in COMMANDS:
        print(f"resilience: no command {command!r}\n\n{_usage()}", end="", file=sys.stderr)
        return 2
    where, _ = COMMANDS[command]
    module = importlib.import_module(f".{where}", __package__)
    # Several commands of one module tell themselves apart by their name.
    status: int = module.main(rest if where != "telemetry.command" else [command, *rest])
    return status


if __name__ == "__main__":
    sys.exit(main())
