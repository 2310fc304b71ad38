"""What people look at: the evaluation's video, the reconstruction strip, the learning curve."""

import contextlib
import csv
import errno
import math
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import imageio.v2 as imageio
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from sacae.errors import UserError
from sacae.files import write_atomically
from sacae.training.figures import DPI, PUBLISHED, THEMES, count, short, styles
from sacae.training.run_folder import EVAL_CSV, TRAIN_CSV
from sacae.training.views import View

SHOWN_MAPS = 16
"""Feature maps shown of each convolution: its first ones, so that pictures of different times show the same."""

ROOM_OF_A_VIDEO = 1_000_000
"""With less space in bytes, a video that is incomplete is put down to a full disk."""

GAP = 0.05
"""Space between two pictures, as a share of one."""


@contextlib.contextmanager
def only_warned(warn: Callable[[str], None], path: Path) -> Iterator[None]:
    """A picture that cannot be drawn or written is a line of warning: nothing that a run learns depends on it."""
    try:
        yield
    except Exception as error:  # drawing has no end of errors
        reason = str(error) if isinstance(error, UserError) else f"{path} cannot be drawn: {error}"
        warn(f"warning: {' '.join(reason.split())[:300]}")


def write_video(path: Path, frames: Sequence[NDArray[np.uint8]], fps: float) -> None:
    """Writes uint8 (H, W, 3) frames as an mp4 (H.264). Raises UserError if it cannot be written."""

    def write(temporary: Path) -> None:
        try:
            opened = imageio.get_writer(
                temporary, format="FFMPEG", fps=fps, codec="libx264", macro_block_size=2, ffmpeg_log_level="quiet"
            )
            with contextlib.closing(opened) as writer:
                for frame in frames:
                    writer.append_data(frame)
        except Exception as error:  # the encoder is another process: it may be missing, or have died
            raise _video_error(temporary, str(error).partition("\n")[0]) from None
        if not _is_whole(temporary):
            raise _video_error(temporary, "the encoder stopped before its end")

    write_atomically(path, write)


def _video_error(video: Path, reason: str) -> OSError:
    """The encoder does not say why it failed; where there is next to no space left, that is why."""
    if shutil.disk_usage(video.parent).free < ROOM_OF_A_VIDEO:
        return OSError(errno.ENOSPC, reason)
    return OSError(reason)


def _is_whole(video: Path) -> bool:
    """Whether an mp4 has its index, which the encoder writes last: it ends with status 0 on a full disk, too."""
    with open(video, "rb") as file:
        end, position, found = file.seek(0, 2), 0, False
        while position + 8 <= end:
            file.seek(position)
            header = file.read(8)
            found |= header[4:] == b"moov"
            position += max(int.from_bytes(header[:4], "big"), 8)
    return found and position == end


def write_reconstruction_strip(path: Path, view: View) -> None:
    """Writes rows of inputs, targets and reconstructions, showing each stack's newest frame under its agent step.

    view: of a run with a decoder of pixels.
    """
    rows = _rows_of_frames(view)
    figure, axes = _rows_of_pictures(len(rows), len(view.obs), inches=1.3, above=0.25)
    for axis, (label, images) in zip(axes, rows.items()):
        _draw_frames(axis, label, images, view.channels)
    _name_steps(axes[0], view.steps)
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=100, format="png"))


def _rows_of_frames(view: View) -> dict[str, NDArray[np.floating]]:
    """The input and, with a decoder of pixels, its target and work, as floats of which 0 to 1 is shown."""
    rows: dict[str, NDArray[np.floating]] = {"input": view.obs / 255}
    if view.target is not None and view.reconstruction is not None:
        rows |= {"target": view.target + 0.5, "reconstruction": view.reconstruction + 0.5}
    return rows


def _name_steps(axis: Axes, steps: Sequence[int]) -> None:
    """Writes its agent step above each picture of the first row."""
    for column, step in enumerate(steps):
        axis.text(_left_of(column) + 0.5, -GAP, f"step {step}", ha="center", va="bottom")


def _rows_of_pictures(rows: int, columns: int, inches: float, above: float) -> tuple[Figure, Sequence[Axes]]:
    """A figure with one axis a row: with an axis for each picture drawing takes four times as long.

    inches: of a picture's side. above: inches of space above the first row.
    """
    width, height = inches * columns + 0.4, inches * rows + above + 0.05
    figure = Figure(figsize=(width, height))
    # Margins in inches: finding them by a constrained layout takes longer than drawing.
    figure.subplots_adjust(0.35 / width, 0.05 / height, 1 - 0.05 / width, 1 - above / height, hspace=GAP)
    return figure, [*figure.subplots(rows, squeeze=False)[:, 0]]


def _left_of(column: int) -> float:
    """Where a column's picture begins; it is one wide."""
    return column * (1 + GAP)


def _draw_row(
    axis: Axes, label: str, images: Iterable[NDArray[np.floating]], cmap: str, vmin: float, vmax: float
) -> None:
    """Draws images side by side, each one wide and one high."""
    for column, image in enumerate(images):
        left = _left_of(column)
        axis.imshow(image, extent=(left, left + 1, 1, 0), interpolation="nearest", cmap=cmap, vmin=vmin, vmax=vmax)
    axis.set(xlim=(0, left + 1), ylim=(1, 0), xticks=[], yticks=[], ylabel=label)
    axis.spines[:].set_visible(False)


