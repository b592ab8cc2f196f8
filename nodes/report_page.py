"""A report as one HTML page: no script, no request, all text escaped. Plain Python; knows no graph and no measure.

It reads well in light and dark, on paper and on a phone, where the rows of a table become cards.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from kineograph.nodes.scores import Score

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What the page may do, as the browser enforces it: show what is inside of it."""
STYLE = """
:root { color-scheme: light dark; --ink: #1c1b19; --soft: #6b6862; --line: #dedad2; --paper: #fbfaf7; --card: #fff;
  --mark: #b4451f; --span: #e5b9a5; --good: #2e7d4f; }
@media (prefers-color-scheme: dark) { :root { --ink: #ebe8e1; --soft: #a09c93; --line: #3a3833; --paper: #191816;
  --card: #211f1c; --mark: #f0885e; --span: #6f4331; --good: #6fc492; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 64rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; letter-spacing: -.01em; }
h2 { font-size: 1.25rem; margin: 3rem 0 .25rem; }
p { margin: .25rem 0 1rem; max-width: 46rem; }
.soft, small { color: var(--soft); }
small { font-size: .8125rem; line-height: 1.4; }
.inputs { display: flex; flex-wrap: wrap; gap: .375rem; padding: 0; margin: 1rem 0; list-style: none; }
.inputs li { border: 1px solid var(--line); border-radius: 1rem; padding: .0625rem .625rem; font-size: .8125rem;
  overflow-wrap: anywhere; }
table { width: 100%; table-layout: fixed; border-collapse: collapse; font-variant-numeric: tabular-nums;
  background: var(--card); border: 1px solid var(--line); border-radius: .5rem; overflow: hidden; }
th, td { padding: .625rem .875rem; text-align: left; vertical-align: top; border-top: 1px solid var(--line); }
thead th { border-top: 0; color: var(--soft); font-weight: 500; font-size: .8125rem; }
thead th:nth-child(1) { width: 36%; }
thead th:nth-child(2) { width: 18%; }
thead th:nth-child(3) { width: 16%; }
thead th:nth-child(5) { width: 9%; }
tbody th { font-weight: 600; }
tbody th small { display: block; font-weight: 400; }
td.value b { font-size: 1.125rem; }
td small { display: block; }
td.number { white-space: nowrap; }
.scale svg { display: block; width: 100%; height: 1.5rem; margin-top: .125rem; overflow: visible; }
.scale .line { stroke: var(--line); stroke-width: 3; stroke-linecap: round; }
.scale .span { stroke: var(--span); stroke-width: 7; stroke-linecap: round; }
.scale .mark { fill: var(--mark); }
.scale .real { fill: var(--good); }
.clips { display: grid; gap: .875rem; margin-top: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 0; }
img { display: block; width: 100%; height: auto; image-rendering: pixelated; border-radius: .25rem; }
figcaption { font-size: .8125rem; color: var(--soft); margin-top: .25rem; }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); }
@media (max-width: 44rem) {
  main { padding: 1.5rem 1rem 3rem; }
  thead { position: absolute; clip-path: inset(50%); }
  table, tbody, tr, th, td { display: block; }
  table { background: none; border: 0; border-radius: 0; }
  tr { display: grid; grid-template-columns: 1fr 1fr; border: 1px solid var(--line); border-radius: .5rem;
    background: var(--card); padding: .5rem 0; margin-bottom: .75rem; }
  th, td { border: 0; padding: .25rem .875rem; }
  tbody th, .value, .scale { grid-column: 1 / -1; }
  td[data-name] { order: 1; }
  td.real { text-align: right; }
  td[data-name]::before { content: attr(data-name); display: block; font-size: .8125rem; color: var(--soft); }
}
@media print { body { background: none; } h2 { break-after: avoid; } tr, figure { break-inside: avoid; } }
"""
LEGEND = """
In brackets is the interval that holds the true value 95 times in 100, by the draw of the clips: Wilson's for shares,
the bootstrap's for means and ratios, the jackknife's for distances. <i>Real</i> is what clips of the world give;
<i>broken</i> is what they give after what is named was done to them. The line goes from there to real, and the dot is
what was measured.
"""


