"""`sacae sweep`: a run for every point of a grid."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from sacae.commands.experiment import Experiment, make_runs, parse_experiment
from sacae.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Make a run for every point of a grid over settings. The same command continues unfinished runs.

    --work-dir is the folder for all runs, by default runs/sweeps/...; each run is in WORK_DIR/<task>/<arm>/<seed>.
    """

    experiment: Annotated[Experiment, tyro.conf.arg(name="")] = field(default_factory=Experiment)
    grid: tuple[str, ...] = ()
    """Settings and their values, such as critic_lr=1e-3,3e-4 encoder_tau=0.01,0.05; each combination is an arm."""
    file: Path | None = None
    """YAML file with any of grid, arms, settings, tasks, seeds; flags on the command line override it."""


def sweep(argv: Sequence[str], prog: str) -> int:
    """Makes the runs of a grid; returns the exit status."""
    command, given = parse_experiment(Sweep, argv, prog)

    from sacae.experiments import sweep as sweeps

    said = sweeps.read(command.file) if command.file else sweeps.Sweep()
    grid = {**said.grid, **sweeps.grid_of(command.grid)}
    of_grid = sweeps.arms_of(grid) if grid or not said.arms else {}
    if twice := [name for name in of_grid if name in said.arms]:
        raise UserError(f"arms has {twice[0]}, but so has the grid; give the arm another name")
    arms = {**said.arms, **of_grid}
    name = command.file.stem if command.file else ",".join(grid)
    flags = command.experiment
    experiment = dataclasses.replace(
        flags,
        tasks=",".join(said.tasks) if flags.tasks is None and said.tasks is not None else flags.tasks,
        seeds=said.seeds if flags.seeds is None else flags.seeds,
    )
    return make_runs(experiment, f"sweep {name}", arms, {**said.settings, **given}, Path("runs", "sweeps", name))
