"""Every head learns from pixels, on an environment that takes no time to draw."""

import csv
import io

import gymnasium
import numpy as np
import pytest
from rich.console import Console

from sacae import config as configs
from sacae.agents import HEADS
from sacae.training import off_policy
from tests.learning import centring

MARGIN = 2.5
"""How much the return must exceed the random policy's mean; the best policy's does by about 4."""

SETTINGS = {
    "env": "tests.learning.centring:Centring-v0",
    "obs": "pixels",
    "image_size": 48,
    "frame_stack": 1,
    "num_layers": 2,
    "num_filters": 8,
    "feature_dim": 16,
    "hidden_dim": 64,
    "batch_size": 32,
    "actor_lr": 1e-3,
    "discount": 0.8,
    "critic_tau": 0.05,
    "encoder_tau": 0.05,
    "critic_target_update_freq": 2,
    "seed_steps": 200,
    "initial_updates": 200,
    "num_train_steps": 400,
    "exploration_steps": 300,
    "init_temperature": 0.02,
    "eval_every": 400,
    "num_eval_episodes": 20,
    "save_video": False,
    "overlap": False,
    "precision": "fp32",
}


def random_return(episodes: int = 200) -> float:
    env = gymnasium.make("Centring-v0")
    env.action_space.seed(0)
    total = 0.0
    for seed in range(episodes):
        env.reset(seed=seed)
        total += sum(env.step(env.action_space.sample())[1] for _ in range(centring.EPISODE_STEPS))
    return total / episodes


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "sac" else pytest.mark.slow) for name in HEADS]
)
def test_every_head_beats_the_random_policy_from_pixels(name, tmp_path):
    config = configs.make(**configs.with_what_fits({"agent": name, "work_dir": tmp_path / name}, SETTINGS))
    assert off_policy.start(config, Console(file=io.StringIO()), resume=False).train()
    with open(tmp_path / name / "eval.csv", newline="") as file:
        returns = [float(row["episode_return"]) for row in csv.DictReader(file) if row["env_step"] == "400"]
    assert len(returns) == 20
    assert np.mean(returns) > random_return() + MARGIN
