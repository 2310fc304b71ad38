"""Ctrl-C to a real training at twelve moments: it stops silently, and the resumed run writes what a whole one does.

test_stops.py has the same in this process, in more detail, and tests/test_signals.py Ctrl-C while PyTorch is imported.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.runs import rows, rows_without_timing

ROOT = Path(__file__).parents[2]
RUN = {
    "domain": "cartpole", "task": "balance", "obs": "state", "action-repeat": 8, "num-train-steps": 2400,
    "seed-steps": 20, "initial-updates": 20, "batch-size": 8, "hidden-dim": 16, "eval-every": 800,
    "checkpoint-every": 400, "num-eval-episodes": 1, "device": "cpu", "precision": "fp32", "render-quality": "fast",
}  # fmt: skip
INTERRUPTED = """
import os, pkgutil, signal, sys
from sacae import cli

signal.signal(signal.SIGINT, signal.default_int_handler)
owner, name = pkgutil.resolve_name(sys.argv[1]), sys.argv[2]
original, calls = getattr(owner, name), []

def interrupted(*args, **kwargs):
    calls.append(name)
    if len(calls) == int(sys.argv[3]):
        print("now", flush=True)
        os.kill(os.getpid(), signal.SIGINT)
    return original(*args, **kwargs)

setattr(owner, name, interrupted)
sys.exit(cli.main(["train", *sys.argv[4:]]))
"""
MOMENTS = {
    "before the folder is there": ("sacae.training.run_folder", "create", 1),
    "networks are made": ("sacae.training.off_policy", "make_agent", 1),
    "the first checkpoint is written": ("sacae.training.checkpoint", "save", 1),
    "the first evaluation plays": ("sacae.training.evaluation:_Slot", "step", 60),
    "a video is written": ("sacae.training.pictures", "write_video", 1),
    "random steps": ("sacae.training.loop", "step", 10),
    "the burst of updates": ("sacae.replay:FrameReplay", "sample", 10),
    "a step": ("sacae.training.loop", "step", 180),
    "a later evaluation plays": ("sacae.training.evaluation:_Slot", "step", 200),
    "a checkpoint's file is complete, but not in its place": ("sacae.files", "sync", 12),
    "a row is written": ("sacae.training.csv_log:CsvLog", "_write_line", 5),
    "the end": ("sacae.training.run:Run", "close", 1),
}
"""What is called then: its module or class, its name, and the number of the call."""


def train(folder, *flags, program=("-m", "sacae", "train")):
    given = RUN | {"work-dir": folder}
    words = [str(word) for name, value in given.items() for word in (f"--{name}", value)]
    command = [sys.executable, *map(str, program), *words, *flags]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that nothing has interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    done = train(folder, "--no-save-video")
    assert done.returncode == 0, done.stderr
    return folder


def assert_interrupted(done):
    assert "now" in done.stdout
    assert (done.returncode, done.stderr) == (130, "")


def assert_resumes_as(whole, folder):
    """A folder that was made goes on by --resume; otherwise there is nothing to resume."""
    done = train(folder, "--no-save-video", *(["--resume"] if folder.exists() else []))
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("train.csv", "eval.csv"):
        assert rows(whole / name)
        assert rows_without_timing(folder / name) == rows_without_timing(whole / name)
    assert not [*folder.rglob(".tmp-*")]


def interrupt(moment, folder):
    video = [] if "video" in moment else ["--no-save-video"]
    return train(folder, *video, program=("-c", INTERRUPTED, *MOMENTS[moment]))


SHORT = "the burst of updates"


@pytest.mark.parametrize("moment", [SHORT, *(pytest.param(m, marks=pytest.mark.faults) for m in MOMENTS if m != SHORT)])
def test_ctrl_c_ends_a_real_training_silently_and_it_resumes_exactly(moment, whole, tmp_path, request):
    if "video" in moment:
        request.getfixturevalue("gl")
    folder = tmp_path / "run"
    done = interrupt(moment, folder)
    if moment == "the end":  # Nothing is left to interrupt.
        assert (done.returncode in (0, 130), done.stderr) == (True, "")
    else:
        assert_interrupted(done)
    assert_resumes_as(whole, folder)


@pytest.mark.faults
def test_ctrl_c_while_a_checkpoint_is_loaded_leaves_it_as_it_is(whole, tmp_path):
    folder = tmp_path / "run"
    assert_interrupted(interrupt("a step", folder))
    loading = ("-c", INTERRUPTED, "sacae.training.checkpoint", "read", 1)
    assert_interrupted(train(folder, "--no-save-video", "--resume", program=loading))
    assert_resumes_as(whole, folder)
