"""Small agents and batches without an environment."""

import copy
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


def noise_for(agent: Agent, seed: int = 0) -> Noise:
    """The noise of one update."""
    return agent.draw_noise(torch.Generator().manual_seed(seed))


def batch_for(agent: Agent, seed: int = 1) -> Batch:
    """A random batch of what the agent sees and does."""
    generator, spec, size = torch.Generator().manual_seed(seed), agent.spec, agent.config.replay.batch_size
    shape = (size, *spec.obs_shape)
    if spec.from_pixels:
        obs, next_obs = (torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator) for _ in range(2))
    else:
        obs, next_obs = (torch.randn(shape, generator=generator) for _ in range(2))
    if spec.num_actions is None:
        action = torch.rand(size, spec.action_dim, generator=generator) * 2 - 1
    else:
        action = torch.randint(0, spec.num_actions, (size, spec.action_dim), generator=generator)
    reward, discount = torch.rand(size, 1, generator=generator), torch.full((size, 1), 0.99)
    state = torch.randn(size, spec.state_dim, generator=generator) if spec.state_dim else None
    return Batch(obs, action, reward, discount, next_obs, state, state if spec.sees_state else None)


def assert_goes_on_after_loading(agent: Agent, other: Agent, batch: Batch) -> None:
    """Another agent that loads this one's state after three updates makes the next two to the same bits."""
    for k in range(3):
        agent.update(batch, noise_for(agent, k))
    other.load_learning_state(copy.deepcopy(agent.learning_state()))
    for k in range(3, 5):
        agent.update(batch, noise_for(agent, k))
        other.update(batch, noise_for(other, k))
    for (key, ours), theirs in zip(agent.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), key


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
