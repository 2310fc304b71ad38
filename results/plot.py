"""Draws every evaluation file of a folder: a panel for each task, a curve for each algorithm.

    python results/plot.py results/heads
    python results/plot.py results/state

`tables.py` draws those of an experiment together.

Reads FOLDER/<task>/<name>.csv, which holds the eval.csv of one run folder, or of several seeds one after another, and
writes FOLDER/<task>.png. A curve is the mean over the seeds of each evaluation's mean. The band is one standard
deviation over the seeds; of a single seed, over the episodes of an evaluation. Grey are the published curves of a task
of DeepMind Control, as far as our own go. Each algorithm has the colour that it has in every picture.
"""

import csv
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from sacae.experiments.report import published
from sacae.experiments.report.plots import DASHES, GREY, MARKS, published_curves, shown
from sacae.training.figures import DPI, PUBLISHED, REFERENCE, THEMES, algorithm, count, legend_right, short, styles

Returns = dict[int, dict[str, list[float]]]
"""Returns of the episodes of each evaluation, by environment step and seed."""


def evaluations(path: Path) -> Returns:
    """What an evaluation file holds."""
    returns: Returns = defaultdict(lambda: defaultdict(list))
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            if row["env_step"] != "env_step":  # the header of the next seed's file
                returns[int(row["env_step"])][row["seed"]].append(float(row["episode_return"]))
    return dict(sorted(returns.items()))


def evaluation_files(folder: Path) -> list[Path]:
    """A task's evaluation files; a folder of another experiment has none."""
    return [path for path in sorted(folder.glob("*.csv")) if "env_step" in path.open().readline().split(",")]


def variant(path: Path) -> str:
    """The variant of the runs in an evaluation file, such as sac-rae."""
    with open(path, newline="") as file:
        return next(csv.DictReader(file))["agent"]


def arm(path: Path) -> str:
    """An arm's name that says which algorithm it is: the file's where it names another than its runs' variant."""
    found = variant(path)
    return f"{found} {path.stem}" if algorithm(path.stem) in (found.partition("-")[0], path.stem) else path.stem


Curve = tuple[np.ndarray, np.ndarray, np.ndarray, int]


def curve(returns: Returns) -> Curve:
    """Steps, mean and spread of the evaluations that all seeds have, and the number of seeds."""
    seeds = max(map(len, returns.values()))
    whole = {step: of_step for step, of_step in returns.items() if len(of_step) == seeds}
    samples = [
        [np.mean(episodes) for episodes in of_step.values()] if seeds > 1 else next(iter(of_step.values()))
        for of_step in whole.values()
    ]
    mean = np.array([np.mean(values) for values in samples])
    std = np.array([np.std(values, ddof=1 if seeds > 1 else 0) for values in samples])
    return np.array([*whole]), mean, std, seeds


@matplotlib.rc_context(THEMES["light"])
def draw(folder: Path) -> Path:
    """The picture of one task."""
    figure = Figure(figsize=(6.6, 3.1), layout="constrained")
    panel = figure.subplots()
    curves = {path: curve(evaluations(path)) for path in evaluation_files(folder)}
    plot_curves(panel, curves, {path: f"{path.stem} ({count(seeds, 'seed')})" for path, (*_, seeds) in curves.items()})
    lengths = [steps[-1] for steps, *_ in curves.values()]
    later = [step for steps, *_ in curves.values() for step in steps if step > 0]
    if later and max(lengths) >= 5 * min(lengths):  # or the short runs would be a line at the left
        panel.set_xscale("symlog", linthresh=min(later))
    panel.set(title=folder.name, xlabel="environment steps", ylabel="episode return")
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    observations = {"pixels" if re.search("-(?!state$)", variant(path)) else "state" for path in curves}
    theirs = shown(published.curves(folder.name, observations), max(lengths))
    published_curves(panel, theirs, max(lengths))
    legend_right(figure, bands(curves.values()) + (f"; {GREY}" if theirs else ""))
    picture = folder.with_suffix(".png")
    figure.savefig(picture, dpi=DPI)
    return picture


