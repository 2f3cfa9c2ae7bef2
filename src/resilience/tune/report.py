"""What was found out, in words and as JSON.

Knows text. Refuses to work anything out.
"""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any

from .advice import percent
from .learner import LEAST_PADDING, LINGER, PADDING
from .units import format_ns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .replay import Outcome
    from .tuning import Row, Tuning

__all__ = ["HEADINGS", "accepted_words", "as_json", "as_text", "cells", "latency_words", "snippet", "source_words"]

_WIDTH = 100
HEADINGS = ("timeout", "from ... to", "good calls cut", "a call that hangs costs", "mean wait")


def seconds(ns: float) -> float:
    """Seconds as a number that is short to write: nine decimals are nanoseconds."""
    return round(ns / 1e9, 9)


def snippet(tuning: Tuning) -> str:
    """Python that builds the two recommended timeouts; it runs as it is."""
    best = tuning.settings
    arguments = [
        f"false_timeouts={best.accepted:.12g}",
        f"between=({_literal(best.floor)}, {_literal(best.ceiling)})",
        f"initial={_literal(best.initial)}",
    ]
    if best.padding != PADDING:
        arguments.append(f"padding={best.padding:g}")
    if best.least_padding != LEAST_PADDING:
        arguments.append(f"least_padding={_literal(best.least_padding)}")
    if best.linger != LINGER:
        arguments.append(f"linger={best.linger}")
    return "\n".join([
        "import resilience as rs",
        "",
        f"# follows the latency; between {format_ns(best.floor)} and {format_ns(best.ceiling)}",
        "timeout = rs.PercentileTimeout(",
        *(f"    {argument}," for argument in arguments),
        ")",
        "",
        f"# or one number that never moves: {format_ns(tuning.fixed)}",
        f"fixed = rs.Timeout({_literal(tuning.fixed)})",
        "",
    ])  # fmt: skip


def _literal(ns: int) -> str:
    text = f"{ns / 1e9:.9f}".rstrip("0")
    return text + "0" if text.endswith(".") else text


def accepted_words(share: float) -> str:
    """The accepted share: ``1 good call in 1000``."""
    one_in = 1 / share
    if one_in >= 2 and abs(one_in - round(one_in)) < 1e-6 * one_in:
        return f"1 good call in {round(one_in)}"
    return f"{percent(share)} of the good calls"


def source_words(tuning: Tuning) -> str:
    """What was read, in one line."""
    reading, profile = tuning.reading, tuning.profile
    unit = f"in {reading.unit}" if reading.unit != "with each value" else "each with its unit"
    told = f"{unit} ({reading.unit_from})"
    column = f", column {reading.column}" if reading.column else ""
    when = f"times from {reading.time_column}" if reading.time_column else f"no times, so {reading.rate:g} a second"
    return f"{profile.count} calls; {reading.format}{column}, {told}; {when}"


def latency_words(tuning: Tuning) -> str:
    """The latency, for a reader without statistics."""
    whole = tuning.profile.whole
    parts = [f"half of the calls took up to {format_ns(whole.quantile(0.5))}"]
    for p, words in ((0.95, "95 in 100"), (0.99, "99 in 100"), (0.999, "999 in 1000")):
        if whole.count * (1 - p) >= 1:
            parts.append(f"{words} up to {format_ns(whole.quantile(p))}")
    parts.append(f"the slowest {format_ns(whole.max)}")
    text = ", ".join(parts)
    return text[0].upper() + text[1:] + "."


def cells(row: Row) -> tuple[str, str, str, str, str]:
    """One line of the table, in the order of ``HEADINGS``."""
    outcome = row.outcome
    if outcome.lowest == outcome.highest:
        extent = format_ns(outcome.lowest)
    else:
        extent = f"{format_ns(outcome.lowest)} ... {format_ns(outcome.highest)}"
    false = f"{percent(outcome.false_rate)} ({outcome.false})"
    return row.name, extent, false, format_ns(outcome.mean), format_ns(outcome.mean_wait)


