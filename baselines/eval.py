"""Plays a run of baselines.train back: python -m baselines.eval RUN_DIR; --help lists every flag."""

import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from baselines.algorithms import ALGORITHMS, SETTINGS
from baselines.settings import make
from sacae import cli
from sacae import config as configs
from sacae.commands.eval import evaluate_with
from sacae.settings import Settings

if TYPE_CHECKING:
    from sacae.training.playback import Make

PROG = "python -m baselines.eval"


def evaluate(argv: Sequence[str], prog: str = PROG) -> int:
    """Evaluates a run folder's agent, of any algorithm; returns the exit status."""
    return evaluate_with(lambda: load, argv, prog)


def load(run_dir: Path) -> tuple[Settings, "Make"]:
    """The settings of a run folder, and what makes its player. Raises UserError where it has no run."""
    from sacae.training import run_folder
    from sacae.training.playback import load_agent

    path = run_dir / run_folder.CONFIG
    name = configs.read(path).get("agent") if path.exists() else None
    if name not in SETTINGS:
        return load_agent(run_dir)
    config = configs.load(path, make(SETTINGS[name]))
    return config, functools.partial(ALGORITHMS[name].load_player, config)


if __name__ == "__main__":
    sys.exit(cli.guarded(evaluate, sys.argv[1:], PROG))
