"""The command line: ``resilience demo`` and ``resilience tune``, or ``python -m resilience demo``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

USAGE = """\
usage: resilience <command> [options]

commands:
  demo      see an AWS client survive a brown-out, throttling and an outage, bare and under a policy
  tune      find a timeout from recorded latencies
  version   print the version

`resilience <command> --help` tells the options of a command.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if command in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if command in ("-V", "--version", "version"):
        from . import __version__

        print(f"resilience-client {__version__}")
        return 0
    if command == "demo":
        from .demo.run import main as demo

        return demo(rest)
    if command == "tune":
        from .tune.run import main as tune

        return tune(rest)
    print(f"resilience: no command {command!r}\n\n{USAGE}", end="", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
