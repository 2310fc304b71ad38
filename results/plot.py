"""Draws every evaluation file of a folder: a panel for each task, a curve for each algorithm.

    python results/plot.py results/heads
    python results/plot.py results/state

Reads FOLDER/<task>/<name>.csv, which holds the eval.csv of one run folder, or of several seeds one after another, and
writes FOLDER/<task>.png. A curve is the mean over the seeds of each evaluation's mean. The band is one standard
deviation over the seeds; of a single seed, over the episodes of an evaluation. Grey are the published curves of a task
of DeepMind Control, as far as our own go. Each algorithm has the colour that it has in every picture.
"""

import csv
import re
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from sacae.experiments.report import published
from sacae.experiments.report.plots import GREY, published_curves, shown
from sacae.training.figures import DPI, THEMES, algorithm, count, legend_right, short, styles

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


def curve(returns: Returns) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
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
    files = evaluation_files(folder)
    curves = {path.stem: curve(evaluations(path)) for path in files}
    variants = {path.stem: variant(path) for path in files}
    arms = {path.stem: arm(path) for path in files}
    looks = styles([*arms.values()])
    for name, (steps, mean, std, seeds) in curves.items():
        look = looks[arms[name]]
        panel.plot(steps, mean, label=f"{name} ({count(seeds, 'seed')})", **look)
        panel.fill_between(steps, mean - std, mean + std, color=look["color"], alpha=0.15, linewidth=0)
    panel.set(title=folder.name, xlabel="environment steps", ylabel="episode return")
    lengths = [steps[-1] for steps, *_ in curves.values()]
    if max(lengths) >= 5 * min(lengths):  # or the short runs would be a line at the left
        panel.set_xscale("symlog", linthresh=min(steps[1] for steps, *_ in curves.values()))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    observations = {"pixels" if re.search("-(?!state$)", name) else "state" for name in variants.values()}
    theirs = shown(published.curves(folder.name, observations), max(lengths))
    published_curves(panel, theirs, max(lengths))
    spread = "seeds" if all(seeds > 1 for *_, seeds in curves.values()) else "seeds, or a single seed's episodes"
    spread = spread if any(seeds > 1 for *_, seeds in curves.values()) else "the episodes of an evaluation"
    legend_right(figure, f"bands: one standard deviation over {spread}" + (f"; {GREY}" if theirs else ""))
    picture = folder.with_suffix(".png")
    figure.savefig(picture, dpi=DPI)
    return picture


if __name__ == "__main__":
    for task in sorted(path for path in Path(sys.argv[1]).iterdir() if path.is_dir()):
        if evaluation_files(task):
            print(draw(task))
