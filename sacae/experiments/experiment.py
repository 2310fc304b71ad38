"""One experiment, from its plan to its exit status."""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from rich.console import Console

from sacae.errors import UserError
from sacae.experiments import board as states
from sacae.experiments.board import Board
from sacae.experiments.disk import forecast
from sacae.experiments.plan import Left, Run, what_is_left
from sacae.experiments.precision import with_precision
from sacae.training.device import Choice


class Launcher(Protocol):
    """Makes runs, on this machine or on a cluster."""

    def connected(self) -> AbstractContextManager[None]:
        """Where the other methods may be called: while there is a connection to what the runs are made on."""

    def auto_precisions(self, device: str) -> Sequence[tuple[str, Choice]]:
        """The choice of `--precision auto` on each device that a run with this device setting can use, by its name."""

    def launch(self, runs: Sequence[Run], board: Board) -> None:
        """Makes the runs and shows their progress on the board, until all have ended or been stopped."""


def conduct(title: str, runs: Sequence[Run], root: Path, launcher: Launcher, console: Console) -> int:
    """Makes the unfinished runs of an experiment.

    Returns 0 if all runs are finished, 1 if one failed, 130 if it was stopped. Raises UserError, before anything
    starts, if a folder holds a run with other settings.
    """
    left = {run: what_is_left(run) for run in _distinct(runs)}
    with Board(title, runs, console) as board:
        board.say(f"{title}: {len(runs)} runs, {_summary(left.values())}; they are in {root}")
        for run in runs:
            if left[run] is Left.NOTHING:
                board.set(run, states.SKIPPED)
        if set(left.values()) != {Left.NOTHING}:
            for line in forecast([run for run, kind in left.items() if kind is not Left.NOTHING], root):
                board.say(line)
            with launcher.connected():
                left = with_precision(left, root, launcher.auto_precisions, board.say)
                launcher.launch([run for run, kind in left.items() if kind is not Left.NOTHING], board)
    _say_the_end(board, root)
    return board.exit_status


def _distinct(runs: Sequence[Run]) -> Sequence[Run]:
    """The runs. Raises UserError if two would share a folder."""
    counts = Counter(run.folder for run in runs)
    for folder, count in counts.items():
        if count > 1:
            raise UserError(f"{count} runs would share {folder}; name each task and each value once")
    return runs


def _summary(left: Iterable[Left]) -> str:
    counts = Counter(left)
    return ", ".join(f"{counts[kind]} {kind.value}" for kind in Left if counts[kind])


def _say_the_end(board: Board, root: Path) -> None:
    """Prints how the runs ended, with a line for each failure."""
    counts = Counter(board.state.values())
    board.say(", ".join(f"{counts[state]} {state}" for state in states.STYLES if counts[state]))
    for name, problem in board.problem.items():
        board.say(f"  {name}: {problem}")
    if board.exit_status:
        board.say("run the same command again to continue")
    else:
        board.say(f"every run is finished; they are in {root}")
