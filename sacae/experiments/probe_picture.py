"""The picture of `sacae probe`: how well each coordinate of the physical state can be read off a latent."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sacae import config as configs
from sacae.experiments.report.runs import settings_of_arm
from sacae.training.figures import PUBLISHED, THEMES, count, styles

LATENT, RANDOM, PIXELS = SOURCES = ("latent", "random encoder", "pixels PCA")
"""Features that the state is read off: latents of the trained and an untrained encoder, principal components."""

MARKERS = {LATENT: "o", RANDOM: "o", PIXELS: "d"}

LINE = 0.16
"""Inches of a row, and of a line of the legend."""

LOWEST_SHOWN = -0.25
"""Lower end of the picture's axis; a lower R² is an arrow there."""


@dataclass(eq=False)
class Result:
    """R² of one run: (S,) by source, in the order of `names`; NaN for a constant coordinate. Counts are time steps."""

    run: Path
    config: configs.Config
    env_step: int
    names: list[str]
    r2: dict[str, NDArray[np.float64]]
    n_train: int
    n_test: int


@matplotlib.rc_context(THEMES["light"])
def draw(results: Sequence[Result]) -> Figure:
    """R² as dots, a row for each coordinate: a marker for each source, a colour for each arm; grey is for all runs."""
    names, arms, dots = results[0].names, _arms(results), _dots(results)
    figure = Figure(figsize=(6.6, 1.3 + LINE * len(names)), layout="constrained")
    axis = figure.subplots()
    rows, looks = np.arange(len(names)), styles(arms)
    told: set[str] = set()
    for source, run in dots:
        r2 = results[run or 0].r2[source]
        colour = PUBLISHED if run is None else looks[arms[run]]["color"]
        label = source if run is None else f"{arms[run]}: {source}"
        face = colour if source == LATENT else "none"  # hollow: what the latent is compared with
        draw_dots = partial(axis.plot, linestyle="none", markersize=5, color=colour, markerfacecolor=face)
        draw_dots(r2, rows, marker=MARKERS[source], label=None if label in told else label)
        told.add(label)
        low = r2 < LOWEST_SHOWN
        draw_dots(np.full(low.sum(), LOWEST_SHOWN), rows[low], marker="<")
    for row in np.flatnonzero(np.any([np.isnan(result.r2[LATENT]) for result in results], axis=0)):
        axis.text(0.01, row, "constant", va="center", fontsize=7, color=PUBLISHED)
    axis.set(xlim=(LOWEST_SHOWN - 0.02, 1.02), ylim=(len(names) - 0.5, -0.5), yticks=rows, yticklabels=names)
    axis.tick_params(axis="y", labelsize=7, length=0)
    axis.axvline(0, color=PUBLISHED, linewidth=0.8)
    episodes = f"held-out episodes of {len(results)} runs, pooled" if len(results) > 1 else "held-out episodes"
    axis.set(xlabel=f"R² on {episodes}; arrows: below {LOWEST_SHOWN}")
    title = f"{results[0].config.task_name}: linear probe of the state"
    entries = axis.get_legend_handles_labels()[1]
    columns = len(entries) if sum(map(len, entries)) < 80 else 1
    figure.set_figheight(figure.get_figheight() + LINE * (-(-len(entries) // columns) - 1))
    figure.legend(loc="outside upper center", ncols=columns, title=title, title_fontsize=10)
    return figure


def _dots(results: Sequence[Result]) -> list[tuple[str, int | None]]:
    """Source and run of each dot in a row; the run is None if all of several runs share the dot."""
    dots: list[tuple[str, int | None]] = []
    for source in SOURCES:
        shared = len(results) > 1 and all(result.r2[source] is results[0].r2[source] for result in results)
        dots += [(source, run) for run in ([None] if shared else range(len(results)))]
    return dots


def _arms(results: Sequence[Result]) -> list[str]:
    """Each run's arm: the algorithm's name if that is enough, for all seeds of it; else the folder."""
    arms = [(result.config.variant, settings_of_arm(result.config)) for result in results]
    by_name = dict(arms)
    if any(by_name[name] != settings for name, settings in arms):
        return [str(result.run) for result in results]
    seeds = [arms.count(arm) for arm in arms]
    return [f"{name}, {count(n, 'seed')}" if n > 1 else name for (name, _), n in zip(arms, seeds)]
