"""Updates per second beside the reference implementation's, both timed in turn, and environment steps per second.

    python benchmarks/throughput.py --reference PATH --json OUT.json

Every implementation and configuration lives in a process of its own that works only when told to, so that neither
side's settings reach the other. README.md in this folder says how to read the numbers.
"""

import itertools
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from common import Worker, gpu_name, run, say, write
from memory import machine
from work import (
    REFERENCE_DECODERS,
    ROUND_SECONDS,
    EndToEnd,
    Mode,
    OurWork,
    Precision,
    ReferenceWork,
    Setup,
)

from sacae.errors import UserError
from sacae.training.device import choose_device


@dataclass(frozen=True)
class Options:
    """Updates per second of sacae and of the reference implementation, timed in turn in the same run."""

    heads: tuple[str, ...] = ("sac",)
    """Algorithms, as --agent of train.py."""
    decoders: tuple[str, ...] = ("rae", "none")
    """Decoders, as --decoder of train.py."""
    layers: tuple[int, ...] = (4,)
    """Convolutions of the encoder."""
    precisions: tuple[Precision, ...] = ("fp32",)
    """Arithmetic; what the device cannot do is skipped, and said so."""
    modes: tuple[Mode, ...] = ("eager", "compiled", "captured")
    """compiled: torch.compile. captured: CUDA graphs; skipped on a CPU, and said so."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    batch_size: int = 128
    """Transitions in each update."""
    hidden_dim: int = 1024
    """Width of the hidden layers of actor and critic."""
    rounds: int = 7
    """Times that each implementation is timed."""
    updates_per_round: int = 0
    """Updates in a round; 0 is as many as take about 2.5 seconds, for each implementation by itself."""
    replay_size: int = 10_000
    """Transitions in the full replay that is sampled; the reference takes 127 kB for each."""
    search: bool = False
    """Has cuDNN try its algorithms for each size of a convolution and keep the fastest, as the package does not."""
    reference: Path | None = None
    """Checkout of the reference implementation; without one only sacae is timed."""
    env_steps: int = 0
    """Environment steps of a real training that are timed end to end for each configuration; 0 is none."""
    render_quality: Literal["exact", "fast"] = "exact"
    """Rendering of that training, as --render-quality of train.py."""
    num_envs: int = 1
    """Environments of that training that step in parallel; the steps of all of them count."""
    json: Path | None = None
    """File for the rows of the table, with the machine and the versions."""
    markdown: Path | None = None
    """File for the table."""


@dataclass
class Timing:
    """Updates per second of one implementation in each round, and the share that sampling takes."""

    rates: list[float]
    sample_share: float


def main(options: Options) -> list[dict]:
    """Measures, prints a Markdown table, and writes the files asked for. Returns the rows."""
    setups = plan(options)
    rows = []
    for (decoder, layers, precision), group in itertools.groupby(setups, _group_key):
        say(f"timing {decoder}, {layers} layers, {precision}")
        rows += measure_group(list(group), options)
    if not rows:
        raise UserError("nothing was timed: every configuration was skipped, for the reasons above")
    about = machine() | {"gpu": gpu_name(setups[0].device), "threads": torch.get_num_threads()}
    text = table(rows, about)
    print(text)
    write(options.markdown, text)
    write(options.json, json.dumps([row | about for row in rows], indent=2))
    return rows


def plan(options: Options) -> list[Setup]:
    """Every configuration to be timed, those beside each other that share a reference.

    Says which are skipped. Raises UserError for options that cannot be used, before anything is timed.
    """
    check_options(options)
    device = str(choose_device(options.device))
    sizes = {name: getattr(options, name) for name in ("batch_size", "hidden_dim", "replay_size", "search")}
    skipped = {value: why for value in (*options.precisions, *options.modes) if (why := cannot(value, device))}
    for value, why in skipped.items():
        say(f"skipped {value}: {why}")
    setups = [
        Setup(head, decoder, layers, precision, mode, device, **sizes)
        for decoder, layers, precision, head, mode in itertools.product(
            options.decoders, options.layers, options.precisions, options.heads, options.modes
        )
        if precision not in skipped and mode not in skipped
    ]
    for setup in setups:
        setup.config()
    if not setups:
        raise UserError(f"nothing is left to time on {device}; change --precisions or --modes")
    return setups


def check_options(options: Options) -> None:
    """Raises UserError for a number out of range, or a reference that is not one."""
    for name, least in (("rounds", 1), ("replay_size", 1), ("num_envs", 1), ("updates_per_round", 0), ("env_steps", 0)):
        if getattr(options, name) < least:
            flag = "--" + name.replace("_", "-")
            raise UserError(f"{name} is {getattr(options, name)}, but it must be {least} or more; change {flag}")
    path = options.reference
    if path and not all((path / name).is_file() for name in ("sac_ae.py", "utils.py")):
        raise UserError(
            f"reference is {path}, but there is no sac_ae.py and utils.py in it; "
            "give the folder of a checkout of the reference implementation, or leave --reference out"
        )


def cannot(value: str, device: str) -> str:
    """Why the device cannot do a precision or a mode, or ''."""
    if not device.startswith("cuda"):
        return f"{device} has none" if value in ("tf32", "captured") else ""
    if value in ("tf32", "bf16") and torch.cuda.get_device_capability(device) < (8, 0):
        return f"{torch.cuda.get_device_name(device)} has none"
    return ""


def _group_key(setup: Setup) -> tuple[str, int, str]:
    return setup.decoder, setup.layers, setup.precision


def measure_group(setups: Sequence[Setup], options: Options) -> list[dict]:
    """Rows of configurations that are timed in turn, beside one reference where there is one."""
    workers: dict[Setup | None, Worker] = {}
    try:
        if options.reference and any(has_reference(setup) for setup in setups):
            workers[None] = start_reference(options.reference.resolve(), setups[0])
        for setup in setups:
            try:
                workers[setup] = Worker(OurWork, setup)
            except UserError as error:
                say(f"skipped {setup}: {error}")
        timings = time_in_turn(workers, options.rounds, options.updates_per_round)
    finally:
        for worker in workers.values():
            worker.close()
    reference = timings.pop(None, None)
    return [
        row(setup, timing, reference if has_reference(setup) else None, end_to_end(setup, options))
        | {"num_envs": options.num_envs}
        for setup, timing in timings.items()
    ]


def has_reference(setup: Setup) -> bool:
    """Whether the reference implementation can do what the configuration does."""
    return setup.head == "sac" and setup.decoder in REFERENCE_DECODERS and setup.image_size == 84


def reference_precision(setup: Setup) -> str:
    """The reference's arithmetic: float32 beside fp32, otherwise what PyTorch does unless told."""
    by_default = setup.precision != "fp32" and setup.device.startswith("cuda")
    return "fp32, convolutions in tf32" if by_default else "fp32"


