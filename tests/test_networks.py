"""The twin MLP, the initialisation and the squashed Gaussian."""

import torch
from torch import nn
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from sacae.networks import MLP, EnsembleMLP, gaussian_log_prob, orthogonal_init, squash_correction


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
    ours = (gaussian_log_prob(noise, log_std) - squash_correction(action)).sum(-1, keepdim=True)
    theirs = reference.log_prob(torch.tanh(mean.double() + noise.double() * log_std.double().exp()))
    # The 1e-6 in the correction, the reference's, shows only where tanh saturates.
    torch.testing.assert_close(ours.squeeze(1).double(), theirs, atol=2e-2, rtol=1e-3)
