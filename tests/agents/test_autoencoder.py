"""The reconstruction target, its dither, and the loss."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from sacae import config as configs
from sacae.agents import HEADS, make_agent
from sacae.agents.autoencoder import (
    LEAST_VARIANCE,
    Dynamics,
    cosine,
    draw_bytes,
    half_squared_length,
    kl_to_standard_normal,
    reconstruction_target,
    standardised_error,
)
from sacae.agents.contrastive import info_nce
from sacae.types import EnvSpec
from tests.agents.conftest import STATE_DIM, of_head, update_only


@pytest.mark.parametrize("bits", range(1, 9))
def test_the_target_is_the_quantised_image_plus_dither_in_half_open_range(bits):
    values = torch.arange(256, dtype=torch.uint8).repeat(3).view(3, 1, 16, 16)
    noise = torch.stack([torch.full((1, 16, 16), n, dtype=torch.uint8) for n in (0, 128, 255)])
    target = reconstruction_target(values, noise, bits)
    bins = 2**bits
    expected = np.floor(values.numpy() / 2 ** (8 - bits)) / bins + noise.numpy() / 256 / bins - 0.5
    np.testing.assert_array_equal(target.numpy().astype(np.float64), expected)
    assert target.min() >= -0.5
    assert target.max() < 0.5


def test_dither_bytes_are_uniform_and_independent_across_the_image():
    noise = draw_bytes((8, 9, 84, 84), torch.Generator().manual_seed(0))
    assert noise.shape == (8, 9, 84, 84)
    assert noise.dtype == torch.uint8
    assert noise.is_contiguous(memory_format=torch.channels_last)
    counts = torch.bincount(noise.flatten().int(), minlength=256).double()
    expected = noise.numel() / 256
    chi_squared = ((counts - expected) ** 2 / expected).sum().item()
    assert 160 < chi_squared < 370  # 255 degrees of freedom: beyond these in fewer than one in 10^5 draws
    # Every bit of every byte of the words that are drawn is fair, the sign bit too.
    bits = torch.stack([(noise.permute(0, 2, 3, 1).reshape(-1, 8) >> k) & 1 for k in range(8)]).double().mean(1)
    assert (bits - 0.5).abs().max() < 0.01
    flat = noise.permute(0, 2, 3, 1).flatten().double() - 127.5
    for lag in (1, 3, 8, 9):
        assert abs((flat[lag:] * flat[:-lag]).mean().item()) / (256**2 / 12) < 0.01


def test_dither_follows_its_generator():
    draws = [draw_bytes((2, 3, 5, 5), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def autoencoder_loss(agent, batch, noise):
    features = agent.encoder.features(agent.encoder.prepare(batch.obs))
    return agent.reconstruction.loss(features, batch, noise), features


def test_the_loss_is_the_mean_over_pixels_plus_half_the_latents_squared_length(make_small_agent, batch):
    agent = make_small_agent(latent_penalty=0.1)
    noise = agent.draw_noise(torch.Generator().manual_seed(0))
    (loss, metrics), features = autoencoder_loss(agent, batch, noise)
    target, reconstruction = agent.reconstruction.reconstruct(batch.obs, noise.reconstruction)
    latent = agent.encoder.project(features)
    expected = (reconstruction - target).square().sum() / target.numel() + 0.1 * 0.5 * latent.square().sum() / 5
    torch.testing.assert_close(loss, expected)
    assert metrics == {"reconstruction_loss": loss}
    torch.testing.assert_close(half_squared_length(torch.full((3, 4), 2.0)), torch.tensor(8.0))


def test_the_kl_divergence_agrees_with_torch_distributions():
    mean, log_std = torch.randn(6, 5), torch.randn(6, 5)
    ours = kl_to_standard_normal(mean, log_std)
    q, p = (Independent(Normal(*args), 1) for args in ((mean, log_std.exp()), (torch.zeros(6, 5), torch.ones(6, 5))))
    torch.testing.assert_close(ours, kl_divergence(q, p).mean())


def test_the_variational_loss_adds_beta_times_the_divergence_and_decodes_a_sample(make_small_agent, batch):
    agent = make_small_agent(decoder="vae", vae_beta=0.25)
    noise = agent.draw_noise(torch.Generator().manual_seed(0))
    assert noise.latent.shape == (5, 8)
    (loss, metrics), _ = autoencoder_loss(agent, batch, noise)
    agent.reconstruction.autoencoder.beta = 0.0
    (error, _), _ = autoencoder_loss(agent, batch, noise)
    torch.testing.assert_close(loss, error + 0.25 * metrics["kl"])
    (other_error, _), _ = autoencoder_loss(agent, batch, noise._replace(latent=-noise.latent))
    assert not torch.equal(error, other_error)


def test_a_variational_autoencoder_trains_its_spread_with_the_encoder(make_small_agent, batch):
    agent = make_small_agent(decoder="vae", actor_update_freq=1)
    before = agent.autoencoder.log_std.weight.clone()
    metrics = agent.update(batch, agent.draw_noise(torch.Generator().manual_seed(0)))
    assert set(metrics) == set(agent.metric_names) >= {"reconstruction_loss", "kl"}
    assert not torch.equal(before, agent.autoencoder.log_std.weight)
    stepped = [p for o in agent.optimizers.values() for p in o.param_groups[0]["params"]]
    assert {*agent.autoencoder.parameters()} <= {*stepped}


# The decoder of the physical state.


def test_the_error_of_a_state_is_in_units_of_each_coordinates_variance():
    state = torch.tensor([[0.0, 10.0, 4.0], [2.0, 30.0, 4.0]])
    decoded = torch.tensor([[1.0, 10.0, 4.1], [2.0, 20.0, 4.0]])
    # Variances 1, 100 and 0; squared errors 1, 100 and 0.01, one of each in two rows of three.
    expected = (1 / (1 + 1e-3) + 100 / (100 + 1e-3) + 0.01 / 1e-3) / 6
    assert LEAST_VARIANCE == 1e-3
    torch.testing.assert_close(standardised_error(decoded, state), torch.tensor(expected))


def test_the_state_decoders_loss_is_its_error_plus_half_the_latents_squared_length(make_small_agent, batch):
    agent = make_small_agent(decoder="state", latent_penalty=0.1)
    noise = agent.draw_noise(torch.Generator().manual_seed(0))
    assert noise.reconstruction is None
    (loss, metrics), features = autoencoder_loss(agent, batch, noise)
    latent = agent.encoder.project(features)
    error = standardised_error(agent.decoder(latent), batch.state)
    torch.testing.assert_close(loss, error + 0.1 * 0.5 * latent.square().sum() / 5)
    assert metrics == {"reconstruction_loss": loss}
    assert not agent.reconstruction.of_pixels
    assert agent.decoder(latent).shape == (5, STATE_DIM)


def test_a_state_decoder_learns_the_state_from_the_pixels(make_small_agent, batch):
    agent = make_small_agent(decoder="state", hidden_dim=64)
    losses = []
    for _ in range(150):
        losses.append(update_only(agent, "auxiliary", batch, agent.draw_noise(torch.Generator())))
    first, last = (row["reconstruction_loss"].item() for row in (losses[0], losses[-1]))
    assert first > 0.5
    assert last < 0.1 * first


def test_an_encoder_from_a_run_with_another_decoder_starts_the_encoder_alone(make_small_agent, batch):
    for source in (make_small_agent(), make_small_agent(decoder="state", hidden_dim=8)):
        with torch.no_grad():
            source.encoder.convs[0].weight.add_(1.0)
        agent = make_small_agent(decoder="state")
        decoder = copy.deepcopy(agent.decoder.state_dict())
        agent.load_encoder(source.learning_state())
        assert torch.equal(agent.encoder.convs[0].weight, source.encoder.convs[0].weight)
        assert all(torch.equal(value, decoder[name]) for name, value in agent.decoder.state_dict().items())


# The dynamics of the latent.

EITHER = [{"decoder": "state"}, {"decoder": "state", "dynamics": True}]
EITHER += [{"decoder": decoder, "dynamics": True} for decoder in ("rae", "vae")]
CONTRAST = {"dynamics": True, "dynamics_contrastive": 0.5}
EITHER += [CONTRAST]


def constant(linear, value):
    """Makes a linear layer answer the same to everything."""
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.fill_(value)


def test_the_dynamics_loss_is_the_mean_squared_error_to_the_next_latent_and_is_weighted(make_small_agent, batch):
    agent = make_small_agent(dynamics=True, dynamics_weight=3.0, latent_norm=False, latent_tanh=False)
    constant(agent.encoder.projection[0], 0.5)  # the next latent
    constant(agent.dynamics.mlp[-1], 2.0)  # what is predicted of it
    noise = agent.draw_noise(torch.Generator().manual_seed(0))
    (loss, metrics), _ = autoencoder_loss(agent, batch, noise)
    assert metrics["dynamics_loss"].item() == 1.5**2
    torch.testing.assert_close(loss, metrics["reconstruction_loss"] + 3.0 * 1.5**2)


def test_the_next_latent_is_predicted_from_latent_and_action(make_small_agent, batch):
    agent = make_small_agent(dynamics=True)
    features = agent.encoder.features(agent.encoder.prepare(batch.obs))
    latent, next_latent = agent.encoder.project(features), agent.encoder(batch.next_obs)
    predicted = agent.dynamics.mlp(torch.cat([latent, batch.action], 1))
    expected = (predicted - next_latent).square().mean()
    torch.testing.assert_close(agent.dynamics.loss(agent.encoder, features, batch)[0], expected)


def test_choices_reach_the_dynamics_as_one_indicator_each():
    spec = EnvSpec((3, 48, 48), "uint8", 3, 2, num_actions=3)
    dynamics = Dynamics(spec, make_agent(spec, configs.make(agent="dqn", hidden_dim=4)).encoder, configs.make())
    dynamics.mlp = torch.nn.Identity()
    seen = dynamics(torch.tensor([[0.25, 0.5]]), torch.tensor([[2, 0]]))
    assert seen.tolist() == [[0.25, 0.5, 0, 0, 1, 1, 0, 0]]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("settings", [{"dynamics": True}, CONTRAST | {"dynamics_weight": 0.0}], ids=["mse", "infonce"])
def test_the_dynamics_gradient_reaches_the_encoder_through_the_prediction_alone(
    settings, precision, make_small_agent, batch
):
    agent = make_small_agent(precision=precision, **settings)

    def gradients():
        features = agent.encoder.features(agent.encoder.prepare(batch.obs))
        loss, _ = agent.dynamics.loss(agent.encoder, features, batch)
        return torch.autograd.grad(loss, [*agent.encoder.parameters()])

    assert all(gradient.abs().sum() > 0 for gradient in gradients())
    constant(agent.dynamics.mlp[-1], 0.5)  # A prediction that does not depend on the latent; the target still does.
    assert all(gradient.abs().sum() == 0 for gradient in gradients())


def test_the_contrastive_loss_of_the_dynamics_finds_the_prediction_among_the_batchs_next_latents(
    make_small_agent, batch
):
    agent = make_small_agent(**CONTRAST, dynamics_weight=2.0, dynamics_temperature=0.3)
    features = agent.encoder.features(agent.encoder.prepare(batch.obs))
    loss, metrics = agent.dynamics.loss(agent.encoder, features, batch)
    predicted = agent.dynamics(agent.encoder.project(features), batch.action).double()
    next_latent = agent.encoder(batch.next_obs).double()
    total = 0.0
    for i in range(5):
        cosines = [(torch.dot(predicted[i], z) / predicted[i].norm() / z.norm()).item() for z in next_latent]
        total -= math.log(math.exp(cosines[i] / 0.3) / sum(math.exp(c / 0.3) for c in cosines)) / 5
    assert metrics["dynamics_contrastive_loss"].item() == pytest.approx(total, rel=1e-5)
    expected = 2.0 * metrics["dynamics_loss"] + 0.5 * metrics["dynamics_contrastive_loss"]
    torch.testing.assert_close(loss, expected)


def test_the_contrastive_loss_of_the_dynamics_has_the_least_value_where_each_prediction_is_its_own_next_latent():
    latents = torch.eye(6)[:4]
    at_best = info_nce(cosine(3 * latents, latents) / 0.1)
    assert at_best < 1e-3
    assert info_nce(cosine(3 * latents.roll(1, 0), latents) / 0.1) > 5
    assert info_nce(cosine(torch.ones(4, 6), latents) / 0.1).item() == pytest.approx(math.log(4))  # guessing
    nothing = torch.zeros(4, 6, requires_grad=True)  # of black images, with biases of 0
    info_nce(cosine(nothing, latents) / 0.1).backward()
    assert nothing.grad.abs().max() < 1e5


def test_without_a_contrastive_weight_there_is_the_squared_error_alone_and_with_one_no_further_pass(
    make_small_agent, batch
):
    without, with_it = make_small_agent(dynamics=True), make_small_agent(**CONTRAST)
    features = without.encoder.features(without.encoder.prepare(batch.obs))
    loss, metrics = without.dynamics.loss(without.encoder, features, batch)
    assert [*metrics] == ["dynamics_loss"]
    assert torch.equal(loss, metrics["dynamics_loss"])
    assert "dynamics_contrastive_loss" not in without.metric_names
    assert passes_through_convolutions(without, batch) == passes_through_convolutions(with_it, batch)


def test_bf16_has_the_contrast_of_the_dynamics_in_float32_and_close(make_small_agent, batch):
    losses = []
    for precision in ("fp32", "bf16"):
        agent = make_small_agent(**CONTRAST, precision=precision)
        metrics = agent.update(batch, agent.draw_noise(torch.Generator().manual_seed(0)))
        losses.append(metrics["dynamics_contrastive_loss"])
    assert losses[1].dtype == torch.float32
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.05)


def passes_through_convolutions(agent, batch):
    """How often the critic's convolutions are used in one update of everything."""
    passes = []
    agent.encoder.convs.register_forward_hook(lambda *_: passes.append(1))
    agent.update(batch, agent.draw_noise(torch.Generator().manual_seed(0)))
    return len(passes)


