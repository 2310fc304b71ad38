"""Published results for comparison: `published.csv` (tables of papers) and `published_curves.csv.gz`."""

import csv
import gzip
import io
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from statistics import fmean, stdev

NEAR = 0.2
"""Largest distance, as a share of a step, at which a published curve's earlier point still counts for that step."""

NAMES = {
    "sac_ae": "SAC-AE",
    "sac_pixel": "SAC from pixels",
    "curl": "CURL",
    "drq": "DrQ",
    "drqv2": "DrQ-v2",
    "sac_state": "SAC from state",
    "tdmpc2_pixels": "TD-MPC2 from pixels",
}


@dataclass(frozen=True)
class Published:
    """A published value: algorithm, source, environment step and number of seeds.

    mean and std are of episode returns; std is over seeds, nan for one seed.
    """

    name: str
    source: str
    env_step: int
    seeds: int
    mean: float
    std: float


@dataclass(frozen=True)
class Curve:
    """A published learning curve: by seed, the episode return at each environment step."""

    name: str
    source: str
    seeds: dict[str, dict[int, float]]

    def points(self) -> list[tuple[int, float]]:
        """(env_step, mean over seeds) at the steps that every seed has."""
        common = set.intersection(*(set(seed) for seed in self.seeds.values()))
        return [(step, fmean(seed[step] for seed in self.seeds.values())) for step in sorted(common)]

    def at(self, env_step: int) -> Published | None:
        """The seeds' values at their last common step at or before a step; None if that is too far from it."""
        near = [step for step, _ in self.points() if 0 <= env_step - step <= NEAR * env_step]
        if not near:
            return None
        step = max(near)
        values = [seed[step] for seed in self.seeds.values()]
        source = self.source if step == env_step else f"{self.source}, at {step:,}"
        spread = stdev(values) if len(values) > 1 else float("nan")
        return Published(self.name, source, env_step, len(values), fmean(values), spread)


def values(task: str, env_step: int, observations: Collection[str]) -> list[Published]:
    """Published values for a task at a step: those from tables, then those from curves. See `curves`."""
    table = [value for value in _table().get(task, []) if value.env_step == env_step]
    read = [curve.at(env_step) for curve in curves(task, observations)] if env_step > 0 else []
    return [value for value in table if _is_comparable(value.name, observations)] + [v for v in read if v]


def curves(task: str, observations: Collection[str]) -> list[Curve]:
    """The published learning curves of a task with which runs compare.

    observations: what the runs see, pixels or state. Runs from state compare with others from state alone; beside runs
    from pixels the published ones from state show what pixels cost.
    """
    return [curve for curve in _curves().get(task, []) if _is_comparable(curve.name, observations)]


def _is_comparable(name: str, observations: Collection[str]) -> bool:
    return name == NAMES["sac_state"] or any(obs != "state" for obs in observations)


@cache
def _table() -> dict[str, list[Published]]:
    found = defaultdict(list)
    with (files(__package__) / "published.csv").open("rb") as file, io.TextIOWrapper(file, newline="") as text:
        for row in csv.DictReader(text):
            numbers = int(row["env_step"]), int(row["seeds"]), float(row["mean"]), float(row["std"])
            found[row["task"]].append(Published(NAMES[row["agent"]], row["source"], *numbers))
    return found


@cache
def _curves() -> dict[str, list[Curve]]:
    found: dict[str, dict[tuple[str, str], Curve]] = defaultdict(dict)
    with (files(__package__) / "published_curves.csv.gz").open("rb") as file, gzip.open(file, "rt", newline="") as text:
        for row in csv.DictReader(text):
            who = NAMES[row["agent"]], row["source"]
            curve = found[row["task"]].setdefault(who, Curve(*who, seeds=defaultdict(dict)))
            curve.seeds[row["seed"]][int(row["env_step"])] = float(row["episode_return"])
    return {task: list(of_task.values()) for task, of_task in found.items()}
