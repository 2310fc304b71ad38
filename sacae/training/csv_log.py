"""CSV files that grow by rows, and that are cut back by rows to where a checkpoint left them."""

import codecs
import contextlib
import csv
import hashlib
import io
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from sacae.errors import UserError
from sacae.files import cannot_be_written, sync_descriptor, write_atomically

STEP = "env_step"
"""The column that orders the rows."""

Warn = Callable[[str], None]
"""Prints a line of warning."""


class CsvLog:
    """A CSV file that grows by rows and can be cut back to where a checkpoint left it.

    A file that goes on keeps its header: columns that it lacks are not written.
    """

    def __init__(
        self, path: Path, columns: Sequence[str], state: Mapping[str, Any] | None = None, warn: Warn = print
    ) -> None:
        """Opens a new file, or, given what `state` returned at a checkpoint, cuts an old one back to that.

        warn: is told how many rows are missing. Raises UserError if the file cannot be read or written.
        """
        self._path = path
        self._rows = 0
        self._last_step: Any = None
        self._digest = hashlib.blake2b(digest_size=16)
        line_end = "\r\n"
        try:
            if state is not None:
                kept = _cut_back(path, state, warn)
                self._rows, self._last_step = kept.rows, kept.last_step
                columns, line_end = kept.columns or columns, kept.line_end
                for line in kept.lines:
                    self._digest.update(_without_end(line))
                if state.get("digest", self._digest.hexdigest()) != self._digest.hexdigest() and not kept.missing:
                    warn(f"warning: {path} was changed since the checkpoint")
            self._file: TextIO = open(path, "a", newline="", encoding="utf-8")  # noqa: SIM115 - closed by close()
            self._line = io.StringIO(newline="")
            self._writer = csv.DictWriter(
                self._line, columns, restval="", extrasaction="ignore", lineterminator=line_end
            )
            if self._file.tell() == 0:
                self._writer.writeheader()
                self._write_line()
        except OSError as error:
            raise cannot_be_written(path, error) from None

    def write(self, row: Mapping[str, object]) -> None:
        """Adds a row; columns that it lacks stay empty. Raises UserError if it cannot be written."""
        self._writer.writerow(row)
        self._attempt(self._write_line)
        self._rows += 1
        self._last_step = row.get(STEP, self._last_step)

    def state(self) -> dict[str, Any]:
        """Where the file stands, for a checkpoint. What was written survives a power cut from now on."""
        self._attempt(lambda: sync_descriptor(self._file.fileno()))
        return {
            "size": self._file.tell(),
            "rows": self._rows,
            "last_step": self._last_step,
            "digest": self._digest.hexdigest(),
        }

    def _write_line(self) -> None:
        line = self._line.getvalue()
        self._line.seek(0)
        self._line.truncate()
        self._digest.update(_without_end(line.encode()))
        self._file.write(line)
        self._file.flush()

    def _attempt(self, action: Callable[[], object]) -> None:
        try:
            action()
            self._file.flush()
            os.stat(self._path)  # A file that was deleted would take in rows that nobody ever sees.
        except OSError as error:
            raise cannot_be_written(self._path, error) from None

    def close(self) -> None:
        """Closes the file."""
        with contextlib.suppress(OSError):  # what could not be written has been reported
            self._file.close()


class Kept(NamedTuple):
    """What is left of a file: its lines, the last row's step, the header, how lines end; whether rows are missing."""

    lines: Sequence[bytes] = ()
    last_step: int | None = None
    columns: Sequence[str] | None = None
    line_end: str = "\r\n"
    missing: bool = True

    @property
    def rows(self) -> int:
        """The number of rows."""
        return max(len(self.lines) - 1, 0)


