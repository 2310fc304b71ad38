"""The twin MLP, the initialisation and the squashed Gaussian."""

import copy

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from sacae.networks import (
    MLP,
    Conv2d,
    ConvTranspose2d,
    EnsembleMLP,
    Linear,
    clipped_tanh_correction,
    exact_tanh_correction,
    gaussian_log_prob,
    orthogonal_init,
)


def test_an_ensemble_equals_separate_mlps():
    ensemble = EnsembleMLP(5, 16, 3)
    x = torch.randn(7, 5)
    for i in range(2):
        single = MLP(5, 16, 3)
        linears = [layer for layer in single if isinstance(layer, nn.Linear)]
        for layer, weight, bias in zip(linears, ensemble.weights, ensemble.biases):
            layer.weight.data.copy_(weight[i].T)
            layer.bias.data.copy_(bias[i, 0])
        torch.testing.assert_close(ensemble(x)[i], single(x))


@pytest.mark.parametrize("hidden_dim", [8, 32])  # PyTorch's own products and oneDNN's
def test_a_frozen_ensemble_gives_its_input_the_same_gradient_and_its_parameters_none(hidden_dim):
    ensemble, x = EnsembleMLP(5, hidden_dim, 1), torch.randn(7, 5, requires_grad=True)
    of_x, *_ = torch.autograd.grad(ensemble(x).square().sum(), [x, *ensemble.parameters()])
    loss = ensemble(x, frozen=True).square().sum()
    frozen_of_x, *of_parameters = torch.autograd.grad(loss, [x, *ensemble.parameters()], allow_unused=True)
    torch.testing.assert_close(frozen_of_x, of_x)
    assert all(gradient is None for gradient in of_parameters)


@pytest.mark.parametrize("hidden_dim", [8, 32])
def test_gradients_of_an_ensemble_are_those_of_double_precision(hidden_dim):
    ensemble, x = EnsembleMLP(5, hidden_dim, 1, 3), torch.randn(7, 5, requires_grad=True)
    exact = copy.deepcopy(ensemble).double()
    exact_x = x.detach().double().requires_grad_()
    ours = torch.autograd.grad(ensemble(x).square().sum(), [x, *ensemble.parameters()])
    theirs = torch.autograd.grad(exact(exact_x).square().sum(), [exact_x, *exact.parameters()])
    for found, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-6)


def test_the_members_of_an_ensemble_start_different():
    ensemble = EnsembleMLP(5, 16, 3)
    assert not torch.equal(ensemble.weights[0][0], ensemble.weights[0][1])


def test_linear_layers_start_orthogonal_and_convolutions_delta_orthogonal():
    layers = nn.Sequential(nn.Linear(8, 8), nn.Conv2d(8, 8, 3), nn.ConvTranspose2d(8, 8, 3))
    orthogonal_init(layers)
    linear, *convs = layers
    torch.testing.assert_close(linear.weight @ linear.weight.T, torch.eye(8), atol=1e-5, rtol=0)
    for conv in convs:
        centre = conv.weight[:, :, 1, 1]
        torch.testing.assert_close(centre @ centre.T, 2 * torch.eye(8), atol=1e-5, rtol=0)
        assert conv.weight.count_nonzero() == centre.count_nonzero()
        assert conv.bias.count_nonzero() == 0


def test_squashed_gaussian_log_prob_agrees_with_torch_distributions():
    mean, log_std, noise = torch.randn(6, 3), torch.randn(6, 3).clamp(-2, 0), torch.randn(6, 3)
    action = torch.tanh(mean + noise * log_std.exp())
    reference = TransformedDistribution(Independent(Normal(mean.double(), log_std.double().exp()), 1), TanhTransform())
    ours = (gaussian_log_prob(noise, log_std) - clipped_tanh_correction(action)).sum(-1, keepdim=True)
    theirs = reference.log_prob(torch.tanh(mean.double() + noise.double() * log_std.double().exp()))
    # The 1e-6 in the correction, the reference's, shows only where tanh saturates.
    torch.testing.assert_close(ours.squeeze(1).double(), theirs, atol=2e-2, rtol=1e-3)


def test_the_exact_tanh_correction_is_torchs_and_has_a_gradient_where_tanh_saturates():
    before_tanh = torch.tensor([-10.0, -1.0, 0.0, 0.3, 10.0], requires_grad=True)
    correction = exact_tanh_correction(before_tanh)
    u = before_tanh.double()
    torch.testing.assert_close(correction.double(), TanhTransform().log_abs_det_jacobian(u, u.tanh()))
    (gradient,) = torch.autograd.grad(correction.sum(), before_tanh)
    torch.testing.assert_close(gradient, -2 * torch.tanh(before_tanh))
    # The form that the SAC-AE authors use is flat there.
    (flat,) = torch.autograd.grad(clipped_tanh_correction(torch.tanh(before_tanh)).sum(), before_tanh)
    assert (flat != 0).tolist() == [False, True, False, True, False]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(Linear(6, 4), (5, 6)), (Conv2d(3, 4, 3), (5, 3, 8, 8)), (ConvTranspose2d(3, 4, 3), (5, 3, 8, 8))],
)
def test_a_layer_computes_in_the_dtype_of_its_input_and_learns_in_float32(layer, shape):
    x = torch.randn(shape)
    low, plain = layer(x.bfloat16()), layer(x)
    assert (low.dtype, plain.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(low.float(), plain, atol=0.05, rtol=0.05)
    low.float().square().mean().backward()
    assert {p.grad.dtype for p in layer.parameters()} == {torch.float32}