@matplotlib.rc_context(THEMES["light"])
def draw_together(folder: Path, tasks: Sequence[str], labels: Mapping[str, str], compared: Sequence[str]) -> Path:
    """The picture of an experiment: a panel for each task with runs.

    labels: of the arms, by the names of their files. compared: algorithms whose published curves are drawn. Returns of
    these tasks are never negative. Raises ValueError if no task has runs.
    """
    tasks = [task for task in tasks if (folder / task).is_dir()]
    if not tasks:
        raise ValueError(f"{folder} has no runs to draw")
    columns = min(len(tasks), 2)
    rows = -(-len(tasks) // columns)
    figure = Figure(figsize=(7.2, 0.6 + 2.3 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    notes: dict[str, None] = {}
    for number, (task, panel) in enumerate(zip(tasks, panels)):
        files = [folder / task / f"{arm}.csv" for arm in labels]
        curves = {path: curve(evaluations(path)) for path in files if path.exists()}
        plot_curves(panel, curves, {path: labels[path.stem] for path in curves})
        end = max(steps[-1] for steps, *_ in curves.values())
        _plot_published(panel, task, compared, end)
        seeds = sorted({seeds for *_, seeds in curves.values()})
        number_of_seeds = " or ".join(map(str, seeds)) + (" seed" if seeds == [1] else " seeds")
        panel.set(title=f"{task} ({number_of_seeds})", xlim=(0, end), ylim=(0, None))
        panel.set(xlabel="environment steps" if number + columns >= len(tasks) else "")
        panel.set(ylabel="" if number % columns else "episode return")
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        notes[bands(curves.values())] = None
    for panel in panels:
        panel.set_axis_off()
    entries = {
        name: line for panel in figure.axes for line, name in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        entries.values(), entries, loc="outside lower center", ncols=min(len(entries), 4), title=", ".join(notes),
        title_fontsize=7.5,
    )  # fmt: skip
    picture = folder.with_suffix(".png")
    figure.savefig(picture, dpi=DPI)
    return picture


def _plot_published(panel: Axes, task: str, names: Sequence[str], end: float) -> None:
    """The published mean of each algorithm up to a step, in grey, with the same line in every panel."""
    for name, dashes, mark in zip(names, DASHES, MARKS):
        found = [one for one in published.curves(task, {"pixels"}) if one.name == name]
        for steps, means in (zip(*(point for point in one.points() if point[0] <= end)) for one in shown(found, end)):
            look = {"color": PUBLISHED, "linewidth": 1.1, "linestyle": dashes, "marker": mark}
            panel.plot(steps, means, label=f"{name}, published", **look)


def plot_curves(panel: Axes, curves: Mapping[Path, Curve], labels: Mapping[Path, str]) -> None:
    """A line and a band for each evaluation file, in the colour of its algorithm; `reference.csv` in grey."""
    looks = styles([arm(path) for path in curves if path.stem != "reference"])
    for path, (steps, mean, std, _) in curves.items():
        look = looks.get(arm(path), {"color": REFERENCE, "marker": "D", "markersize": 3})
        panel.plot(steps, mean, label=labels[path], **look)
        panel.fill_between(steps, mean - std, mean + std, color=look["color"], alpha=0.15, linewidth=0)


def bands(curves: Iterable[Curve]) -> str:
    """What bands mean, for a legend."""
    several = [seeds > 1 for *_, seeds in curves]
    over = "seeds" if all(several) else "seeds, or a single seed's episodes"
    return f"bands: one standard deviation over {over if any(several) else 'the episodes of an evaluation'}"


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        raise SystemExit("usage: python results/plot.py FOLDER")
    for task in sorted(path for path in Path(sys.argv[1]).iterdir() if path.is_dir()):
        if evaluation_files(task):
            print(draw(task))
