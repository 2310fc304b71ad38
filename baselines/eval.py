"""Plays a run of baselines.train back: python -m baselines.eval RUN_DIR; --help lists every flag."""

import functools
import sys
from collections.abc import Sequence
from pathlib import Path

from baselines.algorithms import ALGORITHMS
from sacae import cli
from sacae import config as configs
from sacae.training import run_folder
from sacae.training.playback import Make, load_agent

PROG = "python -m baselines.eval"


def evaluate(argv: Sequence[str], prog: str = PROG) -> int:
    """Evaluates a run folder's agent, of any algorithm; returns the exit status."""
    return cli.evaluate_with(load, argv, prog)


def load(run_dir: Path) -> tuple[configs.Settings, Make]:
    """The settings of a run folder, and what makes its player. Raises UserError where it has no run."""
    path = run_dir / run_folder.CONFIG
    algorithm = ALGORITHMS.get(configs.read(path).get("agent")) if path.exists() else None
    if algorithm is None:
        return load_agent(run_dir)
    config = configs.load(path, algorithm.settings)
    return config, functools.partial(algorithm.load_player, config)


if __name__ == "__main__":
    sys.exit(cli.guarded(evaluate, sys.argv[1:], PROG))
