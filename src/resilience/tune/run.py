"""The command ``resilience tune``.

Knows arguments, exit statuses and the order of things: read, work, write. Refuses to know how.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .advice import Wishes
from .learner import LINGER
from .progress import Progress
from .readers import ReadOptions, UnreadableError, read
from .report import as_json, as_text
from .taker import DEFAULT_RATE
from .trace import Trace
from .tuning import no_answer, tune
from .units import FACTORS, parse_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .tuning import Tuning

__all__ = ["main"]

_EPILOG = """\
formats (found out from the content):
  CSV with or without a header, also with ; | or tabs; JSON lines; one number a line; HdrHistogram logs (V1, V2);
  each of them perhaps packed with gzip. "-" is standard input.

units:
  of the latencies: --unit, or stated in the file, as in a column "latency_ms" or a value "12.5ms". It is never guessed.
  durations in options: a number of seconds, or 250ms, 1.5s, 800us.

examples:
  resilience tune latencies.csv --unit ms
  resilience tune access.jsonl.gz --field upstream.latency_ms --false-timeouts 0.01 --html tune.html
  resilience tune bench.hlog --png pictures --json
  awk '{print $NF}' access.log | resilience tune - --unit s --rate 40

exit status: 0 done; 1 the file cannot be used; 2 wrong options; 130 interrupted.
"""


def _duration(text: str) -> int:
    try:
        ns = parse_duration(text, FACTORS["s"])
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}: write seconds, or for instance 250ms") from None
    if not ns:
        raise argparse.ArgumentTypeError("must be above 0")
    return ns


def _durations(text: str) -> list[int]:
    return [_duration(part) for part in text.split(",")]


def _share(text: str) -> float:
    number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        value = float(number) / (100 if percent else 1)
    except ValueError:
        value = 0.0
    if not 1e-7 <= value <= 0.5:
        raise argparse.ArgumentTypeError(f"{text!r} must be a share from 0.0000001 to 0.5, such as 0.001 or 0.1%")
    return value


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1e-6 <= value <= 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} must be calls a second, above 0")
    return value


def _padding(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} must be a factor from 1 to 100")
    return value


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, 0 or more")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="resilience tune",
        description="Find a timeout from recorded latencies. Say which share of good calls you accept to cut off; the "
        "record is replayed through timeouts that follow the latency and through fixed ones.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("file", help="recorded latencies")
    parser.add_argument(
        "--false-timeouts", type=_share, default=0.001, metavar="SHARE",
        help="the share of good calls that may be cut off, such as 0.001 or 0.1%% (default: 0.001)",
    )  # fmt: skip
    reading = parser.add_argument_group("what the file says")
    reading.add_argument("--unit", choices=FACTORS, help="of the latencies")
    reading.add_argument(
        "--column", "--field", metavar="NAME", help="the latency: name or number (from 1) of a column; a.b in JSON"
    )
    reading.add_argument(
        "--time-column", metavar="NAME",
        help='when each call began (default: a column whose name says so; "none": leave it)',
    )  # fmt: skip
    reading.add_argument("--time-unit", choices=FACTORS, help="of times that are numbers (default: s)")
    reading.add_argument("--timed-out-column", metavar="NAME", help="marks calls that were given up: true, 1, yes")
    reading.add_argument(
        "--timed-out-value", metavar="TEXT", help="a latency that stands for a call without any answer, such as 0"
    )
    reading.add_argument("--tag", help="which series of an HdrHistogram log")
    reading.add_argument(
        "--rate", type=_rate, metavar="N",
        help=f"calls a second, evenly; instead of times (default without times: {DEFAULT_RATE:g})",
    )  # fmt: skip
    reading.add_argument(
        "--max-bad", type=_count, default=100, metavar="N", help="lines that may be unreadable (default: 100)"
    )
    wishes = parser.add_argument_group("what is given")
    wishes.add_argument("--floor", type=_duration, metavar="TIME", help="the shortest timeout")
    wishes.add_argument(
        "--ceiling", type=_duration, metavar="TIME", help="the longest; at most half of what your caller waits"
    )
    wishes.add_argument("--initial", type=_duration, metavar="TIME", help="the timeout until something is learned")
    wishes.add_argument("--padding", type=_padding, metavar="FACTOR", help="on the measured percentile, 1 or more")
    wishes.add_argument(
        "--linger", type=_count, default=LINGER, metavar="N",
        help=f'attempts watched beyond their timeout (default: {LINGER}); 0 for functions with mode="argument"',
    )  # fmt: skip
    wishes.add_argument(
        "--fixed", type=_durations, default=[], metavar="TIME,...", help="fixed timeouts to compare with"
    )
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="for programs")
    output.add_argument("--html", metavar="FILE", help="write a page with pictures, without any outside reference")
    output.add_argument("--png", metavar="DIR", help="write the pictures as PNG (needs resilience-client[tune])")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    progress = Progress()
    try:
        with Trace() as trace:
            status = _run(options, trace, progress)
            sys.stdout.flush()
            return status
    except KeyboardInterrupt:
        progress.clear()
        sys.stderr.write("resilience tune: interrupted\n")
        return 130
    except BrokenPipeError:
        # Whoever read the output has seen enough; keep the interpreter from writing the rest when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except UnreadableError as error:
        return _failed(progress, f"{options.file}: {error}", 1)
    except OSError as error:
        return _failed(progress, f"{error.filename or options.file}: {error.strerror or error}", 1)


def _failed(progress: Progress, message: str, status: int) -> int:
    progress.clear()
    sys.stderr.write(f"resilience tune: {message}\n")
    return status


def _run(options: argparse.Namespace, trace: Trace, progress: Progress) -> int:
    if options.png:
        from .png import missing

        if missing():
            return _failed(progress, "--png needs matplotlib: pip install 'resilience-client[tune]'", 2)
    how = ReadOptions(
        column=options.column,
        time_column=options.time_column,
        timed_out_column=options.timed_out_column,
        timed_out_value=options.timed_out_value,
        unit=options.unit,
        time_unit=options.time_unit,
        rate=options.rate,
        tag=options.tag,
        max_bad=options.max_bad,
    )
    wishes = Wishes(
        options.false_timeouts, options.floor, options.ceiling, options.initial, options.padding, options.linger
    )
    reading = read(options.file, how, trace, lambda done, total: progress.show("reading", done, total))
    if no_answer(trace):
        raise UnreadableError("no call in it was ever answered: there is no latency to learn from")
    try:
        tuning = tune(trace, reading, wishes, options.fixed, progress.show)
    except ValueError as error:
        return _failed(progress, str(error), 2)
    progress.clear()
    written = _pictures(options, tuning)
    sys.stdout.write((as_json(tuning) if options.json else as_text(tuning)) + "\n")
    for path in written:
        sys.stderr.write(f"written: {path}\n")
    return 0


def _pictures(options: argparse.Namespace, tuning: Tuning) -> list[Path]:
    written = []
    if options.html:
        from .page import page

        path = Path(options.html)
        path.write_text(page(tuning), encoding="utf-8", newline="\n")
        written.append(path)
    if options.png:
        from .png import draw

        written += draw(tuning, Path(options.png))
    return written


if __name__ == "__main__":
    sys.exit(main())
