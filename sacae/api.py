"""The package from Python: settings, a training, a trained agent. Mistakes are raised as `sacae.errors.UserError`.

Importing this module imports neither PyTorch nor a simulator; a call does.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sacae import config as configs
from sacae import yaml_file
from sacae.config import Config
from sacae.declaration import in_words
from sacae.errors import UserError
from sacae.files import as_path
from sacae.limits import FilePath
from sacae.settings import check

if TYPE_CHECKING:
    from sacae.training.callbacks import Callback, Row
    from sacae.training.trained import TrainedAgent


class Result(NamedTuple):
    """What a call of `train` or `resume` came to.

    folder: the run folder. evaluations: those that this call made, in order; docs/python.md lists their keys.
    complete: whether the run is; False if a callback or a signal stopped it.
    """

    folder: Path
    evaluations: list["Row"]
    complete: bool


def make_config(**settings: Any) -> Config:
    """The settings of a run, by the names of the flags of `sacae train` with underscores: batch_size=128.

    Presets and checks are those of the command line. `preset` names a set of settings, which the others override.

    Raises UserError for a name that does not exist, with similar ones, and for a value that is not allowed.
    """
    return configs.make(**_typed(settings))


def _typed(settings: dict[str, Any]) -> dict[str, Any]:
    """The values in their settings' types; a name that does not exist is left to the check that refuses it."""
    known = configs.every_setting()
    return {name: yaml_file.typed(known[name], v) if name in known else v for name, v in settings.items()}


def train(config: Config, callbacks: Sequence["Callback"] = ()) -> Result:
    """Trains an agent as `sacae train` does, and prints the same lines.

    config: from `make_config`. callbacks: objects with any of the methods `on_episode`, `on_evaluation` and
        `on_checkpoint`; see `sacae.training.callbacks`. A False from one ends the run with a checkpoint.

    Raises UserError where the command line would print one, and what a callback raises, after a checkpoint. A script
    that trains from pixels does so under `if __name__ == "__main__":`, since environments run in processes of their
    own, which import it.
    """
    if not isinstance(config, Config):
        raise UserError(f"config is a {type(config).__name__}, but it must be what sacae.make_config returns")
    check(config)
    return _train(config, callbacks, resume=False)


def resume(run: str | Path, callbacks: Sequence["Callback"] = (), **settings: Any) -> Result:
    """Continues the run in a folder from its checkpoint, as `sacae train --resume` does.

    settings: changes, of those settings that a resumed run may change, such as num_train_steps. Otherwise as `train`.
    """
    return _train(configs.resumed(_folder(run), Config(), _typed(settings)), callbacks, resume=True)


def _folder(run: str | Path) -> Path:
    """The path of a run folder. Raises UserError for what is no path."""
    if not isinstance(run, str | os.PathLike):
        raise UserError(f"run is a {type(run).__name__}, but it must be a path; a Result has it as folder")
    limit = FilePath()
    if not limit.holds(run):
        raise UserError(f"run is {in_words(run)}, but it must be {limit.allowed}; give the folder of a run")
    return as_path(run)


def _train(config: Config, callbacks: Sequence["Callback"], resume: bool) -> Result:
    from rich.console import Console

    from sacae.envs.process import leave_unguarded
    from sacae.training import off_policy
    from sacae.training.callbacks import Callbacks

    if not isinstance(callbacks, Sequence):
        raise UserError(f"callbacks is a {type(callbacks).__name__}, but it must be a list of objects, or ()")
    leave_unguarded()
    evaluations = _Evaluations()
    told = Callbacks([evaluations, *callbacks])
    complete = off_policy.start(config, Console(), resume).train(told)
    return Result(config.work_dir, evaluations.rows, complete)


class _Evaluations:
    """A callback that keeps the rows of evaluations."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def on_evaluation(self, row: "Row") -> None:
        self.rows.append(row)


def load_agent(run: str | Path, best: bool = False, step: int | None = None, *, device: str = "auto") -> "TrainedAgent":
    """The agent in a run folder, ready to act.

    best: of the best evaluation instead of the last checkpoint. step: of the checkpoint at that environment step; a run
    folder has the last two, the best one, and those that `keep_checkpoints` or `keep_every` kept. device: to compute
    on, as `--device`.

    Raises UserError if there is no such run or checkpoint.
    """
    from sacae.training.trained import load

    return load(_folder(run), best, step, device)
