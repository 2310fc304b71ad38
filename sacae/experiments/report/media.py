"""Pictures and videos from run folders, arranged side by side."""

import contextlib
import itertools
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sacae.experiments.report.runs import Arms, Run
from sacae.training.pictures import write_video

TILE = 256
"""Height and width of each video in the grid, in pixels."""

BAR = 40
"""Height of the text above a video, in pixels."""

MAX_COLUMNS = 4
MAX_SECONDS = 60
"""Maximum length; longer episodes are cut, because an Atari game can take half an hour."""

MOST_FPS = 1000.0
MOST_PIXELS = 4096**2
"""Largest rate and size of what a run has drawn; a small file can claim more than memory holds."""

UNREADABLE = (OSError, ValueError, SyntaxError, OverflowError, EOFError, MemoryError, Image.DecompressionBombError)
"""What Pillow and ImageIO raise for a damaged file."""

STRIPS = 4
"""Number of reconstruction pictures of an arm, spread over its training."""


@dataclass(frozen=True)
class Clip:
    """A video of an episode. frames: uint8 (N, H, W, 3). lines: the text above it."""

    frames: list[NDArray[np.uint8]]
    fps: float
    lines: tuple[str, str]


def side_by_side(arms: Arms, path: Path, say: Callable[[str], None]) -> tuple[list[str], list[str]]:
    """Writes the last video of each arm's first run that has one, side by side, to an mp4.

    Returns the arms in the video and those left out; writes nothing if there is no video. say: prints why a run's are
    left out.
    """
    clips, missing = [], []
    for arm, runs in arms.items():
        clip = next(filter(None, (_last_clip(arm, run, say) for run in runs)), None)
        if clip:
            clips.append(clip)
        else:
            missing.append(arm)
    if clips:
        write_clips(clips, path)
    return [", ".join(clip.lines) for clip in clips], missing


def write_clips(clips: Sequence[Clip], path: Path) -> None:
    """Writes clips side by side, each under its two lines, to an mp4. Frames are TILE high and wide."""
    fps = max(clip.fps for clip in clips)
    seconds = min(max(len(clip.frames) / clip.fps for clip in clips), MAX_SECONDS)
    tiles = [_title(clip.lines) for clip in clips]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, [_frame(clips, tiles, i / fps) for i in range(max(1, round(seconds * fps)))], fps)


def _last_clip(arm: str, run: Run, say: Callable[[str], None]) -> Clip | None:
    """The run's last video that can be read. say: is told where none of several can."""
    problem = ""
    for path in reversed(numbered(run.folder / "video", "mp4")):
        try:
            with contextlib.closing(imageio.get_reader(path, format="FFMPEG")) as reader:
                fps = _usable_fps(reader.get_meta_data())
                frames = [_fit(frame) for frame in itertools.islice(reader.iter_data(), round(MAX_SECONDS * fps))]
        except (*UNREADABLE, RuntimeError, KeyError, IndexError) as error:
            problem = problem or str(error).partition("\n")[0] or type(error).__name__
            continue
        if frames:
            return Clip(frames, fps, (arm, f"seed {run.seed}, step {int(path.stem):,}"))
    if problem:
        say(f"the videos of {run.folder} are left out: {problem}")
    return None


def _usable_fps(video: Mapping[str, Any]) -> float:
    """Frames per second of a video. Raises ValueError for a rate or a size of frames that no run records."""
    fps, (width, height) = float(video["fps"]), video["size"]
    if not 0 < fps <= MOST_FPS or width * height > MOST_PIXELS:
        raise ValueError(f"{fps} frames of {width}x{height} in a second")
    return fps


def _picture(path: Path) -> Image.Image:
    """A picture. Raises one of UNREADABLE for a damaged one, and for one that is too large to be a reconstruction."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refused below
        opened = Image.open(path)
    with opened as image:
        if math.prod(image.size) > MOST_PIXELS:
            raise ValueError(f"{path} has {image.width}x{image.height} pixels")
        return image.convert("RGB")


def numbered(folder: Path, kind: str) -> list[Path]:
    """The files <env_step>.<kind> of a folder, by step."""
    found = [path for path in folder.glob(f"*.{kind}") if re.fullmatch(r"\d+", path.stem)]
    return sorted(found, key=lambda path: int(path.stem))


def _fit(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame scaled to fit into a tile, on black."""
    image = Image.fromarray(frame)
    scale = TILE / max(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    tile = Image.new("RGB", (TILE, TILE))
    tile.paste(image, ((TILE - image.width) // 2, (TILE - image.height) // 2))
    return np.asarray(tile)


def _title(lines: tuple[str, str]) -> NDArray[np.uint8]:
    """Two lines of white words on dark grey, (BAR, TILE, 3); what is too long ends in dots."""
    bar = Image.new("RGB", (TILE, BAR), "#20252c")
    draw = ImageDraw.Draw(bar)
    for y, line, size in ((4, lines[0], 14), (22, lines[1], 12)):
        font = ImageFont.load_default(size)
        while draw.textlength(line, font=font) > TILE - 12:
            line = line.removesuffix("…")[:-1] + "…"
        draw.text((6, y), line, "white", font)
    return np.asarray(bar)


def _frame(clips: Sequence[Clip], titles: Sequence[NDArray[np.uint8]], seconds: float) -> NDArray[np.uint8]:
    """All clips at a time, in a grid; one that has ended stays at its last frame."""
    tiles = []
    for clip, title in zip(clips, titles):
        frame = clip.frames[min(int(seconds * clip.fps + 1e-6), len(clip.frames) - 1)]
        tiles.append(np.concatenate([title, frame]))
    columns = min(len(tiles), MAX_COLUMNS)
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)]
    return np.concatenate(rows)


def poster(path: Path) -> Image.Image:
    """The middle frame of a video."""
    with contextlib.closing(imageio.get_reader(path, format="FFMPEG")) as reader:
        count = reader.count_frames()  # type: ignore[attr-defined]  # of FFMPEG's readers alone
        return Image.fromarray(reader.get_data(count // 2))


def strips(runs: Sequence[Run], say: Callable[[str], None]) -> tuple[Image.Image, str] | None:
    """Reconstruction pictures over the training of an arm's first run that has some, stacked vertically.

    Returns the picture and its description, or None if no run has one. say: prints why a run's are left out.
    """
    for run in runs:
        found = numbered(run.folder / "reconstruction", "png")
        chosen = [found[i] for i in sorted({round(i) for i in np.linspace(0, len(found) - 1, STRIPS)})] if found else []
        try:
            images = [(int(path.stem), _picture(path)) for path in chosen]
        except UNREADABLE as error:
            say(f"the reconstructions of {run.folder} are left out: {error}")
            continue
        if images:
            steps = ", ".join(f"{step:,}" for step, _ in images)
            return _stack(images), f"seed {run.seed}, environment steps {steps}"
    return None


def _stack(images: Sequence[tuple[int, Image.Image]]) -> Image.Image:
    """Pictures stacked vertically on white, each below its environment step."""
    height = sum(image.height + BAR for _, image in images)
    stack = Image.new("RGB", (max(image.width for _, image in images), height), "white")
    draw = ImageDraw.Draw(stack)
    y = 0
    for step, image in images:
        draw.text((10, y + 12), f"after {step:,} environment steps", "#2b3038", ImageFont.load_default(22))
        stack.paste(image, (0, y + BAR))
        y += BAR + image.height
    return stack
