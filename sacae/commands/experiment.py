"""What `sacae ablate` and `sacae sweep` share: their options, which settings were given, how the runs are made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from sacae import config as configs
from sacae.commands.parsing import early_settings
from sacae.errors import UserError

Given = dict[str, Any]
"""Settings that were named on the command line, by name."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Many runs, each an ordinary run folder, made by the same training flags."""

    tasks: str | None = None
    """Tasks to train on, separated by commas: of the DeepMind Control suite, such as cheetah_run,walker_walk, or
    Gymnasium ids; None is cheetah_run."""
    seeds: int | None = None
    """Number of seeds of each arm on each task; None is 3."""
    first_seed: int = 1
    """First seed of each arm on each task; the others count up from it."""
    launcher: Literal["local", "ray"] = "local"
    """What makes the runs. local: processes on this machine. ray: tasks on a Ray cluster."""
    parallel: int | None = None
    """local launcher: runs at a time; None is one for each GPU, or one where there is none. They share the CPU
    threads."""
    ray_address: str | None = None
    """ray launcher: address of the cluster, such as auto or ray://head:10001; None is the environment variable
    RAY_ADDRESS, or this machine where it is not set."""
    cpus_per_run: float = 1.0
    """ray launcher: CPU cores reserved for each run."""
    gpus_per_run: float = 0.0
    """ray launcher: GPUs reserved for each run; a fraction lets runs share one."""
    retries: int = 3
    """ray launcher: how often a run whose worker was lost is resumed from its checkpoint."""
    config: Annotated[configs.Config, tyro.conf.arg(name="")] = field(default_factory=configs.Config)


def default_experiment(argv: Sequence[str]) -> Experiment:
    """The options where no flag says otherwise."""
    return Experiment(config=configs.make(**early_settings(argv)))


def given_settings(experiment: Experiment, argv: Sequence[str], prog: str) -> Given:
    """The settings of all runs: those that were given, since arms change presets.

    Raises UserError where a setting is out of range, or belongs to a flag of the experiment.
    """
    configs.check(experiment.config)
    settings, given = experiment.config.flat(), {}
    for word in argv:
        name = word.partition("=")[0].removeprefix("--").replace("-", "_")
        name = name if name in settings else name.removeprefix("no_")
        if word.startswith("--") and name in settings:
            given[name] = settings[name]
    given.pop("work_dir", None)
    for name, instead in {"seed": "seeds", "env": "tasks", "domain": "tasks", "task": "tasks"}.items():
        if name in given:
            raise UserError(f"{name} is {given[name]}, but {prog} takes --{instead}; leave --{name} out")
    return given


def make_runs(experiment: Experiment, title: str, arms: Mapping[str, Given], given: Given, default_root: Path) -> int:
    """Makes an experiment's runs; returns the exit status.

    arms: settings by the arm's name. given: settings of all runs. default_root: the folder where --work-dir names none.
    """
    from sacae.experiments import local, plan
    from sacae.experiments.experiment import Launcher, conduct
    from sacae.experiments.ray_cluster import RayLauncher

    root = experiment.config.train.work_dir or default_root
    count = 3 if experiment.seeds is None else experiment.seeds
    seeds = range(experiment.first_seed, experiment.first_seed + count)
    tasks = ["cheetah_run"] if experiment.tasks is None else words(experiment.tasks)
    runs = plan.plan(arms, tasks, seeds, given, root)
    launcher: Launcher
    if experiment.launcher == "ray":
        launcher = RayLauncher(
            root, experiment.ray_address, experiment.cpus_per_run, experiment.gpus_per_run, experiment.retries
        )
    else:
        launcher = local.LocalLauncher(local.places(experiment.parallel, experiment.config.train.device))
    return conduct(title, runs, root, launcher, Console())


def words(text: str) -> list[str]:
    """The words between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]
