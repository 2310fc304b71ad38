"""The numbers of a report as tidy rows, for the CSV files, the plots and the page."""

import csv
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sacae.experiments.report import published, statistics
from sacae.experiments.report.runs import Arms, LeftOut, Run, settings_of_arm, throughput
from sacae.text import printable

Row = dict[str, Any]

TABLE_STEPS = (100_000, 500_000)
"""Environment steps at which publications report returns."""

ALL_TASKS = "all tasks"

FULL_RETURN = 1000
"""Maximum return of an episode in the DeepMind Control suite; averages over tasks use shares of it."""

EMPTY = {"left_out": ["folder", "reason"]}
"""Columns of tables that can be empty, unless the task is their only column."""

FORMULA = ("=", "+", "-", "@")
"""Beginnings of what spreadsheets take for a formula."""


@dataclass(frozen=True)
class Tables:
    """Every table of a report, by the name of its CSV file."""

    runs: list[Row]
    seeds: list[Row]
    curves: list[Row]
    returns: list[Row]
    improvement: list[Row]
    profile: list[Row]
    throughput: list[Row]
    settings: list[Row]
    left_out: list[Row]


def make(tasks: dict[str, Arms], left_out: Sequence[LeftOut]) -> Tables:
    """All tables of a report on the runs by task and arm."""
    groups = [(task, _scores(arms, last_common_step(arms))) for task, arms in tasks.items()]
    if together := _all_tasks(tasks):
        groups.append((ALL_TASKS, together))
    return Tables(
        runs=[_run_row(task, arm, run) for task, arm, run in _each(tasks)],
        seeds=[row for task, arm, run in _each(tasks) for row in _seed_rows(task, arm, run)],
        curves=[row for task, arms in tasks.items() for arm, runs in arms.items() for row in _curve(task, arm, runs)],
        returns=[row for task, arms in tasks.items() for row in _returns(task, arms)] + _all_tasks_returns(together),
        improvement=[row for task, scores in groups for row in _improvement(task, scores)],
        profile=[row for task, scores in groups for row in _profile(task, scores)],
        throughput=[_throughput_row(task, arm, runs) for task, arms in tasks.items() for arm, runs in arms.items()],
        settings=[row for task, arms in tasks.items() for row in _settings(task, arms)],
        left_out=[{"folder": str(one.folder), "reason": one.reason} for one in left_out],
    )


def write(tables: Tables, folder: Path) -> None:
    """Writes each table as a CSV file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in vars(tables).items():
        with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            columns = list(rows[0]) if rows else EMPTY.get(name, ["task"])
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)


def last_common_step(arms: Arms) -> int:
    """The last environment step that every run of a task has reached."""
    return min(run.last_step for runs in arms.values() for run in runs)


def common_steps(runs: Sequence[Run]) -> list[int]:
    """Environment steps at which all given runs were evaluated."""
    return sorted(set.intersection(*({e.env_step for e in run.evaluations} for run in runs)))


def observations(arms: Arms) -> set[str]:
    """What the runs of a task see: pixels, state, or both. A baseline sees the state."""
    return {str(run.config.flat().get("obs", "state")) for run in _all(arms)}


def _each(tasks: dict[str, Arms]) -> list[tuple[str, str, Run]]:
    return [(task, arm, run) for task, arms in tasks.items() for arm, runs in arms.items() for run in runs]


def _cell(value: Any) -> Any:
    """A value as a cell: empty if missing. A quote keeps spreadsheets from computing text that looks like a formula."""
    if not isinstance(value, str):
        return "" if _missing(value) else value
    text = printable(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _run_row(task: str, arm: str, run: Run) -> Row:
    last = run.evaluations[-1]
    return {
        "task": task, "arm": arm, "seed": run.seed, "folder": str(run.folder), "evaluations": len(run.evaluations),
        "last_env_step": last.env_step, "planned_env_steps": run.config.train.num_train_steps, "hours": last.hours,
        "episode_return": last.episode_return, "git_commit": run.git_commit,
    }  # fmt: skip


def _seed_rows(task: str, arm: str, run: Run) -> list[Row]:
    return [{"task": task, "arm": arm, "seed": run.seed, **vars(evaluation)} for evaluation in run.evaluations]


def _curve(task: str, arm: str, runs: Sequence[Run]) -> list[Row]:
    """An arm's learning curve at the steps that all of its runs have."""
    steps = common_steps(runs)
    if not steps:
        return []
    by_run = [{e.env_step: e for e in run.evaluations} for run in runs]
    scores = np.array([[[found[step].episode_return for step in steps]] for found in by_run])
    mean, iqm = statistics.estimate(scores, statistics.mean), statistics.estimate(scores, statistics.iqm)
    return [
        {"task": task, "arm": arm, "seeds": len(runs), "env_step": step,
         "hours": fmean(found[step].hours for found in by_run), **_bounds("mean", mean, i), **_bounds("iqm", iqm, i)}
        for i, step in enumerate(steps)
    ]  # fmt: skip


def _bounds(name: str, estimate: statistics.Estimate, i: int) -> Row:
    return {
        name: float(estimate.value[i]),
        f"{name}_low": float(estimate.low[i]),
        f"{name}_high": float(estimate.high[i]),
    }


