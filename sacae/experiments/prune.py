"""`sacae prune`: drops the replay of finished runs, which is most of what they take on the disk."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from sacae import config as configs
from sacae.errors import UserError
from sacae.experiments.plan import is_finished
from sacae.experiments.report.runs import run_folders
from sacae.files import in_units
from sacae.text import say
from sacae.training import checkpoint, lock, pruned
from sacae.training.run_folder import CONFIG


@dataclass(frozen=True)
class Candidate:
    """A finished run, and the bytes that its replay takes."""

    folder: Path
    size: int


def prune(root: Path, console: Console, agreed: Callable[[str], bool]) -> None:
    """Drops the replays of the finished runs at or below a folder, once `agreed` says yes to a question.

    Prints what that would free, run by run, before it asks. Raises UserError if there is no run, and as `agreed` does.
    """
    candidates, others = _find(root)
    if not candidates:
        say(console, f"nothing to free: {others}")
        return
    for one in candidates:
        say(console, f"{in_units(one.size):>10s}  {one.folder}")
    total = in_units(sum(one.size for one in candidates))
    say(console, f"{total} in the replays of {_runs(len(candidates))}; {others}")
    say(console, "runs without replay still play, show, probe, export and report; they cannot be resumed")
    if not agreed(f"free {total}?"):
        say(console, "nothing is removed")
        return
    freed = sum(_drop(one, console) for one in candidates)
    say(console, f"freed {in_units(freed)}")


def _find(root: Path) -> tuple[Sequence[Candidate], str]:
    """The finished runs with a replay, and in words how many others there are."""
    if not root.is_dir():
        raise UserError(f"ROOT is {root}, but there is no such folder; name a run folder, or a folder of runs")
    found = [folder for folder in run_folders(root) if (folder / CONFIG).is_file()]
    folders = {folder.resolve(): folder for folder in found}.values()  # a link can lead to one once more
    if not folders:
        raise UserError(f"ROOT is {root}, but it holds no run folder; name a run folder, or a folder of runs")
    candidates, unfinished, without = [], 0, 0
    for folder in folders:
        size = pruned.replay_bytes(folder)
        if not size:
            without += 1
        elif _is_free(folder) and _is_finished(folder):
            candidates.append(Candidate(folder, size))
        else:
            unfinished += 1
    return candidates, f"{_runs(unfinished)} not finished, {_runs(without)} without a saved replay"


def _is_free(folder: Path) -> bool:
    """Whether no training is at work in a run's folder."""
    try:
        lock.refuse_if_held(folder)
    except UserError:
        return False
    return True


def _is_finished(folder: Path) -> bool:
    """Whether a run is finished. What cannot be read is left alone."""
    try:
        groups = configs.read(folder / CONFIG)["settings"]
        num_steps, action_repeat = groups["train"]["num_train_steps"], groups["task"]["action_repeat"]
        return is_finished(folder, int(num_steps), int(action_repeat))
    except (UserError, KeyError, TypeError, ValueError):
        return False


def _drop(one: Candidate, console: Console) -> int:
    """Drops a replay; returns the bytes freed. A run that another process took or goes on with is left, with a line."""
    try:
        held = lock.take(one.folder)
    except UserError as error:
        say(console, f"left: {error}")
        return 0
    try:
        if not _is_finished(one.folder):
            say(console, f"left: {one.folder} is not finished any more")
            return 0
        pruned.drop_replay(one.folder)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        say(console, f"left: {one.folder / checkpoint.FOLDER} cannot be changed: {reason}")
        return 0
    finally:
        held.release()
    return one.size


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
