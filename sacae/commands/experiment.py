"""What `sacae ablate` and `sacae sweep` share: options, given settings, and how they start the runs."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from rich.console import Console

from sacae import config as configs
from sacae.commands.parsing import Shown, given_settings, parse_with_settings
from sacae.declaration import AtLeast, Declared, InExperiments, Within, declared
from sacae.errors import UserError, flag_of
from sacae.groups import HeadSettings, RunConfig
from sacae.heads import HEADS, find_head
from sacae.limits import LONGEST_LIST, MOST_PROCESSES, MOST_RUNS, Text
from sacae.settings import check_value

T = TypeVar("T")

Given = dict[str, Any]
"""The settings on the command line, by name."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Many runs with the same training flags, each in an ordinary run folder."""

    tasks: Annotated[str | None, Text(LONGEST_LIST)] = None
    """Tasks to train on, separated by commas: of the DeepMind Control suite, such as cheetah_run,walker_walk, or
    Gymnasium ids; None is cheetah_run."""
    seeds: Annotated[int | None, Within(1, MOST_RUNS)] = None
    """Number of seeds of each arm on each task; None is 3."""
    first_seed: Annotated[int, AtLeast(0)] = 1
    """First seed of each arm on each task; the others count up from it."""
    launcher: Literal["local", "ray"] = "local"
    """How to start the runs. local: processes on this machine. ray: tasks on a Ray cluster."""
    parallel: Annotated[int | None, Within(1, MOST_PROCESSES)] = None
    """local launcher: number of simultaneous runs; None is one for each GPU, or one without a GPU. They share the CPU
    threads."""
    ray_address: str | None = None
    """ray launcher: address of the cluster, such as auto or ray://head:10001; None is the environment variable
    RAY_ADDRESS, or this machine if it is not set."""
    cpus_per_run: Annotated[float, AtLeast(0)] = 1.0
    """ray launcher: CPU cores reserved for each run."""
    gpus_per_run: Annotated[float, AtLeast(0)] = 0.0
    """ray launcher: GPUs reserved for each run; a fraction lets runs share one, 0 hides them."""
    retries: Annotated[int, AtLeast(0)] = 3
    """ray launcher: how often a run whose worker was lost is resumed from its checkpoint."""


def parse_experiment(kind: type[T], argv: Sequence[str], prog: str) -> tuple[T, Given]:
    """A command's options, and the settings that the command line gives for its runs, of any head.

    Raises UserError for an invalid word, and for a setting that experiments replace by another flag.
    """
    known = configs.every_setting()
    given = given_settings(argv, known)
    for name in given:
        for mark in known[name].marks:
            if isinstance(mark, InExperiments) and name != "work_dir":
                raise UserError(f"{name} is {given[name]}, but {prog} takes {mark.flag}; leave {flag_of(name)} out")
        check_value(known[name], given[name])
    find_head(given.get("agent", HeadSettings.agent))
    command, settings = parse_with_settings(kind, _offered(given), argv, prog)
    return command, {name: settings[name] for name in given}


FOLDER_OF_RUNS = "Folder for all runs; each run is in <task>/<arm>/<seed> below it. None: the folder named above."


def _offered(given: Given) -> Shown:
    """All settings that a run can have, but for those that experiments replace by another flag.

    The help of a setting that only some heads have starts with their names.
    """
    fitting = configs.with_what_fits({}, given)
    defaults = configs.make().flat()
    with contextlib.suppress(UserError):  # which planning the runs reports
        defaults |= configs.make(**fitting).flat()
    groups = {group: dict(declared(kind)) for group, kind in configs.Config().groups().items()}
    of_heads: dict[str, list[str]] = {}
    for head, entry in HEADS.items():
        for name, one in declared(entry.settings).items():
            groups["agent"].setdefault(name, one)
            of_heads.setdefault(name, []).append(head)

    def named(one: Declared) -> Declared:
        if one.name == "work_dir":
            return replace(one, help=FOLDER_OF_RUNS)
        heads = of_heads.get(one.name, list(HEADS))
        return one if len(heads) == len(HEADS) else replace(one, help=f"{', '.join(heads)}: {one.help}")

    return {
        group: {
            name: (named(one), defaults.get(name, one.default))
            for name, one in settings.items()
            if name == "work_dir" or not any(isinstance(mark, InExperiments) for mark in one.marks)
        }
        for group, settings in groups.items()
    }


def make_runs(experiment: Experiment, title: str, arms: Mapping[str, Given], given: Given, default_root: Path) -> int:
    """Trains an experiment's runs; returns the exit status.

    arms: settings by the arm's name. given: settings of all runs that have them; work_dir is the folder of the
    experiment. default_root: this folder if work_dir is not given.
    """
    from sacae.experiments import local, plan
    from sacae.experiments.experiment import Launcher, conduct
    from sacae.experiments.ray_cluster import RayLauncher, refuse_hidden_gpus

    _refuse_flags_of_another_launcher(experiment)
    given = dict(given)
    root = given.pop("work_dir", None) or default_root
    count = 3 if experiment.seeds is None else experiment.seeds
    seeds = range(experiment.first_seed, experiment.first_seed + count)
    tasks = ["cheetah_run"] if experiment.tasks is None else words(experiment.tasks)
    runs = plan.plan(arms, tasks, seeds, given, root)
    launcher: Launcher
    if experiment.launcher == "ray":
        refuse_hidden_gpus(runs, experiment.gpus_per_run)
        launcher = RayLauncher(
            root, experiment.ray_address, experiment.cpus_per_run, experiment.gpus_per_run, experiment.retries
        )
    else:
        parallel = experiment.parallel and min(experiment.parallel, len(runs))  # for the cores are shared out
        local.check_memory(parallel or 1)
        launcher = local.LocalLauncher(local.places(parallel, given.get("device", RunConfig.device)))
    return conduct(title, runs, root, launcher, Console())


OF_LAUNCHER = {"local": ("parallel",), "ray": ("ray_address", "cpus_per_run", "gpus_per_run", "retries")}
"""The options that only one launcher reads."""


def _refuse_flags_of_another_launcher(experiment: Experiment) -> None:
    for launcher, names in OF_LAUNCHER.items():
        for name in names:
            value = getattr(experiment, name)
            if launcher != experiment.launcher and value != getattr(Experiment, name):
                raise UserError(
                    f"{name} is {value}, but launcher is {experiment.launcher}; leave {flag_of(name)} out, or give "
                    f"--launcher {launcher}"
                )


def words(text: str) -> list[str]:
    """The words between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]