@dataclass(frozen=True)
class Picture:
    """A PNG and what is written below it."""

    png: bytes
    caption: str
    width: int
    height: int


@dataclass(frozen=True)
class Part:
    """A titled part of a page: numbers and pictures."""

    title: str
    about: str
    rows: Sequence[Score]
    pictures: Sequence[Picture] = ()


def page(title: str, about: str, inputs: Mapping[str, object], parts: Sequence[Part]) -> str:
    """The whole page.

    Args:
        title: of the page.
        about: what was run, in a sentence or two.
        inputs: what it was run with.
        parts: from top to bottom.
    """
    chips = "".join(f"<li>{_text(name)} <b>{_text(value)}</b></li>" for name, value in inputs.items())
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{STYLE}</style></head>\n<body><main><h1>{_text(title)}</h1>"
        f"<p>{_text(about)}</p>{f'<ul class=inputs>{chips}</ul>' if chips else ''}\n"
        f"{''.join(_part(part) for part in parts)}"
        f"<footer><small>{LEGEND}</small></footer></main></body></html>\n"
    )


def _part(part: Part) -> str:
    about = f"<p class=soft>{_text(part.about)}</p>" if part.about else ""
    table = ""
    if part.rows:
        heads = ("what", "measured", "broken", "from there to real", "real")
        table = (
            f"<table><thead><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr></thead>"
            f"<tbody>{''.join(_row(row) for row in part.rows)}</tbody></table>"
        )
    clips = "".join(_figure(picture) for picture in part.pictures)
    return (
        f"<section><h2>{_text(part.title)}</h2>{about}{table}{clips and f'<div class=clips>{clips}</div>'}</section>\n"
    )


def _row(row: Score) -> str:
    if math.isfinite(row.value):
        clips = f"{row.count} clip{'' if row.count == 1 else 's'}"
        measured = f"<b>{number(row.value)}</b> <small>[{number(row.low)}, {number(row.high)}]<br>{clips}</small>"
    else:
        measured = "<b>–</b> <small>no clip could be measured</small>"
    how = f"<small>{_text(row.how)}</small>" if row.broken is not None and row.how else ""
    return (
        f"<tr><th scope=row>{_text(row.name)}<small>{_text(row.about)}</small></th>"
        f'<td class="value number">{measured}</td><td data-name=broken>{number(row.broken)}{how}</td>'
        f'<td class=scale>{_scale(row)}</td><td class="real number" data-name=real>{number(row.real)}</td></tr>'
    )


def _scale(row: Score) -> str:
    """A line from broken to real with the interval and the value on it; nothing where one of them is not known."""
    real, broken = row.real, row.broken
    if real is None or broken is None or real == broken or not math.isfinite(row.value):
        return ""

    def place(value: float) -> float:
        return 100 * min(1.0, max(0.0, (value - broken) / (real - broken)))

    low, high, middle = place(row.low), place(row.high), place(row.value)
    said = f"{number(row.value)} between {number(broken)}, broken, and {number(real)}, real"
    return (
        f'<svg role=img aria-label="{said}"><line class=line x1="0" x2="100%" y1="50%" y2="50%"/>'
        f'<line class=span x1="{low:.1f}%" x2="{high:.1f}%" y1="50%" y2="50%"/>'
        f'<circle class=real cx="100%" cy="50%" r="3"/><circle class=mark cx="{middle:.1f}%" cy="50%" r="6"/></svg>'
    )


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode()
    size = f'width="{picture.width}" height="{picture.height}"'
    caption = f"<figcaption>{_text(picture.caption)}</figcaption>" if picture.caption else ""
    alt = _text(picture.caption or "frames of a clip")
    return f'<figure><img src="data:image/png;base64,{data}" {size} alt="{alt}">{caption}</figure>'


def number(value: float | None) -> str:
    """Three digits that say something, as people write them; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 2 if abs(value) >= 0.095 else 4)}f}".replace("-", "−")


def _text(value: object) -> str:
    return escape(str(value), quote=True)
