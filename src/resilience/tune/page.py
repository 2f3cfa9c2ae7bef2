"""One page with everything on it: words, pictures, figures. It refers to nothing outside itself and runs no script.

Knows HTML and CSS. Each picture is on it twice, for wide and for narrow screens; only one is shown.
"""

from __future__ import annotations

from html import escape
from pathlib import PurePath
from typing import TYPE_CHECKING

from .advice import percent
from .charts import Band, Bars, Chart, Dots, Stretch, charts
from .report import HEADINGS, accepted_words, cells, latency_words, snippet, source_words
from .svg import draw
from .units import format_ns

if TYPE_CHECKING:
    from .replay import Outcome
    from .tuning import Tuning

__all__ = ["page"]

_WIDE = (880, 400)
_NARROW = (360, 330)

_CSS = """\
:root{color-scheme:light dark;--paper:#fff;--card:#f5f7f9;--ink:#1b2026;--soft:#58626d;--grid:#e3e7eb;--edge:#c9d0d7;
--latency:#b9c8d6;--median:#5b7894;--learned:#0870a8;--fixed:#bd5a00;--false:#c4122f;--accepted:#58626d}
@media (prefers-color-scheme:dark){:root{--paper:#13171b;--card:#1c2228;--ink:#e7eaed;--soft:#a3adb7;--grid:#2a3138;
--edge:#424b54;--latency:#3f5367;--median:#a9c2da;--learned:#54bdf2;--fixed:#f5a34f;--false:#ff7280;--accepted:#a3adb7}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif}
main{max-width:920px;margin:0 auto;padding:32px 20px 48px}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 .5rem;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.4rem 0 .4rem;line-height:1.3}
p{margin:.5rem 0}
.soft,footer{color:var(--soft)}
.soft,footer,figcaption{font-size:.9rem}
.answer{display:grid;grid-template-columns:1fr 1fr;gap:14px;margin:1.4rem 0 1rem}
.answer div{background:var(--card);border-radius:10px;border-left:4px solid var(--learned);padding:14px 18px}
.answer div+div{border-left-color:var(--fixed)}
.answer h3{margin:0;font-size:.9rem;font-weight:600;color:var(--soft)}
.answer strong{display:block;font-size:1.5rem;line-height:1.3;font-variant-numeric:tabular-nums}
pre{background:var(--card);border-radius:10px;padding:14px 18px;overflow-x:auto;font:13.5px/1.5 ui-monospace,
SFMono-Regular,Menlo,Consolas,monospace;margin:1rem 0}
figure{margin:.6rem 0 0}
svg{display:block;width:100%;height:auto}
svg.narrow{display:none}
ul.keys{list-style:none;display:flex;flex-wrap:wrap;gap:2px 20px;margin:.3rem 0 .5rem;padding:0;font-size:.9rem}
ul.keys li{display:flex;align-items:center;gap:8px}
ul.keys svg{width:24px;height:12px;flex:none}
text{fill:var(--soft);font-size:12.5px;font-variant-numeric:tabular-nums}
text.name{fill:var(--ink)}text.word{fill:var(--ink);stroke:var(--paper);stroke-width:4px;paint-order:stroke;
stroke-linejoin:round}
.end{text-anchor:end}.mid{text-anchor:middle}
.grid{stroke:var(--grid);fill:none}.axis{stroke:var(--edge);fill:none}
.latency{--c:var(--latency)}.median{--c:var(--median)}.learned{--c:var(--learned)}.fixed{--c:var(--fixed)}
.false{--c:var(--false)}.accepted{--c:var(--accepted)}
.bars,.band{fill:var(--c)}.band{fill-opacity:.75}
.stretch{fill:var(--c);fill-opacity:.16}
.line{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round}
.line.median{stroke-width:1.5}
.rule{fill:none;stroke:var(--c);stroke-width:2;stroke-dasharray:6 4}
.dot{fill:var(--c);stroke:var(--paper);stroke-width:1.2}
table{border-collapse:collapse;width:100%;font-size:.92rem;font-variant-numeric:tabular-nums;margin:.6rem 0}
th,td{text-align:right;padding:6px 0 6px 14px;border-bottom:1px solid var(--grid);vertical-align:top}
th:first-child,td:first-child{text-align:left;padding-left:0}
thead th{color:var(--soft);font-weight:600}
tbody th{font-weight:400}tr.best th,tr.best td{font-weight:600}
tr.best th::after{content:" \\2605";color:var(--soft)}
ul.notes{padding-left:1.2rem}ul.notes li{margin:.5rem 0}
@media (max-width:640px){main{padding:20px 16px 36px}h1{font-size:1.4rem}.answer{grid-template-columns:1fr}
svg.wide{display:none}svg.narrow{display:block}thead{position:absolute;width:1px;height:1px;overflow:hidden;
clip-path:inset(50%)}
tr{display:block;padding:8px 0;border-bottom:1px solid var(--grid)}
th,td{display:flex;justify-content:space-between;gap:14px;padding:2px 0;border:0;text-align:right}
tbody th{justify-content:flex-start;gap:.4em;font-weight:600}
td::before{content:attr(data-name);color:var(--soft);font-weight:400;text-align:left}}
@media print{body{font-size:11pt}figure,tr,.answer{break-inside:avoid}}
"""


