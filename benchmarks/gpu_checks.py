"""What must hold on a GPU: captured updates learn as eager ones do, and a resumed training is the one never stopped.

    python benchmarks/gpu_checks.py --check captured --json OUT.json
    python benchmarks/gpu_checks.py --check resume --json OUT.json

Both compare a thing also with itself, done twice: a GPU adds in a different order each time unless it is told not to,
so that a difference says something only beside that one.
"""

import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from common import gpu_name, run, write
from memory import machine
from throughput import cannot
from work import WARM_UP_UPDATES, OurWork, Precision, Setup

from sacae.agents import make_agent
from sacae.agents.self_test import disagreement
from sacae.errors import UserError
from sacae.training.device import choose_device, choose_precision

TIMINGS = ("hours", "per_second", "share_")
"""What the names of those columns contain that are not the same twice."""

LINES = 25
"""Lines of a training's output that are printed if it fails."""

Rows = list[dict[str, str]]
"""Rows of a run's CSV files."""

RESUME = ["--domain=cheetah", "--task=run", "--seed-steps=100", "--initial-updates=10"]
RESUME += ["--num-eval-episodes=1", "--no-save-video", "--num-threads=1", "--render-quality=fast"]


@dataclass(frozen=True)
class Options:
    """Compares captured with eager updates, or resumed with uninterrupted trainings."""

    check: Literal["captured", "resume"]
    """captured: updates as CUDA graphs against eager ones. resume: stopped trainings against ones that were not."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N; on a CPU nothing is captured."""
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    """Arithmetic of the captured check; what the device cannot do is skipped."""
    updates: int = 200
    """Updates of the captured check."""
    steps: int = 4000
    """Environment steps of each training of the resume check, stopped at half."""
    hidden_dim: int = 1024
    """Width of the hidden layers of actor and critic."""
    batch_size: int = 128
    """Transitions in each update."""
    seconds: float = 170.0
    """Seconds after which trainings of the resume check that still run are given up."""
    json: Path | None = None
    """File for the rows."""


def main(options: Options) -> list[dict]:
    """Compares, prints a line for each comparison, and writes the rows. Returns them.

    Raises UserError afterwards if a comparison could not be made.
    """
    device = str(choose_device(options.device))
    if options.updates <= WARM_UP_UPDATES:
        raise UserError(f"updates is {options.updates}, but it must be above {WARM_UP_UPDATES}; change --updates")
    rows = captured(options, device) if options.check == "captured" else resume(options, device)
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    write(options.json, json.dumps([row | machine() | {"gpu": gpu_name(device)} for row in rows], indent=2))
    if problems := [row["problem"] for row in rows if "problem" in row]:
        raise UserError(f"{len(problems)} comparisons could not be made: {problems[0]}")
    return rows


def captured(options: Options, device: str) -> list[dict]:
    """Relative differences of parameters and losses after the same updates: eager twice, and captured.

    And what the test says that a run makes before it captures; "" where it finds no difference.
    """
    rows = []
    for precision in options.precisions:
        if cannot(precision, device):
            continue
        try:
            rows += captured_in(precision, options, device)
        except RuntimeError as error:  # What the other one does is worth having.
            traceback.print_exc()
            rows.append({"check": "captured", "precision": precision, "problem": str(error).splitlines()[0]})
    return rows


def captured_in(precision: Precision, options: Options, device: str) -> list[dict]:
    """The rows of one precision."""
    modes = ("eager", "eager", "captured")
    sizes = {"hidden_dim": options.hidden_dim, "batch_size": options.batch_size, "replay_size": 500}
    setups = [Setup("sac", "rae", 4, precision, mode, device, **sizes) for mode in modes]
    rows = []
    if device.startswith("cuda"):
        choose_precision(precision, torch.device(device), from_pixels=True)
        agent = make_agent(setups[0].spec, setups[0].config(), device)
        rows.append({"check": "self-test", "precision": precision, "disagreement": disagreement(agent)})
    results = [learned(setup, options.updates) for setup in setups]
    return rows + [
        {"check": "captured", "precision": precision, "updates": options.updates, "compared": compared}
        | {name: difference(results[0][name], other[name]) for name in other}
        for compared, other in zip(("eager again", "captured"), results[1:])
    ]


