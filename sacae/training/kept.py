"""Earlier policies that a run keeps: files of the networks alone, which play and cannot be continued."""

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sacae.training import checkpoint

NAME = re.compile(r"step_(\d+)\.pt")


def name_at(env_step: int) -> str:
    """The file's name in a run's checkpoint folder."""
    return f"step_{env_step}.pt"


def steps(run_folder: Path) -> list[int]:
    """The environment steps of the policies that are kept, in order."""
    names = (path.name for path in (run_folder / checkpoint.FOLDER).glob("step_*.pt"))
    return sorted(int(match[1]) for name in names if (match := NAME.fullmatch(name)))


def to_keep(there: Iterable[int], newest: int, every: int | None) -> set[int]:
    """Those of the steps that stay: the newest ones, and the first at or after each multiple of `every` but 0."""
    ordered = sorted(there)
    first: dict[int, int] = {}
    if every:
        for step in ordered:
            first.setdefault(step // every, step)
    return {*ordered[max(len(ordered) - newest, 0) :]} | {step for number, step in first.items() if number}


def keep(run_folder: Path, env_step: int, newest: int, every: int | None, state: dict[str, Any]) -> None:
    """Writes the policy of this step if it is to stay, and removes those that no longer are.

    The untrained policy of step 0 is not kept. What lies beyond this step is of a run that ended before its checkpoint,
    and goes. state: as of `checkpoint.save_playable`. Raises UserError if the file cannot be written.
    """
    if not env_step:
        return
    there = steps(run_folder)
    staying = to_keep({step for step in there if step < env_step} | {env_step}, newest, every)
    if env_step in staying:
        checkpoint.save_playable(run_folder, name_at(env_step), state)
    for step in there:
        if step not in staying:
            with contextlib.suppress(OSError):
                (run_folder / checkpoint.FOLDER / name_at(step)).unlink()
