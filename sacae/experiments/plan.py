"""The runs of an experiment, their folders, and what is left to do of each."""

import contextlib
import csv
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from sacae import config as configs
from sacae.errors import UserError
from sacae.experiments import tasks
from sacae.settings import NOT_COMPARED


@dataclass(frozen=True, eq=False)
class Run:
    """One training of an experiment.

    settings: those given, for the command line; presets fill in the others. config: all settings. folder: the run
    folder.
    """

    task: str
    arm: str
    seed: int
    settings: Mapping[str, Any]
    config: configs.Config
    folder: Path

    @property
    def name(self) -> str:
        """The run's name, such as 'cheetah_run rae 1'."""
        return f"{self.task} {self.arm} {self.seed}"

    @property
    def log(self) -> Path:
        """The file for the run's output. It is not in the run folder, because a new run refuses a folder with files."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def num_steps(self) -> int:
        """Environment steps of the whole run."""
        return self.config.train.num_train_steps

    def with_settings(self, **settings: Any) -> "Run":
        """The run with these settings given."""
        return replace(self, settings={**self.settings, **settings}, config=self.config.replace(**settings))


class Left(Enum):
    """What is left to do of a run."""

    ALL = "new"
    REST = "interrupted"
    NOTHING = "finished"


def plan(
    arms: Mapping[str, Mapping[str, Any]],
    task_names: Iterable[str],
    seeds: Iterable[int],
    given: Mapping[str, Any],
    root: Path,
) -> list[Run]:
    """Every arm, task and seed as a run in root/<task>/<arm>/<seed>; the first seed of all arms precedes any second.

    arms: settings by name. given: settings of all runs.

    Raises UserError for an unknown task, an empty selection, and invalid settings.
    """
    seeds = list(seeds)
    if not seeds:
        raise UserError("seeds is 0, but it must be at least 1; change --seeds")
    for arm, settings in arms.items():
        _refuse_twice(arm, settings, given)
    chosen = tasks.choose(task_names)
    root = root.absolute()
    runs = [
        _run(arm, settings, seed, given, task, root)
        for seed in seeds
        for task in chosen.values()
        for arm, settings in arms.items()
    ]
    _refuse_what_fits_nowhere(given, runs)
    return runs


def _refuse_what_fits_nowhere(given: Mapping[str, Any], runs: Iterable[Run]) -> None:
    """Raises UserError for a given setting that no run has, as the first run would."""
    taken = {name for run in runs for name in run.settings}
    for name in given:
        if name not in taken:
            first = next(iter(runs))
            with _of_arm(first.arm):
                configs.make(**(dict(first.settings) | {name: given[name]}))


def _refuse_twice(arm: str, settings: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    for name in settings:
        if name in given:
            flag = name.replace("_", "-")
            raise UserError(f"{name} is {given[name]}, but arm {arm} sets it to {settings[name]}; leave --{flag} out")


def _run(
    arm: str, settings: Mapping[str, Any], seed: int, given: Mapping[str, Any], task: Mapping[str, Any], root: Path
) -> Run:
    """A run with the arm's and the task's settings, and of those that are given all that have a meaning in it."""
    with _of_arm(arm):
        settings = configs.with_what_fits({**settings, **task, "seed": seed}, given)
        config = configs.make(**settings)
    folder = root / config.task_name / arm / str(seed)
    return Run(config.task_name, arm, seed, settings, config.replace(work_dir=folder), folder)


@contextlib.contextmanager
def _of_arm(arm: str) -> Iterator[None]:
    """Says which arm a UserError is about."""
    try:
        yield
    except UserError as error:
        raise UserError(f"arm {arm}: {error}") from None


def what_is_left(run: Run) -> Left:
    """Whether the run is new, interrupted or finished.

    Raises UserError if its folder holds other files, or a run with other settings.
    """
    if not run.folder.exists() or not any(run.folder.iterdir()) or _holds_nothing_learned(run.folder):
        return Left.ALL
    saved = configs.load(run.folder / "config.yaml", configs.Config)
    _refuse_other_settings(run, saved)
    return Left.NOTHING if _is_finished(run) else Left.REST


def clear(run: Run) -> None:
    """Removes a run that ended before its first checkpoint, and so before it learned anything, to start it again."""
    if run.folder.exists() and _holds_nothing_learned(run.folder):
        shutil.rmtree(run.folder)


WRITTEN_BEFORE_LEARNING = {
    "config.yaml", ".tmp-config.yaml", "train.csv", "eval.csv", "curve.png", "tb", "video", "reconstruction",
    "checkpoint", "causal.csv", "dormancy.csv",
}  # fmt: skip
"""Files in a run folder before its first checkpoint. Any other file belongs to the user and is never removed."""


def _holds_nothing_learned(folder: Path) -> bool:
    """Whether this is the folder of a run that ended before its first checkpoint, which comes before any training."""
    names = {path.name for path in folder.iterdir()}
    if names == {".tmp-config.yaml"}:
        return True
    only_a_runs = "config.yaml" in names and names <= WRITTEN_BEFORE_LEARNING
    return only_a_runs and not _has_checkpoint(folder) and not _has_rows(folder)


def _has_checkpoint(folder: Path) -> bool:
    return any((folder / "checkpoint").glob("state*.pt"))


def _has_rows(folder: Path) -> bool:
    path = folder / "train.csv"
    return path.exists() and path.read_bytes().count(b"\n") > 1


def _refuse_other_settings(run: Run, saved: configs.Config) -> None:
    there, not_compared = saved.applying(), run.config.with_role(NOT_COMPARED)
    for name, value in run.config.applying().items():
        chosen_by_the_run = value is None or value == "auto"
        if name not in not_compared and not chosen_by_the_run and there.get(name) != value:
            raise UserError(
                f"{name} is {value}, but the run in {run.folder} has {there.get(name, 'no such setting')}; "
                f"give the same settings again, or choose another --work-dir"
            )


def _is_finished(run: Run) -> bool:
    """Whether the checkpoint is from after the last evaluation."""
    if last_evaluation(run.folder) < run.num_steps:
        return False  # known without reading the networks

    from sacae.training import checkpoint

    loop = checkpoint.load(run.folder)[0]["loop"]
    env_step = loop["agent_step"] * run.config.task.action_repeat
    return bool(env_step >= run.num_steps and loop["next_eval"] > env_step)


def last_evaluation(folder: Path) -> int:
    """The environment step of the last evaluation, -1 if there was none."""
    try:
        with open(folder / "eval.csv", newline="") as file:
            return max((int(row["env_step"]) for row in csv.DictReader(file)), default=-1)
    except (OSError, KeyError, TypeError, ValueError):
        return -1
