"""The HTML page of a report: one self-contained file, for wide and narrow windows, in light and dark themes.

What a page holds is here; how it looks is in `templates/`, which escape every text.
"""

import base64
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2

from sacae.experiments.report.plots import Plot
from sacae.text import printable

MISSING = "–"
"""A cell without a value."""

LONG = 28
"""Characters of a cell from which on a column of words may break into lines."""


@dataclass(frozen=True)
class Column:
    """A column of a table: the key of its cells in a row, its heading, and its kind, a class of the style sheet."""

    key: str
    heading: str
    kind: str


@dataclass(frozen=True)
class Table:
    """Rows by key. A row with the key `group` is a heading for those below it; one with a true `own` is marked."""

    columns: list[Column]
    rows: list[dict[str, Any]]
    kind: str = "table"


@dataclass(frozen=True)
class Drawing:
    """A plot that follows the reader's theme, as URLs. alt: what it shows, in words."""

    light: str
    dark: str
    alt: str
    kind: str = "plot"


@dataclass(frozen=True)
class Picture:
    """An image as a URL. alt: what it shows, in words. width: the largest in CSS pixels."""

    source: str
    alt: str
    width: int
    kind: str = "picture"


@dataclass(frozen=True)
class Video:
    """A video as a URL, with a picture to show before it plays. width: the largest in CSS pixels."""

    source: str
    poster: str
    width: int
    kind: str = "video"


@dataclass(frozen=True)
class Warnings:
    """Lines about what is missing."""

    lines: Sequence[str]
    kind: str = "warning"


@dataclass(frozen=True)
class Card:
    """A box: a heading, its content, and a sentence below it. wide: as wide as the page."""

    title: str
    content: Table | Drawing | Picture | Video | Warnings
    caption: str = ""
    wide: bool = True


@dataclass
class Section:
    """A part of the page: its heading, lines of text, and its cards."""

    title: str
    notes: list[str] = field(default_factory=list)
    cards: list[Card] = field(default_factory=list)


@dataclass(frozen=True)
class Page:
    """The whole page. facts: large numbers, each with its label. notes: lines above the sections."""

    title: str
    subtitle: str
    facts: Sequence[tuple[str, str]]
    notes: Sequence[str]
    warnings: Card | None
    sections: Sequence[Section]

    def html(self) -> str:
        """The page as one file."""
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("sacae.experiments.report"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            finalize=lambda value: printable(value) if type(value) is str else value,  # but no finished HTML
        )
        environment.filters["words"] = words
        return environment.get_template("page.html").render(vars(self))


def plot(one: Plot) -> Card:
    """A plot, which contains its title."""
    light, dark = (data("image/svg+xml", one.svg[theme]) for theme in ("light", "dark"))
    return Card("", Drawing(light, dark, one.title), one.caption, wide=False)


def table(rows: Sequence[dict[str, Any]], headings: Mapping[str, str]) -> Table:
    """Rows as a table. headings: the heading of each key; one under which no row has a value is left out."""
    cells = {key: [words(row[key]) for row in rows if "group" not in row] for key in headings}
    columns = [
        Column(key, heading, _kind(cells[key])) for key, heading in headings.items() if {*cells[key]} != {MISSING}
    ]
    return Table(columns, [*rows])


def _kind(cells: Sequence[str]) -> str:
    if all(re.fullmatch(rf"-?[\d,.e+-]+%?|{MISSING}", cell) for cell in cells):
        return "number"
    return "long" if max(len(cell) for cell in cells) > LONG else ""


def data(kind: str, content: bytes) -> str:
    """Bytes as a data URL."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def words(value: Any) -> str:
    """A cell: a dash for a missing value, numbers with a readable number of digits."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"
    return str(value)