def _draw_frames(axis: Axes, label: str, images: NDArray[np.floating], channels: int) -> None:
    """Each stack's newest frame: images are floats (N, K * channels, H, W), of which 0 to 1 is shown."""
    newest = np.clip(images[:, -channels:][:, :3].transpose(0, 2, 3, 1), 0, 1)
    _draw_row(axis, label, newest, cmap="gray", vmin=0, vmax=1)


def draw_view(view: View, title: str = "") -> Figure:
    """Moments as columns; as rows the input, the decoder's work where there is one, and what each convolution sees.

    Every row of feature maps has one scale, from black at 0 to yellow at that layer's 99.5th percentile.
    """
    rows = _rows_of_frames(view)
    if view.target is not None and view.reconstruction is not None:
        rows["difference"] = np.abs(view.reconstruction - view.target)
    count = len(rows) + len(view.feature_maps)
    figure, axes = _rows_of_pictures(count, len(view.obs), inches=1.8, above=0.55)
    for axis, (label, images) in zip(axes, rows.items()):
        _draw_frames(axis, label, images, view.channels)
    for number, (axis, maps) in enumerate(zip(axes[len(rows) :], view.feature_maps), 1):
        _draw_feature_maps(axis, f"conv {number}: {maps.shape[2]}×{maps.shape[3]}", maps)
    _name_steps(axes[0], view.steps)
    figure.suptitle(title, y=1 - 0.1 / figure.get_figheight(), va="top", fontsize="medium")
    return figure


def _draw_feature_maps(axis: Axes, label: str, maps: NDArray[np.float32]) -> None:
    """maps: float32 (N, filters, H, W), at least 0; a layer that is 0 everywhere is black."""
    brightest = max(float(np.quantile(maps[:, :SHOWN_MAPS], 0.995)), 1e-6)
    mosaics = [mosaic(of_moment[:SHOWN_MAPS]) for of_moment in maps]
    _draw_row(axis, label, mosaics, cmap="inferno", vmin=0, vmax=brightest)


def mosaic(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Float images (N, H, W) in a square grid, row by row, with a line of NaN, one pixel wide, between them."""
    count, height, width = maps.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    grid = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan, maps.dtype)
    for i, image in enumerate(maps):
        top, left = i // columns * (height + 1), i % columns * (width + 1)
        grid[top : top + height, left : left + width] = image
    return grid


def write_view(path: Path, view: View, title: str = "") -> None:
    """Writes what `draw_view` draws as a PNG."""
    figure = draw_view(view, title)
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=130, format="png"))


def as_image(figure: Figure, dpi: int = 100) -> NDArray[np.uint8]:
    """A figure as uint8 (H, W, 3)."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


@matplotlib.rc_context(THEMES["light"])
def write_learning_curve(folder: Path, title: str, variant: str) -> Path:
    """Draws the run's training and evaluation returns over environment steps; returns the PNG's path."""
    figure = Figure(figsize=(4.6, 3.6))
    # Margins by hand: finding them by a constrained layout takes longer than drawing.
    figure.subplots_adjust(left=0.14, right=0.97, bottom=0.27, top=0.92)
    axis = figure.subplots()
    train = _read_returns(folder / TRAIN_CSV)
    axis.plot(
        [*train], [np.mean(r) for r in train.values()], ".", color=PUBLISHED, label="training episodes", alpha=0.6
    )
    evaluations = _read_returns(folder / EVAL_CSV)
    steps, returns = [*evaluations], [*evaluations.values()]
    mean, std = np.array([np.mean(r) for r in returns]), np.array([np.std(r) for r in returns])
    look = styles([variant])[variant]
    episodes = count(max(map(len, returns), default=1), "episode")
    axis.plot(steps, mean, label=f"evaluations, mean of {episodes}", **look)
    if any(len(r) > 1 for r in returns):
        label = "one standard deviation of these"
        axis.fill_between(steps, mean - std, mean + std, color=look["color"], alpha=0.2, linewidth=0, label=label)
    axis.set(xlabel="environment steps", ylabel="episode return", title=title)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    figure.legend(loc="lower center", ncols=2)
    path = folder / "curve.png"
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=DPI, format="png"))
    return path


@matplotlib.rc_context(THEMES["light"])
def write_series(path: Path, rows: Path, panels: Mapping[str, Mapping[str, str]]) -> None:
    """Draws columns of a CSV file over its env_step, one panel below the other; empty cells are left out.

    panels: the vertical axis's label, and under it each line's label and its column.
    """
    with open(rows, newline="") as file:
        table = [*csv.DictReader(file)]
    figure = Figure(figsize=(6, 2.4 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axis, (label, lines) in zip(axes, panels.items()):
        for number, (name, column) in enumerate(lines.items()):
            points = [(int(row["env_step"]), float(row[column])) for row in table if row[column]]
            colour = matplotlib.colormaps["viridis"](0.9 * number / max(len(lines) - 1, 1))
            axis.plot(*zip(*points) if points else ([], []), "o-", markersize=3, color=colour, label=name)
        axis.set_ylabel(label)
        if len(lines) > 1:
            axis.legend(ncols=2)
    axes[-1].set_xlabel("environment steps")
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=DPI, format="png"))


def _read_returns(path: Path) -> dict[int, list[float]]:
    """Episode returns by env_step."""
    returns = defaultdict(list)
    if path.exists():
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                returns[int(row["env_step"])].append(float(row["episode_return"]))
    return returns
