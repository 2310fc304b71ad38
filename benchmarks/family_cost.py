"""What an update of each of SAC-AE's descendants costs beside one of SAC-AE, all timed in turn.

    python benchmarks/family_cost.py --json OUT.json --markdown OUT.md

Each has its authors' batch size, images and views, and lives in a process of its own that works only when told to.
README.md in this folder says how to read the numbers.
"""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from common import Worker, gpu_name, run, say, write
from memory import machine
from throughput import Timing, cannot, time_in_turn
from work import Mode, OfFamily, OurWork, Precision

from sacae.errors import UserError
from sacae.experiments.ablations import ABLATIONS, choose
from sacae.training.device import choose_device

BESIDE = "sac_ae"
"""The arm that the cost of all others is divided by."""


@dataclass(frozen=True)
class Options:
    """What an update of each arm of `sacae ablate family` costs beside one of SAC-AE, timed in turn in the same run."""

    arms: tuple[str, ...] = tuple(ABLATIONS["family"].arms)
    """Arms to time; sac_ae is always timed."""
    precision: Precision = "fp32"
    """Arithmetic of all."""
    mode: Mode = "eager"
    """compiled: torch.compile. captured: CUDA graphs, on a GPU only."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    batch_size: int = 0
    """Transitions in each update of all; 0 is what each preset says."""
    hidden_dim: int = 0
    """Width of the hidden layers of all; 0 is what each preset says."""
    rounds: int = 7
    """Times that each is timed."""
    updates_per_round: int = 0
    """Updates in a round; 0 is as many as take about 2.5 seconds, for each by itself."""
    replay_size: int = 2000
    """Transitions in the full replay that is sampled."""
    json: Path | None = None
    """File for the rows of the table, with the machine and the versions."""
    markdown: Path | None = None
    """File for the table."""


def main(options: Options) -> list[dict]:
    """Measures, prints a Markdown table, and writes the files asked for. Returns the rows."""
    setups = plan(options)
    workers: dict[OfFamily, Worker] = {}
    try:
        for setup in setups:
            say(f"starting {setup.arm}")
            workers[setup] = Worker(OurWork, setup)
        say("timing")
        timings = time_in_turn(workers, options.rounds, options.updates_per_round)
    finally:
        for worker in workers.values():
            worker.close()
    rows = [row(setup, timing, timings[setups[0]]) for setup, timing in timings.items()]
    about = machine() | {"gpu": gpu_name(setups[0].device), "threads": torch.get_num_threads()}
    text = table(rows, about)
    print(text)
    write(options.markdown, text)
    write(options.json, json.dumps([row | about for row in rows], indent=2))
    return rows


def plan(options: Options) -> list[OfFamily]:
    """What is timed, SAC-AE first. Raises UserError for options that cannot be used, before anything is timed."""
    for name, least in (("rounds", 1), ("replay_size", 1), ("updates_per_round", 0), ("batch_size", 0)):
        if getattr(options, name) < least:
            flag = "--" + name.replace("_", "-")
            raise UserError(f"{name} is {getattr(options, name)}, but it must be {least} or more; change {flag}")
    device = str(choose_device(options.device))
    for name in ("precision", "mode"):
        if why := cannot(getattr(options, name), device):
            raise UserError(f"{name} is {getattr(options, name)}, but {why}; change --{name}")
    sizes = tuple((name, value) for name in ("batch_size", "hidden_dim") if (value := getattr(options, name)))
    arms = [BESIDE, *choose(ABLATIONS["family"].arms, options.arms, "family")]
    setups = [
        OfFamily(arm, options.precision, options.mode, device, options.replay_size, sizes)
        for arm in dict.fromkeys(arms)
    ]
    for setup in setups:
        setup.config()
    return setups


def row(setup: OfFamily, timing: Timing, beside: Timing) -> dict:
    """What is known of an arm. cost: the time of its update in units of SAC-AE's in the same round."""
    config = setup.config()
    costs = [theirs / ours for ours, theirs in zip(timing.rates, beside.rates)]
    return {
        **{name: getattr(setup, name) for name in ("arm", "precision", "mode", "device", "replay_size", "batch_size")},
        "image_size": config.task.image_size,
        "hidden_dim": config.agent.hidden_dim,
        "updates_per_step": config.train.updates_per_step,
        "updates_per_second": statistics.median(timing.rates),
        "updates_per_second_min": min(timing.rates),
        "updates_per_second_max": max(timing.rates),
        "cost": statistics.median(costs),
        "cost_min": min(costs),
        "cost_max": max(costs),
        "cost_per_step": statistics.median(costs) * config.train.updates_per_step,
        "rounds": len(timing.rates),
        "sample_share": timing.sample_share,
    }


def table(rows: Sequence[dict], about: dict) -> str:
    """The rows in Markdown, with the machine under them."""
    head = (
        "arm",
        "batch",
        "rendered",
        "updates/s",
        "cost of an update (min to max)",
        "updates a step",
        "cost of a step",
    )
    first = rows[0]
    where = f"{about['gpu']} beside {about['processor']}" if about["gpu"] else about["processor"]
    return "\n".join(
        [
            f"| {' | '.join(head)} |",
            "|" + "---|" * len(head),
            *(_line(row) for row in rows),
            "",
            "Costs are times in units of SAC-AE's in the same round, a step is an agent step. "
            f"{first['precision']}, {first['mode']}, hidden layers of "
            f"{first['hidden_dim']}, {first['replay_size']:,} transitions in the replay, median of {first['rounds']} "
            f"rounds. {where}, {about['cpus']} cores, {about['threads']} threads; PyTorch {about['torch']}, Python "
            f"{about['python']}, NumPy {about['numpy']}; {about['date']}.",
        ]
    )


def _line(row: dict) -> str:
    size, cost = row["image_size"], f"{row['cost']:.2f} ({row['cost_min']:.2f} to {row['cost_max']:.2f})"
    cells = [row["arm"], str(row["batch_size"]), f"{size}x{size}", f"{row['updates_per_second']:.2f}", cost]
    cells += [f"{row['updates_per_step']:g}", f"{row['cost_per_step']:.2f}"]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    run(Options, main)
