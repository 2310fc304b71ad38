"""`sacae probe`: what a linear map reads off an encoder's latent."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from sacae.commands.parsing import parse
from sacae.declaration import Within
from sacae.limits import MOST_EPISODES


@dataclass(frozen=True)
class Probe:
    """Read the physical state off an encoder's latent by a linear map: R² of each coordinate, as a CSV and a plot.

    Beside the latent: a randomly initialised encoder, and principal components of the pixels.
    """

    run_dirs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN_DIR...")]
    """Run folders of one task, all with the same image settings; several share one picture, and their episodes are
    pooled."""
    episodes: Annotated[int, Within(1, MOST_EPISODES)] = 10
    """Episodes to play in each run, with exploration; three in ten of them are held out to test the linear map."""
    max_steps: Annotated[int, Within(1, MOST_EPISODES)] = 100
    """Maximum agent steps in an episode; each renders a frame, and software rendering makes about 30 frames a
    second."""
    best: bool = False
    """Probe the agent of the best evaluation instead of the last checkpoint."""
    out: Path | None = None
    """Folder for probe.csv and probe.png; None is probe/ in the first run folder. No file there is overwritten."""
    seed: int = 2000
    """Random seed of the episodes' initial states, the exploration and the randomly initialised encoder."""
    device: str = "auto"
    """Device to compute on: auto, cpu, cuda, cuda:N or mps; auto is the first CUDA GPU, or the CPU."""


def probe(argv: Sequence[str], prog: str) -> int:
    """Probes the encoders of run folders; returns the exit status."""
    command = parse(Probe, argv, prog)

    from sacae.experiments.probe import Plan
    from sacae.experiments.probe import probe as run_probe

    plan = Plan(command.episodes, command.max_steps, command.best, command.seed, command.device)
    run_probe(command.run_dirs, plan, command.out, Console())
    return 0