def _scores(arms: Arms, env_step: int) -> dict[str, NDArray[np.float64]]:
    """Returns at a step, (seeds, 1) for each arm; arms with a run that has no evaluation near it are left out."""
    found = {arm: [run.at(env_step) for run in runs] for arm, runs in arms.items()}
    return {arm: np.array([[e.episode_return] for e in some if e]) for arm, some in found.items() if all(some)}


def _returns(task: str, arms: Arms) -> list[Row]:
    """Returns at the published steps that an arm has reached, and at the last common step."""
    last = last_common_step(arms)
    rows = []
    for step in sorted({*TABLE_STEPS, last}):
        scores = _scores(arms, step) if any(run.last_step >= step for run in _all(arms)) else {}
        scores = {arm: some for arm, some in scores.items() if all(run.last_step >= step for run in arms[arm])}
        ours = [_returns_row(task, step, arm, some) for arm, some in scores.items()]
        rows += ours + [
            _published_row(task, value) for value in (published.values(task, step, observations(arms)) if ours else [])
        ]
    return rows


def _all(arms: Arms) -> list[Run]:
    return [run for runs in arms.values() for run in runs]


def _returns_row(
    task: str, env_step: int | None, name: str, scores: NDArray[np.float64], source: str = "these runs"
) -> Row:
    mean = statistics.estimate(scores[..., None], statistics.mean)
    iqm = statistics.estimate(scores[..., None], statistics.iqm)
    std = float(scores.std(ddof=1)) if scores.shape[1] == 1 and len(scores) > 1 else math.nan
    return {
        "task": task, "env_step": env_step, "name": name, "source": source, "seeds": len(scores),
        **_bounds("mean", mean, 0), "std": std, **_bounds("iqm", iqm, 0),
    }  # fmt: skip


def _published_row(task: str, value: published.Published) -> Row:
    nothing = dict.fromkeys(("iqm", "iqm_low", "iqm_high"))
    return {
        "task": task, "env_step": value.env_step, "name": value.name, "source": value.source, "seeds": value.seeds,
        "mean": value.mean, "mean_low": None, "mean_high": None, "std": value.std, **nothing,
    }  # fmt: skip


def _all_tasks(tasks: dict[str, Arms]) -> dict[str, NDArray[np.float64]]:
    """(seeds, tasks) shares of the full return for each arm that has every task of the DeepMind Control suite.

    Uses each task's last common step, and as many seeds of every task as the task with the fewest seeds has.
    """
    suite = [arms for arms in tasks.values() if not _all(arms)[0].config.task.env]
    if len(suite) < 2:
        return {}
    scores = [_scores(arms, last_common_step(arms)) for arms in suite]
    together = {}
    for arm in scores[0]:
        if all(arm in of_task for of_task in scores):
            seeds = min(len(of_task[arm]) for of_task in scores)
            together[arm] = np.concatenate([of_task[arm][:seeds] for of_task in scores], axis=1) / FULL_RETURN
    return together


def _all_tasks_returns(together: dict[str, NDArray[np.float64]]) -> list[Row]:
    return [
        _returns_row(ALL_TASKS, None, arm, scores, f"these runs, share of {FULL_RETURN} over {scores.shape[1]} tasks")
        for arm, scores in together.items()
    ]


def _improvement(task: str, scores: dict[str, NDArray[np.float64]]) -> list[Row]:
    """For each pair of arms, the probability that a run of the first is better than one of the second."""
    rows = []
    for first, second in itertools.combinations(scores, 2):
        estimate = statistics.estimate_improvement(scores[first], scores[second])
        seeds = {"seeds": len(scores[first]), "other_seeds": len(scores[second])}
        rows.append({"task": task, "arm": first, "other": second, **seeds, **_bounds("probability", estimate, 0)})
    return rows


def _profile(task: str, scores: dict[str, NDArray[np.float64]]) -> list[Row]:
    """For each arm, the share of runs above each score of any arm, where shares change, and a little outside of all."""
    if not scores:
        return []
    everything = np.unique(np.concatenate([some.ravel() for some in scores.values()]))
    margin = 0.02 * (np.ptp(everything) or 1)
    thresholds = np.array([everything[0] - margin, *everything, everything[-1] + margin])
    rows = []
    for arm, some in scores.items():
        estimate = statistics.estimate_profile(some, thresholds)
        for i, threshold in enumerate(thresholds):
            point = {"threshold": float(threshold), **_bounds("share", estimate, i)}
            rows.append({"task": task, "arm": arm, "seeds": len(some), **point})
    return rows


def _throughput_row(task: str, arm: str, runs: Sequence[Run]) -> Row:
    measured = [throughput(run) for run in runs]
    means = {name: _mean(one[name] for one in measured) for name in measured[0]}
    hours = {"hours": fmean(run.evaluations[-1].hours for run in runs)}
    return {"task": task, "arm": arm, "seeds": len(runs), **hours, **means}


def _mean(values: Any) -> float:
    finite = [value for value in values if not math.isnan(value)]
    return fmean(finite) if finite else math.nan


def _settings(task: str, arms: Arms) -> list[Row]:
    """The settings in which a task's runs differ, with each arm's value."""
    values = {arm: [settings_of_arm(run.config) for run in runs] for arm, runs in arms.items()}
    names = dict.fromkeys(name for some in values.values() for one in some for name in one)
    return [
        {"task": task, "setting": name, "arm": arm, "seeds": len(some), "value": some[0][name]}
        for name in names
        if len({repr(one[name]) for some in values.values() for one in some if name in one}) > 1
        for arm, some in values.items()
        if name in some[0]
    ]
