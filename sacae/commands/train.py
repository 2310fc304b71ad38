"""`sacae train`, which is the same as `train.py`: trains an agent. `train_with` trains any kind of run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from sacae import config as configs
from sacae.commands import settings_file
from sacae.commands.parsing import given_settings, option_value, parse_with_settings, shown
from sacae.declaration import Declared
from sacae.errors import UserError
from sacae.files import as_path
from sacae.settings import Settings

if TYPE_CHECKING:
    from sacae.training.start import Start, Training


@dataclass(frozen=True)
class Train:
    """Train an agent on a DeepMind Control task or a Gymnasium environment.

    Everything lands in the run folder: settings, CSV files, TensorBoard, videos, pictures, a checkpoint.
    """

    resume: bool = False
    """Continue the run in the run folder (--work-dir) from its checkpoint."""
    config: Path | None = None
    """YAML file of settings to start from: a run's config.yaml, or settings by name. Flags override them."""


def train(argv: Sequence[str], prog: str) -> int:
    """Runs a training; returns the exit status."""

    def start(config: Settings, console: Console, resume: bool) -> "Training":
        from sacae.training import off_policy

        assert isinstance(config, configs.Config)  # because configs.make made it
        return off_policy.start(config, console, resume)

    return train_with(
        configs.make, configs.every_setting(), start, argv, prog, configs.with_what_fits, configs.chosen_beside
    )


def train_with(
    make: Callable[..., Settings],
    known: Mapping[str, Declared],
    start: "Start",
    argv: Sequence[str],
    prog: str,
    fit: settings_file.Fit = settings_file.together,
    rebase: settings_file.Rebase = settings_file.everything,
) -> int:
    """Runs a training of any kind of run; returns the exit status.

    make: makes the settings of a new run from the given ones. known: the declarations of all possible settings. start:
    prepares the training; it is called only with valid settings. fit: adds what a run's config.yaml holds to the given
    settings where it applies. rebase: leaves out beforehand what the given settings bring anew.
    """
    given = given_settings(argv, known)
    path = option_value("config", argv)
    if "--resume" in argv:
        if path:
            raise UserError(
                f"config is {path}, but a resumed run has its settings in its folder; give that in its place: "
                "--work-dir FOLDER"
            )
        config = _resumed(make, given, argv, prog)
    else:
        if path:
            given = settings_file.started_from(as_path(path), given, known, fit, rebase)
        made = make(**given)
        config = made.replace(**parse_with_settings(Train, shown(made), argv, prog)[1])
    resume = "--resume" in argv

    import torch  # slow, so that mistakes are told before

    torch.manual_seed(config.train.seed)  # for what users add, such as dropout: nothing here draws from this generator
    return 0 if start(config, Console(), resume).train() else 130


def _resumed(make: Callable[..., Settings], given: Mapping[str, Any], argv: Sequence[str], prog: str) -> Settings:
    """The settings in the run folder, with the changes from the command line that a resumed run allows."""
    folder = given.get("work_dir") or make(**given).work_dir
    config = configs.resumed(folder, make(), given)
    parse_with_settings(Train, shown(config), argv, prog)  # reports all other mistakes
    return config
