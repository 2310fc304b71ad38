"""`sacae show`: a picture of what an agent sees and computes."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from sacae.commands.parsing import parse
from sacae.declaration import Within
from sacae.limits import LARGEST_SEED


@dataclass(frozen=True)
class Show:
    """Draw what an agent sees, reconstructs and computes: input, target, reconstruction, difference, feature maps."""

    run_dir: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN_DIR")]
    """Run folder of the agent, as its training printed it, or folder of an exported agent."""
    best: bool = False
    """Show the agent of the best evaluation instead of the last checkpoint."""
    out: Path | None = None
    """Folder for the picture; None is show/ in the run folder. No file there is overwritten."""
    seed: Annotated[int, Within(0, LARGEST_SEED)] = 1000
    """Random seed of the initial state of the episode that is played."""
    device: str = "auto"
    """Device to compute on: auto, cpu, cuda, cuda:N or mps; auto is the first CUDA GPU, or the CPU."""


def show(argv: Sequence[str], prog: str) -> int:
    """Draws what goes on inside a run folder's agent; returns the exit status."""
    command = parse(Show, argv, prog)

    from sacae.experiments.show import show as draw

    draw(**dataclasses.asdict(command), console=Console())
    return 0