def _cut_back(path: Path, state: Mapping[str, Any], warn: Warn) -> Kept:
    """Keeps the whole rows up to a checkpoint, and tells how many of those are missing. Never makes a file longer."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no file; move it away")
    content = path.read_bytes() if path.exists() else b""
    lines = content.removeprefix(codecs.BOM_UTF8).splitlines(keepends=True)
    columns = _cells(lines[0]) if lines else None
    if lines and (columns is None or STEP not in columns or not lines[0].endswith((b"\r", b"\n"))):
        aside = _set_aside(path)
        warn(f"warning: {path} was no whole table with a column {STEP}: it is now {aside.name}, and a new one begins")
        lines, columns = [], None
    if columns is None:
        path.unlink(missing_ok=True)
        _tell(path, state, 0, not content, warn)
        return Kept()
    steps = [_step(line, columns) for line in lines[1:]]
    kept = _rows_before(state, lines, steps)
    kept_lines = [lines[0], *(lines[1 + number] for number in kept)]
    text = b"".join(kept_lines)
    if content.startswith(text):
        if len(content) > len(text):
            os.truncate(path, len(text))
    else:
        write_atomically(path, lambda temporary: temporary.write_bytes(text))
    _tell(path, state, len(kept), len(content) < state["size"], warn)
    line_end = lines[0][len(_without_end(lines[0])) :].decode()
    missing = len(kept) < state.get("rows", 0)
    return Kept(kept_lines, steps[kept[-1]] if kept else None, columns, line_end, missing)


def _without_end(line: bytes) -> bytes:
    """A line as editors leave it that change how lines end."""
    return line.rstrip(b"\r\n")


def _rows_before(state: Mapping[str, Any], lines: Sequence[bytes], steps: Sequence[int | None]) -> list[int]:
    """The numbers of the whole rows that were there at the checkpoint.

    lines: of the file, header first. steps: of its rows, None for a row that is damaged.
    """
    if "rows" in state:
        last = state["last_step"]
        up_to = [n for n, step in enumerate(steps) if step is not None and last is not None and step <= last]
        return up_to[: state["rows"]]
    # A checkpoint of an earlier version knows the size in bytes, which means nothing where an editor changed line ends.
    ends = [*itertools.accumulate(map(len, lines))]
    if state["size"] in ends:
        return [n for n, step in enumerate(steps[: ends.index(state["size"])]) if step is not None]
    return [n for n, step in enumerate(steps) if step is not None and step <= state["env_step"]]


def _cells(line: bytes) -> list[str] | None:
    """The cells of a line, None where it is no text."""
    try:
        (cells,) = csv.reader([line.decode("utf-8-sig").rstrip("\r\n")])
    except (UnicodeDecodeError, csv.Error, ValueError):
        return None
    return cells


def _step(line: bytes, columns: Sequence[str]) -> int | None:
    """The step of a row, None where the row is not whole."""
    cells = _cells(line)
    if cells is None or len(cells) != len(columns) or b"\0" in line or not line.endswith((b"\r", b"\n")):
        return None
    try:
        return int(cells[columns.index(STEP)])
    except ValueError:
        return None


def _set_aside(path: Path) -> Path:
    names = (path.with_name(f"{path.stem}.damaged{number}{path.suffix}") for number in ("", *range(2, 1000)))
    aside = next(name for name in names if not name.exists())
    os.replace(path, aside)
    return aside


def _tell(path: Path, state: Mapping[str, Any], kept: int, shorter: bool, warn: Warn) -> None:
    """Says how many rows are missing; of a checkpoint that does not know their number, whether the file is shorter."""
    wanted = state.get("rows")
    if wanted is None and shorter:
        warn(f"warning: {path} is shorter than at the checkpoint: rows are missing, or its line ends were changed")
    elif wanted is not None and kept < wanted:
        warn(f"warning: {path} lacks {wanted - kept:,} of the {wanted:,} rows that it had at the checkpoint")


def state_in(saved: Mapping[str, Any], name: str, env_step: int) -> Mapping[str, Any]:
    """What `CsvLog.state` returned, as a checkpoint keeps it under a name; earlier versions kept the size alone.

    env_step: of the checkpoint.
    """
    return saved[name] if name in saved else {"size": saved[f"{name}_size"], "env_step": env_step}