def start_reference(path: Path, setup: Setup) -> Worker:
    """The reference at work. Raises UserError where it does not run."""
    try:
        return Worker(ReferenceWork, path, setup)
    except UserError as error:
        raise UserError(f"the reference in {path} does not run: {error}; leave --reference out") from None


def time_in_turn(workers: dict[Any, Worker], rounds: int, updates_per_round: int) -> dict[Any, Timing]:
    """Times a round of each worker, then the next round of each, so that what disturbs one disturbs all."""
    updates = {name: updates_per_round or worker.ask("updates_in", ROUND_SECONDS) for name, worker in workers.items()}
    rates: dict[Any, list[float]] = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            rates[name].append(updates[name] / worker.ask("seconds", updates[name]))
            say(f"{name or 'reference'}: {rates[name][-1]:.1f} updates/s")  # in case that time runs out
    return {name: Timing(rates[name], worker.ask("sample_share", updates[name])) for name, worker in workers.items()}


def end_to_end(setup: Setup, options: Options) -> float | None:
    """Environment steps per second of a real training; None where none was asked for, or it does not run here."""
    if not options.env_steps:
        return None
    say(f"training with {setup}")
    worker = Worker(EndToEnd, setup, options.env_steps, options.render_quality, options.num_envs)
    try:
        return worker.ask("steps_per_second")
    except UserError as error:  # What was timed so far is worth having.
        say(f"skipped the training: {error}")
        return None
    finally:
        worker.close()


def row(setup: Setup, ours: Timing, reference: Timing | None, env_steps_per_second: float | None) -> dict:
    """What is known of a configuration; what was not measured is None."""
    ratios = [a / b for a, b in zip(ours.rates, reference.rates)] if reference else []
    return {
        **{name: getattr(setup, name) for name in ("head", "decoder", "layers", "precision", "mode", "device")},
        **{name: getattr(setup, name) for name in ("batch_size", "hidden_dim", "replay_size", "search")},
        "updates_per_second": statistics.median(ours.rates),
        "updates_per_second_min": min(ours.rates),
        "updates_per_second_max": max(ours.rates),
        "reference_updates_per_second": statistics.median(reference.rates) if reference else None,
        "reference_precision": reference_precision(setup) if reference else None,
        "ratio": statistics.median(ratios) if reference else None,
        "ratio_min": min(ratios, default=None),
        "ratio_max": max(ratios, default=None),
        "rounds": len(ours.rates),
        "sample_share": ours.sample_share,
        "reference_sample_share": reference.sample_share if reference else None,
        "env_steps_per_second": env_steps_per_second,
    }


def table(rows: Sequence[dict], about: dict) -> str:
    """The rows in Markdown, with the machine under them."""
    head = ("head", "decoder", "layers", "precision", "mode", "updates/s", "reference", "ratio (min to max)")
    head += ("sampling", "env steps/s")
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(_table_line(row) for row in rows)]
    first = rows[0]
    where = f"{about['gpu']} beside {about['processor']}" if about["gpu"] else about["processor"]
    lines += [
        "",
        f"Batch {first['batch_size']}, {first['replay_size']:,} transitions in the replay, median of "
        f"{first['rounds']} rounds. {where}, {about['cpus']} cores, {about['threads']} threads; "
        f"PyTorch {about['torch']}, Python {about['python']}, NumPy {about['numpy']}; {about['date']}.",
    ]
    return "\n".join(lines)


def _table_line(row: dict) -> str:
    cells = [str(row[name]) for name in ("head", "decoder", "layers", "precision", "mode")]
    cells.append(f"{row['updates_per_second']:.2f}")
    if row["ratio"] is None:
        cells += ["-", "-"]
    else:
        cells.append(f"{row['reference_updates_per_second']:.2f}")
        cells.append(f"{row['ratio']:.2f} ({row['ratio_min']:.2f} to {row['ratio_max']:.2f})")
    cells.append(f"{row['sample_share']:.1%}")
    env_steps = row["env_steps_per_second"]
    cells.append("-" if env_steps is None else f"{env_steps:.1f}")
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    run(Options, main)
