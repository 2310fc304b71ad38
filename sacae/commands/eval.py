"""`sacae eval`, which `eval.py` is too: a trained agent plays. `evaluate_with` serves other kinds of runs."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

from sacae.commands.parsing import parse
from sacae.declaration import AtLeast, Within
from sacae.limits import LARGEST_SEED, MOST_EPISODES, MOST_PROCESSES

if TYPE_CHECKING:
    from sacae.training.playback import Load


@dataclass(frozen=True)
class Evaluate:
    """Play a trained agent back: prints each return, and writes JSON and a video into the run folder."""

    run_dir: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN_DIR")]
    """Run folder of the agent, as its training printed it, or folder of an exported agent."""
    episodes: Annotated[int, Within(1, MOST_EPISODES)] = 10
    """Episodes to play, without exploration."""
    num_envs: Annotated[int, Within(1, MOST_PROCESSES)] = 1
    """Episodes to play side by side; more than one can change the last digits of the actions through rounding."""
    video: bool = True
    """Record a video of the first episode."""
    best: bool = False
    """Play the agent of the best evaluation instead of the last checkpoint."""
    step: Annotated[int | None, AtLeast(0)] = None
    """Play the checkpoint of this environment step: one of the last two, the best, or one that
    --keep-checkpoints or --keep-every kept."""
    seed: Annotated[int, Within(0, LARGEST_SEED)] = 1000
    """Random seed of the episodes' initial states."""
    device: str = "auto"
    """Device to compute on: auto, cpu, cuda, cuda:N or mps; auto is the first CUDA GPU, or the CPU."""


def evaluate(argv: Sequence[str], prog: str) -> int:
    """Evaluates a run folder's agent; returns the exit status."""

    def load() -> "Load":
        from sacae.training.playback import load_agent

        return load_agent

    return evaluate_with(load, argv, prog)


def evaluate_with(load: Callable[[], "Load"], argv: Sequence[str], prog: str) -> int:
    """Evaluates what a run folder holds; returns the exit status.

    load: imports what reads a run folder, once the flags are in order.
    """
    command = parse(Evaluate, argv, prog)

    from sacae.training.playback import play_back

    play_back(**dataclasses.asdict(command), console=Console(), load=load())
    return 0
