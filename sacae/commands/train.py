"""`sacae train`, which `train.py` is too: a run of an agent. `train_with` serves other kinds of runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console

from sacae import config as configs
from sacae.commands.parsing import given_settings, parse_with_settings, shown
from sacae.errors import UserError, flag_of
from sacae.settings import CHANGEABLE_ON_RESUME, Declared, check, refuse_idle

if TYPE_CHECKING:
    from sacae.training.start import Start, Training


@dataclass(frozen=True)
class Train:
    """Train an agent on a DeepMind Control task or a Gymnasium environment, from pixels or from state vectors.

    Everything lands in the run folder: settings, CSV files, TensorBoard, videos, reconstructions, a checkpoint.
    """

    resume: bool = False
    """Continue the run in the run folder (--work-dir) from its checkpoint."""


def train(argv: Sequence[str], prog: str) -> int:
    """Runs a training; returns the exit status."""

    def start(config: configs.Settings, console: Console, resume: bool) -> "Training":
        from sacae.training import off_policy

        assert isinstance(config, configs.Config)  # as the defaults are
        return off_policy.start(config, console, resume)

    return train_with(configs.make, configs.every_setting(), start, argv, prog)


def train_with(
    make: Callable[..., configs.Settings],
    known: Mapping[str, Declared],
    start: "Start",
    argv: Sequence[str],
    prog: str,
) -> int:
    """Runs a training of any kind of settings; returns the exit status.

    make: the settings of a new run, from those that were given. known: all that may be given. start: prepares the
    training, once the flags are in order.
    """
    given = given_settings(argv, known)
    if "--resume" in argv:
        config = _resumed(make, given, argv, prog)
    else:
        made = make(**given)
        config = made.replace(**parse_with_settings(Train, shown(made), argv, prog)[1])
    resume = "--resume" in argv
    return 0 if start(config, Console(), resume).train() else 130


def _resumed(
    make: Callable[..., configs.Settings], given: Mapping[str, Any], argv: Sequence[str], prog: str
) -> configs.Settings:
    """The run folder's settings, with those given on the command line that a resumed run may change."""
    folder = given.get("work_dir") or make(**given).work_dir
    saved = configs.load(folder / "config.yaml", type(make())).replace(work_dir=folder)
    before, changeable = saved.flat(), saved.with_role(CHANGEABLE_ON_RESUME)
    going_on = saved.replace(**given)
    refuse_idle(going_on, given)
    for name, value in going_on.flat().items():
        if before[name] != value and name not in (*changeable, "work_dir"):
            raise UserError(
                f"{name} is {value}, but the run in {folder} has {before[name]}; a resumed run may change only "
                f"{', '.join(changeable)}; leave {flag_of(name)} out"
            )
    check(going_on, new_run=False)
    parse_with_settings(Train, shown(going_on), argv, prog)  # says what is wrong with any other word
    return going_on.replace(work_dir=folder)