def learned(setup: Setup, updates: int) -> dict[str, torch.Tensor]:
    """All parameters as one vector, and the mean of each loss over the last quarter, after so many updates."""
    work = OurWork(setup)
    losses: dict[str, list[torch.Tensor]] = {}
    for _ in range(updates - WARM_UP_UPDATES):
        for name, value in work.update(work.sample()).items():
            losses.setdefault(name, []).append(value.detach().float().cpu())
    parameters = torch.cat([p.detach().float().flatten().cpu() for p in work.agent.parameters()])
    means = {name: torch.stack(values[3 * len(values) // 4 :]).mean() for name, values in losses.items()}
    return {"parameters": parameters} | {name: mean for name, mean in means.items() if name.endswith("loss")}


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """The difference's length relative to that of `a`."""
    return float((a.double() - b.double()).norm() / a.double().norm().clamp_min(1e-12))


def resume(options: Options, device: str) -> list[dict]:
    """Whether trainings write the same rows: one beside the same again, and beside one that was stopped at half."""
    variants: dict[str, list[str]] = {
        "eager": ["--no-capture"],
        "eager, deterministic": ["--no-capture", "--deterministic"],
    }
    if device.startswith("cuda"):
        variants |= {"captured": [], "captured, deterministic": ["--deterministic"]}  # a GPU's default
    flags = [f"--device={device}", f"--hidden-dim={options.hidden_dim}", f"--batch-size={options.batch_size}", *RESUME]
    flags.append(f"--replay-capacity={options.steps}")  # By default a training of half the length keeps half as much.
    with tempfile.TemporaryDirectory() as root:
        deadline = time.monotonic() + options.seconds
        chains = {
            (variant, kind): train(Path(root, f"{i}-{kind}"), [*flags, *more], options.steps, kind == "resumed")
            for i, (variant, more) in enumerate(variants.items())
            for kind in ("first", "again", "resumed")
        }
        found = {key: rows_of(folder, process, deadline) for key, (folder, process) in chains.items()}
    return [
        {"check": "resume", "variant": variant, "compared": kind}
        | comparison(found[variant, "first"], found[variant, kind])
        for variant in variants
        for kind in ("again", "resumed")
    ]


def comparison(first: Rows | str, other: Rows | str) -> dict[str, Any]:
    """How many rows there are and by how much they differ; or "problem", why there are none."""
    for rows in (first, other):
        if isinstance(rows, str):
            return {"problem": rows}
    return {"rows": len(first), "largest_difference": largest(first, other)}


def train(folder: Path, flags: Sequence[str], steps: int, resumed: bool) -> tuple[Path, subprocess.Popen]:
    """Starts a training, or one of half its length followed by its resumption."""
    script = Path(__file__).parents[1] / "train.py"
    common = [sys.executable, str(script), *flags, f"--work-dir={folder}"]
    common += [f"--eval-every={steps // 2}", f"--checkpoint-every={steps // 2}"]
    parts = [[*common, f"--num-train-steps={steps}"]]
    if resumed:
        parts = [[*common, f"--num-train-steps={steps // 2}"], [*parts[0], "--resume"]]
    program = f"import subprocess, sys; sys.exit(next((s for p in {parts} if (s := subprocess.run(p).returncode)), 0))"
    with Path(f"{folder}.log").open("w") as log:
        command = [sys.executable, "-c", program]
        return folder, subprocess.Popen(command, stdout=log, stderr=log, process_group=0)


def rows_of(folder: Path, process: subprocess.Popen, deadline: float) -> Rows | str:
    """The rows of train.csv and eval.csv once the training has ended, or how it failed, with its last lines printed.

    deadline: of time.monotonic; a training that still runs then is ended.
    """
    try:
        status: int | str = process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        status = "none in time"
    if status:
        *_, last = lines = Path(f"{folder}.log").read_text().strip().splitlines() or ["no output"]
        print(f"{folder.name} ended with status {status}:", *lines[-LINES:], sep="\n")
        return f"a training ended with status {status}: {last}"
    rows: Rows = []
    for name in ("train.csv", "eval.csv"):
        with (folder / name).open() as file:
            rows += csv.DictReader(file)
    return rows


def largest(a: Rows, b: Rows) -> Any:
    """The largest relative difference of a number that is not a time; 0 for rows that are equal digit by digit."""
    if len(a) != len(b):
        return f"{len(b)} rows"
    pairs = [
        (float(row[name] or "nan"), float(other[name] or "nan"))
        for row, other in zip(a, b)
        for name in row
        if row[name] != other[name] and not any(word in name for word in TIMINGS)
    ]
    return max((abs(x - y) / max(abs(x), 1e-12) for x, y in pairs), default=0.0)


if __name__ == "__main__":
    run(Options, main)
