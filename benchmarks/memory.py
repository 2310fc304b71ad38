"""Memory of a full pixel replay, measured, beside what it takes to store both stacked observations of a transition.

    python benchmarks/memory.py --capacity 100000 --json OUT.json

Fills a replay with 84x84 colour frames and reads the resident memory of this process before and after. The other
layout, that of the reference implementation, keeps obs and next_obs as stacks of three frames each; its row is
arithmetic, for it would not fit on most machines.
"""

import argparse
import json
import os
import platform
import resource
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from sacae.replay import FrameReplay, MemoryPlan, choose_storage
from sacae.types import EnvSpec

SPEC = EnvSpec(frame_shape=(3, 84, 84), frame_dtype="uint8", frame_stack=3, action_dim=6)

STACKED_PAIR_BYTES = 2 * 9 * 84 * 84
"""obs and next_obs of one transition, stacked; its action and reward would come on top."""


def main() -> None:
    """Measures, prints a Markdown table, and writes JSON rows where asked."""
    args = _arguments()
    plan = MemoryPlan(SPEC, args.capacity, episode_length=args.episode_length)
    print(plan.describe(choose_storage(plan, "cpu")))
    rows = [_measure(plan, args.batch_size, args.num_batches), _stacked_pairs(args.capacity)]
    print(_table(rows))
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps([row | machine() for row in rows], indent=2) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--capacity", type=int, default=100_000, help="transitions in the replay")
    parser.add_argument("--episode-length", type=int, default=250, help="agent steps in an episode")
    parser.add_argument("--batch-size", type=int, default=128, help="transitions in the batches that are timed")
    parser.add_argument("--num-batches", type=int, default=200, help="batches that are timed")
    parser.add_argument("--json", type=Path, default=None, help="file for the rows of the table")
    return parser.parse_args()


def _measure(plan: MemoryPlan, batch_size: int, num_batches: int) -> dict:
    before = _resident_bytes()
    start = time.perf_counter()
    replay = FrameReplay(SPEC, plan.capacity, episode_length=plan.episode_length)
    allocated, construction = _resident_bytes(), time.perf_counter() - start
    seconds_per_add = _fill(replay, plan)
    filled, peak = _resident_bytes(), _peak_bytes()
    return {
        "layout": "one frame per row (measured)",
        "transitions": len(replay),
        "bytes": filled - before,
        "bytes_at_construction": allocated - before,
        "bytes_at_peak": peak - before,
        "bytes_planned": plan.bytes,
        "construction_seconds": construction,
        "microseconds_per_add": 1e6 * seconds_per_add,
        "batch_size": batch_size,
        "milliseconds_per_sample": 1e3 * _sampling_seconds(replay, batch_size, num_batches),
        "threads": torch.get_num_threads(),
    }


def _fill(replay: FrameReplay, plan: MemoryPlan) -> float:
    """Fills the replay with episodes until it has gone round. Returns seconds per transition."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (64, *SPEC.frame_shape), dtype=np.uint8)
    action = np.zeros(SPEC.action_dim, np.float32)
    start = time.perf_counter()
    added = 0
    while added < plan.capacity + plan.shortest_episode:
        replay.begin(0, frames[added % len(frames)])
        for step in range(1, plan.shortest_episode + 1):
            added += 1
            replay.add(0, action, 1.0, False, step == plan.shortest_episode, frames[added % len(frames)])
    return (time.perf_counter() - start) / added


def _sampling_seconds(replay: FrameReplay, batch_size: int, num_batches: int) -> float:
    """Median seconds to sample a batch."""
    rng = np.random.default_rng(0)
    seconds = []
    for _ in range(num_batches):
        start = time.perf_counter()
        replay.sample(batch_size, rng)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def _stacked_pairs(capacity: int) -> dict:
    return {
        "layout": "stacked obs and next_obs (arithmetic)",
        "transitions": capacity,
        "bytes": STACKED_PAIR_BYTES * capacity,
    }


def _table(rows: list[dict]) -> str:
    lines = ["| layout | transitions | memory | bytes a transition | at 1,000,000 |", "|---|---|---|---|---|"]
    for row in rows:
        each = row["bytes"] / row["transitions"]
        lines.append(
            f"| {row['layout']} | {row['transitions']:,} | {row['bytes'] / 1e9:.2f} GB | {each:,.0f} | "
            f"{each / 1e3:.1f} GB |"
        )
    return "\n".join(lines)


def _resident_bytes() -> int:
    """Bytes of this process that are in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _peak_bytes() -> int:
    """Most bytes of this process that were in memory at once."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def machine() -> dict:
    """What the numbers were measured on, and when."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "system": platform.platform(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
