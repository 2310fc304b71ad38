"""What may and may not move in each step of an update, also after saving, loading and copying."""

import copy
import math

import pytest
import torch

from sacae.agents import HEADS, HeadEntry, make_agent
from sacae.agents.sac import SAC
from sacae.config import make
from sacae.errors import UserError
from sacae.types import EnvSpec
from tests.agents.conftest import noise_for, update_only


def seen_by(encoder, obs):
    return encoder.features(encoder.prepare(obs))


def critic_step(agent, batch):
    update_only(agent, "critic", batch, noise_for(agent))


def actor_step(agent, batch):
    update_only(agent, "policy", batch, noise_for(agent))


def conv_values(agent):
    return [p.detach().clone() for p in agent.encoder.convs.parameters()]


def reloaded(agent, make_small_agent):
    other = make_small_agent(seed=7)
    other.load_learning_state(copy.deepcopy(agent.learning_state()))
    return other


VARIANTS = {
    "fresh": lambda agent, _: agent,
    "loaded": reloaded,
    "deep-copied": lambda agent, _: copy.deepcopy(agent),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_critic_step_changes_what_the_actor_sees(variant, make_small_agent, batch):
    agent = VARIANTS[variant](make_small_agent(), make_small_agent)
    before = seen_by(agent.head.actor.encoder, batch.obs)
    critic_step(agent, batch)
    assert not torch.equal(before, seen_by(agent.head.actor.encoder, batch.obs))


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_actor_step_leaves_every_convolution_bit_identical_and_moves_its_own_projection(
    variant, make_small_agent, batch
):
    agent = VARIANTS[variant](make_small_agent(), make_small_agent)
    convs = conv_values(agent)
    projection = copy.deepcopy(agent.head.actor.encoder.projection)
    critic = copy.deepcopy(agent.head.critic.state_dict())
    actor_step(agent, batch)
    assert all(torch.equal(a, b) for a, b in zip(convs, agent.encoder.convs.parameters(), strict=True))
    assert all(torch.equal(value, critic[name]) for name, value in agent.head.critic.state_dict().items())
    assert not torch.equal(projection[0].weight, agent.head.actor.encoder.projection[0].weight)


@pytest.mark.parametrize("variant", VARIANTS)
def test_actor_and_critic_hold_the_same_convolution_parameters(variant, make_small_agent):
    agent = VARIANTS[variant](make_small_agent(), make_small_agent)
    for ours, theirs in zip(agent.head.actor.encoder.convs.parameters(), agent.encoder.convs.parameters(), strict=True):
        assert ours is theirs


def test_the_target_has_convolutions_of_its_own_that_follow_slowly(make_small_agent, batch):
    agent = make_small_agent(encoder_tau=0.05, critic_target_update_freq=1)
    target = agent.head.critic_target.encoder.convs[0].weight
    assert target is not agent.encoder.convs[0].weight
    before = target.clone()
    critic_step(agent, batch)
    update_only(agent, "targets", batch, noise_for(agent))
    torch.testing.assert_close(target, before + 0.05 * (agent.encoder.convs[0].weight - before))


def test_encoder_and_q_functions_follow_with_their_own_tau(make_small_agent, batch):
    agent = make_small_agent(encoder_tau=1.0, critic_tau=0.0)
    q_before = agent.head.critic_target.q.weights[0].clone()
    critic_step(agent, batch)
    update_only(agent, "targets", batch, noise_for(agent))
    torch.testing.assert_close(
        agent.head.critic_target.encoder.projection[0].weight, agent.encoder.projection[0].weight
    )
    torch.testing.assert_close(agent.head.critic_target.q.weights[0], q_before)


def test_gates_count_updates(make_small_agent, batch):
    agent = make_small_agent(actor_update_freq=3, critic_target_update_freq=2, decoder_update_freq=2)
    seen = [set(agent.update(batch, noise_for(agent, k))) for k in range(6)]
    assert ["actor_loss" in names for names in seen] == [False, False, True, False, False, True]
    assert ["reconstruction_loss" in names for names in seen] == [False, True, False, True, False, True]
    assert all("critic_loss" in names for names in seen)


def test_metrics_are_named_in_advance_and_carry_no_gradient(make_small_agent, batch):
    agent = make_small_agent(actor_update_freq=1)
    metrics = agent.update(batch, noise_for(agent))
    assert set(metrics) == set(agent.metric_names)
    assert not any(value.requires_grad for value in metrics.values())


def test_without_a_decoder_there_is_no_reconstruction_and_no_second_encoder_optimiser(make_small_agent, batch):
    agent = make_small_agent(decoder="none")
    assert agent.decoder is None
    assert set(agent.optimizers) == {"critic", "actor", "temperature"}
    assert "reconstruction_loss" not in agent.update(batch, noise_for(agent))


def test_decoder_weight_decay_is_the_decoders_alone(make_small_agent):
    decays = {name: o.param_groups[0]["weight_decay"] for name, o in make_small_agent().optimizers.items()}
    assert decays == {"critic": 0, "actor": 0, "temperature": 0, "encoder": 0, "decoder": 1e-7}


def test_a_fixed_temperature_stays(make_small_agent, batch):
    agent = make_small_agent(learn_temperature=False, init_temperature=0.3, actor_update_freq=1)
    for k in range(3):
        agent.update(batch, noise_for(agent, k))
    assert agent.update(batch, noise_for(agent))["alpha"].item() == pytest.approx(0.3)
    assert "temperature" not in agent.optimizers


def test_a_temperature_of_0_leaves_entropy_out_and_nothing_infinite_in_the_checkpoint(make_small_agent, batch):
    agent = make_small_agent(learn_temperature=False, init_temperature=0.0, actor_update_freq=1)
    metrics = agent.update(batch, noise_for(agent))
    assert metrics["alpha"] == 0
    assert all(value.isfinite() for value in metrics.values())
    assert all(value.isfinite().all() for value in agent.state_dict().values())


def test_a_fixed_temperature_of_version_0_1_0_is_read_from_its_logarithm(make_small_agent):
    agent = make_small_agent(learn_temperature=False, init_temperature=0.3)
    state = copy.deepcopy(agent.learning_state())
    del state["networks"]["head.fixed_alpha"]
    state["networks"]["head.log_alpha"] = torch.tensor(math.log(0.7))
    agent.load_learning_state(state)
    assert agent.head.fixed_alpha.item() == pytest.approx(0.7)


def test_the_temperature_rises_when_the_policy_is_too_certain(make_small_agent, batch):
    agent = make_small_agent(actor_update_freq=1, log_std_min=-9.0, log_std_max=-8.0)
    before = agent.head.log_alpha.item()
    agent.update(batch, noise_for(agent))
    assert agent.head.log_alpha.item() > before


@pytest.mark.parametrize("poison", ["reward", "obs_gradient"])
def test_a_non_finite_loss_or_gradient_is_remembered_with_the_first_bad_update(poison, make_small_agent, batch):
    agent = make_small_agent(decoder="none")
    agent.update(batch, noise_for(agent))
    agent.check_finite()
    if poison == "reward":
        bad = batch._replace(reward=torch.full_like(batch.reward, float("nan")))
        for k in range(2):
            agent.update(bad, noise_for(agent, k))
    else:
        agent.head.critic.q.weights[1].register_hook(lambda gradient: gradient * float("inf"))
        agent.update(batch, noise_for(agent))
    with pytest.raises(UserError, match="critic loss or its gradient was not finite at update 2"):
        agent.check_finite()


def test_learning_goes_on_bit_identically_after_saving_and_loading(make_small_agent, batch):
    agent = make_small_agent()
    for k in range(3):
        agent.update(batch, noise_for(agent, k))
    other = reloaded(agent, make_small_agent)
    for k in range(3, 6):
        agent.update(batch, noise_for(agent, k))
        other.update(batch, noise_for(other, k))
    for (name, ours), theirs in zip(agent.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name


def test_actions_are_in_range_and_the_mean_action_needs_no_noise(make_small_agent, batch):
    agent = make_small_agent()
    mean = agent.act(batch.obs)
    sampled = agent.act(batch.obs, torch.randn(5, 2))
    assert mean.shape == sampled.shape == (5, 2)
    assert mean.abs().max() <= 1
    assert sampled.abs().max() <= 1
    assert torch.equal(mean, agent.act(batch.obs))
    assert not torch.equal(mean, sampled)


def test_a_state_agent_learns_on_the_vector_itself(batch):
    spec = EnvSpec((7,), "float32", 1, 2)
    agent = make_agent(spec, make(obs="state", batch_size=5))
    states = batch._replace(obs=torch.randn(5, 7), next_obs=torch.randn(5, 7))
    before = agent.act(states.obs)
    metrics = agent.update(states, noise_for(agent))
    assert agent.decoder is None
    assert set(metrics) == set(agent.metric_names)
    assert not torch.equal(before, agent.act(states.obs))


def test_a_new_head_is_a_class_and_a_registry_entry(monkeypatch, pixel_spec, small_settings, batch):
    class Mirror(SAC):
        """Acts against SAC's mean."""

        def act(self, features, noise):
            return -super().act(features, noise)

    monkeypatch.setitem(HEADS, "mirror", HeadEntry(HEADS["sac"].settings, Mirror))
    agent = make_agent(pixel_spec, make(agent="mirror", **small_settings))
    agent.update(batch, noise_for(agent))
    torch.testing.assert_close(agent.act(batch.obs), -SAC.act(agent.head, seen_by(agent.encoder, batch.obs), None))


def test_an_unknown_agent_is_refused_with_the_known_ones(pixel_spec):
    with pytest.raises(UserError, match="agent is sca, but it must be one of sac, sac_v, td3, .*; did you mean sac"):
        make_agent(pixel_spec, make(agent="sca"))


@pytest.mark.parametrize("layers", [2, 4])
def test_fused_steps_equal_plain_adam_whatever_the_layout_of_a_gradient(layers, make_small_agent, batch, monkeypatch):
    settings = {"num_layers": layers, "actor_update_freq": 1}
    agent = make_small_agent(**settings)

    def plain_adam(parameters, fused, **settings):
        return torch.optim.Adam(parameters, foreach=False, **settings)

    monkeypatch.setattr("sacae.agents.optimisers.FusedAdam", plain_adam)
    plain = make_small_agent(**settings)
    for k in range(2):
        agent.update(batch, noise_for(agent, k))
        plain.update(batch, noise_for(plain, k))
    for (name, ours), theirs in zip(agent.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4, msg=name)
