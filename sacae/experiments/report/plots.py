"""The plots of a report, each in a light and a dark version: curves, profiles, probabilities, throughput."""

import io
import math
import textwrap
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from sacae.experiments.report import published
from sacae.experiments.report.tables import Row
from sacae.text import shortened
from sacae.training.figures import DPI, PUBLISHED, THEMES, Style, count, legend_below, short

WIDTH, HEIGHT = 4.2, 3.1
"""Size in inches; small, so that text is readable on a phone that shows a plot 360 pixels wide."""

LINE = 0.16
"""Inches of a line of the legend or of a name above a bar."""

LEGEND, ABOVE, TITLE = 56, 58, 48
"""Maximum characters in a line of the legend, of a name above a bar, and of a title."""

LONGEST_NAME = 200
"""Characters of an arm's name in a plot; a longer one has dots in its middle."""

DASHES = ("--", ":", "-.", (0, (1, 3)), (0, (6, 2)), (0, (4, 1, 1, 1)))
MARKS = ("x", "+", "*", "d", "v", "^")

BANDS = "bands: 95% bootstrap intervals"
GREY = "grey: published means"


@dataclass(frozen=True)
class Plot:
    """A plot as files: SVG in both themes, PNG in the light one. caption: one sentence that describes it."""

    title: str
    caption: str
    svg: dict[str, bytes]
    png: bytes


def render(title: str, caption: str, draw: Callable[[Axes], None], height: float = HEIGHT) -> Plot:
    """Draws on new axes, once for each theme. Every plot has one width, so that all have letters of one size."""
    svg, png = {}, b""
    for theme, settings in THEMES.items():
        with matplotlib.rc_context(settings):
            figure = Figure(figsize=(WIDTH, height), layout="constrained")
            axis = figure.subplots()
            draw(axis)
            figure.suptitle(textwrap.fill(title, TITLE), fontsize=10)
            svg[theme] = _save(figure, "svg", metadata={"Date": None})
            if theme == "light":
                png = _save(figure, "png", dpi=DPI)
    return Plot(title, caption, svg, png)


def _save(figure: Figure, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format=kind, **options)
    return file.getvalue()


def label(arm: str, seeds: int) -> str:
    """An arm's name with its number of seeds."""
    return f"{shortened(arm, LONGEST_NAME)} ({count(seeds, 'seed')})"


def _wrapped(text: str, width: int) -> str:
    """A label broken into lines."""
    too_long = len(text) > LONGEST_NAME  # an ordinary setting may stick out a little
    return "\n".join(textwrap.wrap(text, width, break_long_words=too_long, break_on_hyphens=False))


def curves(
    task: str,
    rows: Sequence[Row],
    seeds: Sequence[Row],
    statistic: str,
    over: str,
    style: dict[str, Style],
    observations: Collection[str],
) -> Plot:
    """Learning curves of a task from rows of `curves`, with thin lines from rows of `seeds`.

    statistic: mean or iqm. over: env_step or hours. observations: see `published.curves`.
    """
    named = {"mean": "mean", "iqm": "interquartile mean"}[statistic]
    unit = {"env_step": "environment steps", "hours": "hours"}[over]
    end = max(row["env_step"] for row in rows)
    theirs = shown(published.curves(task, observations), end) if over == "env_step" else []

    def draw(axis: Axes) -> None:
        for arm in _arms(rows):
            own = [row for row in rows if row["arm"] == arm]
            x = [row[over] for row in own]
            y, name = [row[statistic] for row in own], _wrapped(label(arm, own[0]["seeds"]), LEGEND)
            axis.plot(x, y, label=name, linewidth=1.8, **style[arm])
            _band(axis, x, own, statistic, style[arm])
            if own[0]["seeds"] > 1:
                _thin_lines(axis, [row for row in seeds if row["arm"] == arm], over, style[arm])
        published_curves(axis, theirs, end)
        axis.set(xlabel=unit, ylabel=f"return, {named}")
        _finish(axis, [*_what_lines_mean(rows, statistic), *([GREY] if theirs else [])], steps=over == "env_step")

    caption = (
        f"{named.capitalize()} over seeds of the evaluations' returns, by {unit}"
        f"{'; hours are the mean over seeds' if over == 'hours' else ''}. {_about_bands(rows)}"
    )
    entries = len(_arms(rows)) + len(theirs)
    height = HEIGHT + LINE * max(0, entries - 2)  # a long legend does not make the plot smaller
    title = f"{task}: {named if statistic == 'mean' else 'IQM'} over {unit}"
    return render(title, caption, draw, height)


def _arms(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["arm"] for row in rows))


def _band(axis: Axes, x: Sequence[float], rows: Sequence[Row], name: str, style: Style, **options: Any) -> None:
    """The interval, where there is one."""
    if not math.isnan(rows[0][f"{name}_low"]):
        low, high = [row[f"{name}_low"] for row in rows], [row[f"{name}_high"] for row in rows]
        axis.fill_between(x, low, high, color=style["color"], alpha=0.22, linewidth=0, **options)


def _thin_lines(axis: Axes, rows: Sequence[Row], over: str, style: Style) -> None:
    for seed in dict.fromkeys(row["seed"] for row in rows):
        own = [row for row in rows if row["seed"] == seed]
        x, y = [row[over] for row in own], [row["episode_return"] for row in own]
        axis.plot(x, y, color=style["color"], alpha=0.35, linewidth=0.7)


def shown(curves: Sequence[published.Curve], end: float) -> list[published.Curve]:
    """The published curves that say something about runs of this length: those with a point after step 0."""
    return [curve for curve in curves if any(0 < step <= end for step, _ in curve.points())]


