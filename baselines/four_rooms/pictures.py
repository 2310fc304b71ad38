"""Pictures: learning curves, and where each option is active."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from baselines.four_rooms.evaluation import WINDOW, fewest_steps, moving_average
from baselines.four_rooms.walk import Walk
from sacae.envs.four_rooms import CELLS, EAST_DOORWAY, WALL
from sacae.files import write_atomically
from sacae.training.figures import BLUE, COLOURS, DPI, THEMES, VERMILION, count, legend_below


@matplotlib.rc_context(THEMES["light"])
def write_curve(path: Path, walks: Mapping[str, Walk], switch: int) -> None:
    """Draws the steps per episode: moving averages over WINDOW episodes, their mean over seeds and its 95% interval."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for (agent, result), color in zip(walks.items(), (COLOURS["option_critic"], VERMILION, BLUE)):
        for start, half in _halves(result.steps, switch):
            means = moving_average(half)
            episodes = start + np.arange(means.shape[1])
            # A single seed has no interval.
            mean, std = means.mean(0), means.std(0, ddof=1) if len(means) > 1 else 0
            error = 1.96 * std / np.sqrt(len(means))
            axis.plot(episodes, mean, color=color, label=None if start else agent)
            axis.fill_between(episodes, mean - error, mean + error, color=color, alpha=0.2, linewidth=0)
    any_result = next(iter(walks.values()))  # All agents have the same goals.
    goals = any_result.goal
    best = fewest_steps(EAST_DOORWAY), float(np.mean([fewest_steps(goal) for goal in goals.tolist()]))
    for (start, half), fewest in zip(_halves(any_result.steps, switch), best):
        axis.hlines(fewest, start, start + half.shape[1], color="0.4", linestyle=":", linewidth=1)
    axis.set(xlabel=f"first of {WINDOW} episodes", ylabel="steps to the goal", yscale="log")
    for which in (axis.yaxis.set_major_formatter, axis.xaxis.set_major_formatter):
        which("{x:,.0f}")
    axis.set_title(f"four rooms, {count(len(goals), 'seed')}; the goal moves after {switch:,} episodes")
    legend_below(figure, "bands: 95% interval of the mean over seeds; dotted: best policy")
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=DPI, format="png"))


def _halves(steps: NDArray[Any], switch: int) -> list[tuple[int, NDArray[Any]]]:
    """The steps before and after the goal moves, each with the number of its first episode."""
    return [(0, steps[:, :switch]), (switch, steps[:, switch:])]


@matplotlib.rc_context(THEMES["light"])
def write_options(path: Path, result: Walk, seed: int, title: str) -> None:
    """Draws where each option is active, for the first seed: the most active option by colour, and each one's share.

    seed: that seed, for the title.
    """
    visits = result.visits[:, 0]
    num_options = visits.shape[-1]
    figure = Figure(figsize=(1.9 * (num_options + 1), 4.3), layout="constrained")
    axes = figure.subplots(2, num_options + 1, squeeze=False)
    for row, counts, goal, name in zip(axes, visits, (EAST_DOORWAY, result.goal[0]), ("before", "at the end")):
        total = counts.sum(-1)
        shares = np.where(total[:, None] > 0, counts / np.maximum(total, 1)[:, None], np.nan)
        most = np.where(total > 0, counts.argmax(-1), np.nan)
        colours = ListedColormap([f"C{option}" for option in range(num_options)])
        row[0].imshow(_as_image(most), cmap=colours, vmin=-0.5, vmax=num_options - 0.5, interpolation="nearest")
        row[0].set_ylabel(name)
        row[0].set_title("most active", fontsize="small")
        for option, axis in enumerate(row[1:]):
            axis.imshow(_as_image(shares[:, option]), cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
            axis.set_title(f"option {option + 1}", fontsize="small", color=f"C{option}")
        for axis in row:
            axis.set(xticks=[], yticks=[], facecolor="0.25")
            axis.plot(*CELLS[goal][::-1], "*", color="white", markeredgecolor="black", markersize=9)
    figure.suptitle(f"{title}, seed {seed}: share of steps in a cell in which an option is active", fontsize="small")
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=DPI, format="png"))


def _as_image(of_cells: NDArray[Any]) -> NDArray[Any]:
    """Places the cells' values, (C,) -> float64 (13, 13), NaN at walls."""
    image = np.full(WALL.shape, np.nan)
    image[tuple(CELLS.T)] = of_cells
    return image
