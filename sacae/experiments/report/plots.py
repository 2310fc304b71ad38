"""The plots of a report, each in a light and a dark version: curves, profiles, probabilities, throughput."""

import io
import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from sacae.experiments.report import published
from sacae.experiments.report.tables import Row
from sacae.text import shortened

SIZE = (4.6, 3.3)
"""Size in inches; small, so that text is readable on a phone that shows a plot 360 pixels wide."""

LEGEND, TICK, TITLE = 64, 34, 54
"""Maximum characters in a line of the legend, of a label at an axis, and of a title."""

LONGEST_NAME = 200
"""Characters of an arm's name in a plot; a longer one has dots in its middle."""

COLOURS = ("#2f7fd1", "#e07b00", "#1a9c6b", "#c4499a", "#8a63d2", "#c23b3b", "#7d8a1e", "#3aa6b9")
MARKERS = "os^Dv<>P"
DASHES = ("--", ":", "-.", (0, (1, 3)), (0, (6, 2)), (0, (4, 1, 1, 1)))
MARKS = ("x", "+", "*", "d", "v", "^")

COMMON = {
    "font.size": 9, "axes.titlesize": 10, "legend.fontsize": 7.5, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.linewidth": 0.6, "svg.hashsalt": "sacae", "legend.frameon": False,
    "text.parse_math": False,  # names are no formulas
}  # fmt: skip
THEMES = {
    "light": COMMON | {"figure.facecolor": "#ffffff", "axes.facecolor": "#ffffff", "grid.color": "#e3e6ea"}
    | dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), "#2b3038"),
    "dark": COMMON | {"figure.facecolor": "#1b2027", "axes.facecolor": "#1b2027", "grid.color": "#313945"}
    | dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), "#dfe4ea"),
}  # fmt: skip
PUBLISHED_COLOUR = "#8b939e"


Style = dict[str, Any]
"""Keywords of Axes.plot that say how an arm looks."""


@dataclass(frozen=True)
class Plot:
    """A plot as files: SVG in both themes, PNG in the light one. caption: one sentence that describes it."""

    title: str
    caption: str
    svg: dict[str, bytes]
    png: bytes


def render(title: str, caption: str, draw: Callable[[Axes], None], height: float = SIZE[1]) -> Plot:
    """Draws on new axes, once for each theme."""
    svg, png = {}, b""
    for theme, settings in THEMES.items():
        with matplotlib.rc_context(settings):  # type: ignore[arg-type]  # the names of settings are no str to it
            figure = Figure(figsize=(SIZE[0], height), layout="constrained")
            axis = figure.subplots()
            draw(axis)
            figure.suptitle(textwrap.fill(title, TITLE), fontsize=10)
            svg[theme] = _save(figure, "svg", metadata={"Date": None})
            if theme == "light":
                png = _save(figure, "png", dpi=160)
    return Plot(title, caption, svg, png)


def _save(figure: Figure, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format=kind, **options)
    return file.getvalue()


def styles(arms: Sequence[str]) -> dict[str, Style]:
    """A colour and a marker for each arm, the same in every plot of a report."""
    return {
        arm: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i // len(COLOURS) % len(MARKERS)], "markersize": 3}
        for i, arm in enumerate(arms)
    }


def label(arm: str, seeds: int) -> str:
    """An arm's name with its number of seeds."""
    return f"{shortened(arm, LONGEST_NAME)} ({count(seeds, 'seed')})"


def _wrapped(arm: str, seeds: int, width: int) -> str:
    """`label` broken into lines that leave enough width for the plot."""
    too_long = len(arm) > LONGEST_NAME  # an ordinary setting may stick out a little
    return "\n".join(textwrap.wrap(label(arm, seeds), width, break_long_words=too_long, break_on_hyphens=False))


