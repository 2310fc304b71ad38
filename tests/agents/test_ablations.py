"""Each setting of the paper's ablations changes what it names, and nothing else."""

import copy

import pytest
import torch
from torch import nn

from sacae import config as configs
from sacae.agents import HEADS, make_agent
from sacae.encoder import PixelEncoder, conv_layers
from sacae.errors import UserError
from sacae.experiments.ablations import ABLATIONS
from sacae.types import EnvSpec, Noise
from tests.agents.conftest import STATE_DIM, noise_for, update_only
from tests.agents.test_agent import seen_by
from tests.agents.test_heads import batch_for

ACTOR_HEADS = ("sac", "sac_v", "td3", "ddpg")


def moved(agent, before, part):
    """Whether a part of the agent, by the beginning of its parameters' names, differs from a state_dict before."""
    values = [(name, p) for name, p in agent.named_parameters(remove_duplicate=False) if name.startswith(part)]
    assert values, part
    return not all(torch.equal(before[name], p) for name, p in values)


def after_critic_step(agent, batch):
    before = copy.deepcopy(agent.state_dict())
    update_only(agent, "critic", batch, noise_for(agent))
    return before


def after_update(agent, batch):
    before = copy.deepcopy(agent.state_dict())
    agent.update(batch, noise_for(agent))
    return before


def test_without_the_critics_gradient_only_the_reconstruction_trains_the_encoder(make_small_agent, batch):
    agent = make_small_agent(critic_gradient=False)
    before = after_critic_step(agent, batch)
    assert not moved(agent, before, "head.critic.encoder")
    assert moved(agent, before, "head.critic.q")
    before = after_update(agent, batch)
    assert moved(agent, before, "head.critic.encoder")


@pytest.mark.parametrize("decoder", ["rae", "vae", "state", "none"])
def test_a_frozen_encoder_stays_while_everything_else_learns(decoder, make_small_agent, batch):
    agent = make_small_agent(freeze_encoder=True, decoder=decoder, actor_update_freq=1)
    before = after_update(agent, batch)
    assert not moved(agent, before, "head.critic.encoder")
    assert moved(agent, before, "head.critic.q")
    assert moved(agent, before, "head.actor.encoder.projection")
    if decoder != "none":
        assert moved(agent, before, "autoencoder.decoder")


def policy_step(agent, batch):
    """One update in which the critic and the decoder do not learn, so that what moves is moved by the policy."""
    for name in ("critic", "encoder", "decoder"):
        if name in agent.optimizers:
            for group in agent.optimizers[name].param_groups:
                group["lr"] = 0.0
    return after_update(agent, batch)


@pytest.mark.parametrize("name", ACTOR_HEADS)
@pytest.mark.parametrize(
    ("settings", "trained", "untouched"),
    [
        ({}, ["head.actor.encoder.projection", "head.actor.trunk"], ["head.critic"]),
        (
            {"actor_gradient": "after_latent", "tying": "all"},
            ["head.actor.trunk"],
            ["head.actor.encoder", "head.critic"],
        ),
        (
            {"actor_gradient": "through"},
            ["head.actor.encoder.projection", "head.actor.encoder.convs", "head.critic.encoder.convs"],
            ["head.critic.encoder.projection", "head.critic.q"],
        ),
        ({"tying": "none"}, ["head.actor.encoder.projection", "head.actor.encoder.convs"], ["head.critic"]),
        ({"tying": "all"}, ["head.actor.trunk"], ["head.actor.encoder", "head.critic"]),
        (
            {"actor_gradient": "through", "tying": "all"},
            ["head.actor.trunk", "head.critic.encoder.projection", "head.critic.encoder.convs"],
            ["head.critic.q"],
        ),
    ],
)
def test_the_actors_gradient_ends_where_the_settings_say(name, settings, trained, untouched, make_small_agent, batch):
    agent = make_small_agent(agent=name, actor_update_freq=1, decoder="none", **settings)
    before = policy_step(agent, batch)
    assert all(moved(agent, before, part) for part in trained)
    assert not any(moved(agent, before, part) for part in untouched)


@pytest.mark.parametrize("name", [*ACTOR_HEADS, "drqv2"])
def test_the_actors_gradient_reaches_a_shared_latent_by_the_action_alone(name, make_small_agent, batch):
    agent = make_small_agent(agent=name, actor_gradient="through", tying="all", actor_update_freq=1, decoder="none")
    with torch.no_grad():
        agent.head.actor.trunk[0].weight.zero_()  # from here on the action depends on no latent
    before = policy_step(agent, batch)
    assert moved(agent, before, "head.actor.trunk")
    assert not moved(agent, before, "head.critic.encoder")


