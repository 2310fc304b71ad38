"""`sacae prune`: frees the disk of the replays of finished runs."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from sacae.commands.parsing import parse
from sacae.errors import UserError


@dataclass(frozen=True)
class Prune:
    """Drop the replay of finished runs, which is most of what they take on the disk; shows what, and asks first.

    Such runs still play, show, probe, export and report; they cannot be resumed.
    """

    root: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="ROOT")]
    """Run folder, or folder that contains some, such as runs."""
    yes: bool = False
    """Do not ask. Without a terminal, nothing is removed unless this is given."""


def prune(argv: Sequence[str], prog: str) -> int:
    """Drops the replays of finished runs; returns the exit status."""
    command = parse(Prune, argv, prog)

    from sacae.experiments.prune import prune as drop

    drop(command.root, Console(), lambda question: command.yes or _asked(question))
    return 0


def _asked(question: str) -> bool:
    """The answer at the terminal. Raises UserError without one."""
    if not sys.stdin.isatty():
        raise UserError("yes is off, and there is no terminal to ask; nothing is removed; give --yes")
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
