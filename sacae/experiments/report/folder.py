"""The output folder of a report: which files it may replace, and how."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from sacae.errors import UserError

MARKER = "report.json"
"""Lists the files of a report, so that the next one into the same folder replaces these and nothing else."""

PAGE = "index.html"
"""The file that every report has."""


def refuse_if_foreign(out: Path) -> None:
    """Raises UserError if `out` holds anything except an earlier report."""
    if out.is_file():
        raise UserError(f"out is {out}, but that is a file; choose another --out")
    if out.is_dir() and any(out.iterdir()) and not is_report(out):
        raise UserError(f"out is {out}, but that folder holds something other than a report; choose another --out")


def refuse_if_inside_a_run(out: Path, runs: Sequence[Path]) -> None:
    """Raises UserError if `out` is, or is inside, a run folder: a report never changes one."""
    for run in runs:
        if out.resolve().is_relative_to(run.resolve()):
            raise UserError(f"out is {out}, but it must be outside the run folder {run}; choose another --out")


def replace(out: Path, new: Path) -> None:
    """Moves the files of the folder `new` to `out`, where they replace those of an earlier report."""
    out.mkdir(parents=True, exist_ok=True)
    for name in _former_files(out):
        (out / name).unlink(missing_ok=True)
    files = sorted(path.relative_to(new) for path in new.rglob("*") if path.is_file())
    for file in files:
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(new / file, out / file)
    (out / MARKER).write_text(json.dumps({"files": [str(file) for file in files]}, indent=1) + "\n")


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
