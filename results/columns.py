"""What the tables of results are made of: rows that name files of evaluations, and columns that read them.

A cell that a row's file cannot give is taken from `recorded.csv` beside the page: numbers whose runs lie nowhere else.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from plot import Returns, evaluations

from sacae.experiments.report import published

RESULTS = Path(__file__).parent

NAMES = {
    "sac-rae": "SAC-AE", "sac-none": "SAC from pixels", "sac-state": "SAC from state", "curl-none": "CURL",
    "drq-none": "DrQ", "drqv2-none": "DrQ-v2",
}  # fmt: skip
"""The published algorithm with which runs of a variant compare."""


class Runs(NamedTuple):
    """The runs of an evaluation file: one for each seed.

    returns: of the episodes of each evaluation, by environment step and seed. hours: at each seed's last evaluation.
    successes: share of the last evaluation's episodes that end in success, by seed; none where a task has no goal.
    A run that was cut short has fewer evaluations.
    """

    agent: str
    task: str
    returns: Returns
    hours: dict[str, float]
    successes: list[float]

    @property
    def steps(self) -> int:
        """Environment steps at the last evaluation that every seed has."""
        return max(step for step, of_step in self.returns.items() if len(of_step) == len(self.hours))

    @property
    def seeds(self) -> list[str]:
        """The seeds, in the order of the file."""
        return [*self.hours]

    def each(self) -> "Iterator[Runs]":
        """The run of each seed alone."""
        return (self.of([seed]) for seed in self.hours)

    def of(self, seeds: Sequence[str]) -> "Runs":
        """The runs of these seeds alone."""
        own = {step: {seed: of[seed] for seed in seeds if seed in of} for step, of in self.returns.items()}
        hours = {seed: self.hours[seed] for seed in seeds}
        return self._replace(returns={step: of for step, of in own.items() if of}, hours=hours, successes=[])

    def means(self, step: int) -> list[float]:
        """Each seed's mean return at an evaluation."""
        return [float(np.mean(episodes)) for episodes in self.returns[step].values()]


Column = Callable[[Runs], str | None]
"""A cell from the runs of a row; None where their file does not have it."""


class Row(NamedTuple):
    """A row: what the table calls it, one text for each of the leading columns, and its file below results/.

    agent: of a file with several agents, the one that is meant. link: to the part of a page that is about the row.
    seeds: those that are meant; all if there are none.
    """

    labels: tuple[str, ...]
    file: str = ""
    agent: str = ""
    link: str = ""
    seeds: tuple[str, ...] = ()


class Table(NamedTuple):
    """A table of a page: leading columns, columns that are read from files, and rows; across: steps in rows.

    A row whose file is not there, such as that of a task whose runs are under way, is left out. by_seed: a row of the
    table for each seed of a file.
    """

    page: str
    leading: tuple[str, ...]
    columns: dict[str, Column]
    rows: tuple[Row, ...]
    across: bool = False
    by_seed: bool = False

    def text(self, results: Path = RESULTS) -> str:
        """The table in Markdown."""
        known = recorded(results / self.page / "recorded.csv")
        grid = [[*self.leading, *self.columns]]
        for row in self.present(results):
            runs = read(results / row.file, row.agent) if row.file else None
            runs = runs.of(row.seeds) if runs and row.seeds else runs
            recalled = {name: known.get((", ".join(row.labels), name), "") for name in self.columns}
            for some in runs.each() if runs and self.by_seed else [runs]:
                cells = [column(some) if some else None for column in self.columns.values()]
                found = zip(cells, self.columns, strict=True)
                grid.append([*row.labels, *(recalled[name] if cell is None else cell for cell, name in found)])
        return markdown(zip(*grid, strict=True) if self.across else grid)

    def present(self, results: Path = RESULTS) -> list[Row]:
        """The rows whose files are there, and those without a file."""
        return [row for row in self.rows if not row.file or (results / row.file).exists()]


def markdown(grid: Iterable[Iterable[str]]) -> str:
    """A table in Markdown. The first line of the grid is its head."""
    head, *lines = ("".join(f"| {cell} " if cell else "| " for cell in cells) + "|" for cells in grid)
    return "\n".join([head, "|" + "---|" * (head.count("|") - 1), *lines])


@cache
def read(path: Path, agent: str = "") -> Runs:
    """The runs of an evaluation file: an `eval.csv`, or several one after another. Or of a report's `seeds.csv`."""
    if "episodes" in path.open().readline():
        return _read_report(path, agent)
    with open(path, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["env_step"] != "env_step"]
    last = max(int(row["env_step"]) for row in rows)
    hours = {row["seed"]: float(row["hours"]) for row in rows}
    ended: dict[str, list[float]] = {}
    for row in rows:
        if row.get("success") and int(row["env_step"]) == last:
            ended.setdefault(row["seed"], []).append(float(row["success"]))
    successes = [float(np.mean(values)) for values in ended.values()]
    return Runs(rows[0]["agent"], rows[0]["task"], evaluations(path), hours, successes)


