"""Agents that see a state beside images: critic and policy see both, what reconstructs sees the images alone."""

import dataclasses

import pytest
import torch

from sacae import config as configs
from sacae.agents import HEADS, make_agent
from sacae.encoder import PixelStateEncoder, conv_layers
from sacae.types import PIXELS, STATE
from tests.agents.conftest import STATE_DIM


@pytest.fixture
def make_both(pixel_spec, small_settings):
    def make(**settings):
        torch.manual_seed(0)
        config = configs.make(**(small_settings | {"obs": "pixels+state", "precision": "fp32"} | settings))
        discrete = HEADS[config.agent.agent].settings.DISCRETE_ACTIONS
        spec = dataclasses.replace(
            pixel_spec, state_dim=STATE_DIM, sees_state=True, num_actions=3 if discrete else None
        )
        return make_agent(spec, config)

    return make


@pytest.fixture
def both(batch):
    return batch._replace(next_state=batch.state.flip(0))


def for_head(batch, agent):
    """The batch with actions of the agent's kind."""
    return batch if agent.spec.num_actions is None else batch._replace(action=(batch.action > 0).long())


def moved(tensor):
    return tensor + 1


@pytest.mark.parametrize("head", [*HEADS])
def test_every_head_acts_on_and_learns_from_the_state(head, make_both, both):
    agent, other = make_both(agent=head), make_both(agent=head)
    batch = for_head(both, agent)
    noise = agent.draw_noise(torch.Generator().manual_seed(1))
    loss = agent.update(batch, noise)["critic_loss"]
    assert loss != other.update(batch._replace(next_state=moved(batch.next_state)), noise)["critic_loss"]
    other = make_both(agent=head)
    assert loss != other.update(batch._replace(state=moved(batch.state)), noise)["critic_loss"]
    features = agent.policy_encoder.features(agent.encoder.prepare(batch.obs, batch.state))
    far = agent.policy_encoder.features(agent.encoder.prepare(batch.obs, 100 * batch.state))
    policy = agent.head.actor or agent.head.critic
    of_here, of_far = policy(features), policy(far)
    of_here, of_far = (one[0] if isinstance(one, tuple) else one for one in (of_here, of_far))
    assert not torch.equal(of_here, of_far)
    seen = {PIXELS: batch.obs.numpy(), STATE: batch.state.numpy()}
    assert torch.equal(agent.act(seen), agent.act({name: torch.from_numpy(part) for name, part in seen.items()}))


@pytest.mark.parametrize("decoder", ["rae", "vae"])
@pytest.mark.parametrize("dynamics", [False, True])
def test_what_reconstructs_sees_the_images_alone(decoder, dynamics, make_both, both):
    noise = make_both().draw_noise(torch.Generator().manual_seed(1))
    noise = noise._replace(latent=torch.randn(5, 8, generator=torch.Generator().manual_seed(2)))

    def loss_of(batch):
        agent = make_both(decoder=decoder, dynamics=dynamics)
        features = agent.encoder.features(agent.encoder.prepare(batch.obs, batch.state))
        (objective,) = agent.objectives
        return objective.loss(features, batch, noise)[0]

    changed = both._replace(state=moved(both.state), next_state=moved(both.next_state))
    assert torch.equal(loss_of(both), loss_of(changed))
    assert not torch.equal(loss_of(both), loss_of(both._replace(obs=both.obs.flip(0))))


def test_latents_and_reconstructions_are_those_of_an_agent_of_pixels(make_both, make_small_agent, both):
    agent, of_pixels = make_both(), make_small_agent()
    of_pixels.encoder.load_state_dict(agent.encoder.state_dict())
    of_pixels.decoder.load_state_dict(agent.decoder.state_dict())
    assert torch.equal(agent.latent(both.obs), of_pixels.latent(both.obs))
    noise = torch.zeros_like(both.obs)
    for ours, theirs in zip(
        agent.reconstruction.reconstruct(both.obs, noise), of_pixels.reconstruction.reconstruct(both.obs, noise)
    ):
        assert torch.equal(ours, theirs)


def test_the_encoder_of_an_agent_of_pixels_can_be_taken_over(make_both, make_small_agent, both):
    agent, of_pixels = make_both(), make_small_agent(feature_dim=8)
    of_pixels.encoder.projection[0].weight.data += 1
    agent.load_encoder(of_pixels.learning_state())
    assert torch.equal(agent.latent(both.obs), of_pixels.latent(both.obs))


def test_half_precision_rounds_images_and_not_the_state(pixel_spec, both):
    config = configs.make(obs="pixels+state", num_layers=2, num_filters=4, feature_dim=8)
    encoder = PixelStateEncoder(STATE_DIM, pixel_spec.obs_shape, 8, conv_layers(config.encoder), dtype=torch.bfloat16)
    features = encoder.features(encoder.prepare(both.obs, both.state))
    latent = encoder.project(features)
    assert torch.equal(latent[:, 8:], both.state)
    images = encoder.features(encoder.prepare(both.obs))
    assert images.dtype == torch.bfloat16
    assert torch.equal(encoder.of_images(features), images)
    assert torch.equal(latent[:, :8], encoder.latent(images))
