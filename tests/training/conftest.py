"""Tiny runs: real environments with episodes of a few steps, networks of a few parameters."""

import io

import pytest
from rich.console import Console

from sacae import config as configs
from sacae import envs
from sacae.training import off_policy
from sacae.training.start import Training

EPISODE_STEPS = 7


def short_episode_env(config, seed):
    """An environment whose time limit comes after EPISODE_STEPS agent steps; can be built in another process."""
    control_timestep = 0.01  # of cheetah and cartpole
    return envs.make(
        config.domain,
        config.task,
        seed=seed,
        from_pixels=config.obs == "pixels",
        height=config.image_size,
        width=config.image_size,
        frame_skip=config.action_repeat,
        task_kwargs={"time_limit": (EPISODE_STEPS * config.action_repeat - 0.5) * control_timestep},
    )


@pytest.fixture
def short_episodes(monkeypatch):
    """Runs whose episodes end after EPISODE_STEPS agent steps."""
    monkeypatch.setattr(envs, "from_config", short_episode_env)


SMALL = {
    # The precision is named: what `auto` measures as the fastest may differ between two runs on a busy machine.
    "pixels": {"image_size": 48, "num_layers": 2, "num_filters": 4, "feature_dim": 8, "precision": "fp32"},
    "state": {"domain": "cartpole", "task": "swingup", "obs": "state", "action_repeat": 2},
}


@pytest.fixture
def make_trainer(short_episodes, tmp_path):
    def make(obs="pixels", resume=False, folder="run", **settings) -> Training:
        defaults = {
            "hidden_dim": 16,
            "batch_size": 4,
            "seed_steps": 5,
            "initial_updates": 3,
            "num_train_steps": 80,
            "eval_every": 40,
            "checkpoint_every": 40,
            "num_eval_episodes": 2,
            "save_video": False,
            "overlap": False,
            "precision": "fp32",
            "work_dir": tmp_path / folder,
        }
        if resume and (tmp_path / folder / "config.yaml").exists():
            config = configs.load(tmp_path / folder / "config.yaml").replace(**settings)
        else:
            config = configs.make(**(SMALL[obs] | defaults | settings))
        return off_policy.start(config, Console(file=io.StringIO(), width=200), resume)

    return make
