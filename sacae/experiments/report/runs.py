"""Finds run folders, reads their results, and groups them into arms. It never writes."""

import csv
import math
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

from sacae import config as configs
from sacae.declaration import NO_ARM, declared, in_words
from sacae.errors import UserError
from sacae.experiments.report.folder import is_report
from sacae.files import UNFINISHED
from sacae.groups import NamedTask, RunConfig
from sacae.limits import LARGEST_INTEGER, Text
from sacae.settings import Settings, check_value
from sacae.text import printable, shortened
from sacae.training.run_folder import CONFIG, EVAL_CSV, TRAIN_CSV

FILES = {CONFIG, EVAL_CSV, TRAIN_CSV}
"""Files by which a run folder is known."""

IN_VARIANT = ("agent", "obs", "decoder")
"""Settings that the run's variant already contains."""

MANY = 2
"""If more settings than this distinguish arms, an arm's name has only those that are not at their default."""

NEAR = 0.1
"""Largest distance, as a share of a step, at which an earlier evaluation still counts for that step."""

THROUGHPUT = ("env_steps_per_second", "updates_per_second")
LARGEST = 1e30
"""Largest size of a number that is compared with others: sums and squares of larger ones overflow."""

SHARES = ("share_env", "share_render", "share_wait", "share_sample", "share_update", "share_log")


LONGEST_REASON = 500
"""Characters of a reason, which can repeat what a file holds."""


class BrokenRun(Exception):
    """A run folder that cannot be used. The message is the reason, to be shown after 'is left out: '."""


@dataclass(frozen=True)
class Evaluation:
    """One evaluation: its environment step, the run's hours up to it, mean return and number of episodes."""

    env_step: int
    hours: float
    episode_return: float
    episodes: int


@dataclass(frozen=True)
class RecordedSettings(Settings):
    """The settings in the config.yaml of a run that is not an agent's, such as a baseline's."""

    name: str = ""
    groups_read: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def variant(self) -> str:
        """The algorithm's name."""
        return self.name

    def groups(self) -> dict[str, type]:
        """The two groups that every run has."""
        return {"task": type(self.task), "train": type(self.train)}

    def flat(self) -> dict[str, Any]:
        """Every setting by its name."""
        return {name: value for values in self.groups_read.values() for name, value in values.items()}

    def applying(self) -> dict[str, Any]:
        """See Settings. A file has only the settings that applied."""
        return self.flat()


@dataclass(frozen=True)
class Run:
    """A run folder that a report can use."""

    folder: Path
    config: Settings
    evaluations: tuple[Evaluation, ...]
    git_commit: str

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.config.train.seed

    @property
    def last_step(self) -> int:
        """Environment step of the last evaluation."""
        return self.evaluations[-1].env_step

    def at(self, env_step: int) -> Evaluation | None:
        """The last evaluation at or before a step, or None if it is more than NEAR before it."""
        found = [e for e in self.evaluations if e.env_step <= env_step]
        return found[-1] if found and env_step - found[-1].env_step <= NEAR * env_step else None


@dataclass(frozen=True)
class LeftOut:
    """A folder that the report leaves out, and the reason."""

    folder: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.folder} is left out: {self.reason}"


Arms = dict[str, list[Run]]
"""The runs of each arm of one task, by the arm's name, ordered by seed."""


def collect(roots: Sequence[Path]) -> tuple[dict[str, Arms], list[LeftOut]]:
    """The runs below some folders by task and arm, and the folders left out.

    Raises UserError if a root does not exist or no usable run is found.
    """
    runs: dict[Path, Run] = {}
    left_out: dict[Path, LeftOut] = {}
    for root in roots:
        if not root.is_dir():
            raise UserError(
                f"RUN_DIR is {root}, but it must be a run folder or a folder that contains some; name another"
            )
        folders = list(run_folders(root))
        if not folders:
            left_out[root.resolve()] = LeftOut(root, "it holds no run folder")
        for folder in folders:
            try:
                runs[folder.resolve()] = read(folder)
            except BrokenRun as broken:
                left_out[folder.resolve()] = LeftOut(folder, str(broken))
    kept, doubles = _without_doubles(list(runs.values()))
    problems = [*left_out.values(), *doubles]
    if not kept:
        raise UserError(
            f"no usable run in {', '.join(map(str, roots)) or 'no folder'} ({'; '.join(map(str, problems))}); "
            "RUN_DIR must be a run folder with evaluations, or a folder that contains some"
        )
    return by_task_and_arm(kept), problems


