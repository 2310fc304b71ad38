"""The HTML page of a report: one self-contained file, for wide and narrow windows, in light and dark themes."""

import base64
import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sacae.experiments.report.plots import Plot
from sacae.text import printable

STYLE = """
:root { color-scheme: light dark; --back: #f4f6f8; --card: #ffffff; --ink: #2b3038; --soft: #667080; --line: #e0e4e9;
  --accent: #2265b0; --own: #eaf2fb; }
@media (prefers-color-scheme: dark) { :root { --back: #12161b; --card: #1b2027; --ink: #dfe4ea; --soft: #97a2b0;
  --line: #313945; --accent: #7db4f0; --own: #1f2d3d; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI",
  Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 24px 16px 64px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 8px 0; } h2 { font-size: 1.35rem; margin: 48px 0 12px;
  overflow-wrap: anywhere; } h3 { font-size: 1rem; margin: 0 0 8px; overflow-wrap: anywhere; }
p { margin: 6px 0; } .soft, figcaption { color: var(--soft); font-size: .85rem; } a { color: var(--accent); }
nav { display: flex; flex-wrap: wrap; gap: 8px; margin: 16px 0 0; }
nav a { background: var(--card); border: 1px solid var(--line); border-radius: 999px; padding: 4px 12px;
  text-decoration: none; font-size: .9rem; overflow-wrap: anywhere; }
.facts { display: flex; flex-wrap: wrap; gap: 12px; margin: 16px 0; }
.facts div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 8px 16px;
  flex: 1 1 110px; } .facts b { display: block; font-size: 1.5rem; line-height: 1.2; }
.facts span { color: var(--soft); font-size: .85rem; }
.grid { display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px; margin: 0;
  min-width: 0; } .card.wide { margin: 16px 0; }
.card img, .card video { display: block; width: 100%; height: auto; border-radius: 6px; }
.card video { max-width: 1024px; background: #000; }
.strip { max-width: 820px; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .88rem; width: 100%;
  font-variant-numeric: tabular-nums; }
th, td { padding: 5px 12px 5px 0; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; } td.number, th.number { text-align: right; }
tr.own td { background: var(--own); font-weight: 600; } tr td:first-child, tr th:first-child { padding-left: 8px; }
.warning { border-left: 4px solid #d98a00; } code { font-size: .85em; overflow-wrap: anywhere; }
footer { margin-top: 48px; }
"""


@dataclass
class Section:
    """A part of the page: its heading and, in order, its pieces of HTML."""

    title: str
    pieces: list[str] = field(default_factory=list)


def page(title: str, introduction: Sequence[str], sections: Sequence[Section]) -> str:
    """The whole page. introduction: pieces of HTML above the sections."""
    links = "".join(f'<a href="#s{i}">{_html(section.title)}</a>' for i, section in enumerate(sections))
    body = "".join(
        f'<section id="s{i}"><h2>{_html(section.title)}</h2>{"".join(section.pieces)}</section>'
        for i, section in enumerate(sections)
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_html(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><main><h1>{_html(title)}</h1>{''.join(introduction)}<nav>{links}</nav>\n{body}</main></body></html>\n"
    )


def _html(text: str) -> str:
    """Plain text as HTML."""
    return html.escape(printable(text))


def facts(numbers: Iterable[tuple[str, str]]) -> str:
    """Large numbers, each above its label."""
    tiles = "".join(f"<div><b>{_html(n)}</b><span>{_html(what)}</span></div>" for n, what in numbers)
    return f'<div class="facts">{tiles}</div>'


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f'<p class="{kind}">{_html(text)}</p>'


def card(title: str, content: str, caption: str = "", kind: str = "wide") -> str:
    """A box with a heading. content is HTML, title and caption are plain text."""
    heading = f"<h3>{_html(title)}</h3>" if title else ""
    return f'<figure class="card {kind}">{heading}{content}<figcaption>{_html(caption)}</figcaption></figure>'


def listing(title: str, items: Sequence[str]) -> str:
    """A box of warnings, one line each."""
    lines = "".join(f"<li><code>{_html(item)}</code></li>" for item in items)
    return f'<div class="card wide warning"><h3>{_html(title)}</h3><ul>{lines}</ul></div>'


def grid(cards: Iterable[str]) -> str:
    """Boxes side by side if the window is wide enough."""
    return f'<div class="grid">{"".join(cards)}</div>'


def plot(one: Plot) -> str:
    """A plot that follows the reader's theme."""
    light, dark = (data("image/svg+xml", one.svg[theme]) for theme in ("light", "dark"))
    picture = (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{_html(one.title)}"></picture>'
    )
    return card("", picture, one.caption, kind="")  # the plot contains its title


def image(png: bytes, alt: str, kind: str = "") -> str:
    """A PNG."""
    return f'<img class="{kind}" src="{data("image/png", png)}" alt="{_html(alt)}">'


def video(source: str, poster: bytes) -> str:
    """A video from a URL or from `data`, with a picture to show before it plays."""
    return (
        f'<video controls loop muted playsinline preload="metadata" poster="{data("image/jpeg", poster)}" '
        f'src="{_html(source)}"></video>'
    )


def data(kind: str, content: bytes) -> str:
    """Bytes as a data URL."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def table(rows: Sequence[dict[str, Any]], columns: dict[str, str], own: str | None = None) -> str:
    """Rows as a table. columns: the heading of each key. own: key of a boolean that highlights a row."""
    numeric = {key for key in columns if all(isinstance(row[key], int | float | None) for row in rows)}
    kinds = {key: ' class="number"' if key in numeric else "" for key in columns}
    head = "".join(f"<th{kinds[key]}>{_html(name)}</th>" for key, name in columns.items())
    lines = []
    for row in rows:
        cells = "".join(f"<td{kinds[key]}>{_html(words(row[key]))}</td>" for key in columns)
        lines.append(f"<tr{' class=own' if own and row[own] else ''}>{cells}</tr>")
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def words(value: Any) -> str:
    """A cell: a dash for a missing value, numbers with a readable number of digits."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"
    return str(value)
