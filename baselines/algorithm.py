"""What makes an algorithm of this package out of its settings: for `baselines.train` and `baselines.eval`."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from rich.console import Console

from baselines.settings import AlgorithmSettings, Baseline
from sacae import envs
from sacae.errors import UserError, flag_of
from sacae.replay.memory import free_memory, place
from sacae.training.evaluation import Player, RememberingPlayer
from sacae.training.learner import Learner
from sacae.training.start import Training, make_stepper, open_run
from sacae.types import EnvSpec

ROWS = ("replay_capacity", "steps_per_update", "batch_size")
"""Settings that count remembered steps."""


@dataclass(frozen=True)
class Algorithm:
    """An algorithm of this package.

    learner: makes what learns from (config, spec, stepper, device). load_player: makes what plays from (config, spec,
    device) and a checkpoint's "learning". metric_names: the columns that its metrics have in train.csv.
    """

    settings: type[AlgorithmSettings]
    learner: Callable[..., Learner]
    load_player: Callable[..., Player | RememberingPlayer]
    metric_names: tuple[str, ...]

    def start(self, config: Baseline[AlgorithmSettings], console: Console, resume: bool = False) -> Training:
        """Prepares a training. Raises UserError for whatever the user can put right, before anything is written."""
        opening = open_run(config, console, resume)
        config = opening.with_rendering(config).replace(work_dir=config.work_dir, device=str(opening.device))
        stepper = make_stepper(config)
        spec = envs.spec_of(stepper.env_info, config.task.frame_stack)
        check_memory(config, spec, opening.device)
        torch.manual_seed(config.train.seed)
        return opening.begin(config, self.learner(config, spec, stepper, opening.device), stepper)


def check_memory(config: Baseline[AlgorithmSettings], spec: EnvSpec, device: torch.device) -> None:
    """Raises UserError, with the setting that takes most, if what the settings count cannot fit into memory.

    The least that each takes: two observations and an action for a remembered step, a matrix with its gradient and two
    moments for a hidden layer.
    """
    values, free = config.flat(), free_memory(device)
    row = 4 * (2 * math.prod(spec.obs_shape) + spec.action_dim)
    need = {name: values[name] * row for name in ROWS if values.get(name)}
    need |= {"hidden_dim": 4 * 4 * values["hidden_dim"] ** 2} if "hidden_dim" in values else {}
    if sum(need.values()) > max(free, 0):
        name = max(need, key=lambda one: need[one])
        raise UserError(
            f"{name} is {values[name]:,}, which needs {need[name] / 1e9:,.1f} GB or more in {place(device)}, but "
            f"{max(free, 0) / 1e9:.1f} GB is free; change {flag_of(name)}"
        )
