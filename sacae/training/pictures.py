"""What people look at: the evaluation's video, the reconstruction strip, the learning curve."""

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
from matplotlib.figure import Figure

from sacae.training.run_folder import EVAL_CSV, TRAIN_CSV, write_atomically


def write_video(path: Path, frames: Sequence[np.ndarray], fps: float) -> None:
    """Writes uint8 (H, W, 3) frames as an mp4 (H.264)."""

    def write(temporary: Path) -> None:
        with imageio.get_writer(temporary, format="FFMPEG", fps=fps, codec="libx264", macro_block_size=2) as writer:
            for frame in frames:
                writer.append_data(frame)

    write_atomically(path, write)


def write_reconstruction_strip(
    path: Path, obs: np.ndarray, target: np.ndarray, reconstruction: np.ndarray, channels: int = 3
) -> None:
    """Writes rows of inputs, targets and reconstructions, showing each stack's newest frame.

    obs: uint8 (N, K * channels, H, W). target, reconstruction: float32 of that shape, in [-0.5, 0.5).
    channels: of one frame; 1 is grey, 3 are colours, and of 4 the last is left out.
    """
    rows = {"input": obs / 255, "target": target + 0.5, "reconstruction": reconstruction + 0.5}
    figure = Figure(figsize=(1.3 * len(obs) + 0.4, 1.3 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(obs), squeeze=False)
    for row, (label, images) in zip(axes, rows.items()):
        row[0].set_ylabel(label)
        for axis, image in zip(row, images):
            newest = image[-channels:][:3].transpose(1, 2, 0)
            axis.imshow(np.clip(newest, 0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=100, format="png"))


def write_learning_curve(folder: Path, title: str) -> Path:
    """Draws the run's training and evaluation returns over environment steps; returns the PNG's path."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    train = _read_returns(folder / TRAIN_CSV)
    axis.plot([*train], [np.mean(r) for r in train.values()], ".", color="0.7", label="training episodes")
    evaluations = _read_returns(folder / EVAL_CSV)
    steps, returns = [*evaluations], [*evaluations.values()]
    mean, std = np.array([np.mean(r) for r in returns]), np.array([np.std(r) for r in returns])
    axis.plot(steps, mean, "o-", label="evaluation, mean")
    if any(len(r) > 1 for r in returns):
        axis.fill_between(steps, mean - std, mean + std, alpha=0.2, label="evaluation, one standard deviation")
    axis.set(xlabel="environment steps", ylabel="episode return", title=title)
    axis.legend()
    path = folder / "curve.png"
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=120, format="png"))
    return path


def _read_returns(path: Path) -> dict[int, list[float]]:
    """Episode returns by env_step."""
    returns = defaultdict(list)
    if path.exists():
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                returns[int(row["env_step"])].append(float(row["episode_return"]))
    return returns