def test_what_is_tied_is_shared_also_after_loading_and_copying(make_small_agent):
    for tying, convs, projection in (("convs", True, False), ("all", True, True), ("none", False, False)):
        agent = make_small_agent(tying=tying)
        other = make_small_agent(tying=tying)
        other.load_learning_state(copy.deepcopy(agent.learning_state()))
        for one in (agent, other, copy.deepcopy(agent)):
            assert (one.head.actor.encoder.convs is one.encoder.convs) == convs
            assert (one.head.actor.encoder.projection is one.encoder.projection) == projection


def test_with_separate_convolutions_the_agent_acts_and_learns_on_the_actors(make_small_agent, batch):
    agent = make_small_agent(tying="none", agent="ddpg")
    before = agent.act(batch.obs)
    with torch.no_grad():
        agent.encoder.convs[0].weight.zero_()
    assert torch.equal(before, agent.act(batch.obs))
    with torch.no_grad():
        agent.head.actor.encoder.convs[0].weight.add_(0.1)
    assert not torch.equal(before, agent.act(batch.obs))


def test_the_autoencoder_sees_the_convolutions_after_the_actor_has_moved_them(make_small_agent, batch, monkeypatch):
    agent = make_small_agent(actor_gradient="through", actor_update_freq=1)
    seen = []
    project = agent.encoder.project_in_steps

    def watch(features):
        seen.append(torch.equal(features, seen_by(agent.encoder, batch.obs)))
        return project(features)

    monkeypatch.setattr(agent.encoder, "project_in_steps", watch)
    agent.update(batch, noise_for(agent))
    assert seen[-1]  # the last one's is the autoencoder's


def test_pretraining_trains_the_autoencoder_alone_and_then_counts_from_one(make_small_agent, batch):
    agent = make_small_agent(pretrain_updates=3)
    before = copy.deepcopy(agent.state_dict())
    names = [set(agent.update(batch, noise_for(agent, k))) for k in range(3)]
    assert names == [{"reconstruction_loss"}] * 3
    assert moved(agent, before, "head.critic.encoder")
    assert not moved(agent, before, "head.critic.q")
    assert not moved(agent, before, "head.actor.trunk")
    later = [set(agent.update(batch, noise_for(agent, k))) for k in range(4)]
    assert ["actor_loss" in names for names in later] == [False, True] * 2


def test_targets_start_from_the_pretrained_encoder_however_rarely_they_are_copied(make_small_agent, batch):
    agent = make_small_agent(pretrain_updates=2, critic_target_update_freq=100, encoder_tau=1.0)
    followed = [moved(agent, after_update(agent, batch), "head.critic_target.encoder") for _ in range(4)]
    assert followed == [False, True, False, False]


def test_the_frozen_arm_trains_the_encoder_in_pretraining_alone(make_small_agent, batch):
    frozen = ABLATIONS["pretraining"].arms["frozen"]
    agent = make_small_agent(**(frozen | {"pretrain_updates": 2, "actor_update_freq": 1}))
    for is_pretraining in (True, True, False, False):
        before = after_update(agent, batch)
        assert moved(agent, before, "head.critic.encoder") == is_pretraining
        assert moved(agent, before, "head.critic.q") != is_pretraining
        assert moved(agent, before, "head.actor.encoder.projection") != is_pretraining


def test_pretraining_without_a_decoder_is_refused():
    with pytest.raises(UserError, match="pretrain_updates is 5, but decoder is none"):
        configs.make(decoder="none", pretrain_updates=5)


def test_the_penalty_before_tanh_is_of_what_tanh_gets(make_small_agent, batch):
    losses = {}
    for before_tanh in (False, True):
        agent = make_small_agent(latent_penalty=0.5, penalise_before_tanh=before_tanh)
        features = seen_by(agent.encoder, batch.obs)
        losses[before_tanh] = agent.reconstruction.loss(features, batch, noise_for(agent))[0]
        pre = agent.encoder.projection[:2](features)
    difference = 0.5 * 0.5 * (pre.square() - pre.tanh().square()).sum(1).mean()
    torch.testing.assert_close(losses[True] - losses[False], difference)


