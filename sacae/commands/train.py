"""`sacae train`, which `train.py` is too: a run of an agent. `train_with` serves other kinds of runs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

from sacae import config as configs
from sacae.commands.parsing import early_settings, parse
from sacae.errors import UserError

if TYPE_CHECKING:
    from sacae.training.start import Start, Training


@dataclass(frozen=True)
class Train:
    """Train an agent on a DeepMind Control task or a Gymnasium environment, from pixels or from state vectors.

    Everything lands in the run folder: settings, CSV files, TensorBoard, videos, reconstructions, a checkpoint.
    """

    config: Annotated[configs.Settings, tyro.conf.arg(name="")] = field(default_factory=configs.Config)
    resume: bool = False
    """Continue the run in the run folder (--work-dir) from its checkpoint."""


CHANGEABLE = (
    "num_train_steps",
    "eval_every",
    "num_eval_episodes",
    "num_eval_envs",
    "num_threads",
    "save_video",
    "checkpoint_every",
    "save_replay",
    "overlap",
    "device",
    "replay_device",
)
"""Settings that may differ when a run goes on: how long it is, what is watched and kept, where it computes."""


def train(argv: Sequence[str], prog: str) -> int:
    """Runs a training; returns the exit status."""

    def start(config: configs.Settings, console: Console, resume: bool) -> "Training":
        from sacae.training import off_policy

        assert isinstance(config, configs.Config)  # as the defaults are
        return off_policy.start(config, console, resume)

    return train_with(configs.make(**early_settings(argv)), start, argv, prog)


def train_with(defaults: configs.Settings, start: "Start", argv: Sequence[str], prog: str) -> int:
    """Runs a training of any kind of settings; returns the exit status.

    defaults: the settings where no flag says otherwise. start: prepares the training, once the flags are in order.
    """
    command = parse(Train, argv, prog, Train(defaults))
    configs.check(command.config, new_run=not command.resume)
    config = _resumed(command, argv, prog) if command.resume else command.config
    return 0 if start(config, Console(), command.resume).train() else 130


def _resumed(command: Train, argv: Sequence[str], prog: str) -> configs.Settings:
    """The run folder's settings, with those given on the command line that a resumed run may change."""
    folder = command.config.work_dir
    saved = configs.load(folder / "config.yaml", type(command.config)).replace(work_dir=folder)
    given = parse(Train, argv, prog, Train(saved, resume=True)).config.replace(work_dir=folder)
    configs.check(given, new_run=False)
    before, after = saved.flat(), given.flat()
    for name in before:
        if before[name] != after[name] and name not in CHANGEABLE:
            raise UserError(
                f"{name} is {after[name]}, but the run in {folder} has {before[name]}; a resumed run may change only "
                f"{', '.join(CHANGEABLE)}; leave --{name.replace('_', '-')} out"
            )
    return given
