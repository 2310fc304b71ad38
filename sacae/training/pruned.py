"""Runs whose replay was dropped: they play, and cannot be resumed."""

import contextlib
import shutil
from pathlib import Path

from sacae.errors import UserError
from sacae.training import checkpoint

MARK = "replay.pruned"
"""The file in a run's checkpoint folder that says so."""


def replay_bytes(run_folder: Path) -> int:
    """Bytes of the replay that a run's checkpoints keep; 0 without one."""
    folder = run_folder / checkpoint.FOLDER / checkpoint.REPLAY
    size = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a training at work replaces files
            size += path.stat().st_size if path.is_file() else 0
    return size


def drop_replay(run_folder: Path) -> None:
    """Removes the replay of a run's checkpoints, also one that lies elsewhere behind a link.

    Raises OSError if that is not possible.
    """
    folder = run_folder / checkpoint.FOLDER
    replay = folder / checkpoint.REPLAY
    # The mark comes first: half a replay would look like damage.
    (folder / MARK).write_text("sacae prune dropped the replay of this run, which cannot be resumed without it\n")
    shutil.rmtree(replay.resolve())
    if replay.is_symlink():
        replay.unlink()


def is_pruned(run_folder: Path) -> bool:
    """Whether a run's replay was dropped."""
    return (run_folder / checkpoint.FOLDER / MARK).exists()


def refuse(run_folder: Path) -> None:
    """Raises UserError for a run whose replay was dropped."""
    if is_pruned(run_folder):
        raise UserError(
            f"{run_folder} cannot be resumed: sacae prune dropped its replay; it still plays; to train further, start "
            "a run in another --work-dir, from pixels with --encoder-from this folder"
        )
