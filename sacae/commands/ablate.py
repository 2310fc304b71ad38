"""`sacae ablate`: the runs of a named ablation."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from sacae.commands.experiment import Experiment, make_runs, parse_experiment, words
from sacae.limits import LONGEST_LIST, Text


@dataclass(frozen=True, kw_only=True)
class Ablate:
    """Make every run of a named ablation. The same command continues unfinished runs.

    --work-dir is the folder for all runs, by default runs/ablations/NAME; each run is in WORK_DIR/<task>/<arm>/<seed>.
    """

    experiment: Annotated[Experiment, tyro.conf.arg(name="")] = field(default_factory=Experiment)
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")] = ""
    """Name of the ablation, such as decoder, autoencoder, depth, heads; docs/ablations.md lists them all."""
    arms: Annotated[str | None, Text(LONGEST_LIST)] = None
    """Arms to run, separated by commas; None is all of the ablation."""


def ablate(argv: Sequence[str], prog: str) -> int:
    """Makes the runs of a named ablation; returns the exit status."""
    command, given = parse_experiment(Ablate, argv, prog)

    from sacae.experiments import ablations

    title = f"ablation {command.name}"
    chosen = None if command.arms is None else words(command.arms)
    arms = ablations.choose(ablations.find(command.name).arms, chosen, title)
    return make_runs(command.experiment, title, arms, given, Path("runs", "ablations", command.name))