def run_folders(root: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Run folders at or below a folder, complete or not; an empty folder counts as a run that never started.

    above: the folders that contain it, because a link can lead back to one of them. What cannot be read counts as a
    run, so that it is left out with its reason. The folder of a report that is not complete yet is passed over.
    """
    try:
        names = {path.name for path in root.iterdir()}
    except OSError:
        yield root
        return
    if not names or names & FILES:
        yield root
        return
    if is_report(root):
        return
    within = above | {root.resolve()}
    for path in sorted(root / name for name in names if not name.startswith(UNFINISHED)):
        try:
            within_reach = path.is_dir() and path.resolve() not in within
        except OSError:  # its folder may be listed, and not entered
            yield root
            return
        if within_reach:
            yield from run_folders(path, within)


def is_run_folder(folder: Path) -> bool:
    """Whether a folder holds files of a run, complete or not."""
    return any(os.path.exists(folder / name) for name in FILES)


def read(folder: Path) -> Run:
    """One run folder. Raises BrokenRun if settings or evaluations are missing or unreadable."""
    try:
        if not any(folder.iterdir()):
            raise BrokenRun("it is empty")
    except OSError as error:
        raise BrokenRun(f"it cannot be read: {error.strerror}") from None
    try:
        content = configs.read(folder / CONFIG)
        config = _settings(content)
        commit = str(content.get("git_commit", "unknown"))
    except UserError as error:
        raise BrokenRun(shortened(" ".join(str(error).split()), LONGEST_REASON)) from None
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BrokenRun(f"{CONFIG} cannot be read: {shortened(str(error))}") from None
    return Run(folder, config, tuple(_evaluations(folder / EVAL_CSV)), commit)


def _settings(content: Mapping[str, Any]) -> Settings:
    """The settings in a config.yaml. Raises UserError, KeyError or TypeError if they are not those of a run."""
    groups = content["settings"]
    if groups.keys() <= configs.Config().groups().keys():
        return configs.from_yaml(groups, configs.Config())

    task, train = (kind(**_known(kind, groups[group])) for kind, group in GROUP_OF.items())
    settings = RecordedSettings(task, train, str(content["agent"]), groups)
    if not Text().holds(settings.task_name):
        raise ValueError(f"the task's name must be {Text().allowed}")
    return settings


def _known(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The recorded values of the settings in a group. Raises TypeError or UserError for one that it cannot have."""
    found = {}
    for name, one in declared(kind).items():
        value = one.converted(values.get(name))
        if value is None:
            continue
        if not isinstance(value, tuple(k for k in one.kinds if isinstance(k, type))) and not one.choices:
            raise TypeError(f"{name} is {in_words(value)}")
        check_value(one, value)
        found[name] = value
    return found


GROUP_OF = {NamedTask: "task", RunConfig: "train"}
"""Settings that every run has."""


def _evaluations(path: Path) -> list[Evaluation]:
    """The evaluations in an eval.csv, by step. Raises BrokenRun if there is none or a row is unreadable."""
    if not path.exists():
        raise BrokenRun(f"it has no {path.name}")
    episodes: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for line, row in enumerate(_complete_rows(path), start=2):
        try:
            values = float(row["hours"]), float(row["episode_return"])
            step = int(row["env_step"])
        except (KeyError, TypeError, ValueError):
            raise BrokenRun(f"line {line} of {path.name} cannot be read") from None
        if not all(map(math.isfinite, values)):
            raise BrokenRun(f"line {line} of {path.name} has a value that is not finite")
        if not 0 <= step <= LARGEST_INTEGER or max(map(abs, values)) > LARGEST:
            raise BrokenRun(f"line {line} of {path.name} has a value beyond {LARGEST:g} or an impossible env_step")
        episodes[step].append(values)
    if not episodes:
        raise BrokenRun(f"its {path.name} has no evaluation yet")
    return [
        Evaluation(step, fmean(h for h, _ in rows), fmean(r for _, r in rows), len(rows))
        for step, rows in sorted(episodes.items())
    ]


def _complete_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, without an incomplete last line that a training is still writing."""
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise BrokenRun(f"{path.name} cannot be read: {error}") from None
    complete, newline, _ = text.rpartition("\n")
    try:
        return list(csv.DictReader((complete + newline).splitlines()))
    except csv.Error as error:  # such as a cell of more than 131,072 characters
        raise BrokenRun(f"{path.name} cannot be read: {error}") from None


def throughput(run: Run) -> dict[str, float]:
    """Medians of train.csv's speeds and shares over the training episodes in which updates were made.

    Steps and updates per second, shares of wall-clock time; nan for columns that train.csv lacks.
    """
    try:
        rows = _complete_rows(run.folder / TRAIN_CSV)
    except BrokenRun:
        rows = []
    learning = [row for row in rows if _number(row.get("updates_per_second")) > 0]
    return {name: _median(_number(row.get(name)) for row in learning) for name in (*THROUGHPUT, *SHARES)}


def _median(values: Iterator[float]) -> float:
    finite = [value for value in values if abs(value) <= LARGEST]
    return median(finite) if finite else math.nan


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def by_task_and_arm(runs: Sequence[Run]) -> dict[str, Arms]:
    """The runs by task and arm, both in alphabetical order with numbers by their size, and by seed."""
    names = arm_names(runs)
    tasks: dict[str, Arms] = {}
    for name, run in sorted(
        zip(names, runs), key=lambda pair: (pair[1].config.task_name, _order(pair[0]), pair[1].seed)
    ):
        tasks.setdefault(run.config.task_name, {}).setdefault(name, []).append(run)
    return tasks


def _order(name: str) -> list[tuple[float, str]]:
    """Sorts batch_size=64 before batch_size=128; every other part of a name is a number and a text in turn."""
    parts = re.split(r"((?<==)[0-9.e+-]+)", name)
    return [(_number(part), "") if math.isfinite(_number(part)) else (0.0, part) for part in parts]


def arm_names(runs: Sequence[Run]) -> list[str]:
    """A name for each run's arm: its variant, and the settings that distinguish arms of that variant on one task."""
    settings = [settings_of_arm(run.config) for run in runs]
    usual = [settings_of_arm(preset) for preset in _presets(runs)]
    differing = _differing_within_a_task(runs, settings)
    presets = [getattr(run.config.train, "preset", None) for run in runs]
    names: list[str] = []
    for i, run in enumerate(runs):
        variant, values = run.config.variant, settings[i]
        alike = [j for j, other in enumerate(runs) if other.config.variant == variant]
        same_preset = [usual[j] for j in alike if presets[j] == presets[i]]
        here = differing[variant][run.config.task_name]
        telling = [
            name
            for name in dict.fromkeys(name for names_of_task in differing[variant].values() for name in names_of_task)
            if name in values and name not in IN_VARIANT
            if any(settings[j].get(name) != values[name] for j in alike)
            if name in here or not _is_of_the_task(name, values, usual[i], same_preset)
        ]
        named = [f"{name}={values[name]}" for name in telling]
        if len(telling) > MANY:
            named = [f"{name}={values[name]}" for name in telling if usual[i].get(name, values) != values[name]]
            if len({presets[j] for j in alike}) > 1:
                named.insert(0, f"preset={presets[i]}")
        names.append(printable(" ".join([variant, ", ".join(named)]).strip()))
    return names


def _is_of_the_task(
    name: str, values: Mapping[str, Any], usual: Mapping[str, Any], others: Sequence[Mapping[str, Any]]
) -> bool:
    """Whether a run has a setting from the preset of its task, as action_repeat, which tasks have differently."""
    return values[name] == usual.get(name) and any(other.get(name) != usual[name] for other in others)


def _presets(runs: Sequence[Run]) -> Iterator[Settings]:
    """For each run the defaults of its task, observation and algorithm, if this package knows them."""
    made: dict[tuple[object, ...], Settings] = {}
    for config in (run.config for run in runs):
        if not isinstance(config, configs.Config):
            yield RecordedSettings()
            continue
        key = config.task_name, config.task.obs, config.agent.agent, config.train.preset
        if key not in made:
            made[key] = _preset(config)
        yield made[key]


def _preset(config: configs.Config) -> Settings:
    task = {"env": config.task.env} if config.task.env else {"domain": config.task.domain, "task": config.task.task}
    return configs.make(agent=config.agent.agent, obs=config.task.obs, preset=config.train.preset, **task)


def settings_of_arm(config: Settings) -> dict[str, Any]:
    """The settings that make an arm, by name; a replay that holds the whole run has capacity None."""
    no_arm = config.with_role(NO_ARM)
    settings = {name: value for name, value in config.applying().items() if name not in no_arm}
    if settings.get("replay_capacity") == config.num_agent_steps:
        settings["replay_capacity"] = None
    return settings


def _differing_within_a_task(
    runs: Sequence[Run], settings: Sequence[dict[str, Any]]
) -> dict[str, dict[str, list[str]]]:
    """By variant and task, the settings that differ between two of its runs, if both runs have them.

    Tasks are compared separately, because they differ in presets and can be from machines with another precision.
    """
    variants: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for run, values in zip(runs, settings):
        variants[run.config.variant][run.config.task_name].append(values)
    names = dict.fromkeys(name for values in settings for name in values)

    def differs(name: str, group: Sequence[dict[str, Any]]) -> bool:
        return len({repr(values[name]) for values in group if name in values}) > 1

    return {
        variant: {task: [name for name in names if differs(name, group)] for task, group in tasks.items()}
        for variant, tasks in variants.items()
    }


def _without_doubles(runs: Sequence[Run]) -> tuple[list[Run], list[LeftOut]]:
    """Of runs with equal task, arm and seed only the longest: two copies of a seed are not two seeds."""
    kept: dict[tuple[str, str, int], Run] = {}
    doubles = []
    for name, run in sorted(zip(arm_names(runs), runs), key=lambda pair: -pair[1].last_step):
        first = kept.setdefault((run.config.task_name, name, run.seed), run)
        if first is not run:
            doubles.append(LeftOut(run.folder, f"{first.folder} is the same arm and seed ({name}, {run.seed})"))
    return list(kept.values()), doubles
