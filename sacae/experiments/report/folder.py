"""The output folder of a report: which files it may replace, and how."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from sacae.errors import UserError
from sacae.files import UNFINISHED, write_atomically

MARKER = "report.json"
"""Lists the files of a report, so that the next one into the same folder replaces these and nothing else."""

PAGE = "index.html"
"""The file that every report has."""


def refuse_if_foreign(out: Path) -> None:
    """Raises UserError if `out` holds anything except an earlier report."""
    if out.is_file():
        raise UserError(f"out is {out}, but that is a file; choose another --out")
    unfinished = UNFINISHED + MARKER  # of a first report that ended there
    if out.is_dir() and not is_report(out) and any(path.name != unfinished for path in out.iterdir()):
        raise UserError(f"out is {out}, but that folder holds something other than a report; choose another --out")


def refuse_if_inside_a_run(out: Path, runs: Sequence[Path]) -> None:
    """Raises UserError if `out` is, or is inside, a run folder: a report never changes one."""
    for run in runs:
        if out.resolve().is_relative_to(run.resolve()):
            raise UserError(f"out is {out}, but it must be outside the run folder {run}; choose another --out")


def replace(out: Path, new: Path) -> None:
    """Moves the files of the folder `new` to `out`, where they replace those of an earlier report.

    At every moment the marker lists whatever a report has left there, so that the next one can take the place of one
    that was interrupted.
    """
    out.mkdir(parents=True, exist_ok=True)
    files = sorted(str(path.relative_to(new)) for path in new.rglob("*") if path.is_file())
    former = [name for name in _former_files(out) if name not in files]
    _mark(out, files + former)
    for name in files:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(new / name, out / name)
    for name in former:
        (out / name).unlink(missing_ok=True)
    _mark(out, files)


def _mark(out: Path, files: Sequence[str]) -> None:
    text = json.dumps({"files": files}, indent=1) + "\n"
    write_atomically(out / MARKER, lambda path: path.write_text(text))


def is_report(folder: Path) -> bool:
    """Whether a folder holds a report, and not merely another program's file of that name."""
    return PAGE in _listed(folder)


def _listed(folder: Path) -> list[str]:
    """The files that a folder's marker lists; none if it is not a report's."""
    try:
        names = json.loads((folder / MARKER).read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []


def _former_files(out: Path) -> list[str]:
    """The files that the report in `out` lists as its own, without any outside `out`."""
    names = _listed(out)
    return [name for name in names if (out / name).resolve().is_relative_to(out.resolve())]
