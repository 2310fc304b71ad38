"""A run from pixels that is really trained, in seconds: small images, small networks, episodes of a few steps."""

import io

import pytest
from rich.console import Console

from sacae import config as configs
from sacae import envs
from sacae.training import off_policy
from tests.training.short_episodes import short_episode_env

SMALL = {"image_size": 48, "num_layers": 2, "num_filters": 4, "feature_dim": 8, "hidden_dim": 16, "batch_size": 4}
SHORT = {
    "seed_steps": 5, "initial_updates": 3, "num_train_steps": 120, "eval_every": 80, "num_eval_episodes": 1,
    "precision": "fp32",
}  # fmt: skip


def train(folder, **settings):
    """Trains into the folder and returns it."""
    task = {"domain": "cartpole", "task": "swingup"}
    defaults = {**task, **SMALL, **SHORT, "save_video": False, "save_replay": False, "overlap": False}
    config = configs.make(**(defaults | settings | {"work_dir": folder}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(envs, "from_config", short_episode_env)
        assert off_policy.start(config, Console(file=io.StringIO(), width=200)).train()
    return folder


def files_of(folder):
    """The content of every file below the folder, by its path."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
