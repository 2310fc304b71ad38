"""Counts that no memory holds are refused before anything is allocated."""

import pytest
import torch

from baselines import algorithm
from baselines.algorithms import SETTINGS
from baselines.hdqn import ROW_BYTES
from baselines.settings import make
from baselines.settings.hdqn import HDQNSettings
from baselines.train import train
from sacae import cli
from sacae.errors import UserError

SHORT = ["--num-train-steps", "100", "--no-save-video", "--device", "cpu"]
ENDLESS = ["--num-train-steps", str(10**15), "--no-save-video", "--device", "cpu"]


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
    argv = ["--algo", algorithm, "--env", env, flag, str(10**12), *ENDLESS, "--work-dir", str(tmp_path / "run")]
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


def test_what_is_remembered_is_in_host_memory_and_counted_as_it_is_kept(monkeypatch):
    monkeypatch.setattr(algorithm, "free_memory", lambda device: 10**9 if device.type == "cpu" else 10**12)
    hdqn = make(HDQNSettings, env="Taxi-v4", replay_capacity=10**7)
    algorithm.check_memory(hdqn, ROW_BYTES, torch.device("cpu"))
    too_large = make(HDQNSettings, env="Taxi-v4", replay_capacity=2 * 10**7)
    for device in ("cpu", "cuda"):
        with pytest.raises(UserError, match=r"replay_capacity is 20,000,000, which needs 1\.6 GB or more in host"):
            algorithm.check_memory(too_large, ROW_BYTES, torch.device(device))


@pytest.mark.parametrize(
    "words",
    [["ppo", "--steps-per-update", "200", "--policy-updates", "1", "--policy-lr"], ["option_critic", "--actor-lr"]],
)
def test_a_policy_that_is_not_finite_ends_with_a_line(words, capsys, tmp_path):
    name, *flags = words
    argv = ["--algo", name, "--env", "CartPole-v1", *flags, "1e37", "--num-train-steps", "3000", "--no-save-video"]
    assert cli.guarded(train, [*argv, "--device", "cpu", "--work-dir", str(tmp_path / "run")], "baselines.train") == 2
    assert "not finite" in capsys.readouterr().err