def test_without_dynamics_nothing_of_it_is_made_or_computed(make_small_agent, batch):
    agent = make_small_agent(actor_update_freq=1)
    with_it = make_small_agent(actor_update_freq=1, dynamics=True)
    assert agent.reconstruction.dynamics is None
    assert not [name for name in agent.state_dict() if "dynamics" in name]
    assert "dynamics_loss" not in agent.metric_names
    assert passes_through_convolutions(agent, batch) + 1 == passes_through_convolutions(with_it, batch)


# Both, beside everything else.


@pytest.mark.parametrize("settings", EITHER)
def test_the_autoencoders_step_alone_trains_encoder_decoder_and_dynamics(settings, make_small_agent, batch):
    agent = make_small_agent(**settings)
    before = copy.deepcopy(agent.state_dict())
    update_only(agent, "auxiliary", batch, agent.draw_noise(torch.Generator().manual_seed(0)))
    moved = {name for name, value in agent.state_dict().items() if not torch.equal(value, before[name])}
    trained = ("head.critic.encoder.", "head.actor.encoder.convs.", "autoencoder.", "dynamics.")
    assert not [name for name in moved - {"num_updates"} if not name.startswith(trained)]
    assert not [n for n in before if n.startswith(trained) and n.endswith("weight") and n not in moved]


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("settings", EITHER)
def test_every_head_learns_with_either(name, settings, small_settings, pixel_spec, batch):
    config = configs.make(agent=name, **of_head(name, actor_update_freq=1), **small_settings, **settings)
    discrete = HEADS[name].settings.DISCRETE_ACTIONS
    spec = dataclasses.replace(
        pixel_spec, num_actions=3 if discrete else None, state_dim=STATE_DIM if config.keeps_state else 0
    )
    agent = make_agent(spec, config)
    if discrete:
        batch = batch._replace(action=torch.tensor([[0, 1], [2, 2], [1, 0], [1, 1], [0, 2]]))
    metrics = agent.update(batch, agent.draw_noise(torch.Generator().manual_seed(0)))
    assert set(metrics) == set(agent.metric_names)
    assert all(torch.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize("settings", EITHER)
@pytest.mark.parametrize(
    "beside",
    [
        {"augment": "crop"},
        {"freeze_encoder": True},
        {"tying": "all"},
        {"tying": "none"},
        {"actor_gradient": "through"},
        {"precision": "bf16"},
        {"n_step": 3, "decoder_update_freq": 2},
    ],
    ids=str,
)
def test_either_goes_with_the_other_ablations(settings, beside, make_small_agent, batch):
    agent = make_small_agent(actor_update_freq=1, **settings, **beside)
    rows = [agent.update(batch, agent.draw_noise(torch.Generator().manual_seed(k))) for k in range(2)]
    assert set(rows[-1]) == set(agent.metric_names)
    assert all(value.dtype == torch.float32 and torch.isfinite(value) for value in rows[-1].values())


@pytest.mark.parametrize("settings", EITHER)
def test_either_is_pretrained_alone(settings, make_small_agent, batch):
    agent = make_small_agent(pretrain_updates=1, **settings)
    metrics = agent.update(batch, agent.draw_noise(torch.Generator().manual_seed(0)))
    of_dynamics = agent.dynamics.metric_names if "dynamics" in settings else ()
    assert set(metrics) == {*agent.autoencoder.metric_names, *of_dynamics}


def test_the_dynamics_are_stepped_with_the_decoder(make_small_agent):
    agent = make_small_agent(dynamics=True)
    of_decoder = {*agent.optimizers["decoder"].param_groups[0]["params"]}
    assert of_decoder == {*agent.decoder.parameters(), *agent.dynamics.parameters()}
    encoders = {*agent.optimizers["encoder"].param_groups[0]["params"]}
    assert encoders == {*agent.encoder.parameters()}
