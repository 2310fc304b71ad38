"""What `sacae ablate` and `sacae sweep` share: their options, which settings were given, how the runs are made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from rich.console import Console

from sacae import config as configs
from sacae.commands.parsing import Shown, given_settings, parse_with_settings
from sacae.errors import UserError, flag_of
from sacae.groups import HeadSettings, RunConfig
from sacae.heads import HEADS, find_head
from sacae.settings import Declared, InExperiments, declared

T = TypeVar("T")

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


def parse_experiment(kind: type[T], argv: Sequence[str], prog: str) -> tuple[T, Given]:
    """A command's options, and the settings that were given for its runs, of whatever heads they have.

    Raises UserError where a word is no option, or a setting has a flag of the experiment in its place.
    """
    known = configs.every_setting()
    given = given_settings(argv, known)
    for name in given:
        for mark in known[name].marks:
            if isinstance(mark, InExperiments) and name != "work_dir":
                raise UserError(f"{name} is {given[name]}, but {prog} takes {mark.flag}; leave {flag_of(name)} out")
    find_head(given.get("agent", HeadSettings.agent))
    command, settings = parse_with_settings(kind, _offered(given), argv, prog)
    return command, {name: settings[name] for name in given}


def _offered(given: Given) -> Shown:
    """Every setting that some run may have, those of heads with the heads' names."""
    fitting = configs.with_what_fits({}, given)
    usual = configs.Config.blank(fitting).flat() | configs.make().flat()
    groups = {group: dict(declared(kind)) for group, kind in configs.Config().groups().items()}
    of_heads: dict[str, list[str]] = {}
    for head, entry in HEADS.items():
        for name, one in declared(entry.settings).items():
            groups["agent"].setdefault(name, one)
            of_heads.setdefault(name, []).append(head)

    def named(one: Declared) -> Declared:
        heads = of_heads.get(one.name, list(HEADS))
        return one if len(heads) == len(HEADS) else replace(one, help=f"{', '.join(heads)}: {one.help}")

    return {
        group: {name: (named(one), usual.get(name, one.default)) for name, one in settings.items()}
        for group, settings in groups.items()
    }


def make_runs(experiment: Experiment, title: str, arms: Mapping[str, Given], given: Given, default_root: Path) -> int:
    """Makes an experiment's runs; returns the exit status.

    arms: settings by the arm's name. given: settings of all runs that have them; work_dir is the folder of all.
    default_root: the folder where none is given.
    """
    from sacae.experiments import local, plan
    from sacae.experiments.experiment import Launcher, conduct
    from sacae.experiments.ray_cluster import RayLauncher

    given = dict(given)
    root = given.pop("work_dir", None) or default_root
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
        launcher = local.LocalLauncher(local.places(experiment.parallel, given.get("device", RunConfig.device)))
    return conduct(title, runs, root, launcher, Console())


def words(text: str) -> list[str]:
    """The words between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]
