"""Draws every evaluation file of a folder: a panel for each task, a curve for each run.

    python results/plot.py results/heads

Reads FOLDER/<task>/<run>.csv, the eval.csv of a run folder under the run's name, and writes FOLDER/<task>.png. A curve
is the mean over the episodes of each evaluation, the band one standard deviation over them; a run is one seed.
"""

import csv
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt


def evaluations(path: Path) -> dict[int, list[float]]:
    """Returns of each evaluation's episodes, by environment step."""
    returns = defaultdict(list)
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            returns[int(row["env_step"])].append(float(row["episode_return"]))
    return dict(sorted(returns.items()))


def draw(folder: Path) -> Path:
    """The picture of one task."""
    figure, panel = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for path in sorted(folder.glob("*.csv")):
        returns = evaluations(path)
        steps = [*returns]
        mean, std = (np.array([f(values) for values in returns.values()]) for f in (np.mean, np.std))
        (line,) = panel.plot(steps, mean, marker="o", markersize=3, label=path.stem)
        panel.fill_between(steps, mean - std, mean + std, color=line.get_color(), alpha=0.15, linewidth=0)
    panel.set(title=f"{folder.name}, one seed each", xlabel="environment steps", ylabel="episode return")
    panel.legend(frameon=False)
    picture = folder.with_suffix(".png")
    figure.savefig(picture, dpi=110)
    plt.close(figure)
    return picture


if __name__ == "__main__":
    for task in sorted(path for path in Path(sys.argv[1]).iterdir() if path.is_dir()):
        print(draw(task))
