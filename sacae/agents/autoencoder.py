"""The reconstruction objective: a regularised autoencoder (Ghosh et al. 2019; Yarats et al. 2019, eq. 4)."""

import math

import torch
from torch.nn import functional as F


def reconstruction_target(obs: torch.Tensor, noise: torch.Tensor, bits: int) -> torch.Tensor:
    """The observation at `bits` bits a colour, dithered, in [-0.5, 0.5) (Kingma and Dhariwal 2018; the paper uses 5).

    obs: uint8 (B, C, H, W). noise: random bytes of that shape, the dither in 1/256 of a step. Returns float32 of that
    shape, exact: it has no more than 16 significant bits.
    """
    quantised = torch.bitwise_right_shift(obs, 8 - bits)
    # Products with powers of two are exact; in place, because new images cost more than the arithmetic.
    return (noise / 256).add_(quantised).mul_(2.0**-bits).sub_(0.5)


def draw_bytes(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Uniform random bytes (B, C, H, W), channels last, on the generator's device.

    Drawn eight at a time: ten times as fast as uniform floats, which the target does not need.
    """
    batch_size, channels, height, width = shape
    words = torch.empty(-(-math.prod(shape) // 8), dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)
    flat = words.view(torch.uint8)[: math.prod(shape)]
    return flat.view(batch_size, height, width, channels).permute(0, 3, 1, 2)


def latent_penalty(latent: torch.Tensor) -> torch.Tensor:
    """Half the latent's squared length, averaged over the batch. (B, D) -> ()."""
    return (0.5 * latent.square().sum(1)).mean()


def reconstruction_loss(
    reconstruction: torch.Tensor, target: torch.Tensor, latent: torch.Tensor, penalty_weight: float
) -> torch.Tensor:
    """Mean squared error over every pixel, plus the weighted latent penalty. Returns ()."""
    return F.mse_loss(reconstruction, target) + penalty_weight * latent_penalty(latent)
