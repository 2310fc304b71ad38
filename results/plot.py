"""Draws every evaluation file of a folder: a panel for each task, a curve for each algorithm.

    python results/plot.py results/heads
    python results/plot.py results/state

Reads FOLDER/<task>/<name>.csv, which holds the eval.csv of one run folder, or of several seeds one after another, and
writes FOLDER/<task>.png. A curve is the mean over the seeds of each evaluation's mean. The band is one standard
deviation over the seeds; of a single seed, over the episodes of an evaluation. Grey are the published curves of a task
of DeepMind Control, as far as our own go.
"""

import csv
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.ticker import EngFormatter

from sacae.experiments.report.plots import published_curves

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


def curve(returns: Returns) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Steps, mean and spread of the evaluations that all seeds have, and the number of seeds."""
    count = max(map(len, returns.values()))
    whole = {step: seeds for step, seeds in returns.items() if len(seeds) == count}
    samples = [
        [np.mean(episodes) for episodes in seeds.values()] if count > 1 else next(iter(seeds.values()))
        for seeds in whole.values()
    ]
    mean, std = (np.array([f(values) for values in samples]) for f in (np.mean, np.std))
    return np.array([*whole]), mean, std, count


def draw(folder: Path) -> Path:
    """The picture of one task."""
    figure, panel = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
    curves = {path.stem: curve(evaluations(path)) for path in sorted(folder.glob("*.csv"))}
    for name, (steps, mean, std, count) in curves.items():
        seeds = "1 seed" if count == 1 else f"{count} seeds"
        (line,) = panel.plot(steps, mean, marker="o", markersize=3, label=f"{name} ({seeds})")
        panel.fill_between(steps, mean - std, mean + std, color=line.get_color(), alpha=0.15, linewidth=0)
    panel.set(title=folder.name, xlabel="environment steps", ylabel="episode return")
    lengths = [steps[-1] for steps, *_ in curves.values()]
    if max(lengths) >= 5 * min(lengths):  # or the short runs would be a line at the left
        panel.set_xscale("symlog", linthresh=min(steps[1] for steps, *_ in curves.values()))
    panel.xaxis.set_major_formatter(EngFormatter(sep=""))
    published_curves(panel, folder.name, max(lengths))
    figure.legend(loc="outside right upper", frameon=False, fontsize="small")
    picture = folder.with_suffix(".png")
    figure.savefig(picture, dpi=110)
    plt.close(figure)
    return picture


if __name__ == "__main__":
    for task in sorted(path for path in Path(sys.argv[1]).iterdir() if path.is_dir()):
        print(draw(task))
