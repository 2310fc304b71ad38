"""Causality-aware entropy and soft resets: effects, weights, dormancy, the reset's formula and what it touches."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from sacae import config as configs
from sacae.agents import make_agent
from sacae.agents.soft_reset import (
    Dormancy,
    dormancy,
    mix,
    mix_dormant,
    own_linear_layers,
    retained_by_causes,
    retained_by_dormancy,
    soft_reset,
)
from sacae.causality import effects_on_reward, entropy_weights
from sacae.errors import UserError, how_to_install
from sacae.types import Batch, EnvSpec
from tests.agents.conftest import critic_loss

SPEC = EnvSpec((3,), "float32", 1, 2)


def make(spec=SPEC, **settings):
    torch.manual_seed(0)
    return make_agent(spec, configs.make(**({"obs": "state", "hidden_dim": 16, "batch_size": 8} | settings)))


def batch_of(spec=SPEC, size=8):
    generator = torch.Generator().manual_seed(1)
    obs, next_obs = torch.randn(2, size, *spec.obs_shape, generator=generator)
    action = torch.rand(size, spec.action_dim, generator=generator) * 2 - 1
    return Batch(obs, action, torch.rand(size, 1, generator=generator), torch.full((size, 1), 0.99), next_obs)


def updated(agent, count, spec=SPEC):
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        agent.update(batch_of(spec), agent.draw_noise(generator))
    return agent


# Effects and weights.


@pytest.fixture
def caused():
    """Two state dimensions, three actions with direct effects 0.5, -2 and 0 on the reward; non-Gaussian noise."""
    pytest.importorskip("lingam", reason=how_to_install("ace"))
    rng = np.random.default_rng(0)
    states = rng.uniform(-1, 1, (4000, 2))
    actions = 0.3 * states[:, :1] + rng.uniform(-1, 1, (4000, 3))
    rewards = states @ [1.0, -0.5] + actions @ [0.5, -2.0, 0.0] + 0.2 * rng.uniform(-1, 1, 4000)
    return states, actions, rewards


def test_the_largest_cause_has_the_largest_effect(caused):
    effects = effects_on_reward(*caused)
    assert np.abs(effects).argmax() == 1
    assert effects[1] < -0.5
    assert 0 < effects[0] < 1
    assert abs(effects[2]) < 0.05
    assert entropy_weights(effects, signed=False).argmax() == 1
    assert entropy_weights(effects, signed=True).argmin() == 1


def test_the_reward_is_last_in_the_causal_order(caused, monkeypatch):
    import lingam

    seen = []
    fit = lingam.DirectLiNGAM.fit
    monkeypatch.setattr(lingam.DirectLiNGAM, "fit", lambda self, x: seen.append(fit(self, x)) or seen[-1])
    effects_on_reward(*caused)
    assert seen[0].causal_order_[-1] == 5
    # Gaussian noise shows no direction: without being told, the reward is third of these.
    rng = np.random.default_rng(0)
    states = rng.normal(size=(2000, 2))
    actions = 0.3 * states[:, :1] + rng.normal(size=(2000, 3))
    rewards = states @ [1.0, -0.5] + actions @ [0.5, -2.0, 0.0] + 0.2 * rng.normal(size=2000)
    effects_on_reward(states, actions, rewards)
    assert seen[1].causal_order_[-1] == 5


def test_effects_do_not_depend_on_units(caused):
    states, actions, rewards = caused
    scaled = effects_on_reward(10 * states + 1, actions * [1, 100, 0.1], 1000 * rewards)
    np.testing.assert_allclose(scaled, effects_on_reward(*caused), rtol=1e-6, atol=1e-9)


def test_constant_columns_have_no_effect_and_a_constant_reward_none_at_all(caused):
    states, actions, rewards = (column.copy() for column in caused)
    states[:, 0], actions[:, 0] = 3.0, -1.0
    effects = effects_on_reward(states, actions, rewards)
    assert effects[0] == 0
    assert np.isfinite(effects).all()
    assert np.abs(effects).argmax() == 1
    none = effects_on_reward(states, actions, np.ones(4000))
    assert (none == 0).all()
    assert (entropy_weights(none, signed=True) == 1).all()


def test_weights_are_a_softmax_times_the_number_of_actions():
    weights = entropy_weights(np.array([0.0, -np.log(3)]), signed=False)
    assert weights.tolist() == pytest.approx([0.5, 1.5])
    assert entropy_weights(np.array([0.0, -np.log(3)]), signed=True).tolist() == pytest.approx([1.5, 0.5])
    assert entropy_weights(np.array([7.0]), signed=False).tolist() == [1.0]


# In SAC's losses.


def test_with_one_action_dimension_it_is_sac_to_the_last_bit():
    spec = EnvSpec((3,), "float32", 1, 1)
    plain, causal = (updated(make(spec, **more), 6, spec) for more in ({}, {"causal_entropy": "absolute"}))
    ours, theirs = causal.state_dict(), plain.state_dict()
    assert {*ours} - {*theirs} == {"head.actor.entropy_weights"}
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_each_dimensions_log_probability_is_weighted_in_all_three_losses():
    agent = make(causal_entropy="absolute", init_temperature=0.7)
    actor, batch = agent.head.actor, batch_of()
    noise = agent.draw_noise(torch.Generator().manual_seed(0))
    actor.entropy_weights.copy_(torch.tensor([0.5, 1.5]))
    mean, log_std = actor(batch.next_obs)
    before_tanh = mean + noise.next_action * log_std.exp()
    action = torch.tanh(before_tanh)
    normal = torch.distributions.Normal(mean, log_std.exp())
    by_dimension = normal.log_prob(before_tanh) - torch.distributions.TanhTransform().log_abs_det_jacobian(
        before_tanh, action
    )
    log_prob = (by_dimension * torch.tensor([0.5, 1.5])).sum(1, keepdim=True)
    assert torch.allclose(actor.sample(batch.next_obs, noise.next_action)[1], log_prob, atol=1e-5)
    target = agent.head.critic_target
    value = target(batch.next_obs, action).amin(0) - 0.7 * log_prob
    q = agent.head.critic(batch.obs, batch.action)
    expected = ((q - (batch.reward + 0.99 * value)) ** 2).mean(1).sum()
    assert torch.allclose(critic_loss(agent, batch, noise)[0], expected, rtol=1e-4)


# Dormancy and resets.


def test_a_neuron_is_dormant_by_its_share_of_the_mean_norm():
    gradients = [torch.tensor([[3.0, 4.0], [0.0, 0.1], [0.2, 0.0], [0.0, 0.0]]), torch.tensor([[1.0], [1.0]])]
    found = dormancy(gradients, 0.1)  # norms 5, 0.1, 0.2, 0 with mean 1.325: dormant at 0.1325 and below
    assert [mask.tolist() for mask in found.masks] == [[False, True, False, True], [False, False]]
    assert found.share == pytest.approx(2 / 6)


@pytest.mark.parametrize(("share", "retained"), [(0.0, 0.9), (0.3, 0.7), (1.0, 0.2)])
def test_dormancy_lowers_what_is_retained(share, retained):
    assert retained_by_dormancy(share) == pytest.approx(retained)


@pytest.mark.parametrize(("weights", "retained"), [([1, 1], 0.5), ([0.5, 1.5], 0.9), ([0.95, 1.05], 0.9)])
def test_a_larger_difference_of_causes_retains_more(weights, retained):
    spread = weights[1] - weights[0]
    exact = min(max(1.5 - np.exp(-8 * spread), 0.2), 0.9)
    assert retained_by_causes(torch.tensor(weights, dtype=torch.float32)) == pytest.approx(exact, abs=1e-6)
    assert exact == pytest.approx(retained, abs=0.16)


def test_mixing_goes_towards_the_fresh_parameters():
    parameter = nn.Parameter(torch.tensor([1.0, 2.0]))
    mix([parameter], [torch.tensor([11.0, 12.0])], 0.8)
    assert parameter.tolist() == pytest.approx([3.0, 4.0])


def test_only_dormant_neurons_move_where_asked():
    layer, fresh = nn.Linear(2, 3), nn.Linear(2, 3)
    before = copy.deepcopy(layer)
    mix_dormant([layer], [fresh], [torch.tensor([False, True, False])], 0.25)
    for name in ("weight", "bias"):
        ours, was, new = (getattr(module, name) for module in (layer, before, fresh))
        assert torch.equal(ours[[0, 2]], was[[0, 2]])
        assert torch.allclose(ours[1], 0.25 * was[1] + 0.75 * new[1])


@pytest.fixture
def watched():
    """An agent with moments in its optimisers, and what it looked like."""
    agent = make(causal_entropy="absolute")
    agent.policy_gradients = {}
    return updated(agent, 4), copy.deepcopy(agent.state_dict())


def layers_of(agent):
    return own_linear_layers(agent.head.actor, agent.head.critic)


@pytest.mark.parametrize("kind", ["reset", "causal_reset"])
def test_a_reset_moves_policy_critic_and_target_alike_and_forgets_their_moments(kind, watched):
    agent, before = watched
    asleep = Dormancy([torch.zeros(len(layer.bias), dtype=torch.bool) for layer in layers_of(agent)], 0.4)
    retained = soft_reset(agent, kind, asleep, seed=3)
    assert retained == pytest.approx(0.6 if kind == "reset" else 0.5)
    torch.manual_seed(3)
    fresh = type(agent)(type(agent.head), agent.spec, agent.config).state_dict()
    for name, value in agent.state_dict().items():
        source = name.replace("critic_target", "critic")
        moves = name.startswith(("head.actor.trunk", "head.critic.q", "head.critic_target.q"))
        expected = retained * before[name] + (1 - retained) * fresh[source] if moves else before[name]
        assert torch.allclose(value, expected, atol=1e-6), name
    for name in ("actor", "critic"):
        assert not agent.optimizers[name].state
    assert agent.optimizers["temperature"].state
    updated(agent, 2)
    agent.check_finite()


@pytest.mark.parametrize("kind", ["dormant_reset", "causal_dormant_reset"])
def test_a_dormant_reset_touches_dormant_neurons_of_the_policy_alone(kind, watched):
    agent, before = watched
    masks = [torch.zeros(len(layer.bias), dtype=torch.bool) for layer in layers_of(agent)]
    masks[1][5] = True
    soft_reset(agent, kind, Dormancy(masks, 0.1), seed=3)
    changed = {name for name, value in agent.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"head.actor.trunk.2.weight", "head.actor.trunk.2.bias"}
    moved = (agent.head.actor.trunk[2].weight != before["head.actor.trunk.2.weight"]).any(1)
    assert moved.nonzero().flatten().tolist() == [5]
    assert agent.optimizers["critic"].state


def test_gradients_are_kept_of_the_latest_update_and_only_where_it_had_a_policy(watched):
    agent = make(causal_entropy="absolute", actor_update_freq=2)
    assert updated(agent, 2).policy_gradients is None
    agent.policy_gradients = {}
    assert updated(agent, 1).policy_gradients == {}
    gradients = updated(agent, 1).policy_gradients
    assert all(layer.weight in gradients for layer in layers_of(agent))


def test_from_pixels_the_encoder_stays():
    spec = EnvSpec((3, 48, 48), "uint8", 1, 2)
    agent = make(spec, obs="pixels", num_layers=2, num_filters=4, feature_dim=6, causal_entropy="absolute")
    layers = layers_of(agent)
    assert layers[0] is agent.head.actor.encoder.projection[0]
    before = copy.deepcopy(agent.encoder.state_dict())
    masks = [torch.zeros(len(layer.bias), dtype=torch.bool) for layer in layers]
    soft_reset(agent, "reset", Dormancy(masks, 0.4), seed=3)
    assert all(torch.equal(value, before[name]) for name, value in agent.encoder.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"agent": "td3", "causal_entropy": "signed"}, "causal_entropy is signed, but agent td3 does not have this"),
        ({"agent": "ddpg", "soft_reset": "reset"}, "soft_reset is reset, but agent is ddpg"),
        ({"soft_reset": "causal_reset"}, "if causal_entropy is off"),
        ({"causal_entropy": "signed", "replay_capacity": 9999}, "it must be at most replay_capacity"),
        ({"sparse_reward": 0.5, "clip_reward": True}, "clip_reward is on, but it must be off if sparse"),
        ({"causal_entropy": "signed", "causal_samples": 0}, "causal_samples is 0"),
        ({"soft_reset": "reset", "reset_every": 0}, "reset_every is 0"),
    ],
)
def test_settings_that_do_not_apply_or_contradict_each_other_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        configs.make(**settings)
