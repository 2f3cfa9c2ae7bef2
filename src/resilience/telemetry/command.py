"""The commands that print what is made from the table of metrics: ``rules``, ``grafana`` and ``metrics``.

Knows arguments and exit statuses. Refuses to know what is printed.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .grafana import grafana
from .reference import reference
from .rules import Settings, rules

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["main"]

_RULES = """\
examples:
  resilience rules --out /etc/prometheus/rules/resilience.yml
  resilience rules --by cluster,job --label team=payments --page page --ticket ticket
  resilience rules --open-for 600 --amplification 2 | promtool check rules

exit status: 0 done; 1 the file cannot be written; 2 wrong options.
"""
_GRAFANA = """\
examples:
  resilience grafana --out resilience.json        then in Grafana: Dashboards, New, Import
  resilience grafana > /var/lib/grafana/dashboards/resilience.json       for provisioning

exit status: 0 done; 1 the file cannot be written; 2 wrong options.
"""

# Option, metavar, help; for numbers the type is that of the default.
_NUMBERS = (
    ("open_for", "SECONDS", "how long a circuit stays open before it is an alert"),
    ("amplification", "FACTOR", "attempts per call that are too many"),
    ("starved", "SHARE", "of attempts that a limiter or bulkhead refuses or lets wait, above which it is too small"),
    ("timed_out", "SHARE", "of attempts ended by a timeout at its ceiling that is too large"),
    ("false_timeouts", "SHARE", "of attempts cut off falsely that is too large"),
    ("budget_refused", "SHARE", "of the wanted retries refused by the budget, above which it counts as empty"),
    ("minimum_calls", "N", "calls in five minutes that a share needs to mean something"),
    ("minimum_bad", "N", "bad calls in the short span that a burn rate needs to mean something"),
    ("scale", "FACTOR", "on every duration; 1/60 would make minutes of hours, to try alerts out"),
)


def main(argv: Sequence[str]) -> int:
    """Run the command that *argv* begins with: ``rules``, ``grafana`` or ``metrics``. Returns the exit status."""
    command, *rest = argv
    parser, write = {"rules": _rules, "grafana": _grafana, "metrics": _metrics}[command]()
    parser.add_argument("--out", metavar="FILE", help="write to a file (default: standard output)")
    options = parser.parse_args(rest)
    try:
        text = write(options)
    except (TypeError, ValueError) as error:
        parser.error(str(error))
    try:
        if options.out is None:
            sys.stdout.write(text)
            sys.stdout.flush()
        else:
            Path(options.out).write_text(text, encoding="utf-8", newline="\n")
            sys.stderr.write(f"written: {options.out}\n")
    except BrokenPipeError:
        # Whoever read the output has seen enough; keep the interpreter from writing the rest when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        sys.stderr.write(f"resilience {command}: {error.filename or 'output'}: {error.strerror or error}\n")
        return 1
    return 0


def _parser(command: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"resilience {command}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _rules() -> tuple[argparse.ArgumentParser, Callable[[argparse.Namespace], str]]:
    parser = _parser(
        "rules",
        "Print recording and alerting rules for Prometheus (YAML), made for this version's metrics. What each alert\n"
        "means, and what to do about it, is in docs/how-to/alerts.md.",
        _RULES,
    )
    defaults = {field.name: field.default for field in fields(Settings)}
    parser.add_argument(
        "--by", type=_words, metavar="LABEL,...", help="labels that tell policies of one name apart (default: job)"
    )
    parser.add_argument(
        "--label", type=_pair, action="append", metavar="NAME=VALUE", dest="labels",
        help="for every alert; may be repeated",
    )  # fmt: skip
    for name, what in (("page", "of alerts that should wake somebody"), ("ticket", "of all others")):
        parser.add_argument(f"--{name}", metavar="SEVERITY", help=f"severity {what} (default: {defaults[name]})")
    parser.add_argument("--runbook", metavar="URL", help=f"of the explanations (default: {defaults['runbook']})")
    for name, metavar, what in _NUMBERS:
        default: Any = defaults[name]
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=type(default), metavar=metavar, help=f"{what} (default: {default:g})"
        )

    def write(options: argparse.Namespace) -> str:
        chosen = {name: value for name, value in vars(options).items() if name != "out" and value is not None}
        if "labels" in chosen:
            chosen["labels"] = dict(chosen["labels"])
        return rules(Settings(**chosen))

    return parser, write


def _grafana() -> tuple[argparse.ArgumentParser, Callable[[argparse.Namespace], str]]:
    parser = _parser("grafana", "Print a dashboard for Grafana 10 or later, over Prometheus (JSON).", _GRAFANA)
    parser.add_argument("--title", default="Resilience", help="of the dashboard (default: Resilience)")
    parser.add_argument("--uid", default="resilience", help="its identity in links (default: resilience)")
    return parser, lambda options: grafana(title=options.title, uid=options.uid)


def _metrics() -> tuple[argparse.ArgumentParser, Callable[[argparse.Namespace], str]]:
    return _parser("metrics", "Print the list of all metrics (Markdown)."), lambda _options: reference()


def _words(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} must be NAME=VALUE")
    return name, value
