"""`sacae check-env`: whether an agent can learn in a Gymnasium environment, how fast it is, and what it shows."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from sacae.commands.parsing import parse
from sacae.declaration import AtLeast, Within


@dataclass(frozen=True)
class CheckEnv:
    """Check a Gymnasium environment: faults, spaces, speed, and a picture of what an agent would see."""

    env: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ID")]
    """Name in Gymnasium's registry, such as Pendulum-v1; module:Id imports the module that registers it."""
    obs: Literal["pixels", "state", "pixels+state"] | None = None
    """What the agent would observe; None is what a training has: pixels for Atari, else state."""
    image_size: Annotated[int | None, Within(48, 128)] = None
    """Height and width of a frame, 48 to 128; None is what a training has: 84."""
    action_repeat: Annotated[int | None, AtLeast(1)] = None
    """Environment steps for which each action is repeated; None is what a training has: 4 for Atari, else 1."""
    env_kwargs: tuple[str, ...] = ()
    """Arguments of the environment, such as gravity=1.6. Values are YAML scalars."""
    out: Path = Path("check-env")
    """Folder for the picture. No file there is overwritten."""


def check_env(argv: Sequence[str], prog: str) -> int:
    """Checks an environment; returns 0, or 1 if Gymnasium's checker finds a fault."""
    command = parse(CheckEnv, argv, prog)

    from sacae.experiments.check_env import check_env as check

    return check(**dataclasses.asdict(command), console=Console())
