"""The folder of a run that ended before its first checkpoint, and so before it learned anything: it begins anew.

It needs neither PyTorch nor a simulator.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from sacae.training.lock import LOCK

CONFIG = "config.yaml"
CSV_FILES = ("train.csv", "eval.csv", "causal.csv", "dormancy.csv")
WRITTEN_BEFORE_LEARNING = re.compile(
    rf"{re.escape(CONFIG)}|{re.escape(LOCK)}|{'|'.join(map(re.escape, CSV_FILES))}"
    r"|(checkpoint/)?\.tmp-[^/]*"
    r"|tb/events\.out\.tfevents\.[^/]*"
    r"|checkpoint/replay/rows_[^/]*"
    r"|wandb/.*"
)
"""Paths in a run folder before its first checkpoint. Any other file is something else's, and is never removed."""


def is_empty(folder: Path) -> bool:
    """Whether the folder holds nothing, or nothing but a lock; a missing one does, too."""
    return not folder.exists() or (folder.is_dir() and all(path.name == LOCK for path in folder.iterdir()))


def is_unstarted(folder: Path) -> bool:
    """Whether this is the folder of such a run, and holds nothing else."""
    paths = [*_files(folder)]
    if not all(WRITTEN_BEFORE_LEARNING.fullmatch(path) for path in paths):
        return False
    if CONFIG not in paths and not any(path.startswith(f".tmp-{CONFIG}") for path in paths):
        return False
    of_tracker = any(path.startswith("wandb/") for path in paths)  # W&B's own place is the folder that one works in
    if ({*paths} <= {CONFIG, LOCK} or of_tracker) and not _names(folder):
        return False
    return not any(_has_rows(folder / path) for path in paths if path in CSV_FILES)


def clear(folder: Path) -> None:
    """Removes what such a run has written, but for the lock; config.yaml last, without which it could not be told."""
    paths = [path for path in _files(folder) if path != LOCK]
    for path in sorted(paths, key=lambda path: path == CONFIG):
        (folder / path).unlink()
    for path, _, _ in os.walk(folder, topdown=False):
        if Path(path) != folder:
            os.rmdir(path)


def _files(folder: Path) -> Iterator[str]:
    """Everything in the folder that is not a folder, by its relative path; a link is a file, wherever it leads."""
    for path, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(path) / name).is_symlink()]
        for name in (*files, *links):
            yield (Path(path) / name).relative_to(folder).as_posix()


def _names(folder: Path) -> bool:
    """Whether the folder's config.yaml names the folder, as that of a run does, and no settings that a user wrote."""
    try:
        named = yaml.safe_load((folder / CONFIG).read_text())["settings"]["train"]["work_dir"]
        return Path(named).resolve() == folder.resolve()
    except (OSError, ValueError, KeyError, TypeError, RecursionError, yaml.YAMLError):
        return False


def _has_rows(path: Path) -> bool:
    """Whether a CSV file has more than its header."""
    return path.read_bytes().count(b"\n") > 1
