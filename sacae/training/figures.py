"""One style for every picture: colours of algorithms, light and dark themes, resolution, legend."""

import colorsys
import itertools
import re
import textwrap
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

DPI = 160
"""Pixels per inch of every PNG with curves."""

Style = dict[str, Any]
"""Keywords of Axes.plot that say how an arm looks."""

BLUE, VERMILION, GREEN, PINK, ORANGE, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
"""The colours of Okabe and Ito (2008), which readers with any kind of colour vision can tell apart."""

VIOLET, CRIMSON = "#9933ff", "#e6004c"
"""Two more that differ as much from these, as tests/training/test_figures.py computes it."""

COLOURS = {
    "sac_ae": BLUE, "sac": VERMILION, "drq": GREEN, "drqv2": PINK, "rad": ORANGE, "curl": SKY,
    "sac_v": ORANGE, "td3": VIOLET, "ddpg": SKY, "discrete_sac": GREEN, "dqn": CRIMSON, "ace": GREEN,
    "ppo": BLUE, "trpo": SKY, "npg": PINK, "vpg": ORANGE,
    "option_critic": GREEN, "q_learning": CRIMSON, "hdqn": BLUE, "her_ddpg": GREEN,
}  # fmt: skip
"""The colour of each algorithm in every picture. Algorithms that no experiment compares may share one; where they meet
all the same, the first keeps it."""

PUBLISHED = REFERENCE = "#8b939e"
"""Of published results and of the reference implementation."""

GREY = "#5b626c"
"""Of algorithms for which no colour is left."""

MARKERS = "os^Dv<>P"

DASHES = ("-", "--", "-.", ":")

LIGHTER = 0.3
LIGHTEST = 0.78
"""How much lighter the last of several arms of one algorithm is than the first, and the most that a line may be."""

COMMON = {
    "font.size": 9, "axes.titlesize": 10, "legend.fontsize": 7.5, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.linewidth": 0.6, "svg.hashsalt": "sacae", "legend.frameon": False,
    "text.parse_math": False,  # names are no formulas
}  # fmt: skip
INK = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor")
THEMES: dict[str, Any] = {
    "light": COMMON | {"figure.facecolor": "#ffffff", "axes.facecolor": "#ffffff", "grid.color": "#e3e6ea"}
    | dict.fromkeys(INK, "#2b3038"),
    "dark": COMMON | {"figure.facecolor": "#1b2027", "axes.facecolor": "#1b2027", "grid.color": "#313945"}
    | dict.fromkeys(INK, "#dfe4ea"),
}  # fmt: skip
"""Settings for matplotlib.rc_context."""


def algorithm(arm: str) -> str:
    """The algorithm of an arm, whose name is its own or begins with a variant: sac_ae for 'sac-rae batch_size=8'."""
    variant = arm.split(" ")[0]
    agent, _, decoder = variant.partition("-")
    if agent == "sac" and decoder.startswith(("rae", "vae", "state_decoder")):
        return "sac_ae"
    found = [name for name in COLOURS if re.search(rf"(?<![a-z0-9]){name}(?![a-z0-9])", agent)]
    return max(found, key=len, default=agent)


def styles(arms: Sequence[str]) -> dict[str, Style]:
    """How each arm of a picture looks: its algorithm's colour and a marker; its further arms are lighter and dashed."""
    of_algorithm: dict[str, list[str]] = defaultdict(list)
    for arm in dict.fromkeys(arms):
        of_algorithm[algorithm(arm)].append(arm)
    wanted = [COLOURS.get(name) for name in of_algorithm]
    others = itertools.cycle([colour for colour in dict.fromkeys(COLOURS.values()) if colour not in wanted] or [GREY])
    looks: dict[str, Style] = {}
    taken: set[str] = set()
    for name, its_arms in of_algorithm.items():
        colour = COLOURS.get(name)
        if colour is None or colour in taken:  # an algorithm of the user's own, or one that shares its colour
            colour = next(others)
        taken.add(colour)
        for i, (arm, shade) in enumerate(zip(its_arms, _shades(colour, len(its_arms)))):
            marker = MARKERS[len(looks) % len(MARKERS)]
            looks[arm] = {"color": shade, "linestyle": DASHES[i % len(DASHES)], "marker": marker, "markersize": 3}
    return {arm: looks[arm] for arm in dict.fromkeys(arms)}


def _shades(colour: str, count: int) -> list[str]:
    """The colour itself, and the same hue ever lighter: readers who cannot see a hue still see how light it is."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*to_rgb(colour))
    step = (min(lightness + LIGHTER, LIGHTEST) - lightness) / max(count - 1, 1)
    return [to_hex(colorsys.hls_to_rgb(hue, lightness + i * step, saturation)) for i in range(count)]


def legend_below(figure: Figure, note: str, wide: int = 30) -> None:
    """Puts the legend below the plots, where it covers nothing, under a line that says what bands and greys mean.

    wide: maximum characters of an entry for which two stand side by side.
    """
    labels = [label for axis in figure.axes for label in axis.get_legend_handles_labels()[1]]
    columns = 2 if len(labels) > 1 and max(map(len, labels)) <= wide else 1
    figure.legend(loc="outside lower center", ncols=columns, title=note or None, title_fontsize=7.5)


def legend_right(figure: Figure, note: str) -> None:
    """Puts the legend to the right of the plots, under a note as that of `legend_below`."""
    figure.legend(loc="outside right upper", title=textwrap.fill(note, 28), title_fontsize=7.5, alignment="left")


def short(value: float) -> str:
    """40000 as 40k, 1500000 as 1.5M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def count(number: int, noun: str) -> str:
    """'1 seed', '3 seeds'."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
