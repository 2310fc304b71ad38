"""`python -m baselines.train` and `python -m baselines.eval`: the same runs as train.py's, and their mistakes."""

import csv

import pytest
import torch

from baselines.algorithms import ALGORITHMS, SETTINGS
from baselines.eval import PROG as EVAL
from baselines.eval import evaluate
from baselines.train import NAMES, PROG, train
from sacae import cli, invocation
from sacae import config as configs
from sacae.agents import HEADS
from sacae.errors import how_to_install
from sacae.experiments.report.runs import by_task_and_arm, read
from sacae.training import checkpoint

TINY = ["--env", "CartPole-v1", "--num-train-steps", "60", "--eval-every", "30", "--num-eval-episodes", "1",
        "--no-save-video"]  # fmt: skip
TRAIN = invocation.command("train")
TINY_AGENT = ["--seed-steps", "10", "--initial-updates", "2", "--batch-size", "4", "--hidden-dim", "8",
              "--precision", "fp32"]  # fmt: skip


def run(command, argv, prog, capsys):
    status = cli.guarded(command, argv, prog)
    out, err = capsys.readouterr()
    return status, out, err


def test_an_agent_learns_the_same_as_by_train_py(tmp_path, capsys):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    argv = [*TINY, *TINY_AGENT]
    assert run(train, ["--algo", "discrete_sac", *argv, "--work-dir", str(ours)], PROG, capsys)[0] == 0
    same = ["train", "--agent", "discrete_sac", "--obs", "state", *argv, "--work-dir", str(theirs)]
    assert cli.main(same) == 0
    left, right = (checkpoint.load(folder)[0]["learning"]["networks"] for folder in (ours, theirs))
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_ace_is_sac_with_two_settings_changed(tmp_path, capsys):
    folder = tmp_path / "run"
    argv = ["--algo", "ace", *TINY, *TINY_AGENT, "--env", "Pendulum-v1", "--work-dir", str(folder)]
    pytest.importorskip("lingam", reason=how_to_install("ace"))
    assert run(train, argv, PROG, capsys)[0] == 0
    config = configs.load(folder / "config.yaml", configs.Config())
    assert (config.variant, config.agent.agent) == ("ace-state", "sac")
    assert (config.agent.causal_entropy, config.causal.soft_reset) == ("absolute", "reset")
    status, out, _ = run(evaluate, [str(folder), "--episodes", "1", "--no-video"], EVAL, capsys)
    assert status == 0
    assert "mean" in out


def test_ace_without_resets_is_resumed_by_its_name(tmp_path, capsys):
    folder = ["--work-dir", str(tmp_path / "run")]
    argv = ["--algo", "ace", *TINY, *TINY_AGENT, "--env", "Pendulum-v1", "--soft-reset", "off", *folder]
    pytest.importorskip("lingam", reason=how_to_install("ace"))
    assert run(train, argv, PROG, capsys)[0] == 0
    assert run(train, ["--algo", "ace", "--resume", *folder, "--num-train-steps", "90"], PROG, capsys)[0] == 0


@pytest.mark.parametrize("algo", ["q_learning", "dqn"])
def test_a_run_is_trained_resumed_and_played_back(algo, tmp_path, capsys):
    folder = tmp_path / "run"
    argv = ["--algo", algo, *TINY, *(TINY_AGENT if algo in HEADS else []), "--work-dir", str(folder)]
    assert run(train, argv, PROG, capsys)[0] == 0
    status, _, err = run(train, argv, PROG, capsys)
    assert (status, err.count("\n")) == (2, 1)
    assert "--resume" in err
    assert run(train, [*argv, "--resume", "--num-train-steps", "90"], PROG, capsys)[0] == 0
    with open(folder / "eval.csv", newline="") as file:
        assert [int(row["env_step"]) for row in csv.DictReader(file)] == [0, 30, 60, 90]
    for which in ([], ["--best"]):
        status, out, err = run(evaluate, [str(folder), "--episodes", "2", "--no-video", *which], EVAL, capsys)
        assert status == 0, err
        assert "mean" in out
    assert len([*(folder / "evaluation").glob("*.json")]) == 2


@pytest.mark.parametrize(("algo", "other"), [("vpg", "ppo"), ("ppo", "vpg")])  # VPG has a part of PPO's settings
def test_a_run_is_not_resumed_as_another_algorithm(algo, other, tmp_path, capsys):
    folder = tmp_path / "run"
    words = ["--steps-per-update", "20", "--work-dir", str(folder)]
    assert run(train, ["--algo", algo, *TINY, *words], PROG, capsys)[0] == 0
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    argv = ["--algo", other, "--resume", "--num-train-steps", "90", "--work-dir", str(folder)]
    status, _, err = run(train, argv, PROG, capsys)
    assert (status, err.count("\n")) == (2, 1)
    assert f"holds a run of the baseline {algo}: " in err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_report_compares_tables_with_agents(tmp_path, capsys):
    folders = {algo: tmp_path / algo for algo in ("q_learning", "dqn")}
    for algo, folder in folders.items():
        argv = ["--algo", algo, *TINY, *(TINY_AGENT if algo in HEADS else []), "--work-dir", str(folder)]
        assert run(train, argv, PROG, capsys)[0] == 0
    arms = by_task_and_arm([read(folder) for folder in folders.values()])
    assert {task: [*names] for task, names in arms.items()} == {"CartPole-v1": ["dqn-state", "q_learning"]}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "algo is missing"),
        (["--algo", "dqm"], "did you mean dqn"),
        (["--algo"], "must be one of"),
        (["--algo", "sac", "--obs", "state"], "--obs is not allowed"),
        (["--algo", "sac", "--agent=td3"], "--agent is not allowed"),
        (["--algo=q_learning", "--decoder", "rae"], "--decoder"),
        (["--algo", "q_learning", "--env", "CartPole-v9"], "CartPole"),
        (["--algo", "sac", "--env", "CartPole-v1"], "use --algo dqn or discrete_sac\n"),
        (["--algo", "sac", "--exploration-steps", "9"], "choose --algo td3 or ddpg or dqn\n"),
        (["--algo", "sac", "--noise-clip", "1"], f"choose {TRAIN} --agent drqv2\n"),
        (["--algo", "ppo", "--env", "tests.envs.tiny:TinyPixels-v0"], f"an image; use {TRAIN} --obs pixels\n"),
        (["--algo", "dqn", "--env", "tests.envs.tiny:TinyPixels-v0"], f"an image; use {TRAIN} --obs pixels\n"),
    ],
)
def test_a_mistake_is_one_line_with_status_2(argv, words, tmp_path, capsys):
    folder = tmp_path / "run"
    status, _, err = run(train, [*argv, "--work-dir", str(folder)], PROG, capsys)
    assert status == 2
    assert err.count("\n") == 1
    assert words in err
    assert not folder.exists()


def test_every_algorithm_trains_with_the_settings_that_its_flags_show():
    assert {name: algorithm.settings for name, algorithm in ALGORITHMS.items()} == SETTINGS


def test_help_names_every_algorithm(capsys):
    status, out, _ = run(train, ["--help"], PROG, capsys)
    assert status == 0
    assert all(name in out for name in NAMES)


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    for folder in (tmp_path, tmp_path / "nothing"):
        status, _, err = run(evaluate, [str(folder)], EVAL, capsys)
        assert (status, err.count("\n")) == (2, 1)
