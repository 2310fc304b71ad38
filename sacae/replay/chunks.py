"""Files of saved rows. A chunk is written once, under a name new to its folder, and never changed.

A chunk holds consecutive rows of one or more streams, each column an array in an uncompressed .npz file without
pickle. The manifest lists its rows as segments [stream, first row number, row number after the last].
"""

import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sacae.errors import UserError

CHUNK_ROWS = 4096
"""Maximum rows in a chunk: 87 MB of 84x84 colour frames, which is the extra memory that saving and loading need."""

Segment = Sequence[int]

PREFIX, SUFFIX, UNFINISHED = "rows_", ".npz", ".tmp"


def split(segments: Iterable[Segment]) -> Iterator[list[list[int]]]:
    """The same rows in the same order, as lists of segments with CHUNK_ROWS rows in each list but the last."""
    chunk: list[list[int]] = []
    room = CHUNK_ROWS
    for stream, start, stop in segments:
        while start < stop:
            taken = min(room, stop - start)
            chunk.append([stream, start, start + taken])
            start, room = start + taken, room - taken
            if room == 0:
                yield chunk
                chunk, room = [], CHUNK_ROWS
    if chunk:
        yield chunk


def write(folder: Path, columns: Mapping[str, NDArray[np.generic]]) -> str:
    """Writes a new chunk and returns its file name. After a crash the chunk is whole or it is not there.

    Raises UserError if the folder cannot be written.
    """
    path = folder / f"{PREFIX}{_next_number(folder):08d}{SUFFIX}"
    unfinished = path.with_name(path.name + UNFINISHED)
    try:
        with open(unfinished, "wb") as file:
            np.savez(file, **columns)  # type: ignore[arg-type]  # no column is called allow_pickle, which is a bool
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        _sync_folder(folder)
    except OSError as error:
        raise UserError(
            f"the replay cannot be saved to {folder}: {error.strerror}; free space there, or use --no-save-replay"
        ) from error
    return path.name


def read(path: Path) -> dict[str, NDArray[Any]]:
    """The columns of a chunk. Raises UserError where the file is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} is missing or damaged ({error}); restore it, or resume with --no-save-replay and an empty replay"
        ) from error


def prune(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Deletes the chunk files in `folder` that `manifest` does not list, and files left unfinished by a crash.

    Call it after the checkpoint with this manifest is in place, so that the current checkpoint never lacks a chunk.
    """
    kept = {chunk["file"] for chunk in manifest["chunks"]}
    for path in folder.glob(f"{PREFIX}*"):
        if path.name not in kept and path.suffix in (SUFFIX, UNFINISHED):
            path.unlink()


def _next_number(folder: Path) -> int:
    # A number above all others, so that no file of the current checkpoint is ever replaced.
    return 1 + max((int(path.stem.removeprefix(PREFIX)) for path in folder.glob(f"{PREFIX}*{SUFFIX}")), default=-1)


def _sync_folder(folder: Path) -> None:
    """Makes a rename in the folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
