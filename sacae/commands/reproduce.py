"""`sacae reproduce`: runs the commands behind a table of results again."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sacae.commands.parsing import parse
from sacae.declaration import AtLeast
from sacae.errors import UserError
from sacae.signals import INTERRUPTED


@dataclass(frozen=True)
class Reproduce:
    """Run the commands behind a table of results again. The same command continues what was stopped.

    Needs a clone of the repository: the commands are those in the README of each folder of results/.
    """

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")] = ""
    """Folder of results/, such as laptop, or a section of its page, such as heads/from-state. None lists all names."""
    seed: Annotated[int | None, AtLeast(0)] = None
    """Seed of commands that make one run, in folders of its own; None is the seed of the command. Experiments of many
    runs keep theirs."""
    work_dir: Path | None = None
    """Folder for all runs and files; None is runs/reproduce/NAME."""
    dry_run: bool = False
    """Print the commands that would be run, and run none."""


def reproduce(argv: Sequence[str], prog: str) -> int:
    """Runs the commands; returns the exit status."""
    command = parse(Reproduce, argv, prog)

    from sacae.experiments import recipes

    known = recipes.found()
    if not command.name:
        print(
            "\n".join(
                f"{name:40s} {len(commands):3d} command{'s' * (len(commands) > 1)}" for name, commands in known.items()
            )
        )
        return 0
    root = command.work_dir or Path("runs", "reproduce", *command.name.split("/"))
    for words in recipes.planned(recipes.find(command.name, known), command.seed, root):
        line = f"python -m {shlex.join(words)}"
        print(line, flush=True)
        if command.dry_run:
            continue
        status = recipes.run(words, root.absolute(), print)
        if status == INTERRUPTED:
            print("stopped; the same command continues it")
            return status
        if status:
            raise UserError(f"{line} ended with status {status}; its message is above; the same command tries again")
    print(f"{'planned for' if command.dry_run else 'all done, in'} {root}")
    return 0
