"""`sacae demo`: a few minutes of training from pixels, and a comparison of the agent with random actions."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from sacae import config as configs
from sacae import envs
from sacae.experiments.report.media import Clip, write_clips
from sacae.text import say, waiting
from sacae.training import off_policy
from sacae.training.evaluation import Player, RememberingPlayer, evaluate
from sacae.training.task import full_task
from sacae.types import EnvSpec, Frames

SETTINGS = {
    "domain": "cheetah",
    "task": "run",
    "preset": "laptop",
    # Faster than the preset at the start: small batches, two updates in each step, three-step returns.
    "batch_size": 32,
    "updates_per_step": 2.0,
    "n_step": 3,
    "seed_steps": 250,
    "num_train_steps": 16_000,
    "eval_every": 8_000,
    "num_eval_episodes": 1,
}
"""8,500 updates: enough for the cheetah to run, within minutes on two CPU cores."""

EPISODES = 10
"""Episodes of each policy in the comparison."""

VIDEO = "before-and-after.mp4"


@dataclass(frozen=True)
class RandomPolicy:
    """Acts uniformly at random in [-1, 1], for every observation."""

    spec: EnvSpec
    rng: np.random.Generator

    def act(self, obs: Frames) -> torch.Tensor:
        """(N, *obs_shape) -> float32 (N, A)."""
        return torch.from_numpy(self.rng.uniform(-1, 1, (len(obs), self.spec.action_dim)).astype(np.float32))


def demo(work_dir: Path, seed: int, console: Console) -> bool:
    """Trains an agent, compares it with random actions, and writes a video of both; False if it was stopped.

    work_dir: the run folder. Raises UserError as a training does.
    """
    training = off_policy.start(configs.make(**SETTINGS, seed=seed, work_dir=work_dir), console)
    if not training.train():
        return False
    agent = training.learner.player
    players: dict[str, Player | RememberingPlayer] = {
        "random actions": RandomPolicy(agent.spec, np.random.default_rng(seed)),
        "trained": agent,
    }
    seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(EPISODES)]
    clips = []
    with contextlib.closing(envs.from_config(full_task(training.run.config), seed)) as env:
        for name, player in players.items():
            with waiting(console, f"playing {EPISODES} episodes: {name}"):
                episodes = evaluate(player, [env], seeds, video=True)
            returns = [episode.episode_return for episode in episodes]
            text = f"{name}: return {np.mean(returns):.1f} ± {np.std(returns):.1f} over {EPISODES} episodes"
            say(console, text)
            clips.append(Clip(episodes[0].filmed(), env.metadata["render_fps"], (name, f"return {returns[0]:.0f}")))
    path = work_dir / VIDEO
    write_clips(clips, path)
    say(console, f"video of both: {path}")
    return True