def count(number: int, noun: str) -> str:
    """'1 seed', '3 seeds'."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def curves(
    task: str, rows: Sequence[Row], seeds: Sequence[Row], statistic: str, over: str, style: dict[str, Style]
) -> Plot:
    """Learning curves of a task from rows of `curves`, with thin lines from rows of `seeds`.

    statistic: mean or iqm. over: env_step or hours.
    """
    named = {"mean": "mean", "iqm": "interquartile mean"}[statistic]
    unit = {"env_step": "environment steps", "hours": "hours"}[over]

    def draw(axis: Axes) -> None:
        for arm in _arms(rows):
            own = [row for row in rows if row["arm"] == arm]
            x = [row[over] for row in own]
            y, name = [row[statistic] for row in own], _wrapped(arm, own[0]["seeds"], LEGEND)
            axis.plot(x, y, label=name, linewidth=1.8, **style[arm])
            _band(axis, x, own, statistic, style[arm])
            if own[0]["seeds"] > 1:
                _thin_lines(axis, [row for row in seeds if row["arm"] == arm], over, style[arm])
        if over == "env_step":
            published_curves(axis, task, max(row["env_step"] for row in rows))
        axis.set(xlabel=unit, ylabel=f"return, {named}")
        _finish(axis, steps=over == "env_step")

    caption = (
        f"{named.capitalize()} over seeds of the evaluations' returns, by {unit}"
        f"{'; hours are the mean over seeds' if over == 'hours' else ''}. "
        f"{'Thin lines are single seeds. ' if any(row['seeds'] > 1 for row in rows) else ''}{_what_bands_mean(rows)}"
    )
    entries = len(_arms(rows)) + (len(published.curves(task)) if over == "env_step" else 0)
    height = SIZE[1] + 0.16 * max(0, entries - 3)  # a long legend does not make the plot smaller
    return render(f"{task}: {named} over {unit}", caption, draw, height)


def _arms(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["arm"] for row in rows))


def _band(axis: Axes, x: Sequence[float], rows: Sequence[Row], name: str, style: Style) -> None:
    """The interval, where there is one."""
    if not math.isnan(rows[0][f"{name}_low"]):
        low, high = [row[f"{name}_low"] for row in rows], [row[f"{name}_high"] for row in rows]
        axis.fill_between(x, low, high, color=style["color"], alpha=0.22, linewidth=0)


def _thin_lines(axis: Axes, rows: Sequence[Row], over: str, style: Style) -> None:
    for seed in dict.fromkeys(row["seed"] for row in rows):
        own = [row for row in rows if row["seed"] == seed]
        x, y = [row[over] for row in own], [row["episode_return"] for row in own]
        axis.plot(x, y, color=style["color"], alpha=0.35, linewidth=0.7)


def published_curves(axis: Axes, task: str, end: float) -> None:
    """The mean of each published learning curve, up to the length of our own; a single point is a marker."""
    for curve, dashes, mark in zip(published.curves(task), DASHES, MARKS):
        points = [(step, value) for step, value in curve.points() if step <= end]
        if points:
            name = f"{curve.name}, published ({count(len(curve.seeds), 'seed')})"
            shape = {"linestyle": dashes} if len(points) > 1 else {"linestyle": "none", "marker": mark}
            axis.plot(*zip(*points), color=PUBLISHED_COLOUR, linewidth=1.1, label=name, **shape)


def _what_bands_mean(rows: Sequence[Row]) -> str:
    seeds = sorted({row["seeds"] for row in rows})
    parts = []
    if seeds[-1] >= 3:
        parts.append("Bands are 95% stratified bootstrap intervals.")
    if seeds[0] < 3:
        parts.append("Arms with fewer than 3 seeds have no interval.")
    return " ".join(parts)


def profile(task: str, rows: Sequence[Row], style: dict[str, Style], where: str) -> Plot:
    """Performance profile: the share of runs above each return."""

    def draw(axis: Axes) -> None:
        for arm in _arms(rows):
            own = [row for row in rows if row["arm"] == arm]
            x = [row["threshold"] for row in own]
            y = [row["share"] for row in own]
            axis.plot(x, y, color=style[arm]["color"], linewidth=1.8,
                      label=_wrapped(arm, own[0]["seeds"], LEGEND))  # fmt: skip
            _band(axis, x, own, "share", style[arm])
        axis.set(xlabel="episode return τ", ylabel="share of runs above τ", ylim=(-0.03, 1.03))
        _finish(axis)

    return render(
        f"{task}: performance profile",
        f"Share of runs whose return {where} is above τ. {_what_bands_mean(rows)}",
        draw,
    )


def improvement(task: str, rows: Sequence[Row], where: str) -> Plot:
    """Probability of improvement of each arm over each later one."""
    names = [
        f"{_wrapped(row['arm'], row['seeds'], TICK)}\n> {_wrapped(row['other'], row['other_seeds'], TICK)}"
        for row in rows
    ]
    lines = max(name.count("\n") + 1 for name in names)

    def draw(axis: Axes) -> None:
        for i, row in enumerate(rows):
            if not math.isnan(row["probability_low"]):
                axis.plot([row["probability_low"], row["probability_high"]], [i, i], color=COLOURS[0], linewidth=5,
                          alpha=0.35, solid_capstyle="butt")  # fmt: skip
            axis.plot(row["probability"], i, "o", color=COLOURS[0], markersize=5)
        axis.axvline(0.5, color=PUBLISHED_COLOUR, linewidth=1, linestyle="--")
        axis.set(xlim=(-0.03, 1.03), xlabel="probability of improvement", yticks=range(len(rows)), yticklabels=names)
        axis.set_ylim(len(rows) - 0.5, -0.5)
        axis.tick_params(axis="y", labelsize=7.5)

    least = min(min(row["seeds"], row["other_seeds"]) for row in rows)
    bars = "Bars are 95% stratified bootstrap intervals" + (
        ", drawn from 3 seeds of both arms on." if least < 3 else "."
    )
    caption = f"Probability that a run of the first arm has a higher return {where} than one of the second. {bars}"
    return render(
        f"{task}: probability of improvement", caption, draw, max(2.0, 0.9 + (0.15 + 0.14 * lines) * len(rows))
    )


def throughput(task: str, rows: Sequence[Row], style: dict[str, Style]) -> Plot | None:
    """Environment steps a second of each arm; None where nothing was measured."""
    measured = [row for row in rows if not math.isnan(row["env_steps_per_second"])]
    if not measured:
        return None

    def draw(axis: Axes) -> None:
        for i, row in enumerate(measured):
            axis.barh(i, row["env_steps_per_second"], color=style[row["arm"]]["color"], height=0.6)
        names = [_wrapped(row["arm"], row["seeds"], TICK) for row in measured]
        axis.set(xlabel="environment steps per second", yticks=range(len(measured)), yticklabels=names)
        axis.set_ylim(len(measured) - 0.5, -0.5)
        axis.tick_params(axis="y", labelsize=7.5)

    caption = "Median over training episodes in which updates were made, evaluations not counted; mean over seeds."
    return render(f"{task}: throughput", caption, draw, max(1.8, 0.9 + 0.4 * len(measured)))


def _finish(axis: Axes, steps: bool = False) -> None:
    """Sets ticks that do not overlap, and puts the legend below the plot, where it covers nothing."""
    axis.xaxis.set_major_locator(MaxNLocator(5))
    if steps:
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axis.figure.legend(loc="outside lower center", ncols=1)


def _short(value: float) -> str:
    """40000 as 40k, 1500000 as 1.5M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
