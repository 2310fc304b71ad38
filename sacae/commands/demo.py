"""`sacae demo`: a short training from pixels, and a video of the result."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

from rich.console import Console

from sacae.commands.parsing import parse
from sacae.declaration import Within
from sacae.limits import LARGEST_SEED


@dataclass(frozen=True)
class Demo:
    """Learn to run from pixels within minutes, and film the agent next to random actions."""

    work_dir: Path | None = None
    """Run folder of the training; None is demo/<date>-<time>."""
    seed: Annotated[int, Within(0, LARGEST_SEED)] = 1
    """Random seed of the whole run."""


def demo(argv: Sequence[str], prog: str) -> int:
    """Runs the demo; returns the exit status."""
    command = parse(Demo, argv, prog)

    from sacae.experiments.demo import demo as demonstrate

    work_dir = command.work_dir or Path("demo", f"{datetime.now():%Y%m%d-%H%M%S}")
    return 0 if demonstrate(work_dir, command.seed, Console()) else 130
