"""`sacae export`: a frozen agent that loads without its run folder."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from sacae.commands.parsing import parse
from sacae.declaration import AtLeast


@dataclass(frozen=True)
class Export:
    """Freeze a trained agent into a small folder: weights as safetensors, settings and a model card.

    `sacae.load_agent(DIR)` loads it, and `sacae eval DIR` plays it. It cannot be trained further.
    """

    run_dir: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN_DIR")]
    """Run folder of the agent, as its training printed it."""
    out: Path
    """Folder to write to, new or empty."""
    best: bool = False
    """Export the agent of the best evaluation instead of the last checkpoint."""
    step: Annotated[int | None, AtLeast(0)] = None
    """Environment step of the checkpoint to export; None is the last one."""
    format: Literal["safetensors", "onnx"] = "safetensors"
    """onnx: also write the policy as policy.onnx, and compare its actions with the agent's (needs the extra onnx)."""
    dtype: Literal["float32", "float16"] = "float32"
    """Type of the stored weights. float16 halves the folder; actions differ a little from the run's."""


def export(argv: Sequence[str], prog: str) -> int:
    """Exports the agent in a run folder; returns the exit status."""
    command = parse(Export, argv, prog)

    from sacae.training.export import export as write

    write(**dataclasses.asdict(command), console=Console())
    return 0
