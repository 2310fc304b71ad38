"""The reconstruction target, its dither, and the loss."""

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from sacae.agents.autoencoder import draw_bytes, half_squared_length, kl_to_standard_normal, reconstruction_target


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
    return agent._autoencoder_loss(features, batch.obs, noise), features


def test_the_loss_is_the_mean_over_pixels_plus_half_the_latents_squared_length(make_small_agent, batch):
    agent = make_small_agent(latent_penalty=0.1)
    noise = agent.draw_noise(torch.Generator().manual_seed(0))
    (loss, metrics), features = autoencoder_loss(agent, batch, noise)
    target, reconstruction = agent.reconstruct(batch.obs, noise.reconstruction)
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
    agent.autoencoder.beta = 0.0
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
