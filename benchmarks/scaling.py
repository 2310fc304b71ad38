"""How updates per second depend on batch size, layers and image size, and sampling time on the frames stored.

    python benchmarks/scaling.py --output benchmarks/results/scaling

Writes OUTPUT.json and OUTPUT.png. Each sweep changes one size and leaves the others at the base: batch 128, 4 layers,
84x84, 10,000 stored transitions, SAC with its decoder.
"""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import matplotlib

matplotlib.use("Agg")

from common import Worker, gpu_name, run, say
from matplotlib import pyplot as plt
from memory import machine
from throughput import cannot
from work import ROUND_SECONDS, Mode, OurWork, Precision, Setup

from sacae.errors import UserError
from sacae.training.device import choose_device

BATCHES_PER_ROUND = 50


@dataclass(frozen=True)
class Options:
    """Updates per second against batch size, layers and image size; sampling time against stored frames."""

    batch_sizes: tuple[int, ...] = (32, 64, 128, 256, 512, 1024)
    """Batch sizes; name none to leave the sweep out, here and below."""
    layers: tuple[int, ...] = (2, 4, 6)
    """Convolutions of the encoder."""
    image_sizes: tuple[int, ...] = (64, 84, 100, 128)
    """Heights and widths of a frame."""
    stored_frames: tuple[int, ...] = (10_000, 50_000, 100_000, 200_000)
    """Transitions in the replay, one frame of 21 kB each."""
    base_batch_size: int = 128
    """Batch size in the other sweeps."""
    hidden_dim: int = 1024
    """Width of the hidden layers of actor and critic."""
    replay_size: int = 10_000
    """Transitions in the replay in the other sweeps."""
    decoder: str = "rae"
    """Decoder, as --decoder of train.py."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Precision = "fp32"
    """Arithmetic of the networks."""
    mode: Mode | Literal["auto"] = "auto"
    """As of throughput.py; auto is captured on a GPU and eager on a CPU."""
    rounds: int = 3
    """Times that each point is measured."""
    updates_per_round: int = 0
    """Updates in a round; 0 is as many as take about 2.5 seconds."""
    output: Path = Path("benchmarks/results/scaling")
    """Files to write, without .json and .png."""


AXES = {
    "batch_size": ("batch size", "updates/s"),
    "layers": ("convolutions", "updates/s"),
    "image_size": ("image size (pixels)", "updates/s"),
    "replay_size": ("stored transitions", "milliseconds to sample a batch"),
}
"""What is swept, and the labels of its panel."""


def main(options: Options) -> list[dict]:
    """Measures every sweep, prints each point, and writes the files. Returns the points."""
    if options.rounds < 1:
        raise UserError(f"rounds is {options.rounds}, but it must be 1 or more; change --rounds")
    base = base_setup(options)
    sweeps = {
        "batch_size": options.batch_sizes,
        "layers": options.layers,
        "image_size": options.image_sizes,
        "replay_size": options.stored_frames,
    }
    setups = [(swept, replace(base, **{swept: value})) for swept, values in sweeps.items() for value in values]
    for _, setup in setups:
        setup.config()
    points = [point for swept, setup in setups if (point := measure(swept, setup, options))]
    if not points:
        raise UserError("nothing was measured; name sizes with --batch-sizes, --layers, --image-sizes, --stored-frames")
    write(points, base, options.output)
    return points


def base_setup(options: Options) -> Setup:
    """The sizes that a sweep leaves as they are. Raises UserError for what the device cannot do."""
    device = str(choose_device(options.device))
    mode = options.mode
    if mode == "auto":
        mode = "captured" if device.startswith("cuda") else "eager"
    for name, value in (("precision", options.precision), ("mode", mode)):
        if why := cannot(value, device):
            raise UserError(f"{name} is {value}, but {why}; change --{name}")
    return Setup(
        "sac",
        options.decoder,
        4,
        options.precision,
        mode,
        device,
        batch_size=options.base_batch_size,
        hidden_dim=options.hidden_dim,
        replay_size=options.replay_size,
    )


def measure(swept: str, setup: Setup, options: Options) -> dict | None:
    """One point: median, least and most over the rounds. None where it does not run, for want of memory perhaps."""
    value = getattr(setup, swept)
    try:
        worker = Worker(OurWork, setup)
    except UserError as error:
        say(f"skipped {swept} {value}: {error}")
        return None
    try:
        measured = (_sampling if swept == "replay_size" else _updating)(worker, options)
    except UserError as error:
        say(f"skipped {swept} {value}: {error}")
        return None
    finally:
        worker.close()
    unit = AXES[swept][1]
    point = {"swept": swept, "value": value, "unit": unit, "median": statistics.median(measured)}
    print(f"{swept} {value}: {point['median']:.4g} {unit}", flush=True)
    return point | {"min": min(measured), "max": max(measured), "rounds": len(measured)}


def _updating(worker: Worker, options: Options) -> list[float]:
    """Updates per second of each round."""
    updates = options.updates_per_round or worker.ask("updates_in", ROUND_SECONDS)
    return [updates / worker.ask("seconds", updates) for _ in range(options.rounds)]


def _sampling(worker: Worker, options: Options) -> list[float]:
    """Milliseconds that a batch takes, of each round."""
    return [1e3 * worker.ask("sample_seconds", BATCHES_PER_ROUND) / BATCHES_PER_ROUND for _ in range(options.rounds)]


def write(points: Sequence[dict], base: Setup, output: Path) -> None:
    """OUTPUT.json with the points, the base and the machine, and OUTPUT.png with a panel for each sweep."""
    output.parent.mkdir(parents=True, exist_ok=True)
    about = machine() | {"gpu": gpu_name(base.device)}
    text = json.dumps({"points": list(points), "base": vars(base), "machine": about}, indent=2)
    Path(f"{output}.json").write_text(text + "\n")
    plot(points, f"{about['gpu'] or about['processor']}, {base}", Path(f"{output}.png"))


def plot(points: Sequence[dict], title: str, path: Path) -> None:
    """A panel for each sweep, with bars from the least to the most of the rounds."""
    sweeps = list(dict.fromkeys(point["swept"] for point in points))
    figure, panels = plt.subplots(1, len(sweeps), figsize=(3.6 * len(sweeps), 3.2), squeeze=False, layout="constrained")
    for panel, swept in zip(panels[0], sweeps):
        chosen = [point for point in points if point["swept"] == swept]
        middle = [point["median"] for point in chosen]
        spread = [[p["median"] - p["min"] for p in chosen], [p["max"] - p["median"] for p in chosen]]
        panel.errorbar([point["value"] for point in chosen], middle, yerr=spread, marker="o", capsize=3)
        x_label, y_label = AXES[swept]
        panel.set(xlabel=x_label, ylabel=y_label, ylim=(0, None))
    figure.suptitle(title, fontsize="medium")
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    run(Options, main)
