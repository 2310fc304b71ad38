"""Makes the README's moving picture: videos of `sacae eval` side by side, each under its name.

    sacae eval AGENT --episodes 1 --seed 1      # for each agent: writes an mp4
    python docs/images/agents.py --out docs/images/agents.gif "cheetah run"=CHEETAH.mp4 "finger spin"=FINGER.mp4

The README shows agents of results/agents: cheetah_run with evaluation seed 1, ball_in_cup_catch with 9, finger_spin
with 1. Its reconstruction picture is of the first one's run.

Needs the ffmpeg that imageio-ffmpeg brings. All videos start together; one that is longer than SECONDS is cut.
"""

import argparse
import subprocess
from pathlib import Path

import imageio_ffmpeg

WIDTH = 240
"""Pixels of each video's side."""

BAR = 24
"""Pixels of the line above it."""

FPS = 20
SECONDS = 8
COLOURS = 96
"""Of the palette that all frames share: more make a larger file, not a better picture."""


def tile(number: int, name: str) -> str:
    """The filter that makes a video a tile with its name above."""
    text = name.replace("'", "").replace(":", " ")
    return (
        f"[{number}:v]fps={FPS},trim=duration={SECONDS},scale={WIDTH}:{WIDTH}:flags=lanczos,"
        f"pad={WIDTH}:{WIDTH + BAR}:0:{BAR}:color=0x20252c,"
        f"drawtext=text='{text}':fontcolor=white:fontsize=13:x=(w-text_w)/2:y={BAR // 2}-text_h/2[t{number}]"
    )


def make(videos: dict[str, Path], out: Path) -> None:
    """Writes the videos, by name, side by side as a GIF that begins anew without end."""
    tiles = [tile(number, name) for number, name in enumerate(videos)]
    row = "".join(f"[t{number}]" for number in range(len(videos)))
    together = f"{row}hstack=inputs={len(videos)},split[a][b]" if len(videos) > 1 else f"{row}split[a][b]"
    palette = f"[a]palettegen=max_colors={COLOURS}[p];[b][p]paletteuse=dither=bayer:bayer_scale=4:diff_mode=rectangle"
    inputs = [part for path in videos.values() for part in ("-i", str(path))]
    filters = ";".join([*tiles, together, palette])
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-y",
        "-loglevel",
        "error",
        *inputs,
        "-filter_complex",
        filters,
        str(out),
    ]
    subprocess.run(command, check=True)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("videos", nargs="+", metavar="NAME=MP4")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    pairs = (one.rpartition("=") for one in arguments.videos)
    make({name: Path(path) for name, _, path in pairs}, arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
