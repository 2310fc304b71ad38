"""Files of saved rows. A chunk is written once, under a name new to its folder, and never changed.

A chunk holds consecutive rows of one or more streams, each column an array in an uncompressed .npz file without
pickle. The manifest lists its rows as segments [stream, first row number, row number after the last].
"""

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sacae.errors import UserError
from sacae.files import PatientFile, cannot_be_written, sync, sync_descriptor

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
    needed = sum(column.nbytes for column in columns.values())
    try:
        with open(unfinished, "wb") as file:
            patient = PatientFile(file)
            np.savez(patient, **columns)  # type: ignore[arg-type]  # no column is called allow_pickle, which is a bool
            patient.finish()
            sync_descriptor(file.fileno())
        os.replace(unfinished, path)
        sync(folder)
    except OSError as error:
        raise UserError(
            f"the replay cannot be saved: {cannot_be_written(path, error, needed)}; or use --no-save-replay"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()
    return path.name


def digest(columns: Mapping[str, NDArray[Any]]) -> str:
    """A digest over names, dtypes, shapes and values."""
    total = hashlib.blake2b(digest_size=32)
    for name, column in columns.items():
        total.update(f"{name} {column.dtype.str} {column.shape}".encode())
        total.update(np.ascontiguousarray(column).data)
    return total.hexdigest()


def read(path: Path, wanted: str | None = None) -> dict[str, NDArray[Any]]:
    """The columns of a chunk. Raises UserError where the file is missing or damaged.

    wanted: the digest that they must have, if it is known.
    """
    try:
        if not path.is_file():
            raise FileNotFoundError("no such file")
        with np.load(path, allow_pickle=False) as file:
            columns = {name: file[name] for name in file.files}
        if wanted is not None and digest(columns) != wanted:
            raise ValueError("its digest is another")
    except Exception as error:  # zip files and arrays have many ways to be damaged
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path} is missing or damaged ({reason}); restore it, or resume without it by --no-save-replay"
        ) from error
    return columns


def prune(folder: Path, *manifests: Mapping[str, Any]) -> None:
    """Deletes the chunk files in `folder` that no manifest lists, and files left unfinished by a crash.

    Call it after the checkpoint with the newest manifest is in place, so that no checkpoint ever lacks a chunk.
    """
    for path in unlisted(folder, *manifests):
        with contextlib.suppress(OSError):  # one that stays takes up space and does no other harm
            path.unlink()


def unlisted(folder: Path, *manifests: Mapping[str, Any]) -> list[Path]:
    """The chunk files in `folder`, finished and not, that no manifest lists."""
    listed = {chunk["file"] for manifest in manifests for chunk in manifest["chunks"]}
    files = (path for path in folder.glob(f"{PREFIX}*") if path.suffix in (SUFFIX, UNFINISHED))
    return [path for path in files if path.name not in listed]


def _next_number(folder: Path) -> int:
    # A number above all others, so that no file of the current checkpoint is ever replaced.
    numbers = (path.stem.removeprefix(PREFIX) for path in folder.glob(f"{PREFIX}*{SUFFIX}"))
    return 1 + max((int(number) for number in numbers if number.isdecimal()), default=-1)
