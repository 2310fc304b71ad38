"""The documented runs from state reach what they are documented to reach. Minutes each; run by `make test-learning`.

A documented run is a command in one of the READMEs below that ends in "# last: at least X", "# best: at least X" or
"# success: at least X": the mean return of the last evaluation, that of fresh episodes with the checkpoint of the best
evaluation, or the share of those that end in success.
"""

import csv
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from baselines.eval import evaluate
from baselines.train import NAMES
from baselines.train import train as train_baseline
from sacae import cli

ROOT = Path(__file__).parents[2]
READMES = [ROOT / folder / "README.md" for folder in ("results/heads", "results/state")]
COMMAND = re.compile(
    r"^ *python (train\.py|-m baselines\.train) (.*?) +# (\w+): at least ([-\d.]+)$",
    re.M,
)
NEEDS = {"LunarLander-v3": "Box2D", "FetchReach-v4": "gymnasium_robotics"}
"""Packages of environments that are not installed with the package and its tests."""

TRAIN = {"train.py": lambda flags: cli.main(["train", *flags]), "-m baselines.train": train_baseline}
EPISODES = 20


def documented_runs():
    """Of each documented run: which script, its flags, what is measured, the bound."""
    for readme in READMES:
        for match in COMMAND.finditer(readme.read_text()):
            script, flags, which, bound = match.groups()
            name = f"{script} {flags}".replace(" ", "_")
            yield pytest.param(script, shlex.split(flags), which, float(bound), id=name)


def last(folder: Path) -> float:
    """Mean return of the last evaluation."""
    with open(folder / "eval.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return float(np.mean([float(row["episode_return"]) for row in rows if row["env_step"] == rows[-1]["env_step"]]))


def played_again(folder: Path) -> dict:
    """Results of fresh episodes with the checkpoint of the best evaluation."""
    assert evaluate([str(folder), "--best", "--episodes", str(EPISODES), "--no-video"]) == 0
    (path,) = (folder / "evaluation").glob("*.json")
    result = json.loads(path.read_text())
    assert len(result["episode_returns"]) == EPISODES
    return result


MEASURES = {
    "last": last,
    "best": lambda folder: played_again(folder)["mean"],
    "success": lambda folder: played_again(folder)["success_rate"],
}


def test_every_algorithm_has_a_documented_run_from_state():
    named = {re.search(r"--(?:agent|algo) (\w+)", " ".join(run.values[1]))[1] for run in documented_runs()}
    assert named == {*NAMES} - {"ace"}  # ACE takes half an hour, and has no bound


def test_every_documented_bound_is_of_something_that_is_measured():
    assert {run.values[2] for run in documented_runs()} <= {*MEASURES}


@pytest.mark.learning
@pytest.mark.parametrize(("script", "flags", "which", "bound"), list(documented_runs()))
def test_a_documented_run_reaches_its_bound(script, flags, which, bound, tmp_path):
    for env_id in NEEDS.keys() & {*flags}:
        pytest.importorskip(NEEDS[env_id])
    folder = tmp_path / "run"
    assert TRAIN[script]([*flags, "--work-dir", str(folder), "--no-save-video"]) == 0
    assert MEASURES[which](folder) >= bound
