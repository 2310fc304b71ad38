"""Runs that were stopped before the training loop was rebuilt go on, can be played, and appear in one report.

data/stopped_runs.tar.gz holds a tiny run of every head, decoder and baseline, stopped half-way by a shorter budget. One
of them was interrupted within its initial updates, one kept no replay.
"""

import csv
import tarfile
from pathlib import Path

import pytest

from baselines import eval as baselines_eval
from baselines import train as baselines_train
from sacae import cli

ARCHIVE = Path(__file__).parent / "data" / "stopped_runs.tar.gz"
with tarfile.open(ARCHIVE) as archive:
    NAMES = sorted({name.partition("/")[0] for name in archive.getnames()})

QUICK = {"td3-state", "ppo", "q_learning", "sac-pixels-none"}
"""Played and resumed in every run of the tests; the others are marked slow."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The run folders, as they were stopped."""
    folder = tmp_path_factory.mktemp("stopped")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


def steps(folder: Path) -> list[int]:
    with open(folder / "eval.csv", newline="") as file:
        return [int(row["env_step"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_it_goes_on_where_it_stopped_and_can_be_played(name, folders, capsys):
    folder = folders / name
    before = steps(folder)
    if "pixels" in name:
        words = ["--work-dir", str(folder), "--resume", "--num-train-steps", "2400"]
        assert cli.run("train", words, "train.py") == 0, capsys.readouterr().err
    else:
        algo = name.partition("-")[0]
        words = ["--algo", algo, "--work-dir", str(folder), "--resume", "--num-train-steps", "1100"]
        assert cli.guarded(baselines_train.train, words, baselines_train.PROG) == 0, capsys.readouterr().err
    after = steps(folder)
    assert after[: len(before)] == before
    assert after[-1] > before[-1]
    words = [str(folder), "--episodes", "1", "--no-video"]
    assert cli.guarded(baselines_eval.evaluate, words, baselines_eval.PROG) == 0, capsys.readouterr().err


@pytest.mark.slow
def test_all_of_them_appear_in_one_report(folders, tmp_path):
    assert cli.main(["report", str(folders), "--out", str(tmp_path / "report")]) == 0
    text = (tmp_path / "report" / "index.html").read_text()
    assert all(
        name in text for name in ("option_critic", "sac-rae", "sac-state_decoder", "td3-state", "ace-state", "hdqn")
    )
