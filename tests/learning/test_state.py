"""The documented runs from state reach what they are documented to reach. Minutes each; run by `make test-learning`."""

import csv
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from sacae import cli

README = Path(__file__).parents[2] / "results" / "heads" / "README.md"
COMMAND = re.compile(r"^ *python train\.py (?P<flags>.*?) +# (?P<which>last|best): at least (?P<bound>-?\d+)$", re.M)
BEST_EPISODES = 20


def documented_runs():
    for match in COMMAND.finditer(README.read_text()):
        flags, which, bound = match["flags"], match["which"], float(match["bound"])
        yield pytest.param(shlex.split(flags), which, bound, id=flags.replace(" ", "_"))


def last_evaluation(folder: Path) -> float:
    """Mean return of the last evaluation."""
    with open(folder / "eval.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return float(np.mean([float(row["episode_return"]) for row in rows if row["env_step"] == rows[-1]["env_step"]]))


def best_played_again(folder: Path) -> float:
    """Mean return of fresh episodes with the checkpoint of the best evaluation."""
    assert cli.main(["eval", str(folder), "--best", "--episodes", str(BEST_EPISODES), "--no-video"]) == 0
    (path,) = (folder / "evaluation").glob("*.json")
    result = json.loads(path.read_text())
    assert len(result["episode_returns"]) == BEST_EPISODES
    return result["mean"]


def test_every_head_has_a_documented_run_from_state():
    agents = {flags[flags.index("--agent") + 1] for flags, *_ in (run.values for run in documented_runs())}
    assert agents == {"sac", "td3", "ddpg", "discrete_sac", "dqn"}


@pytest.mark.learning
@pytest.mark.parametrize(("flags", "which", "bound"), list(documented_runs()))
def test_a_documented_run_reaches_its_bound(flags, which, bound, tmp_path):
    folder = tmp_path / "run"
    assert cli.main(["train", *flags, "--work-dir", str(folder), "--no-save-video"]) == 0
    assert {"last": last_evaluation, "best": best_played_again}[which](folder) >= bound
