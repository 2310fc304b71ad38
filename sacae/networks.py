"""Networks that are not about pixels: the MLP, the twin Q functions, the initialisation, the squashed Gaussian."""

import math
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn import functional as F


def orthogonal_init(module: nn.Module, convs: bool = True) -> None:
    """Initialises every layer of a module as the reference does: biases 0, linear weights orthogonal with gain 1, and

    convolutions delta-orthogonal (Xiao et al. 2018, arXiv:1806.05393): zero but for the centre tap, which is
    orthogonal with gain sqrt(2). An even kernel has no centre tap: there the whole kernel, as a matrix with a row for
    each entry of its first axis, is orthogonal with that gain. LayerNorm keeps its default.

    convs: whether convolutions are among them, or keep PyTorch's default.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.orthogonal_(layer.weight)
            nn.init.zeros_(layer.bias)
        elif convs and isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
            height, width = layer.kernel_size
            has_centre = height % 2 == 1 and width % 2 == 1
            taps = layer.weight.data[:, :, height // 2, width // 2] if has_centre else layer.weight.data
            nn.init.orthogonal_(taps, nn.init.calculate_gain("relu"))


class MLP(nn.Sequential):
    """Two hidden layers with ReLU, orthogonally initialised. (B, input_dim) -> float32 (B, output_dim).

    The output is float32 also where autocast computes in bfloat16, so that losses and log-probabilities are.
    """

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int) -> None:
        super().__init__(
            nn.Linear(input_dim, hidden_dim),
            nn.ReLU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.ReLU(),
            nn.Linear(hidden_dim, output_dim),
        )
        orthogonal_init(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, input_dim) -> float32 (B, output_dim)."""
        return super().forward(x).float()


class EnsembleMLP(nn.Module):
    """Independent MLPs of the same shape, two unless told otherwise, evaluated together by batched matrix products.

    Layer i of all of them lies in one tensor: `weights[i]` is (N, in, out), `biases[i]` is (N, 1, out).
    """

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int, count: int = 2) -> None:
        super().__init__()
        mlps = [MLP(input_dim, hidden_dim, output_dim) for _ in range(count)]
        layers = [*zip(*([layer for layer in mlp if isinstance(layer, nn.Linear)] for mlp in mlps))]
        self.weights = nn.ParameterList(torch.stack([layer.weight.T for layer in same]).detach() for same in layers)
        self.biases = nn.ParameterList(torch.stack([layer.bias for layer in same])[:, None].detach() for same in layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, input_dim) -> float32 (N, B, output_dim)."""
        x = x.expand(len(self.weights[0]), *x.shape)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            x = torch.baddbmm(bias, x if i == 0 else F.relu(x), weight)
        return x.float()


LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


def gaussian_log_prob(noise: torch.Tensor, log_std: torch.Tensor) -> torch.Tensor:
    """Log density of mean + noise * exp(log_std) under that Gaussian, of each dimension. (B, A), (B, A) -> (B, A)."""
    return -0.5 * noise.square() - log_std - LOG_SQRT_2PI


def gaussian_entropy(log_std: torch.Tensor) -> torch.Tensor:
    """Entropy of that Gaussian, in nats, summed over its dimensions. (B, A) -> (B,)."""
    return (log_std + 0.5 + LOG_SQRT_2PI).sum(-1)


def squash_correction(action: torch.Tensor) -> torch.Tensor:
    """Log of the factor by which tanh changes each dimension's density, at the squashed action. (B, A) -> (B, A).

    log(relu(1 - a^2) + 1e-6), as in the reference; the constant bounds it where tanh saturates.
    """
    return torch.log(F.relu(1 - action.square()) + 1e-6)


def own_parameters(module: nn.Module, other: nn.Module) -> list[nn.Parameter]:
    """The parameters of a module that it does not share with another."""
    return without(module.parameters(), other.parameters())


def without(parameters: Iterable[nn.Parameter], left_out: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """The parameters that are not among others."""
    others = set(left_out)
    return [p for p in parameters if p not in others]


def linear_schedule(start: float, end: float, duration: int, step: int) -> float:
    """What goes from start to end in even steps, and stays there."""
    return end if step >= duration else start + (end - start) * step / duration
