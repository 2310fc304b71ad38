"""The share of a training's time that its protection against faults takes: checks of numbers, digests, syncs.

    python benchmarks/safety.py

Trains from state, where a step is cheapest and the share largest, with each of these functions timed.
"""

import contextlib
import dataclasses
import importlib
import io
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from common import run, say, write
from memory import machine
from rich.console import Console

from sacae import config as configs
from sacae.training import off_policy

GUARDS = {
    "sacae.envs.faults.check_observation": "observations are finite and have their form",
    "sacae.envs.faults.check_state": "physical states are finite",
    "sacae.envs.faults.check_reward": "rewards are finite and below 1e20",
    "sacae.training.loop._check_finite": "actions are finite",
    "sacae.training.checkpoint.save": "a checkpoint with its digest, written whole",
    "sacae.replay.chunks.digest": "digest of a part of the replay",
    "sacae.files.sync_descriptor": "files are on the disk",
    "sacae.training.lock.take": "the lock of the run folder",
}
"""Functions that are timed, and what they are for. A checkpoint's time includes the digests and syncs within it."""

USERS = ["sacae.envs.stepping", "sacae.training.start", "sacae.training.csv_log", "sacae.training.checkpoint"]
"""Modules that import some of these functions by name."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Time of the functions that protect a training, as a share of its time."""

    steps: int = 10_000
    """Environment steps of the training."""
    checkpoint_every: int = 10_000
    """Environment steps between two checkpoints."""
    markdown: Path | None = None
    """File for the table."""


def main(options: Options) -> None:
    """Trains, prints a Markdown table of each function's calls and share, and writes it where asked."""
    say(f"training from state for {options.steps:,} steps")
    total, spent = measure(options)
    about = machine()
    where = f"{about['processor']}, PyTorch {about['torch']}, {about['date']}"
    text = "\n".join([*_table(total, spent), "", f"Of {options.steps:,} steps in {total:.0f} s; {where}."])
    print(text)
    write(options.markdown, text)


def measure(options: Options) -> tuple[float, dict[str, list[float]]]:
    """Seconds of the whole training, and of each call of each function."""
    settings = {"num_train_steps": options.steps, "checkpoint_every": options.checkpoint_every, "initial_updates": 1}
    fixed = {"obs": "state", "device": "cpu", "precision": "fp32", "num_threads": 1, "save_video": False}
    with tempfile.TemporaryDirectory() as folder, timed() as spent:
        config = configs.make(**settings, **fixed, num_eval_episodes=1, work_dir=Path(folder, "run"))
        start = time.perf_counter()
        off_policy.start(config, Console(file=io.StringIO())).train()
        return time.perf_counter() - start, spent


@contextlib.contextmanager
def timed() -> Iterator[dict[str, list[float]]]:
    """The seconds of each call of each of GUARDS in this process, by name."""
    spent: dict[str, list[float]] = defaultdict(list)
    with contextlib.ExitStack() as stack:
        for path in GUARDS:
            home, name = path.rsplit(".", 1)
            original = getattr(importlib.import_module(home), name)
            wrapped = _wrapped(original, spent[path])
            for module in map(importlib.import_module, [home, *USERS]):
                if getattr(module, name, None) is original:
                    setattr(module, name, wrapped)
                    stack.callback(setattr, module, name, original)
        yield spent


def _wrapped(function: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    def call(*args: Any, **keywords: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **keywords)
        finally:
            seconds.append(time.perf_counter() - start)

    return call


def _table(total: float, spent: dict[str, list[float]]) -> list[str]:
    lines = ["| what | calls | seconds | share |", "|---|---|---|---|"]
    for path, purpose in GUARDS.items():
        calls = spent[path]
        lines.append(f"| {purpose} | {len(calls)} | {sum(calls):.3f} | {sum(calls) / total:.2%} |")
    return lines


if __name__ == "__main__":
    run(Options, main)
