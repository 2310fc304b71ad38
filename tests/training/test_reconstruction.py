"""The autoencoder learns real frames, and draws them from the latent vector."""

import numpy as np
import pytest
import torch

from sacae import config as configs
from sacae import envs
from sacae.agents import HEADS, make_agent
from sacae.agents.autoencoder import draw_bytes, reconstruction_target
from sacae.agents.gates import Gates
from sacae.types import Batch, EnvSpec, Noise

ONLY_AUXILIARY = Gates(critic=False, policy=False, targets=False, auxiliary=True)


@pytest.fixture(scope="module")
def cheetah_frames(gl) -> torch.Tensor:
    """uint8 (16, 9, 84, 84): stacks from four episodes of random actions, each held for five steps."""
    env = envs.make("cheetah", "run", seed=3, frame_skip=4)
    rng = np.random.default_rng(0)
    stacks = []
    for _ in range(4):
        frame, _ = env.reset()
        frames = [frame] * 3
        for step in range(60):
            if step % 5 == 0:
                action = rng.uniform(-1, 1, 6).astype(np.float32)
            frame, *_ = env.step(action)
            frames = [*frames[1:], frame]
            if step % 15 == 14:
                stacks.append(np.concatenate(frames))
    env.close()
    return torch.from_numpy(np.stack(stacks))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "sac" else pytest.mark.slow) for name in HEADS]
)
def test_reconstruction_falls_below_the_mean_image_and_needs_the_right_latent(name, cheetah_frames):
    torch.manual_seed(0)
    spec = EnvSpec((3, 84, 84), "uint8", 3, 6, num_actions=3 if HEADS[name].settings.DISCRETE_ACTIONS else None)
    agent = make_agent(spec, configs.make(agent=name, batch_size=16, hidden_dim=8))
    generator = torch.Generator().manual_seed(0)
    obs = cheetah_frames
    target = reconstruction_target(obs, torch.full_like(obs, 128), 5)
    mean_image = (target - target.mean(0)).square().mean().item()

    def learn(updates: int) -> tuple[float, float]:
        """Errors of the reconstruction, and of that of the next image's latent, after further updates."""
        for _ in range(updates):
            noise = draw_bytes(obs.shape, generator)
            batch = Batch(obs, action=None, reward=None, discount=None, next_obs=None)
            agent.run_update(batch, Noise(reconstruction=noise), ONLY_AUXILIARY)
        with torch.no_grad():
            latents = agent.encoder(obs)
            drawn = (agent.decoder(latents), agent.decoder(latents.roll(1, 0)))
            return tuple((images_drawn - target).square().mean().item() for images_drawn in drawn)

    error, _ = learn(200)
    assert error < 0.006
    error, shuffled = learn(75)
    assert error < 0.9 * mean_image
    assert shuffled > 1.5 * error
