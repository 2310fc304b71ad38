"""The runs of an experiment, their folders, and the remaining work of each."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from sacae import config as configs
from sacae.declaration import NOT_COMPARED, in_words
from sacae.errors import UserError, flag_of
from sacae.experiments import tasks
from sacae.experiments.report.runs import settings_of_arm
from sacae.limits import MOST_RUNS, FilePath
from sacae.text import shortened
from sacae.training.unstarted import is_empty, is_unstarted


@dataclass(frozen=True, eq=False)
class Run:
    """One training of an experiment.

    settings: the given ones, for the command line of the run. config: all settings, with presets. folder: the run
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
        """The run with these settings in addition."""
        return replace(self, settings={**self.settings, **settings}, config=self.config.replace(**settings))


class Left(Enum):
    """The remaining work of a run."""

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
    """A run in root/<task>/<arm>/<seed> for each arm, task and seed; all runs with the first seed come first.

    arms: settings by name. given: settings of all runs.

    Raises UserError for an unknown task, an empty selection, invalid settings, and arms that nothing tells apart.
    """
    seeds = list(seeds)
    if not seeds:
        raise UserError("seeds is 0, but it must be at least 1; change --seeds")
    for arm, settings in arms.items():
        _refuse_twice(arm, settings, given)
    chosen = tasks.choose(task_names)
    count = len(seeds) * len(chosen) * len(arms)
    if count > MOST_RUNS:
        kinds = f"{len(arms):,} arms, {len(chosen):,} tasks and {len(seeds):,} seeds"
        raise UserError(f"{kinds} make {count:,} runs, but an experiment has at most {MOST_RUNS:,}; split it")
    root = root.absolute()
    runs = [
        _run(arm, settings, seed, given, task, root)
        for seed in seeds
        for task in chosen.values()
        for arm, settings in arms.items()
    ]
    _refuse_unused(given, runs)
    _refuse_alike(runs[: len(chosen) * len(arms)])
    return runs


def _refuse_unused(given: Mapping[str, Any], runs: Iterable[Run]) -> None:
    """Raises UserError for a given setting that applies to no run, with the message for the first run."""
    used = {name for run in runs for name in run.settings}
    for name in given:
        if name not in used:
            first = next(iter(runs))
            with _of_arm(first.arm):
                configs.make(**(dict(first.settings) | {name: given[name]}))


def _refuse_alike(runs: Iterable[Run]) -> None:
    """Raises UserError for two runs of one task and seed that a report would take for one and the same.

    runs: of one seed.
    """
    first: dict[str, Run] = {}
    for run in runs:
        other = first.setdefault(repr((run.task, run.config.variant, settings_of_arm(run.config))), run)
        if other is not run:
            ours, theirs = run.config.flat(), other.config.flat()
            differing = [name for name in ours if name != "work_dir" and ours[name] != theirs[name]]
            how, advice = "have the same settings", "leave one of them out"
            if differing:
                how = f"differ only in {', '.join(differing)}"
                advice = "make an experiment of each, in a --work-dir of its own"
            both = f"arms {shortened(other.arm)} and {shortened(run.arm)}"
            raise UserError(f"{both} {how}, and would be one arm in a report; {advice}")


def _refuse_twice(arm: str, settings: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raises UserError for a given setting that the arm sets too."""
    for name in settings:
        if name in given:
            values = f"{name} is {in_words(given[name])}, but arm {arm} sets it to {in_words(settings[name])}"
            raise UserError(f"{values}; leave {flag_of(name)} out")


def _run(
    arm: str, settings: Mapping[str, Any], seed: int, given: Mapping[str, Any], task: Mapping[str, Any], root: Path
) -> Run:
    """A run with the settings of the arm and the task, and those of the given settings that apply to it."""
    with _of_arm(arm, settings):
        settings = configs.with_what_fits({**settings, **task, "seed": seed}, given)
        config = configs.make(**settings)
    if arm in ("", ".", "..") or "/" in arm:
        raise UserError(f"arm {shortened(arm)!r} cannot name a folder; name it in the sweep's file without a /")
    folder = root / config.task_name / arm / str(seed)
    if not FilePath().holds(folder):
        raise UserError(
            f"arm {shortened(arm)}: its folder must be {FilePath().allowed}; "
            "give arms shorter names in a sweep's file, or choose another --work-dir"
        )
    return Run(config.task_name, arm, seed, settings, config.replace(work_dir=folder), folder)


@contextlib.contextmanager
def _of_arm(arm: str, sets: Iterable[str] = ()) -> Iterator[None]:
    """Adds the arm's name to the message of a UserError. sets: the settings of the arm, which no flag changes."""
    try:
        yield
    except UserError as error:
        problem, _, advice = str(error).rpartition("; ")
        if problem.split(" ")[0] in sets and advice.startswith(("change ", "leave ")):
            raise UserError(f"arm {arm}: {problem}; the arm sets it, so leave the arm out") from None
        raise UserError(f"arm {arm}: {error}") from None


def what_is_left(run: Run) -> Left:
    """Whether the run is new, interrupted or finished.

    Raises UserError if its folder holds other files, or a run with other settings.
    """
    if is_empty(run.folder) or is_unstarted(run.folder):
        return Left.ALL
    saved = configs.load(run.folder / "config.yaml", configs.Config())
    _refuse_other_settings(run, saved)
    return Left.NOTHING if is_finished(run.folder, run.num_steps, run.config.task.action_repeat) else Left.REST


def _refuse_other_settings(run: Run, saved: configs.Config) -> None:
    chosen = _chosen_by_run(run)
    planned = run.config.replace(**{name: value for name, value in saved.flat().items() if name in chosen})
    before, not_compared = saved.applying(), {*run.config.with_role(NOT_COMPARED), *chosen}
    for name, value in planned.applying().items():  # what applies may depend on what the run chose
        if name not in not_compared and before.get(name) != value:
            raise UserError(
                f"{name} is {in_words(value)}, but the run in {run.folder} "
                f"{f'has {in_words(before[name])}' if name in before else 'does not have this setting'}; "
                f"give the same settings again, or choose another --work-dir"
            )


def _chosen_by_run(run: Run) -> set[str]:
    """The settings that the run settles: those left open, and a replay_capacity of the preset that may be too large."""
    settled = {name for name, value in run.config.flat().items() if value == "auto"} | {"capture", "replay_capacity"}
    return settled - {name for name, value in run.settings.items() if value not in (None, "auto")}


def is_finished(folder: Path, num_steps: int, action_repeat: int) -> bool:
    """Whether the checkpoint of a run of so many environment steps is from after the last evaluation.

    A run whose checkpoint cannot be read is not finished: what resumes it says why.
    """
    from sacae.training import checkpoint

    try:
        loop = checkpoint.load(folder, say=lambda _line: None)[0]["loop"]
    except UserError:
        return False
    env_step = loop["agent_step"] * action_repeat
    return bool(env_step >= num_steps and loop["next_eval"] > env_step)
