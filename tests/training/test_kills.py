"""Runs that are killed at random moments, also within a write, and resumed: they write what a run in one go does."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.training.runs import rows_without_timing

ROOT = Path(__file__).parents[2]
RUN = {
    "domain": "cartpole", "task": "balance", "obs": "state", "seed-steps": 100, "initial-updates": 1, "batch-size": 8,
    "hidden-dim": 16, "eval-every": 1000, "num-eval-episodes": 1, "checkpoint-every": 20, "device": "cpu",
    "precision": "fp32",
}  # fmt: skip


def start(folder, steps, *flags):
    given = RUN | {"num-train-steps": steps, "work-dir": folder}
    words = [str(word) for name, value in given.items() for word in (f"--{name}", value)]
    command = [sys.executable, ROOT / "train.py", *words, "--no-save-video", *flags]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_until_it_trains(process, folder, resumed_from):
    """Until the run writes a checkpoint of its own, or has ended."""
    state = folder / "checkpoint" / "state.pt"
    while process.poll() is None and (not state.exists() or state.stat().st_mtime_ns <= resumed_from):
        time.sleep(0.01)
    return state.stat().st_mtime_ns


@pytest.mark.parametrize(("kills", "steps"), [(1, 1000), pytest.param(20, 4000, marks=pytest.mark.faults)])
def test_a_run_killed_at_random_moments_writes_what_an_uninterrupted_one_does(kills, steps, tmp_path):
    rng, killed, written = random.Random(kills), 0, 0
    folder = tmp_path / "killed"
    flags = []
    while killed < kills:
        process = start(folder, steps, *flags)
        written = wait_until_it_trains(process, folder, written)
        time.sleep(rng.uniform(0, 0.3))
        os.killpg(process.pid, signal.SIGKILL)
        _, errors = process.communicate()
        if process.returncode == 0:
            break  # it was faster
        assert process.returncode == -signal.SIGKILL, errors
        killed, flags = killed + 1, ["--resume"]
    assert killed > kills / 2
    assert start(folder, steps, "--resume").wait() == 0
    whole = tmp_path / "whole"
    assert start(whole, steps).wait() == 0
    for name in ("train.csv", "eval.csv"):
        assert rows_without_timing(folder / name) == rows_without_timing(whole / name)
    assert not [*folder.rglob(".tmp-*")]
