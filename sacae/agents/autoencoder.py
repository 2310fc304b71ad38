"""The reconstruction objective: a regularised autoencoder (Ghosh et al. 2019; Yarats et al. 2019, eq. 4)."""

import torch
from torch.nn import functional as F


def reconstruction_target(obs: torch.Tensor, noise: torch.Tensor, bits: int) -> torch.Tensor:
    """The observation at `bits` bits a colour, dithered, in [-0.5, 0.5) (Kingma and Dhariwal 2018; the paper uses 5).

    obs: uint8 (B, C, H, W). noise: uniform in [0, 1), same shape. Returns float32, same shape.
    """
    bins = 2**bits
    quantised = torch.bitwise_right_shift(obs, 8 - bits)
    return (quantised + noise) / bins - 0.5


def latent_penalty(latent: torch.Tensor) -> torch.Tensor:
    """Half the latent's squared length, averaged over the batch. (B, D) -> ()."""
    return (0.5 * latent.square().sum(1)).mean()


def reconstruction_loss(
    reconstruction: torch.Tensor, target: torch.Tensor, latent: torch.Tensor, penalty_weight: float
) -> torch.Tensor:
    """Mean squared error over every pixel, plus the weighted latent penalty. Returns ()."""
    return F.mse_loss(reconstruction, target) + penalty_weight * latent_penalty(latent)