def published_curves(axis: Axes, curves: Sequence[published.Curve], end: float) -> None:
    """The mean of each published learning curve, up to the length of our own; a single point is a marker."""
    for curve, dashes, mark in zip(shown(curves, end), DASHES, MARKS):
        points = [(step, value) for step, value in curve.points() if step <= end]
        name = f"{curve.name} ({count(len(curve.seeds), 'seed')})"
        shape = {"linestyle": dashes} if len(points) > 1 else {"linestyle": "none", "marker": mark}
        axis.plot(*zip(*points), color=PUBLISHED, linewidth=1.1, label=name, **shape)


def _what_lines_mean(rows: Sequence[Row], name: str) -> list[str]:
    """Notes for the picture itself, which is also seen without its caption."""
    bands = any(not math.isnan(row[f"{name}_low"]) for row in rows)
    return [*([BANDS] if bands else []), *(["thin: single seeds"] if any(row["seeds"] > 1 for row in rows) else [])]


def _about_bands(rows: Sequence[Row]) -> str:
    seeds = sorted({row["seeds"] for row in rows})
    parts = []
    if seeds[-1] >= 3:
        parts.append("Bands are 95% stratified bootstrap intervals over seeds.")
    if seeds[0] < 3:
        parts.append("Arms with fewer than 3 seeds have no interval.")
    return " ".join(parts)


def profile(task: str, rows: Sequence[Row], style: dict[str, Style], where: str) -> Plot:
    """Performance profile: the share of runs above each return. It changes at the returns themselves, in steps."""

    def draw(axis: Axes) -> None:
        for arm in _arms(rows):
            own = [row for row in rows if row["arm"] == arm]
            x, y = [row["threshold"] for row in own], [row["share"] for row in own]
            name = _wrapped(label(arm, own[0]["seeds"]), LEGEND)
            look = {key: style[arm][key] for key in ("color", "linestyle")}
            axis.step(x, y, where="post", linewidth=1.8, label=name, **look)
            _band(axis, x, own, "share", style[arm], step="post")
        axis.set(xlabel="episode return τ", ylabel="share of runs above τ", ylim=(-0.03, 1.03))
        _finish(axis, [BANDS] if any(not math.isnan(row["share_low"]) for row in rows) else [])

    return render(
        f"{task}: performance profile",
        f"Share of runs whose return {where} is above τ. {_about_bands(rows)}",
        draw,
        HEIGHT + LINE * max(0, len(_arms(rows)) - 2),
    )


def improvement(task: str, rows: Sequence[Row], where: str) -> Plot:
    """Probability of improvement of each arm over each later one."""
    names = [
        _wrapped(f"{label(row['arm'], row['seeds'])} > {label(row['other'], row['other_seeds'])}", ABOVE)
        for row in rows
    ]

    def draw(axis: Axes) -> None:
        colour = axis.xaxis.label.get_color()
        for i, row in enumerate(rows):
            if not math.isnan(row["probability_low"]):
                axis.plot([row["probability_low"], row["probability_high"]], [i, i], color=colour, linewidth=4,
                          alpha=0.3, solid_capstyle="butt")  # fmt: skip
            axis.plot(row["probability"], i, "o", color=colour, markersize=5)
        axis.axvline(0.5, color=PUBLISHED, linewidth=1, linestyle="--")
        axis.set(xlim=(-0.03, 1.03), xlabel="probability of improvement; bars: 95% bootstrap intervals")
        _name_rows(axis, names)

    caption = (
        f"Probability that a run of the first arm has a higher return {where} than one of the second. Bars are 95% "
        "stratified bootstrap intervals."
    )
    return render(f"{task}: probability of improvement", caption, draw, _height_of_rows(names))


def throughput(task: str, rows: Sequence[Row], style: dict[str, Style]) -> Plot | None:
    """Environment steps a second of each arm; None where nothing was measured."""
    measured = [row for row in rows if not math.isnan(row["env_steps_per_second"])]
    if not measured:
        return None
    names = [_wrapped(label(row["arm"], row["seeds"]), ABOVE) for row in measured]

    def draw(axis: Axes) -> None:
        for i, row in enumerate(measured):
            axis.barh(i, row["env_steps_per_second"], color=style[row["arm"]]["color"], height=0.36)
        axis.set(xlabel="environment steps per second, mean over seeds")
        _name_rows(axis, names)

    caption = "Median over training episodes in which updates were made, evaluations not counted; mean over seeds."
    return render(f"{task}: throughput", caption, draw, _height_of_rows(names))


def _name_rows(axis: Axes, names: Sequence[str]) -> None:
    """Writes a name above each row, where it takes no width from the plot and lies on no bar."""
    behind = {"facecolor": axis.get_facecolor(), "edgecolor": "none", "pad": 0.5}  # no line runs through a name
    for i, name in enumerate(names):
        axis.annotate(name, (0, i - 0.24), xycoords=("axes fraction", "data"), va="bottom", fontsize=7.5, bbox=behind)
    axis.set_ylim(len(names) - 0.7, -0.3 - 0.45 * _lines(names))
    axis.set_yticks([])
    axis.grid(visible=False, axis="y")
    axis.spines["left"].set_visible(False)


def _height_of_rows(names: Sequence[str]) -> float:
    return 1.0 + (0.22 + LINE * _lines(names)) * len(names)


def _lines(names: Sequence[str]) -> int:
    return max(name.count("\n") + 1 for name in names)


def _finish(axis: Axes, notes: Sequence[str], steps: bool = False) -> None:
    """Sets ticks that do not overlap, and the legend with its notes."""
    axis.xaxis.set_major_locator(MaxNLocator(5))
    if steps:
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    legend_below(axis.figure.figure, "; ".join(notes))