def _read_report(path: Path, agent: str) -> Runs:
    """The runs of a variant in a report's `seeds.csv`, which has an evaluation's mean in place of its episodes."""
    with open(path, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["arm"] == agent]
    returns: Returns = {}
    for row in rows:
        returns.setdefault(int(row["env_step"]), {})[row["seed"]] = [float(row["episode_return"])]
    hours = {row["seed"]: float(row["hours"]) for row in rows}
    return Runs(agent, rows[0]["task"], returns, hours, [])


@cache
def recorded(path: Path) -> dict[tuple[str, str], str]:
    """The cells of a `recorded.csv`, by row and column of the table; none if there is no such file."""
    if not path.exists():
        return {}
    with open(path, newline="") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return {(row["row"], row["column"]): row["value"] for row in rows}


def from_record(_: Runs) -> None:
    """No file has it: it is in `recorded.csv`."""


def steps(runs: Runs) -> str:
    """Environment steps at the last evaluation."""
    return f"{runs.steps:,}"


def seeds(runs: Runs) -> str:
    """The seeds."""
    return ", ".join(runs.seeds)


def count(runs: Runs) -> str:
    """The number of seeds."""
    return str(len(runs.seeds))


def mean_at(step: int, digits: int = 0) -> Column:
    """Mean over seeds of an evaluation's mean return; of an evaluation that some seed lacks there is none."""

    def cell(runs: Runs) -> str | None:
        whole = len(runs.returns.get(step, ())) == len(runs.seeds)
        return f"{np.mean(runs.means(step)):,.{digits}f}" if whole else None

    return cell


def last(digits: int) -> Column:
    """Mean ± standard deviation over seeds of the last evaluation, and in brackets each seed's mean."""

    def cell(runs: Runs) -> str:
        means = [f"{mean:,.{digits}f}" for mean in runs.means(runs.steps)]
        return means[0] if len(means) == 1 else f"{over_seeds(runs, digits)} ({', '.join(means)})"

    return cell


def over_seeds(runs: Runs, digits: int) -> str:
    """Mean of the last evaluation, with ± the standard deviation over seeds (divided by n - 1) if there are several."""
    means = runs.means(runs.steps)
    spread = f" ± {np.std(means, ddof=1):,.{digits}f}" if len(means) > 1 else ""
    return f"{np.mean(means):,.{digits}f}{spread}"


def episodes_at(step: int, digits: int = 1, extremes: bool = False) -> Column:
    """Mean ± standard deviation over the episodes of a single seed's evaluation; extremes: smallest to largest, too."""

    def cell(runs: Runs) -> str | None:
        (episodes,) = runs.returns[step].values()
        if len(episodes) == 1:  # a report's file, which has the mean alone
            return None
        ends = f", {min(episodes):.1f} to {max(episodes):.1f}" if extremes else ""
        return f"{np.mean(episodes):.{digits}f} ± {np.std(episodes):.{digits}f}{ends}"

    return cell


def last_episodes(runs: Runs) -> str:
    """Mean ± standard deviation over the episodes of each seed's last evaluation."""
    found = runs.returns[runs.steps].values()
    return ", ".join(f"{np.mean(episodes):,.1f} ± {np.std(episodes):,.1f}" for episodes in found)


def best(digits: int) -> Column:
    """The largest mean return of each seed's evaluations, with its first step."""

    def cell(runs: Runs) -> str:
        found = []
        for seed in runs.seeds:
            means = {step: np.mean(of_step[seed]) for step, of_step in runs.returns.items() if seed in of_step}
            step = max(means, key=lambda step: means[step])
            found.append(f"{means[step]:,.{digits}f} ({step:,})")
        return ", ".join(found)

    return cell


def success(runs: Runs) -> str:
    """Share of each seed's last episodes that end in success."""
    return ", ".join(f"{share:.2f}" for share in runs.successes)


def hours(runs: Runs) -> str:
    """Hours of a run, on average over seeds."""
    return f"{np.mean([*runs.hours.values()]):.2f}"


def minutes(runs: Runs) -> str:
    """Minutes of a run, on average over seeds."""
    return f"{60 * np.mean([*runs.hours.values()]):.0f}"


def comparable(runs: Runs) -> list[tuple[str, str]]:
    """Published values of the same algorithm at the last step, or else at an earlier one, which is named; each with its
    source and number of seeds."""
    observations = {"state" if runs.agent.endswith("-state") else "pixels"}
    near = published.values(runs.task, runs.steps, observations)
    near = [value for value in near if value.name == NAMES.get(runs.agent)]
    found = [value for value in near if ", at " not in value.source] or near
    return [_with_source(value) for value in found]


def _with_source(value: published.Published) -> tuple[str, str]:
    spread = "" if np.isnan(value.std) else f" ± {value.std:.0f}"
    where, _, step = value.source.partition(", at ")
    at = f" at {step}" if step else ""
    return f"{value.mean:.0f}{spread}{at}", f"{where}, {value.seeds} {'seed' if value.seeds == 1 else 'seeds'}"


def published_beside(runs: Runs) -> str:
    """Published values of the same algorithm, with their sources."""
    return ", ".join(f"{value} ({source})" for value, source in comparable(runs)) or "–"
