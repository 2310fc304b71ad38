"""What makes an algorithm of this package out of its settings: for `baselines.train` and `baselines.eval`."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from rich.console import Console

from baselines.settings import AlgorithmSettings, Baseline
from sacae import envs
from sacae.training.evaluation import Player, RememberingPlayer
from sacae.training.learner import Learner
from sacae.training.start import Training, make_stepper, open_run


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
        torch.manual_seed(config.train.seed)
        return opening.begin(config, self.learner(config, spec, stepper, opening.device), stepper)