def test_without_dither_the_target_does_not_depend_on_the_noise(make_small_agent, batch):
    agent = make_small_agent(target_dither=False)
    noises = [noise_for(agent, k).reconstruction for k in range(2)]
    targets = [agent.reconstruction.reconstruct(batch.obs, noise)[0] for noise in noises]
    assert torch.equal(*targets)
    torch.testing.assert_close(targets[0], (batch.obs // 8) / 32 - 0.5)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("tanh", [True, False])
def test_the_latent_has_its_norm_and_tanh_only_where_they_are_on(norm, tanh, make_small_agent, batch):
    agent = make_small_agent(latent_norm=norm, latent_tanh=tanh)
    features = seen_by(agent.encoder, batch.obs)
    expected = agent.encoder.projection[0](features)
    expected = nn.functional.layer_norm(expected, (8,)) if norm else expected
    torch.testing.assert_close(agent.encoder.project(features), expected.tanh() if tanh else expected)
    assert torch.isfinite(agent.update(batch, noise_for(agent))["critic_loss"])


def test_default_initialisation_leaves_no_convolution_delta_orthogonal(make_small_agent):
    for conv_init, sparse in (("delta_orthogonal", True), ("default", False)):
        agent = make_small_agent(conv_init=conv_init)
        weights = [layer.weight for layer in (agent.encoder.convs[0], agent.decoder.deconvs[0])]
        assert [bool((weight == 0).sum() > weight.numel() / 2) for weight in weights] == [sparse, sparse]


@pytest.mark.parametrize(("name", "target"), [("sac", "critic_target"), ("sac_v", "value_target")])
def test_an_encoder_from_another_run_starts_encoder_target_and_decoder(name, target, make_small_agent, batch):
    source, agent = make_small_agent(), make_small_agent(agent=name)
    source.update(batch, noise_for(source))
    agent.load_encoder(source.learning_state())
    for ours, theirs in (
        (agent.encoder, source.encoder),
        (agent.head.get_submodule(target).encoder, source.encoder),
        (agent.decoder, source.decoder),
    ):
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert agent.head.actor.encoder.convs is agent.encoder.convs


def test_an_encoder_of_another_size_is_refused(make_small_agent):
    with pytest.raises(UserError, match="encoder_from is of an encoder of another size"):
        make_small_agent().load_encoder(make_small_agent(num_filters=5).learning_state())


def test_an_encoder_of_an_agent_that_observes_the_state_is_refused(make_small_agent):
    of_state = make_agent(EnvSpec((5,), "float32", 1, 2), configs.make(obs="state"))
    with pytest.raises(UserError, match="encoder_from is of an agent that observes the state, without an encoder"):
        make_small_agent().load_encoder(of_state.learning_state())


def test_defaults_compute_what_they_did_without_these_settings(pixel_spec, small_settings, batch):
    torch.manual_seed(0)
    plain = PixelEncoder(pixel_spec.obs_shape, 8, conv_layers(configs.make(**small_settings).encoder))
    torch.manual_seed(0)
    agent = make_agent(pixel_spec, configs.make(**small_settings))
    torch.testing.assert_close(agent.encoder(batch.obs), plain(batch.obs), rtol=0, atol=0)
    assert Noise()._fields == ("next_action", "action", "reconstruction", "latent", "augmentation")


SPARSE = {"pretrain_updates": 0, "decoder_update_freq": 1}
"""In place of settings of arms that let parts of the agent wait for more than two updates."""


def arms():
    """The settings of every arm of every named ablation, with every head that has them and no arm of its own there."""
    for name, ablation in ABLATIONS.items():
        for arm, settings in ablation.arms.items():
            for head in [settings["agent"]] if "agent" in settings else HEADS:
                if settings.keys() <= configs.Config().defaults_for({"agent": head}).declared().keys():
                    yield pytest.param({"agent": head, **settings}, id=f"{name} {arm} {head}")


@pytest.mark.parametrize("settings", [*arms()])
def test_in_every_arm_each_parameter_that_requires_a_gradient_moves_within_two_updates(settings):
    settings = {name: SPARSE.get(name, value) for name, value in settings.items()}
    small = {"feature_dim": 8, "hidden_dim": 16, "batch_size": 5, "num_layers": 2, "num_filters": 4}
    config = configs.make(**configs.with_what_fits(settings, small))
    frame = ((3, 48, 48), "uint8", 3) if config.task.obs == "pixels" else ((7,), "float32", 1)
    num_actions = 3 if HEADS[config.agent.agent].settings.DISCRETE_ACTIONS else None
    spec = EnvSpec(*frame, 2, num_actions, STATE_DIM if config.keeps_state else 0)
    torch.manual_seed(0)
    agent = make_agent(spec, config)
    before = {name: p.detach().clone() for name, p in agent.named_parameters() if p.requires_grad}
    for k in range(2):
        agent.update(batch_for(agent, k)._replace(state=torch.randn(5, STATE_DIM)), noise_for(agent, k))
    assert [name for name, p in agent.named_parameters() if p.requires_grad and torch.equal(p, before[name])] == []
