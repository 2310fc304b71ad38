"""Where the time of an update goes: its operations, and how fast the convolutions run beside a large matrix product.

    python benchmarks/profile_update.py --markdown benchmarks/results/profile-cpu.md

Two updates are profiled, so that one has an actor step and a target update and one has not.
"""

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch
from common import gpu_name, run
from memory import machine
from throughput import cannot
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from work import Mode, OurWork, Precision, Setup

from sacae.errors import UserError
from sacae.training.device import choose_device

KINDS = {
    "convolution, backward": ("convolution_backward",),
    "convolution, forward": ("convolution",),
    "matrix products": ("addmm", "bmm", "baddbmm", "mm", "linear"),
    "optimisers, target averaging": ("_fused_adam", "_foreach", "lerp"),
    "sampling the replay": ("index_select", "index"),
    "random numbers": ("random_", "normal_", "randn"),
}
"""Words in the names of operators, by what they do; the first that fits counts."""

OTHER = "images and activations, element by element"

MOST_KERNELS = 15
"""Kernels that are named on a GPU, those that take the longest."""


@dataclass(frozen=True)
class Options:
    """Where the time of an update goes."""

    head: str = "sac"
    """Algorithm, as --agent of train.py."""
    decoder: str = "rae"
    """Decoder, as --decoder of train.py."""
    layers: int = 4
    """Convolutions of the encoder."""
    batch_size: int = 128
    """Transitions in each update."""
    precision: Precision = "fp32"
    """Arithmetic of the networks."""
    mode: Mode = "eager"
    """As of throughput.py; of a captured update only the kernels show."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    updates: int = 6
    """Updates to profile, an even number."""
    markdown: Path | None = None
    """File for the table."""


def main(options: Options) -> dict[str, float]:
    """Profiles, prints the table and writes it. Returns the share of each kind of operation."""
    if options.updates < 2 or options.updates % 2:
        raise UserError(f"updates is {options.updates}, but it must be an even number, 2 or more; change --updates")
    device = str(choose_device(options.device))
    for name, value in (("precision", options.precision), ("mode", options.mode)):
        if why := cannot(value, device):
            raise UserError(f"{name} is {value}, but {why}; change --{name}")
    setup = Setup(
        options.head, options.decoder, options.layers, options.precision, options.mode, device, options.batch_size
    )
    profiled = profile_updates(OurWork(setup), options.updates)
    shares, lines = {}, []
    if setup.mode != "captured":
        seconds = operator_seconds(profiled, options.updates, device.startswith("cuda"))
        shares = {kind: value / sum(seconds.values()) for kind, value in seconds.items()}
        lines += table("operations", seconds)
    if device.startswith("cuda"):
        lines += table("kernels", kernel_seconds(profiled, options.updates), MOST_KERNELS)
    about = machine()
    where = gpu_name(device) or f"{about['processor']}, {about['cpus']} cores"
    flops = "" if device != "cpu" else f" A large matrix product runs at {matrix_product_rate():.0f} GFLOP/s here."
    text = "\n".join([*lines, f"{setup}, batch {options.batch_size}; {where}.{flops}", ""])
    print(text)
    if options.markdown:
        options.markdown.parent.mkdir(parents=True, exist_ok=True)
        options.markdown.write_text(text)
    return shares


def profile_updates(work: OurWork, updates: int) -> profile:
    """A profile of so many updates."""
    on_gpu = work.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiled:
        work.seconds(updates)
    return profiled


def operator_seconds(profiled: profile, updates: int, on_gpu: bool) -> dict[str, float]:
    """Seconds that an update spends in each kind of operation, without what it calls in turn."""
    seconds: dict[str, float] = {}
    for event in profiled.key_averages():
        if event.device_type != DeviceType.CPU:
            continue  # a kernel, whose time is also that of the operation that launched it
        microseconds = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        kind = next((kind for kind, words in KINDS.items() if any(word in event.key for word in words)), OTHER)
        seconds[kind] = seconds.get(kind, 0.0) + microseconds / 1e6 / updates
    return seconds


def kernel_seconds(profiled: profile, updates: int) -> dict[str, float]:
    """Seconds that an update spends in each kernel of a GPU, by its name."""
    return {
        event.key[:100].replace("|", "/"): event.self_device_time_total / 1e6 / updates
        for event in profiled.key_averages()
        if event.device_type != DeviceType.CPU and not event.is_user_annotation
    }


def table(name: str, seconds: dict[str, float], most: int | None = None) -> list[str]:
    """Lines of a table of what takes the longest, first that."""
    total = sum(seconds.values()) or 1.0
    ordered = sorted(seconds.items(), key=lambda item: -item[1])
    lines = [f"| {name} | share | ms in an update |", "|---|---|---|"]
    return [*lines, *(f"| {key} | {value / total:.0%} | {1e3 * value:.1f} |" for key, value in ordered[:most]), ""]


def matrix_product_rate(size: int = 2048, rounds: int = 5) -> float:
    """Billions of float32 operations a second of a square matrix product: the most that this processor does."""
    matrix = torch.randn(size, size)
    times = []
    for _ in range(rounds):
        started = perf_counter()
        matrix @ matrix
        times.append(perf_counter() - started)
    return 2 * size**3 / min(times) / 1e9


if __name__ == "__main__":
    run(Options, main)