def page(tuning: Tuning) -> str:
    """The page; the same findings give the same text to the last byte."""
    name = "standard input" if tuning.reading.path == "-" else PurePath(tuning.reading.path).name
    best, outcome = tuning.settings, tuning.learned
    title = f"A timeout for {name}"
    fixed = next(row.outcome for row in tuning.rows if row.recommended and row.kind == "fixed")
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8"/>',
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>',
        f"<title>{escape(title)}</title>",
        f"<style>\n{_CSS}</style>",
        "</head>",
        "<body>",
        "<main>",
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(latency_words(tuning))} You accept to cut {escape(accepted_words(best.accepted))}.</p>",
        '<div class="answer">',
        _answer(
            "A timeout that follows the latency",
            f"{format_ns(best.floor)} to {format_ns(best.ceiling)}",
            f"It would have been {format_ns(outcome.mean)} on average, and would have cut {_of_good_calls(outcome)}.",
        ),
        _answer(
            "Or one number that never moves",
            format_ns(tuning.fixed),
            f"It would have cut {_of_good_calls(fixed)}.",
        ),
        "</div>",
        f"<pre><code>{escape(snippet(tuning))}</code></pre>",
        (
            '<p class="soft">Functions that block also need <code>mode="argument"</code>, <code>"thread"</code> or '
            '<code>"cooperative"</code>. Keep the longest timeout below half of what your own caller waits.</p>'
        ),
        *(_figure(chart) for chart in charts(tuning)),
        "<h2>What each timeout would have done to these calls</h2>",
        *_table(tuning),
        (
            '<p class="soft">Fixed timeouts are judged by the very calls they were computed from; the learned one '
            "knew, at each call, only those before. The stars mark what is recommended.</p>"
        ),
    ]
    if tuning.notes:
        notes = "\n".join(f"<li>{escape(note.text)}</li>" for note in tuning.notes)
        parts += ["<h2>Worth knowing</h2>", f'<ul class="notes">\n{notes}\n</ul>']
    parts += [
        f"<footer><p>Computed by <code>resilience tune</code> from {escape(source_words(tuning))}.</p></footer>",
        "</main>",
        "</body>",
        "</html>",
        "",
    ]
    return "\n".join(parts)


def _of_good_calls(outcome: Outcome) -> str:
    return f"{percent(outcome.false_rate)} of the good calls" if outcome.false else "no good call"


def _answer(heading: str, value: str, words: str) -> str:
    return (
        f"<div><h3>{escape(heading)}</h3><strong>{escape(value)}</strong>"
        f'<span class="soft">{escape(words)}</span></div>'
    )


def _figure(chart: Chart) -> str:
    keys = "".join(f"<li>{_key(layer)}{escape(layer.label)}</li>" for layer in chart.layers)
    return "\n".join([
        f"<h2>{escape(chart.title)}</h2>",
        "<figure>",
        f'<ul class="keys">{keys}</ul>',
        draw(chart, *_WIDE, "wide"),
        draw(chart, *_NARROW, "narrow"),
        "</figure>",
    ])  # fmt: skip


def _key(layer: object) -> str:
    """A small sample of how something is drawn."""
    style = getattr(layer, "style", "latency")
    if isinstance(layer, (Bars, Band, Stretch)):
        shape = f'<rect class="{type(layer).__name__.lower()} {style}" x="1" y="1" width="22" height="10" rx="2"/>'
    elif isinstance(layer, Dots):
        shape = f'<circle class="dot {style}" cx="12" cy="6" r="4.5"/>'
    else:
        shape = f'<path class="{type(layer).__name__.lower()} {style}" d="M1 6H23"/>'
    return f'<svg viewBox="0 0 24 12" aria-hidden="true">{shape}</svg>'


def _table(tuning: Tuning) -> list[str]:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in HEADINGS)
    parts = ["<table>", f"<thead><tr>{head}</tr></thead>", "<tbody>"]
    lines = [(row.recommended, cells(row)) for row in tuning.rows]
    lines.append((False, ("none at all", "\u2013", "0 %", "for ever", format_ns(tuning.without.mean_wait))))
    for best, (first, *rest) in lines:
        body = "".join(
            f'<td data-name="{escape(name)}">{escape(cell)}</td>' for name, cell in zip(HEADINGS[1:], rest, strict=True)
        )
        mark = ' class="best"' if best else ""
        parts.append(f'<tr{mark}><th scope="row">{escape(first)}</th>{body}</tr>')
    return [*parts, "</tbody>", "</table>"]