def as_text(tuning: Tuning) -> str:
    """The report for people."""
    rows = [("", *HEADINGS)]
    rows += [("*" if row.recommended else "", *cells(row)) for row in tuning.rows]
    rows.append(("", "none at all", "", "0 %", "for ever", format_ns(tuning.without.mean_wait)))
    lines = [
        tuning.reading.path,
        *_wrapped(source_words(tuning)),
        "",
        *_wrapped(latency_words(tuning)),
        *_wrapped(
            f"You accept to cut {accepted_words(tuning.settings.accepted)} ({percent(tuning.settings.accepted)})."
        ),
        "",
        "Recommended:",
        "",
        *(("    " + line).rstrip() for line in snippet(tuning).splitlines()),
        "",
        *_wrapped(
            'Functions that block also need mode="argument", "thread" or "cooperative". Keep the longest timeout below '
            "half of what your own caller waits."
        ),
        "",
        "What each would have done to these calls (* is recommended):",
        "",
        *_table(rows),
        "",
        *_wrapped(
            "Fixed timeouts are judged by the very calls they were computed from; the learned one knew, at each call, "
            "only those before."
        ),
    ]
    if tuning.notes:
        lines += ["", "Worth knowing:", ""]
        for note in tuning.notes:
            lines += textwrap.wrap(note.text, _WIDTH, initial_indent="  - ", subsequent_indent="    ")
    return "\n".join(lines)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, break_long_words=False)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        left = "  ".join(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=False))
        right = "  ".join(cell.rjust(width) for cell, width in zip(row[3:], widths[3:], strict=True))
        lines.append(f"{left}  {right}".rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    return lines


def as_json(tuning: Tuning) -> str:
    """The report for programs: durations in seconds, shares between 0 and 1."""
    best, sight, profile, reading = tuning.settings, tuning.sight, tuning.profile, tuning.reading
    whole = profile.whole
    return json.dumps(
        {
            "version": 1,
            "file": {
                "path": reading.path,
                "format": reading.format,
                "unit": reading.unit,
                "unit_from": reading.unit_from,
                "column": reading.column,
                "time_column": reading.time_column,
                "rate": reading.rate,
                "bad_lines": reading.bad_count,
            },
            "calls": {
                "count": profile.count,
                "answered": profile.answered,
                "given_up": profile.censored,
                "lost": profile.lost,
                "span": seconds(profile.span),
                "rate": round(profile.rate, 6),
            },
            "latency": {
                **{f"p{p * 100:.6g}": seconds(whole.quantile(p)) for p in (0.5, 0.9, 0.95, 0.99, 0.999)},
                "max": seconds(whole.max),
                "mean": seconds(whole.sum / whole.count),
            },
            "shape": {
                "tight": sight.tight,
                "modes": [{"at": seconds(at), "share": round(share, 6)} for at, share in sight.humps],
                "wander": round(sight.wander, 6),
                "first_half": seconds(sight.first),
                "second_half": seconds(sight.second),
            },
            "accepted": best.accepted,
            "recommended": {
                "learned": {
                    "false_timeouts": best.accepted,
                    "between": [seconds(best.floor), seconds(best.ceiling)],
                    "initial": seconds(best.initial),
                    "padding": best.padding,
                    "least_padding": seconds(best.least_padding),
                    "linger": best.linger,
                },
                "fixed": seconds(tuning.fixed),
                "basis": sight.basis,
                "samples_needed": sight.needed,
                "python": snippet(tuning),
            },
            "outcomes": [
                {
                    "kind": row.kind,
                    "name": row.name,
                    "recommended": row.recommended,
                    "accepted": row.accepted,
                    **_outcome(row.outcome),
                }
                for row in tuning.rows
            ],
            "without": _outcome(tuning.without),
            "notes": [{"code": note.code, "text": note.text} for note in tuning.notes],
        },
        indent=2,
        allow_nan=False,
    )


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "false_timeouts": outcome.false,
        "false_rate": round(outcome.false_rate, 9),
        "cut_share": round(outcome.cut_share, 9),
        "waited": seconds(outcome.waited),
        "waited_for_cut_calls": seconds(outcome.wasted),
        "mean_wait": seconds(outcome.mean_wait),
        "timeout": {
            "mean": seconds(outcome.mean),
            "lowest": seconds(outcome.lowest),
            "highest": seconds(outcome.highest),
        },
    }
