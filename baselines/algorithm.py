"""What makes an algorithm of this package out of its settings: for `baselines.train` and `baselines.eval`."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console

from baselines.settings import AlgorithmSettings, Baseline
from sacae import envs
from sacae.errors import UserError, flag_of
from sacae.networks import seeded
from sacae.replay.memory import free_memory, place
from sacae.training.evaluation import Player, RememberingPlayer
from sacae.training.learner import Learner
from sacae.training.start import Training, make_stepper, open_run
from sacae.types import EnvSpec

REMEMBERED = ("replay_capacity", "steps_per_update")
"""Settings that count steps in host memory."""


def row_bytes(spec: EnvSpec) -> int:
    """The least that a remembered step takes: an observation and an action."""
    return 4 * (math.prod(spec.obs_shape) + spec.action_dim)


@dataclass(frozen=True)
class Algorithm:
    """An algorithm of this package.

    learner: makes what learns from (config, spec, stepper, device). load_player: makes what plays from (config, spec,
    device) and a checkpoint's "learning". metric_names: the columns that its metrics have in train.csv. row_bytes: of
    a remembered step, as its replay keeps it. check_new: raises UserError for the settings of a new run that could not
    learn its task.
    """

    settings: type[AlgorithmSettings]
    learner: Callable[..., Learner]
    load_player: Callable[..., Player | RememberingPlayer]
    metric_names: tuple[str, ...]
    row_bytes: Callable[[EnvSpec], int] = row_bytes
    check_new: Callable[[Any], None] = lambda _config: None

    def start(self, config: Baseline[AlgorithmSettings], console: Console, resume: bool = False) -> Training:
        """Prepares a training. Raises UserError for whatever the user can put right, before anything is written."""
        opening = open_run(config, console, resume)
        with opening.undone_on_error() as undo:
            config = opening.with_rendering(config).replace(work_dir=config.work_dir, device=str(opening.device))
            stepper = make_stepper(config)
            undo.callback(stepper.close)
            spec = envs.spec_of(stepper.env_info, config.task.frame_stack)
            check_memory(config, self.row_bytes(spec), opening.device)
            if opening.found is None:
                self.check_new(config)
            with seeded(config.train.seed):
                learner = self.learner(config, spec, stepper, opening.device)
            return opening.begin(config, learner, stepper)


def check_memory(config: Baseline[AlgorithmSettings], row: int, device: torch.device) -> None:
    """Raises UserError, with the setting that takes most, if what the settings count cannot fit into memory.

    The least that each takes, of what has to fit in one place: remembered steps of `row` bytes in host memory; on the
    device a matrix with its gradient and two moments for a hidden layer, and a batch.
    """
    values = config.flat()
    host = {name: values[name] * row for name in REMEMBERED if values.get(name)}
    on_device = {"batch_size": values["batch_size"] * row} if values.get("batch_size") else {}
    on_device |= {"hidden_dim": 4 * 4 * values["hidden_dim"] ** 2} if "hidden_dim" in values else {}
    cpu = torch.device("cpu")
    for where, need in ((cpu, host | on_device),) if device == cpu else ((cpu, host), (device, on_device)):
        free = max(free_memory(where), 0)
        if sum(need.values()) > free:
            name = max(need, key=lambda one: need[one])
            raise UserError(
                f"{name} is {values[name]:,}, which needs {need[name] / 1e9:,.1f} GB or more in {place(where)}, but "
                f"{free / 1e9:.1f} GB is free; change {flag_of(name)}"
            )
