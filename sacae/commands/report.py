"""`sacae report`: runs compared on one page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from sacae.commands.parsing import parse


@dataclass(frozen=True)
class Report:
    """Compare runs: learning curves, tables beside published numbers, videos side by side, one HTML page."""

    run_dirs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN_DIR...")]
    """Run folders to compare, or folders that contain some, such as runs."""
    out: Path
    """Folder to write the report to; an earlier report in it is replaced."""


def report(argv: Sequence[str], prog: str) -> int:
    """Writes a report on run folders; returns the exit status."""
    command = parse(Report, argv, prog)

    from sacae.experiments.report.report import report as compare

    compare(command.run_dirs, command.out, Console())
    return 0
