"""Small agents and batches without an environment."""

import dataclasses

import pytest
import torch

from sacae import config as configs
from sacae.agents import HEADS, Agent, make_agent
from sacae.agents.gates import Gates
from sacae.declaration import declared
from sacae.types import Batch, EnvSpec, Noise

STATE_DIM = 6


def update_only(agent: Agent, parts: str, batch: Batch, noise: Noise) -> dict[str, torch.Tensor]:
    """One update of the named parts alone, such as "critic targets"."""
    return agent.run_update(batch, noise, Gates(**{part: part in parts.split() for part in Gates._fields}))


def critic_loss(agent: Agent, batch: Batch, noise: Noise) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The head's critic loss of a batch whose observations are prepared."""
    return agent.head.critic_loss(agent.encoder.features(batch.obs), batch, noise)


def of_head(agent: str, **settings: object) -> dict[str, object]:
    """Of the settings those that the head of that name has."""
    return {name: value for name, value in settings.items() if name in declared(HEADS[agent].settings)}


@pytest.fixture
def pixel_spec() -> EnvSpec:
    return EnvSpec((3, 48, 48), "uint8", 3, 2)


@pytest.fixture
def small_settings() -> dict:
    return {"num_layers": 2, "num_filters": 4, "feature_dim": 8, "hidden_dim": 16, "batch_size": 5}


@pytest.fixture
def make_small_agent(pixel_spec, small_settings):
    def make(**settings) -> Agent:
        torch.manual_seed(0)
        config = configs.make(**(small_settings | settings))
        spec = dataclasses.replace(pixel_spec, state_dim=STATE_DIM if config.keeps_state else 0)
        return make_agent(spec, config)

    return make


@pytest.fixture
def batch(pixel_spec) -> Batch:
    generator = torch.Generator().manual_seed(1)
    obs, next_obs = (
        torch.randint(0, 256, (5, *pixel_spec.obs_shape), dtype=torch.uint8, generator=generator) for _ in range(2)
    )
    action = torch.rand(5, 2, generator=generator) * 2 - 1
    reward, state = torch.rand(5, 1, generator=generator), torch.randn(5, STATE_DIM, generator=generator)
    return Batch(obs, action, reward, torch.full((5, 1), 0.99), next_obs, state)
