"""The disk that the runs of an experiment will need, from their settings alone."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from sacae.config import ATARI, Config
from sacae.experiments.plan import Run
from sacae.files import in_units
from sacae.training import pruned

ROW_BYTES = 60
"""Bytes of a row of the replay beside its image and state: action, reward, marks."""

STATE_BYTES = 200
"""Bytes of a usual state vector."""


def replay_bytes(config: Config) -> int:
    """About how many bytes a finished run's replay takes in its checkpoint; 0 where it is not saved."""
    if not config.train.save_replay:
        return 0
    task = config.task
    channels = 1 if (task.env or "").startswith(ATARI) else 3
    image = channels * task.image_size**2 if task.from_pixels else 0
    state = STATE_BYTES if config.keeps_state or not task.from_pixels else 0
    return min(config.planned_capacity, config.num_agent_steps) * (image + state + ROW_BYTES)


def forecast(runs: Sequence[Run], root: Path) -> list[str]:
    """Lines on the disk that these runs will need and what is free, before they start. root: of all their folders."""
    # What interrupted runs have saved already is no longer free.
    needed = sum(max(replay_bytes(run.config) - pruned.replay_bytes(run.folder), 0) for run in runs)
    there = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if not needed:
        return []
    lines = [f"disk: about {in_units(needed)} for the replays of {len(runs)} runs; {in_units(free)} are free"]
    if needed > free:
        lines.append(
            "warning: that is more than is free; --no-save-replay leaves the replays out, a smaller --replay-capacity "
            "bounds them, and sacae prune drops those of finished runs"
        )
    return lines
