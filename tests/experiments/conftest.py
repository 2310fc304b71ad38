"""Experiments of real processes that take seconds."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CENTRING = "tests.learning.centring:Centring-v0"
CENTRING_FOLDER = "tests.learning.centring_Centring-v0"

# fmt: off
TINY = [
    "--seed-steps", "10", "--initial-updates", "2", "--num-eval-episodes", "1", "--no-save-video", "--batch-size", "4",
    "--hidden-dim", "16", "--no-overlap", "--precision", "fp32", "--device", "cpu",
]
TINY_PIXELS = [
    *TINY, "--obs", "pixels", "--image-size", "48", "--num-layers", "2", "--num-filters", "4", "--feature-dim", "8",
]
# fmt: on


def without(words: list[str], flag: str) -> list[str]:
    """The words without a flag and its value."""
    at = words.index(flag)
    return [*words[:at], *words[at + 2 :]]


def start(*words) -> subprocess.Popen:
    """A sacae command, started."""
    command = [sys.executable, "-m", "sacae", *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)


def sacae(*words) -> tuple[int, str, str]:
    """Exit status, output and error output of a sacae command."""
    process = start(*words)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def wait_for(what, seconds=120):
    """What `what` returns, once that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.05)
    pytest.fail("it did not happen in time")


def rows(path: Path) -> int:
    """Rows of a CSV file."""
    return path.read_text().count("\n") - 1 if path.exists() else 0


def resumptions(folder: Path) -> int:
    """How often a run was resumed."""
    return len(yaml.safe_load((folder / "config.yaml").read_text()).get("resumed", []))
