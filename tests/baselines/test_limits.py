"""Counts that no memory holds are refused before anything is allocated."""

import pytest

from baselines.algorithms import SETTINGS
from baselines.train import train
from sacae import cli

SHORT = ["--num-train-steps", "100", "--no-save-video", "--device", "cpu"]


@pytest.mark.parametrize(
    ("algorithm", "env", "flag"),
    [
        ("her_ddpg", "baselines.point_mass:PointMassGoal-v0", "--replay-capacity"),
        ("her_ddpg", "baselines.point_mass:PointMassGoal-v0", "--hidden-dim"),
        ("ppo", "Pendulum-v1", "--steps-per-update"),
        ("trpo", "Pendulum-v1", "--hidden-dim"),
        ("option_critic", "CartPole-v1", "--replay-capacity"),
    ],
)
def test_a_count_that_no_memory_holds_is_one_line(algorithm, env, flag, capsys, tmp_path):
    argv = ["--algo", algorithm, "--env", env, flag, str(10**12), *SHORT, "--work-dir", str(tmp_path / "run")]
    assert cli.guarded(train, argv, "baselines.train") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{flag[2:].replace('-', '_')} is 1,000,000,000,000, which needs" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("algorithm", SETTINGS)
def test_an_infinite_number_is_one_line(algorithm, capsys, tmp_path):
    argv = ["--algo", algorithm, "--discount", "nan", *SHORT, "--work-dir", str(tmp_path / "run")]
    assert cli.guarded(train, argv, "baselines.train") == 2
    assert capsys.readouterr().err.count("\n") == 1
